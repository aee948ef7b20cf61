//! When packets leave, what they hold, and what becomes of those that fail.

#![allow(clippy::unwrap_used)]

use smallvec::smallvec;

use super::*;
use crate::{
    askers::AskerId,
    status::Code,
    transport::Topic,
    wire::{MAX_PACKET_BYTES, coding::Reader, packet::Route},
};

const ME: InstanceId = InstanceId::from_bytes([1; 16]);
const NOW: Time = Time::from_micros(1_000_000);
const GIVE_UP: Time = Time::from_micros(2_000_000);
const LANE: LaneKey = lane(0);

const fn lane(partition: u32) -> LaneKey {
    let target = Target { service: 0, topic: Topic::Calls, partition, exact: false };
    LaneKey { target, destination: InstanceId::ANY, asker: AskerId::NOBODY }
}

fn outbox(max_packet: usize) -> Outbox<u8> {
    Outbox::new(ME, max_packet, smallvec![Route::Partition(0)])
}

/// Adds a frame of this many bytes, each of them its cookie.
fn push_to(
    outbox: &mut Outbox<u8>,
    key: LaneKey,
    cookie: u8,
    bytes: usize,
) -> Result<(), WireError> {
    outbox.push(key, Some(cookie), GIVE_UP, |out| {
        out.resize(out.len() + bytes, cookie);
        Ok(())
    })?;
    Ok(())
}

fn push(outbox: &mut Outbox<u8>, cookie: u8) {
    push_to(outbox, LANE, cookie, 1).unwrap();
}

/// A packet's sequence, and its frames as they were pushed.
fn open(transmit: &Transmit) -> (u64, Vec<u8>) {
    let mut reader = Reader::new(&transmit.payload);
    let header = Header::decode(&mut reader).unwrap();
    assert_eq!((header.sender, header.reply_to), (ME, smallvec![Route::Partition(0)]));
    (header.sequence, reader.rest().to_vec())
}

fn poll(outbox: &mut Outbox<u8>) -> Option<(u64, Vec<u8>)> {
    outbox.poll_transmit(NOW).as_ref().map(open)
}

/// The tokens of two packets under way, of the cookies 1 and 2.
fn fly_two(outbox: &mut Outbox<u8>) -> [u64; 2] {
    [1, 2].map(|cookie| {
        push(outbox, cookie);
        outbox.poll_transmit(NOW).unwrap().token
    })
}

fn stored(outbox: &mut Outbox<u8>, token: u64) -> Vec<u8> {
    match outbox.handle_delivered(token, Ok(()), NOW) {
        Report::Stored { cookies, .. } => cookies.into_vec(),
        other => panic!("{other:?}"),
    }
}

fn unavailable() -> Status {
    Status::new(Code::Unavailable, "no broker")
}

#[test]
fn a_lone_frame_leaves_at_once() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    assert!(outbox.poll_transmit(NOW).is_none() && outbox.is_idle());
    push(&mut outbox, 1);
    let transmit = outbox.poll_transmit(NOW).unwrap();
    assert_eq!((transmit.target, open(&transmit)), (LANE.target, (0, vec![1])));
    assert!(outbox.poll_transmit(NOW).is_none() && !outbox.is_idle());
    assert_eq!(stored(&mut outbox, transmit.token), [1]);
    assert!(outbox.is_idle());
    let again = outbox.handle_delivered(transmit.token, Ok(()), NOW);
    assert!(matches!(again, Report::Unknown), "reported once");
}

#[test]
fn frames_gather_while_two_packets_fly_and_leave_together_at_a_report() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    let [first, second] = fly_two(&mut outbox);
    (3..=5).for_each(|cookie| push(&mut outbox, cookie));
    assert_eq!((poll(&mut outbox), outbox.in_flight.len()), (None, 2));
    assert_eq!(stored(&mut outbox, first), [1]);
    let third = outbox.poll_transmit(NOW).unwrap();
    assert_eq!(open(&third), (2, vec![3, 4, 5]));
    push(&mut outbox, 6);
    assert_eq!(poll(&mut outbox), None);
    assert_eq!(stored(&mut outbox, third.token), [3, 4, 5]);
    assert_eq!(poll(&mut outbox), Some((3, vec![6])));
    assert_eq!(stored(&mut outbox, second), [2]);
}

