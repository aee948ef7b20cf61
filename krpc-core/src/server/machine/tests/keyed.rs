//! Calls of a key through the machine: one at a time, in order, finished in order; and what
//! becomes of them when their partition goes.

use super::*;
use crate::{
    policy::Policy,
    server::{incoming::Methods, service::MethodDescriptor},
};

mod order;

pub(super) const AT_MOST_ONCE: Methods = &[&MethodDescriptor {
    name: "add",
    path: "acme.Sum/add",
    doc: "",
    args: &[],
    output: "",
    error: None,
    timeout: None,
    idempotent: false,
    policy: &Policy { at_most_once: true, ..Policy::PLAIN },
    fingerprint: 0,
}];

fn of_key(call: u64, key: &[u8]) -> Frame<'static> {
    on_terms(call, Terms { key: Some(key.into()), ..Terms::default() })
}

/// A server with a record of these calls, all of one key.
fn with(limit: usize, calls: &[u64]) -> Machine {
    let mut machine = owner(limit);
    let frames: Vec<_> = calls.iter().map(|call| of_key(*call, b"key")).collect();
    machine.handle_record(&record(HERE, 0, &frames), NOW);
    machine
}

/// The next call that runs: its place and its number.
fn next(machine: &mut Machine) -> Option<(usize, u64)> {
    let dispatch = machine.poll_dispatch(NOW, |call| call.origin.id.0)?;
    Some((dispatch.place, dispatch.call.origin.id.0))
}

fn only(machine: &mut Machine, wanted: u64) -> usize {
    let (place, call) = next(machine).unwrap();
    assert_eq!((call, next(machine)), (wanted, None));
    place
}

/// Nothing of any call is left in the machine.
fn assert_clean(machine: &Machine) {
    assert!(machine.keys.is_empty() && machine.backoff.is_empty());
    assert_eq!((machine.load(), machine.unfinished()), ((0, 0, machine.load().2), 0));
    assert_eq!(machine.keys.bytes(), 0);
}

#[test]
fn calls_of_a_key_run_one_after_the_other_and_others_beside_them() {
    let mut machine = owner(8);
    let frames = [of_key(1, b"a"), of_key(2, b"a"), of_key(3, b"b"), request(4), of_key(5, b"a")];
    machine.handle_record(&record(HERE, 0, &frames), NOW);
    let began: Vec<_> = std::iter::from_fn(|| next(&mut machine)).collect();
    assert_eq!(began.iter().map(|(_, call)| *call).collect::<Vec<_>>(), [1, 3, 4]);
    for (place, _) in &began[1..] {
        finish(&mut machine, *place);
    }
    assert_eq!(next(&mut machine), None, "the first of its key still runs");
    finish(&mut machine, began[0].0);
    let second = only(&mut machine, 2);
    finish(&mut machine, second);
    let last = only(&mut machine, 5);
    finish(&mut machine, last);
    assert_eq!(deliver(&mut machine).len(), 5);
    assert_clean(&machine);
    assert_eq!(commits(&mut machine), [1]);
}

/// A slow key's calls do not count against those that may run.
#[test]
fn waiting_calls_of_a_key_take_nobodys_place() {
    let calls: Vec<_> = (0..100).collect();
    let mut machine = with(2, &calls);
    assert!(!machine.is_full() && machine.has_room());
    only(&mut machine, 0);
    machine.handle_record(&record(HERE, 1, &[request(200)]), NOW);
    only(&mut machine, 200);
    assert_eq!(machine.keys.waiting(), 99);
}

#[test]
fn many_bytes_of_a_key_are_enough() {
    let mut machine = owner(2);
    let large = vec![0; 200 * 1024];
    let frames = |offset: u64| {
        (0..4).map(move |call| of_key(offset * 4 + call, b"key")).map(|frame| match frame {
            Frame::Request(request) => request,
            _ => unreachable!(),
        })
    };
    let mut offset = 0;
    while !machine.is_full() {
        let requests = frames(offset).map(|it| Frame::Request(Request { value: &large, ..it }));
        let requests: Vec<_> = requests.collect();
        machine.handle_record(&record(HERE, offset.try_into().unwrap(), &requests), NOW);
        offset += 1;
    }
    assert!((20..22).contains(&offset), "{offset} packets of 800 KiB");
    assert!(!machine.has_room());
    while !machine.has_room() {
        let (place, _) = next(&mut machine).unwrap();
        finish(&mut machine, place);
    }
    assert!((9 * 1024..8 * 1024 * 1024).contains(&(machine.keys.bytes())));
}

/// The reply of the second is stored before the first one's: were it committed, a successor would
/// execute the first one after the second.
#[test]
fn a_keyed_crash_repeats_the_end_of_the_sequence() {
    let mut machine = with(8, &[1, 2, 3]);
    let mut sent = Vec::new();
    for call in [1, 2] {
        let place = only(&mut machine, call);
        finish(&mut machine, place);
        sent.append(&mut answers(&mut machine));
    }
    only(&mut machine, 3);
    let [(first, _), (second, _)] = <[_; 2]>::try_from(sent).unwrap();
    machine.handle_delivered(second.token, &STORED, NOW);
    assert_eq!(commits(&mut machine), [0; 0], "a successor finds all three");
    machine.handle_delivered(first.token, &STORED, NOW);
    let points = machine.poll_commit();
    let mut successor = server(1, 8);
    let committed = Some((points[0].offset, points[0].metadata.clone()));
    successor.handle_assigned(&[(HERE, committed)], NOW);
    commit(&mut successor);
    let frames = [1, 2, 3].map(|call| of_key(call, b"key"));
    successor.handle_record(&record(HERE, 0, &frames), NOW);
    // It may be what the first server died of.
    commit(&mut successor);
    only(&mut successor, 3);
    assert_eq!(successor.counts().skipped, 2);
}

