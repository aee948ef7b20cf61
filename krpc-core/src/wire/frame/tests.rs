//! Every kind of frame: whole, cut, flipped, and beyond its limits.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestRunner};

use super::{terms::tests::any_terms, *};
use crate::{
    ids::InstanceId,
    status::{Code, Status},
    time::{Micros, Time},
    wire::{
        MAX_ANNOUNCED_PARTITIONS, MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES, MAX_PATH_BYTES,
        REQUEST_OVERHEAD,
        coding::{UnexpectedEnd, put_prefixed},
    },
};

fn request<'a>() -> Request<'a> {
    Request {
        call: CallId(1),
        terms: None,
        path: "acme.Sum/add",
        budget: Duration::from_secs(10),
        deadline: None,
        fingerprint: 7,
        codec: ValueCodec::MessagePack,
        metadata: Cow::Owned(Metadata::new()),
        value: b"value",
    }
}

fn reply(outcome: Outcome<'_>) -> Reply<'_> {
    let (server_elapsed, flight_request) = (Micros(5), Micros(6));
    let metadata = Cow::Owned(Metadata::new());
    Reply { call: CallId(9), server_elapsed, flight_request, metadata, outcome }
}

fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out).unwrap();
    out
}

fn decode(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    let frame = Frame::decode(&mut reader)?;
    reader.end("test")?;
    Ok(frame)
}

/// A frame of these parts.
fn frame(kind: FrameKind, body: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![kind.0];
    put_prefixed(&mut out, &body.concat());
    out
}

