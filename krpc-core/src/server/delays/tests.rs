//! Delayed calls, from machine to machine over logs in memory.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    delay::{CLASSES, NEAR},
    error::SetupError,
    inbox::{DropCause, Packet},
    murmur2,
    sealing::Asker,
    server::{
        commit_map::FinishedMap,
        machine::tests::{CALLER, Machine, NOW, OUTCOME, cancel, on_terms, server},
    },
    transport::{Delivery, Record, Topology},
    wire::{
        MAX_PACKET_BYTES,
        frame::{Due, Frame, Reply, Terms},
        packet::{Header, Route, Routes},
    },
};

mod trouble;

const PARTITIONS: u32 = 2;
const SECOND: Duration = Duration::from_secs(1);

/// A record whose seal does not hold.
const REFUSED: &[u8] = b"refused";

/// A broker with the topics of one service, and one server, which owns all of it.
struct World {
    now: Time,
    logs: HashMap<(Topic, u32), Vec<(Time, Bytes)>>,
    committed: HashMap<PartitionId, (i64, String)>,
    server: Machine,
    owned: Vec<PartitionId>,
    /// How far each partition was read.
    read: HashMap<(Topic, u32), usize>,
    reports: Vec<(Time, u64, Time, i64)>,
    opened: HashSet<Topic>,
    executed: Vec<(u64, Time)>,
    answers: Vec<(u64, Option<Code>)>,
    sequence: u64,
    /// Handlers do not end.
    busy: bool,
    /// What the broker does not say anything of.
    silent: HashSet<Topic>,
    /// Each so many packets of calls one is refused.
    refuses: Option<u64>,
    /// What it lets nobody write to.
    refused: HashSet<Topic>,
    /// The caller whose key seals calls; the server has its own.
    caller: Option<Asker>,
}

impl World {
    fn new(owned: &[u32]) -> Self {
        let owned = owned.iter().map(|partition| PartitionId { service: 0, partition: *partition });
        let mut world = Self {
            now: NOW,
            logs: HashMap::new(),
            committed: HashMap::new(),
            server: server(1, 1),
            owned: owned.collect(),
            read: HashMap::new(),
            reports: Vec::new(),
            opened: HashSet::new(),
            executed: Vec::new(),
            answers: Vec::new(),
            sequence: 0,
            busy: false,
            silent: HashSet::new(),
            refused: HashSet::new(),
            caller: None,
            refuses: None,
        };
        world.begin();
        world
    }

    /// The server is killed, and another one comes.
    fn kill(&mut self) {
        self.reports.clear();
        self.begin();
    }

    fn begin(&mut self) {
        self.sequence += 1;
        let mut me = [1; 16];
        me[..8].copy_from_slice(&self.sequence.to_le_bytes());
        let topology = Topology { call_partitions: PARTITIONS, reply_partitions: 1 };
        let services = vec![(topology, &[][..])];
        self.server = Machine::new(InstanceId::from_bytes(me), services, 1_000, MAX_PACKET_BYTES);
        self.read.clear();
        self.assign();
    }

    fn assign(&mut self) {
        let assigned: Vec<_> =
            self.owned.iter().map(|id| (*id, self.committed.get(id).cloned())).collect();
        for (id, committed) in &assigned {
            let next = committed.as_ref().map_or(0, |(offset, _)| *offset);
            self.read.insert((Topic::Calls, id.partition), usize::try_from(next).unwrap());
        }
        self.server.handle_assigned(&assigned, self.now);
    }

    fn append(&mut self, topic: Topic, partition: u32, payload: Bytes) -> i64 {
        let log = self.logs.entry((topic, partition)).or_default();
        log.push((self.now, payload));
        i64::try_from(log.len()).unwrap() - 1
    }

