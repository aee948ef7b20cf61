//! The mover of a service: looks its delayed calls through, class by class, and sends what is due
//! to be executed.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::super::machine`], with records and time · to: [`super`], which writes calls anew

use std::{collections::BTreeMap, time::Duration};

use super::{
    MOVERS, Way,
    classes::{Classes, Read},
};
use crate::{
    deadline::Receipt,
    delay::class,
    ids::{PartitionId, Position},
    inbox::DropCause,
    murmur2,
    server::{
        cancels::has_ticket,
        incoming::{Arrival, Call},
        machine::ServerMachine,
        topics::RETRY,
    },
    time::Time,
    transport::{Record, Topic},
    wire::frame::Frame,
};

/// Calls that a mover has in memory at once because they are due soon, and their bytes.
pub(super) const MOST_NEAR: (usize, usize) = (65_536, 64 * 1024 * 1024);

/// Calls that are due together and share a partition.
const TOGETHER: usize = 256;

/// Between two looks while many calls are on their way.
const FULL: Duration = Duration::from_millis(100);

/// How soon it is asked again whether there are delayed calls.
const LATER: Duration = Duration::from_secs(30);

/// Between two looks at what was due a moment too late for the last one.
const MOMENT: Duration = Duration::from_millis(1);

/// What a mover has of its service.
#[derive(Debug)]
pub(super) struct Mover {
    pub(super) classes: Classes,
    pub(super) work: Work,
    /// By the moment on the broker's clock; the number tells those of one moment apart.
    pub(super) near: BTreeMap<(Time, u64), Box<Call>>,
    /// What those hold in memory.
    pub(super) bytes: usize,
    pushed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// There never was a delayed call.
    None,
    /// The group knows of none, or has forgotten them: it is to be found out, from this moment on.
    Unknown(Time),
    /// That is being found out.
    Asked,
    Begun,
    /// Its partition is about to go.
    Over,
}

impl Mover {
    fn near(&mut self, due: Time, call: Call) {
        self.pushed += 1;
        self.bytes += call.bytes();
        self.near.insert((due, self.pushed), Box::new(call));
    }

    /// The next call that is due by then.
    fn poll_due(&mut self, moment: Time) -> Option<Box<Call>> {
        let call = self.near.first_entry().filter(|first| first.key().0 <= moment)?.remove();
        self.bytes -= call.bytes();
        Some(call)
    }

    fn has_room(&self) -> bool {
        self.near.len() < MOST_NEAR.0 && self.bytes < MOST_NEAR.1
    }

    fn next(&self) -> Option<Time> {
        let due = self.near.first_key_value().map(|((due, _), _)| *due);
        let ripe = self.classes.next_ripe().filter(|_| self.has_room());
        due.into_iter().chain(ripe).min()
    }
}

impl<K: Clone> ServerMachine<K> {
    /// Partition 0 came: this server is its service's mover.
    pub(in crate::server) fn handle_mover(
        &mut self,
        partition: PartitionId,
        held: &[i64],
        now: Time,
    ) {
        if partition.partition != MOVERS {
            return;
        }
        self.dismiss_mover(partition);
        let service = partition.service;
        Classes::partitions(service).for_each(|held| self.inbox.reset(held));
        let classes = Classes::new(service, held);
        let mover =
            Mover { classes, work: Work::Unknown(now), near: BTreeMap::new(), bytes: 0, pushed: 0 };
        self.delays.movers.insert(service, mover);
        if held.is_empty() {
            self.look_through(service, now);
        } else {
            self.use_delays(service, now);
        }
    }

    /// Partition 0 is gone.
    pub(in crate::server) fn dismiss_mover(&mut self, partition: PartitionId) {
        if partition.partition != MOVERS {
            return;
        }
        if let Some(mut mover) = self.delays.movers.remove(&partition.service) {
            mover.classes.end();
            self.delays.reads.extend(std::iter::from_fn(|| mover.classes.poll_read()));
            Classes::partitions(partition.service).for_each(|held| self.inbox.forget(held));
        }
    }

    /// What is to be read of the delayed calls from now on;
    /// [`ServerMachine::handle_reading`] says how that went.
    pub fn poll_read(&mut self) -> Option<Read> {
        self.delays.poll_read()
    }

    /// Whether [`poll_read`](Self::poll_read) has something to say.
    pub fn has_reads(&self) -> bool {
        self.delays.has_reads()
    }

    /// Whether a service's topic of delayed calls is there, if that could be found out.
    pub fn handle_found(&mut self, service: u16, found: Option<bool>, now: Time) {
        match (self.delays.mover(service), found) {
            (Some(mover), Some(found)) if mover.work == Work::Asked => {
                mover.work = Work::None;
                if found {
                    self.use_delays(service, now);
                }
            }
            (Some(mover), None) if mover.work == Work::Asked => {
                mover.work = Work::Unknown(now + LATER);
                self.delays.look_at(now + LATER);
            }
            _ => {}
        }
    }

