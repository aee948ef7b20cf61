//! The gate: calls that may begin only when a commit says something first.
//!
//! - **claim**: until the group has taken a new owner's first commit, nobody knows that the owner
//!   is one; all calls of the partition wait for that;
//! - **at most once**: what such a call begins must not begin again, so it is committed as finished
//!   before;
//! - **takeover**: the predecessor may have died of the call, so that it begins once more is
//!   committed before: [`super::takeover`].
//!
//! A call waits, is *named* in the next commit, and goes on when that is acknowledged. Commits come
//! one after the other, each with all that waits by then. A commit's map may be full: an
//! at-most-once call that it did not cover waits for one with more room.
//!
//! Pure.
//!
//! from: [`super::machine`], for calls that may run otherwise; [`super::ownership`], for commits
//! to: [`super::ledger`], what a commit says; [`super::intake`], through the machine

use std::collections::{BTreeMap, VecDeque};

use super::{
    commit_map::Head,
    incoming::{Call, Origin},
    ledger::Ledger,
    takeover::{Course, Takeover},
};
use crate::{
    ids::{PartitionId, Position},
    time::Time,
};

/// Calls of a partition that one commit says may have been begun twice, at most: should one of
/// them end this server, so many are suspected.
const SUSPECTS: usize = 256;

/// How often a call may be begun, as long as nothing else is said.
pub(super) const ATTEMPTS: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    /// How often a call may be begun.
    pub(super) attempts: u32,
    /// Of each partition that is owned.
    doors: BTreeMap<PartitionId, Door>,
    /// Some partition's records may be in doubt, or its claim is not held.
    wary: bool,
    /// Some partition's claim is not held.
    claims: bool,
    calls: usize,
    bytes: usize,
    /// Calls that the next commit can name.
    unnamed: usize,
    /// Calls that wait to be the one that runs alone.
    in_turn: usize,
    /// The call that runs alone, or is about to, and how often it was begun before.
    alone: Option<(Position, u32)>,
    /// Calls that do not begin any more.
    doomed: VecDeque<Call>,
}

#[derive(Debug)]
struct Door {
    claim: Claim,
    takeover: Option<Takeover>,
    calls: VecDeque<Gated>,
}

/// Whether the group knows that this server owns a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    Due,
    /// In the commit under way.
    Sent,
    Held,
}

#[derive(Debug)]
struct Gated {
    call: Call,
    why: Why,
    /// The commit under way, or one before it, says what this call waits for.
    named: bool,
}

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Claim,
    AtMostOnce,
    Careful,
    Alone,
}

impl Gate {
    pub(super) const fn new() -> Self {
        Self {
            attempts: ATTEMPTS,
            doors: BTreeMap::new(),
            wary: false,
            claims: false,
            calls: 0,
            bytes: 0,
            unnamed: 0,
            in_turn: 0,
            alone: None,
            doomed: VecDeque::new(),
        }
    }

    /// A partition is owned from now on, this moment of the broker's clock. Its last owner said
    /// this of itself.
    pub(super) fn open(&mut self, partition: PartitionId, before: Head, now: Option<Time>) {
        self.close(partition);
        let takeover = Takeover::new(before, now);
        let door = Door { claim: Claim::Due, takeover, calls: VecDeque::new() };
        self.doors.insert(partition, door);
        self.look();
    }

    /// A partition is not owned any more. Back come at-most-once calls that a commit names which
    /// may have been made, or not; all others are its next owner's.
    pub(super) fn close(&mut self, partition: PartitionId) -> Vec<Origin> {
        let mut named = self.take(partition, |_| true);
        named.retain(|gated| gated.named && gated.why == Why::AtMostOnce);
        self.doors.remove(&partition);
        self.alone = self.alone.filter(|(alone, _)| alone.partition != partition);
        self.doomed.retain(|call| call.origin.position.partition != partition);
        self.look();
        named.into_iter().map(|gated| gated.call.origin).collect()
    }

