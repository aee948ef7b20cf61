//! Frames to records: one whole direction, for client and server alike.
//!
//! Frames of one lane (a partition and a destination) share packets, and the packing clocks
//! itself: with nothing in flight on the lane a frame leaves at once; while packets are in flight
//! frames gather, and leave together when a delivery report comes back or the packet is full. So
//! one call alone sees no delay, and ten thousand share records. Who knows that more frames are
//! about to come corks the outbox, so that they leave together.
//!
//! from: [`crate::client::machine`] (requests, cancels), [`crate::server::machine`] (replies)
//! to: [`crate::transport::Producer`]; delivery reports come back to [`Outbox::handle_delivered`]

mod seals;

use std::{collections::VecDeque, time::Duration};

use foldhash::{HashMap, HashMapExt};
use slab::Slab;
use smallvec::SmallVec;

use crate::{
    askers::{AskerId, Askers},
    ids::InstanceId,
    replay::LEAVES_WITHIN,
    sealing::Sealer,
    status::Status,
    time::Time,
    transport::{Rejected, Target},
    wire::{
        MAX_PACKET_CALLS,
        coding::WireError,
        packet::{Header, Routes},
    },
};

/// Packets of one lane that may be in flight before frames gather: two keep the broker busy while
/// the next one fills; more make smaller packets.
const PACKETS_IN_FLIGHT: usize = 2;

/// Bytes from which a packet counts as full and leaves without waiting for a report.
const FULL_BYTES: usize = 256 * 1024;

/// How long packets are held back, at most, for frames that are about to come.
const GATHER: Duration = Duration::from_millis(2);

/// How long a packet that failed waits before it is tried again.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// Lanes that are kept, idle; beyond it idle lanes are forgotten.
const IDLE_LANES: usize = 1024;

/// Buffers that are kept for the next packets, and their bytes: a new one of a mebibyte costs more
/// in page faults than it takes to fill it.
const SPARE_BUFFERS: usize = 16;
const SPARE_BYTES: usize = 4 * 1024 * 1024;

/// Where frames gather: they share packets if they agree in both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LaneKey {
    /// The partition they go to.
    pub target: Target,
    /// The instance they are for, or [`InstanceId::ANY`].
    pub destination: InstanceId,
    /// Who asked for what is in them, if that makes a difference to how they are sealed.
    pub asker: AskerId,
}

/// A packet to send: the driver passes it to its transport, and comes back with
/// [`Outbox::handle_sent`] or [`Outbox::handle_rejected`].
#[derive(Debug)]
pub struct Transmit {
    /// Where it goes.
    pub target: Target,
    /// What its delivery report will carry.
    pub token: u64,
    /// The record's value.
    pub payload: Vec<u8>,
}

/// What the owner remembers for the frames of a packet. A call alone has its packets alone, and
/// needs no list for them.
pub type Cookies<C> = SmallVec<[C; 1]>;

/// What a delivery report meant for the frames of its packet.
#[derive(Debug)]
pub enum Report<C> {
    /// They are stored.
    Stored {
        /// The frames' cookies.
        cookies: Cookies<C>,
        /// When the packet was handed to the transport.
        sent: Time,
    },
    /// They are given up.
    Failed {
        /// The frames' cookies.
        cookies: Cookies<C>,
        /// Why.
        status: Status,
    },
    /// The packet will be sent again.
    Retried,
    /// No packet of this token is in flight.
    Unknown,
}

