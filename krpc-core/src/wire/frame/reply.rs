//! Replies: a value, the application's error or a status, each a kind of its own.
//!
//! ```text
//! call(varint) flags(1) server-elapsed-µs(varint) flight-request-µs(varint) [metadata]
//!   of a value or an application error: value(rest)
//!   of a status: as [`super::status`] has it
//! ```

use std::borrow::Cow;

use super::{
    FrameKind, begin, codec, flag, flags, metadata, metadata_flag, metadata_len, put_metadata,
    status,
};
use crate::{
    codec::ValueCodec,
    ids::CallId,
    metadata::Metadata,
    status::Status,
    time::Micros,
    wire::coding::{Reader, WireError, put_varint, varint_len},
};

/// The answer to a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply<'a> {
    /// The call that is answered.
    pub call: CallId,
    /// From taking the call's record to writing this reply.
    pub server_elapsed: Micros,
    /// From the caller's send to taking the record; zero if the caller's clock is not known.
    pub flight_request: Micros,
    /// The server's metadata.
    pub metadata: Cow<'a, Metadata>,
    /// What came of it. Each outcome is a frame kind of its own.
    pub outcome: Outcome<'a>,
}

/// What came of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome<'a> {
    /// The handler's value.
    Ok {
        /// How the value is encoded.
        codec: ValueCodec,
        /// The value, encoded.
        value: &'a [u8],
    },
    /// The handler's own error.
    App {
        /// How the error is encoded.
        codec: ValueCodec,
        /// The error, encoded.
        value: &'a [u8],
    },
    /// Any other failure.
    Status(Status),
}

impl<'a> Outcome<'a> {
    /// The encoded value or error; empty for a status.
    pub const fn value(&self) -> &'a [u8] {
        match self {
            Self::Ok { value, .. } | Self::App { value, .. } => value,
            Self::Status(_) => &[],
        }
    }
}

impl<'a> Reply<'a> {
    /// Appends the frame. A status message that is too long is cut, details that are too long are
    /// left out.
    ///
    /// # Errors
    /// The frame passes its limit; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (elapsed, flight) = (self.server_elapsed.0, self.flight_request.0);
        let (kind, flags, outcome) = match &self.outcome {
            Outcome::Ok { codec, value } => (FrameKind::REPLY_OK, codec.as_u8(), value.len()),
            Outcome::App { codec, value } => (FrameKind::REPLY_APP, codec.as_u8(), value.len()),
            Outcome::Status(status) => {
                (FrameKind::REPLY_STATUS, status::flags(status), status::len(status))
            }
        };
        let body = varint_len(self.call.0)
            + 1
            + varint_len(elapsed)
            + varint_len(flight)
            + metadata_len(&self.metadata)
            + outcome;
        begin(out, kind, body)?;
        let start = out.len();
        put_varint(out, self.call.0);
        out.push(flags | metadata_flag(&self.metadata));
        put_varint(out, elapsed);
        put_varint(out, flight);
        put_metadata(out, &self.metadata);
        match &self.outcome {
            Outcome::Ok { value, .. } | Outcome::App { value, .. } => out.extend_from_slice(value),
            Outcome::Status(status) => status::put(out, status),
        }
        debug_assert_eq!(out.len() - start, body, "the length was computed for other fields");
        Ok(())
    }

    #[inline]
    pub(super) fn decode(kind: FrameKind, reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let call = CallId(reader.varint()?);
        let of_kind = if kind == FrameKind::REPLY_STATUS { flag::RETRYABLE } else { flag::CODEC };
        let flags = flags(reader, of_kind | flag::METADATA | flag::HINTS)?;
        let server_elapsed = Micros(reader.varint()?);
        let flight_request = Micros(reader.varint()?);
        let metadata = metadata(reader, flags)?;
        let outcome = match kind {
            FrameKind::REPLY_OK => Outcome::Ok { codec: codec(flags)?, value: reader.rest() },
            FrameKind::REPLY_APP => Outcome::App { codec: codec(flags)?, value: reader.rest() },
            _ => Outcome::Status(status::read(reader, flags)?),
        };
        Ok(Self { call, server_elapsed, flight_request, metadata, outcome })
    }
}
