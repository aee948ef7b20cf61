//! Admission: which calls run now, which wait, and when enough is taken from Kafka.
//!
//! from: [`super::machine`], for each request frame · to: [`super::driver`], which runs handlers

use std::{
    collections::{VecDeque, hash_map::Entry},
    time::Duration,
};

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use slab::Slab;

use crate::{
    codec::ValueCodec,
    deadline::{MAX_TIMEOUT, Receipt},
    ids::{CallId, InstanceId, PartitionId, Position},
    metadata::Metadata,
    server::service::MethodDescriptor,
    time::Time,
    wire::{frame::Request, packet::Route},
};

/// Bytes of calls that wait here from which no more are taken: the backlog is safer in Kafka.
const QUEUED_BYTES: usize = 16 * 1024 * 1024;

/// Where a call comes from, and its answer goes: what is kept of it while its handler runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Where it stands in the calls topic.
    pub position: Position,
    /// The client that waits.
    pub caller: InstanceId,
    /// The call's number within that client.
    pub id: CallId,
    /// How the reply gets there; without one nobody can be answered.
    pub route: Option<Route>,
    /// When the record was taken.
    pub received: Time,
    /// When the call is too late, on this process's time line.
    pub deadline: Time,
    /// How long it was under way, as far as the clocks tell.
    pub flight: Duration,
}

/// The methods of a service, as it describes them.
pub type Methods = &'static [&'static MethodDescriptor];

/// What a call names.
#[derive(Clone, Debug)]
pub enum Method {
    /// A method that the service describes.
    Known(&'static MethodDescriptor),
    /// Anything else: `service/method`, checked to be UTF-8.
    Other(Bytes),
}

/// A call that was taken from its record.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where it comes from.
    pub origin: Origin,
    /// What it calls.
    pub method: Method,
    /// The arguments, encoded.
    pub value: Bytes,
    /// How they are encoded.
    pub codec: ValueCodec,
    /// The caller's metadata.
    pub metadata: Metadata,
    /// The caller's fingerprint of the method's signature.
    pub fingerprint: u32,
}

/// A record that calls are taken from: what is the same for all of them.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) payload: &'a Bytes,
    pub(super) methods: Methods,
    pub(super) caller: InstanceId,
    pub(super) route: Option<Route>,
    pub(super) receipt: Receipt,
}

