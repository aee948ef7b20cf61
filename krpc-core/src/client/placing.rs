//! How a call gets on its way: its partition, its lane, its deadline, its frame.
//!
//! Pure, a part of the machine.
//!
//! from: `request` · to: [`super::pending`], [`super::balance`], [`crate::outbox`]

use std::{borrow::Cow, time::Duration};

use super::{
    balance::Balance,
    machine::ClientMachine,
    pending::{InFlight, NO_SERVER},
};
use crate::{
    askers::AskerId,
    codec::ValueCodec,
    delay::NEAR,
    ids::{CallId, InstanceId},
    metadata::Metadata,
    murmur2,
    outbox::LaneKey,
    status::{Code, Status},
    time::Time,
    transport::{Target, Topic},
    wire::{
        QUEUED_OVERHEAD,
        coding::WireError,
        frame::{Due, Request, Terms},
        packet::Header,
    },
};

/// Whoever owns this partition of the calls keeps those that are due later.
const MOVER: u32 = 0;

/// What a call needs to start.
#[derive(Clone, Debug)]
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
    /// What its server is to keep to; plain calls have none.
    pub terms: Option<Box<Terms>>,
    /// How long it lives: then it is too late to execute it.
    pub timeout: Duration,
    /// How long its caller waits until the broker has it, if that is all the caller waits for;
    /// `None`: for the answer.
    pub receipt: Option<Duration>,
    /// Whether it must not be executed twice.
    pub at_most_once: bool,
}

impl<W> ClientMachine<W> {
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
        self.admit()?;
        let (partition, keyed, delayed) = match call.terms.as_deref() {
            None => (choose(&mut self.balance), false, false),
            Some(terms) => self.place(terms, choose, now),
        };
        let exact = keyed || call.at_most_once;
        let deadline = now + call.receipt.unwrap_or(call.timeout);
        let (on_stored, at_most_once) = (call.receipt.is_some(), call.at_most_once);
        let started =
            InFlight { partition, started: now, deadline, on_stored, exact, at_most_once, delayed };
        let id = self.pending.register(started, Some(waiter));
        let request = Request {
            call: id,
            terms: call.terms,
            path: call.path,
            budget: call.timeout,
            deadline: self.clock.to_broker(now + call.timeout),
            fingerprint: call.fingerprint,
            codec: call.codec,
            metadata: Cow::Borrowed(call.metadata),
            value: call.value,
        };
        let (lane, max) = (self.lane(started.lies_in(), exact), self.setup.max_packet_bytes);
        let pushed = self.outbox.push(lane, Some(id), deadline, |out| match on_stored || delayed {
            false => request.encode(out),
            true => encode_queued(&request, max, out),
        });
        match pushed {
            Ok(_) => {
                // Callers that are woken together often call again, one after the other: their
                // requests are to share a packet.
                if self.pending.unseen() > 0 {
                    self.outbox.cork(now);
                }
                self.gathered();
                self.receipts += usize::from(on_stored);
                Ok(id)
            }
            Err(error) => {
                self.pending.remove(id);
                self.balance.abandoned(partition, false);
                Err(unsendable(&error))
            }
        }
    }

    fn admit(&self) -> Result<(), Status> {
        if let Some(status) = &self.closed {
            return Err(status.clone());
        }
        if self.pending.len() >= self.setup.max_in_flight {
            let message = format!("{} calls are in flight, the most allowed", self.pending.len());
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        Ok(())
    }

    /// Puts a frame that is no call into another topic; it ends as a call does that waits for its
    /// receipt only.
    ///
    /// # Errors
    /// The channel is closed, too much is in flight, or the frame cannot be written.
    pub(super) fn post(
        &mut self,
        (topic, partition, destination): (Topic, u32, InstanceId),
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        wait: Duration,
        waiter: W,
        now: Time,
    ) -> Result<CallId, Status> {
        self.admit()?;
        let deadline = now + wait;
        let posted = InFlight {
            partition: NO_SERVER,
            started: now,
            deadline,
            on_stored: true,
            exact: false,
            at_most_once: false,
            delayed: false,
        };
        let id = self.pending.register(posted, Some(waiter));
        let target = Target { service: self.setup.service, topic, partition, exact: false };
        let lane = LaneKey { target, destination, asker: AskerId::NOBODY };
        match self.outbox.push(lane, Some(id), deadline, encode) {
            Ok(_) => {
                self.receipts += 1;
                Ok(id)
            }
            Err(error) => {
                self.pending.remove(id);
                Err(unsendable(&error))
            }
        }
    }

    /// Where a call on terms goes; whether it is one of a key that is kept in order there, and
    /// whether it is delayed.
    fn place(
        &mut self,
        terms: &Terms,
        choose: impl FnOnce(&mut Balance) -> u32,
        now: Time,
    ) -> (u32, bool, bool) {
        let delayed = terms.due.is_some();
        let later = |Due { due, .. }| due.saturating_since(self.clock.stamp(now)) >= NEAR;
        if terms.due.is_some_and(later) {
            // It is kept there, not executed: it says nothing of how busy that server is.
            return (NO_SERVER, false, delayed);
        }
        let Some(key) = terms.key.as_deref() else {
            return (choose(&mut self.balance), false, delayed);
        };
        // The partition of a key, whoever owns it.
        let partition = murmur2::partition(key, self.setup.topology.call_partitions);
        self.balance.take(partition);
        (partition, true, delayed)
    }

    /// When a call is due that is not to be executed before this local moment.
    #[cold]
    pub(super) fn due(&self, at: Time, now: Time) -> Due {
        let due = self.clock.latest(at, now);
        Due { due, look: due }
    }
}

impl InFlight {
    /// The partition that the call's record is in.
    pub(super) const fn lies_in(&self) -> u32 {
        match self.partition {
            NO_SERVER => MOVER,
            partition => partition,
        }
    }
}

/// A call that nobody waits for, or that is due later, may be written anew by a server, with more
/// about it than now.
fn encode_queued(request: &Request<'_>, max: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    request.encode(out)?;
    let len = Header::max_len() + (out.len() - start) + QUEUED_OVERHEAD;
    if len > max {
        return Err(WireError::TooLarge { what: "call that is to be queued", len, max });
    }
    Ok(())
}

/// The status of a call whose request cannot be written.
fn unsendable(error: &WireError) -> Status {
    Status::new(Code::InvalidArgument, format!("the request cannot be sent: {error}"))
}

#[cfg(test)]
mod tests;
