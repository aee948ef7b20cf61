//! Who waits for what, over records in any arrangement.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use super::*;
use crate::{
    codec::ValueCodec,
    ids::PartitionId,
    metadata::Metadata,
    sealing::Proof,
    transport::Topic,
    wire::packet::{Header, Routes},
};

const SERVER: InstanceId = InstanceId::from_bytes([1; 16]);
const ALICE: InstanceId = InstanceId::from_bytes([2; 16]);
const BOB: InstanceId = InstanceId::from_bytes([3; 16]);

type Log = Results<u32>;

fn reply(call: u64, value: &'static [u8]) -> Frame<'static> {
    Frame::Reply(Reply {
        call: CallId(call),
        server_elapsed: Micros(3000),
        flight_request: Micros::default(),
        metadata: Cow::Owned(Metadata::new()),
        outcome: Outcome::Ok { codec: ValueCodec::Json, value },
    })
}

fn running(call: u64, attempt: &str) -> Frame<'static> {
    let mut metadata = Metadata::new();
    metadata.insert(Progress::ATTEMPT, attempt).unwrap();
    Frame::Progress(Progress { call: CallId(call), metadata: Cow::Owned(metadata) })
}

fn record(offset: i64, caller: InstanceId, frames: &[Frame<'_>]) -> Record {
    let (sequence, reply_to) = (7, Routes::new());
    let mut out = Vec::new();
    Header { sender: SERVER, destination: caller, sequence, reply_to }.encode(&mut out);
    frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
    let partition = PartitionId { service: 0, partition: 2 };
    Record {
        topic: Topic::Results,
        partition,
        offset,
        appended: None,
        payload: out.into(),
        proof: Proof::None,
    }
}

fn value(seen: &Seen) -> Option<&[u8]> {
    seen.answer.as_ref().map(|answer| match &answer.ending {
        Ending::Ok(_, value) => &value[..],
        other => panic!("{other:?}"),
    })
}

/// The answer that is there.
fn answer(log: &mut Log, id: usize) -> Option<Vec<u8>> {
    let seen = log.poll(id, None, &99)?;
    value(&seen).map(<[u8]>::to_vec)
}

/// A log that is read from this offset on, for one who waits for a call that is never answered.
fn read_from(from: i64) -> Log {
    let mut log = Log::default();
    let (_, wanted) = log.watch((ALICE, CallId(u64::MAX)), from);
    assert!(wanted);
    assert_eq!(log.poll_follow(0), Some(from));
    log
}

#[test]
fn an_answer_wakes_whoever_waits_for_it() {
    let mut log = read_from(10);
    let (mine, wanted) = log.watch((ALICE, CallId(1)), 10);
    assert!(!wanted);
    let (theirs, _) = log.watch((BOB, CallId(1)), 10);
    assert_eq!((log.poll(mine, None, &5), log.poll(theirs, None, &6)), (None, None));
    log.handle_record(&record(10, ALICE, &[running(1, "2")]));
    assert!(log.take_wakes().is_empty());
    log.handle_record(&record(11, ALICE, &[reply(7, b"7"), reply(1, b"1")]));
    assert_eq!(log.take_wakes(), [5]);
    let seen = log.poll(mine, None, &5).unwrap();
    assert_eq!((value(&seen), seen.attempt), (Some(&b"1"[..]), Some(2)));
    assert_eq!(seen.answer.unwrap().server, SERVER);
    assert_eq!(log.poll(theirs, None, &6), None, "of another client's call");
    // The first answer counts, for those who waited and for those who come.
    log.handle_record(&record(12, ALICE, &[reply(1, b"again")]));
    let (late, wanted) = log.watch((ALICE, CallId(1)), 10);
    assert!(!wanted);
    assert_eq!(answer(&mut log, mine), Some(b"1".to_vec()));
    assert_eq!(answer(&mut log, late), Some(b"1".to_vec()));
}

#[test]
fn what_was_read_is_remembered_and_what_lies_before_is_read_again() {
    let mut log = read_from(10);
    for offset in 10..20 {
        log.handle_record(&record(offset, ALICE, &[reply(offset.unsigned_abs(), b"1")]));
    }
    let (inside, wanted) = log.watch((ALICE, CallId(15)), 12);
    assert!(!wanted && answer(&mut log, inside).is_some());
    let (before, wanted) = log.watch((ALICE, CallId(3)), 3);
    assert!(wanted && answer(&mut log, before).is_none());
    let (earlier, _) = log.watch((ALICE, CallId(2)), 2);
    assert_eq!(log.poll_cut(earlier, &8), None);
    // Both in one reading, from the earlier on.
    assert_eq!(log.poll_follow(0), Some(2));
    assert_eq!((log.take_wakes(), log.wants()), (vec![], None));
    log.followed((0, 20));
    assert_eq!(log.take_wakes(), [99, 8]);
    assert_eq!(log.poll_cut(earlier, &8), Some(false));
    // What is left over from the reading before is not taken for this one's.
    log.handle_record(&record(20, ALICE, &[reply(20, b"1")]));
    for offset in 2..21 {
        log.handle_record(&record(offset, ALICE, &[reply(offset.unsigned_abs(), b"1")]));
    }
    assert!(answer(&mut log, before).is_some() && answer(&mut log, earlier).is_some());
    let (again, wanted) = log.watch((ALICE, CallId(20)), 2);
    assert!(!wanted && answer(&mut log, again).is_some());
}

#[test]
fn whoever_asks_for_a_place_is_woken_there() {
    let mut log = read_from(10);
    let (id, _) = log.watch((ALICE, CallId(1)), 10);
    assert_eq!(log.poll(id, Some(12), &4), None);
    log.handle_record(&record(10, ALICE, &[running(1, "nonsense")]));
    assert!(log.take_wakes().is_empty());
    // An offset that holds nothing is passed over.
    log.handle_record(&record(12, BOB, &[reply(1, b"1")]));
    assert_eq!(log.take_wakes(), [4]);
    let seen = log.poll(id, Some(12), &4).unwrap();
    assert_eq!(seen, Seen { attempt: Some(1), answer: None });
    // Of one that is to be read from earlier on, nothing is known yet.
    let (early, _) = log.watch((ALICE, CallId(1)), 5);
    assert_eq!(log.poll(early, Some(6), &4), None);
}

#[test]
fn what_is_kept_no_longer_is_told() {
    let mut log = Log::default();
    let (lost, _) = log.watch((ALICE, CallId(1)), 3);
    let (kept, _) = log.watch((ALICE, CallId(2)), 30);
    let (cut, _) = log.watch((ALICE, CallId(3)), 22);
    let (beyond, _) = log.watch((ALICE, CallId(4)), 41);
    assert_eq!(log.poll_follow(20), Some(20));
    assert_eq!(log.poll_cut(cut, &2), None, "it may be removed just now");
    assert_eq!(log.poll(lost, Some(25), &1), None);
    log.followed((25, 40));
    assert_eq!(log.take_wakes(), [1, 2]);
    let told = [lost, kept, cut, beyond].map(|id| log.poll_cut(id, &1));
    assert_eq!(told, [true, false, true, true].map(Some));
    assert!(log.poll(lost, Some(25), &1).is_some());
    log.handle_record(&record(40, ALICE, &[]));
    assert_eq!(log.poll_cut(beyond, &1), Some(false));
}

/// A record holds many answers, of which few may be wanted.
#[test]
fn an_answer_does_not_keep_its_record_in_memory() {
    let mut log = read_from(0);
    let (id, _) = log.watch((ALICE, CallId(1)), 0);
    let record = record(0, ALICE, &[reply(1, b"1")]);
    log.handle_record(&record);
    assert!(answer(&mut log, id).is_some());
    assert!(record.payload.is_unique());
}

#[test]
fn memory_is_bounded_and_what_it_lost_is_read_again() {
    let mut log = read_from(0);
    log.most = 3 * (OVERHEAD + 1);
    for offset in 0..5_i64 {
        let call = offset.unsigned_abs();
        log.handle_record(&record(offset, ALICE, &[reply(call, b"1")]));
    }
    assert_eq!((log.remembered.len(), log.covered_from), (3, 2));
    let (kept, wanted) = log.watch((ALICE, CallId(2)), 2);
    assert!(!wanted && answer(&mut log, kept).is_some());
    assert!(log.watch((ALICE, CallId(1)), 1).1);
    // An answer is not forgotten along with the news that came before it.
    let mut log = read_from(0);
    log.most = OVERHEAD * 2 + 1;
    log.handle_record(&record(0, ALICE, &[running(1, "1")]));
    log.handle_record(&record(1, ALICE, &[reply(1, b"1")]));
    log.handle_record(&record(2, ALICE, &[running(2, "1")]));
    let (id, wanted) = log.watch((ALICE, CallId(1)), 1);
    assert!(!wanted && answer(&mut log, id).is_some());
}

#[test]
fn a_reading_that_failed_or_stopped_begins_anew() {
    let mut log = read_from(10);
    let (id, _) = log.watch((ALICE, CallId(1)), 12);
    log.failed();
    log.handle_record(&record(10, ALICE, &[reply(1, b"1")]));
    assert_eq!(log.wants(), Some(10));
    assert_eq!(log.poll_follow(0), Some(10));
    log.handle_record(&record(12, ALICE, &[reply(1, b"1")]));
    assert!(answer(&mut log, id).is_some());
    assert_eq!(log.unwatch(id), None);
    assert!(!log.stop_if_idle(), "one is left");
    assert!(!log.watch((ALICE, CallId(1)), 12).1, "it is still read");
    for id in 0..=1 {
        log.unwatch(id);
    }
    assert!(log.stop_if_idle());
    assert!(log.watch((ALICE, CallId(1)), 12).1, "nothing is remembered");
}

#[test]
fn garbage_says_nothing() {
    let mut log = read_from(0);
    let (id, _) = log.watch((ALICE, CallId(1)), 0);
    let garbage = Record { payload: Bytes::from_static(b"garbage"), ..record(0, ALICE, &[]) };
    log.handle_record(&garbage);
    log.handle_record(&record(1, ALICE, &[reply(1, b"1")]));
    assert!(answer(&mut log, id).is_some());
}
