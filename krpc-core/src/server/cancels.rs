//! Calls whose answer is fetched with a ticket, and delayed ones: what has to be known before they
//! run, and their cancels.
//!
//! Such a call may have been cancelled while it lay in a topic, long before any server came to
//! it, and by another process than its caller. So these cancels have a topic of their own, which
//! every server reads from its start once it meets the first such call; until it has come to the
//! end, the calls wait here, as they do until the topic of results is open. A server that cannot
//! read the cancels runs the calls all the same after [`PATIENCE`], and counts them.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::machine`], for each such call; the driver, which opens and reads the topics
//! to: [`super::intake`], or [`super::answer`] for those that were cancelled

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use super::{
    incoming::{Call, Origin},
    intake::Stage,
    machine::ServerMachine,
    topics::RETRY,
};
use crate::{
    error::SetupError,
    ids::{CallId, InstanceId, PartitionId},
    inbox::Packet,
    metadata::Metadata,
    status::{Code, Status},
    time::Time,
    transport::{Record, Topic},
    wire::{
        frame::{Cancel, Frame, Outcome},
        packet::Route,
    },
};

/// How long calls wait for the cancels, if these cannot be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long calls wait for a topic of results that the broker refuses: somebody may be making it
/// good. Then they become dead letters, for nobody would ever have their answers.
const REFUSED: Duration = Duration::from_secs(60);

/// How soon the cancels are tried again that no call waits for any more.
const LATER: Duration = Duration::from_secs(30);

/// Cancels that are remembered, the newest.
const REMEMBERED: usize = 65_536;

/// What tells calls apart.
type Name = (u16, InstanceId, CallId);

/// Calls that wait for these topics, and what was read of the cancels.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    /// By service.
    logs: BTreeMap<u16, Log>,
    held: VecDeque<Call>,
    bytes: usize,
    given: HashSet<Name>,
    order: VecDeque<Name>,
    /// When it is looked whether the calls may go.
    look: Option<Time>,
}

/// The cancels of one service.
#[derive(Debug, Default)]
struct Log {
    /// The next offset of each partition.
    read: BTreeMap<u32, i64>,
    /// Where each partition ended when its reading began.
    ends: Option<Vec<(u32, i64)>>,
    /// When the first call came to wait.
    since: Option<Time>,
    /// Whether calls need not wait for it any more.
    known: bool,
    /// Whether the topic of results is open, which calls with tickets need.
    results: bool,
}

impl Log {
    fn is_read(&self) -> bool {
        let reached = |(partition, end): &(u32, i64)| {
            *end <= self.read.get(partition).copied().unwrap_or_default()
        };
        self.ends.as_ref().is_some_and(|ends| ends.iter().all(reached))
    }
}

impl Cancels {
    /// Whether such a call need not wait.
    fn lets(&self, origin: &Origin) -> bool {
        let log = self.logs.get(&origin.position.partition.service);
        log.is_some_and(|log| log.known && (log.results || !has_ticket(origin)))
    }

    fn look_at(&mut self, at: Time) {
        self.look = Some(self.look.map_or(at, |look| look.min(at)));
    }

    /// A call that waits, or is still to come, is not to run.
    pub(super) fn remember(&mut self, name: Name) {
        if self.given.insert(name) {
            self.order.push_back(name);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.given.remove(&oldest);
        }
    }

    /// Forgets the calls of a partition and says how many there were.
    pub(super) fn forget(&mut self, partition: PartitionId) -> usize {
        let before = self.held.len();
        self.held.retain(|call| call.origin.position.partition != partition);
        self.bytes = self.held.iter().map(|call| call.bytes()).sum();
        before - self.held.len()
    }

    pub(super) const fn next_timeout(&self) -> Option<Time> {
        self.look
    }

    /// What the calls that wait hold in memory.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<K: Clone> ServerMachine<K> {
    /// Whether a call has to wait for the topics that it needs.
    #[inline]
    pub(super) fn is_held(&self, origin: &Origin) -> bool {
        may_be_given(origin) && !self.cancels_read.lets(origin)
    }

