//! Admission: which calls run now, which wait, and when enough is taken from Kafka.
//!
//! from: [`super::machine`], for each request frame · to: [`super::driver`], which runs handlers

use std::collections::{VecDeque, hash_map::Entry};

use foldhash::{HashMap, HashMapExt};
use slab::Slab;

use super::incoming::{Call, Origin};
use crate::{
    ids::{CallId, InstanceId, PartitionId, Position},
    time::Time,
};

/// Bytes of calls that wait here from which no more are taken: the backlog is safer in Kafka.
const QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// A call whose handler runs. `K` is what the driver needs to cancel it. The call itself is the
/// handler's: a slow one must not keep its record in memory here.
#[derive(Debug)]
pub struct Running<K> {
    /// Where the call comes from.
    pub origin: Origin,
    /// Its caller gave up: no reply is wanted.
    pub unwanted: bool,
    cancel: K,
}

impl<K> Running<K> {
    /// How it can be cancelled.
    pub const fn cancel(&self) -> &K {
        &self.cancel
    }
}

/// What to do with the next waiting call.
#[derive(Debug)]
pub enum Next<K> {
    /// Run it: it occupies this place until [`Intake::finish`].
    Run(usize, Call, K),
    /// Its deadline has passed: answer instead of executing.
    Expired(Origin),
    /// A call that stands here came again while its first record's handler runs, of that position.
    Repeated(Position, Position),
}

/// What a cancel met.
#[derive(Debug)]
pub enum Cancelled<K> {
    /// The call waited, and is gone; it stood here.
    Queued(Position),
    /// The call runs: cancel it by this.
    Running(K),
    /// There is no such call here (any more).
    Unknown,
}

/// Calls that wait, in order of arrival, and calls that run, at most `limit`.
#[derive(Debug)]
pub struct Intake<K> {
    limit: usize,
    queue: VecDeque<Call>,
    queued_bytes: usize,
    running: Slab<Running<K>>,
    index: HashMap<(u16, InstanceId, CallId), usize>,
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

    /// Takes a call in; if the same call runs already, it does not, and says where that one
    /// stands: elsewhere if a record was repeated, at the same place if its partition was lost and
    /// came back while it ran.
    #[inline]
    pub fn offer(&mut self, call: Call) -> Option<Position> {
        let running = self.index.get(&key(&call.origin)).and_then(|at| self.running.get(*at));
        if let Some(running) = running {
            return Some(running.origin.position);
        }
        self.queued_bytes += call.value.len();
        self.queue.push_back(call);
        None
    }

    /// The next call to run or to refuse; `None` if none waits or all places are taken. `cancel`
    /// makes what can cancel the call, of whatever it takes out of it.
    #[inline]
    pub fn poll_next(&mut self, now: Time, cancel: impl FnOnce(&mut Call) -> K) -> Option<Next<K>> {
        if self.running.len() >= self.limit {
            return None;
        }
        let mut call = self.queue.pop_front()?;
        let origin = call.origin;
        self.queued_bytes -= call.value.len();
        if origin.deadline <= now {
            return Some(Next::Expired(origin));
        }
        match self.index.entry(key(&origin)) {
            Entry::Occupied(place) => {
                let first = self.running[*place.get()].origin.position;
                Some(Next::Repeated(origin.position, first))
            }
            Entry::Vacant(free) => {
                let cancel = cancel(&mut call);
                let running = Running { origin, unwanted: false, cancel: cancel.clone() };
                let place = *free.insert(self.running.insert(running));
                Some(Next::Run(place, call, cancel))
            }
        }
    }

    /// How each running handler can be cancelled.
    pub fn cancels(&self) -> impl Iterator<Item = &K> {
        self.running.iter().map(|(_, running)| running.cancel())
    }

    /// Frees a place.
    pub fn finish(&mut self, place: usize) -> Option<Running<K>> {
        let running = self.running.try_remove(place)?;
        self.index.remove(&key(&running.origin));
        Some(running)
    }

    /// The caller gave up a call of this service.
    pub fn cancel(&mut self, service: u16, caller: InstanceId, id: CallId) -> Cancelled<K> {
        let wanted = (service, caller, id);
        if let Some(running) = self.index.get(&wanted).and_then(|at| self.running.get_mut(*at)) {
            running.unwanted = true;
            return Cancelled::Running(running.cancel.clone());
        }
        let found = self.queue.iter().position(|call| key(&call.origin) == wanted);
        match found.and_then(|at| self.queue.remove(at)) {
            Some(call) => {
                self.queued_bytes -= call.value.len();
                Cancelled::Queued(call.origin.position)
            }
            None => Cancelled::Unknown,
        }
    }

    /// Forgets the waiting calls of a partition and says how many there were: they are not
    /// executed here, and whoever owns the partition next finds them again.
    pub fn forget_queued(&mut self, partition: PartitionId) -> usize {
        let before = self.queue.len();
        self.queue.retain(|call| call.origin.position.partition != partition);
        self.queued_bytes = self.queue.iter().map(|call| call.value.len()).sum();
        before - self.queue.len()
    }

    /// Whether enough waits here: as many calls as may run, or their bytes are many.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.limit || self.queued_bytes >= QUEUED_BYTES
    }

    /// Whether at most half of what [`Intake::is_full`] asks for waits.
    pub fn has_room(&self) -> bool {
        self.queue.len() <= self.limit / 2 && self.queued_bytes <= QUEUED_BYTES / 2
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

/// What tells calls apart: a client numbers the calls of each service anew.
const fn key(origin: &Origin) -> (u16, InstanceId, CallId) {
    (origin.position.partition.service, origin.caller, origin.id)
}

#[cfg(test)]
mod tests;
