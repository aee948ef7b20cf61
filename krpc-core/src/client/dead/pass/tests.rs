//! Passes over letters and marks, in the order in which records may arrive.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use bytes::Bytes;

use super::*;
use crate::{
    codec::ValueCodec,
    metadata::Metadata,
    sealing::Proof,
    status::{Code, Status},
    transport::Topic,
    wire::{
        frame::{Dead, DeadMark, Request},
        packet::{Header, Routes},
    },
};

const SERVER: InstanceId = InstanceId::from_bytes([1; 16]);
const CALLER: InstanceId = InstanceId::from_bytes([2; 16]);

fn dead(call: u64, request: &[u8]) -> Frame<'_> {
    Frame::Dead(Box::new(Dead {
        call: CallId(call),
        caller: CALLER,
        partition: 0,
        offset: i64::try_from(call).unwrap(),
        index: 0,
        attempts: 3,
        at: Time::from_micros(call),
        cause: Status::new(Code::Aborted, "three times"),
        request,
    }))
}

fn mark(offset: i64, index: u32, fate: Fate) -> Frame<'static> {
    Frame::DeadMark(DeadMark { offset, index, fate, at: Time::from_micros(99) })
}

fn original() -> Vec<u8> {
    let mut out = Vec::new();
    let request = Request {
        call: CallId(1),
        terms: None,
        path: "mill/work",
        budget: std::time::Duration::ZERO,
        deadline: None,
        fingerprint: 0,
        codec: ValueCodec::Json,
        metadata: Cow::Owned(Metadata::new()),
        value: b"{}",
    };
    request.encode(&mut out).unwrap();
    out
}