    /// Such a call waits.
    pub(super) fn hold(&mut self, mut call: Call) {
        call.detach();
        self.intake.list(&call.origin, Stage::Held);
        let cancels = &mut self.cancels_read;
        cancels.bytes += call.bytes();
        cancels.held.push_back(call);
        // Nobody has said what time it is: at once.
        cancels.look = Some(Time::default());
    }

    /// Nobody wants a call any more that waited behind its key, or until it is due.
    pub(super) fn drop_before_its_turn(&mut self, mut call: Call, now: Time) {
        if !self.is_held(&call.origin) {
            return self.drop_waiting(&call, now);
        }
        // Its end cannot be told yet. It is told with those that wait for that, and its key does
        // not wait for it.
        let origin = &mut call.origin;
        origin.key = None;
        self.cancels_read.remember((origin.position.partition.service, origin.caller, origin.id));
        self.hold(call);
    }

    /// A topic that is to be opened; [`ServerMachine::handle_opened`] says how that went.
    pub fn poll_open(&mut self) -> Option<(u16, Topic)> {
        self.topics.poll_open()
    }

    /// A topic is open, with so many partitions, or is not. One of cancels is also read from its
    /// start then: [`ServerMachine::handle_followed`].
    pub fn handle_opened(
        &mut self,
        service: u16,
        topic: Topic,
        opened: &Result<u32, SetupError>,
        now: Time,
    ) {
        self.topics.opened(service, topic, opened, now);
        match topic {
            Topic::Dead => self.write_waiting(now),
            _ => self.let_go_on(now),
        }
    }

    /// The cancels of a service are read from here on; each partition ended there.
    pub fn handle_followed(&mut self, service: u16, ends: Vec<(u32, i64)>, now: Time) {
        self.cancels_read.logs.entry(service).or_default().ends = Some(ends);
        self.let_go_on(now);
    }

    /// A record of cancels.
    pub fn handle_cancels(&mut self, record: &Record, now: Time) {
        let partition = record.partition;
        let log = self.cancels_read.logs.entry(partition.service).or_default();
        log.read.insert(partition.partition, record.offset.saturating_add(1));
        let comes_to_the_end = !log.known && log.is_read();
        // What is no cancel of ours says nothing.
        if let Ok(packet) = Packet::open_any(&record.payload) {
            let caller = packet.header.destination;
            for frame in packet.frames() {
                if let Ok(Frame::Cancel(Cancel { call })) = frame {
                    self.cancels_read.remember((partition.service, caller, call));
                    self.handle_cancel(partition, caller, call, now);
                }
            }
        }
        if comes_to_the_end {
            self.let_go_on(now);
        }
    }

    /// Time has passed: topics are tried again, or not waited for any more.
    pub(super) fn handle_cancels_timeout(&mut self, now: Time) {
        if self.cancels_read.look.is_some_and(|look| look <= now) {
            self.cancels_read.look = None;
            self.let_go_on(now);
        }
    }

    /// Calls that need not wait any more go on.
    fn let_go_on(&mut self, now: Time) {
        // By service, and whether any of them has a ticket.
        let mut waiting: BTreeMap<u16, bool> = BTreeMap::new();
        for call in &self.cancels_read.held {
            *waiting.entry(service_of(call)).or_default() |= has_ticket(&call.origin);
        }
        for service in waiting.keys() {
            self.cancels_read.logs.entry(*service).or_default();
        }
        let known: Vec<u16> = self.cancels_read.logs.keys().copied().collect();
        for service in known {
            self.look_at_service(service, waiting.get(&service).copied(), now);
        }
        self.look_at_delays(now);
    }

    /// Whether the cancels of a service are known, or not waited for any longer.
    pub(super) fn knows_cancels(&mut self, service: u16, now: Time) -> bool {
        let log = self.cancels_read.logs.entry(service).or_default();
        if log.known || log.is_read() {
            return true;
        }
        let waited = now >= *log.since.get_or_insert(now) + PATIENCE;
        if log.ends.is_none() {
            // How that went is said by `handle_followed`, or asked again.
            let _ = self.topics.open(service, Topic::Cancels, now);
        }
        waited
    }