fn decoded_reply(outcome: Outcome<'_>) -> Status {
    match decode(&encode(&Frame::Reply(reply(outcome)))).unwrap() {
        Frame::Reply(Reply { outcome: Outcome::Status(status), .. }) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn kinds_are_named_whether_known_or_not() {
    assert_eq!(format!("{:?}", FrameKind::REPLY_STATUS), "REPLY_STATUS");
    assert_eq!(format!("{:?}", FrameKind(0x2a)), "FrameKind(0x2a)");
    let known = (0..=u8::MAX).filter(|kind| FrameKind(*kind).name().is_some());
    assert_eq!(known.collect::<Vec<_>>(), (0x01..=0x0f).collect::<Vec<_>>());
}

#[test]
fn unknown_and_reserved_kinds_are_skipped_with_any_body() {
    for kind in [FrameKind(0), FrameKind::STREAM_ITEM, FrameKind::CHUNK, FrameKind(0xff)] {
        let bytes = frame(kind, &[&[0xff; 300]]);
        assert_eq!(decode(&bytes), Ok(Frame::Unknown(kind)));
        let mut out = vec![1, 2];
        let error = Frame::Unknown(kind).encode(&mut out).unwrap_err();
        assert_eq!((error, &out[..]), (WireError::UnknownKind(kind.0), &[1, 2][..]));
    }
}

#[test]
fn what_passes_a_limit_is_not_written_and_leaves_nothing_behind() {
    let path = "p".repeat(MAX_PATH_BYTES + 1);
    let value = vec![0; MAX_PACKET_BYTES];
    let refused = |frame: Frame<'_>| {
        let mut out = b"before".to_vec();
        let error = frame.encode(&mut out).unwrap_err();
        assert_eq!(out, b"before");
        error
    };
    let long_path = Frame::Request(Request { path: &path, ..request() });
    assert!(matches!(refused(long_path), WireError::TooLarge { what: "path", len: 513, .. }));
    let large = Frame::Request(Request { value: &value, ..request() });
    assert!(matches!(refused(large), WireError::TooLarge { what: "frame", .. }));
    let large = Frame::Reply(reply(Outcome::App { codec: ValueCodec::Json, value: &value }));
    assert!(matches!(refused(large), WireError::TooLarge { what: "frame", .. }));
    let many = (0..).take(MAX_ANNOUNCED_PARTITIONS + 1).collect();
    let many = Frame::Announce(Announce { partitions: many, ..Announce::default() });
    assert!(matches!(refused(many), WireError::TooMany { .. }));
    for partitions in [vec![2, 1], vec![1, 1]] {
        let unsorted = Frame::Announce(Announce { partitions, ..Announce::default() });
        assert_eq!(refused(unsorted), WireError::NotAscending);
    }
}

#[test]
fn long_messages_are_cut_at_a_character_and_long_details_left_out() {
    let message = format!("{}ü{}", "m".repeat(MAX_MESSAGE_BYTES - 1), "m".repeat(9));
    let details = Bytes::from(vec![1; MAX_DETAILS_BYTES + 1]);
    let long = Status::new(Code::Aborted, message).with_details(details);
    let read = decoded_reply(Outcome::Status(long.with_retryable(false)));
    assert_eq!(read.message(), "m".repeat(MAX_MESSAGE_BYTES - 1));
    assert!(read.details().is_empty());
    assert!(!read.is_retryable(), "the flag wins over the code's default");

    let fits = "ü".repeat(MAX_MESSAGE_BYTES / 2);
    let details = Bytes::from(vec![1; MAX_DETAILS_BYTES]);
    let fits = Status::new(Code::Internal, fits).with_details(details).with_retryable(true);
    assert_eq!(decoded_reply(Outcome::Status(fits.clone())), fits);
}

#[test]
fn a_reader_holds_the_same_limits() {
    let path = vec![b'p'; MAX_PATH_BYTES + 1];
    let long_path = frame(FrameKind::REQUEST, &[&[1, 0, 0x81, 0x04], &path]);
    assert!(matches!(decode(&long_path), Err(WireError::TooLarge { what: "path", .. })));
    let no_text = frame(FrameKind::REQUEST, &[&[1, 0, 1, 0xff]]);
    assert_eq!(decode(&no_text), Err(WireError::NotUtf8("path")));
    let status = |tail: &[u8]| frame(FrameKind::REPLY_STATUS, &[&[1, 0, 0, 0, 2], tail]);
    let message = status(&[0x81, 0x08]);
    assert!(matches!(decode(&message), Err(WireError::TooLarge { what: "status message", .. })));
    let details = status(&[0, 0x81, 0x80, 0x04]);
    assert!(matches!(decode(&details), Err(WireError::TooLarge { what: "status details", .. })));
    let many = frame(FrameKind::ANNOUNCE, &[&[0, 0, 0, 0, 0x81, 0x20]]);
    assert!(matches!(decode(&many), Err(WireError::TooMany { .. })));
    let mut large = vec![FrameKind::CHUNK.0];
    put_varint(&mut large, MAX_PACKET_BYTES as u64 + 1);
    assert!(matches!(decode(&large), Err(WireError::TooLarge { what: "frame", .. })));
}

#[test]
fn announced_partitions_ascend_within_32_bits() {
    let announce = |partitions: &[u8]| frame(FrameKind::ANNOUNCE, &[&[0, 1, 2, 3], partitions]);
    let read = Announce { partitions: vec![0, 5], running: 1, queued: 2, limit: 3 };
    assert_eq!(decode(&announce(&[2, 0, 5])), Ok(Frame::Announce(read)));
    assert_eq!(decode(&announce(&[2, 4, 0])), Err(WireError::NotAscending));
    let past = announce(&[2, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]);
    assert!(matches!(decode(&past), Err(WireError::OutOfRange { value: 0x1_0000_0000, .. })));
    // A claim of 4,096 partitions in a frame of none reserves nothing, and fails.
    assert_eq!(decode(&announce(&[0x80, 0x20])), Err(UnexpectedEnd.into()));
}

#[test]
fn only_flags_with_a_meaning_are_read_and_hints_ignored() {
    let cancel = |flags| frame(FrameKind::CANCEL, &[&[5, flags]]);
    for bit in 0..8 {
        let (flags, read) = (1 << bit, decode(&cancel(1 << bit)).map(|frame| encode(&frame)));
        match bit {
            4 | 5 => assert_eq!(read, Ok(cancel(0))),
            _ => assert_eq!(read, Err(WireError::UnsupportedFlags(flags))),
        }
    }
    let with_flags = |frame: Frame<'_>, flags| {
        let mut bytes = encode(&frame);
        bytes[3] = flags;
        decode(&bytes).map(|_| ())
    };
    let ok = || Frame::Reply(reply(Outcome::Ok { codec: ValueCodec::Json, value: b"1" }));
    let status = || Frame::Reply(reply(Outcome::Status(Status::new(Code::Internal, ""))));
    for flags in [0x40, 0x80] {
        for frame in [Frame::Request(request()), ok(), status()] {
            assert_eq!(with_flags(frame, flags), Err(WireError::UnsupportedFlags(flags)));
        }
    }
    assert_eq!(with_flags(ok(), 0x04), Err(WireError::UnsupportedFlags(4)));
    assert_eq!(with_flags(status(), 0x01), Err(WireError::UnsupportedFlags(1)));
    assert_eq!(with_flags(status(), 0x34), Ok(()));
    assert_eq!(with_flags(ok(), 0x02), Err(WireError::BadCodec(2)));
    assert_eq!(with_flags(Frame::Request(request()), 0x33), Err(WireError::BadCodec(3)));
}

