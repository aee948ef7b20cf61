//! The checkers of executions and commits.

use std::collections::{HashMap, HashSet};

use krpc_core::{
    ids::Position,
    server::{commit_map::FinishedMap, incoming::Call},
    transport::{CommitPoint, Record},
};

use super::{
    COMMITTED, Check, DRAINED, FORGOTTEN, LATE, ONCE, OWNED, QUIET, REPEATED, State, WRONG, calls,
};
use crate::{
    broker::Broker,
    faults::MILLI,
    group::{Committed, Group},
};

/// One partition of the calls topic.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The true time of each record's append.
    appended: Vec<u64>,
    /// How many calls each record holds.
    calls: Vec<u32>,
    /// Calls that no commit covered yet, or that were covered while a copy of theirs was open.
    open: Vec<Place>,
    committed: (i64, FinishedMap),
    /// What was executed by owners who gave the partition back in good order, and the number of
    /// the first ownership that began after that.
    drained: HashMap<(i64, u32), usize>,
    /// At-most-once calls that were executed.
    once: HashSet<(i64, u32)>,
}

/// A call's place in a partition.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: i64,
    index: u32,
    /// `None` if nobody can read it.
    call: Option<usize>,
}

/// One ownership of a partition: from its assignment to its end.
#[derive(Debug)]
pub(super) struct Epoch {
    partition: u32,
    /// What the group had committed at its beginning.
    committed: (i64, FinishedMap),
    executed: HashSet<(i64, u32)>,
    calls: HashSet<usize>,
}

impl Check {
    /// A record is stored in the calls topic.
    pub(crate) fn requested(&mut self, partition: u32, offset: i64, payload: &[u8], now: u64) {
        self.partitions[partition as usize].appended.push(now);
        let requests = self.requests_in(payload);
        self.partitions[partition as usize].calls.push(requests.len() as u32);
        for (index, call) in (0..).zip(requests) {
            if let Some(call) = call {
                self.calls[call].positions.push((partition, offset, index));
                if self.calls[call].positions.len() > 1 {
                    self.tally.count("call stored again");
                }
            }
            self.partitions[partition as usize].open.push(Place { offset, index, call });
        }
    }

    /// How many calls a record of the calls topic holds.
    pub(crate) fn calls_in(&self, record: &Record) -> usize {
        let partition = &self.partitions[record.partition.partition as usize];
        partition.calls[record.offset as usize] as usize
    }

    /// A server takes a partition; returns the number of this ownership.
    pub(crate) fn assigned(&mut self, partition: u32, committed: &Committed) -> usize {
        let committed = committed.as_ref().map(|(offset, map)| self.read(*offset, map));
        let committed = committed.unwrap_or_default();
        self.tally.count("partition assigned");
        if committed.1 != FinishedMap::default() {
            self.tally.count("partition assigned with a map");
        }
        let (executed, calls) = (HashSet::new(), HashSet::new());
        self.epochs.push(Epoch { partition, committed, executed, calls });
        self.epochs.len() - 1
    }

    /// A server gave a partition back in good order: all was finished, and committed.
    pub(crate) fn drained(&mut self, epoch: usize) {
        self.tally.count("partition drained");
        let next = self.epochs.len();
        let Epoch { partition, executed, .. } = &self.epochs[epoch];
        let drained = &mut self.partitions[*partition as usize].drained;
        for place in executed {
            drained.entry(*place).or_insert(next);
        }
    }

    /// A handler starts; `doubt` is how wrong its server's idea of the broker's clock may be.
    pub(crate) fn executed(
        &mut self,
        server: usize,
        epoch: Option<usize>,
        call: &Call,
        doubt: Option<u64>,
        now: u64,
    ) -> usize {
        self.tally.count("execution");
        let Position { partition, offset, index } = call.origin.position;
        let at = format!("server {server} executes {}/{offset}/{index}", partition.partition);
        let Some(number) = self.ids.get(&(call.origin.caller, call.origin.id)).copied() else {
            self.fail(WRONG, format!("{at}, which nobody called"));
            return 0;
        };
        let right = call.value[..] == calls::request(self.seed, number);
        self.require(right, WRONG, || format!("{at}, call {number}, with other arguments"));
        let late = self.late(number, partition.partition, offset, doubt, now);
        self.require(late == 0, LATE, || format!("{at}, call {number}, {late} us late"));
        if self.calls[number].at_most_once {
            self.tally.count("at most once: executed");
            let first = self.partitions[partition.partition as usize].once.insert((offset, index));
            self.require(first, ONCE, || format!("{at}, call {number}, twice"));
        }
        let Some(epoch) = epoch else {
            self.fail(OWNED, format!("{at}, call {number}, of a partition it does not own"));
            return number;
        };
        let drained = self.partitions[partition.partition as usize].drained.get(&(offset, index));
        // Somebody who lost the partition before and does not know may still execute it.
        let drained = drained.is_some_and(|next| epoch >= *next);
        self.require(!drained, DRAINED, || format!("{at}, call {number}, after a drain"));
        let Epoch { committed, executed, calls, .. } = &mut self.epochs[epoch];
        let finished = covers(committed, offset, index);
        let again = !executed.insert((offset, index));
        let repeated = !calls.insert(number);
        self.require(!finished, REPEATED, || format!("{at}, call {number}, committed as finished"));
        self.require(!again, REPEATED, || format!("{at}, call {number}, twice"));
        self.require(!repeated, REPEATED, || {
            format!("{at}, call {number}, which it executed from another record")
        });
        number
    }

