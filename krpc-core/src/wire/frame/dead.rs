//! Dead letters: calls that were given up, and what became of them.
//!
//! ```text
//! DEAD       call(varint) flags(1) caller(16) partition(varint) offset(varint) index(varint)
//!            attempts(varint) at-µs(8) status request(rest)
//! DEAD_MARK  flags(1) offset(varint) index(varint) what(1) at-µs(8)
//! ```
//! The request is a whole frame, as the caller wrote it. Kafka cannot delete one record, so a
//! letter that is done with is marked behind it, in the same partition.

use super::{FrameKind, Request, begin, flag, flags, status};
use crate::{
    ids::{CallId, InstanceId},
    status::Status,
    time::Time,
    wire::coding::{Reader, WireError, put_u64, put_varint, varint_len},
};

/// A call that was given up.
#[derive(Clone, PartialEq, Debug)]
pub struct Dead<'a> {
    /// The call's number within its caller.
    pub call: CallId,
    /// The client that made the call.
    pub caller: InstanceId,
    /// The partition of the calls topic where it stood.
    pub partition: u32,
    /// The offset of its record there.
    pub offset: i64,
    /// Its index among the calls of that record.
    pub index: u32,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was given up, on the broker's clock.
    pub at: Time,
    /// Why; what its caller was told.
    pub cause: Status,
    /// Its frame as it stood there, kind and length included.
    pub request: &'a [u8],
}

/// Says that a letter of the same partition, further back, is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadMark {
    /// The offset of the letter's record.
    pub offset: i64,
    /// The letter's ordinal among the frames of that record.
    pub index: u32,
    /// What became of it.
    pub fate: Fate,
    /// When, on the broker's clock.
    pub at: Time,
}

/// What became of a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was sent once more.
    Replayed,
    /// It is not wanted.
    Dropped,
}

impl Fate {
    const fn as_u8(self) -> u8 {
        match self {
            Self::Replayed => 1,
            Self::Dropped => 2,
        }
    }

    const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Replayed),
            2 => Some(Self::Dropped),
            _ => None,
        }
    }
}

impl<'a> Dead<'a> {
    /// The call as it was made.
    ///
    /// # Errors
    /// What the letter holds is not one whole request.
    pub fn to_request(&self) -> Result<Request<'a>, WireError> {
        Request::from_frame(self.request)
    }

    /// Appends the frame. A message of the cause that is too long is cut, details that are too
    /// long are left out.
    ///
    /// # Errors
    /// The frame passes its limit, or the offset is negative; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let offset = offset_to_send(self.offset)?;
        let (partition, index, attempts) =
            (u64::from(self.partition), u64::from(self.index), u64::from(self.attempts));
        let body = varint_len(self.call.0)
            + 1
            + 16
            + varint_len(partition)
            + varint_len(offset)
            + varint_len(index)
            + varint_len(attempts)
            + 8
            + status::len(&self.cause)
            + self.request.len();
        begin(out, FrameKind::DEAD, body)?;
        let start = out.len();
        put_varint(out, self.call.0);
        out.push(status::flags(&self.cause));
        out.extend_from_slice(self.caller.as_bytes());
        [partition, offset, index, attempts].iter().for_each(|field| put_varint(out, *field));
        put_u64(out, self.at.as_micros());
        status::put(out, &self.cause);
        out.extend_from_slice(self.request);
        debug_assert_eq!(out.len() - start, body, "the length was computed for other fields");
        Ok(())
    }

    #[cold]
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let call = CallId(reader.varint()?);
        let flags = flags(reader, flag::RETRYABLE | flag::HINTS)?;
        Ok(Self {
            call,
            caller: InstanceId::from_bytes(reader.array()?),
            partition: reader.varint_u32("partition")?,
            offset: offset(reader)?,
            index: reader.varint_u32("index")?,
            attempts: reader.varint_u32("attempts")?,
            at: Time::from_micros(reader.u64()?),
            cause: status::read(reader, flags)?,
            request: reader.rest(),
        })
    }
}

impl DeadMark {
    /// Appends the frame.
    ///
    /// # Errors
    /// The offset is negative; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (offset, index) = (offset_to_send(self.offset)?, u64::from(self.index));
        let body = 1 + varint_len(offset) + varint_len(index) + 1 + 8;
        begin(out, FrameKind::DEAD_MARK, body)?;
        out.push(0);
        put_varint(out, offset);
        put_varint(out, index);
        out.push(self.fate.as_u8());
        put_u64(out, self.at.as_micros());
        Ok(())
    }

    #[cold]
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        flags(reader, flag::HINTS)?;
        let (offset, index) = (offset(reader)?, reader.varint_u32("index")?);
        let fate = reader.u8()?;
        let out_of_range = WireError::OutOfRange { what: "fate", value: u64::from(fate) };
        let fate = Fate::from_u8(fate).ok_or(out_of_range)?;
        Ok(Self { offset, index, fate, at: Time::from_micros(reader.u64()?) })
    }
}

fn offset_to_send(offset: i64) -> Result<u64, WireError> {
    let value = offset.cast_unsigned();
    u64::try_from(offset).map_err(|_| WireError::OutOfRange { what: "offset", value })
}

fn offset(reader: &mut Reader<'_>) -> Result<i64, WireError> {
    let value = reader.varint()?;
    i64::try_from(value).map_err(|_| WireError::OutOfRange { what: "offset", value })
}

#[cfg(test)]
mod tests;
