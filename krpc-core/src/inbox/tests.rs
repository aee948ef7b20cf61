//! Records, sound and not, and what they are counted as.

#![allow(clippy::unwrap_used)]

use std::{borrow::Cow, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    codec::ValueCodec,
    ids::CallId,
    metadata::Metadata,
    window::WINDOW,
    wire::{
        coding::put_varint,
        frame::{Cancel, Request},
        packet::Route,
    },
};

const ME: InstanceId = InstanceId::from_bytes([1; 16]);
const PEER: InstanceId = InstanceId::from_bytes([2; 16]);
const HERE: PartitionId = PartitionId { service: 0, partition: 3 };

fn request(call: u64) -> Frame<'static> {
    Frame::Request(Request {
        call: CallId(call),
        terms: None,
        path: "acme.Sum/add",
        budget: Duration::from_secs(1),
        deadline: None,
        fingerprint: 0,
        codec: ValueCodec::Json,
        metadata: Cow::Owned(Metadata::new()),
        value: b"[1,2]",
    })
}

fn on_terms(call: u64) -> Frame<'static> {
    let Frame::Request(request) = request(call) else { unreachable!() };
    Frame::Request(Request { terms: Some(Box::default()), ..request })
}

fn cancel(call: u64) -> Frame<'static> {
    Frame::Cancel(Cancel { call: CallId(call) })
}

fn packet(destination: InstanceId, sequence: u64, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let reply_to = vec![Route::Partition(0)].into();
    Header { sender: PEER, destination, sequence, reply_to }.encode(&mut out);
    frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
    out
}

fn dropped(payload: &[u8]) -> DropCause {
    let mut inbox = Inbox::new(ME);
    let cause = inbox.open(HERE, payload).unwrap_err();
    let counted: Vec<_> = inbox.dropped().iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [(cause.label(), 1)]);
    cause
}

#[test]
fn frames_come_out_as_they_went_in() {
    let mut inbox = Inbox::new(ME);
    let frames = [request(1), cancel(9), on_terms(2)];
    for (sequence, destination) in [ME, InstanceId::ANY].into_iter().enumerate() {
        let payload = packet(destination, sequence as u64, &frames);
        let opened = inbox.open(HERE, &payload).unwrap();
        assert_eq!(opened.broadcast, destination == InstanceId::ANY);
        assert_eq!((opened.header.sender, opened.calls()), (PEER, 2));
        let read: Result<Vec<_>, _> = opened.frames().collect();
        assert_eq!(read.unwrap(), frames);
    }
    let empty = packet(ME, 2, &[]);
    assert_eq!(inbox.open(HERE, &empty).unwrap().frames().count(), 0);
    assert_eq!(inbox.dropped(), &DropCounts::default());
}

#[test]
fn a_foreign_packet_is_dropped_after_its_addresses() {
    let mut inbox = Inbox::new(ME);
    let mut foreign = packet(PEER, 0, &[request(1)]);
    // Flags and everything behind the addresses are somebody else's affair.
    foreign[3] = 0xff;
    foreign.truncate(40);
    assert_eq!(inbox.open(HERE, &foreign), Err(DropCause::Foreign));
    assert_eq!(inbox.open(HERE, &foreign), Err(DropCause::Foreign));
    assert_eq!(inbox.dropped().count(DropCause::Foreign), 2);
    assert_eq!(inbox.dropped().faults(), 0);
    inbox.count(DropCause::UnknownCall);
    assert_eq!(inbox.dropped().faults(), 1);
}

#[test]
fn each_kind_of_garbage_has_its_cause() {
    let sound = packet(ME, 0, &[request(1)]);
    let with = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(dropped(b""), DropCause::Empty);
    assert_eq!(dropped(b"{\"json\": true}"), DropCause::BadMagic);
    assert_eq!(dropped(&with(2, 0)), DropCause::Version);
    assert_eq!(dropped(&with(2, 2)), DropCause::Version);
    assert_eq!(dropped(&with(3, 1)), DropCause::Sealed);
    assert_eq!(dropped(&with(3, 2)), DropCause::Sealed);
    assert_eq!(dropped(&with(3, 0x80)), DropCause::Flags);
    assert_eq!(dropped(&with(3, 0x82)), DropCause::Flags);
    assert_eq!(dropped(&with(4, 1)), DropCause::Flags);
    let mut nobody = sound.clone();
    nobody[8..24].fill(0);
    assert_eq!(dropped(&nobody), DropCause::Malformed);
}

#[test]
fn a_cut_packet_is_refused_whole() {
    let frames = [request(1), cancel(2)];
    let sound = packet(ME, 0, &frames);
    let at_a_boundary: Vec<_> =
        (0..2).map(|frames_left| packet(ME, 0, &frames[..frames_left]).len()).collect();
    for cut in 1..sound.len() {
        if at_a_boundary.contains(&cut) {
            continue;
        }
        assert_eq!(dropped(&sound[..cut]), DropCause::Malformed, "cut at {cut}");
    }
    // What did not open was not seen: the whole packet is still new.
    let mut inbox = Inbox::new(ME);
    assert!(inbox.open(HERE, &sound[..sound.len() - 1]).is_err());
    assert!(inbox.open(HERE, &sound).is_ok());
}