    /// A partition is to be given back: its calls do not begin here. Those at most once that a
    /// commit names wait for that commit's end; how many others there were is returned.
    pub(super) fn release(&mut self, partition: PartitionId) -> usize {
        let left = self.take(partition, |it| !(it.named && it.why == Why::AtMostOnce)).len();
        self.alone = self.alone.filter(|(alone, _)| alone.partition != partition);
        left
    }

    /// Whether records have to be shown to [`doubts`](Self::doubts).
    pub(super) const fn is_wary(&self) -> bool {
        self.wary
    }

    /// Whether calls of any method have to be shown to [`hold`](Self::hold).
    pub(super) const fn is_claiming(&self) -> bool {
        self.claims
    }

    /// A record of so many calls came: whether a predecessor may have died of one of them.
    pub(super) fn doubts(
        &mut self,
        partition: PartitionId,
        appended: Option<Time>,
        calls: u32,
    ) -> bool {
        let Some(door) = self.doors.get_mut(&partition) else { return false };
        let Some(takeover) = &mut door.takeover else { return false };
        let doubts = takeover.doubts(appended, calls);
        if !doubts {
            door.takeover = None;
            self.look();
        }
        doubts
    }

    /// How often a call, of a record that is in doubt, may have been begun.
    pub(super) fn begins(&self, position: Position) -> u32 {
        let door = self.doors.get(&position.partition);
        let takeover = door.and_then(|door| door.takeover.as_ref());
        takeover.map_or(0, |takeover| takeover.begins(position.offset, position.index))
    }

    /// Takes a call that has to wait; gives back one that has not.
    pub(super) fn hold(&mut self, call: Call) -> Option<Call> {
        let course = Course::after(call.begins, self.attempts);
        let Some(door) = self.doors.get_mut(&call.origin.position.partition) else {
            return Some(call);
        };
        let why = match course {
            _ if call.method.is_at_most_once() => Why::AtMostOnce,
            Course::Careful => Why::Careful,
            Course::Alone => Why::Alone,
            Course::Plain if door.claim == Claim::Held => return Some(call),
            Course::Never if door.claim == Claim::Held => {
                self.doomed.push_back(call);
                return None;
            }
            Course::Plain | Course::Never => Why::Claim,
        };
        let gated = Gated { call, why, named: false };
        self.calls += 1;
        self.bytes += gated.call.value.len();
        self.unnamed += usize::from(gated.is_unnamed());
        self.in_turn += usize::from(gated.is_in_turn());
        door.calls.push_back(gated);
        None
    }

    /// Its caller gave the call up that stands there: if it waits here, it goes.
    pub(super) fn cancel(&mut self, position: Position) -> Option<Box<Call>> {
        let calls = &mut self.doors.get_mut(&position.partition)?.calls;
        let at = calls.iter().position(|it| it.call.origin.position == position)?;
        let taken = calls.remove(at)?;
        self.forget(&taken);
        self.alone = self.alone.filter(|(alone, _)| *alone != position);
        Some(Box::new(taken.call))
    }

    /// An execution has failed, and not ended its server: the call waits on, and if it ran alone
    /// the next one may. How often it was begun is what it was.
    pub(super) fn failed(&mut self, position: Position, ledger: &mut Ledger) {
        if let Some((_, begins)) = self.alone.take_if(|(alone, _)| *alone == position) {
            ledger.unname(position, begins);
        }
    }

    /// A commit is about to be made: what it is to say goes to the ledger.
    pub(super) fn poll_commit(&mut self, ledger: &mut Ledger) {
        self.alone = self.alone.filter(|(alone, _)| ledger.is_unfinished(*alone));
        let waits = self.wants_commit();
        for door in self.doors.values_mut() {
            if door.claim == Claim::Due {
                door.claim = Claim::Sent;
            }
            if !waits {
                continue;
            }
            let mut suspects = 0;
            for gated in door.calls.iter_mut().filter(|gated| !gated.named) {
                let position = gated.call.origin.position;
                match gated.why {
                    Why::AtMostOnce => {
                        ledger.finish_early(position);
                    }
                    Why::Careful if suspects < SUSPECTS => {
                        suspects += 1;
                        ledger.begin_twice(position);
                    }
                    Why::Alone if self.alone.is_none() => {
                        let begins = gated.call.begins;
                        self.alone = Some((position, begins));
                        self.in_turn -= 1;
                        ledger.begin_named(position, begins.saturating_add(1));
                    }
                    Why::Claim | Why::Careful | Why::Alone => continue,
                }
                self.unnamed -= usize::from(gated.is_unnamed());
                gated.named = true;
            }
        }
    }