#[test]
fn lanes_do_not_wait_for_each_other() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    fly_two(&mut outbox);
    push(&mut outbox, 3);
    push_to(&mut outbox, lane(1), 4, 1).unwrap();
    let transmit = outbox.poll_transmit(NOW).unwrap();
    assert_eq!((transmit.target, open(&transmit).1), (lane(1).target, vec![4]));
    assert_eq!(poll(&mut outbox), None);
}

#[test]
fn a_full_packet_leaves_without_waiting() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    fly_two(&mut outbox);
    push_to(&mut outbox, LANE, 3, FULL_BYTES).unwrap();
    assert_eq!(poll(&mut outbox), Some((2, vec![3; FULL_BYTES])));
    (0..MAX_PACKET_CALLS - 1).for_each(|_| push(&mut outbox, 4));
    assert_eq!(poll(&mut outbox), None);
    push(&mut outbox, 4);
    push(&mut outbox, 5);
    assert_eq!(poll(&mut outbox), Some((3, vec![4; MAX_PACKET_CALLS])));
    assert_eq!(poll(&mut outbox), None, "the last one gathers");
}

#[test]
fn a_frame_that_would_overflow_starts_the_next_packet() {
    let mut outbox = outbox(200);
    let [first, _] = fly_two(&mut outbox);
    push_to(&mut outbox, LANE, 3, 100).unwrap();
    assert_eq!(poll(&mut outbox), None);
    push_to(&mut outbox, LANE, 4, 100).unwrap();
    assert_eq!(poll(&mut outbox), Some((2, vec![3; 100])));
    assert_eq!(poll(&mut outbox), None);
    stored(&mut outbox, first);
    assert_eq!(poll(&mut outbox), None, "two fly");
    push_to(&mut outbox, LANE, 5, 100).unwrap();
    assert_eq!(poll(&mut outbox), Some((3, vec![4; 100])), "in order");
}

#[test]
fn what_cannot_be_packed_is_refused_and_the_lane_as_before() {
    let mut outbox = outbox(200);
    let [first, second] = fly_two(&mut outbox);
    push(&mut outbox, 3);
    let refused = push_to(&mut outbox, LANE, 4, 200).unwrap_err();
    assert!(matches!(refused, WireError::TooLarge { what: "packet", max: 200, .. }), "{refused}");
    let failed = outbox.push(LANE, Some(5), GIVE_UP, |out| {
        out.push(5);
        Err(WireError::NotAscending)
    });
    assert_eq!(failed, Err(WireError::NotAscending));
    push(&mut outbox, 6);
    stored(&mut outbox, first);
    let third = outbox.poll_transmit(NOW).unwrap();
    assert_eq!(open(&third), (2, vec![3, 6]));
    assert_eq!(stored(&mut outbox, third.token), [3, 6]);
    stored(&mut outbox, second);
    push_to(&mut outbox, LANE, 7, 200).unwrap_err();
    assert!(outbox.is_idle(), "nothing gathers");
    assert_eq!(poll(&mut outbox), None);
    push(&mut outbox, 8);
    assert_eq!(poll(&mut outbox), Some((3, vec![8])), "no sequence was spent");
}

#[test]
fn a_failed_packet_is_sent_again_as_it_was_until_it_is_given_up() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    push(&mut outbox, 1);
    let first = outbox.poll_transmit(NOW).unwrap();
    let failed = Err((unavailable(), first.payload.as_slice()));
    let report = outbox.handle_delivered(first.token, failed, NOW);
    assert!(matches!(report, Report::Retried) && !outbox.is_idle());
    assert!(outbox.poll_transmit(NOW).is_none(), "not at once");
    let later = outbox.next_timeout().unwrap();
    assert_eq!(later, NOW + RETRY_BACKOFF);
    outbox.handle_timeout(NOW);
    assert!(outbox.poll_transmit(NOW).is_none());
    outbox.handle_timeout(later);
    let second = outbox.poll_transmit(later).unwrap();
    assert_ne!(second.token, first.token);
    assert_eq!(second.payload, first.payload, "the same sequence, so it is known again");
    let failed = Err((unavailable(), second.payload.as_slice()));
    match outbox.handle_delivered(second.token, failed, GIVE_UP) {
        Report::Failed { cookies, status } => {
            assert_eq!((cookies, status.code()), (smallvec![1], Code::Unavailable));
        }
        other => panic!("{other:?}"),
    }
    assert!(outbox.is_idle() && outbox.next_timeout().is_none());
}

