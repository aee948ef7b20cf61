//! Letters of calls that are not executed any more, from the machine's side.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use super::*;
use crate::{
    codec::ValueCodec,
    error::SetupError,
    ids::CallId,
    inbox::Inbox,
    outbox::Transmit,
    policy::{Policy, ServerRetry, Then},
    sealing::Proof,
    server::service::MethodDescriptor,
    status::Code,
    transport::{Delivery, Record, Topology},
    wire::{
        MAX_PACKET_BYTES,
        frame::{Frame, Request, Terms},
        packet::{Header, Route, Routes},
    },
};

const ME: InstanceId = InstanceId::from_bytes([1; 16]);
const CALLER: InstanceId = InstanceId::from_bytes([2; 16]);
const HERE: PartitionId = PartitionId { service: 0, partition: 3 };
const NOW: Time = Time::from_micros(1_800_000_000_000_000);
const BUDGET: Duration = Duration::from_secs(40);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const STORED: Delivery<'_> = Delivery::Stored { appended: None, offset: None };

const RETRIED: Policy = Policy {
    retry: Some(ServerRetry {
        max: 2,
        first: Duration::from_millis(1),
        most: Duration::from_millis(1),
        then: Then::DeadLetter,
    }),
    ..Policy::PLAIN
};

const METHODS: &[&MethodDescriptor] = &[&MethodDescriptor {
    name: "work",
    path: "mill/work",
    doc: "",
    args: &[],
    output: "",
    error: None,
    timeout: None,
    idempotent: false,
    policy: &RETRIED,
    fingerprint: 0,
}];

type Machine = ServerMachine<()>;

/// The partition comes, and the group takes the claim.
fn own(machine: &mut Machine) {
    machine.handle_assigned(&[(HERE, None)], NOW);
    machine.poll_commit();
    machine.handle_committed(&[(HERE, true)], NOW);
}

/// A server that owns the partition, and the first of its calls, which is not executed.
fn condemned(reply_to: &[Route], budget: Duration, max_packet: usize) -> (Machine, Call) {
    let topology = Topology { call_partitions: 4, reply_partitions: 1 };
    let mut machine = Machine::new(ME, vec![(topology, METHODS)], 4, max_packet);
    own(&mut machine);
    machine.handle_record(&record(reply_to, budget), NOW);
    while let Some(news) = machine.poll_transmit(NOW) {
        machine.handle_delivered(news.token, &STORED, NOW);
    }
    let call = take(&mut machine);
    (machine, call)
}

fn take(machine: &mut Machine) -> Call {
    let dispatch = machine.poll_dispatch(NOW, |_| ()).unwrap();
    machine.intake.finish(dispatch.place);
    dispatch.call
}

/// Of a caller who waits, or who does not.
fn request(waits: bool, budget: Duration) -> Request<'static> {
    let silent = || Box::new(Terms { answer: Some(Routes::new()), ..Terms::default() });
    Request {
        call: CallId(9),
        terms: (!waits).then(silent),
        path: "mill/work",
        budget,
        deadline: None,
        fingerprint: 5,
        codec: ValueCodec::Json,
        metadata: Cow::Owned(Metadata::new()),
        value: b"[1,2]",
    }
}

fn record(reply_to: &[Route], budget: Duration) -> Record {
    let mut out = Vec::new();
    let (waits, reply_to) = (!reply_to.is_empty(), reply_to.into());
    Header { sender: CALLER, destination: InstanceId::ANY, sequence: 0, reply_to }.encode(&mut out);
    request(waits, budget).encode(&mut out).unwrap();
    let (topic, payload) = (Topic::Calls, Bytes::from(out));
    Record { topic, partition: HERE, offset: 0, appended: None, payload, proof: Proof::None }
}

const ANSWERED: &[Route] = &[Route::Partition(0)];

fn cause() -> Status {
    Status::new(Code::Aborted, "three times").with_retryable(false)
}

/// The next packet with frames that are not news of the server, which are delivered.
fn sent(machine: &mut Machine, now: Time) -> Option<Transmit> {
    loop {
        let transmit = machine.poll_transmit(now)?;
        let news = |frame| matches!(frame, Ok(Frame::Announce(_)));
        let mut inbox = Inbox::new(CALLER);
        if !inbox.open(HERE, &transmit.payload).unwrap().frames().all(news) {
            return Some(transmit);
        }
        machine.handle_delivered(transmit.token, &STORED, now);
    }
}

/// What the next packet says to the caller.
fn told(machine: &mut Machine, now: Time) -> (u64, CallId, Code) {
    let transmit = sent(machine, now).unwrap();
    assert_eq!(transmit.target.topic, Topic::Replies);
    let mut inbox = Inbox::new(CALLER);
    let packet = inbox.open(HERE, &transmit.payload).unwrap();
    let reply = packet.frames().find_map(|frame| match frame.unwrap() {
        Frame::Reply(reply) => Some(reply),
        _ => None,
    });
    match reply.unwrap() {
        crate::wire::frame::Reply { call, outcome: Outcome::Status(status), .. } => {
            (transmit.token, call, status.code())
        }
        other => panic!("{other:?}"),
    }
}

