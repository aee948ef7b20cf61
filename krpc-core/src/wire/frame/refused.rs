//! Refused: a server says that it cannot open a packet.
//!
//! ```text
//! flags(1) cause(1) key(4)
//! ```
//! It travels unsealed, for its reader may have no key that its writer has. So it is never
//! believed: it changes nothing but the words with which a call ends that got no answer.

use super::{FrameKind, begin, flag, flags};
use crate::{
    inbox::DropCause,
    wire::coding::{Reader, WireError, put_u32},
};

/// A packet was refused as a whole; its sender is the packet's destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why, as a number: see [`Refused::number`].
    pub cause: u8,
    /// The id of the key that the packet bears; 0 if it bears none.
    pub key: u32,
}

impl Refused {
    /// The number of a cause that its sender is told of: one that settings may be behind.
    pub const fn number(cause: DropCause) -> Option<u8> {
        Some(match cause {
            DropCause::TooWeak => 1,
            DropCause::UnknownKey => 2,
            DropCause::NoHash => 3,
            DropCause::BadSeal => 4,
            DropCause::Sealed | DropCause::Flags => 5,
            DropCause::Stale => 6,
            DropCause::NoExchange => 7,
            DropCause::HashFails => 8,
            DropCause::NotPrivate => 9,
            _ => return None,
        })
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// None as yet.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        begin(out, FrameKind::REFUSED, 6)?;
        out.extend_from_slice(&[0, self.cause]);
        put_u32(out, self.key);
        Ok(())
    }

    #[cold]
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        flags(reader, flag::HINTS)?;
        Ok(Self { cause: reader.u8()?, key: reader.u32()? })
    }
}