#[test]
fn bytes_left_over_are_an_error() {
    let cancel = frame(FrameKind::CANCEL, &[&[5, 0, 0]]);
    assert_eq!(decode(&cancel), Err(WireError::LeftOver { what: "frame", left: 1 }));
    let status = frame(FrameKind::REPLY_STATUS, &[&[1, 0, 0, 0, 2, 0, 0], b"xy"]);
    assert_eq!(decode(&status), Err(WireError::LeftOver { what: "frame", left: 2 }));
}

#[test]
fn an_unknown_code_is_read_as_unknown() {
    for code in [0, 17, 255] {
        let bytes = frame(FrameKind::REPLY_STATUS, &[&[1, 0, 0, 0, code, 0, 0]]);
        let Ok(Frame::Reply(Reply { outcome: Outcome::Status(status), .. })) = decode(&bytes)
        else {
            panic!("{code}");
        };
        assert_eq!(status.code(), Code::Unknown);
    }
}

#[test]
fn a_request_needs_no_more_than_its_overhead() {
    let largest = Request {
        call: CallId(u64::MAX),
        budget: Duration::MAX,
        deadline: Some(Time::MAX),
        path: "",
        value: b"",
        ..request()
    };
    assert!(encode(&Frame::Request(largest)).len() <= REQUEST_OVERHEAD);
}

fn any_micros() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..64_u32).prop_map(|(micros, shift)| Duration::from_micros(micros >> shift))
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let pairs = prop::collection::vec(("[!-~]{1,20}", "\\PC{0,9}"), 0..4);
    pairs.prop_map(|pairs| {
        let mut metadata = Metadata::new();
        for (key, value) in pairs {
            let _ = metadata.insert(&key, &value);
        }
        metadata
    })
}

fn any_codec() -> impl Strategy<Value = ValueCodec> {
    prop_oneof![Just(ValueCodec::MessagePack), Just(ValueCodec::Json)]
}

fn any_status() -> impl Strategy<Value = Status> {
    let details = prop::collection::vec(any::<u8>(), 0..80);
    (0..20_u8, "\\PC{0,20}", any::<bool>(), details).prop_map(|(code, message, retry, details)| {
        let status = Status::new(Code::from_u8(code), message);
        status.with_retryable(retry).with_details(details.into())
    })
}

