//! Calls that nobody waits for: executed again when they fail, in place, until they are given up.

use super::*;
use crate::{
    policy::{Policy, ServerRetry, Then},
    server::{incoming::Methods, service::MethodDescriptor},
};

const RETRY: ServerRetry = ServerRetry {
    max: 3,
    first: Duration::from_millis(100),
    most: Duration::from_secs(10),
    then: Then::Drop,
};

const METHOD: MethodDescriptor = MethodDescriptor {
    name: "add",
    path: "acme.Sum/add",
    doc: "",
    args: &[],
    output: "",
    error: None,
    timeout: Some(Duration::from_millis(300)),
    idempotent: false,
    policy: &Policy { retry: Some(RETRY), ..Policy::PLAIN },
    fingerprint: 0,
};

const METHODS: Methods = &[&METHOD];

fn sum(limit: usize) -> Machine {
    let topology = Topology { call_partitions: 2, reply_partitions: 1 };
    let mut machine = Machine::new(ME, vec![(topology, METHODS)], limit, MAX_PACKET_BYTES);
    own(&mut machine, &[HERE]);
    machine
}

fn one_way(call: u64, key: Option<&[u8]>) -> Frame<'static> {
    let key = key.map(Into::into);
    let terms = Terms { answer: Some(Routes::new()), key, ..Terms::default() };
    let Frame::Request(request) = on_terms(call, terms) else { unreachable!() };
    Frame::Request(Request { budget: Duration::from_secs(3600), ..request })
}

/// What runs next at that moment: its place, its number, and which execution it is.
fn next(machine: &mut Machine, now: Time) -> Option<(usize, u64, u32)> {
    let dispatch = machine.poll_dispatch(now, |_| 7)?;
    Some((dispatch.place, dispatch.call.origin.id.0, dispatch.call.attempt()))
}

/// Two ways to fail.
fn fail(machine: &mut Machine, place: usize, now: Time) {
    let outcome = match place % 2 {
        0 => Outcome::Status(Status::new(Code::Internal, "the handler panicked")),
        _ => Outcome::App { codec: ValueCodec::Json, value: b"\"no\"" },
    };
    machine.finish(place, outcome, &Metadata::new(), now);
}

/// Fails it again and again, and waits out the pauses: each execution, and how long after the
/// previous one it was.
fn fail_all(machine: &mut Machine) -> Vec<(u64, u32, Duration)> {
    let (mut now, mut before, mut executions) = (NOW, NOW, Vec::new());
    loop {
        while let Some((place, call, attempt)) = next(machine, now) {
            executions.push((call, attempt, now.saturating_since(before)));
            before = now;
            fail(machine, place, now);
        }
        let Some(at) = machine.next_timeout() else { return executions };
        now = at;
        machine.handle_timeout(now);
        assert!(machine.take_ripe() && !machine.take_ripe());
    }
}

#[test]
fn success_finishes_it_at_once_and_sends_nothing() {
    let mut machine = sum(1);
    machine.handle_record(&record(HERE, 0, &[one_way(1, None)]), NOW);
    let (place, ..) = next(&mut machine, NOW).unwrap();
    finish(&mut machine, place);
    assert_eq!((deliver(&mut machine), machine.unfinished()), (vec![], 0));
    assert_eq!((machine.counts().undeliverable, commits(&mut machine)), (0, vec![1]));
}

#[test]
fn a_failing_call_is_executed_as_often_as_its_method_says() {
    let mut machine = sum(2);
    machine.handle_record(&record(HERE, 0, &[one_way(1, None)]), NOW);
    let executions = fail_all(&mut machine);
    let counted: Vec<_> = executions.iter().map(|(_, attempt, _)| *attempt).collect();
    assert_eq!(counted, [1, 2, 3]);
    let within = |pause: Duration, millis: u64| {
        (Duration::from_millis(millis * 4 / 5)..=Duration::from_millis(millis * 6 / 5))
            .contains(&pause)
    };
    assert!(within(executions[1].2, 100) && within(executions[2].2, 200), "{executions:?}");
    let counts = machine.counts();
    assert_eq!((counts.executed, counts.retried, counts.given_up), (3, 2, 1));
    assert_eq!((deliver(&mut machine), machine.unfinished()), (vec![], 0));
    assert_eq!(commits(&mut machine), [1]);
}

