//! Calls that are not executed any more, and their way into the topic of dead letters.
//!
//! The letter comes first: only when it is *stored* the caller is told, or the call finished if
//! nobody waits for it. Until then the call is unfinished, so whoever takes its partition over
//! writes the letter once more. A crash between leaves two letters at worst, and never none.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::machine`], for calls whose executions are used up; the driver, which opens topics
//! to: [`crate::outbox`], then [`super::answer`] or [`super::ledger`]

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{
    incoming::{Call, Origin},
    machine::ServerMachine,
    topics::RETRY,
};
use crate::{
    askers::AskerId,
    ids::{InstanceId, PartitionId, Position},
    metadata::Metadata,
    outbox::{Cookies, LaneKey},
    status::Status,
    time::Time,
    transport::{Target, Topic},
    wire::frame::{Dead, Outcome},
};

/// How long a letter is tried whose topic the broker refuses: somebody may be making it good.
const REFUSED: Duration = Duration::from_secs(60);

/// How long a letter is tried at least, even if its caller waits no longer than that.
const AT_LEAST: Duration = Duration::from_secs(5);

/// Bytes of letters on their way from which no more calls are taken.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Letters on their way.
#[derive(Debug, Default)]
pub(super) struct Burials {
    /// Not handed to the outbox yet.
    waiting: VecDeque<Letter>,
    under_way: HashMap<Position, Letter>,
    bytes: usize,
    /// When those that wait are looked at again.
    look: Option<Time>,
}

#[derive(Debug)]
struct Letter {
    origin: Origin,
    attempts: u32,
    status: Status,
    /// When the call was given up, on the broker's clock as far as that is known.
    at: Time,
    frame: Bytes,
    /// The same moment on this process's time line.
    since: Time,
    /// When the letter is given up.
    until: Time,
    /// The broker refused it.
    refused: bool,
    /// Its partition was given away: the next owner has the call, and this letter is one too many.
    lost: bool,
}

impl Letter {
    const fn service(&self) -> u16 {
        self.origin.position.partition.service
    }

    fn bytes(&self) -> usize {
        self.frame.len() + self.status.message().len() + self.status.details().len()
    }

    fn until(&self, refused: bool) -> Time {
        let refused = refused || self.refused;
        if refused { self.until.min(self.since + REFUSED) } else { self.until }
    }
}

impl Burials {
    /// Whether there are no letters on their way.
    pub(super) fn is_idle(&self) -> bool {
        self.bytes == 0
    }

    /// Whether so many letters wait that calls are to stay where they are.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    pub(super) const fn next_timeout(&self) -> Option<Time> {
        self.look
    }

    /// The calls of a partition are somebody else's from here on.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|letter| {
            let stays = letter.origin.position.partition != partition;
            *bytes -= if stays { 0 } else { letter.bytes() };
            stays
        });
        for (position, letter) in &mut self.under_way {
            letter.lost |= position.partition == partition;
        }
    }

    fn wait(&mut self, letter: Letter, now: Time) {
        let until = letter.until(false).min(now + RETRY);
        self.look = Some(self.look.map_or(until, |look| look.min(until)));
        self.waiting.push_back(letter);
    }

    fn take(&mut self, position: &Position) -> Option<Letter> {
        let letter = self.under_way.remove(position)?;
        self.bytes -= letter.bytes();
        Some(letter)
    }
}

impl<K: Clone> ServerMachine<K> {
    /// Ends a call that is not executed any more, after so many attempts: its letter is written,
    /// and when that is stored its caller gets `status`.
    ///
    /// The letter is tried until the call's own deadline if nobody waits for the call, and half
    /// the time that is left to the caller (5 s at least) if somebody does; at most a minute if
    /// the broker refuses. Then the call is counted in
    /// [`dead_letters_failed`](super::stats::ServerCounts::dead_letters_failed), and the caller is
    /// told all the same.
    pub fn condemn(&mut self, call: &Call, attempts: u32, status: Status, now: Time) {
        let origin = call.origin;
        let left = origin.deadline.saturating_since(now);
        let patience = if origin.route.is_some() { left / 2 } else { left };
        let letter = Letter {
            origin,
            attempts,
            status,
            at: self.clock.stamp(now),
            // A copy: a slice would keep the whole record in memory.
            frame: Bytes::copy_from_slice(call.frame.as_ref().map_or(&[], |frame| frame)),
            since: now,
            until: now + patience.max(AT_LEAST),
            refused: false,
            lost: false,
        };
        if letter.frame.is_empty() {
            return self.unburied(letter, now);
        }
        self.burials.bytes += letter.bytes();
        match self.topics.open(letter.service(), Topic::Dead, now) {
            Ok(partitions) => self.write(letter, partitions, now),
            Err(_) => self.burials.wait(letter, now),
        }
    }

