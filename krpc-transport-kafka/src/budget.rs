//! How much may be on its way in a producer at a time.
//!
//! librdkafka has limits of its own, but counts a record until after its delivery report has been
//! served. A driver that sends from inside the last report would be told that the queue is full,
//! and no further report would come to try again after. So records are counted here, and released
//! just before their report.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits for the bytes; the others count records.
const BYTE_BITS: u32 = 40;
const ONE_RECORD: u64 = 1 << BYTE_BITS;
const BYTES: u64 = ONE_RECORD - 1;

/// Counts records and their bytes, in one number.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicU64,
    records: u64,
    bytes: u64,
}

impl Budget {
    /// At most this many records and bytes; more than 8 million records or 512 GiB count as that.
    pub(crate) fn new(records: u64, bytes: u64) -> Self {
        // Half of what fits, so that tries beyond the limit cannot overflow it.
        let (most_records, most_bytes) = (1 << (63 - BYTE_BITS), 1 << (BYTE_BITS - 1));
        Self {
            used: AtomicU64::new(0),
            records: records.min(most_records),
            bytes: bytes.min(most_bytes),
        }
    }

    /// Takes room for a record of this length. One alone always has room: there would be no
    /// report to wait for.
    pub(crate) fn take(&self, length: usize) -> bool {
        let cost = cost(length);
        let before = self.used.fetch_add(cost, Ordering::Relaxed);
        let after = before + cost;
        if before == 0 || (after >> BYTE_BITS <= self.records && after & BYTES <= self.bytes) {
            return true;
        }
        self.used.fetch_sub(cost, Ordering::Relaxed);
        false
    }

    /// Gives back the room of a record; true if that was the last.
    pub(crate) fn give_back(&self, length: usize) -> bool {
        let cost = cost(length);
        self.used.fetch_sub(cost, Ordering::Relaxed) == cost
    }
}

fn cost(length: usize) -> u64 {
    // Longer than this is refused by librdkafka in any case.
    ONE_RECORD + u64::try_from(length).unwrap_or(BYTES).min(1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_bytes_are_limited() {
        let budget = Budget::new(3, 100);
        assert!(budget.take(40) && budget.take(40));
        assert!(!budget.take(21), "too many bytes");
        assert!(budget.take(0));
        assert!(!budget.take(0), "too many records");
        assert!(!budget.give_back(40) && !budget.give_back(40) && budget.give_back(0));
        assert!(budget.take(100));
    }

    #[test]
    fn one_alone_always_has_room() {
        let budget = Budget::new(1, 1);
        assert!(budget.take(usize::MAX));
        assert!(!budget.take(0));
        assert!(budget.give_back(usize::MAX));
    }
}
