//! A server's machine: takes records apart, admits calls, answers them, and says what may be
//! committed.
//!
//! Pure: the driver ([`super::driver`]) brings events and time, runs what
//! [`ServerMachine::poll_dispatch`] yields and sends what [`ServerMachine::poll_transmit`] yields.
//! A call is finished when its reply is *delivered*; only then may its offset be committed.
//!
//! from: records from the transport · to: [`super::intake`], [`super::ledger`], [`crate::outbox`]

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{
    backoff::Backoff,
    burial::Burials,
    cancels::{Cancels, has_ticket},
    delays::Delays,
    gate::Gate,
    incoming::{Arrival, Call, Methods, way_back},
    intake::{Cancelled, Fate, Intake, Next, QUEUED_BYTES, Stage},
    keys::Keys,
    ledger::{Ledger, Opened},
    permits::Permits,
    refused::Refusals,
    stats::ServerCounts,
    topics::Topics,
};
use crate::{
    deadline::Receipt,
    ids::{CallId, InstanceId, PartitionId, Position},
    inbox::{DropCause, Inbox},
    metadata::Metadata,
    outbox::{Cookies, Outbox, Report, Transmit},
    time::{BrokerClock, Time},
    transport::{Delivery, Record, Rejected, Topology},
    wire::{
        frame::{Frame, Outcome},
        packet::Routes,
    },
};

/// Calls taken from Kafka and not yet finished, replies on their way included, beyond which no
/// more are taken: bounds the memory of a server whose replies do not get away.
const MAX_UNFINISHED: usize = 65_536;

/// A call to run: decode `value`, run the handler, come back with [`ServerMachine::finish`].
#[derive(Clone, Debug)]
pub struct Dispatch<K> {
    /// The place it occupies.
    pub place: usize,
    /// The call, with everything the handler's context needs.
    pub call: Call,
    /// How it can be cancelled.
    pub cancel: K,
}

#[derive(Debug)]
pub(super) struct Served {
    pub(super) topology: Topology,
    pub(super) methods: Methods,
    pub(super) owned: BTreeSet<u32>,
}

/// See the module. Events: `handle_*`; verbs: `finish`, `release`, `take_released`; what to do:
/// `poll_*`, `next_timeout`. `K` cancels a running handler.
#[derive(Debug)]
pub struct ServerMachine<K> {
    pub(super) services: Vec<Served>,
    pub(super) inbox: Inbox,
    pub(super) ledger: Ledger,
    pub(super) gate: Gate,
    pub(super) intake: Intake<K>,
    pub(super) keys: Keys,
    pub(super) backoff: Backoff,
    /// Calls may run now that no record and no handler's end made so.
    pub(super) ripe: bool,
    pub(super) outbox: Outbox<Position>,
    pub(super) refusals: Refusals,
    pub(super) clock: BrokerClock,
    /// Grows whenever ownership changes, so that each lane announces it once more.
    pub(super) epoch: u64,
    /// Partitions on their way out, and how many waiting calls each left unexecuted.
    pub(super) releasing: HashMap<PartitionId, usize>,
    /// Ending: partitions that still come are not served.
    pub(super) retired: bool,
    pub(super) cancels: VecDeque<K>,
    pub(super) topics: Topics,
    pub(super) cancels_read: Cancels,
    pub(super) burials: Burials,
    pub(super) delays: Delays,
    pub(super) permits: Permits,
    pub(super) counts: ServerCounts,
}

impl<K: Clone> ServerMachine<K> {
    /// A server `me` of services with these topics and methods, running at most `limit` handlers at
    /// once.
    pub fn new(
        me: InstanceId,
        services: Vec<(Topology, Methods)>,
        limit: usize,
        max_packet_bytes: usize,
    ) -> Self {
        let served = |(topology, methods)| Served { topology, methods, owned: BTreeSet::new() };
        Self {
            services: services.into_iter().map(served).collect(),
            inbox: Inbox::new(me),
            ledger: Ledger::new(),
            gate: Gate::new(),
            intake: Intake::new(limit),
            keys: Keys::new(),
            backoff: Backoff::new(me),
            ripe: false,
            outbox: Outbox::new(me, max_packet_bytes, Routes::new()),
            refusals: Refusals::default(),
            clock: BrokerClock::default(),
            epoch: 0,
            releasing: HashMap::new(),
            retired: false,
            cancels: VecDeque::new(),
            topics: Topics::default(),
            cancels_read: Cancels::default(),
            burials: Burials::default(),
            delays: Delays::default(),
            permits: Permits::default(),
            counts: ServerCounts::default(),
        }
    }