fn committed(machine: &mut Machine) -> Vec<i64> {
    machine.poll_commit().iter().map(|point| point.offset).collect()
}

#[test]
fn a_call_is_finished_only_when_its_letter_is_stored() {
    let (mut machine, call) = condemned(ANSWERED, BUDGET, MAX_PACKET_BYTES);
    machine.condemn(&call, 3, cause(), NOW);
    assert!(sent(&mut machine, NOW).is_none(), "the topic is not open");
    assert_eq!(machine.poll_open(), Some((0, Topic::Dead)));
    assert_eq!(machine.poll_open(), None);
    machine.handle_opened(0, Topic::Dead, &Ok(2), NOW);

    let letter = sent(&mut machine, NOW).unwrap();
    assert_eq!((letter.target.topic, letter.target.partition), (Topic::Dead, 1));
    let mut inbox = Inbox::new(CALLER);
    let packet = inbox.open(HERE, &letter.payload).unwrap();
    let Some(Ok(Frame::Dead(dead))) = packet.frames().next() else { panic!("{packet:?}") };
    assert_eq!((dead.caller, dead.call, dead.attempts), (CALLER, CallId(9), 3));
    assert_eq!((dead.partition, dead.offset, dead.index), (3, 0, 0));
    assert_eq!((&dead.cause, dead.at), (&cause(), NOW));
    let mut original = Vec::new();
    request(true, BUDGET).encode(&mut original).unwrap();
    assert_eq!(dead.request, original, "to the byte");
    assert!(sent(&mut machine, NOW).is_none(), "the caller is not told before");
    assert_eq!((machine.unfinished(), committed(&mut machine)), (1, vec![]));

    machine.handle_delivered(letter.token, &STORED, NOW);
    assert_eq!(machine.unfinished(), 1, "the caller is not told yet");
    let (token, id, code) = told(&mut machine, NOW);
    assert_eq!((id, code), (CallId(9), Code::Aborted));
    machine.handle_delivered(token, &STORED, NOW);
    assert_eq!((machine.unfinished(), committed(&mut machine)), (0, vec![1]));
    assert_eq!((machine.counts().dead_lettered, machine.counts().dead_letters_failed), (1, 0));
    assert_eq!(machine.next_timeout(), None);
}

#[test]
fn a_call_that_nobody_waits_for_is_finished_when_its_letter_is_stored() {
    let (mut machine, call) = condemned(&[], WEEK, MAX_PACKET_BYTES);
    machine.condemn(&call, 2, cause(), NOW);
    assert!(machine.poll_open().is_some());
    machine.handle_opened(0, Topic::Dead, &Ok(1), NOW);
    let letter = sent(&mut machine, NOW).unwrap();
    assert_eq!(machine.unfinished(), 1);
    machine.handle_delivered(letter.token, &STORED, NOW);
    assert_eq!((machine.unfinished(), committed(&mut machine)), (0, vec![1]));
    assert!(sent(&mut machine, NOW).is_none());
    assert_eq!(machine.counts().undeliverable, 0);
}

#[test]
fn a_letter_under_way_finishes_nothing_of_the_next_owner() {
    let (mut machine, call) = condemned(ANSWERED, BUDGET, MAX_PACKET_BYTES);
    machine.condemn(&call, 3, cause(), NOW);
    machine.handle_opened(0, Topic::Dead, &Ok(1), NOW);
    let letter = sent(&mut machine, NOW).unwrap();
    machine.handle_lost(&[HERE], NOW);
    own(&mut machine);
    machine.handle_record(&record(ANSWERED, BUDGET), NOW);
    machine.handle_delivered(letter.token, &STORED, NOW);
    assert_eq!(machine.unfinished(), 1, "it is to be condemned once more");

    let call = take(&mut machine);
    machine.condemn(&call, 3, cause(), NOW);
    let again = sent(&mut machine, NOW).unwrap();
    machine.handle_delivered(again.token, &STORED, NOW);
    assert_eq!(told(&mut machine, NOW).2, Code::Aborted);
}

#[test]
fn letters_that_wait_are_forgotten_with_their_partition() {
    let (mut machine, call) = condemned(ANSWERED, BUDGET, MAX_PACKET_BYTES);
    machine.condemn(&call, 3, cause(), NOW);
    machine.handle_lost(&[HERE], NOW);
    assert!(machine.burials.is_idle());
    machine.handle_opened(0, Topic::Dead, &Ok(1), NOW);
    assert!(sent(&mut machine, NOW).is_none());
    assert_eq!(machine.next_timeout(), None);
}

/// Rings until then; the topic's opening always ends so.
fn ring(machine: &mut Machine, until: Time, opened: &Result<u32, SetupError>) -> u32 {
    let mut tries = 0;
    while let Some(now) = machine.next_timeout().filter(|at| *at <= until) {
        machine.handle_timeout(now);
        while let Some((service, topic)) = machine.poll_open() {
            tries += 1;
            machine.handle_opened(service, topic, opened, now);
        }
    }
    tries
}

fn refused() -> SetupError {
    let text = || "word".to_owned();
    SetupError::Unauthorized { action: text(), resource: text(), cause: text() }
}

