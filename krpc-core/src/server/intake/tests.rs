//! Calls that wait, run, come twice, are cancelled and go with their partition.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    askers::AskerId,
    codec::ValueCodec,
    metadata::Metadata,
    server::{incoming::Method, keys::Keys},
};

fn call(id: u64, partition: u32, deadline: u64) -> Call {
    let partition = PartitionId { service: 0, partition };
    let origin = Origin {
        position: Position { partition, offset: 0, index: 0 },
        caller: InstanceId::from_bytes([1; 16]),
        asker: AskerId::NOBODY,
        id: CallId(id),
        route: None,
        received: Time::default(),
        deadline: Time::from_micros(deadline),
        flight: Duration::ZERO,
        key: None,
        silent: false,
        delayed: false,
        listed: u32::MAX,
    };
    Call {
        origin,
        method: Method::Other(Bytes::new()),
        value: Bytes::from_static(b"value"),
        codec: ValueCodec::MessagePack,
        metadata: Metadata::new(),
        fingerprint: 0,
        terms: None,
        frame: None,
        failed: 0,
        fence: 1,
        begins: 0,
        verdict: None,
    }
}

/// Takes a call in, unless it is here already.
fn offer(intake: &mut Intake<u64>, mut call: Call) -> Option<Position> {
    let first = intake.admit(&mut call.origin);
    if first.is_none() {
        intake.offer(call);
    }
    first
}

fn run(intake: &mut Intake<u64>, now: u64) -> Option<usize> {
    match intake.poll_next(Time::from_micros(now), |_| 7)? {
        Next::Run(place, ..) => intake.take_next().map(|_| place),
        next => panic!("{next:?}"),
    }
}

#[test]
fn no_more_than_the_limit_runs_and_order_is_kept() {
    let mut intake = Intake::new(2);
    for id in 0..5 {
        assert_eq!(offer(&mut intake, call(id, 0, 100)), None);
    }
    let first = run(&mut intake, 0).unwrap();
    assert_eq!(intake.listed[first].origin.id, CallId(0));
    run(&mut intake, 0).unwrap();
    assert_eq!(run(&mut intake, 0), None);
    assert!(intake.is_full((0, 0)));
    intake.finish(first).unwrap();
    let third = run(&mut intake, 0).unwrap();
    assert_eq!(intake.listed[third].origin.id, CallId(2));
    assert_eq!((intake.running(), intake.queued()), (2, 2));
}

#[test]
fn what_is_too_late_is_refused_and_occupies_no_place() {
    let mut intake = Intake::<u64>::new(1);
    offer(&mut intake, call(1, 0, 10));
    let next = intake.poll_next(Time::from_micros(10), |_| 7);
    assert!(matches!(next, Some(Next::Expired(origin)) if origin.id == CallId(1)));
    assert_eq!((intake.running(), intake.queued()), (0, 0));
}

#[test]
fn cancel_meets_queued_running_and_unknown_calls() {
    let mut intake = Intake::new(1);
    let caller = InstanceId::from_bytes([1; 16]);
    offer(&mut intake, call(1, 0, 100));
    offer(&mut intake, call(2, 0, 100));
    let place = run(&mut intake, 0).unwrap();
    assert!(matches!(intake.cancel(0, caller, CallId(1)), Cancelled::Running(7)));
    assert!(matches!(intake.cancel(0, caller, CallId(2)), Cancelled::Queued(_)));
    assert!(matches!(intake.cancel(0, caller, CallId(3)), Cancelled::Unknown));
    assert!(matches!(intake.cancel(0, InstanceId::ANY, CallId(1)), Cancelled::Unknown));
    assert_eq!(intake.finish(place).unwrap().1.fate, Fate::Unwanted);
    assert!(matches!(intake.cancel(0, caller, CallId(1)), Cancelled::Unknown));
}

#[test]
fn a_repeated_record_of_a_running_call_is_not_run_beside_it() {
    let mut intake = Intake::new(2);
    let position = call(1, 0, 100).origin.position;
    assert_eq!(offer(&mut intake, call(1, 0, 100)), None);
    run(&mut intake, 0).unwrap();
    let mut elsewhere = call(1, 0, 100);
    elsewhere.origin.position.offset = 1;
    assert_eq!(offer(&mut intake, elsewhere), Some(position));
}

