//! Admission: which calls run now, which wait, and when enough is taken from Kafka.
//!
//! from: [`super::machine`], for each request frame · to: [`super::driver`], which runs handlers

use std::collections::{VecDeque, hash_map::Entry};

use foldhash::{HashMap, HashMapExt};
use slab::Slab;

use super::{
    backoff::Due,
    incoming::{Call, Origin},
    keys::KeyHash,
};
use crate::{
    ids::{CallId, InstanceId, PartitionId, Position},
    time::Time,
};

/// Bytes of calls that wait here from which no more are taken: the backlog is safer in Kafka.
pub(super) const QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// A call whose handler runs. `K` is what the driver needs to cancel it. The call itself is the
/// handler's: a slow one must not keep its record in memory here.
#[derive(Debug)]
pub struct Running<K> {
    /// Where the call comes from.
    pub origin: Origin,
    /// What its end is good for.
    pub fate: Fate,
    /// The call, if it may have to be executed again.
    pub kept: Option<Box<Call>>,
    cancel: K,
}

impl<K> Running<K> {
    /// How it can be cancelled.
    pub const fn cancel(&self) -> &K {
        &self.cancel
    }
}

/// What a handler's end is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is the call's end, and answered.
    Wanted,
    /// Its caller gave up: it is the call's end, and not answered.
    Unwanted,
    /// Nothing: it was cut off, for the call is its partition's next owner's.
    Left,
}

/// Where a call is that was taken and has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It waits for a place.
    Queued,
    /// It waits for an earlier call of its key.
    Keyed(KeyHash),
    /// It failed, and waits to be executed again.
    BackingOff(Due),
    /// It waits for a commit.
    Gated,
    /// It waits until it can be known whether it was cancelled.
    Held,
    /// It runs, in this place.
    Running(usize),
}

#[derive(Debug)]
struct Listed {
    position: Position,
    stage: Stage,
}

/// What to do with the next waiting call.
#[derive(Debug)]
pub enum Next<K> {
    /// Run it, which is to be taken by [`Intake::take_next`]: it occupies this place until
    /// [`Intake::finish`].
    Run(usize, K),
    /// Its deadline has passed: answer instead of executing.
    Expired(Origin),
}

/// What a cancel met.
#[derive(Debug)]
pub enum Cancelled<K> {
    /// The call waited for a place, and is gone.
    Queued(Box<Call>),
    /// The call runs: cancel it by this.
    Running(K),
    /// It stands there and waits elsewhere; it is no longer listed here.
    Elsewhere(Position, Stage),
    /// There is no such call here (any more).
    Unknown,
}

/// Calls that wait, in order of arrival, calls that run, at most `limit`, and where each call is
/// that was taken and has not ended, so that a cancel finds it.
#[derive(Debug)]
pub struct Intake<K> {
    limit: usize,
    queue: VecDeque<Call>,
    queued_bytes: usize,
    running: Slab<Running<K>>,
    index: HashMap<(u16, InstanceId, CallId), Listed>,
}

