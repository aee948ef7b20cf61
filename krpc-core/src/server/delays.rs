//! Calls that are due later.
//!
//! A call that is due within [`NEAR`](crate::delay::NEAR) waits in memory, unfinished, and is
//! executed here. Any other belongs into the topic of delayed calls, and one server of a service,
//! its *mover*, keeps that: the owner of partition 0 of the calls. Whoever else takes such a call
//! passes it on to that partition. The mover writes it into a class of the topic, reads the classes
//! by hand, writes on what is not due yet, and writes what is due to a partition of the calls, for
//! any server. Each step is finished when its record is *stored*, so a crash repeats it and loses
//! nothing; how far the classes were looked through is committed along with partition 0, and so
//! known to the next owner, and nobody makes the topic before there was a delayed call.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::machine`], for each such call; records of the topic; time
//! to: [`crate::outbox`], or [`super::intake`] when it is due here

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use foldhash::HashMap;
use smallvec::SmallVec;

pub use self::classes::Read;
use self::mover::{MOST_NEAR, Mover, Work};
use super::{
    cancels::has_ticket,
    incoming::Call,
    intake::{QUEUED_BYTES, Stage},
    machine::ServerMachine,
    topics::RETRY,
};
use crate::{
    askers::AskerId,
    delay::{self, class},
    ids::{InstanceId, PartitionId, Position},
    metadata::Metadata,
    outbox::LaneKey,
    status::{Code, Status},
    time::Time,
    transport::{Target, Topic},
    wire::frame::{MovedFrom, Outcome, Request},
};

mod classes;
mod mover;

/// The partition of the calls whose owner is the mover.
const MOVERS: u32 = 0;

/// How long a call waits for a topic that the broker refuses: somebody may be making it good.
const REFUSED: Duration = Duration::from_secs(60);

/// What waits for its moment, or is on its way to where it waits.
#[derive(Debug, Default)]
pub(super) struct Delays {
    movers: BTreeMap<u16, Mover>,
    /// Calls that cannot be moved now, and since when that is tried.
    waiting: VecDeque<(Time, Box<Call>)>,
    bytes: usize,
    /// When that is tried again.
    again: Option<Time>,
    /// Since when that is tried, too.
    under_way: HashMap<Position, (Time, Box<Call>)>,
    /// What those hold in memory, here and once more in the outbox.
    bytes_under_way: usize,
    reads: VecDeque<Read>,
    /// Grows with the partitions that due calls went to.
    turn: u32,
    /// When to look again.
    look: Option<Time>,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Into this class.
    Held(u32),
    /// To its service's mover.
    Mover,
    /// To this partition of the calls, to be executed.
    Due(u32),
}

