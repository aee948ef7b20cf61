//! What a server's machine sends: replies to callers, and news of itself.
//!
//! from: [`super::machine`] · to: [`crate::outbox`]

use std::{borrow::Cow, time::Duration};

use smallvec::smallvec;

use super::{
    incoming::{Call, Origin},
    machine::ServerMachine,
};
use crate::{
    askers::AskerId,
    ids::InstanceId,
    metadata::Metadata,
    outbox::{LaneKey, Transmit},
    status::{Code, Status},
    time::Time,
    transport::{Rejected, Target, Topic, Transmitter},
    wire::{
        frame::{Announce, Outcome, Progress, Reply},
        packet::Route,
    },
};

/// How often a lane of replies carries news of this server's load.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(100);

/// How long the news of a call that begins is tried to be sent.
const NEWS: Duration = Duration::from_secs(10);

/// How long an answer that is fetched with a ticket is tried to be sent, at least: whoever fetches
/// it waits for it past the call's deadline, and there is no other.
const RESULTS: Duration = Duration::from_secs(60);

impl<K: Clone> ServerMachine<K> {
    /// Puts a word of this server's partitions and load on every reply partition. The first one,
    /// before any partition is owned, teaches this server the distance to the broker's clock.
    pub fn announce_everywhere(&mut self, now: Time) {
        self.epoch += 1;
        for service in 0..u16::try_from(self.services.len()).unwrap_or(u16::MAX) {
            for partition in 0..self.services[usize::from(service)].topology.reply_partitions {
                let lane = reply_lane(service, partition, InstanceId::ANY);
                self.announce(lane, now);
            }
        }
    }

    /// Answers a call that is too late instead of executing it.
    pub(super) fn expire(&mut self, origin: &Origin, now: Time) {
        self.counts.expired += 1;
        let message = "the deadline had passed when the server came to it; not executed";
        let status = Status::new(Code::DeadlineExceeded, message);
        self.reply(origin, Outcome::Status(status), &Metadata::new(), now);
    }

    /// Answers a call that has a term which this server cannot keep to.
    pub(super) fn refuse(&mut self, origin: &Origin, term: &str, now: Time) {
        let message = format!("this server does not know the term `{term}` of calls; not executed");
        let status = Status::new(Code::Unimplemented, message);
        self.reply(origin, Outcome::Status(status), &Metadata::new(), now);
    }

    /// Puts a call's outcome on its way back.
    pub(super) fn reply(
        &mut self,
        origin: &Origin,
        outcome: Outcome<'_>,
        metadata: &Metadata,
        now: Time,
    ) {
        let Some(lane) = self.lane_back(origin) else {
            self.counts.undeliverable += u64::from(!origin.silent);
            self.settle(origin.position);
            return;
        };
        let mut reply = Reply {
            call: origin.id,
            server_elapsed: now.micros_since(origin.received),
            flight_request: origin.flight.into(),
            metadata: Cow::Borrowed(metadata),
            outcome,
        };
        let position = origin.position;
        let give_up = match lane.target.topic {
            Topic::Results => origin.deadline.max(now + RESULTS),
            _ => origin.deadline,
        };
        let mut pushed = self.outbox.push(lane, Some(position), give_up, |out| reply.encode(out));
        if let Err(error) = pushed {
            let message = format!("the reply cannot be sent: {error}");
            let status = Status::new(Code::ResourceExhausted, message).with_retryable(false);
            reply.outcome = Outcome::Status(status);
            reply.metadata = Cow::Owned(Metadata::new());
            pushed = self.outbox.push(lane, Some(position), give_up, |out| reply.encode(out));
        }
        // Nobody who reads results chooses a server by them.
        let announces = lane.target.topic == Topic::Replies;
        match pushed.map(|note| announces && note.is_due(self.epoch, now, ANNOUNCE_INTERVAL)) {
            Ok(true) => self.announce(lane, now),
            Ok(false) => {}
            Err(_) => self.give_up(smallvec![position]),
        }
    }

    /// Says that a call begins to whoever asks for its status.
    pub(super) fn say_running(&mut self, call: &Call, now: Time) {
        let Some(lane) = self.lane_back(&call.origin) else { return };
        let mut metadata = Metadata::new();
        let attempt = call.attempt().to_string();
        // Both fit, and are text.
        let _ = metadata.insert(Progress::STATE, Progress::RUNNING);
        let _ = metadata.insert(Progress::ATTEMPT, &attempt);
        let progress = Progress { call: call.origin.id, metadata: Cow::Owned(metadata) };
        // News that does not fit is left out: the answer says more.
        let _ = self.outbox.push(lane, None, now + NEWS, |out| progress.encode(out));
    }

    /// Where the answer goes, if there is such a place.
    fn lane_back(&self, origin: &Origin) -> Option<LaneKey> {
        let service = origin.position.partition.service;
        let (topic, partition) = match origin.route? {
            Route::Partition(partition) => (Topic::Replies, partition),
            Route::Results(partition) => (Topic::Results, partition),
        };
        if topic == Topic::Results && !self.topics.has(service, topic, partition) {
            return None;
        }
        let target = Target { service, topic, partition, exact: false };
        Some(LaneKey { target, destination: origin.caller, asker: origin.asker })
    }

    fn announce(&mut self, lane: LaneKey, now: Time) {
        let service = &self.services[usize::from(lane.target.service)];
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (running, queued, limit) = self.load();
        let announce = Announce {
            partitions: service.owned.iter().copied().collect(),
            running: count(running),
            queued: count(queued),
            limit: count(limit),
        };
        // News that does not fit is left out; the next announcement says it again.
        let _ = self.outbox.push(lane, None, now, |out| announce.encode(out));
    }
}

impl<K: Clone> Transmitter for ServerMachine<K> {
    fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        Self::poll_transmit(self, now)
    }

    fn handle_sent(&mut self, payload: Vec<u8>) {
        Self::handle_sent(self, payload);
    }

    fn handle_rejected(&mut self, transmit: Transmit, rejected: Rejected, now: Time) {
        Self::handle_rejected(self, transmit, rejected, now);
    }

    fn awaits_report(&self) -> bool {
        Self::awaits_report(self)
    }
}

const fn reply_lane(service: u16, partition: u32, destination: InstanceId) -> LaneKey {
    let target = Target { service, topic: Topic::Replies, partition, exact: false };
    LaneKey { target, destination, asker: AskerId::NOBODY }
}