#[test]
fn what_failed_holds_up_neither_the_others_nor_a_place() {
    let mut machine = sum(1);
    machine.handle_record(&record(HERE, 0, &[one_way(1, None), request(2)]), NOW);
    let (place, ..) = next(&mut machine, NOW).unwrap();
    fail(&mut machine, place, NOW);
    let (place, call, _) = next(&mut machine, NOW).unwrap();
    assert_eq!((call, machine.backoff.len()), (2, 1));
    finish(&mut machine, place);
    assert_eq!(deliver(&mut machine), [(CallId(2), None)]);
    assert_eq!(commits(&mut machine), [0], "and is unfinished all the while");
}

#[test]
fn a_key_waits_for_its_call_that_failed_and_others_go_on() {
    let mut machine = sum(4);
    let frames = [one_way(1, Some(b"a")), one_way(2, Some(b"a")), one_way(3, Some(b"b"))];
    machine.handle_record(&record(HERE, 0, &frames), NOW);
    let (first, ..) = next(&mut machine, NOW).unwrap();
    let (other, call, _) = next(&mut machine, NOW).unwrap();
    assert_eq!(call, 3);
    fail(&mut machine, first, NOW);
    finish(&mut machine, other);
    assert_eq!(next(&mut machine, NOW), None);
    let at = machine.next_timeout().unwrap();
    machine.handle_timeout(at);
    let (first, call, attempt) = next(&mut machine, at).unwrap();
    assert_eq!((call, attempt, next(&mut machine, at)), (1, 2, None));
    finish(&mut machine, first);
    let (second, call, attempt) = next(&mut machine, at).unwrap();
    assert_eq!((call, attempt), (2, 1));
    finish(&mut machine, second);
    assert!(machine.keys.is_empty() && machine.backoff.is_empty());
    assert_eq!(commits(&mut machine), [1]);
}

/// A packet of many calls stays in memory as long as any slice of it does.
#[test]
fn what_is_set_aside_holds_nothing_of_its_record_and_is_counted_whole() {
    let mut machine = sum(1);
    let Frame::Request(unknown) = one_way(3, Some(b"a")) else { unreachable!() };
    let unknown = Frame::Request(Request { path: "acme.Sum/other", ..unknown });
    let frames = [one_way(1, Some(b"a")), one_way(2, Some(b"a")), unknown];
    let Record { payload, .. } = record(HERE, 0, &frames);
    let arrived = Record { payload: payload.clone(), ..record(HERE, 0, &frames) };
    machine.handle_record(&arrived, NOW);
    drop(arrived);
    let dispatch = machine.poll_dispatch(NOW, |_| 7).unwrap();
    let kept = dispatch.call.bytes();
    assert!(kept > dispatch.call.value.len() && !payload.is_unique());
    let place = dispatch.place;
    drop(dispatch);
    assert!(payload.is_unique(), "neither the one that runs nor those behind it hold it");
    assert!((kept * 2..kept * 3).contains(&machine.keys.bytes()));
    fail(&mut machine, place, NOW);
    assert_eq!((machine.backoff.bytes(), payload.is_unique()), (kept, true));
    let at = machine.next_timeout().unwrap();
    machine.handle_timeout(at);
    while let Some((place, ..)) = next(&mut machine, at) {
        finish(&mut machine, place);
    }
    assert_eq!((machine.backoff.bytes(), machine.keys.bytes(), machine.unfinished()), (0, 0, 0));
}

#[test]
fn executions_elsewhere_count() {
    let mut machine = sum(4);
    let terms = Terms { answer: Some(Routes::new()), attempt: Some(3), ..Terms::default() };
    machine.handle_record(&record(HERE, 0, &[on_terms(1, terms)]), NOW);
    assert_eq!(fail_all(&mut machine), [(1, 3, Duration::ZERO)]);
    assert_eq!(machine.counts().given_up, 1);
}

#[test]
fn what_cannot_be_executed_again_in_time_is_given_up_at_once() {
    let mut machine = sum(4);
    let terms = Terms { answer: Some(Routes::new()), ..Terms::default() };
    machine.handle_record(&record(HERE, 0, &[on_terms(1, terms)]), NOW);
    let (place, ..) = next(&mut machine, NOW).unwrap();
    fail(&mut machine, place, NOW + BUDGET - Duration::from_millis(50));
    assert_eq!((machine.counts().given_up, commits(&mut machine)), (1, vec![1]));
}