    /// A client's packet.
    fn send(&mut self, topic: Topic, partition: u32, to: InstanceId, frames: &[Frame<'_>]) {
        let mut out = Vec::new();
        self.sequence += 1;
        let reply_to = Routes::from_vec(vec![Route::Partition(0)]);
        let (sender, sequence) = (CALLER, self.sequence);
        Header { sender, destination: to, sequence, reply_to }.encode(&mut out);
        frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
        self.append(topic, partition, Bytes::from(out));
    }

    fn call(&mut self, partition: u32, frame: &Frame<'_>) {
        self.send(Topic::Calls, partition, InstanceId::ANY, std::slice::from_ref(frame));
    }

    /// Time passes, and all happens that is to happen by then.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for _ in 0..8 {
            self.drive();
        }
    }

    /// In small steps.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.pass(Duration::from_millis(20).min(until.saturating_since(self.now)));
        }
    }

    fn commit(&mut self) {
        let points = self.server.poll_commit();
        let made: Vec<_> = points.iter().map(|point| (point.partition, true)).collect();
        for point in points {
            self.committed.insert(point.partition, (point.offset, point.metadata));
        }
        self.server.handle_committed(&made, self.now);
    }

    fn drive(&mut self) {
        let now = self.now;
        let silent = self.silent.contains(&Topic::Delayed);
        self.reports.retain(|(at, token, appended, offset)| {
            if silent {
                return true;
            }
            if *at <= now {
                let (appended, offset) = (Some(*appended), Some(*offset));
                self.server.handle_delivered(*token, &Delivery::Stored { appended, offset }, now);
            }
            *at > now
        });
        if self.server.next_timeout().is_some_and(|at| at <= now) {
            self.server.handle_timeout(now);
        }
        while let Some((service, topic)) = self.server.poll_open() {
            self.opened.insert(topic);
            if self.silent.contains(&topic) {
                continue;
            }
            let partitions = if topic == Topic::Delayed { CLASSES } else { 1 };
            self.server.handle_opened(service, topic, &Ok(partitions), now);
            if topic == Topic::Cancels {
                let ends = self.logs.get(&(topic, 0)).map(|log| (0, log.len() as i64));
                self.read.insert((topic, 0), 0);
                self.server.handle_followed(service, ends.into_iter().collect(), now);
            }
        }
        while let Some(read) = self.server.poll_read() {
            match read {
                Read::Find(service) => {
                    let found = self.logs.keys().any(|(topic, _)| *topic == Topic::Delayed);
                    self.server.handle_found(service, Some(found), now);
                }
                Read::End(_, class) => _ = self.read.remove(&(Topic::Delayed, class)),
                Read::From(service, class, from) => {
                    let end = self.logs.get(&(Topic::Delayed, class)).map_or(0, Vec::len);
                    let from = usize::try_from(from).unwrap();
                    self.read.insert((Topic::Delayed, class), from);
                    self.server.handle_reading(service, class, Some((0, end as i64)), now);
                }
            }
        }
        self.deliver();
        if self.server.awaits_commit() {
            self.commit();
        }
        while let Some(dispatch) = self.server.poll_dispatch(now, |_| 7) {
            self.executed.push((dispatch.call.origin.id.0, now));
            if !self.busy {
                self.server.finish(dispatch.place, OUTCOME, &Metadata::new(), now);
            }
        }
        self.transmit();
    }

    /// What the server sends is stored, or refused.
    fn transmit(&mut self) {
        let now = self.now;
        while let Some(transmit) = self.server.poll_transmit(now) {
            let Target { topic, partition, .. } = transmit.target;
            if matches!(topic, Topic::Replies | Topic::Results) {
                self.note_answers(&transmit.payload);
            }
            self.sequence += 1;
            let refused = self.refuses.is_some_and(|each| self.sequence.is_multiple_of(each));
            let refused = refused && matches!(topic, Topic::Calls | Topic::Delayed);
            if refused || self.refused.contains(&topic) {
                let status = Status::new(Code::Unavailable, "refused").with_retryable(false);
                let delivery = Delivery::Failed { status, payload: &[] };
                self.server.handle_delivered(transmit.token, &delivery, now);
                continue;
            }
            let offset = self.append(topic, partition, transmit.payload.into());
            self.reports.push((now + Duration::from_millis(3), transmit.token, now, offset));
        }
    }

    /// Hands over what was not read yet.
    fn deliver(&mut self) {
        for ((topic, partition), next) in &mut self.read {
            let log = self.logs.get(&(*topic, *partition)).map_or(&[][..], |log| log);
            for (appended, payload) in log.iter().skip(*next) {
                let record = Record {
                    topic: *topic,
                    partition: PartitionId { service: 0, partition: *partition },
                    offset: i64::try_from(*next).unwrap(),
                    appended: Some(*appended),
                    payload: payload.clone(),
                    proof: trouble::proof(self.caller.as_ref(), payload),
                };
                *next += 1;
                match topic {
                    _ if record.payload == REFUSED => {
                        self.server.handle_refused(&record, DropCause::BadSeal, self.now);
                    }
                    Topic::Delayed => self.server.handle_delayed(&record, self.now),
                    Topic::Cancels => self.server.handle_cancels(&record, self.now),
                    _ => self.server.handle_record(&record, self.now),
                }
            }
        }
    }

    fn note_answers(&mut self, payload: &[u8]) {
        for frame in Packet::open_any(payload).unwrap().frames() {
            if let Frame::Reply(Reply { call, outcome, .. }) = frame.unwrap() {
                let code = match outcome {
                    Outcome::Status(status) => Some(status.code()),
                    _ => None,
                };
                self.answers.push((call.0, code));
            }
        }
    }

    fn ids(&self) -> Vec<u64> {
        self.executed.iter().map(|(id, _)| *id).collect()
    }

    fn len(&self, topic: Topic) -> usize {
        self.logs.iter().filter(|((of, _), _)| *of == topic).map(|(_, log)| log.len()).sum()
    }
}

