//! Calls of one key: one at a time, in the order of the partition, and finished in that order.
//!
//! Pure. Only the first call of a key goes on to run; the others wait here until it has *ended*.
//! They do not count against the handlers that may run at once, or one slow key would keep all
//! others from running.
//!
//! A call that has ended is finished when its reply is delivered, and replies may overtake each
//! other on their way. Were the second call of a key finished before the first, a successor would
//! execute the first one again *after* the second. So a key's calls are finished as a prefix: what
//! a successor repeats is the end of the key's sequence, in order.
//!
//! from: [`super::machine`], for calls with a key · to: [`super::intake`], [`super::ledger`]

use std::{
    collections::{BTreeMap, VecDeque},
    hash::BuildHasher,
};

use foldhash::{HashMap, quality::RandomState};

use super::{
    cancels::has_ticket,
    incoming::{Call, Origin},
    intake::Stage,
    machine::ServerMachine,
};
use crate::{
    ids::{PartitionId, Position},
    time::Time,
};

/// What a key is told by: two keys that share it are treated as one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeyHash(std::num::NonZeroU64);

/// The keys that have calls here.
#[derive(Debug, Default)]
pub struct Keys {
    queues: HashMap<(PartitionId, KeyHash), KeyQueue>,
    /// The key of each call that is not finished, and its turn.
    open: HashMap<Position, (KeyHash, Turn)>,
    turns: Turn,
    hasher: RandomState,
    waiting: usize,
    bytes: usize,
}

/// Grows with each call. It is the order of their positions, but for calls that had to wait until
/// they were due: these come behind what had come by then.
type Turn = u64;

#[derive(Debug, Default)]
struct KeyQueue {
    /// A call of it has left and has not ended: it runs, is about to, or is to run again.
    active: bool,
    /// Calls that wait for it, in order.
    waiting: BTreeMap<Turn, Box<Call>>,
    /// Calls not finished, in order, and whether they could be but for those before them.
    open: VecDeque<(Turn, Position, bool)>,
}

impl KeyQueue {
    fn is_idle(&self) -> bool {
        !self.active && self.waiting.is_empty() && self.open.is_empty()
    }

    /// Whether this call may go now.
    fn lets(&self, call: &Call) -> bool {
        // What may run once at most is finished before it begins, which everything before it has
        // to be then, too: nothing may be repeated after it.
        let first = || self.open.front().is_none_or(|(_, first, _)| *first == call.origin.position);
        !self.active && (!call.method.is_at_most_once() || first())
    }
}

impl Keys {
    /// No calls.
    pub fn new() -> Self {
        Self::default()
    }

    /// What tells this key from others here.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(std::num::NonZeroU64::new(self.hasher.hash_one(key)).unwrap_or(KeyHash::ZERO))
    }

    /// Takes a call of a key, behind the key's others; gives it back if it may go on at once. One
    /// without a key does.
    pub fn push(&mut self, mut call: Call) -> Option<Call> {
        let (Some(key), position) = (call.origin.key, call.origin.position) else {
            return Some(call);
        };
        self.turns += 1;
        let turn = self.turns;
        self.open.insert(position, (key, turn));
        let queue = self.queues.entry((position.partition, key)).or_default();
        queue.open.push_back((turn, position, false));
        if queue.waiting.is_empty() && queue.lets(&call) {
            queue.active = true;
            return Some(call);
        }
        call.detach();
        self.waiting += 1;
        self.bytes += call.bytes();
        queue.waiting.insert(turn, Box::new(call));
        None
    }

    /// The key's call that had left has ended, one way or another.
    pub fn ended(&mut self, partition: PartitionId, key: KeyHash) {
        if let Some(queue) = self.queues.get_mut(&(partition, key)) {
            queue.active = false;
            self.tidy(partition, key);
        }
    }

    /// The next call of a key, if it may go on now.
    pub fn next(&mut self, partition: PartitionId, key: KeyHash) -> Option<Call> {
        let queue = self.queues.get_mut(&(partition, key))?;
        let entry = queue.waiting.first_key_value()?;
        if !queue.lets(entry.1) {
            return None;
        }
        let (_, call) = queue.waiting.pop_first()?;
        queue.active = true;
        self.waiting -= 1;
        self.bytes -= call.bytes();
        Some(*call)
    }

    /// A call can be finished. `finish` gets those that are: itself, if it has no key; otherwise
    /// what can be finished of its key's calls, as far as all before them can be too. Back comes
    /// the key whose next call may have waited for that.
    pub fn settle(
        &mut self,
        position: Position,
        mut finish: impl FnMut(Position),
    ) -> Option<KeyHash> {
        let Some((key, turn)) = self.open.get(&position).copied() else {
            finish(position);
            return None;
        };
        let queue = self.queues.get_mut(&(position.partition, key))?;
        if let Ok(at) = queue.open.binary_search_by_key(&turn, |(turn, ..)| *turn) {
            queue.open[at].2 = true;
        }
        while let Some((_, first, true)) = queue.open.front().copied() {
            queue.open.pop_front();
            self.open.remove(&first);
            finish(first);
        }
        self.tidy(position.partition, key);
        Some(key)
    }

    /// Takes a waiting call out; what it leaves behind goes with [`Keys::settle`].
    pub fn cancel(&mut self, position: Position, key: KeyHash) -> Option<Box<Call>> {
        let (_, turn) = self.open.get(&position)?;
        let queue = self.queues.get_mut(&(position.partition, key))?;
        let call = queue.waiting.remove(turn)?;
        self.waiting -= 1;
        self.bytes -= call.bytes();
        Some(call)
    }

    /// Forgets the waiting calls of a partition and says how many there were: whoever owns it next
    /// finds them again.
    pub fn forget_waiting(&mut self, partition: PartitionId) -> usize {
        let before = self.waiting;
        for ((owner, _), queue) in &mut self.queues {
            if *owner == partition {
                let waiting = std::mem::take(&mut queue.waiting);
                self.waiting -= waiting.len();
                self.bytes -= waiting.values().map(|call| call.bytes()).sum::<usize>();
            }
        }
        before - self.waiting
    }

    /// Forgets a partition, but for the keys whose handlers still run: should it come back, their
    /// calls wait until these have ended.
    pub fn forget(&mut self, partition: PartitionId, running: impl Iterator<Item = KeyHash>) {
        self.forget_waiting(partition);
        self.queues.retain(|(owner, _), _| *owner != partition);
        self.open.retain(|position, _| position.partition != partition);
        for key in running {
            let queue = KeyQueue { active: true, ..KeyQueue::default() };
            self.queues.insert((partition, key), queue);
        }
    }

    /// Whether no key has calls here.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Calls that wait.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// What they hold in memory.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn tidy(&mut self, partition: PartitionId, key: KeyHash) {
        if self.queues.get(&(partition, key)).is_some_and(KeyQueue::is_idle) {
            self.queues.remove(&(partition, key));
        }
    }
}

