//! A client's machine for one service: registers calls, fills lanes, ends calls.
//!
//! Pure: the driver ([`super::channel`]) brings events, time and waiters, and takes away what is
//! to be sent ([`ClientMachine::poll_transmit`]) and whom to wake ([`ClientMachine::take_wakes`]).
//!
//! from: [`super::call`], and records from the transport
//! to: [`crate::outbox`], [`super::pending`]

use std::time::Duration;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::{
    balance::Balance,
    pending::{Completion, Ending, InFlight, Pending, Place},
    refused::Hint,
};
use crate::{
    askers::AskerId,
    ids::{CallId, InstanceId},
    inbox::{DropCause, DropCounts, Inbox},
    outbox::{Cookies, LaneKey, Outbox, Report, Transmit},
    sealing::Sealer,
    status::Status,
    time::{BrokerClock, Time},
    transport::{Delivery, Record, Rejected, Target, Topic, Topology},
    wire::{
        frame::{Cancel, Frame, Outcome, Reply},
        packet::Route,
    },
};

/// What a machine is made with.
#[derive(Clone, Copy, Debug)]
pub struct ClientSetup {
    /// The client's instance.
    pub me: InstanceId,
    /// The service's index within the channel.
    pub service: u16,
    /// The service's topics.
    pub topology: Topology,
    /// The reply partition that this client reads.
    pub reply_partition: u32,
    /// The largest packet, in bytes.
    pub max_packet_bytes: usize,
    /// Calls in flight at once, at most.
    pub max_in_flight: usize,
    /// Any number, different for each client: spreads clients over partitions.
    pub seed: u64,
}

/// See the module. Events: `handle_*`; verbs: `start`, `start_beside`, `poll_call`, `cancel`,
/// `close`; what to do: `poll_*`, `take_wakes`, `next_timeout`.
#[derive(Debug)]
pub struct ClientMachine<W> {
    pub(super) setup: ClientSetup,
    pub(super) outbox: Outbox<CallId>,
    pub(super) inbox: Inbox,
    pub(super) pending: Pending<W>,
    pub(super) balance: Balance,
    pub(super) clock: BrokerClock,
    /// A call alone needs no list.
    wake: SmallVec<[W; 1]>,
    pub(super) closed: Option<Status>,
    /// Calls that end when they are stored: nearly always none, and then reports end nothing.
    pub(super) receipts: usize,
    /// What is known of packets that cannot be opened.
    pub(super) hint: Option<Hint>,
}

impl<W> ClientMachine<W> {
    /// A machine with nothing in flight.
    pub fn new(setup: ClientSetup) -> Self {
        let reply_to = smallvec![Route::Partition(setup.reply_partition)];
        Self {
            outbox: Outbox::new(setup.me, setup.max_packet_bytes, reply_to),
            inbox: Inbox::new(setup.me),
            pending: Pending::default(),
            balance: Balance::new(setup.topology.call_partitions, setup.seed),
            clock: BrokerClock::default(),
            wake: SmallVec::new(),
            closed: None,
            receipts: 0,
            hint: None,
            setup,
        }
    }

    /// The same client, whose packets are sealed.
    #[must_use]
    pub fn with_sealer(mut self, sealer: Option<Sealer>) -> Self {
        if let Some(sealer) = sealer {
            self.setup.max_packet_bytes -= sealer.overhead().min(self.setup.max_packet_bytes);
            self.outbox.seal_with(sealer);
        }
        self
    }

    /// Puts a packet without frames on its way, whose delivery report teaches the distance to the
    /// broker's clock.
    pub fn greet(&mut self, now: Time) {
        // Spread over partitions, as are the clients.
        let partitions = u64::from(self.setup.topology.call_partitions.max(1));
        let partition = u32::try_from(self.setup.seed % partitions).unwrap_or_default();
        // It is lost rather than repeated: the driver says it again.
        let _ = self.outbox.push(self.lane(partition, false), None, now, |_| Ok(()));
    }

    /// The end of a call, once.
    pub fn poll_call(&mut self, id: CallId, waiter: &W) -> Option<Completion>
    where
        W: Clone,
    {
        // If it was the last of those that were woken together, requests still wait for it: it
        // may be about to call again, and if it is not, the next call or the alarm sends them.
        self.pending.poll(id, waiter)
    }

    /// The caller is gone. If the call still waits for its answer, its server is told; one that
    /// ends when it is stored goes on. Returns the waiter, whose drop may run anything, and so is
    /// not for a lock.
    pub fn cancel(&mut self, id: CallId) -> Option<W> {
        let call = self.pending.remove(id);
        self.gathered();
        let (call, waiter) = call?;
        self.balance.abandoned(call.partition, false);
        if call.on_stored {
            self.receipts -= 1;
            return waiter;
        }
        let lane = self.lane(call.lies_in(), call.exact);
        let cancel = Cancel { call: id };
        // A cancel is a favour to the server; a lane that refuses it loses nothing.
        let _ = self.outbox.push(lane, None, call.deadline, |out| cancel.encode(out));
        waiter
    }