impl Arrival<'_> {
    /// The call of a request that stands here in the record.
    #[inline]
    pub(super) fn call(&self, position: Position, request: Request<'_>) -> Call {
        let (budget, deadline) = (request.budget.min(MAX_TIMEOUT), request.deadline);
        let flight = deadline.map(|deadline| self.receipt.flight(deadline - budget));
        let origin = Origin {
            position,
            caller: self.caller,
            id: request.call,
            route: self.route,
            received: self.receipt.received(),
            deadline: self.receipt.deadline(budget, deadline),
            flight: flight.unwrap_or_default(),
        };
        let method = match self.methods.iter().find(|method| method.path == request.path) {
            Some(method) => Method::Known(method),
            None => Method::Other(self.payload.slice_ref(request.path.as_bytes())),
        };
        Call {
            origin,
            method,
            value: self.payload.slice_ref(request.value),
            codec: request.codec,
            metadata: request.metadata.into_owned(),
            fingerprint: request.fingerprint,
        }
    }
}

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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn call(id: u64, partition: u32, deadline: u64) -> Call {
        let partition = PartitionId { service: 0, partition };
        let origin = Origin {
            position: Position { partition, offset: 0, index: 0 },
            caller: InstanceId::from_bytes([1; 16]),
            id: CallId(id),
            route: None,
            received: Time::default(),
            deadline: Time::from_micros(deadline),
            flight: Duration::ZERO,
        };
        Call {
            origin,
            method: Method::Other(Bytes::new()),
            value: Bytes::from_static(b"value"),
            codec: ValueCodec::MessagePack,
            metadata: Metadata::new(),
            fingerprint: 0,
        }
    }

    fn run(intake: &mut Intake<u64>, now: u64) -> Option<usize> {
        match intake.poll_next(Time::from_micros(now), |_| 7)? {
            Next::Run(place, ..) => Some(place),
            next => panic!("{next:?}"),
        }
    }

    #[test]
    fn no_more_than_the_limit_runs_and_order_is_kept() {
        let mut intake = Intake::new(2);
        for id in 0..5 {
            assert_eq!(intake.offer(call(id, 0, 100)), None);
        }
        let first = run(&mut intake, 0).unwrap();
        assert_eq!(intake.running[first].origin.id, CallId(0));
        run(&mut intake, 0).unwrap();
        assert_eq!(run(&mut intake, 0), None);
        assert!(intake.is_full());
        intake.finish(first).unwrap();
        let third = run(&mut intake, 0).unwrap();
        assert_eq!(intake.running[third].origin.id, CallId(2));
        assert_eq!((intake.running(), intake.queued()), (2, 2));
    }

    #[test]
    fn what_is_too_late_is_refused_and_occupies_no_place() {
        let mut intake = Intake::<u64>::new(1);
        intake.offer(call(1, 0, 10));
        let next = intake.poll_next(Time::from_micros(10), |_| 7);
        assert!(matches!(next, Some(Next::Expired(origin)) if origin.id == CallId(1)));
        assert_eq!((intake.running(), intake.queued()), (0, 0));
    }

    #[test]
    fn cancel_meets_queued_running_and_unknown_calls() {
        let mut intake = Intake::new(1);
        let caller = InstanceId::from_bytes([1; 16]);
        intake.offer(call(1, 0, 100));
        intake.offer(call(2, 0, 100));
        let place = run(&mut intake, 0).unwrap();
        assert!(matches!(intake.cancel(0, caller, CallId(1)), Cancelled::Running(7)));
        assert!(matches!(intake.cancel(0, caller, CallId(2)), Cancelled::Queued(_)));
        assert!(matches!(intake.cancel(0, caller, CallId(3)), Cancelled::Unknown));
        assert!(matches!(intake.cancel(0, InstanceId::ANY, CallId(1)), Cancelled::Unknown));
        assert!(intake.finish(place).unwrap().unwanted);
        assert!(matches!(intake.cancel(0, caller, CallId(1)), Cancelled::Unknown));
    }

    #[test]
    fn a_repeated_record_of_a_running_call_is_not_run_beside_it() {
        let mut intake = Intake::new(2);
        let position = call(1, 0, 100).origin.position;
        assert_eq!(intake.offer(call(1, 0, 100)), None);
        run(&mut intake, 0).unwrap();
        let mut elsewhere = call(1, 0, 100);
        elsewhere.origin.position.offset = 1;
        assert_eq!(intake.offer(elsewhere), Some(position));
    }

    /// A client numbers the calls of each service anew.
    #[test]
    fn the_same_number_of_another_service_is_another_call() {
        let mut intake = Intake::new(2);
        let mut other = call(1, 0, 100);
        other.origin.position.partition.service = 1;
        let caller = other.origin.caller;
        assert_eq!(intake.offer(call(1, 0, 100)), None);
        run(&mut intake, 0).unwrap();
        assert_eq!(intake.offer(other), None);
        assert!(matches!(intake.cancel(1, caller, CallId(1)), Cancelled::Queued(_)));
        assert!(matches!(intake.cancel(0, caller, CallId(1)), Cancelled::Running(7)));
        assert!(matches!(intake.cancel(1, caller, CallId(1)), Cancelled::Unknown));
    }

    #[test]
    fn a_repeated_record_of_a_call_that_waited_is_not_run_beside_it() {
        let mut intake = Intake::<u64>::new(2);
        assert!(intake.offer(call(1, 0, 100)).is_none());
        assert!(intake.offer(call(1, 1, 100)).is_none(), "neither runs yet");
        run(&mut intake, 0).unwrap();
        let next = intake.poll_next(Time::default(), |_| 7);
        let Some(Next::Repeated(repeated, first)) = next else { panic!("{next:?}") };
        assert_eq!((repeated.partition.partition, first.partition.partition), (1, 0));
    }

    #[test]
    fn a_partition_that_goes_takes_its_waiting_calls_along() {
        let mut intake = Intake::<u64>::new(10);
        for id in 0..6 {
            intake.offer(call(id, u32::try_from(id).unwrap() % 2, 100));
        }
        assert_eq!(intake.forget_queued(PartitionId { service: 0, partition: 1 }), 3);
        assert_eq!(intake.queued(), 3);
        while run(&mut intake, 0).is_some() {}
        assert_eq!((intake.running(), intake.queued_bytes), (3, 0));
    }

    #[test]
    fn many_bytes_are_enough() {
        let mut intake = Intake::<u64>::new(1000);
        let value = Bytes::from(vec![0; QUEUED_BYTES]);
        intake.offer(Call { value, ..call(1, 0, 100) });
        assert!(intake.is_full());
        run(&mut intake, 0).unwrap();
        assert!(!intake.is_full());
    }
}