/// A client numbers the calls of each service anew.
#[test]
fn the_same_number_of_another_service_is_another_call() {
    let mut intake = Intake::new(2);
    let mut other = call(1, 0, 100);
    other.origin.position.partition.service = 1;
    let caller = other.origin.caller;
    assert_eq!(offer(&mut intake, call(1, 0, 100)), None);
    run(&mut intake, 0).unwrap();
    assert_eq!(offer(&mut intake, other), None);
    assert!(matches!(intake.cancel(1, caller, CallId(1)), Cancelled::Queued(_)));
    assert!(matches!(intake.cancel(0, caller, CallId(1)), Cancelled::Running(7)));
    assert!(matches!(intake.cancel(1, caller, CallId(1)), Cancelled::Unknown));
}

#[test]
fn a_repeated_record_of_a_call_that_waits_is_not_run_beside_it() {
    let mut intake = Intake::<u64>::new(2);
    let first = call(1, 0, 100).origin.position;
    assert_eq!(offer(&mut intake, call(1, 0, 100)), None);
    assert_eq!(offer(&mut intake, call(1, 1, 100)), Some(first));
    run(&mut intake, 0).unwrap();
    assert_eq!(run(&mut intake, 0), None);
}

#[test]
fn a_partition_that_goes_takes_its_waiting_calls_along() {
    let mut intake = Intake::<u64>::new(10);
    for id in 0..6 {
        offer(&mut intake, call(id, u32::try_from(id).unwrap() % 2, 100));
    }
    assert_eq!(intake.forget_queued(PartitionId { service: 0, partition: 1 }).0, 3);
    assert_eq!(intake.queued(), 3);
    while run(&mut intake, 0).is_some() {}
    assert_eq!((intake.running(), intake.queued_bytes), (3, 0));
}

#[test]
fn many_bytes_are_enough() {
    let mut intake = Intake::<u64>::new(1000);
    let value = Bytes::from(vec![0; QUEUED_BYTES]);
    offer(&mut intake, Call { value, ..call(1, 0, 100) });
    assert!(intake.is_full((0, 0)));
    run(&mut intake, 0).unwrap();
    assert!(!intake.is_full((0, 0)));
}

/// Its handler was cut off and has not ended when its partition comes back.
#[test]
fn a_call_that_was_cut_off_is_taken_again() {
    let mut intake = Intake::new(2);
    let key = Keys::new().hash(b"key");
    let mut keyed = call(1, 0, 100);
    keyed.origin.key = Some(key);
    let partition = keyed.origin.position.partition;
    offer(&mut intake, keyed.clone());
    offer(&mut intake, call(2, 0, 100));
    let place = run(&mut intake, 0).unwrap();
    run(&mut intake, 0).unwrap();
    let cut: Vec<_> = intake.cut_off(partition).collect();
    assert_eq!(cut, [7], "the one without a key runs on");
    assert_eq!(intake.cut_off(partition).count(), 0, "once");
    assert_eq!(intake.cut_off_keys(partition).collect::<Vec<_>>(), [key]);
    assert_eq!(offer(&mut intake, keyed), None);
    assert_eq!(intake.finish(place).unwrap().1.fate, Fate::Left);
    assert_eq!(intake.cut_off_keys(partition).count(), 0);
    let caller = InstanceId::from_bytes([1; 16]);
    let cancelled = intake.cancel(0, caller, CallId(1));
    assert!(matches!(cancelled, Cancelled::Queued(_)), "the new one is what is listed");
}