    /// The same server, by which a call that may end its servers is begun so often at most.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.gate.attempts = attempts;
        self
    }

    /// A record of an owned partition. Afterwards [`ServerMachine::poll_dispatch`] until empty.
    pub fn handle_record(&mut self, record: &Record, now: Time) {
        let partition = record.partition;
        let Some(fence) = self.fence(partition) else {
            return self.inbox.count(DropCause::NotOwned);
        };
        let packet = match self.inbox.open(partition, &record.payload) {
            Ok(packet) => packet,
            Err(cause) => {
                // Counted by the inbox. Nothing in it can be finished, so nothing holds it up.
                self.ledger.open(partition, record.offset, 0);
                return self.tell(record, cause, now);
            }
        };
        let opened = self.ledger.open(partition, record.offset, packet.calls());
        let careful = self.gate.is_wary() && self.is_doubted(record, packet.calls());
        let caller = packet.header.sender;
        let asker = self.outbox.askers.handle_proof(&record.proof);
        let Some(service) = self.services.get(usize::from(partition.service)) else { return };
        let topology = service.topology;
        let arrival = Arrival {
            payload: &record.payload,
            methods: service.methods,
            caller,
            asker,
            topology,
            route: way_back(topology, &packet.header.reply_to),
            receipt: Receipt::new(record.appended, now, &self.clock),
            careful,
            fence,
        };
        let (mut frames, mut index) = (packet.frames(), 0);
        loop {
            let bytes = frames.rest();
            let Some(frame) = frames.next() else { break };
            let bytes = || &bytes[..bytes.len() - frames.rest().len()];
            let position = Position { partition, offset: record.offset, index };
            match frame {
                Ok(Frame::Request(request)) => {
                    index += 1;
                    let finished = match opened {
                        Opened::Fresh => false,
                        Opened::Resumed => self.ledger.is_finished(position),
                        Opened::Finished | Opened::NotAssigned => true,
                    };
                    if finished {
                        self.counts.skipped += 1;
                        continue;
                    }
                    let mut call = arrival.call(position, request, bytes);
                    // One at most once was never begun, or it would be finished.
                    if careful && !call.method.is_at_most_once() {
                        call.begins = self.gate.begins(position);
                    }
                    self.admit(call, now);
                }
                Ok(Frame::Cancel(cancel)) => {
                    self.handle_cancel(partition, caller, cancel.call, now);
                }
                Ok(Frame::Unknown(_)) => self.inbox.count(DropCause::UnknownKind),
                Ok(_) => self.inbox.count(DropCause::UnexpectedKind),
                Err(error) => {
                    self.inbox.count(DropCause::FrameMalformed);
                    if error.is_request() {
                        index += 1;
                        self.settle(position);
                    }
                }
            }
        }
    }

    /// A delivery report: the calls whose replies it covers are finished.
    pub fn handle_delivered(&mut self, token: u64, delivery: &Delivery<'_>, now: Time) {
        let (result, appended) = match delivery {
            Delivery::Stored { appended, .. } => (Ok(()), *appended),
            Delivery::Failed { status, payload } => (Err((status.clone(), *payload)), None),
        };
        match self.outbox.handle_delivered(token, result, now) {
            Report::Stored { cookies, sent } => {
                if let Some(appended) = appended {
                    self.clock.observe(sent, now, appended);
                }
                self.handle_stored(cookies, now);
            }
            Report::Failed { cookies, status } => self.handle_unstored(cookies, &status, now),
            Report::Retried | Report::Unknown => {}
        }
    }

    /// The transport took a packet; its buffer comes back.
    pub fn handle_sent(&mut self, payload: Vec<u8>) {
        self.outbox.handle_sent(payload);
    }

    /// The transport did not take a packet.
    pub fn handle_rejected(&mut self, transmit: Transmit, rejected: Rejected, now: Time) {
        if let Some((cookies, status)) = self.outbox.handle_rejected(transmit, rejected, now) {
            self.handle_unstored(cookies, &status, now);
        }
    }

    /// Whether replies wait for a delivery report, or somebody for the replies' own.
    pub fn awaits_report(&self) -> bool {
        self.outbox.awaits_report() || self.is_ending()
    }

    /// Time has passed: packets whose backoff is over may leave, and calls may run again.
    pub fn handle_timeout(&mut self, now: Time) {
        self.outbox.handle_timeout(now);
        self.handle_burial_timeout(now);
        self.handle_cancels_timeout(now);
        self.handle_delays_timeout(now);
        self.resume(now);
    }

    /// Whether calls may run now that no record and no handler's end made so; once each time.
    pub fn take_ripe(&mut self) -> bool {
        std::mem::take(&mut self.ripe)
    }

    /// The next call to run. Calls that became too late are answered on the way.
    /// `cancel` makes what can cancel a call, of whatever it takes out of it.
    pub fn poll_dispatch(
        &mut self,
        now: Time,
        cancel: impl Fn(&mut Call) -> K,
    ) -> Option<Dispatch<K>> {
        self.condemn_doomed(now);
        loop {
            match self.intake.poll_next(now, &cancel)? {
                Next::Run(place, cancel) => {
                    self.counts.executed += 1;
                    let dispatch = Dispatch { place, call: self.intake.take_next()?, cancel };
                    if has_ticket(&dispatch.call.origin) {
                        self.begin_with_ticket(&dispatch.call, now);
                    }
                    return Some(dispatch);
                }
                Next::Expired(origin) => {
                    self.expire(&origin, now);
                    self.pass_on(&origin);
                }
            }
        }
    }

    /// Whether a handler has this place.
    pub fn is_running(&self, place: usize) -> bool {
        self.intake.is_running(place)
    }

    /// A handler is done: its outcome goes to the caller.
    pub fn finish(&mut self, place: usize, outcome: Outcome<'_>, metadata: &Metadata, now: Time) {
        let Some((origin, running)) = self.intake.finish(place) else { return };
        match (running.fate, running.kept) {
            (Fate::Wanted, None) => self.reply(&origin, outcome, metadata, now),
            (Fate::Wanted, Some(call)) => {
                if self.conclude(call, outcome, metadata, now) {
                    return;
                }
            }
            (Fate::Unwanted, _) => {
                self.counts.cancelled += 1;
                self.unwanted(&origin, now);
            }
            (Fate::Left, _) => {}
        }
        self.pass_on(&origin);
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        if let Some(transmit) = self.refusals.poll_transmit() {
            return Some(transmit);
        }
        loop {
            let mut transmit = self.outbox.poll_transmit(now)?;
            match self.outbox.seal(&mut transmit, &self.clock, now) {
                Ok(()) => return Some(transmit),
                Err(status) => self.handle_rejected(transmit, Rejected::Failed(status), now),
            }
        }
    }

    /// How each running handler can be cancelled, for a server that ends without a word.
    pub fn cancels(&self) -> impl Iterator<Item = &K> {
        self.intake.cancels()
    }

    /// The next handler to cancel, after the lock is released.
    pub fn poll_cancel(&mut self) -> Option<K> {
        self.cancels.pop_front()
    }

    /// When [`ServerMachine::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Time> {
        let others = self.burials.next_timeout().into_iter().chain(self.backoff.next_timeout());
        let others = others.chain(self.cancels_read.next_timeout());
        let others = others.chain(self.delays.next_timeout());
        self.outbox.next_timeout().into_iter().chain(others).min()
    }

    /// Whether enough was taken from Kafka for now.
    pub fn is_full(&self) -> bool {
        let unfinished = self.ledger.total_unfinished();
        let many = self.burials.is_full() || self.bytes_aside() >= QUEUED_BYTES;
        self.intake.is_full(self.gate.load()) || unfinished >= MAX_UNFINISHED || many
    }

    /// Whether there is room for more again: later than not full, so that whoever waits for room
    /// is woken for a batch rather than for each call.
    pub fn has_room(&self) -> bool {
        let unfinished = self.ledger.total_unfinished();
        let few = !self.burials.is_full() && self.bytes_aside() <= QUEUED_BYTES / 2;
        self.intake.has_room(self.gate.load()) && unfinished < MAX_UNFINISHED && few
    }

    /// Bytes of calls that wait for others of their key, to be executed (again), or for topics.
    const fn bytes_aside(&self) -> usize {
        let set_aside = self.cancels_read.bytes() + self.delays.bytes();
        self.keys.bytes() + self.backoff.bytes() + set_aside
    }

    pub(super) fn admit(&mut self, mut call: Call, now: Time) {
        call.origin.key = call.key().map(|key| self.keys.hash(key));
        if !self.may_call(&mut call) {
            return self.deny(call, now);
        }
        let origin = call.origin;
        // Who holds a ticket is told so later, should that not be possible yet.
        if origin.deadline <= now && !self.is_held(&origin) {
            self.expire(&origin, now);
            return;
        }
        if let Some(term) = call.unkept_term() {
            self.refuse(&origin, term, now);
            return;
        }
        if self.was_cancelled(&origin, now) {
            return;
        }
        if origin.delayed
            && let Some(left) = self.until_due(&call, now)
        {
            return self.set_aside(call, left, now);
        }
        if let Some(first) = self.intake.admit(&mut call.origin) {
            self.repeated(origin.position, first);
            return;
        }
        self.queue(call);
    }

    /// A call that may run now joins those of its key, if it has one.
    #[inline]
    pub(super) fn queue(&mut self, call: Call) {
        let origin = call.origin;
        let Some(key) = origin.key else { return self.enter(call) };
        match self.keys.push(call) {
            Some(call) => self.enter(call),
            None => self.intake.list(&origin, Stage::Keyed(key)),
        }
    }

    /// A call that may run now joins those that wait for a place, through the gate if it has to.
    #[inline]
    pub(super) fn enter(&mut self, call: Call) {
        if self.is_held(&call.origin) {
            self.hold(call);
        } else if !self.gate.is_claiming() && call.begins == 0 && !call.method.is_at_most_once() {
            self.intake.offer(call);
        } else {
            self.enter_gate(call);
        }
    }

    /// A call came again while its `first` record's is here.
    pub(super) fn repeated(&mut self, position: Position, first: Position) {
        self.inbox.count(DropCause::Duplicate);
        // The same record again, of a partition that was lost and came back meanwhile: that
        // handler's reply finishes it, not this.
        if first != position {
            self.settle(position);
        }
    }

    pub(super) fn handle_cancel(
        &mut self,
        partition: PartitionId,
        caller: InstanceId,
        id: CallId,
        now: Time,
    ) {
        let call = match self.intake.cancel(partition.service, caller, id) {
            Cancelled::Unknown => return,
            Cancelled::Running(cancel) => return self.cancels.push_back(cancel),
            Cancelled::Elsewhere(position, Stage::Keyed(key)) => {
                // Its key's others wait for the one before it, not for this.
                if let Some(call) = self.keys.cancel(position, key) {
                    self.drop_before_its_turn(*call, now);
                }
                return;
            }
            Cancelled::Elsewhere(_, Stage::Held) => {
                return self.cancels_read.remember((partition.service, caller, id));
            }
            Cancelled::Elsewhere(_, Stage::BackingOff(due)) => match self.backoff.cancel(due) {
                // It was not due, so its key does not wait for it.
                Some(call) if call.failed == 0 => return self.drop_before_its_turn(*call, now),
                call => call,
            },
            Cancelled::Elsewhere(position, _) => self.gate.cancel(position),
            Cancelled::Queued(call) => Some(call),
        };
        if let Some(call) = call {
            self.drop_waiting(&call, now);
            self.ripe |= self.pass_on(&call.origin);
        }
    }

    pub(super) fn finish_all(&mut self, positions: Cookies<Position>) {
        self.settle_all(&positions);
    }

    /// Replies that nobody will get: their callers have met their deadlines, so the calls are
    /// finished all the same, or their partitions would never go on.
    pub(super) fn give_up(&mut self, positions: Cookies<Position>) {
        self.counts.undeliverable += u64::try_from(positions.len()).unwrap_or(u64::MAX);
        self.finish_all(positions);
    }
}

#[cfg(test)]
pub(super) mod tests;