    /// A class is read now, from the oldest to before the next of these offsets on; or not.
    pub fn handle_reading(
        &mut self,
        service: u16,
        class: u32,
        bounds: Option<(i64, i64)>,
        now: Time,
    ) {
        let Some(mover) = self.delays.movers.get_mut(&service) else {
            if bounds.is_some() {
                self.delays.reads.push_back(Read::End(service, class));
            }
            return;
        };
        let changed = mover.classes.begun(class, bounds);
        if mover.classes.is_ended(class) {
            self.delays.look_at(now + RETRY);
        }
        if changed {
            self.note_held(service);
        }
    }

    /// A record of delayed calls.
    pub fn handle_delayed(&mut self, record: &Record, now: Time) {
        let PartitionId { service, partition: class } = record.partition;
        let Some(mover) = self.delays.movers.get_mut(&service) else { return };
        if !mover.classes.accepts(class, record.offset) {
            return;
        }
        let partition = PartitionId::held(service, class);
        let (calls, count) = self.open_delayed(partition, record, now);
        self.take_delayed(record, count, calls, now);
    }

    /// A record of delayed calls that must not be read; whether it was one to be read now.
    pub(in crate::server) fn pass_delayed(&mut self, record: &Record, now: Time) -> bool {
        let PartitionId { service, partition: class } = record.partition;
        let mover = self.delays.movers.get_mut(&service);
        let expected = mover.is_some_and(|it| it.classes.accepts(class, record.offset));
        if expected {
            self.take_delayed(record, 0, Vec::new(), now);
        }
        expected
    }

    fn take_delayed(&mut self, record: &Record, count: u32, calls: Vec<Call>, now: Time) {
        let PartitionId { service, partition: class } = record.partition;
        let Some(mover) = self.delays.movers.get_mut(&service) else { return };
        mover.classes.take(class, record.offset, count, calls);
        let next = mover.next();
        self.note_held(service);
        self.look_when(next, now);
    }

    /// The calls of a record of delayed calls that are to be looked at, and how many it has.
    fn open_delayed(
        &mut self,
        partition: PartitionId,
        record: &Record,
        now: Time,
    ) -> (Vec<Call>, u32) {
        let mut calls = Vec::new();
        let Ok(packet) = self.inbox.open(partition, &record.payload) else { return (calls, 0) };
        let asker = self.outbox.askers.handle_proof(&record.proof);
        if !self.may_move(asker) {
            // It is for servers to write here.
            self.inbox.count(DropCause::UnexpectedKind);
            return (calls, packet.calls());
        }
        let Some(served) = self.services.get(usize::from(partition.service)) else {
            return (calls, 0);
        };
        let arrival = Arrival {
            payload: &record.payload,
            methods: served.methods,
            topology: served.topology,
            caller: packet.header.sender,
            asker,
            route: None,
            receipt: Receipt::new(record.appended, now, &self.clock),
            careful: false,
            fence: 0,
        };
        let mut index = 0;
        for frame in packet.frames() {
            match frame {
                Ok(Frame::Request(request)) => {
                    let position = Position { partition, offset: record.offset, index };
                    index += 1;
                    let mut call = arrival.call(position, request, || &[]);
                    if call.due().is_none() {
                        // Nobody of us writes that.
                        self.inbox.count(DropCause::UnexpectedKind);
                        continue;
                    }
                    call.frame = None;
                    call.detach();
                    calls.push(call);
                }
                Ok(_) => self.inbox.count(DropCause::UnexpectedKind),
                Err(error) => {
                    self.inbox.count(DropCause::FrameMalformed);
                    index += u32::from(error.is_request());
                }
            }
        }
        // Whom its answer is for, should it end here.
        let before = calls.len();
        calls.retain_mut(|call| self.identify(call));
        (calls.len()..before).for_each(|_| self.inbox.count(DropCause::UnexpectedKind));
        (calls, index)
    }

    /// A call of a class is moved, or ended otherwise.
    #[cold]
    pub(in crate::server) fn settle_held(&mut self, class: u32, position: Position) {
        let service = position.partition.service;
        if let Some(mover) = self.delays.movers.get_mut(&service) {
            mover.classes.finish(class, position);
            self.note_held(service);
        }
    }

    /// What waited for the cancels may go on.
    pub(in crate::server) fn look_at_delays(&mut self, now: Time) {
        if !self.delays.movers.is_empty() {
            self.delays.look_at(now);
        }
        if !self.delays.waiting.is_empty() {
            self.delays.try_again(now);
        }
    }