    /// Whether the call waits for its answer and may be elsewhere than where it was sent: the
    /// cancel that follows it does not reach it there.
    pub fn is_delayed(&mut self, id: CallId) -> bool {
        self.pending.get(id).is_some_and(|call| call.delayed && !call.on_stored)
    }

    /// From here on new calls are refused with this status.
    pub fn refuse(&mut self, status: Status) {
        self.closed = Some(status);
    }

    /// Ends every waiting call with this status. It is said of none that it may be made again if
    /// it must not be executed twice: it may be stored, or run, as it is.
    pub fn close(&mut self, status: &Status, now: Time) {
        for id in self.pending.waiting() {
            let Some(call) = self.pending.get(id) else { continue };
            self.end(id, ended_with(call, status, status.is_retryable()), now);
        }
    }

    /// A record of the reply partition.
    pub fn handle_record(&mut self, record: &Record, now: Time) {
        let packet = match self.inbox.open(record.partition, &record.payload) {
            Ok(packet) => packet,
            Err(cause) => return self.suspect(&record.payload, cause, now),
        };
        let (sender, broadcast) = (packet.header.sender, packet.broadcast);
        // First, or the waiting for earlier callers would end that for those of this record.
        self.outbox.cork_is_over(now);
        self.pending.begin_batch();
        for frame in packet.frames() {
            match frame {
                Ok(Frame::Reply(_)) if broadcast => self.inbox.count(DropCause::MisroutedReply),
                Ok(Frame::Reply(reply)) => self.handle_reply(reply, sender, &record.payload, now),
                Ok(Frame::Announce(announce)) => self.balance.handle_announce(sender, &announce),
                Ok(Frame::Refused(refused)) if !broadcast => self.told(refused, now),
                Ok(Frame::Unknown(_)) => self.inbox.count(DropCause::UnknownKind),
                Ok(_) => self.inbox.count(DropCause::UnexpectedKind),
                Err(_) => self.inbox.count(DropCause::FrameMalformed),
            }
        }
    }

    /// A delivery report.
    pub fn handle_delivered(&mut self, token: u64, delivery: &Delivery<'_>, now: Time) {
        let (result, appended, offset) = match delivery {
            Delivery::Stored { appended, offset } => (Ok(()), *appended, *offset),
            Delivery::Failed { status, payload } => (Err((status.clone(), *payload)), None, None),
        };
        match self.outbox.handle_delivered(token, result, now) {
            Report::Stored { sent, cookies } => {
                if let Some(appended) = appended {
                    self.clock.observe(sent, now, appended);
                }
                if self.receipts > 0 {
                    self.stored(&cookies, offset, now);
                }
            }
            Report::Failed { cookies, status } => {
                // What may pass may have passed too late: the record may lie there.
                self.fail(cookies, &status, status.is_retryable(), now);
            }
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
            self.fail(cookies, &status, false, now);
        }
    }

    /// Time has passed: expired calls end.
    pub fn handle_timeout(&mut self, now: Time) {
        self.wait_no_longer(now);
        self.outbox.handle_timeout(now);
        while let Some(id) = self.pending.poll_expired(now) {
            let Some(call) = self.pending.get(id) else { continue };
            self.end(id, self.overdue(call), now);
            // Of a call that nobody was to answer this says nothing of its server.
            self.balance.abandoned(call.partition, !call.on_stored);
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        self.wait_no_longer(now);
        loop {
            let mut transmit = self.outbox.poll_transmit(now)?;
            match self.outbox.seal(&mut transmit, &self.clock, now) {
                Ok(()) => return Some(transmit),
                Err(status) => self.handle_rejected(transmit, Rejected::Failed(status), now),
            }
        }
    }

    /// Whether requests wait for a delivery report.
    pub fn awaits_report(&self) -> bool {
        self.outbox.awaits_report()
    }

    /// Whom to wake, in this order, after the lock is released.
    pub fn take_wakes(&mut self) -> SmallVec<[W; 1]> {
        std::mem::take(&mut self.wake)
    }

    /// When [`ClientMachine::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Time> {
        self.pending.next_deadline().into_iter().chain(self.outbox.next_timeout()).min()
    }

    /// Calls that wait for an end.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Table entries in use: waiting calls and ends that nobody has looked at.
    pub fn occupied(&self) -> usize {
        self.pending.occupied()
    }

