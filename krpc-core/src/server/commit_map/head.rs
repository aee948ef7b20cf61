//! What an owner says of itself in a commit, before the map.
//!
//! ```text
//! head  = fence(varint) flags(1) twice(varint) count(varint, at most 64) named* [held]
//!   flags    bit 0: the partition was released in good order, and no predecessor may have died of
//!            what is unfinished; bit 1: `held` follows
//!   twice    calls below this offset may have been begun twice; as the distance to the committed
//!            offset, 0 = none
//! named = offset(varint, as the distance to the committed one) index(varint) begins(varint)
//! held  = count(varint, at most 10) offset(varint)*    how far the delayed calls of each class
//!         were looked through, in partition 0 of a service that has any
//! ```

use super::MapError;
use crate::{
    delay::CLASSES,
    wire::coding::{Reader, put_varint},
};

/// Calls that a head names, at most.
const MAX_NAMED: usize = 64;

const RELEASED: u8 = 1;
const HELD: u8 = 2;

/// See the module. The default is that of a partition that nobody has owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Grows with each owner of the partition.
    pub fence: u64,
    /// Whether the last owner let go of it in good order, and nothing is left unfinished that one
    /// before may have died of.
    pub released: bool,
    /// Unfinished calls below this offset may have been begun twice.
    pub twice: i64,
    /// Single calls that may have been begun so often.
    pub named: Vec<Named>,
    /// How far the delayed calls were looked through, by class; empty if there never were any.
    pub held: Vec<i64>,
}

/// A call that may have been begun so often, by its place in the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named {
    /// Its record.
    pub offset: i64,
    /// Its index within the record's packet.
    pub index: u32,
    /// How often.
    pub begins: u32,
}

impl Default for Head {
    fn default() -> Self {
        Self { fence: 0, released: true, twice: 0, named: Vec::new(), held: Vec::new() }
    }
}

impl Head {
    /// Writes it for a commit at `offset`; what lies below that is left out.
    pub(super) fn put(&self, offset: i64, out: &mut Vec<u8>) {
        put_varint(out, self.fence);
        let released = if self.released { RELEASED } else { 0 };
        out.push(released | if self.held.is_empty() { 0 } else { HELD });
        put_varint(out, distance(offset, self.twice));
        let named = self.named.iter().filter(|named| named.offset >= offset).take(MAX_NAMED);
        put_varint(out, named.clone().count() as u64);
        for Named { offset: at, index, begins } in named {
            put_varint(out, distance(offset, *at));
            put_varint(out, u64::from(*index));
            put_varint(out, u64::from(*begins));
        }
        if !self.held.is_empty() {
            put_varint(out, self.held.len() as u64);
            self.held.iter().for_each(|at| put_varint(out, distance(0, *at)));
        }
    }

    /// Reads the head of a commit at `offset`.
    pub(super) fn read(rest: &mut Reader<'_>, offset: i64) -> Result<Self, MapError> {
        let fence = rest.varint()?;
        let flags = rest.u8()?;
        if flags & !(RELEASED | HELD) != 0 {
            return Err(MapError::BadHead);
        }
        let at = |distance| offset.checked_add_unsigned(distance).ok_or(MapError::BadHead);
        let twice = match rest.varint()? {
            0 => 0,
            distance => at(distance)?,
        };
        let small = |value: u64| u32::try_from(value).map_err(|_| MapError::BadHead);
        let count = usize::try_from(rest.varint()?).unwrap_or(usize::MAX);
        if count > MAX_NAMED {
            return Err(MapError::BadHead);
        }
        let named = (0..count).map(|_| {
            let offset = at(rest.varint()?)?;
            let (index, begins) = (small(rest.varint()?)?, small(rest.varint()?)?);
            Ok(Named { offset, index, begins })
        });
        let named = named.collect::<Result<_, MapError>>()?;
        let classes = if flags & HELD == 0 { 0 } else { rest.varint()? };
        if classes > u64::from(CLASSES) {
            return Err(MapError::BadHead);
        }
        let offset = |at| i64::try_from(at).map_err(|_| MapError::BadHead);
        let held = (0..classes).map(|_| offset(rest.varint()?)).collect::<Result<_, MapError>>()?;
        Ok(Self { fence, released: flags & RELEASED != 0, twice, named, held })
    }
}

/// From the committed offset to one beyond it; 0 if it is not.
const fn distance(committed: i64, offset: i64) -> u64 {
    if offset > committed { offset.abs_diff(committed) } else { 0 }
}