/// Events come in by `handle_*`, frames by [`Outbox::push`], packets leave by
/// [`Outbox::poll_transmit`]. `C` is what the owner remembers for each frame.
#[derive(Debug)]
pub struct Outbox<C> {
    max_packet: usize,
    /// Of the next packet, whatever its lane: sequences are drawn from one counter for all lanes.
    /// Within a lane they ascend with gaps, so a lane that was forgotten goes on where a reader
    /// expects it.
    header: Header,
    next_token: u64,
    lanes: Slab<Lane<C>>,
    by_key: HashMap<LaneKey, usize>,
    /// The lane that was pushed to last, if it is there: the next frame is nearly always for it.
    last: usize,
    /// Lanes that may send; none of them is forgotten.
    ready: VecDeque<usize>,
    in_flight: HashMap<u64, Flight<C>>,
    retries: VecDeque<(Time, LaneKey, Packet<C>)>,
    /// Frames in lanes.
    waiting: usize,
    stalled: Option<Time>,
    corked: Option<Time>,
    spare: Vec<Vec<u8>>,
    sealer: Option<Box<Sealer>>,
    /// For whom packets are sealed.
    pub(crate) askers: Askers,
}

#[derive(Debug)]
struct Lane<C> {
    key: LaneKey,
    gathering: Packet<C>,
    full: VecDeque<Packet<C>>,
    flying: usize,
    queued: bool,
    note: Note,
}

/// When a lane last carried the owner's note, and of which epoch that was.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Note(Option<(u64, Time)>);

impl Note {
    /// Whether the owner should attach its note of this `epoch` to the lane's next packet: true
    /// at most once per `interval` and epoch, and recorded as done.
    pub fn is_due(&mut self, epoch: u64, now: Time, interval: Duration) -> bool {
        let due = self.0.is_none_or(|(noted, at)| noted != epoch || now >= at + interval);
        if due {
            self.0 = Some((epoch, now));
        }
        due
    }
}

#[derive(Debug)]
struct Packet<C> {
    payload: Vec<u8>,
    frames: usize,
    cookies: Cookies<C>,
    give_up: Time,
    /// When, if it is.
    sealed: Option<Time>,
}

#[derive(Debug)]
struct Flight<C> {
    lane: LaneKey,
    /// Where that lane is: it stays as long as something of it flies.
    at: usize,
    frames: usize,
    cookies: Cookies<C>,
    give_up: Time,
    sent: Time,
    sealed: Option<Time>,
}

impl<C> Flight<C> {
    /// Whether it is worth while to send the packet again. Its readers would refuse one that was
    /// sealed long ago.
    fn is_timely(&self, now: Time) -> bool {
        now < self.give_up && self.sealed.is_none_or(|at| now < at + LEAVES_WITHIN)
    }

    /// The packet, to be sent once more.
    fn again(self, payload: Vec<u8>) -> (LaneKey, Packet<C>) {
        let Self { lane, frames, cookies, give_up, sealed, .. } = self;
        (lane, Packet { payload, frames, cookies, give_up, sealed })
    }
}

impl<C> Default for Packet<C> {
    fn default() -> Self {
        Self {
            payload: Vec::new(),
            frames: 0,
            cookies: Cookies::new(),
            give_up: Time::default(),
            sealed: None,
        }
    }
}

impl<C> Outbox<C> {
    /// An outbox of the instance `me`, whose packets hold at most `max_packet` bytes and name
    /// `reply_to` as the way back.
    pub fn new(me: InstanceId, max_packet: usize, reply_to: Routes) -> Self {
        Self {
            max_packet,
            header: Header { sender: me, destination: InstanceId::ANY, sequence: 0, reply_to },
            next_token: 0,
            lanes: Slab::new(),
            by_key: HashMap::new(),
            last: 0,
            ready: VecDeque::new(),
            in_flight: HashMap::new(),
            retries: VecDeque::new(),
            waiting: 0,
            stalled: None,
            corked: None,
            spare: Vec::new(),
            sealer: None,
            askers: Askers::default(),
        }
    }