/// A call that is due in so long, and whose caller waits a second more.
fn due_in(call: u64, delay: Duration, terms: Terms) -> Frame<'static> {
    due_at(call, NOW + delay, delay + SECOND, terms)
}

fn due_at(call: u64, due: Time, budget: Duration, terms: Terms) -> Frame<'static> {
    let due = Some(Due { due, look: due });
    let Frame::Request(request) = on_terms(call, Terms { due, ..terms }) else { unreachable!() };
    Frame::Request(Request { budget, ..request })
}

#[test]
fn a_call_that_is_due_soon_waits_in_memory() {
    let mut world = World::new(&[0, 1]);
    world.call(1, &due_in(1, SECOND, Terms::default()));
    world.wait(Duration::from_millis(990));
    assert_eq!(world.ids(), [0; 0]);
    world.wait(Duration::from_millis(40));
    assert_eq!((world.ids(), world.len(Topic::Delayed)), (vec![1], 0));
    assert!(!world.opened.contains(&Topic::Delayed), "nothing is asked for");
    world.wait(SECOND);
    assert_eq!(world.answers, [(1, None)]);
    world.commit();
    assert_eq!(world.committed[&PartitionId { service: 0, partition: 1 }].0, 1);
}

#[test]
fn a_call_that_is_due_later_waits_in_the_topic() {
    let mut world = World::new(&[0, 1]);
    world.call(0, &due_in(1, 60 * SECOND, Terms::default()));
    world.wait(SECOND);
    world.commit();
    let (offset, text) = &world.committed[&PartitionId { service: 0, partition: 0 }];
    let head = FinishedMap::read(*offset, text).unwrap().0;
    assert_eq!((*offset, head.held.len()), (1, CLASSES as usize), "the call is moved");
    assert_eq!(world.logs[&(Topic::Delayed, 2)].len(), 1, "for 16 s");
    world.wait(58 * SECOND);
    assert_eq!(world.ids(), [0; 0]);
    world.wait(2 * SECOND);
    assert_eq!(world.answers, [(1, None)], "where its caller waits");
    let late = world.executed[0].1.saturating_since(NOW + 60 * SECOND);
    assert!(world.executed[0].1 >= NOW + 60 * SECOND && late < Duration::from_millis(80));
    assert!(world.len(Topic::Delayed) <= 9, "{} steps", world.len(Topic::Delayed));
}

#[test]
fn a_record_that_is_refused_holds_up_no_delayed_call() {
    let mut world = World::new(&[0, 1]);
    world.append(Topic::Delayed, 2, REFUSED.into());
    world.call(0, &due_in(1, 60 * SECOND, Terms::default()));
    world.wait(61 * SECOND);
    assert_eq!(world.answers, [(1, None)]);
    assert_eq!(world.server.dropped().count(DropCause::BadSeal), 1);
    world.commit();
    let (offset, text) = &world.committed[&PartitionId { service: 0, partition: 0 }];
    assert!(FinishedMap::read(*offset, text).unwrap().0.held[2] > 1, "it is looked through");
}

#[test]
fn who_is_not_the_mover_passes_it_on() {
    let mut world = World::new(&[1]);
    world.call(1, &due_in(1, 10 * SECOND, Terms::default()));
    world.wait(SECOND);
    assert_eq!((world.len(Topic::Delayed), world.logs[&(Topic::Calls, 0)].len()), (0, 1));
    world.owned.push(PartitionId { service: 0, partition: 0 });
    world.commit();
    world.kill();
    world.wait(10 * SECOND);
    assert_eq!(world.answers, [(1, None)]);
}

#[test]
fn calls_with_keys_go_to_their_partitions() {
    let mut world = World::new(&[0, 1]);
    for call in 0..20 {
        let key = Some(call.to_string().into_bytes().into());
        world.call(0, &due_in(call, 2 * SECOND, Terms { key, ..Terms::default() }));
    }
    world.wait(3 * SECOND);
    assert_eq!(world.ids().len(), 20);
    for partition in 0..PARTITIONS {
        for (_, payload) in world.logs[&(Topic::Calls, partition)].clone() {
            let packet = Packet::open_any(&payload).unwrap();
            for frame in packet.frames().filter(|_| packet.header.sender != CALLER) {
                let Frame::Request(request) = frame.unwrap() else { continue };
                let key = request.terms.unwrap().key.unwrap();
                assert_eq!(murmur2::partition(&key, PARTITIONS), partition);
            }
        }
    }
}

