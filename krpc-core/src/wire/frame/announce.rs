//! Announcements.
//!
//! ```text
//! flags(1) running(varint) queued(varint) limit(varint) count(varint) { partition(varint) }*
//! ```
//! The first partition travels as it is, each further one as its distance from the one before.

use super::{FrameKind, begin, flag, flags};
use crate::wire::{
    MAX_ANNOUNCED_PARTITIONS,
    coding::{Reader, WireError, put_varint, varint_len},
};

/// What a server owns and how busy it is; the sender of the packet is the server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Announce {
    /// The partitions of the calls topic that the server owns, ascending.
    pub partitions: Vec<u32>,
    /// Calls whose handlers run now.
    pub running: u32,
    /// Calls taken from Kafka that wait for a place.
    pub queued: u32,
    /// How many handlers may run at once.
    pub limit: u32,
}
impl Announce {
    /// Appends the frame.
    ///
    /// # Errors
    /// The partitions are too many or do not ascend; `out` is as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let count = self.partitions.len();
        if count > MAX_ANNOUNCED_PARTITIONS {
            let max = MAX_ANNOUNCED_PARTITIONS;
            return Err(WireError::TooMany { what: "announced partitions", count, max });
        }
        if !self.partitions.is_sorted_by(|a, b| a < b) {
            return Err(WireError::NotAscending);
        }
        let fields = [self.running, self.queued, self.limit].map(u64::from);
        let body = 1
            + fields.iter().map(|field| varint_len(*field)).sum::<usize>()
            + varint_len(count as u64)
            + self.distances().map(varint_len).sum::<usize>();
        begin(out, FrameKind::ANNOUNCE, body)?;
        let start = out.len();
        out.push(0);
        fields.iter().for_each(|field| put_varint(out, *field));
        put_varint(out, count as u64);
        self.distances().for_each(|distance| put_varint(out, distance));
        debug_assert_eq!(out.len() - start, body, "the length was computed for other fields");
        Ok(())
    }

    fn distances(&self) -> impl Iterator<Item = u64> {
        let before = std::iter::once(0).chain(self.partitions.iter().copied());
        self.partitions.iter().zip(before).map(|(at, before)| u64::from(at - before))
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        flags(reader, flag::HINTS)?;
        let running = reader.varint_u32("running")?;
        let queued = reader.varint_u32("queued")?;
        let limit = reader.varint_u32("limit")?;
        let count = reader.count("announced partitions", MAX_ANNOUNCED_PARTITIONS)?;
        // Each takes a byte at least, so a claim alone reserves nothing.
        let mut partitions = Vec::with_capacity(count.min(reader.left()));
        for _ in 0..count {
            let (what, distance) =
                ("announced partition", reader.varint_u32("announced partition")?);
            let value = match partitions.last() {
                None => distance,
                Some(_) if distance == 0 => return Err(WireError::NotAscending),
                Some(&before) => u32::checked_add(before, distance).ok_or_else(|| {
                    let value = u64::from(before) + u64::from(distance);
                    WireError::OutOfRange { what, value }
                })?,
            };
            partitions.push(value);
        }
        Ok(Self { partitions, running, queued, limit })
    }
}