#[test]
fn too_many_bytes_or_frames_are_refused() {
    let mut large = packet(ME, 0, &[]);
    let chunk = MAX_PACKET_BYTES - large.len() - 5;
    large.push(FrameKind::CHUNK.0);
    put_varint(&mut large, chunk as u64);
    large.resize(MAX_PACKET_BYTES, 0);
    assert!(Inbox::new(ME).open(HERE, &large).is_ok());
    large.push(0);
    assert_eq!(dropped(&large), DropCause::TooLarge);

    let mut many = packet(ME, 0, &[]);
    (0..MAX_PACKET_CALLS).for_each(|_| many.extend_from_slice(&[0x7f, 0]));
    assert!(Inbox::new(ME).open(HERE, &many).is_ok());
    many.extend_from_slice(&[0x7f, 0]);
    assert_eq!(dropped(&many), DropCause::TooLarge);
}

#[test]
fn a_repeated_packet_is_a_duplicate_until_the_partition_is_reset() {
    let mut inbox = Inbox::new(ME);
    let payload = packet(InstanceId::ANY, 5, &[request(1)]);
    assert!(inbox.open(HERE, &payload).is_ok());
    assert_eq!(inbox.open(HERE, &payload), Err(DropCause::Duplicate));
    let there = PartitionId { partition: 4, ..HERE };
    assert!(inbox.open(there, &payload).is_ok(), "each partition has its own windows");
    inbox.reset(HERE);
    assert!(inbox.open(HERE, &payload).is_ok());
    inbox.forget(HERE);
    assert!(inbox.open(HERE, &payload).is_ok());
    assert_eq!(inbox.open(there, &payload), Err(DropCause::Duplicate));
    assert_eq!(inbox.dropped().count(DropCause::Duplicate), 2);
}

#[test]
fn what_is_older_than_the_window_is_let_through() {
    let mut inbox = Inbox::new(ME);
    let (old, new) = (packet(ME, 0, &[request(1)]), packet(ME, 2 * WINDOW, &[request(2)]));
    assert!(inbox.open(HERE, &old).is_ok());
    assert!(inbox.open(HERE, &new).is_ok());
    assert!(inbox.open(HERE, &old).is_ok());
    assert_eq!(inbox.dropped().count(DropCause::Duplicate), 0);
}

#[test]
fn a_bad_frame_leaves_its_neighbours_alone() {
    let mut payload = packet(ME, 0, &[request(1)]);
    payload.extend_from_slice(&[FrameKind::REQUEST.0, 2, 1, 0xc0]);
    payload.extend_from_slice(&[FrameKind::CANCEL.0, 1, 1]);
    payload.extend_from_slice(&[FrameKind::REQUEST_WITH.0, 5, 1, 0, 1, 0x7f, 0]);
    request(3).encode(&mut payload).unwrap();
    let mut inbox = Inbox::new(ME);
    let opened = inbox.open(HERE, &payload).unwrap();
    assert_eq!(opened.calls(), 4, "an unreadable call is a call");
    let frames: Vec<_> = opened.frames().collect();
    assert_eq!(frames[0], Ok(request(1)));
    assert!(frames[1].as_ref().is_err_and(FrameError::is_request));
    assert!(frames[2].as_ref().is_err_and(|error| !error.is_request()));
    let unknown_term = frames[3].as_ref().unwrap_err();
    assert_eq!(
        (unknown_term.error, unknown_term.is_request()),
        (WireError::UnknownTerm(0x7f), true)
    );
    assert_eq!(frames[4], Ok(request(3)));
    assert_eq!(frames.len(), 5);
}

#[test]
fn unknown_kinds_are_shown_and_skipped() {
    let mut payload = packet(ME, 0, &[cancel(1)]);
    payload.extend_from_slice(&[0x7f, 3, 0xff, 0xff, 0xff]);
    cancel(2).encode(&mut payload).unwrap();
    let mut inbox = Inbox::new(ME);
    let frames: Vec<_> = inbox.open(HERE, &payload).unwrap().frames().collect();
    assert_eq!(frames, [Ok(cancel(1)), Ok(Frame::Unknown(FrameKind(0x7f))), Ok(cancel(2))]);
}

#[test]
fn labels_are_unique() {
    let labels: std::collections::HashSet<_> =
        DropCause::ALL.iter().map(|cause| cause.label()).collect();
    assert_eq!(labels.len(), DropCause::ALL.len());
}

proptest! {
    #[test]
    fn any_record_is_opened_or_counted(
        bytes: Vec<u8>,
        flips in prop::collection::vec((any::<usize>(), 0..8_u8), 0..4),
        sequence: u64,
    ) {
        let mut inbox = Inbox::new(ME);
        let _ = inbox.open(HERE, &bytes);
        let mut payload = packet(ME, sequence, &[request(1), cancel(2), on_terms(3)]);
        payload.extend_from_slice(&bytes);
        for (at, bit) in flips {
            let at = at % payload.len();
            payload[at] ^= 1 << bit;
        }
        let before: u64 = inbox.dropped().iter().map(|(_, count)| count).sum();
        let opened = inbox.open(HERE, &payload).map(|packet| {
            let requests = packet.frames().filter(|frame| match frame {
                Ok(frame) => matches!(frame, Frame::Request(_)),
                Err(error) => error.is_request(),
            });
            (requests.count(), packet.calls())
        });
        let after: u64 = inbox.dropped().iter().map(|(_, count)| count).sum();
        prop_assert_eq!(after - before, u64::from(opened.is_err()));
        if let Ok((requests, calls)) = opened {
            prop_assert_eq!(u32::try_from(requests), Ok(calls));
        }
    }
}