#[test]
fn a_cancel_reaches_a_call_wherever_it_waits() {
    let mut world = World::new(&[0, 1]);
    for (call, delay) in [(1, 1), (2, 5), (3, 30), (4, 30)] {
        world.call(0, &due_in(call, delay * SECOND, Terms::default()));
    }
    world.wait(SECOND / 2);
    world.send(Topic::Cancels, 0, CALLER, &[cancel(1), cancel(2)]);
    world.wait(10 * SECOND);
    world.send(Topic::Cancels, 0, CALLER, &[cancel(3)]);
    world.commit();
    world.kill();
    world.wait(25 * SECOND);
    assert_eq!(world.ids(), [4]);
    assert_eq!(world.server.unfinished(), 0);
}

/// It has no part in the order of its key yet, and the topic of results is not open.
#[test]
fn a_cancel_of_a_call_that_is_due_soon_is_told_and_lets_no_other_begin() {
    let mut world = World::new(&[1]);
    world.busy = true;
    let terms = |partition| {
        let answer = Some(Routes::from_vec(vec![partition]));
        Terms { key: Some(b"k"[..].into()), answer, ..Terms::default() }
    };
    for call in [1, 2] {
        world.call(1, &on_terms(call, terms(Route::Partition(0))));
    }
    world.call(1, &due_in(3, SECOND, terms(Route::Results(0))));
    world.wait(Duration::from_millis(100));
    world.send(Topic::Calls, 1, InstanceId::ANY, &[cancel(3)]);
    world.wait(2 * SECOND);
    assert_eq!(world.ids(), [1], "the next one of its key waits for it");
    assert_eq!(world.answers, [(3, Some(Code::Cancelled))]);
}

#[test]
fn the_deadline_counts_from_the_moment_it_is_due() {
    let mut world = World::new(&[0, 1]);
    world.call(0, &due_in(1, 4 * SECOND, Terms::default()));
    world.wait(SECOND);
    // Nobody is there until after its deadline.
    world.commit();
    world.now = world.now + 10 * SECOND;
    world.kill();
    world.wait(SECOND);
    assert_eq!(
        (world.ids(), &world.answers[..]),
        (vec![], &[(1, Some(Code::DeadlineExceeded))][..])
    );
}

#[test]
fn a_partition_that_is_given_back_takes_nothing_with_it() {
    let mut world = World::new(&[0, 1]);
    for call in 0..50 {
        world.call(
            0,
            &due_in(call, SECOND * u32::try_from(2 + call / 5).unwrap(), Terms::default()),
        );
    }
    for _ in 0..8 {
        world.wait(SECOND);
        let owned = world.owned.clone();
        world.server.release(&owned, world.now);
        world.wait(Duration::from_millis(20));
        assert!(world.server.is_released(&owned));
        for point in world.server.take_released(&owned, world.now) {
            world.committed.insert(point.partition, (point.offset, point.metadata));
        }
        assert!(world.server.next_timeout().is_none_or(|at| at > world.now));
        world.kill();
    }
    world.wait(6 * SECOND);
    let mut ids = world.ids();
    ids.sort_unstable();
    assert_eq!(ids, (0..50).collect::<Vec<_>>(), "each once: it ended in good order");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Servers are killed at any moment, with or without a commit before.
    #[test]
    fn none_is_early_and_each_is_executed(
        dues in prop::collection::vec((0_u64..60_000, 0_u32..PARTITIONS), 1..60),
        kills in prop::collection::vec((1_u64..7_000, any::<bool>()), 0..8),
    ) {
        let mut world = World::new(&[0, 1]);
        let hour = Duration::from_secs(3_600);
        for (call, (due, partition)) in (0..).zip(&dues) {
            let due = NOW + Duration::from_millis(*due);
            world.call(*partition, &due_at(call, due, hour, Terms::default()));
        }
        for (after, commits) in &kills {
            world.wait(Duration::from_millis(*after));
            if *commits {
                world.commit();
            }
            world.kill();
        }
        world.wait((NOW + Duration::from_secs(62)).saturating_since(world.now));
        let mut first: HashMap<u64, Time> = HashMap::new();
        for (call, at) in &world.executed {
            first.entry(*call).or_insert(*at);
            let due = dues[usize::try_from(*call).unwrap()].0;
            prop_assert!(*at >= NOW + Duration::from_millis(due));
        }
        prop_assert_eq!(first.len(), dues.len(), "each is executed");
        if kills.is_empty() {
            prop_assert_eq!(world.executed.len(), dues.len(), "once");
            for (call, at) in first {
                let due = NOW + Duration::from_millis(dues[usize::try_from(call).unwrap()].0);
                let late = at.saturating_since(due);
                prop_assert!(late < NEAR / 10, "{late:?} late");
            }
        }
        world.commit();
        prop_assert_eq!(world.server.unfinished(), 0);
    }
}
