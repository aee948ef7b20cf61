//! Progress: a server says that a call of which the answer is awaited elsewhere is at work.
//!
//! ```text
//! call(varint) flags(1) [metadata]
//! ```

use std::borrow::Cow;

use super::{FrameKind, begin, flag, flags, metadata, metadata_flag, metadata_len, put_metadata};
use crate::{
    ids::CallId,
    metadata::Metadata,
    wire::coding::{Reader, WireError, put_varint, varint_len},
};

/// A call is at work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress<'a> {
    /// The call.
    pub call: CallId,
    /// How far it is: the keys of the constants here.
    pub metadata: Cow<'a, Metadata>,
}

impl Progress<'_> {
    /// The key of what happens to the call; the one value so far is [`Progress::RUNNING`].
    pub const STATE: &'static str = "krpc-state";
    /// Its handler runs.
    pub const RUNNING: &'static str = "running";
    /// The key of which execution it is, in decimal digits: 1 is the first.
    pub const ATTEMPT: &'static str = "krpc-attempt";

    /// Appends the frame.
    ///
    /// # Errors
    /// None as yet: metadata keeps its limits itself.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let body = varint_len(self.call.0) + 1 + metadata_len(&self.metadata);
        begin(out, FrameKind::PROGRESS, body)?;
        put_varint(out, self.call.0);
        out.push(metadata_flag(&self.metadata));
        put_metadata(out, &self.metadata);
        Ok(())
    }

    #[cold]
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let call = CallId(reader.varint()?);
        let flags = flags(reader, flag::METADATA | flag::HINTS)?;
        Ok(Self { call, metadata: metadata(reader, flags)? })
    }
}
