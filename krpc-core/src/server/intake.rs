//! Admission: which calls run now, which wait, and when enough is taken from Kafka.
//!
//! from: [`super::machine`], for each request frame · to: [`super::driver`], which runs handlers

use std::{collections::VecDeque, hash::BuildHasher};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
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

/// A handler that runs. `K` is what the driver needs to cancel it. The call itself is the
/// handler's: a slow one must not keep its record in memory here.
#[derive(Debug)]
pub struct Running<K> {
    /// What its end is good for.
    pub fate: Fate,
    /// The call, if it may have to be executed again.
    pub kept: Option<Box<Call>>,
    /// How it can be cancelled.
    pub cancel: K,
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

/// Where a call waits that was taken.
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
}

/// A call that was taken and has not ended.
#[derive(Debug)]
struct Listed<K> {
    origin: Origin,
    state: State<K>,
}

#[derive(Debug)]
enum State<K> {
    Waits(Stage),
    Runs(Running<K>),
}

impl<K> Listed<K> {
    const fn name(&self) -> Name {
        name(&self.origin)
    }

    const fn running(&self) -> Option<&Running<K>> {
        match &self.state {
            State::Runs(running) => Some(running),
            State::Waits(_) => None,
        }
    }
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

/// Calls that wait, in order of arrival, and where each call is that was taken and has not ended,
/// at most `limit` of them running, so that a cancel finds it.
#[derive(Debug)]
pub struct Intake<K> {
    limit: usize,
    queue: VecDeque<Call>,
    queued_bytes: usize,
    listed: Slab<Listed<K>>,
    running: usize,
    /// Where each is listed, by its [`Name`]. Numbers alone: with thousands of calls in flight,
    /// what a look-up costs is the memory that it touches.
    index: HashTable<u32>,
    hasher: RandomState,
}

/// What tells calls apart: a client numbers the calls of each service anew.
type Name = (u16, InstanceId, CallId);

impl<K: Clone> Intake<K> {
    /// Room for `limit` handlers at once; at least one.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            queue: VecDeque::new(),
            queued_bytes: 0,
            listed: Slab::new(),
            running: 0,
            index: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    /// A call was taken that will wait for a place; its origin says where it is listed from here
    /// on. If the same call is here already it is not listed again, and back comes where that one
    /// stands: elsewhere if a record was repeated, at the same place if its partition was lost and
    /// came back while it ran.
    #[inline]
    pub fn admit(&mut self, origin: &mut Origin) -> Option<Position> {
        let (first, at) = self.enter(origin, |listed| match &listed.state {
            State::Runs(running) => running.fate == Fate::Left,
            State::Waits(_) => false,
        });
        origin.listed = at;
        first
    }

    /// The call waits here now.
    pub fn list(&mut self, origin: &Origin, stage: Stage) {
        let at = self.waits_at(origin);
        self.listed[at] = Listed { origin: *origin, state: State::Waits(stage) };
    }

    /// Where the call waits: as its origin says, or else by its name, or else listed anew.
    #[inline]
    fn waits_at(&mut self, origin: &Origin) -> usize {
        let said = self.listed.get(origin.listed as usize);
        let waits = |it: &Listed<K>| it.name() == name(origin) && it.running().is_none();
        if said.is_some_and(waits) {
            return origin.listed as usize;
        }
        let (_, at) = self.enter(origin, |listed| listed.running().is_some());
        at as usize
    }

    /// Lists a call as queued, unless one of its name is there that does not `yield` to it: where
    /// that one stands. And where it is listed now.
    #[inline]
    fn enter(
        &mut self,
        origin: &Origin,
        yields: impl FnOnce(&Listed<K>) -> bool,
    ) -> (Option<Position>, u32) {
        let (listed, hasher, named) = (&self.listed, &self.hasher, name(origin));
        // What is in the table is in the list.
        let is_named = |at: &u32| listed[*at as usize].name() == named;
        let rehash = |at: &u32| hasher.hash_one(listed[*at as usize].name());
        let entry = self.index.entry(hasher.hash_one(named), is_named, rehash);
        if let Entry::Occupied(entry) = &entry {
            let first = &listed[*entry.get() as usize];
            if !yields(first) {
                return (Some(first.origin.position), *entry.get());
            }
        }
        let at = u32::try_from(listed.vacant_key()).expect("calls that are not finished are few");
        entry.insert(at);
        self.listed.insert(Listed { origin: *origin, state: State::Waits(Stage::Queued) });
        (None, at)
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
        if self.running >= self.limit {
            return None;
        }
        let call = self.queue.front_mut()?;
        let origin = call.origin;
        self.queued_bytes -= call.value.len();
        if origin.deadline <= now {
            self.queue.pop_front();
            self.unlist(&origin);
            return Some(Next::Expired(origin));
        }
        let kept = call.is_queued().then(|| keep(call));
        let cancel = cancel(call);
        let place = self.waits_at(&origin);
        let running = Running { fate: Fate::Wanted, kept, cancel: cancel.clone() };
        self.running += 1;
        // Some of it may have changed since it was listed.
        self.listed[place] = Listed { origin, state: State::Runs(running) };
        Some(Next::Run(place, cancel))
    }

