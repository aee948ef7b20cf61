//! Requests.
//!
//! ```text
//! call(varint) flags(1) [terms] path-length(varint) path budget-µs(varint) [deadline-µs(8)]
//! fingerprint(4) [metadata] value(rest)
//! ```
//! With terms it is of a kind of its own, REQUEST_WITH: a server that does not know that kind skips
//! it, rather than execute the call without keeping to them.

use std::{borrow::Cow, time::Duration};

use super::{
    Frame, FrameKind, Terms, begin, codec, flag, flags, metadata, metadata_flag, metadata_len,
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
    /// The path, a term or the frame passes its limit; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.path.len() > MAX_PATH_BYTES {
            let (len, max) = (self.path.len(), MAX_PATH_BYTES);
            return Err(WireError::TooLarge { what: "path", len, max });
        }
        let (kind, terms) = match &self.terms {
            None => (FrameKind::REQUEST, 0),
            Some(terms) => {
                terms.check()?;
                (FrameKind::REQUEST_WITH, terms.encoded_len())
            }
        };
        let budget = micros(self.budget);
        let body = varint_len(self.call.0)
            + 1
            + terms
            + prefixed_len(self.path.len())
            + varint_len(budget)
            + self.deadline.map_or(0, |_| 8)
            + 4
            + metadata_len(&self.metadata)
            + self.value.len();
        begin(out, kind, body)?;
        let start = out.len();
        let deadline = self.deadline.map_or(0, |_| flag::DEADLINE);
        put_varint(out, self.call.0);
        out.push(self.codec.as_u8() | deadline | metadata_flag(&self.metadata));
        if let Some(terms) = &self.terms {
            terms.encode(out);
        }
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

    /// Reads a request that was kept as a whole frame.
    ///
    /// # Errors
    /// The bytes are not one whole request.
    pub fn from_frame(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let frame = Frame::decode(&mut reader)?;
        reader.end("request")?;
        match frame {
            Frame::Request(request) => Ok(request),
            _ => Err(WireError::NoRequest),
        }
    }

    #[inline]
    pub(super) fn decode(kind: FrameKind, reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let call = CallId(reader.varint()?);
        let known = flag::CODEC | flag::DEADLINE | flag::METADATA | flag::HINTS;
        let flags = flags(reader, known)?;
        let terms = match kind {
            FrameKind::REQUEST_WITH => Some(Box::new(Terms::decode(reader)?)),
            _ => None,
        };
        let path = reader.str("path", MAX_PATH_BYTES)?;
        let budget = Duration::from_micros(reader.varint()?);
        let deadline = match flags & flag::DEADLINE {
            0 => None,
            _ => Some(Time::from_micros(reader.u64()?)),
        };
        let fingerprint = reader.u32()?;
        let metadata = metadata(reader, flags)?;
        let (codec, value) = (codec(flags)?, reader.rest());
        Ok(Self { call, terms, path, budget, deadline, fingerprint, codec, metadata, value })
    }
}
