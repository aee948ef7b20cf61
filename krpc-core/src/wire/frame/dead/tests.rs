//! Letters and marks: whole, wrong, and how much room a letter needs beside its call.

#![allow(clippy::unwrap_used)]

use std::{borrow::Cow, time::Duration};

use super::*;
use crate::{
    codec::ValueCodec,
    metadata::Metadata,
    status::Code,
    wire::{
        QUEUED_OVERHEAD,
        coding::put_prefixed,
        frame::{Cancel, Frame, Terms},
        packet::Header,
    },
};

fn request(terms: Option<Terms>) -> Request<'static> {
    Request {
        call: CallId(1),
        terms: terms.map(Box::new),
        path: "acme.Sum/add",
        budget: Duration::from_secs(10),
        deadline: None,
        fingerprint: 7,
        codec: ValueCodec::MessagePack,
        metadata: Cow::Owned(Metadata::new()),
        value: b"value",
    }
}

fn encoded(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(&mut out).unwrap();
    out
}

fn dead(request: &[u8]) -> Dead<'_> {
    Dead {
        call: CallId(u64::MAX),
        caller: InstanceId::from_bytes([1; 16]),
        partition: u32::MAX,
        offset: i64::MAX,
        index: u32::MAX,
        attempts: u32::MAX,
        at: Time::MAX,
        cause: Status::new(Code::Aborted, ""),
        request,
    }
}

fn decode(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    Frame::decode(&mut Reader::new(bytes))
}

fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind.0];
    put_prefixed(&mut out, body);
    out
}

#[test]
fn a_letter_gives_the_call_back_as_it_was() {
    let terms = Terms { key: Some((*b"key").into()), ..Terms::default() };
    for request in [request(None), request(Some(terms))] {
        let bytes = encoded(&request);
        let mut out = Vec::new();
        dead(&bytes).encode(&mut out).unwrap();
        let Ok(Frame::Dead(read)) = decode(&out) else { panic!("{out:?}") };
        assert_eq!(*read, dead(&bytes));
        assert_eq!(read.to_request(), Ok(request));
    }
}

#[test]
fn a_letter_of_something_else_is_read_and_has_no_call() {
    let mut cancel = Vec::new();
    Cancel { call: CallId(1) }.encode(&mut cancel).unwrap();
    assert_eq!(dead(&cancel).to_request(), Err(WireError::NoRequest));
    let two = encoded(&request(None)).repeat(2);
    assert!(matches!(dead(&two).to_request(), Err(WireError::LeftOver { .. })));
    assert!(matches!(dead(&two[..9]).to_request(), Err(WireError::UnexpectedEnd(_))));
    assert!(dead(&[]).to_request().is_err());
}

#[test]
fn what_a_letter_needs_beside_its_call_is_left_free_by_queued_calls() {
    let mut out = Vec::new();
    let request = encoded(&request(None));
    dead(&request).encode(&mut out).unwrap();
    assert!(Header::max_len() + out.len() - request.len() <= QUEUED_OVERHEAD);
}

#[test]
fn offsets_are_not_negative() {
    let negative = Dead { offset: -1, ..dead(&[]) };
    let mut out = b"before".to_vec();
    let out_of_range = WireError::OutOfRange { what: "offset", value: u64::MAX };
    assert_eq!(negative.encode(&mut out), Err(out_of_range));
    let mark = DeadMark { offset: -1, index: 0, fate: Fate::Dropped, at: Time::MAX };
    assert_eq!((mark.encode(&mut out), &out[..]), (Err(out_of_range), &b"before"[..]));

    let large = [&[0][..], &[0xff; 9], &[1, 0, 1], &[0; 8]].concat();
    assert_eq!(decode(&frame(FrameKind::DEAD_MARK, &large)), Err(out_of_range));
}

#[test]
fn a_fate_is_one_that_is_known() {
    for (number, fate) in
        [(1, Some(Fate::Replayed)), (2, Some(Fate::Dropped)), (0, None), (3, None)]
    {
        let body = [&[0, 5, 6, number][..], &[0; 8]].concat();
        let mark = fate.map(|fate| DeadMark { offset: 5, index: 6, fate, at: Time::default() });
        let unknown = WireError::OutOfRange { what: "fate", value: u64::from(number) };
        let expected = mark.map(Frame::DeadMark).ok_or(unknown);
        assert_eq!(decode(&frame(FrameKind::DEAD_MARK, &body)), expected);
    }
}
