//! Owners that die of a call, one after the other: who begins how often.

#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    ids::{CallId, InstanceId, Position},
    metadata::Metadata,
    policy::{Policy, ServerRetry, Then},
    server::{
        commit_map::{FinishedMap, Named},
        incoming::Methods,
        ledger::Ledger,
        machine::tests::{
            HERE, Machine, NOW, answers, commit, deliver, finish, record, request, request_to,
            server, server_of,
        },
        service::MethodDescriptor,
    },
    status::{Code, Status},
    transport::{CommitPoint, Delivery, Record},
    wire::{
        frame::{Frame, Outcome, Request, Terms},
        packet::{Header, Routes},
    },
};

#[test]
fn the_course_of_each_execution() {
    use Course::{Alone, Careful, Never, Plain};
    let courses = |allowed| [0, 1, 2, 3, 4].map(|begins| Course::after(begins, allowed));
    assert_eq!(courses(2), [Plain, Alone, Never, Never, Never]);
    assert_eq!(courses(3), [Plain, Careful, Alone, Never, Never]);
    assert_eq!(courses(5), [Plain, Careful, Alone, Alone, Alone]);
}

#[test]
fn only_what_a_dead_owner_may_have_begun_is_in_doubt() {
    assert!(Takeover::new(Head::default(), None).is_none(), "nobody, or in good order");
    let named = vec![Named { offset: 4, index: 1, begins: 3 }];
    let before = Head { fence: 1, released: false, twice: 10, named, held: Vec::new() };
    let mut takeover = Takeover::new(before.clone(), Some(NOW)).unwrap();
    assert!(takeover.doubts(Some(NOW), 1));
    assert!(!takeover.doubts(Some(NOW + Duration::from_millis(1)), 1), "appended later");
    let begins = [(4, 0), (4, 1), (9, 7), (10, 0)].map(|(at, call)| takeover.begins(at, call));
    assert_eq!(begins, [2, 3, 2, 1]);
    let mut undated = Takeover::new(before, None).unwrap();
    assert!(undated.doubts(None, UNDATED) && !undated.doubts(None, 1));
}

/// A call's number in its log of records, each of so many calls.
const fn number(calls: u64, offset: i64, index: u32) -> u64 {
    offset.unsigned_abs() * calls + index as u64
}

/// Lets an owner go in good order, before it has begun anything or after it has read it all.
fn moves_on(committed: &mut Option<(i64, String)>, packet: &Record, reads: bool) {
    let mut machine = server(1, 1024);
    machine.handle_assigned(&[(HERE, committed.clone())], NOW);
    commit(&mut machine);
    if reads {
        machine.handle_record(packet, NOW);
        commit(&mut machine);
        while machine.poll_dispatch(NOW, |_| 0).is_some() {}
    }
    machine.release(&[HERE], NOW);
    let point = machine.take_released(&[HERE], NOW).remove(0);
    *committed = Some((point.offset, point.metadata));
}

/// Whether servers die of it one after the other, or one between them does not come to it.
#[test]
fn a_move_in_good_order_forgets_no_death() {
    let packet = record(HERE, 0, &[request(0), request(1)]);
    for reads in [false, true] {
        let (mut committed, mut deaths) = (None, 0);
        for _ in 0..10 {
            let mut machine = server(1, 1024);
            machine.handle_assigned(&[(HERE, committed.clone())], NOW);
            let claim = commit(&mut machine);
            machine.handle_record(&packet, NOW);
            let point = [claim, commit(&mut machine)].concat().pop().unwrap();
            let mut run = std::iter::from_fn(|| machine.poll_dispatch(NOW, |_| 0));
            deaths += u32::from(run.any(|it| it.call.origin.id == CallId(0)));
            committed = Some((point.offset, point.metadata));
            moves_on(&mut committed, &packet, reads && deaths < 2);
        }
        assert_eq!(deaths, 3);
    }
    let mut innocent = None;
    for _ in 0..10 {
        moves_on(&mut innocent, &packet, true);
    }
    let mut machine = server(1, 1024);
    machine.handle_assigned(&[(HERE, innocent)], NOW);
    commit(&mut machine);
    machine.handle_record(&packet, NOW);
    assert_eq!(machine.poll_dispatch(NOW, |_| 0).unwrap().call.attempt(), 1, "none died");
}

const RETRIED: Methods = &[&MethodDescriptor {
    name: "work",
    path: "mill/work",
    doc: "",
    args: &[],
    output: "",
    error: None,
    timeout: None,
    idempotent: false,
    policy: &Policy {
        retry: Some(ServerRetry {
            max: 5,
            first: Duration::from_millis(1),
            most: Duration::from_millis(1),
            then: Then::Drop,
        }),
        ..Policy::PLAIN
    },
    fingerprint: 0,
}];