    /// Adds a frame to a lane. `encode` writes it; `cookie` comes back with the delivery report
    /// of its packet; a packet that fails is sent again until the last `give_up` of its frames,
    /// unless its lane is exact.
    /// Yields the lane's note.
    ///
    /// # Errors
    /// The frame cannot be written or is larger than a packet; the lane is as before.
    pub fn push(
        &mut self,
        key: LaneKey,
        cookie: Option<C>,
        give_up: Time,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<&mut Note, WireError> {
        let at = self.lane(key);
        self.last = at;
        let lane = &mut self.lanes[at];
        if lane.gathering.payload.is_empty() {
            lane.gathering.payload = self.spare.pop().unwrap_or_default();
            self.header.destination = key.destination;
            self.header.encode(&mut lane.gathering.payload);
            self.header.sequence += 1;
        }
        let start = lane.gathering.payload.len();
        if let Err(error) = encode(&mut lane.gathering.payload) {
            lane.gathering.payload.truncate(start);
            return Err(error);
        }
        if lane.gathering.payload.len() > self.max_packet {
            let frame = lane.gathering.payload.split_off(start);
            let mut payload = Vec::new();
            self.header.destination = key.destination;
            self.header.encode(&mut payload);
            if payload.len() + frame.len() > self.max_packet {
                let (len, max) = (payload.len() + frame.len(), self.max_packet);
                return Err(WireError::TooLarge { what: "packet", len, max });
            }
            self.header.sequence += 1;
            payload.extend_from_slice(&frame);
            let next = Packet { payload, ..Packet::default() };
            lane.full.push_back(std::mem::replace(&mut lane.gathering, next));
            self.corked = None;
        }
        let packet = &mut lane.gathering;
        packet.frames += 1;
        self.waiting += 1;
        if let Some(cookie) = cookie {
            packet.cookies.push(cookie);
        }
        packet.give_up = packet.give_up.max(give_up);
        if packet.payload.len() >= FULL_BYTES || packet.frames >= MAX_PACKET_CALLS {
            lane.full.push_back(std::mem::take(packet));
            self.corked = None;
        }
        if !lane.queued && lane.may_send() {
            lane.queued = true;
            self.ready.push_back(at);
        }
        Ok(&mut lane.note)
    }

    /// Where a lane is, which is made if it is not there.
    #[inline]
    fn lane(&mut self, key: LaneKey) -> usize {
        match self.lanes.get(self.last) {
            Some(lane) if lane.key == key => self.last,
            _ => self.look_up(key),
        }
    }

    #[inline(never)]
    fn look_up(&mut self, key: LaneKey) -> usize {
        *self.by_key.entry(key).or_insert_with(|| self.lanes.insert(Lane::new(key)))
    }

    /// More frames are about to come: packets wait for them, at most 2 ms from the first time that
    /// this was said, unless one is full.
    pub fn cork(&mut self, now: Time) {
        self.corked.get_or_insert(now + GATHER);
    }

    /// Ends the waiting whose time is over; whether there was such.
    pub fn cork_is_over(&mut self, now: Time) -> bool {
        self.corked.take_if(|until| *until <= now).is_some()
    }

    /// No more frames are about to come.
    pub const fn uncork(&mut self) {
        self.corked = None;
    }

    /// The report of a packet: `Ok`, or the failure and the packet's bytes.
    pub fn handle_delivered(
        &mut self,
        token: u64,
        result: Result<(), (Status, &[u8])>,
        now: Time,
    ) -> Report<C> {
        let Some(flight) = self.in_flight.remove(&token) else { return Report::Unknown };
        self.stalled = None;
        self.land(flight.at);
        match result {
            Ok(()) => Report::Stored { cookies: flight.cookies, sent: flight.sent },
            Err((status, payload))
                if status.is_retryable() && !flight.lane.target.exact && flight.is_timely(now) =>
            {
                let (lane, packet) = flight.again(payload.to_vec());
                self.retries.push_back((now + RETRY_BACKOFF, lane, packet));
                Report::Retried
            }
            Err((status, _)) => Report::Failed { cookies: flight.cookies, status },
        }
    }

    /// Takes back the buffer of a packet that the transport has taken.
    pub fn handle_sent(&mut self, mut payload: Vec<u8>) {
        let kept: usize = self.spare.iter().map(Vec::capacity).sum();
        if self.spare.len() < SPARE_BUFFERS && kept + payload.capacity() <= SPARE_BYTES {
            payload.clear();
            self.spare.push(payload);
        }
    }

    /// The transport did not take a packet. A full queue is waited for; otherwise the frames'
    /// cookies come back with the status.
    pub fn handle_rejected(
        &mut self,
        transmit: Transmit,
        rejected: Rejected,
        now: Time,
    ) -> Option<(Cookies<C>, Status)> {
        let flight = self.in_flight.remove(&transmit.token)?;
        self.land(flight.at);
        match rejected {
            Rejected::Failed(status) => Some((flight.cookies, status)),
            Rejected::Full => {
                let (lane, packet) = flight.again(transmit.payload);
                // In front: it must not be overtaken by what gathered meanwhile.
                self.requeue(lane, packet);
                self.stalled = Some(now + RETRY_BACKOFF);
                None
            }
        }
    }

    /// Time has passed: packets whose backoff is over may leave.
    pub fn handle_timeout(&mut self, now: Time) {
        self.stalled = self.stalled.filter(|until| now < *until);
        self.cork_is_over(now);
        while self.retries.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, key, packet)) = self.retries.pop_front() else { break };
            self.requeue(key, packet);
        }
    }

    /// The next packet to hand to the transport, when [`Outbox::seal`] has seen it.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        self.cork_is_over(now);
        if self.stalled.is_some() || self.corked.is_some() {
            return None;
        }
        loop {
            let at = self.ready.pop_front()?;
            let lane = &mut self.lanes[at];
            lane.queued = false;
            let packet = match lane.full.pop_front() {
                Some(packet) => packet,
                None if lane.may_send() => std::mem::take(&mut lane.gathering),
                None => continue,
            };
            lane.flying += 1;
            if lane.may_send() {
                lane.queued = true;
                self.ready.push_back(at);
            }
            let key = lane.key;
            let token = self.next_token;
            self.next_token += 1;
            let Packet { payload, frames, cookies, give_up, sealed } = packet;
            self.waiting -= frames;
            let flight = Flight { lane: key, at, frames, cookies, give_up, sent: now, sealed };
            self.in_flight.insert(token, flight);
            return Some(Transmit { target: key.target, token, payload });
        }
    }

    /// When [`Outbox::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Time> {
        let retry = self.retries.front().map(|(at, ..)| *at);
        let corked = self.corked.filter(|_| !self.ready.is_empty());
        retry.into_iter().chain(self.stalled).chain(corked).min()
    }

    /// Whether frames wait for a delivery report.
    pub fn awaits_report(&self) -> bool {
        self.stalled.is_some() || (self.waiting > 0 && self.ready.is_empty())
    }

    /// Packets handed to the transport since the start.
    pub const fn packets(&self) -> u64 {
        self.next_token
    }

    /// Whether nothing gathers, waits or flies.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.retries.is_empty()
            && self.lanes.iter().all(|(_, lane)| lane.is_empty())
    }

    fn land(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        lane.flying = lane.flying.saturating_sub(1);
        if !lane.queued && lane.may_send() {
            lane.queued = true;
            self.ready.push_back(at);
        } else if lane.flying == 0 && lane.is_empty() && self.lanes.len() > IDLE_LANES {
            let lane = self.lanes.remove(at);
            self.by_key.remove(&lane.key);
        }
    }

    fn requeue(&mut self, key: LaneKey, packet: Packet<C>) {
        let at = self.lane(key);
        let lane = &mut self.lanes[at];
        self.waiting += packet.frames;
        lane.full.push_front(packet);
        if !lane.queued {
            lane.queued = true;
            self.ready.push_back(at);
        }
    }
}

impl<C> Lane<C> {
    fn new(key: LaneKey) -> Self {
        let (gathering, full) = (Packet::default(), VecDeque::new());
        Self { key, gathering, full, flying: 0, queued: false, note: Note::default() }
    }

    fn may_send(&self) -> bool {
        !self.full.is_empty() || (self.gathering.frames > 0 && self.flying < PACKETS_IN_FLIGHT)
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.gathering.frames == 0
    }
}

#[cfg(test)]
mod tests;