    /// Looks at the calls of a service that wait, if any do, perhaps some with tickets.
    fn look_at_service(&mut self, service: u16, waiting: Option<bool>, now: Time) {
        let Some(log) = self.cancels_read.logs.get_mut(&service) else { return };
        if log.ends.is_none() {
            // How that went is said by `handle_followed`, or tried again.
            let _ = self.topics.open(service, Topic::Cancels, now);
        }
        log.known |= log.is_read();
        let known = log.ends.is_some();
        if let Some(tickets) = waiting {
            let since = *log.since.get_or_insert(now);
            log.known |= now >= since + PATIENCE;
            if tickets && !log.results {
                match self.topics.open(service, Topic::Results, now) {
                    Ok(_) => log.results = true,
                    Err(true) if now >= since + REFUSED => return self.condemn_held(service, now),
                    Err(_) => {}
                }
            }
            let waits = !log.known || tickets && !log.results;
            self.release_held(service, now);
            if waits {
                self.cancels_read.look_at(now + RETRY);
            }
        } else if !known {
            self.cancels_read.look_at(now + LATER);
        }
    }

    fn release_held(&mut self, service: u16, now: Time) {
        for call in self.take_held(service) {
            if self.is_held(&call.origin) {
                let cancels = &mut self.cancels_read;
                cancels.bytes += call.bytes();
                cancels.held.push_back(call);
                continue;
            }
            self.ripe = true;
            if call.is_denied() {
                self.intake.unlist(&call.origin);
                self.forbid(&call, now);
                continue;
            }
            if self.was_cancelled(&call.origin, now) {
                self.intake.unlist(&call.origin);
                self.pass_on(&call.origin);
                continue;
            }
            self.intake.list(&call.origin, Stage::Queued);
            self.enter(call);
        }
    }

    fn condemn_held(&mut self, service: u16, now: Time) {
        for call in self.take_held(service) {
            self.intake.unlist(&call.origin);
            let message = "the topic of results cannot be used by this server; not executed";
            let status = Status::new(Code::FailedPrecondition, message);
            self.condemn(&call, call.attempt(), status, now);
            self.ripe |= self.pass_on(&call.origin);
        }
    }

    fn take_held(&mut self, service: u16) -> Vec<Call> {
        let held = std::mem::take(&mut self.cancels_read.held);
        let (these, others): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|call| service_of(call) == service);
        self.cancels_read.held = others.into();
        self.cancels_read.bytes = self.cancels_read.held.iter().map(|call| call.bytes()).sum();
        these
    }

    /// Whether a call was cancelled before it came here; it is answered then, if that is possible.
    pub(super) fn was_cancelled(&mut self, origin: &Origin, now: Time) -> bool {
        if !self.is_given(origin) || self.is_held(origin) {
            return false;
        }
        self.counts.cancelled += 1;
        self.unwanted(origin, now);
        true
    }

    /// Whether a cancel of such a call was read.
    pub(super) fn is_given(&self, origin: &Origin) -> bool {
        let name = (origin.position.partition.service, origin.caller, origin.id);
        may_be_given(origin) && self.cancels_read.given.contains(&name)
    }

    /// A call with a ticket begins.
    pub(super) fn begin_with_ticket(&mut self, call: &Call, now: Time) {
        let log = self.cancels_read.logs.get(&service_of(call));
        self.counts.cancels_unread += u64::from(log.is_none_or(|log| log.ends.is_none()));
        self.say_running(call, now);
    }

    /// Ends a call that nobody wants any more. Who holds a ticket is told.
    pub(super) fn unwanted(&mut self, origin: &Origin, now: Time) {
        if !has_ticket(origin) {
            return self.settle(origin.position);
        }
        let status = Status::new(Code::Cancelled, "the call was cancelled with its ticket");
        self.reply(origin, Outcome::Status(status), &Metadata::new(), now);
    }
}

/// Whether the call's answer is fetched with a ticket.
#[inline]
pub(super) const fn has_ticket(origin: &Origin) -> bool {
    matches!(origin.route, Some(Route::Results(_)))
}

/// Whether the call's cancel may be in the topic of cancels.
#[inline]
const fn may_be_given(origin: &Origin) -> bool {
    origin.delayed || has_ticket(origin)
}

const fn service_of(call: &Call) -> u16 {
    call.origin.position.partition.service
}