    /// How much later than its deadline, as far as clocks can tell, a call is executed.
    fn late(&self, call: usize, partition: u32, offset: i64, doubt: Option<u64>, now: u64) -> u64 {
        let Some(doubt) = doubt.filter(|_| self.stamps) else { return 0 };
        let appended = self.partitions[partition as usize].appended[offset as usize];
        let call = &self.calls[call];
        let deadline = match call.doubt {
            Some(doubt) => call.deadline + doubt,
            None => appended + call.timeout,
        };
        // The server allows for its doubt on top of it.
        now.saturating_sub(deadline + 2 * doubt + 2 * MILLI)
    }

    /// The group has committed a point.
    pub(crate) fn committed(&mut self, server: usize, point: &CommitPoint, now: u64) {
        let committed = self.read(point.offset, &point.metadata);
        self.tally.count("commit");
        if committed.1 != FinishedMap::default() {
            self.tally.count("commit with a map");
        }
        let number = point.partition.partition as usize;
        let end = self.partitions[number].appended.len() as i64;
        if committed.0 > end || committed.1.is_finished(end, 0) {
            let message = format!("server {server} commits {point:?} beyond the end {end}");
            return self.fail(COMMITTED, message);
        }
        let before = std::mem::replace(&mut self.partitions[number].committed, committed);
        let forgotten = self.partitions[number].forgotten(&before);
        self.require(forgotten.is_none(), FORGOTTEN, || {
            format!("server {server} commits {point:?} after {before:?}, without {forgotten:?}")
        });
        let mut open = std::mem::take(&mut self.partitions[number].open);
        open.retain(|place| {
            let covered = covers(&self.partitions[number].committed, place.offset, place.index);
            !covered || !self.is_finished(*place, now)
        });
        let wrong = open.iter().find(|place| {
            let covered = covers(&self.partitions[number].committed, place.offset, place.index);
            covered && !self.has_open_copy(**place)
        });
        if let Some(place) = wrong {
            let call = place.call.map(|call| &self.calls[call]);
            let message = format!("server {server} commits {point:?} over {place:?}: {call:?}");
            self.fail(COMMITTED, message);
        }
        self.partitions[number].open = open;
    }

    /// Whether nobody waits for this call's reply any more, or it is stored.
    fn is_finished(&self, place: Place, now: u64) -> bool {
        let Some(call) = place.call.map(|call| &self.calls[call]) else { return true };
        let given_up = call.state == State::Dropped || call.refused || now >= call.earliest();
        call.answered || given_up || call.at_most_once
    }

    /// Whether this call stands elsewhere too, and is left open there.
    fn has_open_copy(&self, place: Place) -> bool {
        let Some(call) = place.call else { return false };
        self.calls[call].positions.iter().any(|(partition, offset, index)| {
            !covers(&self.partitions[*partition as usize].committed, *offset, *index)
        })
    }

    fn read(&mut self, offset: i64, map: &str) -> (i64, FinishedMap) {
        let read = FinishedMap::decode(offset, map);
        if let Err(error) = &read {
            self.fail(COMMITTED, format!("the map {map:?} at {offset} cannot be read: {error}"));
        }
        (offset, read.unwrap_or_default())
    }

    /// What must hold of the commits when nothing happens any more.
    pub(crate) fn finish_commits(&mut self, broker: &Broker, group: &Group) {
        use krpc_core::transport::Topic;
        for number in 0..self.partitions.len() {
            let end = broker.end(Topic::Calls, number as u32);
            let committed = group.committed(number as u32);
            let empty = |offset, map| {
                FinishedMap::decode(offset, map).is_ok_and(|map| map == FinishedMap::default())
            };
            let all = committed
                .as_ref()
                .map_or(end == 0, |(offset, map)| *offset == end && empty(*offset, map));
            let open = self.partitions[number].open.len();
            self.require(all && open == 0, QUIET, || {
                format!("partition {number} ends at {end}, {open} open: {committed:?} is committed")
            });
        }
    }
}

impl Partition {
    /// A call that `before` covers and the present commit does not.
    fn forgotten(&self, before: &(i64, FinishedMap)) -> Option<(i64, u32)> {
        let (next, _) = self.committed;
        let later = (0..).zip(&self.calls).skip(next as usize);
        let mut places = later.flat_map(|(offset, calls)| (0..*calls).map(move |at| (offset, at)));
        places.find(|(offset, index)| {
            covers(before, *offset, *index) && !covers(&self.committed, *offset, *index)
        })
    }
}

fn covers((next, map): &(i64, FinishedMap), offset: i64, index: u32) -> bool {
    offset < *next || map.is_finished(offset, index)
}
