//! A server's machine: takes records apart, admits calls, answers them, and says what may be
//! committed.
//!
//! Pure: the driver ([`super::driver`]) brings events and time, runs what
//! [`ServerMachine::poll_dispatch`] yields and sends what [`ServerMachine::poll_transmit`] yields.
//! A call is finished when its reply is *delivered*; only then may its offset be committed.
//!
//! from: records from the transport · to: [`super::intake`], [`super::ledger`], [`crate::outbox`]

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use super::{
    intake::{Arrival, Call, Cancelled, Intake, Methods, Next},
    ledger::{CommitPoint, Ledger, Opened},
};
use crate::{
    deadline::Receipt,
    ids::{CallId, InstanceId, PartitionId, Position},
    inbox::{DropCause, DropCounts, Inbox},
    metadata::Metadata,
    outbox::{Cookies, Outbox, Report, Transmit},
    time::{BrokerClock, Time},
    transport::{Delivery, Record, Rejected, Topology},
    wire::{
        frame::{Frame, Outcome},
        packet::{Route, Routes},
    },
};

/// Calls taken from Kafka and not yet finished, replies on their way included, beyond which no
/// more are taken: bounds the memory of a server whose replies do not get away.
const MAX_UNFINISHED: usize = 65_536;

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerCounts {
    /// Calls that got a place to run.
    pub executed: u64,
    /// Calls answered `DeadlineExceeded` without executing.
    pub expired: u64,
    /// Calls whose caller gave up before they were answered.
    pub cancelled: u64,
    /// Calls skipped because the committed map says that they are finished.
    pub skipped: u64,
    /// Replies that could not be delivered until their deadline.
    pub undeliverable: u64,
    /// Committed maps that could not be read.
    pub unreadable_maps: u64,
}

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
    methods: Methods,
    pub(super) owned: BTreeSet<u32>,
}

impl Served {
    /// The first route that there is. A partition beyond the topic's would fail for ever, and
    /// hold up the commit point meanwhile.
    fn way_back(&self, routes: &[Route]) -> Option<Route> {
        let exists = |route: &Route| match route {
            Route::Partition(partition) => *partition < self.topology.reply_partitions,
        };
        routes.iter().copied().find(exists)
    }
}