#[test]
fn what_waits_elsewhere_is_found_by_one_look_and_goes_with_its_partition() {
    let mut intake = Intake::<u64>::new(2);
    let caller = InstanceId::from_bytes([1; 16]);
    let key = Keys::new().hash(b"key");
    let stages = [Stage::Keyed(key), Stage::BackingOff((Time::MAX, 1))];
    for (id, stage) in (0..).zip(stages) {
        let mut origin = call(id, 0, 100).origin;
        assert_eq!(intake.admit(&mut origin), None);
        intake.list(&origin, stage);
        let cancelled = intake.cancel(0, caller, CallId(id));
        let Cancelled::Elsewhere(at, there) = cancelled else { panic!("{cancelled:?}") };
        assert_eq!((at, there), (origin.position, stage));
        assert!(matches!(intake.cancel(0, caller, CallId(id)), Cancelled::Unknown));
        intake.list(&origin, stage);
        assert_eq!(intake.forget_queued(origin.position.partition).0, 0);
        assert_eq!(intake.admit(&mut origin), None, "it is not known any more");
        intake.forget_queued(origin.position.partition);
    }
}

/// Its origin says where it was; another may be there by now.
#[test]
fn a_call_that_ended_and_waits_again_is_listed_anew_and_not_in_anothers_place() {
    let mut intake = Intake::new(2);
    let again = offer_kept(&mut intake, call(1, 0, 100));
    let place = run(&mut intake, 0).unwrap();
    intake.finish(place).unwrap();
    let other = offer_kept(&mut intake, call(2, 0, 100));
    assert_eq!(again.listed, other.listed, "the place was free");
    let due = Stage::BackingOff((Time::MAX, 1));
    intake.list(&again, due);
    let cancelled = intake.cancel(0, again.caller, again.id);
    assert!(matches!(cancelled, Cancelled::Elsewhere(_, stage) if stage == due));
    let cancelled = intake.cancel(0, other.caller, other.id);
    assert!(matches!(cancelled, Cancelled::Queued(call) if call.origin.id == other.id));
    assert!(intake.listed.is_empty() && intake.index.is_empty());
}

#[test]
fn a_call_that_runs_is_not_taken_off_the_list_by_one_of_its_name_that_waits_nowhere() {
    let mut intake = Intake::new(2);
    let origin = offer_kept(&mut intake, call(1, 0, 100));
    let place = run(&mut intake, 0).unwrap();
    intake.unlist(&origin);
    let cancelled = intake.cancel(0, origin.caller, origin.id);
    assert!(matches!(cancelled, Cancelled::Running(7)));
    assert_eq!(intake.running(), 1);
    assert_eq!(intake.finish(place).unwrap().1.fate, Fate::Unwanted);
    let waits = offer_kept(&mut intake, call(2, 0, 100));
    assert_eq!(waits.listed as usize, place, "the place was free");
    assert!(intake.finish(place).is_none(), "what waits there has not ended");
    assert_eq!((intake.running(), intake.queued()), (0, 1));
}

/// Its partition was lost and came back, and its second execution has begun.
#[test]
fn a_call_that_was_cut_off_ends_without_its_successor() {
    let mut intake = Intake::new(300);
    let key = Keys::new().hash(b"key");
    let keyed = || {
        let mut call = call(1, 0, 100);
        call.origin.key = Some(key);
        call
    };
    let origin = offer_kept(&mut intake, keyed());
    let first = run(&mut intake, 0).unwrap();
    assert_eq!(intake.cut_off(origin.position.partition).count(), 1);
    offer_kept(&mut intake, keyed());
    let second = run(&mut intake, 0).unwrap();
    assert_ne!(first, second);
    // The table of names grows while both are there.
    (2..200).for_each(|id| assert_eq!(offer(&mut intake, call(id, 0, 100)), None));
    assert_eq!(intake.cut_off_keys(origin.position.partition).collect::<Vec<_>>(), [key]);
    assert_eq!(intake.finish(first).unwrap().1.fate, Fate::Left);
    let cancelled = intake.cancel(0, origin.caller, origin.id);
    assert!(matches!(cancelled, Cancelled::Running(7)), "the second is listed");
    assert_eq!(intake.finish(second).unwrap().1.fate, Fate::Unwanted);
    assert_eq!((intake.running(), intake.index.len()), (0, 198));
}

/// As [`offer`], and where it is listed then.
fn offer_kept(intake: &mut Intake<u64>, mut call: Call) -> Origin {
    assert_eq!(intake.admit(&mut call.origin), None);
    let origin = call.origin;
    intake.offer(call);
    origin
}
