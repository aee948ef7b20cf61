//! Frames: one protocol message each. Encode and decode of a kind stand together.
//!
//! ```text
//! frame = kind(1) length(varint) body
//! body  = call(varint) flags(1) …        of every kind but ANNOUNCE, DEAD_MARK and REFUSED, about
//!                                        no call and begin with the flags
//! ```
//! Writing is one pass without temporary buffers: a body's length is computed from its parts
//! first. Reading borrows; only metadata, a status and announced partitions are copied, each
//! within its limit.
//!
//! from: [`crate::outbox`] (writing), [`crate::inbox`] (reading)
//! to: the client's and the server's machine

use std::{borrow::Cow, fmt};

use super::{
    MAX_PACKET_BYTES,
    coding::{Reader, WireError, prefixed_len, put_varint, varint_len},
};
use crate::{codec::ValueCodec, ids::CallId, metadata::Metadata};

mod announce;
mod dead;
mod progress;
mod refused;
mod reply;
mod request;
mod status;
mod terms;

pub use announce::Announce;
pub use dead::{Dead, DeadMark, Fate};
pub use progress::Progress;
pub use refused::Refused;
pub use reply::{Outcome, Reply};
pub use request::Request;
pub use terms::{AskedBy, Due, MovedFrom, Terms};

/// A frame's kind: a number, so that unknown ones can be named, counted and skipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameKind(pub u8);

/// One frame, borrowing from the packet it was read from (or the parts it is written from).
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// A client asks.
    Request(Request<'a>),
    /// A server answers.
    Reply(Reply<'a>),
    /// A client no longer wants the answer.
    Cancel(Cancel),
    /// A server says which partitions it owns and how busy it is.
    Announce(Announce),
    /// A server says that a call is at work.
    Progress(Progress<'a>),
    /// A server gave a call up. Boxed, or it would be the largest kind: frames are moved.
    Dead(Box<Dead<'a>>),
    /// A dead letter is done with.
    DeadMark(DeadMark),
    /// A server cannot open a packet.
    Refused(Refused),
    /// A kind this version does not know: skipped and counted.
    Unknown(FrameKind),
}

/// The caller gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cancel {
    /// The call that is no longer wanted.
    pub call: CallId,
}

impl FrameKind {
    /// A client asks: [`Request`].
    pub const REQUEST: Self = Self(0x01);
    /// The handler's value: [`Reply`] with [`Outcome::Ok`].
    pub const REPLY_OK: Self = Self(0x02);
    /// The handler's own error: [`Reply`] with [`Outcome::App`].
    pub const REPLY_APP: Self = Self(0x03);
    /// Any other failure: [`Reply`] with [`Outcome::Status`].
    pub const REPLY_STATUS: Self = Self(0x04);
    /// Reserved: one item of a stream.
    pub const STREAM_ITEM: Self = Self(0x05);
    /// Reserved: the end of a stream, with trailing metadata.
    pub const STREAM_END: Self = Self(0x06);
    /// Reserved: how many more items the receiver of a stream takes.
    pub const CREDIT: Self = Self(0x07);
    /// A client no longer wants the answer: [`Cancel`].
    pub const CANCEL: Self = Self(0x08);
    /// A call is at work: [`Progress`].
    pub const PROGRESS: Self = Self(0x09);
    /// Reserved: a part of a value that is larger than a packet.
    pub const CHUNK: Self = Self(0x0a);
    /// A server's partitions and load: [`Announce`].
    pub const ANNOUNCE: Self = Self(0x0b);
    /// A client asks, on terms: [`Request`] with [`Terms`].
    pub const REQUEST_WITH: Self = Self(0x0c);
    /// A call that was given up: [`Dead`].
    pub const DEAD: Self = Self(0x0d);
    /// What became of a dead letter: [`DeadMark`].
    pub const DEAD_MARK: Self = Self(0x0e);
    /// A packet that cannot be opened: [`Refused`].
    pub const REFUSED: Self = Self(0x0f);

    /// Whether it is a call, with or without terms: those have an index in their record.
    pub const fn is_call(self) -> bool {
        matches!(self, Self::REQUEST | Self::REQUEST_WITH)
    }

    /// The kind's name, for those that this version knows or reserves.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::REQUEST => "REQUEST",
            Self::REPLY_OK => "REPLY_OK",
            Self::REPLY_APP => "REPLY_APP",
            Self::REPLY_STATUS => "REPLY_STATUS",
            Self::STREAM_ITEM => "STREAM_ITEM",
            Self::STREAM_END => "STREAM_END",
            Self::CREDIT => "CREDIT",
            Self::CANCEL => "CANCEL",
            Self::PROGRESS => "PROGRESS",
            Self::CHUNK => "CHUNK",
            Self::ANNOUNCE => "ANNOUNCE",
            Self::REQUEST_WITH => "REQUEST_WITH",
            Self::DEAD => "DEAD",
            Self::DEAD_MARK => "DEAD_MARK",
            Self::REFUSED => "REFUSED",
            _ => return None,
        })
    }
}

impl fmt::Debug for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "FrameKind({:#04x})", self.0),
        }
    }
}