impl Delays {
    /// Whether nothing is on its way.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.look.into_iter().chain(self.again).min()
    }

    /// What calls that cannot be moved now hold in memory.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether calls of the classes that this partition's owner moves are on their way.
    pub(super) fn moves(&self, partition: PartitionId) -> bool {
        let of_classes = |position: &&Position| {
            let held = position.partition;
            held.class().is_some() && held.service == partition.service
        };
        partition.partition == MOVERS && self.under_way.keys().any(|it| of_classes(&it))
    }

    /// The next classes to be read, or not any more.
    fn poll_read(&mut self) -> Option<Read> {
        let movers = self.movers.values_mut();
        self.reads.pop_front().or_else(|| movers.into_iter().find_map(|it| it.classes.poll_read()))
    }

    fn has_reads(&self) -> bool {
        !self.reads.is_empty() || self.movers.values().any(|mover| mover.classes.has_reads())
    }

    /// A service's mover, if it is this server and has not to end.
    fn mover(&mut self, service: u16) -> Option<&mut Mover> {
        self.movers.get_mut(&service).filter(|mover| mover.work != Work::Over)
    }

    /// Whether so many calls are on their way, or wait for that, that those of the classes stay
    /// where they are.
    fn is_full(&self) -> bool {
        let (calls, bytes) = (self.under_way.len().max(self.waiting.len()), self.bytes);
        calls >= MOST_NEAR.0 || bytes.max(self.bytes_under_way) >= QUEUED_BYTES
    }

    fn begin(&mut self, since: Time, call: Box<Call>) {
        let position = call.origin.position;
        self.end(&position);
        self.bytes_under_way += call.bytes();
        self.under_way.insert(position, (since, call));
    }

    fn end(&mut self, position: &Position) -> Option<(Time, Box<Call>)> {
        let (since, call) = self.under_way.remove(position)?;
        self.bytes_under_way -= call.bytes();
        Some((since, call))
    }

    fn waits(&self, position: &Position) -> bool {
        self.waiting.iter().any(|(_, call)| call.origin.position == *position)
    }

    fn wait(&mut self, since: Time, call: Box<Call>, now: Time) {
        self.bytes += call.bytes();
        self.waiting.push_back((since, call));
        self.try_again(now + RETRY);
    }

    pub(super) fn try_again(&mut self, at: Time) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }

    pub(super) fn look_at(&mut self, at: Time) {
        self.look = Some(self.look.map_or(at, |look| look.min(at)));
    }

    /// Nothing of a partition begins any more; of its calls, so many waited.
    pub(super) fn forget(&mut self, partition: PartitionId) -> usize {
        let mut left = 0;
        let is_mover = partition.partition == MOVERS;
        self.waiting.retain(|(_, call)| {
            let of = call.origin.position.partition;
            let held = of.class().is_some() && of.service == partition.service && is_mover;
            left += usize::from(of == partition);
            of != partition && !held
        });
        self.bytes = self.waiting.iter().map(|(_, call)| call.bytes()).sum();
        if let Some(mover) = self.movers.get_mut(&partition.service).filter(|_| is_mover) {
            mover.near.clear();
            mover.bytes = 0;
            mover.classes.end();
            mover.work = Work::Over;
        }
        left
    }
}

impl<K: Clone> ServerMachine<K> {
    /// How long it is until a call is due, if it is not.
    #[cold]
    pub(super) fn until_due(&self, call: &Call, now: Time) -> Option<Duration> {
        let left = call.due()?.saturating_since(self.clock.earliest(now));
        Some(left).filter(|left| !left.is_zero())
    }

    /// A call of a partition of ours is not due for so long.
    #[cold]
    pub(super) fn set_aside(&mut self, mut call: Call, left: Duration, now: Time) {
        call.detach();
        if class(left).is_some() {
            return self.pass_along(now, Box::new(call), now);
        }
        if let Some(first) = self.intake.admit(&mut call.origin) {
            return self.repeated(call.origin.position, first);
        }
        let origin = call.origin;
        let due = self.backoff.push(Box::new(call), now + left);
        self.intake.list(&origin, Stage::BackingOff(due));
    }

    /// A call of a partition of ours goes to where it waits, which was tried since then.
    fn pass_along(&mut self, since: Time, call: Box<Call>, now: Time) {
        let origin = call.origin;
        let service = origin.position.partition.service;
        if origin.deadline <= now {
            return self.end_aside(&call, None, now);
        }
        let left = self.until_due(&call, now).unwrap_or_default();
        let Some(class) = class(left) else { return self.set_aside(*call, left, now) };
        if self.delays.mover(service).is_none() {
            return self.move_on(since, call, Way::Mover, now);
        }
        match self.topics.open(service, Topic::Delayed, now) {
            Ok(_) => {
                self.use_delays(service, now);
                self.move_on(since, call, Way::Held(class), now);
            }
            Err(true) if now >= since + REFUSED => self.end_aside(&call, Some(refused()), now),
            Err(_) => self.delays.wait(since, call, now),
        }
    }

    /// A call of a partition of ours is not executed: for this cause, or because it is too late.
    /// Who holds a ticket is told when the topic for that is open.
    fn end_aside(&mut self, call: &Call, cause: Option<Status>, now: Time) {
        let origin = call.origin;
        let service = origin.position.partition.service;
        if has_ticket(&origin) && self.topics.open(service, Topic::Results, now) == Err(false) {
            return self.delays.wait(now, Box::new(call.clone()), now);
        }
        match cause {
            None => self.expire(&origin, now),
            Some(status) if call.is_queued() => self.condemn(call, call.attempt(), status, now),
            Some(status) => self.reply(&origin, Outcome::Status(status), &Metadata::new(), now),
        }
    }