impl KeyHash {
    /// Of a key whose hash is zero.
    const ZERO: std::num::NonZeroU64 = std::num::NonZeroU64::MAX;
}

impl<K: Clone> ServerMachine<K> {
    /// A call has ended, one way or another: the next one of its key may go, if there is one.
    #[inline]
    pub(super) fn pass_on(&mut self, origin: &Origin) -> bool {
        let Some(key) = origin.key else { return false };
        let partition = origin.position.partition;
        self.keys.ended(partition, key);
        self.next_of_key(partition, key)
    }

    /// A call is finished: its reply is delivered, or nobody wants one.
    pub(super) fn settle(&mut self, position: Position) {
        if let Some(class) = position.partition.class() {
            return self.settle_held(class, position);
        }
        if self.keys.is_empty() {
            self.ledger.finish(position);
            return;
        }
        let ledger = &mut self.ledger;
        let key = self.keys.settle(position, |position| {
            ledger.finish(position);
        });
        if let Some(key) = key {
            self.ripe |= self.next_of_key(position.partition, key);
        }
    }

    /// The same of many calls, of which those of one record mostly stand together.
    pub(super) fn settle_all(&mut self, calls: &[Position]) {
        let record = |call: &Position| (call.partition, call.offset);
        for calls in calls.chunk_by(|a, b| record(a) == record(b)) {
            let (partition, offset) = record(&calls[0]);
            if self.keys.is_empty() && partition.class().is_none() {
                self.ledger.finish_of(partition, offset, calls.iter().map(|call| call.index));
            } else {
                calls.iter().for_each(|call| self.settle(*call));
            }
        }
    }

    /// Nobody wants a call any more that waited. It is finished whatever becomes of the others of
    /// its key: it was not executed, or is not executed again, so nothing can be out of order.
    pub(super) fn drop_waiting(&mut self, call: &Call, now: Time) {
        self.counts.cancelled += 1;
        if has_ticket(&call.origin) {
            return self.unwanted(&call.origin, now);
        }
        self.ledger.finish(call.origin.position);
        self.settle(call.origin.position);
    }

    /// Partitions go, and nothing of them may wait here any more; how many calls waited.
    pub(super) fn forget_waiting(&mut self, partition: PartitionId, now: Time) -> usize {
        let (left, once) = self.intake.forget_queued(partition);
        once.iter().for_each(|origin| self.not_executed(origin, now));
        left + self.keys.forget_waiting(partition)
            + self.backoff.forget(partition)
            + self.cancels_read.forget(partition)
            + self.delays.forget(partition)
    }

    /// Partitions are gone, or about to: the handlers of their calls with keys are cut off, lest
    /// two calls of a key run at once.
    pub fn cut_off(&mut self, partitions: &[PartitionId], now: Time) {
        let goes = |origin: &Origin| {
            origin.key.is_some() && partitions.contains(&origin.position.partition)
        };
        self.give_up_early(goes, now);
        for partition in partitions {
            let cut = self.cancels.len();
            self.cancels.extend(self.intake.cut_off(*partition));
            if let Some(left) = self.releasing.get_mut(partition) {
                *left += self.cancels.len() - cut;
            }
        }
    }

    /// Whether the handlers that were cut off have ended.
    pub fn is_cut_off(&self, partitions: &[PartitionId]) -> bool {
        partitions.iter().all(|partition| self.intake.cut_off_keys(*partition).next().is_none())
    }

    /// The partition's keys are another server's now.
    pub(super) fn forget_keys(&mut self, partition: PartitionId) {
        self.keys.forget(partition, self.intake.cut_off_keys(partition));
    }

    fn next_of_key(&mut self, partition: PartitionId, key: KeyHash) -> bool {
        let Some(call) = self.keys.next(partition, key) else { return false };
        self.intake.list(&call.origin, Stage::Queued);
        self.enter(call);
        true
    }
}

#[cfg(test)]
mod tests;