/// Calls 0 and 1, which nobody waits for, behind an owner that may have begun them twice.
fn two_suspects() -> Machine {
    let mut dead = Ledger::new();
    dead.assign(HERE, None, 0).unwrap();
    dead.begin_twice(Position { partition: HERE, offset: 0, index: 1 });
    let point = dead.commit_points().remove(0);
    let mut machine = server_of(RETRIED, 1, 8);
    machine.handle_assigned(&[(HERE, Some((point.offset, point.metadata)))], NOW);
    commit(&mut machine);
    let mut payload = Vec::new();
    let (sender, destination) = (InstanceId::from_bytes([2; 16]), InstanceId::ANY);
    Header { sender, destination, sequence: 0, reply_to: Routes::new() }.encode(&mut payload);
    for call in 0..2 {
        let Frame::Request(request) = request_to("mill/work", call) else { unreachable!() };
        let terms = Terms { answer: Some(Routes::new()), ..Terms::default() };
        let terms = Some(Box::new(terms));
        Frame::Request(Request { terms, ..request }).encode(&mut payload).unwrap();
    }
    machine.handle_record(&Record { payload: payload.into(), ..record(HERE, 0, &[]) }, NOW);
    machine
}

/// It has ended and its server has not: it holds up no other, and is not begun unsaid again.
#[test]
fn a_suspect_that_fails_lets_the_next_one_run() {
    let mut machine = two_suspects();
    let next = |machine: &mut Machine, now: Time| {
        let point = commit(machine).remove(0);
        let (head, _) = FinishedMap::read(point.offset, &point.metadata).unwrap();
        let named: Vec<_> = head.named.iter().map(|it| (it.index, it.begins)).collect();
        let dispatch = machine.poll_dispatch(now, |_| 0);
        assert!(machine.poll_dispatch(now, |_| 0).is_none(), "alone");
        (named, dispatch.map(|it| (it.call.origin.id.0, it.call.attempt(), it.place)))
    };
    let (named, first) = next(&mut machine, NOW);
    let (0, 3, first) = first.unwrap() else { panic!("{first:?}") };
    assert_eq!(named, [(0, 3)]);
    let failed = Outcome::Status(Status::new(Code::Unavailable, "not now"));
    machine.finish(first, failed, &Metadata::new(), NOW);
    let (named, second) = next(&mut machine, NOW);
    let (1, 3, second) = second.unwrap() else { panic!("{second:?}") };
    assert_eq!(named, [(1, 3)], "the first did not end its server");

    let later = NOW + Duration::from_millis(2);
    machine.handle_timeout(later);
    assert!(!machine.has_commits() && machine.poll_dispatch(later, |_| 0).is_none());
    finish(&mut machine, second);
    let (named, again) = next(&mut machine, later);
    let (0, 4, again) = again.unwrap() else { panic!("{again:?}") };
    assert_eq!(named, [(0, 3)], "begun twice before that owner, and by this one in vain");
    finish(&mut machine, again);
    assert_eq!(machine.unfinished(), 0);
}

/// A partition's log, what the group has of it, and what was done to its calls.
struct World {
    records: Vec<Record>,
    culprit: u64,
    committed: Option<(i64, String)>,
    begun: HashMap<u64, u32>,
    answers: HashMap<u64, Option<Code>>,
}

impl World {
    fn new(records: i64, calls: u64, culprit: u64) -> Self {
        let of = |offset| {
            let first = number(calls, offset, 0);
            let frames: Vec<_> = (first..first + calls).map(request).collect();
            record(HERE, offset, &frames)
        };
        let (begun, answers) = (HashMap::new(), HashMap::new());
        Self { records: (0..records).map(of).collect(), culprit, committed: None, begun, answers }
    }

    fn store(&mut self, points: &[CommitPoint]) {
        if let [point] = points {
            self.committed = Some((point.offset, point.metadata.clone()));
        }
    }