/// A frame of each kind that can be written; `check` sees it.
fn with_any_frame(cases: u32, check: impl Fn(Frame<'_>) -> Result<(), TestCaseError>) {
    let value = prop::collection::vec(any::<u8>(), 0..60);
    let partitions = prop::collection::btree_set(any::<u32>(), 0..12);
    let parts = (
        (any::<u64>(), 0..64_u32, "\\PC{0,20}", any_micros(), any_micros()),
        (any::<Option<u64>>(), any::<u32>(), any_codec(), any_metadata(), value),
        (any_status(), partitions, any::<[u32; 3]>(), any_terms(), 0..=i64::MAX),
    );
    TestRunner::new(ProptestConfig::with_cases(cases))
        .run(&parts, |((call, shift, path, budget, flight), more, last)| {
            let (deadline, fingerprint, codec, metadata, value) = more;
            let (status, partitions, [running, queued, limit], terms, offset) = last;
            let (call, deadline) = (CallId(call >> shift), deadline.map(Time::from_micros));
            let (metadata, value) = (Cow::Borrowed(&metadata), &value[..]);
            let request = Request {
                call,
                terms: None,
                path: &path,
                budget,
                deadline,
                fingerprint,
                codec,
                metadata: metadata.clone(),
                value,
            };
            check(Frame::Request(request.clone()))?;
            let terms = Some(Box::new(terms));
            check(Frame::Request(Request { terms, ..request }))?;
            check(Frame::Progress(Progress { call, metadata: metadata.clone() }))?;
            check(Frame::Refused(Refused { cause: 7, key: queued }))?;
            let (at, index) = (Time::from_micros(call.0), queued);
            check(Frame::Dead(Box::new(Dead {
                call,
                caller: InstanceId::from_bytes([9; 16]),
                partition: running,
                offset,
                index,
                attempts: limit,
                at,
                cause: status.clone(),
                request: value,
            })))?;
            let fate = if offset % 2 == 0 { Fate::Dropped } else { Fate::Replayed };
            check(Frame::DeadMark(DeadMark { offset, index, fate, at }))?;
            let (ok, app) = (Outcome::Ok { codec, value }, Outcome::App { codec, value });
            for outcome in [ok, app, Outcome::Status(status)] {
                let (server_elapsed, flight_request) = (budget.into(), flight.into());
                let metadata = metadata.clone();
                let reply = Reply { call, server_elapsed, flight_request, metadata, outcome };
                check(Frame::Reply(reply))?;
            }
            check(Frame::Cancel(Cancel { call }))?;
            let partitions = partitions.into_iter().collect();
            check(Frame::Announce(Announce { partitions, running, queued, limit }))
        })
        .unwrap();
}

#[test]
fn every_frame_survives() {
    with_any_frame(256, |frame| {
        let mut bytes = b"before".to_vec();
        frame.encode(&mut bytes).unwrap();
        prop_assert_eq!(decode(&bytes[6..]), Ok(frame));
        Ok(())
    });
}

#[test]
fn a_frame_cut_anywhere_is_an_error() {
    with_any_frame(128, |frame| {
        let bytes = encode(&frame);
        for cut in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..cut]), Err(UnexpectedEnd.into()));
        }
        Ok(())
    });
}

#[test]
fn flipped_bits_are_read_or_refused_and_never_read_beyond_limits() {
    with_any_frame(64, |frame| {
        let bytes = encode(&frame);
        for at in 0..bytes.len().min(64) {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let _ = decode(&flipped).map(|frame| check_bounds(&frame, flipped.len()));
            }
        }
        Ok(())
    });
}

/// Nothing that was read takes more memory than bytes that were sent, or than its limit.
fn check_bounds(frame: &Frame<'_>, sent: usize) {
    match frame {
        Frame::Request(request) => {
            let terms = request.terms.as_ref().map_or(0, |terms| terms.encoded_len());
            assert!(request.metadata.bytes() + terms <= sent);
        }
        Frame::Progress(progress) => assert!(progress.metadata.bytes() <= sent),
        Frame::Dead(dead) => assert!(dead.cause.details().len() <= sent),
        Frame::Reply(reply) => assert!(reply.metadata.bytes() <= sent),
        Frame::Announce(announce) => {
            let reserved = announce.partitions.capacity();
            assert!(reserved <= sent.min(MAX_ANNOUNCED_PARTITIONS), "{reserved} for {sent}");
        }
        Frame::Cancel(_) | Frame::DeadMark(_) | Frame::Refused(_) | Frame::Unknown(_) => {}
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        kind in 0..16_u8,
        body: Vec<u8>,
        call in 0..128_u8,
        flags: u8,
    ) {
        let _ = decode(&body);
        // What reads writes again, and reads as the same.
        let bytes = frame(FrameKind(kind), &[&[call, flags], &body]);
        if let Ok(read) = decode(&bytes) {
            check_bounds(&read, bytes.len());
            let mut out = Vec::new();
            match read.encode(&mut out) {
                Ok(()) => prop_assert_eq!(decode(&out), Ok(read)),
                Err(error) => prop_assert_eq!(error, WireError::UnknownKind(kind)),
            }
        }
    }
}