#[test]
fn a_refused_topic_is_tried_for_a_minute_and_the_caller_is_told_half_way() {
    for (budget, patience) in [(BUDGET, BUDGET / 2), (Duration::from_secs(600), REFUSED)] {
        let (mut machine, call) = condemned(ANSWERED, budget, MAX_PACKET_BYTES);
        machine.condemn(&call, 3, cause(), NOW);
        assert!(machine.poll_open().is_some());
        machine.handle_opened(0, Topic::Dead, &Err(refused()), NOW);
        let before = NOW + patience - Duration::from_millis(1);
        assert!(ring(&mut machine, before, &Err(refused())) >= 10);
        assert!(sent(&mut machine, before).is_none(), "{budget:?}");
        ring(&mut machine, NOW + patience + RETRY, &Err(refused()));
        let (token, id, code) = told(&mut machine, NOW + patience + RETRY);
        assert_eq!((id, code), (CallId(9), Code::Aborted));
        machine.handle_delivered(token, &STORED, NOW);
        assert_eq!((machine.counts().dead_lettered, machine.counts().dead_letters_failed), (0, 1));
        assert_eq!((machine.unfinished(), machine.next_timeout()), (0, None));
    }
}

#[test]
fn a_broker_that_is_away_is_waited_for_until_the_deadline_if_nobody_waits() {
    let (mut machine, call) = condemned(&[], WEEK, MAX_PACKET_BYTES);
    machine.condemn(&call, 2, cause(), NOW);
    assert!(machine.poll_open().is_some());
    let (endpoint, cause) = (String::new(), String::new());
    let away = SetupError::Unreachable { endpoint, waited: BUDGET, cause };
    machine.handle_opened(0, Topic::Dead, &Err(away.clone()), NOW);
    let hour = NOW + Duration::from_secs(3600);
    ring(&mut machine, hour, &Err(away));
    assert_eq!((machine.unfinished(), machine.counts().dead_letters_failed), (1, 0));
    ring(&mut machine, hour + RETRY, &Ok(1));
    assert_eq!(sent(&mut machine, hour + RETRY).unwrap().target.topic, Topic::Dead);
}

#[test]
fn a_letter_that_was_refused_is_written_again() {
    let (mut machine, call) = condemned(ANSWERED, BUDGET, MAX_PACKET_BYTES);
    machine.condemn(&call, 3, cause(), NOW);
    machine.handle_opened(0, Topic::Dead, &Ok(1), NOW);
    let letter = sent(&mut machine, NOW).unwrap();
    let status = Status::new(Code::PermissionDenied, "no right to write");
    let failed = Delivery::Failed { status, payload: &letter.payload };
    machine.handle_delivered(letter.token, &failed, NOW);
    assert!(sent(&mut machine, NOW).is_none());
    assert_eq!(machine.next_timeout(), Some(NOW + RETRY));
    machine.handle_timeout(NOW + RETRY);
    let again = sent(&mut machine, NOW + RETRY).unwrap();
    assert_eq!(again.target.topic, Topic::Dead);
    machine.handle_delivered(again.token, &STORED, NOW + RETRY);
    assert_eq!(told(&mut machine, NOW + RETRY).2, Code::Aborted);
}

#[test]
fn a_letter_that_is_too_large_loses_its_cause_and_then_itself() {
    let details = Bytes::from(vec![0; 300]);
    let cause = || cause().with_details(details.clone());
    for (room, buried) in [(0, 0), (100, 1), (900, 1)] {
        let mut original = Vec::new();
        request(true, BUDGET).encode(&mut original).unwrap();
        let (mut machine, call) = condemned(ANSWERED, BUDGET, 50 + original.len() + room);
        machine.condemn(&call, 3, cause(), NOW);
        machine.handle_opened(0, Topic::Dead, &Ok(1), NOW);
        if buried == 1 {
            let letter = sent(&mut machine, NOW).unwrap();
            let mut inbox = Inbox::new(CALLER);
            let packet = inbox.open(HERE, &letter.payload).unwrap();
            let Some(Ok(Frame::Dead(dead))) = packet.frames().next() else { panic!("{packet:?}") };
            assert_eq!(dead.cause.details().is_empty(), room < 300);
            assert_eq!((dead.cause.code(), dead.request), (Code::Aborted, &*original));
            machine.handle_delivered(letter.token, &STORED, NOW);
        }
        assert_eq!(machine.counts().dead_lettered, buried, "room {room}");
        assert_eq!(machine.counts().dead_letters_failed, 1 - buried, "room {room}");
    }
}

#[test]
fn letters_that_find_no_way_stop_the_server_from_taking_calls() {
    let (mut machine, mut call) = condemned(&[], WEEK, MAX_PACKET_BYTES);
    call.frame = Some(Box::new(Bytes::from(vec![0; MAX_BYTES / 4])));
    for _ in 0..3 {
        machine.condemn(&call, 2, cause(), NOW);
        assert!(!machine.is_full() && machine.has_room());
    }
    machine.condemn(&call, 2, cause(), NOW);
    assert!(machine.is_full() && !machine.has_room());
}