    pub(super) fn look_through(&mut self, service: u16, now: Time) {
        match self.delays.mover(service).map(|mover| mover.work) {
            Some(Work::Begun) => {}
            Some(Work::Unknown(at)) => return self.find_out(service, at, now),
            None | Some(Work::None | Work::Asked | Work::Over) => return,
        }
        self.use_delays(service, now);
        let moment = self.clock.earliest(now);
        // As long as that is not so, what is ripe stays where it is.
        let knows = self.knows_cancels(service, now);
        while knows && !self.delays.is_full() {
            let mover = self.delays.mover(service);
            let Some(mover) = mover.filter(|it| it.has_room()) else { break };
            let Some(calls) = mover.classes.poll_ripe(moment) else { break };
            calls.into_iter().for_each(|call| self.look_at_held(call, now));
        }
        self.send_due(service, moment, now);
        if !knows {
            return self.delays.look_at(now + RETRY);
        }
        if self.delays.is_full() {
            return self.delays.look_at(now + FULL);
        }
        let Some(mover) = self.delays.mover(service) else { return };
        if self.topics.has(service, Topic::Delayed, 0) {
            mover.classes.read_on();
        }
        let next = mover.next();
        self.look_when(next, now);
    }

    /// Whether there are delayed calls at all is asked, if it is time for that.
    fn find_out(&mut self, service: u16, at: Time, now: Time) {
        if now < at {
            return self.delays.look_at(at);
        }
        if let Some(mover) = self.delays.mover(service) {
            mover.work = Work::Asked;
            self.delays.reads.push_back(Read::Find(service));
        }
    }

    /// A call of a class is looked at.
    pub(super) fn look_at_held(&mut self, call: Call, now: Time) {
        let origin = call.origin;
        let service = origin.position.partition.service;
        let left = self.until_due(&call, now).unwrap_or_default();
        match class(left) {
            _ if self.is_over(&call, now) => self.end_held(call, now),
            Some(class) => self.move_on(now, Box::new(call), Way::Held(class), now),
            None => {
                if let (Some(mover), Some(due)) = (self.delays.mover(service), call.due()) {
                    mover.near(due, call);
                    self.delays.look_at(now + left);
                }
            }
        }
    }

    /// What is due goes to the calls: together where it is due together, and in turns.
    fn send_due(&mut self, service: u16, moment: Time, now: Time) {
        let Some(served) = self.services.get(usize::from(service)) else { return };
        let partitions = served.topology.call_partitions.max(1);
        let mut sent = 0;
        loop {
            let Some(mover) = self.delays.mover(service) else { return };
            let Some(call) = mover.poll_due(moment) else { break };
            if self.is_over(&call, now) {
                self.end_held(*call, now);
                continue;
            }
            if sent % TOGETHER == 0 {
                self.delays.turn = self.delays.turn.wrapping_add(1);
            }
            sent += 1;
            let partition = match call.key() {
                Some(key) => murmur2::partition(key, partitions),
                None => self.delays.turn % partitions,
            };
            self.move_on(now, call, Way::Due(partition), now);
        }
    }

    /// Whether nobody wants the call any more.
    fn is_over(&self, call: &Call, now: Time) -> bool {
        call.origin.deadline <= now || self.is_given(&call.origin)
    }

    /// Ends a call of a class that nobody wants any more. Who holds a ticket is told, once the
    /// topic for that is open.
    fn end_held(&mut self, call: Call, now: Time) {
        let origin = call.origin;
        let service = origin.position.partition.service;
        if has_ticket(&origin) && self.topics.open(service, Topic::Results, now) == Err(false) {
            return self.delays.wait(now, Box::new(call), now);
        }
        if origin.deadline <= now {
            return self.expire(&origin, now);
        }
        self.counts.cancelled += 1;
        self.unwanted(&origin, now);
    }

    /// There are delayed calls of this service: how far they were looked through is committed from
    /// now on, and they are read.
    pub(super) fn use_delays(&mut self, service: u16, now: Time) {
        let open = self.topics.open(service, Topic::Delayed, now).is_ok();
        // Its cancels will have been read when the first one is ripe.
        self.knows_cancels(service, now);
        let Some(mover) = self.delays.mover(service) else { return };
        mover.work = Work::Begun;
        if open {
            mover.classes.read_on();
        } else {
            self.delays.look_at(now + RETRY);
        }
        self.note_held(service);
    }

    /// What the next commit is to say of the classes.
    fn note_held(&mut self, service: u16) {
        if let Some(mover) = self.delays.movers.get(&service) {
            self.ledger.hold(PartitionId { service, partition: MOVERS }, mover.classes.held());
        }
    }

    /// Looks at what comes next when that is, by the broker's clock.
    fn look_when(&mut self, next: Option<Time>, now: Time) {
        let Some(next) = next else { return };
        let left = next.saturating_since(self.clock.earliest(now));
        self.delays.look_at(now + if left.is_zero() { left } else { left.max(MOMENT) });
    }
}
