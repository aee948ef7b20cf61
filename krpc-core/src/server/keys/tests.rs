//! The keys alone: who goes, who waits, what is finished.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    askers::AskerId,
    codec::ValueCodec,
    ids::{CallId, InstanceId},
    metadata::Metadata,
    policy::Policy,
    server::{incoming::Method, service::MethodDescriptor},
    time::Time,
};

const HERE: PartitionId = PartitionId { service: 0, partition: 0 };
const THERE: PartitionId = PartitionId { service: 0, partition: 1 };

const ONCE: &MethodDescriptor = &MethodDescriptor {
    name: "once",
    path: "keys/once",
    doc: "",
    args: &[],
    output: "",
    error: None,
    timeout: None,
    idempotent: false,
    policy: &Policy { at_most_once: true, ..Policy::PLAIN },
    fingerprint: 0,
};

const fn at(partition: PartitionId, offset: i64) -> Position {
    Position { partition, offset, index: 0 }
}

fn call(keys: &Keys, key: &str, position: Position) -> Call {
    let origin = Origin {
        position,
        caller: InstanceId::from_bytes([1; 16]),
        asker: AskerId::NOBODY,
        id: CallId(0),
        route: None,
        received: Time::default(),
        deadline: Time::MAX,
        flight: Duration::ZERO,
        key: Some(keys.hash(key.as_bytes())),
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

/// Puts a call in; whether it goes at once.
fn push(keys: &mut Keys, key: &str, position: Position) -> bool {
    let call = call(keys, key, position);
    keys.push(call).is_some()
}

fn next(keys: &mut Keys, key: &str) -> Option<i64> {
    let key = keys.hash(key.as_bytes());
    keys.next(HERE, key).map(|call| call.origin.position.offset)
}

fn ended(keys: &mut Keys, key: &str) {
    let key = keys.hash(key.as_bytes());
    keys.ended(HERE, key);
}

/// The offsets that are finished by this.
fn settle(keys: &mut Keys, offset: i64) -> Vec<i64> {
    let mut finished = Vec::new();
    keys.settle(at(HERE, offset), |position| finished.push(position.offset));
    finished
}

#[test]
fn one_call_of_a_key_goes_and_the_next_one_when_it_has_ended() {
    let mut keys = Keys::new();
    assert!(push(&mut keys, "a", at(HERE, 0)));
    assert!(!push(&mut keys, "a", at(HERE, 1)) && !push(&mut keys, "a", at(HERE, 2)));
    assert!(push(&mut keys, "b", at(HERE, 3)), "another key");
    assert!(push(&mut keys, "a", at(THERE, 4)), "the same key where it does not belong");
    assert_eq!((keys.waiting(), keys.bytes()), (2, 10));
    assert_eq!(next(&mut keys, "a"), None);
    ended(&mut keys, "a");
    assert_eq!((next(&mut keys, "a"), next(&mut keys, "a")), (Some(1), None));
    assert_eq!((keys.waiting(), keys.bytes()), (1, 5));
}

#[test]
fn calls_of_a_key_are_finished_in_order() {
    let mut keys = Keys::new();
    for offset in 0..4 {
        push(&mut keys, "a", at(HERE, offset));
    }
    push(&mut keys, "b", at(HERE, 9));
    assert_eq!(settle(&mut keys, 2), [0; 0]);
    assert_eq!(settle(&mut keys, 9), [9], "another key's");
    assert_eq!(settle(&mut keys, 7), [7], "one without a key");
    assert_eq!(settle(&mut keys, 0), [0]);
    assert_eq!(settle(&mut keys, 1), [1, 2]);
}

#[test]
fn nothing_is_left_of_a_key_whose_calls_are_finished() {
    let mut keys = Keys::new();
    push(&mut keys, "a", at(HERE, 0));
    push(&mut keys, "a", at(HERE, 1));
    ended(&mut keys, "a");
    assert_eq!(next(&mut keys, "a"), Some(1));
    assert_eq!((settle(&mut keys, 1), settle(&mut keys, 0)), (vec![], vec![0, 1]));
    assert!(!keys.is_empty(), "its handler still runs");
    ended(&mut keys, "a");
    assert!(keys.is_empty() && keys.open.is_empty());
}

#[test]
fn a_waiting_call_can_be_taken_out() {
    let mut keys = Keys::new();
    for offset in 0..3 {
        push(&mut keys, "a", at(HERE, offset));
    }
    let key = keys.hash(b"a");
    assert!(keys.cancel(at(HERE, 1), key).is_some() && keys.cancel(at(HERE, 1), key).is_none());
    assert!(keys.cancel(at(HERE, 0), key).is_none(), "it does not wait");
    assert_eq!(settle(&mut keys, 1), [0; 0]);
    ended(&mut keys, "a");
    assert_eq!(next(&mut keys, "a"), Some(2));
    assert_eq!(settle(&mut keys, 0), [0, 1]);
}

/// What may run once at most is finished before it begins: were its predecessor repeated after a
/// crash, that would be after it.
#[test]
fn what_may_run_once_waits_until_all_before_it_are_finished() {
    let mut keys = Keys::new();
    push(&mut keys, "a", at(HERE, 0));
    let once = Call { method: Method::Known(ONCE), ..call(&keys, "a", at(HERE, 1)) };
    assert!(keys.push(once).is_none());
    ended(&mut keys, "a");
    assert_eq!(next(&mut keys, "a"), None, "its predecessor's reply is under way");
    let key = keys.settle(at(HERE, 0), |_| {});
    assert_eq!(key, Some(keys.hash(b"a")), "somebody may have waited for that");
    assert_eq!(next(&mut keys, "a"), Some(1));
}

#[test]
fn a_partition_takes_its_calls_along_but_not_what_still_runs() {
    let mut keys = Keys::new();
    for offset in 0..3 {
        push(&mut keys, "a", at(HERE, offset));
        push(&mut keys, "b", at(HERE, offset + 10));
        push(&mut keys, "c", at(THERE, offset));
    }
    assert_eq!(keys.forget_waiting(HERE), 4);
    assert_eq!((keys.waiting(), keys.bytes()), (2, 10));
    let running = keys.hash(b"a");
    keys.forget(HERE, [running].into_iter());
    assert!(!push(&mut keys, "a", at(HERE, 0)), "its handler was cut off and has not ended");
    assert!(push(&mut keys, "b", at(HERE, 10)));
    ended(&mut keys, "a");
    assert_eq!(next(&mut keys, "a"), Some(0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(u8),
    /// The call of the key that runs ends.
    End(u8),
    /// One of the replies under way is delivered.
    Deliver(usize),
    /// One of those that wait is taken out.
    Cancel(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..4).prop_map(Step::Arrive),
        3 => (0_u8..4).prop_map(Step::End),
        2 => any::<usize>().prop_map(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Cancel),
    ]
}

proptest! {
    /// Whatever ends and is delivered when: of each key one runs at a time, in order, and what is
    /// finished of those that ran is their beginning.
    #[test]
    fn any_interleaving_leaves_a_prefix(steps in proptest::collection::vec(step(), 1..200)) {
        let mut keys = Keys::new();
        let mut of: Vec<u8> = Vec::new();
        let (mut running, mut under_way) = ([None; 4], Vec::new());
        let (mut ran, mut finished) = (vec![Vec::new(); 4], vec![Vec::new(); 4]);
        let mut waiting = Vec::new();
        for step in steps {
            match step {
                Step::Arrive(key) => {
                    let offset = i64::try_from(of.len()).unwrap();
                    of.push(key);
                    let place = &mut running[usize::from(key)];
                    if push(&mut keys, &key.to_string(), at(HERE, offset)) {
                        prop_assert!(place.is_none());
                        *place = Some(offset);
                    } else {
                        waiting.push(offset);
                    }
                }
                Step::End(key) => {
                    let number = usize::from(key);
                    let Some(offset) = running[number].take() else { continue };
                    ran[number].push(offset);
                    under_way.push(offset);
                    ended(&mut keys, &key.to_string());
                    running[number] = next(&mut keys, &key.to_string());
                    waiting.retain(|offset| Some(*offset) != running[number]);
                }
                Step::Deliver(pick) if !under_way.is_empty() => {
                    let offset = under_way.swap_remove(pick % under_way.len());
                    for offset in settle(&mut keys, offset) {
                        finished[usize::from(of[usize::try_from(offset).unwrap()])].push(offset);
                    }
                }
                Step::Cancel(pick) if !waiting.is_empty() => {
                    let offset = waiting.swap_remove(pick % waiting.len());
                    let key = of[usize::try_from(offset).unwrap()].to_string();
                    let key = keys.hash(key.as_bytes());
                    prop_assert!(keys.cancel(at(HERE, offset), key).is_some());
                    settle(&mut keys, offset);
                }
                Step::Deliver(_) | Step::Cancel(_) => {}
            }
            for key in 0..4 {
                prop_assert!(ran[key].is_sorted());
                let mut executed = finished[key].clone();
                executed.retain(|offset| ran[key].contains(offset));
                prop_assert!(ran[key].starts_with(&executed), "{:?} {:?}", ran[key], executed);
            }
            prop_assert_eq!(keys.waiting(), waiting.len());
        }
    }
}

/// One that was not due before comes behind what had come by then, and what follows it waits for
/// it: nothing can be finished before it that is not.
#[test]
fn a_call_that_comes_when_it_is_due_has_its_place_by_then() {
    let mut keys = Keys::new();
    assert!(push(&mut keys, "a", at(HERE, 7)));
    let once = Call { method: Method::Known(ONCE), ..call(&keys, "a", at(HERE, 8)) };
    assert!(keys.push(once).is_none());
    assert!(!push(&mut keys, "a", at(HERE, 5)) && !push(&mut keys, "a", at(HERE, 9)));
    assert!(!push(&mut keys, "a", at(HERE, 6)));
    ended(&mut keys, "a");
    assert_eq!(next(&mut keys, "a"), None, "nothing before it is repeated");
    assert_eq!(settle(&mut keys, 7), [7]);
    assert_eq!(next(&mut keys, "a"), Some(8));
    ended(&mut keys, "a");
    assert_eq!(next(&mut keys, "a"), Some(5));
    let key = keys.hash(b"a");
    assert!(keys.cancel(at(HERE, 9), key).is_some());
    assert_eq!((settle(&mut keys, 5), settle(&mut keys, 9)), (vec![], vec![]));
    assert_eq!(settle(&mut keys, 8), [8, 5, 9]);
    ended(&mut keys, "a");
    assert_eq!((next(&mut keys, "a"), settle(&mut keys, 6)), (Some(6), vec![6]));
    ended(&mut keys, "a");
    assert!(keys.is_empty() && keys.open.is_empty());
}
