//! One partition of the in-process broker: its records, what retention keeps of them, and which
//! clients read along.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    ids::PartitionId,
    sealing::Proof,
    time::Time,
    transport::{Record, Topic},
};

/// Bytes that a partition holds at most; beyond, its oldest records are dropped and counted,
/// read or not. Nothing else bounds what waits for a server that never comes.
pub(super) const RETENTION_BYTES: usize = 64 << 20;

/// Bytes that a partition keeps of records that nobody waits for any more: enough to look back
/// in a test, little enough that a long run does not grow.
pub(super) const CONSUMED_BYTES: usize = 1 << 20;

/// Bytes counted for each record beside its payload, so that empty records are bounded too.
const RECORD_OVERHEAD: usize = 64;

/// The records of a partition, in the order of their offsets.
#[derive(Debug)]
pub(super) struct Log {
    topic: Topic,
    start: i64,
    records: VecDeque<(Time, Bytes)>,
    bytes: usize,
    dropped: u64,
    readers: Vec<Reader>,
}

/// A side that reads this partition without a group.
#[derive(Debug)]
struct Reader {
    side: u64,
    partition: PartitionId,
    next: i64,
    wake: Arc<Notify>,
}

impl Log {
    /// An empty partition of such a topic.
    pub(super) fn new(topic: Topic) -> Self {
        let (records, readers) = (VecDeque::new(), Vec::new());
        Self { topic, start: 0, records, bytes: 0, dropped: 0, readers }
    }

    /// The offset that the next record will get.
    pub(super) fn end(&self) -> i64 {
        // A partition never holds anywhere near 2^63 records.
        self.start.saturating_add(i64::try_from(self.records.len()).unwrap_or(i64::MAX))
    }

    /// Records that retention dropped although somebody may still have wanted them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Appends a record, wakes the clients that read along, and returns the record's offset.
    pub(super) fn append(&mut self, appended: Time, payload: Bytes) -> i64 {
        let offset = self.end();
        self.bytes += payload.len() + RECORD_OVERHEAD;
        self.records.push_back((appended, payload));
        while self.bytes > RETENTION_BYTES && self.records.len() > 1 {
            self.drop_oldest();
            self.dropped += 1;
        }
        self.readers.iter().for_each(|reader| reader.wake.notify_one());
        offset
    }

    /// Moves the records from `next` on into `out`, until that holds `limit` records, and moves
    /// `next` behind them. An offset outside the log is taken for the nearest one inside.
    pub(super) fn read(
        &self,
        partition: PartitionId,
        next: &mut i64,
        limit: usize,
        out: &mut Vec<Record>,
    ) {
        let mut offset = (*next).clamp(self.start, self.end());
        let skip = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let room = limit.saturating_sub(out.len());
        for (appended, payload) in self.records.iter().skip(skip).take(room) {
            let (appended, payload) = (Some(*appended), payload.clone());
            out.push(Record {
                topic: self.topic,
                partition,
                offset,
                appended,
                payload,
                proof: Proof::None,
            });
            offset += 1;
        }
        *next = offset;
    }

    /// The records that it still holds.
    pub(super) fn held(&self) -> Vec<Bytes> {
        self.records.iter().map(|(_, payload)| payload.clone()).collect()
    }

    /// The offsets of the oldest record and of the one that comes next.
    pub(super) fn bounds(&self) -> (i64, i64) {
        (self.start, self.end())
    }

    /// Lets a side read along from an offset on, or from the end as it is now; `partition` is its
    /// name for this log. Whoever reads along already goes on from there.
    pub(super) fn follow(
        &mut self,
        side: u64,
        partition: PartitionId,
        from: Option<i64>,
        wake: Arc<Notify>,
    ) {
        self.unfollow(side, partition);
        let next = from.unwrap_or_else(|| self.end()).clamp(self.start, self.end());
        self.readers.push(Reader { side, partition, next, wake });
    }

    /// Ends what [`Self::follow`] began.
    pub(super) fn unfollow(&mut self, side: u64, partition: PartitionId) {
        self.readers.retain(|reader| (reader.side, reader.partition) != (side, partition));
    }