    /// Whether a call has this place to run.
    pub fn is_running(&self, place: usize) -> bool {
        self.listed.get(place).is_some_and(|listed| listed.running().is_some())
    }

    /// The call that [`Intake::poll_next`] said is to run: apart from that, for it would be copied
    /// once more otherwise.
    #[inline]
    pub fn take_next(&mut self) -> Option<Call> {
        self.queue.pop_front()
    }

    /// How each running handler can be cancelled.
    pub fn cancels(&self) -> impl Iterator<Item = &K> {
        let running = self.listed.iter().filter_map(|(_, listed)| listed.running());
        running.take(self.running).map(|running| &running.cancel)
    }

    /// Frees a place.
    #[inline]
    pub fn finish(&mut self, place: usize) -> Option<(Origin, Running<K>)> {
        self.listed.get(place)?.running()?;
        match self.remove(place)? {
            Listed { origin, state: State::Runs(running) } => {
                self.running -= 1;
                Some((origin, running))
            }
            Listed { state: State::Waits(_), .. } => None,
        }
    }

    /// Takes a call from the list, and its name unless that is another call's by now.
    #[inline]
    fn remove(&mut self, at: usize) -> Option<Listed<K>> {
        let listed = self.listed.try_remove(at)?;
        let hash = self.hasher.hash_one(listed.name());
        if let Ok(entry) = self.index.find_entry(hash, |it| *it as usize == at) {
            entry.remove();
        }
        Some(listed)
    }

    /// Where the call of this name is listed.
    fn find(&self, name: Name) -> Option<usize> {
        let there = |at: &u32| self.listed[*at as usize].name() == name;
        self.index.find(self.hasher.hash_one(name), there).map(|at| *at as usize)
    }

    /// The caller gave up a call of this service. It is no longer listed, unless it runs.
    pub fn cancel(&mut self, service: u16, caller: InstanceId, id: CallId) -> Cancelled<K> {
        let found = self.find((service, caller, id));
        let Some((at, listed)) = found.and_then(|at| Some((at, self.listed.get_mut(at)?))) else {
            return Cancelled::Unknown;
        };
        let position = listed.origin.position;
        match &mut listed.state {
            State::Runs(running) => {
                if running.fate == Fate::Wanted {
                    running.fate = Fate::Unwanted;
                }
                Cancelled::Running(running.cancel.clone())
            }
            State::Waits(Stage::Queued) => {
                self.remove(at);
                let found = self.queue.iter().position(|call| call.origin.position == position);
                let Some(call) = found.and_then(|at| self.queue.remove(at)) else {
                    return Cancelled::Unknown;
                };
                self.queued_bytes -= call.value.len();
                Cancelled::Queued(Box::new(call))
            }
            // It stays where it is until its end can be told.
            State::Waits(Stage::Held) => Cancelled::Elsewhere(position, Stage::Held),
            State::Waits(stage) => {
                let stage = *stage;
                self.remove(at);
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
        let waits =
            |it: &Listed<K>| it.running().is_none() && it.origin.position.partition == partition;
        let gone = self.listed.iter().filter(|(_, it)| waits(it)).map(|(at, _)| at);
        for at in gone.collect::<Vec<_>>() {
            self.remove(at);
        }
        (before - self.queue.len() - once.len(), once)
    }

    /// Handlers that run.
    pub fn each_running(&mut self) -> impl Iterator<Item = (&Origin, &mut Running<K>)> {
        let running = self.listed.iter_mut().filter_map(|(_, listed)| match &mut listed.state {
            State::Runs(running) => Some((&listed.origin, running)),
            State::Waits(_) => None,
        });
        // Many more may wait.
        running.take(self.running)
    }

    /// The call waits nowhere any more.
    pub fn unlist(&mut self, origin: &Origin) {
        let waits = |at: &usize| self.listed.get(*at).is_some_and(|it| it.running().is_none());
        if let Some(at) = self.find(name(origin)).filter(waits) {
            self.remove(at);
        }
    }

    /// Cuts off the handlers of a partition's calls with keys, for another server is about to run
    /// the next calls of these keys; how each can be cancelled.
    pub fn cut_off(&mut self, partition: PartitionId) -> impl Iterator<Item = K> {
        let of_keys = self.each_running().filter(move |(origin, it)| {
            origin.key.is_some() && origin.position.partition == partition && it.fate != Fate::Left
        });
        of_keys.map(|(_, running)| {
            running.fate = Fate::Left;
            running.cancel.clone()
        })
    }

    /// The keys of a partition whose handlers were cut off and have not ended yet.
    pub fn cut_off_keys(&self, partition: PartitionId) -> impl Iterator<Item = KeyHash> {
        let running = self.listed.iter().filter_map(|(_, it)| Some((&it.origin, it.running()?)));
        running.take(self.running).filter_map(move |(origin, running)| {
            let left = running.fate == Fate::Left && origin.position.partition == partition;
            left.then_some(origin.key).flatten()
        })
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
    pub const fn running(&self) -> usize {
        self.running
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

const fn name(origin: &Origin) -> Name {
    (origin.position.partition.service, origin.caller, origin.id)
}

#[cfg(test)]
mod tests;