/// Its method's timeout bounds one execution of it, not the time that it may spend in the topic.
#[test]
fn an_execution_is_over_time_before_its_call_is() {
    let mut machine = sum(4);
    machine.handle_record(&record(HERE, 0, &[one_way(1, None), request(2)]), NOW);
    let one_way = machine.poll_dispatch(NOW, |_| 7).unwrap().call;
    let plain = machine.poll_dispatch(NOW, |_| 7).unwrap().call;
    assert_eq!(one_way.execution_deadline(NOW), NOW + Duration::from_millis(300));
    assert_eq!(one_way.execution_deadline(Time::MAX), one_way.origin.deadline);
    assert_eq!(plain.execution_deadline(NOW), NOW + BUDGET);
}

#[test]
fn a_plain_call_of_the_method_is_answered_with_its_failure() {
    let mut machine = sum(4);
    machine.handle_record(&record(HERE, 0, &[request(1)]), NOW);
    let (place, ..) = next(&mut machine, NOW).unwrap();
    let status = Status::new(Code::Internal, "the handler panicked");
    machine.finish(place, Outcome::Status(status), &Metadata::new(), NOW);
    assert_eq!(deliver(&mut machine), [(CallId(1), Some(Code::Internal))]);
    assert_eq!((machine.counts().retried, machine.backoff.len()), (0, 0));
}

#[test]
fn a_cancel_finds_a_call_that_waits_to_be_executed_again() {
    let mut machine = sum(4);
    let frames = [one_way(1, Some(b"a")), one_way(2, Some(b"a"))];
    machine.handle_record(&record(HERE, 0, &frames), NOW);
    let (place, ..) = next(&mut machine, NOW).unwrap();
    fail(&mut machine, place, NOW);
    machine.handle_record(&record(HERE, 1, &[cancel(1)]), NOW);
    assert!(machine.take_ripe(), "the cancel may have come by another way than calls do");
    assert_eq!((machine.backoff.len(), machine.backoff.bytes()), (0, 0));
    let (place, call, _) = next(&mut machine, NOW).unwrap();
    assert_eq!(call, 2, "its key goes on at once");
    finish(&mut machine, place);
    assert_eq!((machine.counts().cancelled, machine.unfinished()), (1, 0));
    assert!(machine.keys.is_empty() && machine.next_timeout().is_none());
}

#[test]
fn a_release_waits_out_no_pause() {
    let mut machine = sum(4);
    let frames = [one_way(1, None), one_way(2, Some(b"a")), one_way(3, Some(b"a"))];
    machine.handle_record(&record(HERE, 0, &frames), NOW);
    let (first, ..) = next(&mut machine, NOW).unwrap();
    let (second, ..) = next(&mut machine, NOW).unwrap();
    fail(&mut machine, first, NOW);
    machine.release(&[HERE], NOW);
    assert!(!machine.is_released(&[HERE]), "one runs");
    fail(&mut machine, second, NOW);
    assert!(machine.is_released(&[HERE]));
    assert_eq!((machine.backoff.len(), next(&mut machine, NOW)), (0, None));
    let points = machine.take_released(&[HERE], NOW);
    assert_eq!(points.iter().map(|point| point.offset).collect::<Vec<_>>(), [0]);
    assert!(machine.keys.is_empty() && machine.next_timeout().is_none());
}

#[test]
fn a_failure_of_a_lost_call_is_its_next_owners() {
    let mut machine = sum(4);
    machine.handle_record(&record(HERE, 0, &[one_way(1, None)]), NOW);
    let (place, ..) = next(&mut machine, NOW).unwrap();
    machine.handle_lost(&[HERE], NOW);
    fail(&mut machine, place, NOW);
    assert_eq!((machine.backoff.len(), machine.counts().given_up), (0, 0));
}

/// Without options of its own a method's calls are executed once, and kept as dead letters.
#[test]
fn without_retries_the_first_failure_is_the_last() {
    let mut machine = owner(4);
    machine.handle_record(&record(HERE, 0, &[one_way(1, None)]), NOW);
    let (place, ..) = next(&mut machine, NOW).unwrap();
    fail(&mut machine, place, NOW);
    let counts = machine.counts();
    assert_eq!((counts.retried, counts.given_up, counts.undeliverable), (0, 1, 0));
    assert_eq!(commits(&mut machine), [0; 0], "its letter is not stored yet");
    assert_eq!(machine.poll_open(), Some((0, Topic::Dead)));
    machine.handle_opened(0, Topic::Dead, &Ok(1), NOW);
    assert_eq!((deliver(&mut machine), machine.counts().dead_lettered), (vec![], 1));
    assert_eq!(commits(&mut machine), [1]);
}