/// See the module. Events: `handle_*`; verbs: `finish`, `release`, `take_released`; what to do:
/// `poll_*`, `next_timeout`. `K` cancels a running handler.
#[derive(Debug)]
pub struct ServerMachine<K> {
    pub(super) services: Vec<Served>,
    pub(super) inbox: Inbox,
    pub(super) ledger: Ledger,
    pub(super) intake: Intake<K>,
    pub(super) outbox: Outbox<Position>,
    clock: BrokerClock,
    /// Grows whenever ownership changes, so that each lane announces it once more.
    pub(super) epoch: u64,
    /// Partitions on their way out, and how many waiting calls each left unexecuted.
    releasing: HashMap<PartitionId, usize>,
    /// Ending: partitions that still come are not served.
    retired: bool,
    cancels: VecDeque<K>,
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
            intake: Intake::new(limit),
            outbox: Outbox::new(me, max_packet_bytes, Routes::new()),
            clock: BrokerClock::default(),
            epoch: 0,
            releasing: HashMap::new(),
            retired: false,
            cancels: VecDeque::new(),
            counts: ServerCounts::default(),
        }
    }

    /// Partitions this server now owns, with what the group has committed.
    pub fn handle_assigned(
        &mut self,
        partitions: &[(PartitionId, Option<(i64, String)>)],
        now: Time,
    ) {
        for (partition, committed) in partitions {
            let Some(service) = self.services.get_mut(usize::from(partition.service)) else {
                continue;
            };
            self.releasing.remove(partition);
            self.inbox.reset(*partition);
            let committed = committed.as_ref().map(|(offset, map)| (*offset, map.as_str()));
            if self.ledger.assign(*partition, committed).is_err() {
                self.counts.unreadable_maps += 1;
            }
            if self.retired {
                self.releasing.insert(*partition, 0);
            } else {
                service.owned.insert(partition.partition);
            }
        }
        self.announce_everywhere(now);
    }

    /// Partitions that somebody else may own already: their calls are not finished here.
    pub fn handle_lost(&mut self, partitions: &[PartitionId], now: Time) {
        for partition in partitions {
            self.intake.forget_queued(*partition);
            self.ledger.lose(*partition);
            self.disown(*partition);
        }
        self.announce_everywhere(now);
    }

    /// A record of an owned partition. Afterwards [`ServerMachine::poll_dispatch`] until empty.
    pub fn handle_record(&mut self, record: &Record, now: Time) {
        let partition = record.partition;
        if self.releasing.contains_key(&partition) || !self.ledger.is_assigned(partition) {
            self.inbox.count(DropCause::NotOwned);
            return;
        }
        let packet = match self.inbox.open(partition, &record.payload) {
            Ok(packet) => packet,
            Err(_) => {
                // Counted by the inbox. Nothing in it can be finished, so nothing holds it up.
                self.ledger.open(partition, record.offset, 0);
                return;
            }
        };
        let opened = self.ledger.open(partition, record.offset, packet.calls());
        let caller = packet.header.sender;
        let service = self.services.get(usize::from(partition.service));
        let arrival = Arrival {
            payload: &record.payload,
            methods: service.map_or(&[], |service| service.methods),
            caller,
            route: service.and_then(|service| service.way_back(&packet.header.reply_to)),
            receipt: Receipt::new(record.appended, now, &self.clock),
        };
        let mut index = 0;
        for frame in packet.frames() {
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
                    self.admit(arrival.call(position, request), now);
                }
                Ok(Frame::Cancel(cancel)) => self.handle_cancel(partition, caller, cancel.call),
                Ok(Frame::Unknown(_)) => self.inbox.count(DropCause::UnknownKind),
                Ok(_) => self.inbox.count(DropCause::UnexpectedKind),
                Err(error) => {
                    self.inbox.count(DropCause::FrameMalformed);
                    if error.is_request() {
                        index += 1;
                        self.ledger.finish(position);
                    }
                }
            }
        }
    }

    /// A delivery report: the calls whose replies it covers are finished.
    pub fn handle_delivered(&mut self, token: u64, delivery: &Delivery<'_>, now: Time) {
        let (result, appended) = match delivery {
            Delivery::Stored { appended } => (Ok(()), *appended),
            Delivery::Failed { status, payload } => (Err((status.clone(), *payload)), None),
        };
        match self.outbox.handle_delivered(token, result, now) {
            Report::Stored { cookies, sent } => {
                if let Some(appended) = appended {
                    self.clock.observe(sent, now, appended);
                }
                self.finish_all(cookies);
            }
            Report::Failed { cookies, .. } => self.give_up(cookies),
            Report::Retried | Report::Unknown => {}
        }
    }

    /// The transport took a packet; its buffer comes back.
    pub fn handle_sent(&mut self, payload: Vec<u8>) {
        self.outbox.handle_sent(payload);
    }

    /// The transport did not take a packet.
    pub fn handle_rejected(&mut self, transmit: Transmit, rejected: Rejected, now: Time) {
        if let Some((cookies, _)) = self.outbox.handle_rejected(transmit, rejected, now) {
            self.give_up(cookies);
        }
    }

    /// Whether replies wait for a delivery report, or somebody for the replies' own.
    pub fn awaits_report(&self) -> bool {
        self.outbox.awaits_report() || self.is_releasing()
    }

    /// Time has passed: packets whose backoff is over may leave.
    pub fn handle_timeout(&mut self, now: Time) {
        self.outbox.handle_timeout(now);
    }

    /// The next call to run. Calls that became too late are answered on the way.
    /// `cancel` makes what can cancel a call, of whatever it takes out of it.
    pub fn poll_dispatch(
        &mut self,
        now: Time,
        cancel: impl Fn(&mut Call) -> K,
    ) -> Option<Dispatch<K>> {
        loop {
            match self.intake.poll_next(now, &cancel)? {
                Next::Run(place, call, cancel) => {
                    self.counts.executed += 1;
                    return Some(Dispatch { place, call, cancel });
                }
                Next::Expired(origin) => self.expire(&origin, now),
                Next::Repeated(position, first) => self.repeated(position, first),
            }
        }
    }

    /// A handler is done: its outcome goes to the caller.
    pub fn finish(&mut self, place: usize, outcome: Outcome<'_>, metadata: &Metadata, now: Time) {
        let Some(running) = self.intake.finish(place) else { return };
        if running.unwanted {
            self.counts.cancelled += 1;
            self.ledger.finish(running.origin.position);
        } else {
            self.reply(&running.origin, outcome, metadata, now);
        }
    }

    /// Partitions are to be given back: nothing more of them starts.
    pub fn release(&mut self, partitions: &[PartitionId]) {
        for partition in partitions {
            if self.ledger.is_assigned(*partition) {
                let left = self.intake.forget_queued(*partition);
                *self.releasing.entry(*partition).or_default() += left;
            }
        }
    }

    /// The server is to end: nothing more starts, and clients learn that there is no use in
    /// choosing it. Returns the partitions it owned.
    pub fn retire(&mut self, now: Time) -> Vec<PartitionId> {
        self.retired = true;
        let mut partitions = Vec::new();
        for (service, served) in (0..).zip(&mut self.services) {
            let owned = std::mem::take(&mut served.owned);
            partitions
                .extend(owned.into_iter().map(|partition| PartitionId { service, partition }));
        }
        self.release(&partitions);
        self.announce_everywhere(now);
        partitions
    }

    /// Whether partitions are on their way out.
    pub fn is_releasing(&self) -> bool {
        !self.releasing.is_empty()
    }

    /// Whether nothing of these partitions runs or waits for its reply's delivery.
    pub fn is_released(&self, partitions: &[PartitionId]) -> bool {
        partitions.iter().all(|partition| {
            let left = self.releasing.get(partition).copied().unwrap_or_default();
            self.ledger.unfinished(*partition) <= left
        })
    }

    /// Ends the release: the partitions are no longer owned, and these points are to be committed.
    pub fn take_released(&mut self, partitions: &[PartitionId], now: Time) -> Vec<CommitPoint> {
        let points = partitions.iter().filter_map(|partition| self.ledger.revoke(*partition));
        let points = points.collect();
        for partition in partitions {
            self.disown(*partition);
        }
        self.announce_everywhere(now);
        points
    }

    /// What may be committed now and was not handed out before.
    pub fn poll_commit(&mut self) -> Vec<CommitPoint> {
        self.ledger.commit_points()
    }

    /// Whether [`ServerMachine::poll_commit`] has something to say.
    pub fn has_commits(&self) -> bool {
        self.ledger.has_changes()
    }

    /// A commit failed: the point is handed out again.
    pub fn handle_commit_failed(&mut self, partition: PartitionId) {
        self.ledger.commit_failed(partition);
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        self.outbox.poll_transmit(now)
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
        self.outbox.next_timeout()
    }

    /// Whether enough was taken from Kafka for now.
    pub fn is_full(&self) -> bool {
        self.intake.is_full() || self.ledger.total_unfinished() >= MAX_UNFINISHED
    }

    /// Whether there is room for more again: later than not full, so that whoever waits for room
    /// is woken for a batch rather than for each call.
    pub fn has_room(&self) -> bool {
        self.intake.has_room() && self.ledger.total_unfinished() < MAX_UNFINISHED
    }

    /// Handlers that run, calls that wait, and how many may run.
    pub fn load(&self) -> (usize, usize, usize) {
        (self.intake.running(), self.intake.queued(), self.intake.limit())
    }

    /// Calls taken and not finished, in all partitions.
    pub fn unfinished(&self) -> usize {
        self.ledger.total_unfinished()
    }

    /// The partitions of a service that this server owns.
    pub fn owned(&self, service: u16) -> Vec<u32> {
        let service = self.services.get(usize::from(service));
        service.map(|service| service.owned.iter().copied().collect()).unwrap_or_default()
    }

    /// Counts since the start.
    pub const fn counts(&self) -> ServerCounts {
        self.counts
    }

    /// Packets sent since the start: replies share them.
    pub const fn packets(&self) -> u64 {
        self.outbox.packets()
    }

    /// Records and frames that were dropped, by cause.
    pub fn dropped(&self) -> &DropCounts {
        self.inbox.dropped()
    }

    /// Whether every packet that was sent has been reported and none waits.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_idle()
    }

    /// How far off this server may be in telling the broker's clock; `None` if it cannot at all.
    pub fn clock_uncertainty(&self, now: Time) -> Option<Duration> {
        self.clock.uncertainty(now)
    }

    fn admit(&mut self, call: Call, now: Time) {
        let origin = call.origin;
        if origin.deadline <= now {
            self.expire(&origin, now);
            return;
        }
        if let Some(first) = self.intake.offer(call) {
            self.repeated(origin.position, first);
        }
    }

    /// A call came again while its `first` record's handler runs.
    fn repeated(&mut self, position: Position, first: Position) {
        self.inbox.count(DropCause::Duplicate);
        // The same record again, of a partition that was lost and came back meanwhile: that
        // handler's reply finishes it, not this.
        if first != position {
            self.ledger.finish(position);
        }
    }

    fn handle_cancel(&mut self, partition: PartitionId, caller: InstanceId, id: CallId) {
        match self.intake.cancel(partition.service, caller, id) {
            Cancelled::Running(cancel) => self.cancels.push_back(cancel),
            Cancelled::Queued(position) => {
                self.counts.cancelled += 1;
                self.ledger.finish(position);
            }
            Cancelled::Unknown => {}
        }
    }

    fn finish_all(&mut self, positions: Cookies<Position>) {
        for position in positions {
            self.ledger.finish(position);
        }
    }

    /// Replies that nobody will get: their callers have met their deadlines, so the calls are
    /// finished all the same, or their partitions would never go on.
    pub(super) fn give_up(&mut self, positions: Cookies<Position>) {
        self.counts.undeliverable += u64::try_from(positions.len()).unwrap_or(u64::MAX);
        self.finish_all(positions);
    }

    fn disown(&mut self, partition: PartitionId) {
        self.releasing.remove(&partition);
        self.inbox.forget(partition);
        if let Some(service) = self.services.get_mut(usize::from(partition.service)) {
            service.owned.remove(&partition.partition);
        }
    }
}

#[cfg(test)]
mod tests;