    /// Ends all reading of a side.
    pub(super) fn unfollow_all(&mut self, side: u64) {
        self.readers.retain(|reader| reader.side != side);
    }

    /// What a following side has not read yet, as [`Self::read`] has it.
    pub(super) fn read_along(&mut self, side: u64, limit: usize, out: &mut Vec<Record>) {
        let mut readers = std::mem::take(&mut self.readers);
        for reader in readers.iter_mut().filter(|reader| reader.side == side) {
            self.read(reader.partition, &mut reader.next, limit, out);
        }
        // What was read of a lazy topic may be asked for again.
        let slowest = readers.iter().map(|reader| reader.next).min();
        if let Some(consumed) = slowest.filter(|_| !self.topic.is_lazy()) {
            self.forget(consumed);
        }
        self.readers = readers;
    }

    /// Nobody waits for the records before `consumed`: keeps at most [`CONSUMED_BYTES`] with them.
    pub(super) fn forget(&mut self, consumed: i64) {
        while self.bytes > CONSUMED_BYTES && self.start < consumed && !self.records.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, payload)) = self.records.pop_front() {
            self.start += 1;
            self.bytes -= payload.len() + RECORD_OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: PartitionId = PartitionId { service: 0, partition: 0 };

    fn megabytes(log: &mut Log, count: usize) {
        let payload = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..count {
            log.append(Time::default(), payload.clone());
        }
    }

    fn offsets(log: &Log, next: &mut i64, limit: usize) -> Vec<i64> {
        let mut out = Vec::new();
        log.read(HERE, next, limit, &mut out);
        out.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn reads_go_on_where_they_stopped() {
        let mut log = Log::new(Topic::Calls);
        assert_eq!((0..5).map(|_| log.append(Time::default(), Bytes::new())).last(), Some(4));
        let mut next = 0;
        assert_eq!(offsets(&log, &mut next, 2), [0, 1]);
        assert_eq!(offsets(&log, &mut next, 9), [2, 3, 4]);
        assert!(offsets(&log, &mut next, 9).is_empty());
    }

    #[test]
    fn offsets_outside_the_log_are_moved_inside() {
        let mut log = Log::new(Topic::Calls);
        megabytes(&mut log, 70);
        let (mut early, mut late) = (0, 1_000);
        assert_eq!(offsets(&log, &mut early, 1), [log.start]);
        assert!(offsets(&log, &mut late, 1).is_empty());
        assert_eq!(late, 70, "it goes on with the next record that comes");
    }

    #[test]
    fn retention_bounds_the_bytes_and_counts_what_it_drops() {
        let mut log = Log::new(Topic::Calls);
        megabytes(&mut log, 200);
        assert!(log.bytes <= RETENTION_BYTES);
        assert_eq!(log.end(), 200);
        assert_eq!(log.dropped(), log.start.unsigned_abs());
        assert_eq!(log.dropped(), 200 - 63);
    }

    #[test]
    fn consumed_records_go_early_and_are_not_counted() {
        let mut log = Log::new(Topic::Calls);
        megabytes(&mut log, 20);
        log.forget(15);
        assert_eq!((log.start, log.dropped()), (15, 0), "what is not consumed stays");
        let mut small = Log::new(Topic::Calls);
        assert_eq!((0..10).map(|_| small.append(Time::default(), Bytes::new())).last(), Some(9));
        small.forget(10);
        assert_eq!(small.start, 0, "a little history stays");
    }

    #[test]
    fn the_slowest_reader_decides_what_is_consumed() {
        let mut log = Log::new(Topic::Calls);
        let wake = Arc::new(Notify::new());
        log.follow(1, HERE, None, wake.clone());
        log.follow(2, HERE, None, wake);
        megabytes(&mut log, 8);
        let mut out = Vec::new();
        log.read_along(1, 256, &mut out);
        assert_eq!((out.len(), log.start), (8, 0));
        log.unfollow(2, HERE);
        log.read_along(1, 256, &mut out);
        assert_eq!(log.start, 8);
    }
}
