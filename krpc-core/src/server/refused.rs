//! Records whose seal does not hold. Nothing in them takes effect, and nothing waits for them. Who
//! wrote them is told, unsealed, for there may be no key that both have.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::events`], which opens records · to: [`super::ledger`], as with garbage

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{incoming::way_back, machine::ServerMachine};
use crate::{
    ids::{InstanceId, PartitionId},
    inbox::DropCause,
    outbox::Transmit,
    sealing::Sealer,
    time::Time,
    transport::{Record, Target, Topic},
    wire::{
        coding::Reader,
        frame::Refused,
        packet::{Addresses, Header, Route, Routes},
    },
};

/// How often a sender is told, and how many are in that time.
const PERIOD: Duration = Duration::from_secs(1);
const TOLD: usize = 64;

/// A token of the delivery report that nobody waits for.
const NOBODY: u64 = (1 << 48) - 1;

/// What senders are told of packets that cannot be opened.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Whom, since then.
    told: HashSet<InstanceId>,
    since: Time,
    waiting: VecDeque<Transmit>,
}

impl Refusals {
    /// Whether this sender is told now.
    fn may_tell(&mut self, sender: InstanceId, now: Time) -> bool {
        if now >= self.since + PERIOD {
            self.told.clear();
            self.since = now;
        }
        self.told.len() < TOLD && self.told.insert(sender)
    }

    #[inline]
    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.waiting.pop_front()
    }
}

/// The key id and the routes in the header of a packet, sealed or not.
fn ways_back(packet: &[u8]) -> Option<(u32, Routes)> {
    let mut header = packet[..Header::len_of(packet).ok()?].to_vec();
    let key = u32::from_be_bytes(header[4..8].try_into().ok()?);
    header[3..8].fill(0);
    let Header { reply_to, .. } = Header::decode(&mut Reader::new(&header)).ok()?;
    Some((key, reply_to))
}

impl<K: Clone> ServerMachine<K> {
    /// The same server, whose packets are sealed.
    #[must_use]
    pub fn with_sealer(mut self, sealer: Option<Sealer>) -> Self {
        if let Some(sealer) = sealer {
            self.outbox.seal_with(sealer);
        }
        self
    }

    /// A record that must not be read.
    pub fn handle_refused(&mut self, record: &Record, cause: DropCause, now: Time) {
        let partition = record.partition;
        match record.topic {
            Topic::Delayed => {
                if self.pass_delayed(record, now) {
                    self.inbox.count(cause);
                }
            }
            Topic::Cancels => {
                self.inbox.count(cause);
                // That it was there counts: others wait until the cancels are read.
                self.handle_cancels(&Record { payload: Bytes::new(), ..record.clone() }, now);
            }
            _ if self.fence(partition).is_none() => self.inbox.count(DropCause::NotOwned),
            _ => {
                self.inbox.count(cause);
                self.ledger.open(partition, record.offset, 0);
                self.tell(record, cause, now);
            }
        }
    }

    /// Tells the sender of a packet of calls that it cannot be opened, if settings may be behind
    /// that. Not often: strangers make this server write, too.
    #[cold]
    pub(super) fn tell(&mut self, record: &Record, cause: DropCause, now: Time) {
        let Some(cause) = Refused::number(cause) else { return };
        let Ok(Addresses { sender, .. }) = Addresses::peek(&record.payload) else { return };
        if sender == InstanceId::ANY || !self.refusals.may_tell(sender, now) {
            return;
        }
        let PartitionId { service, .. } = record.partition;
        let Some(served) = self.services.get(usize::from(service)) else { return };
        let Some((key, routes)) = ways_back(&record.payload) else { return };
        let Some(Route::Partition(partition)) = way_back(served.topology, &routes) else { return };
        let word = Refused { cause, key };
        let Some(payload) = self.outbox.aside(sender, |out| word.encode(out)) else { return };
        let target = Target { service, topic: Topic::Replies, partition, exact: false };
        self.refusals.waiting.push_back(Transmit { target, token: NOBODY, payload });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        ids::CallId,
        server::machine::tests::{
            HERE, NOW, commits, deliver, drops, finish, owner, record, request, run, server,
        },
    };

    #[test]
    fn a_record_that_is_refused_is_finished() {
        let mut machine = owner(1);
        machine.handle_refused(&record(HERE, 0, &[request(1)]), DropCause::BadSeal, NOW);
        assert_eq!(run(&mut machine), None);
        assert_eq!(drops(&machine, DropCause::BadSeal), 1);
        assert_eq!(commits(&mut machine), [1]);
        // It was not seen: the real one, should it come, is no duplicate.
        machine.handle_record(&record(HERE, 1, &[request(1)]), NOW);
        let place = run(&mut machine).unwrap();
        finish(&mut machine, place);
        assert_eq!(deliver(&mut machine), [(CallId(1), None)]);
        assert_eq!(commits(&mut machine), [2]);
    }

    #[test]
    fn nothing_is_finished_where_nothing_is_owned() {
        let mut machine = server(1, 1);
        machine.handle_refused(&record(HERE, 0, &[request(1)]), DropCause::BadSeal, NOW);
        assert_eq!((drops(&machine, DropCause::NotOwned), commits(&mut machine).len()), (1, 0));
    }

    #[test]
    fn a_sender_is_told_once_a_second_and_no_more_than_some_are() {
        let mut refusals = Refusals::default();
        let id = |n: usize| InstanceId::from_bytes((n as u128 + 1).to_be_bytes());
        for second in 1..4 {
            let now = Time::from_micros(second * 1_000_000);
            let told = (0..1_000).filter(|n| refusals.may_tell(id(*n), now)).count();
            assert_eq!(told, TOLD);
            assert!(!refusals.may_tell(id(0), now + PERIOD / 2));
        }
    }
}