fn record(partition: u32, offset: i64, sequence: u64, frames: &[Frame<'_>]) -> Record {
    let mut out = Vec::new();
    let reply_to = Routes::new();
    Header { sender: SERVER, destination: InstanceId::ANY, sequence, reply_to }.encode(&mut out);
    frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
    let partition = PartitionId { service: 0, partition };
    Record {
        topic: Topic::Dead,
        partition,
        offset,
        appended: None,
        payload: Bytes::from(out),
        proof: Proof::None,
    }
}

fn pass(fold: Fold, end: i64) -> Pass {
    Pass::new(fold, BTreeMap::from([(0, Span { next: 0, end })]), BTreeMap::new())
}

fn id(offset: i64, index: u32) -> LetterId {
    LetterId { partition: 0, offset, index }
}

fn calls(letters: &[Letter]) -> Vec<u64> {
    letters.iter().map(|letter| letter.call.0).collect()
}

#[test]
fn a_list_has_what_nobody_is_done_with() {
    let bytes = original();
    let mut pass = pass(Fold::list(Time::default(), 10), 4);
    pass.handle_record(&record(0, 0, 0, &[dead(1, &bytes), dead(2, &bytes)]));
    pass.handle_record(&record(0, 1, 1, &[mark(0, 0, Fate::Dropped), dead(3, &bytes)]));
    pass.handle_record(&record(0, 2, 2, &[dead(4, &bytes)]));
    assert!(!pass.is_done());
    pass.handle_record(&record(0, 3, 3, &[mark(2, 0, Fate::Replayed)]));
    assert!(pass.is_done());
    pass.handle_record(&record(0, 4, 4, &[dead(5, &bytes)]));
    let letters = pass.fold.into_letters(10);
    assert_eq!(calls(&letters), [2, 3], "what came after the end is for the next pass");
    assert_eq!((letters[0].id, letters[1].id), (id(0, 1), id(1, 1)));
    assert_eq!(letters[0].request, bytes);
}

#[test]
fn a_list_is_bounded_by_number_and_by_time() {
    let bytes = original();
    let listed = |since, most| {
        let mut pass = pass(Fold::list(Time::from_micros(since), most), 9);
        for call in 1..=9 {
            pass.handle_record(&record(
                0,
                call - 1,
                call.unsigned_abs(),
                &[dead(call.unsigned_abs(), &bytes)],
            ));
        }
        assert!(pass.is_done());
        calls(&pass.fold.into_letters(most))
    };
    assert_eq!(listed(0, 3), [7, 8, 9]);
    assert_eq!(listed(6, 100), [6, 7, 8, 9]);
    assert!(listed(0, 0).is_empty());
}

#[test]
fn a_call_that_was_buried_twice_is_listed_once_and_done_with_once() {
    let bytes = original();
    let mut twice = pass(Fold::list(Time::default(), 10), 3);
    twice.handle_record(&record(0, 0, 0, &[dead(1, &bytes)]));
    twice.handle_record(&record(0, 1, 1, &[dead(1, &bytes)]));
    twice.handle_record(&record(0, 2, 1, &[dead(7, &bytes)]));
    let letters = twice.fold.into_letters(10);
    assert_eq!(calls(&letters), [1], "a packet that was sent twice counts once as well");
    assert_eq!(letters[0].id, id(0, 0));

    let mut marked = pass(Fold::list(Time::default(), 10), 3);
    marked.handle_record(&record(0, 0, 0, &[dead(1, &bytes)]));
    marked.handle_record(&record(0, 1, 1, &[mark(0, 0, Fate::Replayed)]));
    marked.handle_record(&record(0, 2, 2, &[dead(1, &bytes)]));
    assert!(marked.fold.into_letters(10).is_empty());
}

#[test]
fn a_letter_is_found_with_what_became_of_it_first() {
    let bytes = original();
    let mut found = pass(Fold::one(id(0, 1)), 2);
    found.handle_record(&record(0, 0, 0, &[dead(1, &bytes), dead(2, &bytes)]));
    let marks = [mark(0, 0, Fate::Dropped), mark(0, 1, Fate::Replayed), mark(0, 1, Fate::Dropped)];
    found.handle_record(&record(0, 1, 1, &marks));
    assert!(found.is_done());
    assert_eq!(found.fold.fate, Some((Fate::Replayed, Time::from_micros(99))));
    assert_eq!(calls(&found.fold.into_letters(1)), [2]);

    let mut nothing = pass(Fold::one(id(0, 5)), 1);
    nothing.handle_record(&record(0, 0, 0, &[dead(1, &bytes)]));
    assert!(nothing.fold.into_letters(1).is_empty());
}

/// A pass that was given up leaves records on their way: taken for those of the next one, which
/// begins before them, they would end it too early.
#[test]
fn what_is_left_of_the_last_pass_is_not_taken_for_this_one() {
    let bytes = original();
    let spans = BTreeMap::from([(0, Span { next: 0, end: 4 })]);
    let mut pass = Pass::new(Fold::list(Time::default(), 10), spans, BTreeMap::from([(0, 2)]));
    let records: Vec<_> = (0..4)
        .map(|at: i64| record(0, at, at.unsigned_abs(), &[dead(at.unsigned_abs(), &bytes)]))
        .collect();
    [2, 3].iter().for_each(|at: &usize| pass.handle_record(&records[*at]));
    assert!(!pass.is_done());
    records.iter().for_each(|record| pass.handle_record(record));
    assert!(pass.is_done());
    assert_eq!(calls(&pass.fold.into_letters(10)), [0, 1, 2, 3]);
}

#[test]
fn offsets_that_are_missing_and_strange_records_are_passed_over() {
    let bytes = original();
    let mut pass = pass(Fold::list(Time::default(), 10), 9);
    pass.handle_record(&record(0, 2, 0, &[dead(1, &bytes)]));
    let strange = Record { payload: Bytes::from_static(b"garbage"), ..record(0, 3, 1, &[]) };
    pass.handle_record(&strange);
    pass.handle_record(&record(1, 8, 2, &[dead(2, &bytes)]));
    assert!(!pass.is_done(), "that was another partition");
    pass.handle_record(&record(0, 8, 3, &[dead(3, &bytes)]));
    assert!(pass.is_done());
    assert_eq!((pass.taken(), pass.reached()), (3, BTreeMap::from([(0, 9)])));
    assert_eq!(calls(&pass.fold.into_letters(10)), [1, 3]);
}