#[test]
fn a_cancel_finds_calls_of_keys_wherever_they_are() {
    let mut machine = with(1, &[1, 2, 3, 4]);
    let first = only(&mut machine, 1);
    machine.handle_record(&record(HERE, 1, &[cancel(3), cancel(1)]), NOW);
    assert_eq!((machine.poll_cancel(), machine.poll_cancel()), (Some(1), None));
    assert_eq!(machine.unfinished(), 3, "the waiting one is finished at once");
    finish(&mut machine, first);
    // The second is queued now, for a place.
    machine.handle_record(&record(HERE, 2, &[cancel(2)]), NOW);
    let last = only(&mut machine, 4);
    finish(&mut machine, last);
    assert_eq!(deliver(&mut machine), [(CallId(4), None)]);
    assert_eq!((machine.counts().executed, machine.counts().cancelled), (2, 3));
    assert_clean(&machine);
    assert_eq!(commits(&mut machine), [3]);
}

#[test]
fn what_became_too_late_behind_its_key_is_answered_and_not_executed() {
    let mut machine = with(8, &[1, 2, 3]);
    let place = only(&mut machine, 1);
    machine.finish(place, OUTCOME, &Metadata::new(), NOW + BUDGET);
    assert!(machine.poll_dispatch(NOW + BUDGET, |_| 7).is_none());
    let late = Some(Code::DeadlineExceeded);
    assert_eq!(deliver(&mut machine), [(CallId(1), None), (CallId(2), late), (CallId(3), late)]);
    assert_clean(&machine);
}

#[test]
fn a_release_leaves_what_waits_and_cuts_off_what_runs_on() {
    let mut machine = with(8, &[1, 2, 3]);
    let unkeyed = record(HERE, 1, &[request(9)]);
    machine.handle_record(&unkeyed, NOW);
    let (place, _) = next(&mut machine).unwrap();
    let other = only(&mut machine, 9);
    machine.release(&[HERE], NOW);
    assert!(!machine.is_released(&[HERE]));
    machine.cut_off(&[HERE], NOW);
    assert!(!machine.is_cut_off(&[HERE]));
    assert_eq!((machine.poll_cancel(), machine.poll_cancel()), (Some(1), None), "not the other");
    let status = Status::new(Code::Cancelled, "cut off");
    machine.finish(place, Outcome::Status(status), &Metadata::new(), NOW);
    assert!(machine.is_cut_off(&[HERE]));
    assert_eq!(next(&mut machine), None);
    finish(&mut machine, other);
    assert_eq!(deliver(&mut machine), [(CallId(9), None)], "the successor answers the others");
    assert!(machine.is_released(&[HERE]));
    let points = machine.take_released(&[HERE], NOW);
    assert_eq!(points.iter().map(|point| point.offset).collect::<Vec<_>>(), [0]);
    assert_clean(&machine);
}

/// A session timeout takes the partition, and the next rebalance brings it back while the handler
/// that was cut off has not ended.
#[test]
fn a_lost_key_that_comes_back_waits_for_the_handler_that_was_cut_off() {
    let mut machine = with(8, &[1, 2]);
    let place = only(&mut machine, 1);
    machine.handle_lost(&[HERE], NOW);
    assert_eq!(machine.poll_cancel(), Some(1));
    own(&mut machine, &[HERE]);
    let frames = [1, 2].map(|call| of_key(call, b"key"));
    machine.handle_record(&record(HERE, 0, &frames), NOW);
    assert_eq!(next(&mut machine), None, "two of a key at once");
    finish(&mut machine, place);
    for call in [1, 2] {
        let place = only(&mut machine, call);
        finish(&mut machine, place);
    }
    assert_eq!(deliver(&mut machine), [(CallId(1), None), (CallId(2), None)]);
    assert_clean(&machine);
    assert_eq!(commits(&mut machine), [1]);
}

/// A server that ends gives its at-most-once calls up before its partitions go.
#[test]
fn what_was_given_up_before_its_release_counts_as_cut_off_until_it_ends() {
    let mut machine = server_of(AT_MOST_ONCE, 1, 8);
    own(&mut machine, &[HERE]);
    machine.handle_record(&record(HERE, 0, &[of_key(1, b"key")]), NOW);
    commit(&mut machine);
    let place = only(&mut machine, 1);
    machine.retire(NOW);
    deliver(&mut machine);
    machine.abandon(NOW);
    machine.cut_off(&[HERE], NOW);
    assert_eq!((machine.poll_cancel(), machine.poll_cancel()), (Some(1), None));
    assert!(!machine.is_cut_off(&[HERE]));
    machine.take_released(&[HERE], NOW);
    assert!(machine.is_ending() && !machine.is_flushed(), "the answer is still to be stored");
    assert_eq!(deliver(&mut machine), [(CallId(1), Some(Code::Unknown))]);
    assert!(machine.is_flushed());
    finish(&mut machine, place);
    assert!(machine.is_cut_off(&[HERE]));
}

#[test]
fn a_call_of_a_key_that_was_written_twice_is_finished_in_its_second_place() {
    let mut machine = with(8, &[1, 2]);
    let place = only(&mut machine, 1);
    machine.handle_record(&record(HERE, 1, &[of_key(1, b"key"), of_key(2, b"key")]), NOW);
    assert_eq!((drops(&machine, DropCause::Duplicate), machine.unfinished()), (2, 2));
    finish(&mut machine, place);
    let second = only(&mut machine, 2);
    finish(&mut machine, second);
    assert_eq!(deliver(&mut machine), [(CallId(1), None), (CallId(2), None)], "answered once");
    assert_clean(&machine);
    assert_eq!(commits(&mut machine), [2]);
}