impl<K: Clone> Intake<K> {
    /// Room for `limit` handlers at once; at least one.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            queue: VecDeque::new(),
            queued_bytes: 0,
            running: Slab::new(),
            index: HashMap::new(),
        }
    }

    /// A call was taken that will wait for a place. If the same call is here already it is not
    /// listed again, and back comes where that one stands: elsewhere if a record was repeated, at
    /// the same place if its partition was lost and came back while it ran.
    #[inline]
    pub fn admit(&mut self, origin: &Origin) -> Option<Position> {
        let new = Listed { position: origin.position, stage: Stage::Queued };
        match self.index.entry(key(origin)) {
            Entry::Vacant(free) => {
                free.insert(new);
                None
            }
            Entry::Occupied(mut entry) => {
                let listed = entry.get();
                if let Stage::Running(place) = listed.stage
                    && self.running.get(place).is_some_and(|it| it.fate == Fate::Left)
                {
                    entry.insert(new);
                    return None;
                }
                Some(listed.position)
            }
        }
    }

    /// The call is here now.
    pub fn list(&mut self, origin: &Origin, stage: Stage) {
        self.index.insert(key(origin), Listed { position: origin.position, stage });
    }

    /// Takes a call in that is listed as queued.
    #[inline]
    pub fn offer(&mut self, call: Call) {
        self.queued_bytes += call.value.len();
        self.queue.push_back(call);
    }

    /// The next call to run or to refuse; `None` if none waits or all places are taken. `cancel`
    /// makes what can cancel the call, of whatever it takes out of it.
    #[inline]
    pub fn poll_next(&mut self, now: Time, cancel: impl FnOnce(&mut Call) -> K) -> Option<Next<K>> {
        if self.running.len() >= self.limit {
            return None;
        }
        let call = self.queue.front_mut()?;
        let origin = call.origin;
        self.queued_bytes -= call.value.len();
        if origin.deadline <= now {
            self.queue.pop_front();
            self.index.remove(&key(&origin));
            return Some(Next::Expired(origin));
        }
        let kept = call.is_queued().then(|| keep(call));
        let cancel = cancel(call);
        let running = Running { origin, fate: Fate::Wanted, kept, cancel: cancel.clone() };
        let place = self.running.insert(running);
        self.list(&origin, Stage::Running(place));
        Some(Next::Run(place, cancel))
    }

    /// The call that [`Intake::poll_next`] said is to run: apart from that, for it would be copied
    /// once more otherwise.
    #[inline]
    pub fn take_next(&mut self) -> Option<Call> {
        self.queue.pop_front()
    }

    /// How each running handler can be cancelled.
    pub fn cancels(&self) -> impl Iterator<Item = &K> {
        self.running.iter().map(|(_, running)| running.cancel())
    }

    /// Frees a place.
    #[inline]
    pub fn finish(&mut self, place: usize) -> Option<Running<K>> {
        let running = self.running.try_remove(place)?;
        if let Entry::Occupied(entry) = self.index.entry(key(&running.origin))
            && entry.get().stage == Stage::Running(place)
        {
            entry.remove();
        }
        Some(running)
    }

    /// The caller gave up a call of this service. It is no longer listed, unless it runs.
    pub fn cancel(&mut self, service: u16, caller: InstanceId, id: CallId) -> Cancelled<K> {
        let Entry::Occupied(entry) = self.index.entry((service, caller, id)) else {
            return Cancelled::Unknown;
        };
        let Listed { position, stage } = *entry.get();
        match stage {
            Stage::Running(place) => {
                let Some(running) = self.running.get_mut(place) else { return Cancelled::Unknown };
                if running.fate == Fate::Wanted {
                    running.fate = Fate::Unwanted;
                }
                Cancelled::Running(running.cancel.clone())
            }
            Stage::Queued => {
                entry.remove();
                let found = self.queue.iter().position(|call| call.origin.position == position);
                let Some(call) = found.and_then(|at| self.queue.remove(at)) else {
                    return Cancelled::Unknown;
                };
                self.queued_bytes -= call.value.len();
                Cancelled::Queued(Box::new(call))
            }
            // It stays where it is until its end can be told.
            Stage::Held => Cancelled::Elsewhere(position, stage),
            Stage::Keyed(_) | Stage::BackingOff(_) | Stage::Gated => {
                entry.remove();
                Cancelled::Elsewhere(position, stage)
            }
        }
    }

    /// Forgets the waiting calls of a partition, wherever they wait, and says how many waited for
    /// a place: they are not executed here, and whoever owns the partition next finds them again.
    /// But nobody finds those again that are executed once at most: where they come from is
    /// returned too.
    pub fn forget_queued(&mut self, partition: PartitionId) -> (usize, Vec<Origin>) {
        let (before, mut once) = (self.queue.len(), Vec::new());
        self.queue.retain(|call| {
            let goes = call.origin.position.partition == partition;
            if goes && call.method.is_at_most_once() {
                once.push(call.origin);
            }
            !goes
        });
        self.queued_bytes = self.queue.iter().map(|call| call.value.len()).sum();
        self.index.retain(|_, listed| {
            matches!(listed.stage, Stage::Running(_)) || listed.position.partition != partition
        });
        (before - self.queue.len() - once.len(), once)
    }

    /// Handlers that run.
    pub fn each_running(&mut self) -> impl Iterator<Item = &mut Running<K>> {
        self.running.iter_mut().map(|(_, running)| running)
    }

    /// The call is nowhere any more.
    pub fn unlist(&mut self, origin: &Origin) {
        self.index.remove(&key(origin));
    }

    /// Cuts off the handlers of a partition's calls with keys, for another server is about to run
    /// the next calls of these keys; how each can be cancelled.
    pub fn cut_off(&mut self, partition: PartitionId) -> impl Iterator<Item = K> {
        let running = self.running.iter_mut().map(|(_, running)| running);
        let of_keys = running.filter(move |it| {
            let origin = &it.origin;
            origin.key.is_some() && origin.position.partition == partition && it.fate != Fate::Left
        });
        of_keys.map(|running| {
            running.fate = Fate::Left;
            running.cancel.clone()
        })
    }

    /// The keys of a partition whose handlers were cut off and have not ended yet.
    pub fn cut_off_keys(&self, partition: PartitionId) -> impl Iterator<Item = KeyHash> {
        let left = self.running.iter().filter(|(_, running)| running.fate == Fate::Left);
        let there = move |running: &Running<K>| {
            let origin = &running.origin;
            (origin.position.partition == partition).then_some(origin.key).flatten()
        };
        left.filter_map(move |(_, running)| there(running))
    }

    /// Whether enough waits here and `before` it, calls and their bytes: as many calls as may run,
    /// or their bytes are many.
    pub fn is_full(&self, before: (usize, usize)) -> bool {
        self.queue.len() + before.0 >= self.limit || self.queued_bytes + before.1 >= QUEUED_BYTES
    }

    /// Whether at most half of what [`Intake::is_full`] asks for waits.
    pub fn has_room(&self, before: (usize, usize)) -> bool {
        let (calls, bytes) = (self.queue.len() + before.0, self.queued_bytes + before.1);
        calls <= self.limit / 2 && bytes <= QUEUED_BYTES / 2
    }

    /// Calls that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Calls that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many may run.
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

/// A call to be executed again, perhaps: its handler may run for long.
fn keep(call: &Call) -> Box<Call> {
    let mut kept = Box::new(call.clone());
    kept.detach();
    kept
}

/// What tells calls apart: a client numbers the calls of each service anew.
const fn key(origin: &Origin) -> (u16, InstanceId, CallId) {
    (origin.position.partition.service, origin.caller, origin.id)
}

#[cfg(test)]
mod tests;
