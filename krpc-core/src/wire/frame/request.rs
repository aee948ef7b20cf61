//! Requests.
//!
//! ```text
//! call(varint) flags(1) path-length(varint) path budget-µs(varint) [deadline-µs(8)]
//! fingerprint(4) [metadata] value(rest)
//! ```

use std::{borrow::Cow, time::Duration};

use super::{
    FrameKind, Terms, begin, codec, flag, flags, metadata, metadata_flag, metadata_len,
    put_metadata,
};
use crate::{
    codec::ValueCodec,
    ids::CallId,
    metadata::Metadata,
    time::{Time, micros},
    wire::{
        MAX_PATH_BYTES,
        coding::{
            Reader, WireError, prefixed_len, put_prefixed, put_u32, put_u64, put_varint, varint_len,
        },
    },
};

/// A call.
#[derive(Clone, PartialEq, Debug)]
pub struct Request<'a> {
    /// The call's number within the sender's instance.
    pub call: CallId,
    /// What must be kept to; nearly every call has none.
    pub terms: Option<Box<Terms>>,
    /// `service/method`, at most 512 bytes.
    pub path: &'a str,
    /// Time the caller still gave the call when it was written; counts from the record's append.
    pub budget: Duration,
    /// The same deadline on the broker's clock, if the caller knows that clock.
    pub deadline: Option<Time>,
    /// The caller's fingerprint of the method's signature: a diagnosis, never a gate.
    pub fingerprint: u32,
    /// How the value is encoded.
    pub codec: ValueCodec,
    /// The caller's metadata.
    pub metadata: Cow<'a, Metadata>,
    /// The arguments, encoded.
    pub value: &'a [u8],
}

impl<'a> Request<'a> {
    /// Appends the frame. Times travel in whole microseconds.
    ///
    /// # Errors
    /// The path or the frame passes its limit; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.path.len() > MAX_PATH_BYTES {
            let (len, max) = (self.path.len(), MAX_PATH_BYTES);
            return Err(WireError::TooLarge { what: "path", len, max });
        }
        if self.terms.is_some() {
            return Err(WireError::UnknownKind(FrameKind::REQUEST_WITH.0));
        }
        let budget = micros(self.budget);
        let body = varint_len(self.call.0)
            + 1
            + prefixed_len(self.path.len())
            + varint_len(budget)
            + self.deadline.map_or(0, |_| 8)
            + 4
            + metadata_len(&self.metadata)
            + self.value.len();
        begin(out, FrameKind::REQUEST, body)?;
        let start = out.len();
        let deadline = self.deadline.map_or(0, |_| flag::DEADLINE);
        put_varint(out, self.call.0);
        out.push(self.codec.as_u8() | deadline | metadata_flag(&self.metadata));
        put_prefixed(out, self.path.as_bytes());
        put_varint(out, budget);
        if let Some(deadline) = self.deadline {
            put_u64(out, deadline.as_micros());
        }
        put_u32(out, self.fingerprint);
        put_metadata(out, &self.metadata);
        out.extend_from_slice(self.value);
        debug_assert_eq!(out.len() - start, body, "the length was computed for other fields");
        Ok(())
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let call = CallId(reader.varint()?);
        let known = flag::CODEC | flag::DEADLINE | flag::METADATA | flag::HINTS;
        let flags = flags(reader, known)?;
        let path = reader.str("path", MAX_PATH_BYTES)?;
        let budget = Duration::from_micros(reader.varint()?);
        let deadline = match flags & flag::DEADLINE {
            0 => None,
            _ => Some(Time::from_micros(reader.u64()?)),
        };
        let fingerprint = reader.u32()?;
        let metadata = metadata(reader, flags)?;
        let (codec, value) = (codec(flags)?, reader.rest());
        let terms = None;
        Ok(Self { call, terms, path, budget, deadline, fingerprint, codec, metadata, value })
    }
}