    /// Writes a call anew, which was tried since then.
    fn move_on(&mut self, since: Time, call: Box<Call>, way: Way, now: Time) {
        let (origin, service) = (call.origin, call.origin.position.partition.service);
        let (topic, partition) = match way {
            Way::Held(class) => (Topic::Delayed, class),
            Way::Mover => (Topic::Calls, MOVERS),
            Way::Due(partition) => (Topic::Calls, partition),
        };
        let mut terms = call.terms.clone().unwrap_or_default();
        if let Some(due) = &mut terms.due {
            due.look = match way {
                Way::Held(class) => self.clock.latest(now, now) + delay::hold(class),
                Way::Mover | Way::Due(_) => due.due,
            };
        }
        terms.origin = Some(MovedFrom { caller: origin.caller, call: origin.id });
        // It would be sent here otherwise.
        terms.answer.get_or_insert_with(|| SmallVec::from_iter(origin.route));
        let request = Request {
            call: origin.id,
            terms: Some(terms),
            path: call.method.path(),
            budget: origin.deadline.saturating_since(now),
            deadline: self.clock.to_broker(origin.deadline),
            fingerprint: call.fingerprint,
            codec: call.codec,
            metadata: std::borrow::Cow::Borrowed(&call.metadata),
            value: &call.value,
        };
        let target = Target { service, topic, partition, exact: false };
        let lane = LaneKey { target, destination: InstanceId::ANY, asker: AskerId::NOBODY };
        let position = Some(origin.position);
        let pushed = self.outbox.push(lane, position, origin.deadline, |out| request.encode(out));
        match pushed {
            Ok(_) => self.delays.begin(since, call),
            Err(error) => {
                let message = format!("the delayed call cannot be written: {error}");
                let status = Status::new(Code::ResourceExhausted, message).with_retryable(false);
                self.end_aside(&call, Some(status), now);
            }
        }
    }

    /// A record is stored: true if it was a delayed call's.
    pub(super) fn was_moved(&mut self, position: &Position) -> bool {
        let moved = self.delays.end(position).is_some();
        self.counts.moved += u64::from(moved);
        moved
    }

    /// A record is not stored: true if it was a delayed call's, which is tried again.
    pub(super) fn was_not_moved(
        &mut self,
        position: &Position,
        status: &Status,
        now: Time,
    ) -> bool {
        let Some((since, call)) = self.delays.end(position) else {
            // Of two tries, before and after its partition was away, the second one that failed.
            return self.delays.waits(position);
        };
        let service = position.partition.service;
        let refused_for_long = !status.is_retryable() && now >= since + REFUSED;
        match position.partition.class() {
            Some(_) if self.delays.mover(service).is_some() => {
                self.delays.wait(since, call, now);
            }
            None if self.ledger.is_assigned(position.partition) => match refused_for_long {
                true => self.end_aside(&call, Some(refused()), now),
                false => self.delays.wait(since, call, now),
            },
            _ => {}
        }
        true
    }

    /// Time has passed, or the cancels are known, or a topic is there.
    pub(super) fn handle_delays_timeout(&mut self, now: Time) {
        if self.delays.again.take_if(|again| *again <= now).is_some() {
            self.delays.bytes = 0;
            for (since, call) in std::mem::take(&mut self.delays.waiting) {
                match call.origin.position.partition.class() {
                    Some(_) => self.look_at_held(*call, now),
                    None => self.pass_along(since, call, now),
                }
            }
        }
        if self.delays.look.take_if(|look| *look <= now).is_none() {
            return;
        }
        let services: Vec<_> = self.delays.movers.keys().copied().collect();
        for service in services {
            self.look_through(service, now);
        }
    }
}

/// The topic of delayed calls was refused for long.
fn refused() -> Status {
    let message = "the topic of delayed calls cannot be used by this server; not executed";
    Status::new(Code::FailedPrecondition, message)
}

#[cfg(test)]
mod tests;