    /// Whether every packet that was sent has been reported and none waits.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_idle()
    }

    /// How far off the distance to the broker's clock may be; `None` before it is known.
    pub fn clock_uncertainty(&self, now: Time) -> Option<Duration> {
        self.clock.uncertainty(now)
    }

    /// The local moment of a stamp of the broker's clock, such as that at which a call is due.
    pub(super) fn local_time(&self, stamp: Time, now: Time) -> Time {
        self.clock.unstamp(stamp, now)
    }

    /// A moment on the broker's clock; on this one's as long as that is not known.
    pub fn broker_time(&self, at: Time) -> Time {
        self.clock.to_broker(at).unwrap_or(at)
    }

    /// Packets sent since the start: calls share them.
    pub const fn packets(&self) -> u64 {
        self.outbox.packets()
    }

    /// Records and frames that were dropped, by cause.
    pub fn dropped(&self) -> &DropCounts {
        self.inbox.dropped()
    }

    /// What is known of the servers.
    pub fn balance(&self) -> &Balance {
        &self.balance
    }

    /// Nobody may be left to wait for.
    pub(super) fn gathered(&mut self) {
        if self.pending.unseen() == 0 {
            self.outbox.uncork();
        }
    }

    /// Whoever was waited for in vain is not waited for again.
    fn wait_no_longer(&mut self, now: Time) {
        if self.outbox.cork_is_over(now) {
            self.pending.begin_batch();
        }
    }

    fn handle_reply(&mut self, reply: Reply<'_>, server: InstanceId, payload: &Bytes, now: Time) {
        let answered = self.pending.complete(reply.call, |call| {
            let ending = match reply.outcome {
                _ if call.on_stored => return None,
                Outcome::Ok { codec, value } => Ending::Ok(codec, payload.slice_ref(value)),
                Outcome::App { codec, value } => Ending::App(codec, payload.slice_ref(value)),
                Outcome::Status(status) => Ending::Status(Box::new(status)),
            };
            Some(Completion {
                ending,
                elapsed: now.micros_since(call.started),
                server_elapsed: reply.server_elapsed,
                flight_request: reply.flight_request,
                server,
                metadata: reply.metadata.into_owned(),
            })
        });
        match answered {
            Some((call, waiter)) => {
                self.balance.finished(call.partition, Some(server));
                if let Some(waiter) = waiter {
                    self.wake.push(waiter);
                }
            }
            None => self.inbox.count(DropCause::UnknownCall),
        }
    }

    /// These calls are in one record, in this order, at this offset.
    fn stored(&mut self, calls: &[CallId], offset: Option<i64>, now: Time) {
        // As with replies: who is woken here often calls again.
        self.outbox.cork_is_over(now);
        self.pending.begin_batch();
        for (index, id) in (0..).zip(calls) {
            let Some(call) = self.pending.get(*id).filter(|call| call.on_stored) else { continue };
            let place = Place { partition: call.lies_in(), offset, index };
            let elapsed = now.micros_since(call.started);
            let stored = Completion::local(Ending::Stored(place), elapsed);
            self.finish(*id, Completion { flight_request: elapsed, ..stored });
            self.balance.abandoned(call.partition, false);
        }
    }

    /// A packet did not get through, as far as is known; `perhaps` it did all the same.
    fn fail(&mut self, calls: Cookies<CallId>, status: &Status, perhaps: bool, now: Time) {
        for id in calls {
            let Some(call) = self.pending.get(id) else { continue };
            self.end(id, ended_with(call, status, perhaps), now);
            self.balance.abandoned(call.partition, false);
        }
    }

    fn end(&mut self, id: CallId, status: Status, now: Time) {
        let Some(call) = self.pending.get(id) else { return };
        self.finish(id, Completion::failed(status, now.micros_since(call.started)));
    }

    /// Ends a call from this side.
    fn finish(&mut self, id: CallId, completion: Completion) {
        let Some((call, waiter)) = self.pending.complete(id, |_| Some(completion)) else { return };
        self.receipts -= usize::from(call.on_stored);
        self.wake.extend(waiter);
    }

    /// Calls with and without exactness do not share packets, and may overtake each other.
    pub(super) const fn lane(&self, partition: u32, exact: bool) -> LaneKey {
        let (service, topic) = (self.setup.service, Topic::Calls);
        let target = Target { service, topic, partition, exact };
        LaneKey { target, destination: InstanceId::ANY, asker: AskerId::NOBODY }
    }
}

/// What a call ends with that failed on this side; `perhaps` the broker has it all the same.
fn ended_with(call: InFlight, status: &Status, perhaps: bool) -> Status {
    match call.at_most_once && perhaps {
        false => status.clone(),
        true => Status::outcome_unknown(format!("the call may be stored: {status}")),
    }
}

#[cfg(test)]
mod tests;