#[test]
fn a_packet_that_can_never_be_sent_is_given_up_at_once() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    push(&mut outbox, 1);
    let transmit = outbox.poll_transmit(NOW).unwrap();
    let failed = Err((unavailable().with_retryable(false), transmit.payload.as_slice()));
    let report = outbox.handle_delivered(transmit.token, failed, NOW);
    assert!(matches!(report, Report::Failed { cookies, .. } if cookies[..] == [1]));
    push(&mut outbox, 2);
    let transmit = outbox.poll_transmit(NOW).unwrap();
    let closed = Rejected::Failed(unavailable());
    let (cookies, _) = outbox.handle_rejected(transmit, closed, NOW).unwrap();
    assert_eq!((cookies, outbox.is_idle()), (smallvec![2], true));
}

#[test]
fn an_exact_packet_is_not_sent_again() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    let exact = LaneKey { target: Target { exact: true, ..LANE.target }, ..LANE };
    push_to(&mut outbox, exact, 1, 1).unwrap();
    let transmit = outbox.poll_transmit(NOW).unwrap();
    assert!(transmit.target.exact);
    let failed = Err((unavailable(), transmit.payload.as_slice()));
    let report = outbox.handle_delivered(transmit.token, failed, NOW);
    assert!(matches!(report, Report::Failed { cookies, .. } if cookies[..] == [1]));
    assert!(outbox.is_idle());
}

#[test]
fn a_packet_that_met_a_full_queue_is_not_overtaken() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    push_to(&mut outbox, lane(1), 9, 1).unwrap();
    let other = outbox.poll_transmit(NOW).unwrap();
    push(&mut outbox, 1);
    let first = outbox.poll_transmit(NOW).unwrap();
    push_to(&mut outbox, LANE, 2, FULL_BYTES).unwrap();
    assert!(outbox.handle_rejected(first, Rejected::Full, NOW).is_none());
    assert_eq!(poll(&mut outbox), None, "the queue is everybody's");
    assert_eq!(outbox.next_timeout(), Some(NOW + RETRY_BACKOFF));
    assert_eq!(stored(&mut outbox, other.token), [9]);
    let again = outbox.poll_transmit(NOW).unwrap();
    assert_eq!(open(&again), (1, vec![1]), "a report tells of room");
    assert!(outbox.handle_rejected(again, Rejected::Full, NOW).is_none());
    assert_eq!(poll(&mut outbox), None);
    outbox.handle_timeout(NOW + RETRY_BACKOFF / 2);
    assert_eq!(poll(&mut outbox), None, "an alarm for something else tells nothing");
    outbox.handle_timeout(NOW + RETRY_BACKOFF);
    assert_eq!(poll(&mut outbox), Some((1, vec![1])), "and so does time");
    assert_eq!(poll(&mut outbox), Some((2, vec![2; FULL_BYTES])));
}

#[test]
fn idle_lanes_are_forgotten_beyond_the_cap() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    let count = u32::try_from(IDLE_LANES).unwrap() + 100;
    for partition in 0..count {
        push_to(&mut outbox, lane(partition), 1, 1).unwrap();
    }
    let tokens: Vec<_> =
        std::iter::from_fn(|| outbox.poll_transmit(NOW)).map(|packet| packet.token).collect();
    assert_eq!((tokens.len(), outbox.lanes.len()), (IDLE_LANES + 100, IDLE_LANES + 100));
    // The first one is in use beyond its report.
    push_to(&mut outbox, lane(0), 2, 1).unwrap();
    for token in tokens {
        stored(&mut outbox, token);
    }
    assert_eq!(outbox.lanes.len(), IDLE_LANES);
    assert!(outbox.by_key.contains_key(&lane(0)) && !outbox.by_key.contains_key(&lane(1)));
    assert_eq!(outbox.by_key.len(), IDLE_LANES);
    let (before, _) = poll(&mut outbox).unwrap();
    push_to(&mut outbox, lane(1), 3, 1).unwrap();
    assert_eq!(poll(&mut outbox), Some((before + 1, vec![3])), "where its reader expects it");
}