/// Flags of requests and replies.
mod flag {
    /// How the value is encoded.
    pub(super) const CODEC: u8 = 0b0000_0011;
    /// Request: an absolute deadline follows the budget.
    pub(super) const DEADLINE: u8 = 0b0000_0100;
    /// Status reply, dead letter: calling again may succeed.
    pub(super) const RETRYABLE: u8 = 0b0000_0100;
    /// Metadata precedes the value.
    pub(super) const METADATA: u8 = 0b0000_1000;
    /// Two bits that readers of this version ignore: the place of a priority.
    pub(super) const HINTS: u8 = 0b0011_0000;
}

/// A kind and its body; the reader then stands behind the frame, whatever the body holds.
pub(crate) fn split<'a>(reader: &mut Reader<'a>) -> Result<(FrameKind, &'a [u8]), WireError> {
    let kind = FrameKind(reader.u8()?);
    Ok((kind, reader.prefixed("frame", MAX_PACKET_BYTES)?))
}

// What all kinds share is inlined: requests and replies are what is written and read all day.

/// Writes kind and length, and makes room for the body.
#[inline]
fn begin(out: &mut Vec<u8>, kind: FrameKind, body: usize) -> Result<(), WireError> {
    if body > MAX_PACKET_BYTES {
        return Err(WireError::TooLarge { what: "frame", len: body, max: MAX_PACKET_BYTES });
    }
    // Amortized, not exact: many frames share the buffer.
    out.reserve(1 + prefixed_len(body));
    out.push(kind.0);
    put_varint(out, body as u64);
    Ok(())
}

/// Reads flags, of which only those in `allowed` may be set.
#[inline]
fn flags(reader: &mut Reader<'_>, allowed: u8) -> Result<u8, WireError> {
    let flags = reader.u8()?;
    let allowed = flags & !allowed == 0;
    if allowed { Ok(flags) } else { Err(WireError::UnsupportedFlags(flags)) }
}

#[inline]
fn codec(flags: u8) -> Result<ValueCodec, WireError> {
    let number = flags & flag::CODEC;
    ValueCodec::from_u8(number).ok_or(WireError::BadCodec(number))
}

#[inline]
fn metadata_flag(metadata: &Metadata) -> u8 {
    if metadata.is_empty() { 0 } else { flag::METADATA }
}

#[inline]
fn metadata_len(metadata: &Metadata) -> usize {
    if metadata.is_empty() { 0 } else { metadata.encoded_len() }
}

#[inline]
fn put_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    if !metadata.is_empty() {
        metadata.encode(out);
    }
}

#[inline]
fn metadata<'a>(reader: &mut Reader<'_>, flags: u8) -> Result<Cow<'a, Metadata>, WireError> {
    let present = flags & flag::METADATA != 0;
    let metadata = if present { Metadata::decode(reader)? } else { Metadata::new() };
    Ok(Cow::Owned(metadata))
}

impl<'a> Frame<'a> {
    /// Appends the frame.
    ///
    /// # Errors
    /// Something passes its limit, or the kind cannot be written; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Request(request) => request.encode(out),
            Self::Reply(reply) => reply.encode(out),
            Self::Cancel(cancel) => cancel.encode(out),
            Self::Announce(announce) => announce.encode(out),
            Self::Progress(progress) => progress.encode(out),
            Self::Dead(dead) => dead.encode(out),
            Self::DeadMark(mark) => mark.encode(out),
            Self::Refused(refused) => refused.encode(out),
            Self::Unknown(kind) => Err(WireError::UnknownKind(kind.0)),
        }
    }

    /// Reads one frame. If its kind and length are sound the reader stands behind it afterwards,
    /// even if its body is not.
    ///
    /// # Errors
    /// The frame ends early, passes a limit, or has bytes left over.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let (kind, body) = split(reader)?;
        Self::decode_body(kind, body)
    }

    pub(crate) fn decode_body(kind: FrameKind, body: &'a [u8]) -> Result<Self, WireError> {
        let reader = &mut Reader::new(body);
        let frame = match kind {
            FrameKind::REQUEST | FrameKind::REQUEST_WITH => {
                Self::Request(Request::decode(kind, reader)?)
            }
            FrameKind::REPLY_OK | FrameKind::REPLY_APP | FrameKind::REPLY_STATUS => {
                Self::Reply(Reply::decode(kind, reader)?)
            }
            FrameKind::CANCEL => Self::Cancel(Cancel::decode(reader)?),
            FrameKind::ANNOUNCE => Self::Announce(Announce::decode(reader)?),
            FrameKind::PROGRESS => Self::Progress(Progress::decode(reader)?),
            FrameKind::DEAD => Self::Dead(Box::new(Dead::decode(reader)?)),
            FrameKind::DEAD_MARK => Self::DeadMark(DeadMark::decode(reader)?),
            FrameKind::REFUSED => Self::Refused(Refused::decode(reader)?),
            _ => return Ok(Self::Unknown(kind)),
        };
        reader.end("frame")?;
        Ok(frame)
    }
}

// call(varint) flags(1)
impl Cancel {
    /// Appends the frame.
    ///
    /// # Errors
    /// None as yet.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        begin(out, FrameKind::CANCEL, varint_len(self.call.0) + 1)?;
        put_varint(out, self.call.0);
        out.push(0);
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let call = CallId(reader.varint()?);
        flags(reader, flag::HINTS)?;
        Ok(Self { call })
    }
}

#[cfg(test)]
mod tests;
