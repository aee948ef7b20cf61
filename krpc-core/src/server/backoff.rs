//! Calls that nobody waits for: executed again when they fail, until they succeed or are given up.
//! And calls that are due in a moment.
//!
//! Pure. Such a call waits here between two executions, or before the first, in memory, and holds
//! neither a place nor the others up; only after a failure the calls of its own key wait for it. It
//! is unfinished all the while, so a crash loses nothing: the partition's next owner begins with
//! its executions anew.
//!
//! from: [`super::machine`], when an execution has ended · to: [`super::intake`], `burial`

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{incoming::Call, intake::Stage, machine::ServerMachine};
use crate::{
    ids::{InstanceId, PartitionId},
    metadata::Metadata,
    policy::{ServerRetry, Then},
    status::{Code, Status},
    time::{Time, micros},
    wire::frame::Outcome,
};

/// When a call is executed again; the number tells those of one moment apart.
pub type Due = (Time, u64);

/// Calls that wait to be executed again, by the moment.
#[derive(Debug)]
pub struct Backoff {
    calls: BTreeMap<Due, Box<Call>>,
    pushed: u64,
    bytes: usize,
    /// The state of a generator of pseudo-random numbers (`splitmix64`).
    dice: u64,
}

impl Backoff {
    /// No calls. The identity's randomness becomes the jitter's.
    pub fn new(me: InstanceId) -> Self {
        let (seed, _) = me.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
        Self { calls: BTreeMap::new(), pushed: 0, bytes: 0, dice: u64::from_le_bytes(*seed) }
    }

    /// How long to wait after so many executions, at least one: doubled with each further one, give
    /// or take a fifth, lest calls that failed together all come back at once.
    pub fn pause(&mut self, retry: &ServerRetry, executions: u32) -> Duration {
        let doubled = 1 << executions.saturating_sub(1).min(31);
        let pause = micros(retry.first.saturating_mul(doubled).min(retry.most));
        let fifth = pause / 5;
        // The upper half of the product: a share of the range, without the bias of a remainder.
        let part = (u128::from(self.roll()) * (u128::from(fifth) * 2 + 1)) >> 64;
        let part = u64::try_from(part).unwrap_or(fifth);
        Duration::from_micros((pause - fifth).saturating_add(part))
    }

    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Keeps a call until then, one that holds nothing of its record, as none does that was kept
    /// while it ran.
    pub fn push(&mut self, call: Box<Call>, at: Time) -> Due {
        self.pushed += 1;
        self.bytes += call.bytes();
        let due = (at, self.pushed);
        self.calls.insert(due, call);
        due
    }

    /// The next call whose moment has come.
    pub fn poll(&mut self, now: Time) -> Option<Box<Call>> {
        let (due, _) = self.calls.first_key_value()?;
        if due.0 > now {
            return None;
        }
        self.cancel(*due)
    }

    /// Takes a call out.
    pub fn cancel(&mut self, due: Due) -> Option<Box<Call>> {
        let call = self.calls.remove(&due)?;
        self.bytes -= call.bytes();
        Some(call)
    }

    /// Forgets the calls of a partition and says how many there were.
    pub fn forget(&mut self, partition: PartitionId) -> usize {
        let before = self.calls.len();
        self.calls.retain(|_, call| call.origin.position.partition != partition);
        self.bytes = self.calls.values().map(|call| call.bytes()).sum();
        before - self.calls.len()
    }

    /// When the next one's moment comes.
    pub fn next_timeout(&self) -> Option<Time> {
        self.calls.first_key_value().map(|((at, _), _)| *at)
    }

    /// Calls that wait.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// What they hold in memory.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<K: Clone> ServerMachine<K> {
    /// A call that nobody waits for was executed. True if that was not the end of it, or not here.
    pub(super) fn conclude(
        &mut self,
        mut call: Box<Call>,
        outcome: Outcome<'_>,
        metadata: &Metadata,
        now: Time,
    ) -> bool {
        let (origin, retry) = (call.origin, call.retry());
        let failed = !matches!(outcome, Outcome::Ok { .. });
        if !failed {
            self.reply(&origin, outcome, metadata, now);
            return false;
        }
        let partition = origin.position.partition;
        if !self.ledger.is_assigned(partition) {
            return false;
        }
        self.gate.failed(origin.position, &mut self.ledger);
        let executions = call.executions() + 1;
        let at = now + self.backoff.pause(&retry, executions);
        if executions >= retry.max || at >= origin.deadline {
            self.counts.given_up += 1;
            match retry.then {
                Then::DeadLetter if call.may_be_buried() => {
                    self.condemn(&call, call.attempt(), why(outcome), now);
                }
                _ => self.reply(&origin, outcome, metadata, now),
            }
            return false;
        }
        if let Some(left) = self.releasing.get_mut(&partition) {
            // The next owner goes on with it; this one waits for no pause any more.
            *left += 1;
            return false;
        }
        self.counts.retried += 1;
        call.failed += 1;
        let due = self.backoff.push(call, at);
        self.intake.list(&origin, Stage::BackingOff(due));
        true
    }

    /// Calls whose pause is over, or that are due now, join those that wait for a place.
    pub(super) fn resume(&mut self, now: Time) {
        while let Some(call) = self.backoff.poll(now) {
            self.ripe = true;
            self.intake.list(&call.origin, Stage::Queued);
            match call.failed {
                // It was not due before.
                0 => self.queue(*call),
                _ => self.enter(*call),
            }
        }
    }
}

/// Why an execution failed, as a status.
fn why(outcome: Outcome<'_>) -> Status {
    match outcome {
        Outcome::Status(status) => status,
        Outcome::Ok { value, .. } | Outcome::App { value, .. } => {
            Status::new(Code::Unknown, "the handler returned an error of its own")
                .with_details(Bytes::copy_from_slice(value))
        }
    }
}

#[cfg(test)]
mod tests;
