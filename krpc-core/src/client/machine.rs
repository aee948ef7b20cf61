//! A client's machine for one service: registers calls, fills lanes, ends calls.
//!
//! Pure: the driver ([`super::channel`]) brings events, time and waiters, and takes away what is
//! to be sent ([`ClientMachine::poll_transmit`]) and whom to wake ([`ClientMachine::poll_wake`]).
//!
//! from: [`super::call`], and records from the transport
//! to: [`crate::outbox`], [`super::pending`]

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use bytes::Bytes;
use smallvec::smallvec;

use super::{
    balance::Balance,
    pending::{Completion, Ending, InFlight, Pending},
};
use crate::{
    codec::ValueCodec,
    ids::{CallId, InstanceId},
    inbox::{DropCause, DropCounts, Inbox},
    metadata::Metadata,
    outbox::{Cookies, LaneKey, Outbox, Report, Transmit},
    status::{Code, Status},
    time::{BrokerClock, Time},
    transport::{Delivery, Record, Rejected, Target, Topic, Topology},
    wire::{
        coding::WireError,
        frame::{Cancel, Frame, Outcome, Reply, Request},
        packet::Route,
    },
};

/// What a call needs to start.
#[derive(Clone, Copy, Debug)]
pub struct StartCall<'a> {
    /// `service/method`.
    pub path: &'a str,
    /// The fingerprint of the method's signature.
    pub fingerprint: u32,
    /// How `value` is encoded.
    pub codec: ValueCodec,
    /// The caller's metadata.
    pub metadata: &'a Metadata,
    /// The arguments, encoded.
    pub value: &'a [u8],
    /// How long the caller waits.
    pub timeout: Duration,
}

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
/// `close`; what to do: `poll_*`, `next_timeout`.
#[derive(Debug)]
pub struct ClientMachine<W> {
    setup: ClientSetup,
    outbox: Outbox<CallId>,
    inbox: Inbox,
    pending: Pending<W>,
    balance: Balance,
    clock: BrokerClock,
    wake: VecDeque<W>,
    closed: Option<Status>,
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
            wake: VecDeque::new(),
            closed: None,
            setup,
        }
    }

    /// Puts a packet without frames on its way, whose delivery report teaches the distance to the
    /// broker's clock.
    pub fn greet(&mut self, now: Time) {
        // Spread over partitions, as are the clients.
        let partitions = u64::from(self.setup.topology.call_partitions.max(1));
        let partition = u32::try_from(self.setup.seed % partitions).unwrap_or_default();
        // It is lost rather than repeated: the driver says it again.
        let _ = self.outbox.push(self.lane(partition), None, now, |_| Ok(()));
    }

    /// Registers a call and puts its request into a lane.
    ///
    /// # Errors
    /// The channel is closed, too many calls are in flight, or the request is too large. Nothing
    /// was sent then.
    pub fn start(&mut self, call: StartCall<'_>, waiter: W, now: Time) -> Result<CallId, Status> {
        self.start_at(call, waiter, now, Balance::choose)
    }

    /// The same for a call that was started once and waits: to another server, if there is one.
    ///
    /// # Errors
    /// As [`ClientMachine::start`].
    pub fn start_beside(
        &mut self,
        first: CallId,
        call: StartCall<'_>,
        waiter: W,
        now: Time,
    ) -> Result<CallId, Status> {
        match self.pending.get(first) {
            Some(InFlight { partition, .. }) => {
                self.start_at(call, waiter, now, |balance| balance.choose_other(partition))
            }
            None => self.start(call, waiter, now),
        }
    }

    fn start_at(
        &mut self,
        call: StartCall<'_>,
        waiter: W,
        now: Time,
        choose: impl FnOnce(&mut Balance) -> u32,
    ) -> Result<CallId, Status> {
        if let Some(status) = &self.closed {
            return Err(status.clone());
        }
        if self.pending.len() >= self.setup.max_in_flight {
            let message = format!("{} calls are in flight, the most allowed", self.pending.len());
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        let partition = choose(&mut self.balance);
        let deadline = now + call.timeout;
        let id =
            self.pending.register(InFlight { partition, started: now, deadline }, Some(waiter));
        let request = Request {
            call: id,
            terms: None,
            path: call.path,
            budget: call.timeout,
            deadline: self.clock.to_broker(deadline),
            fingerprint: call.fingerprint,
            codec: call.codec,
            metadata: Cow::Borrowed(call.metadata),
            value: call.value,
        };
        let lane = self.lane(partition);
        match self.outbox.push(lane, Some(id), deadline, |out| request.encode(out)) {
            Ok(_) => {
                // Callers that are woken together often call again, one after the other: their
                // requests are to share a packet.
                if self.pending.unseen() > 0 {
                    self.outbox.cork(now);
                }
                self.gathered();
                Ok(id)
            }
            Err(error) => {
                self.pending.remove(id);
                self.balance.abandoned(partition, false);
                Err(unsendable(&error))
            }
        }
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

    /// The caller is gone. If the call still waits, its server is told. Returns the waiter, whose
    /// drop may run anything, and so is not for a lock.
    pub fn cancel(&mut self, id: CallId) -> Option<W> {
        let call = self.pending.remove(id);
        self.gathered();
        let (call, waiter) = call?;
        self.balance.abandoned(call.partition, false);
        let lane = self.lane(call.partition);
        let cancel = Cancel { call: id };
        // A cancel is a favour to the server; a lane that refuses it loses nothing.
        let _ = self.outbox.push(lane, None, call.deadline, |out| cancel.encode(out));
        waiter
    }

    /// From here on new calls are refused with this status.
    pub fn refuse(&mut self, status: Status) {
        self.closed = Some(status);
    }

    /// Ends every waiting call with this status.
    pub fn close(&mut self, status: &Status, now: Time) {
        for id in self.pending.waiting() {
            self.end(id, status.clone(), now);
        }
    }

    /// A record of the reply partition.
    pub fn handle_record(&mut self, record: &Record, now: Time) {
        let Ok(packet) = self.inbox.open(record.partition, &record.payload) else { return };
        let (sender, broadcast) = (packet.header.sender, packet.broadcast);
        // First, or the waiting for earlier callers would end that for those of this record.
        self.outbox.cork_is_over(now);
        self.pending.begin_batch();
        for frame in packet.frames() {
            match frame {
                Ok(Frame::Reply(_)) if broadcast => self.inbox.count(DropCause::MisroutedReply),
                Ok(Frame::Reply(reply)) => self.handle_reply(reply, sender, &record.payload, now),
                Ok(Frame::Announce(announce)) => self.balance.handle_announce(sender, &announce),
                Ok(Frame::Unknown(_)) => self.inbox.count(DropCause::UnknownKind),
                Ok(_) => self.inbox.count(DropCause::UnexpectedKind),
                Err(_) => self.inbox.count(DropCause::FrameMalformed),
            }
        }
    }

    /// A delivery report.
    pub fn handle_delivered(&mut self, token: u64, delivery: &Delivery<'_>, now: Time) {
        let (result, appended) = match delivery {
            Delivery::Stored { appended, .. } => (Ok(()), *appended),
            Delivery::Failed { status, payload } => (Err((status.clone(), *payload)), None),
        };
        match self.outbox.handle_delivered(token, result, now) {
            Report::Stored { sent, .. } => {
                if let Some(appended) = appended {
                    self.clock.observe(sent, now, appended);
                }
            }
            Report::Failed { cookies, status } => self.fail(cookies, &status, now),
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
            self.fail(cookies, &status, now);
        }
    }

    /// Time has passed: expired calls end.
    pub fn handle_timeout(&mut self, now: Time) {
        self.wait_no_longer(now);
        self.outbox.handle_timeout(now);
        while let Some(id) = self.pending.poll_expired(now) {
            let message = "the deadline passed before a reply came";
            if let Some(call) = self.end(id, Status::new(Code::DeadlineExceeded, message), now) {
                self.balance.abandoned(call.partition, true);
            }
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        self.wait_no_longer(now);
        self.outbox.poll_transmit(now)
    }

    /// Whether requests wait for a delivery report.
    pub fn awaits_report(&self) -> bool {
        self.outbox.awaits_report()
    }

    /// The next waiter to wake, after the lock is released.
    pub fn poll_wake(&mut self) -> Option<W> {
        self.wake.pop_front()
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
    fn gathered(&mut self) {
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
        let Some(call) = self.pending.get(reply.call) else {
            self.inbox.count(DropCause::UnknownCall);
            return;
        };
        let ending = match reply.outcome {
            Outcome::Ok { codec, value } => Ending::Ok(codec, payload.slice_ref(value)),
            Outcome::App { codec, value } => Ending::App(codec, payload.slice_ref(value)),
            Outcome::Status(status) => Ending::Status(status),
        };
        let completion = Completion {
            ending,
            elapsed: now.saturating_since(call.started),
            server_elapsed: reply.server_elapsed,
            flight_request: reply.flight_request,
            server,
            metadata: reply.metadata.into_owned(),
        };
        if let Some((call, waiter)) = self.pending.complete(reply.call, completion) {
            self.balance.finished(call.partition, Some(server));
            self.wake.extend(waiter);
        }
    }

    fn fail(&mut self, calls: Cookies<CallId>, status: &Status, now: Time) {
        for id in calls {
            if let Some(call) = self.end(id, status.clone(), now) {
                self.balance.abandoned(call.partition, false);
            }
        }
    }

    fn end(&mut self, id: CallId, status: Status, now: Time) -> Option<InFlight> {
        let call = self.pending.get(id)?;
        let elapsed = now.saturating_since(call.started);
        let (call, waiter) = self.pending.complete(id, Completion::local(status, elapsed))?;
        self.wake.extend(waiter);
        Some(call)
    }

    const fn lane(&self, partition: u32) -> LaneKey {
        let (service, topic) = (self.setup.service, Topic::Calls);
        let target = Target { service, topic, partition, exact: false };
        LaneKey { target, destination: InstanceId::ANY }
    }
}

/// The status of a call whose request cannot be written.
fn unsendable(error: &WireError) -> Status {
    Status::new(Code::InvalidArgument, format!("the request cannot be sent: {error}"))
}

#[cfg(test)]
mod tests;