#[test]
fn a_lane_that_was_forgotten_is_not_taken_for_the_one_in_its_place() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    let last = u32::try_from(IDLE_LANES).unwrap();
    (0..=last).for_each(|partition| push_to(&mut outbox, lane(partition), 1, 1).unwrap());
    let mut sent: Vec<_> = std::iter::from_fn(|| outbox.poll_transmit(NOW)).collect();
    stored(&mut outbox, sent.pop().unwrap().token);
    assert!(!outbox.by_key.contains_key(&lane(last)), "pushed to last, and forgotten");
    for (cookie, partition) in [(2, last + 1), (3, last)] {
        push_to(&mut outbox, lane(partition), cookie, 1).unwrap();
        let transmit = outbox.poll_transmit(NOW).unwrap();
        assert_eq!((open(&transmit).1, transmit.target), (vec![cookie], lane(partition).target));
        // It is forgotten with its only packet, and there again with it.
        assert!(outbox.handle_rejected(transmit, Rejected::Full, NOW).is_none());
        outbox.handle_timeout(NOW + RETRY_BACKOFF);
        assert_eq!(poll(&mut outbox).unwrap().1, [cookie]);
    }
}

#[test]
fn a_note_is_due_once_for_each_epoch_and_interval() {
    let interval = Duration::from_millis(100);
    let mut note = Note::default();
    let mut due = |epoch, now| note.is_due(epoch, now, interval);
    assert!(due(1, NOW) && !due(1, NOW));
    assert!(due(2, NOW) && !due(2, NOW + interval / 2));
    assert!(due(2, NOW + interval));
}

#[test]
fn a_corked_outbox_waits_for_more_but_not_for_long() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    outbox.cork(NOW);
    assert_eq!(outbox.next_timeout(), None, "nothing is held back");
    push(&mut outbox, 1);
    outbox.cork(NOW + GATHER / 2);
    push(&mut outbox, 2);
    assert_eq!((poll(&mut outbox), outbox.next_timeout()), (None, Some(NOW + GATHER)));
    outbox.handle_timeout(NOW + GATHER / 2);
    assert_eq!(poll(&mut outbox), None, "it is not time yet");
    outbox.uncork();
    assert_eq!(poll(&mut outbox), Some((0, vec![1, 2])));

    outbox.cork(NOW);
    push(&mut outbox, 3);
    let late = outbox.poll_transmit(NOW + GATHER).as_ref().map(open);
    assert_eq!(late, Some((1, vec![3])), "any event after that time will do");
    outbox.cork(NOW + GATHER);
    push_to(&mut outbox, lane(1), 4, 1).unwrap();
    assert!(outbox.poll_transmit(NOW + GATHER).is_none(), "the next cork is one of its own");
    outbox.cork(NOW + 2 * GATHER);
    assert!(outbox.poll_transmit(NOW + 2 * GATHER).is_some(), "and not longer for being renewed");
}

#[test]
fn a_full_packet_leaves_a_corked_outbox() {
    let mut outbox = outbox(MAX_PACKET_BYTES);
    outbox.cork(NOW);
    push_to(&mut outbox, LANE, 1, FULL_BYTES).unwrap();
    assert!(poll(&mut outbox).is_some());
}

#[test]
fn a_packet_that_can_hold_no_more_leaves_a_corked_outbox() {
    let mut outbox = outbox(200);
    outbox.cork(NOW);
    push_to(&mut outbox, LANE, 1, 100).unwrap();
    assert_eq!(poll(&mut outbox), None);
    push_to(&mut outbox, LANE, 2, 100).unwrap();
    assert_eq!(poll(&mut outbox), Some((0, vec![1; 100])));
}
