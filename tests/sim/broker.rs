//! The model broker: partitions as logs of records, and what becomes of a record on its way.

use std::collections::HashMap;

use krpc_core::{
    ids::PartitionId,
    sealing::Proof,
    status::{Code, Status},
    time::Time,
    transport::{Record, Target, Topic},
};

use crate::{
    faults::{MILLI, Net, SECOND},
    port::Fate,
    rng::Rng,
};

/// One service's topics.
#[derive(Debug)]
pub(crate) struct Broker {
    /// How far its clock is ahead of the true time, in microseconds.
    skew: i64,
    stamps: bool,
    logs: HashMap<Topic, Vec<Vec<Record>>>,
}

/// What becomes of a record: how often it is stored, what its report says, and when.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) copies: u32,
    /// For the tally.
    pub(crate) name: &'static str,
    /// `None`: as it is.
    pub(crate) failure: Option<Status>,
    /// It is refused for good.
    pub(crate) refused: bool,
    /// After its append.
    pub(crate) reported: u64,
}

impl Course {
    /// Draws what becomes of the next record.
    pub(crate) fn draw(net: &Net, rng: &mut Rng, latency: u64) -> Self {
        let failed = |name, copies, code: Code, reported| Self {
            copies,
            name,
            failure: Some(Status::new(code, "simulated")),
            refused: !code.is_retryable(),
            reported,
        };
        let late = rng.doubling(20 * MILLI, 2 * SECOND);
        if rng.chance(net.refused) {
            return failed("packet: refused", 0, Code::PermissionDenied, latency);
        }
        if rng.chance(net.not_stored) {
            return failed("packet: not stored", 0, Code::Unavailable, late);
        }
        if rng.chance(net.report_lost) {
            return failed("packet: report lost", 1, Code::Unavailable, late);
        }
        let copies = if rng.chance(net.twice) { 2 } else { 1 };
        let reported = if rng.chance(net.report_late) { late } else { latency };
        let name = if copies == 2 { "packet: stored twice" } else { "packet: stored" };
        Self { copies, name, failure: None, refused: false, reported }
    }
}

impl Broker {
    /// Empty topics.
    pub(crate) fn new(skew: i64, stamps: bool, calls: u32, replies: u32) -> Self {
        let logs = |count: u32| (0..count).map(|_| Vec::new()).collect();
        let logs =
            [(Topic::Calls, logs(calls)), (Topic::Replies, logs(replies)), (Topic::Dead, logs(1))];
        let logs = logs.into();
        Self { skew, stamps, logs }
    }

    /// Stores a record; returns its offset and its report.
    pub(crate) fn append(&mut self, target: Target, payload: &[u8], now: u64) -> (i64, Fate) {
        let appended = self.stamp(now);
        let partition = PartitionId { service: 0, partition: target.partition };
        let Target { topic, .. } = target;
        let logs = self.logs.get_mut(&topic).expect("only these are written to");
        let log = &mut logs[target.partition as usize];
        let offset = log.len() as i64;
        let record = Record {
            topic,
            partition,
            offset,
            appended,
            payload: payload.to_vec().into(),
            proof: Proof::None,
        };
        log.push(record);
        (offset, Fate::Stored { appended, offset })
    }

    /// What a record appended now is stamped with: whole milliseconds.
    pub(crate) fn stamp(&self, now: u64) -> Option<Time> {
        let stamp = Time::from_micros(now).shifted(self.skew).as_micros() / MILLI * MILLI;
        self.stamps.then_some(Time::from_micros(stamp))
    }

    /// A partition's records.
    pub(crate) fn log(&self, topic: Topic, partition: u32) -> &[Record] {
        &self.logs[&topic][partition as usize]
    }

    /// The next offset of a partition.
    pub(crate) fn end(&self, topic: Topic, partition: u32) -> i64 {
        self.log(topic, partition).len() as i64
    }

    /// How many partitions a topic has.
    pub(crate) fn partitions(&self, topic: Topic) -> u32 {
        self.logs[&topic].len() as u32
    }
}