    /// A commit of this partition was made, and says all of what is finished below `covered`: the
    /// calls that may go on now.
    pub(super) fn handle_committed(&mut self, partition: PartitionId, covered: i64) -> Vec<Call> {
        let Some(door) = self.doors.get_mut(&partition) else { return Vec::new() };
        let claims = door.claim == Claim::Sent;
        if claims {
            door.claim = Claim::Held;
        }
        let held = door.claim == Claim::Held;
        let passed = self.take(partition, |gated| match gated.why {
            Why::Claim => held,
            Why::AtMostOnce => gated.named && gated.call.origin.position.offset < covered,
            Why::Careful | Why::Alone => gated.named,
        });
        if claims {
            self.look();
        }
        let mut calls: Vec<_> = passed.into_iter().map(|gated| gated.call).collect();
        let allowed = self.attempts;
        let doomed = |call: &mut Call| Course::after(call.begins, allowed) == Course::Never;
        self.doomed.extend(calls.extract_if(.., doomed));
        calls
    }

    /// Whether there are calls that do not begin any more.
    pub(super) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// The next call that does not begin any more.
    pub(super) fn poll_doomed(&mut self) -> Option<Call> {
        self.doomed.pop_front()
    }

    /// Whether the next commit is waited for.
    pub(super) const fn wants_commit(&self) -> bool {
        self.unnamed > 0 || (self.in_turn > 0 && self.alone.is_none())
    }

    /// Whether a commit is waited for that may be under way.
    pub(super) const fn awaits_commit(&self) -> bool {
        self.claims || self.calls > 0
    }

    /// Calls that wait.
    pub(super) const fn len(&self) -> usize {
        self.calls
    }

    /// Calls that wait to be the one that runs alone.
    pub(super) const fn in_turn(&self) -> usize {
        self.in_turn
    }

    /// Calls that will pass soon, and the bytes of all. Those that run one after the other do not
    /// keep others from being taken.
    pub(super) const fn load(&self) -> (usize, usize) {
        (self.calls - self.in_turn, self.bytes)
    }

    fn look(&mut self) {
        self.claims = self.doors.values().any(|door| door.claim != Claim::Held);
        self.wary = self.claims || self.doors.values().any(|door| door.takeover.is_some());
    }

    /// Takes calls out of a partition's.
    fn take(&mut self, partition: PartitionId, which: impl Fn(&Gated) -> bool) -> Vec<Gated> {
        let door = self.doors.get_mut(&partition);
        let first = door.as_ref().and_then(|door| door.calls.iter().position(&which));
        let (Some(door), Some(first)) = (door, first) else { return Vec::new() };
        let tail = door.calls.split_off(first);
        let (taken, left): (Vec<_>, Vec<_>) = tail.into_iter().partition(which);
        door.calls.extend(left);
        taken.iter().for_each(|gated| self.forget(gated));
        taken
    }

    fn forget(&mut self, gated: &Gated) {
        self.calls -= 1;
        self.bytes -= gated.call.value.len();
        self.unnamed -= usize::from(gated.is_unnamed());
        self.in_turn -= usize::from(gated.is_in_turn());
    }
}

impl Gated {
    /// Whether the next commit can name it.
    const fn is_unnamed(&self) -> bool {
        !self.named && matches!(self.why, Why::AtMostOnce | Why::Careful)
    }

    /// Whether it waits to be the one that runs alone.
    const fn is_in_turn(&self) -> bool {
        !self.named && matches!(self.why, Why::Alone)
    }
}

#[cfg(test)]
mod tests;