    /// Time has passed: letters that wait are tried again, or given up.
    pub(super) fn handle_burial_timeout(&mut self, now: Time) {
        if self.burials.look.is_some_and(|look| look <= now) {
            self.write_waiting(now);
        }
    }

    pub(super) fn write_waiting(&mut self, now: Time) {
        self.burials.look = None;
        for letter in std::mem::take(&mut self.burials.waiting) {
            let topic = self.topics.open(letter.service(), Topic::Dead, now);
            match topic {
                _ if letter.until(topic == Err(true)) <= now => {
                    self.burials.bytes -= letter.bytes();
                    self.unburied(letter, now);
                }
                Ok(partitions) => self.write(letter, partitions, now),
                Err(_) => self.burials.wait(letter, now),
            }
        }
    }

    fn write(&mut self, letter: Letter, partitions: u32, now: Time) {
        let position = letter.origin.position;
        let (service, partition) = (letter.service(), position.partition.partition % partitions);
        let target = Target { service, topic: Topic::Dead, partition, exact: false };
        let lane = LaneKey { target, destination: InstanceId::ANY, asker: AskerId::NOBODY };
        // What does not fit as it is may do so without the cause's details, or without its words.
        let (code, retryable) = (letter.status.code(), letter.status.is_retryable());
        let shorter = |message: &str| Status::new(code, message).with_retryable(retryable);
        let causes = [letter.status.clone(), shorter(letter.status.message()), shorter("")];
        let written = causes.into_iter().any(|cause| {
            let dead = Dead {
                call: letter.origin.id,
                caller: letter.origin.caller,
                partition: position.partition.partition,
                offset: position.offset,
                index: position.index,
                attempts: letter.attempts,
                at: letter.at,
                cause,
                request: &letter.frame,
            };
            self.outbox.push(lane, Some(position), letter.until, |out| dead.encode(out)).is_ok()
        });
        if written {
            if let Some(before) = self.burials.under_way.insert(position, letter) {
                self.burials.bytes -= before.bytes();
            }
        } else {
            self.burials.bytes -= letter.bytes();
            self.unburied(letter, now);
        }
    }

    /// Packets are stored: replies, whose calls are finished, as are those that were moved; or
    /// letters, whose calls are answered.
    pub(super) fn handle_stored(&mut self, cookies: Cookies<Position>, now: Time) {
        if self.burials.is_idle() && self.delays.is_idle() {
            return self.finish_all(cookies);
        }
        for position in cookies {
            if self.was_moved(&position) {
                self.settle(position);
                continue;
            }
            match self.burials.take(&position) {
                None => self.settle(position),
                Some(letter) if letter.lost => {}
                Some(letter) => {
                    self.counts.dead_lettered += 1;
                    self.end(&letter.origin, letter.status, now);
                }
            }
        }
    }

    /// Packets are not stored: replies are given up, letters are tried again for a while.
    pub(super) fn handle_unstored(
        &mut self,
        mut cookies: Cookies<Position>,
        status: &Status,
        now: Time,
    ) {
        cookies.retain(|position| {
            if self.was_not_moved(position, status, now) {
                return false;
            }
            let Some(mut letter) = self.burials.take(position) else { return true };
            if !letter.lost {
                letter.refused = !status.is_retryable();
                self.burials.bytes += letter.bytes();
                self.burials.wait(letter, now);
            }
            false
        });
        if !cookies.is_empty() {
            self.give_up(cookies);
        }
    }

    fn unburied(&mut self, letter: Letter, now: Time) {
        self.counts.dead_letters_failed += 1;
        self.end(&letter.origin, letter.status, now);
    }

    fn end(&mut self, origin: &Origin, status: Status, now: Time) {
        match origin.route {
            Some(_) => self.reply(origin, Outcome::Status(status), &Metadata::new(), now),
            None => self.settle(origin.position),
        }
    }
}

#[cfg(test)]
mod tests;