    /// One owner, until it dies or all is done; chance decides the order of things. True if it
    /// died.
    fn own(&mut self, attempts: u32, mut chance: impl FnMut(u32) -> bool) -> bool {
        let mut machine: Machine = server(1, 16).with_attempts(attempts);
        machine.handle_assigned(&[(HERE, self.committed.clone())], NOW);
        let next = self.committed.as_ref().map_or(0, |(offset, _)| *offset);
        let mut unread: Vec<_> = self.records.clone().split_off(next.try_into().unwrap());
        let mut running = Vec::new();
        for _ in 0..100_000 {
            if !unread.is_empty() && chance(3) {
                machine.handle_record(&unread.remove(0), NOW);
            }
            if chance(2) {
                while let Some(dispatch) = machine.poll_dispatch(NOW, |_| 0) {
                    let CallId(call) = dispatch.call.origin.id;
                    *self.begun.entry(call).or_default() += 1;
                    if call == self.culprit {
                        return true;
                    }
                    running.push(dispatch.place);
                }
            }
            while !running.is_empty() && chance(2) {
                finish(&mut machine, running.remove(0));
            }
            while let Some((service, topic)) = machine.poll_open() {
                machine.handle_opened(service, topic, &Ok(1), NOW);
            }
            if chance(3) {
                let answered = deliver(&mut machine);
                self.answers.extend(answered.into_iter().map(|(CallId(id), code)| (id, code)));
            }
            if machine.has_commits() && chance(3) {
                let points = machine.poll_commit();
                let made = chance(4);
                if made {
                    self.store(&points);
                }
                machine.handle_committed(&[(HERE, made)], NOW);
            }
            if unread.is_empty() && machine.unfinished() == 0 && !machine.has_commits() {
                return false;
            }
        }
        panic!("it comes to no end: {machine:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_culprit_begins_as_often_as_is_allowed_and_all_others_are_answered(
        seed: u64,
        (records, calls) in (1_i64..12, 1_u64..20),
        which: u64,
        attempts in 2_u32..6,
    ) {
        let all = records.unsigned_abs() * calls;
        let mut world = World::new(records, calls, which % all);
        let mut state = seed;
        let mut chance = |most: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            (state >> 33) % u64::from(most) > 0
        };
        let died = (0..20).take_while(|_| world.own(attempts, &mut chance)).count();
        prop_assert_eq!(died, attempts as usize);
        prop_assert_eq!(world.begun[&world.culprit], attempts);
        for call in 0..all {
            let expected = (call == world.culprit).then_some(Code::Aborted);
            prop_assert_eq!(world.answers.get(&call), Some(&expected), "call {}", call);
            prop_assert!(world.begun[&call] <= attempts, "call {}", call);
        }
        let (offset, text) = world.committed.unwrap();
        let (head, map) = FinishedMap::read(offset, &text).unwrap();
        prop_assert_eq!((offset, map), (records, FinishedMap::default()));
        prop_assert!(head.named.is_empty(), "{:?}", head);
    }
}

/// The order of design: begun, begun again behind a commit, named, given up.
#[test]
fn three_servers_die_of_a_call() {
    let calls: Vec<_> = (0..201).map(request).collect();
    let packet = record(HERE, 0, &calls);
    let mut committed = None;
    for life in 1..=3 {
        let mut machine = server(1, 1024);
        machine.handle_assigned(&[(HERE, committed.clone())], NOW);
        let claim = commit(&mut machine);
        machine.handle_record(&packet, NOW);
        let points = if life == 1 { claim } else { commit(&mut machine) };
        let (head, _) = FinishedMap::read(points[0].offset, &points[0].metadata).unwrap();
        let mut run = std::iter::from_fn(|| machine.poll_dispatch(NOW, |_| 0));
        let attempts: Vec<_> = run.by_ref().map(|it| it.call.attempt()).collect();
        let expected = match life {
            1 => (0, vec![]),
            2 => (1, vec![]),
            _ => (1, vec![Named { offset: 0, index: 0, begins: 3 }]),
        };
        assert_eq!((head.twice, head.named), expected);
        let begun = if life == 3 { 1 } else { 201 };
        assert_eq!(attempts, vec![life; begun], "life {life}");
        committed = Some((points[0].offset, points[0].metadata.clone()));
    }
    let mut machine = server(1, 1024);
    machine.handle_assigned(&[(HERE, committed)], NOW);
    commit(&mut machine);
    machine.handle_record(&packet, NOW);
    assert!(machine.poll_dispatch(NOW, |_| 0).is_none());
    let (service, topic) = machine.poll_open().unwrap();
    machine.handle_opened(service, topic, &Ok(1), NOW);
    assert_eq!(deliver(&mut machine), [(CallId(0), Some(Code::Aborted))]);
    assert_eq!(machine.counts().dead_lettered, 1);
    // The others go on one by one, each when the one before it is finished.
    for call in 1..201 {
        commit(&mut machine);
        let dispatch = machine.poll_dispatch(NOW, |_| 0).unwrap();
        assert_eq!((dispatch.call.origin.id, dispatch.call.attempt()), (CallId(call), 3));
        commit(&mut machine);
        assert!(machine.poll_dispatch(NOW, |_| 0).is_none(), "alone");
        finish(&mut machine, dispatch.place);
        let (transmit, _) = answers(&mut machine).pop().unwrap();
        let stored = Delivery::Stored { appended: None, offset: None };
        machine.handle_delivered(transmit.token, &stored, NOW);
    }
    assert_eq!((machine.unfinished(), machine.counts().aborted), (0, 1));
}
