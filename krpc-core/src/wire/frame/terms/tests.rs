//! Terms: whole, and wrong in every way that a peer may think of.

#![allow(clippy::unwrap_used)]

use std::{borrow::Cow, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    codec::ValueCodec,
    metadata::Metadata,
    wire::{
        coding::{UnexpectedEnd, put_prefixed},
        frame::{Frame, FrameKind, Request},
    },
};

const CALLER: InstanceId = InstanceId::from_bytes([7; 16]);

/// Terms that may be written, each there or not.
pub(in crate::wire::frame) fn any_terms() -> impl Strategy<Value = Terms> {
    let route = prop_oneof![
        any::<u32>().prop_map(Route::Partition),
        any::<u32>().prop_map(Route::Results),
    ];
    let answer = prop::collection::vec(route, 0..=MAX_ROUTES);
    let key = prop::collection::vec(any::<u8>(), 0..40);
    (
        prop::option::of(key),
        prop::option::of("\\PC{1,20}"),
        prop::option::of(answer),
        any::<Option<[u64; 2]>>(),
        any::<Option<(u64, u32)>>(),
        prop::option::of(2_u32..),
        any::<Option<(Option<[u8; 32]>, u32)>>(),
    )
        .prop_map(|(key, idempotency_key, answer, due, origin, attempt, asker)| Terms {
            key: key.map(Into::into),
            idempotency_key: idempotency_key.map(Into::into),
            answer: answer.map(Into::into),
            due: due.map(|[due, look]| Due {
                due: Time::from_micros(due),
                look: Time::from_micros(look),
            }),
            origin: origin.map(|(call, shift)| MovedFrom {
                caller: CALLER,
                call: CallId(call >> (shift % 64)),
            }),
            attempt,
            asker: asker.map(|(offer, key)| AskedBy {
                caller: (offer.is_none() || key % 2 == 0).then(|| "billing".into()),
                key,
                offer,
            }),
        })
}

/// As many bytes as there may be of everything.
fn largest() -> Terms {
    Terms {
        key: Some(vec![0xff; MAX_KEY_BYTES].into()),
        idempotency_key: Some("i".repeat(MAX_IDEMPOTENCY_KEY_BYTES).into()),
        answer: Some((0..8).map(|n| Route::Results(u32::MAX - n)).collect()),
        due: Some(Due { due: Time::MAX, look: Time::MAX }),
        origin: Some(MovedFrom { caller: CALLER, call: CallId(u64::MAX) }),
        attempt: Some(u32::MAX),
        asker: Some(AskedBy {
            caller: Some("c".repeat(128).into()),
            key: u32::MAX,
            offer: Some([0xff; 32]),
        }),
    }
}

fn request(terms: Terms) -> Request<'static> {
    Request {
        call: CallId(1),
        terms: Some(Box::new(terms)),
        path: "acme.Sum/add",
        budget: Duration::from_secs(10),
        deadline: None,
        fingerprint: 7,
        codec: ValueCodec::MessagePack,
        metadata: Cow::Owned(Metadata::new()),
        value: b"value",
    }
}

fn encode(terms: Terms) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    request(terms).encode(&mut out).map(|()| out)
}

fn decode(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    Frame::decode(&mut Reader::new(bytes))
}

/// What terms of these bytes read as, `count` included, in a request that is sound otherwise.
fn read(terms: &[u8]) -> Result<Terms, WireError> {
    let tail = [&[12][..], b"acme.Sum/add", &[1, 0, 0, 0, 0]].concat();
    let mut bytes = vec![FrameKind::REQUEST_WITH.0];
    put_prefixed(&mut bytes, &[&[1, 0], terms, &tail].concat());
    match decode(&bytes)? {
        Frame::Request(Request { terms: Some(terms), .. }) => Ok(*terms),
        other => panic!("{other:?}"),
    }
}

/// One term of this tag and body.
fn one(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![1, tag];
    put_prefixed(&mut out, body);
    out
}

#[test]
fn the_largest_terms_survive_and_take_what_they_say() {
    let terms = largest();
    let (without, with) = (encode(Terms::default()).unwrap(), encode(terms.clone()).unwrap());
    let length = with.len() - without.len() + Terms::default().encoded_len();
    // The frame's own length takes a byte more.
    assert_eq!(length, terms.encoded_len() + 1);
    assert_eq!(decode(&with), Ok(Frame::Request(request(terms))));
}

#[test]
fn terms_that_pass_a_limit_are_not_written() {
    let refused = |terms: Terms| {
        let mut out = b"before".to_vec();
        let error = request(terms).encode(&mut out).unwrap_err();
        assert_eq!(out, b"before");
        error
    };
    let key = Terms { key: Some(vec![0; MAX_KEY_BYTES + 1].into()), ..Terms::default() };
    assert_eq!(refused(key), WireError::TooLarge { what: "key", len: 1025, max: 1024 });
    let key = |key: &str| Terms { idempotency_key: Some(key.into()), ..Terms::default() };
    let long = WireError::TooLarge { what: "idempotency key", len: 257, max: 256 };
    assert_eq!(refused(key(&"i".repeat(257))), long);
    assert_eq!(refused(key("")), WireError::NoText("idempotency key"));
    let answer = Some((0..9).map(Route::Partition).collect());
    let many = WireError::TooMany { what: "routes", count: 9, max: 8 };
    assert_eq!(refused(Terms { answer, ..Terms::default() }), many);
    let origin = Some(MovedFrom { caller: InstanceId::ANY, call: CallId(1) });
    assert_eq!(refused(Terms { origin, ..Terms::default() }), WireError::NoSender);
    for attempt in 0..2 {
        let first = WireError::OutOfRange { what: "attempt", value: attempt.into() };
        assert_eq!(refused(Terms { attempt: Some(attempt), ..Terms::default() }), first);
    }
    let asker = |caller: Option<String>| {
        let asker = AskedBy { caller: caller.map(Into::into), key: 1, offer: None };
        refused(Terms { asker: Some(asker), ..Terms::default() })
    };
    let long = WireError::TooLarge { what: "caller", len: 129, max: 128 };
    assert_eq!(asker(Some("c".repeat(129))), long);
    assert_eq!(asker(Some(String::new())), WireError::NoText("caller"));
    assert_eq!(asker(None), WireError::NoText("caller"));
}

#[test]
fn a_reader_holds_the_same_limits() {
    assert!(matches!(read(&one(tag::KEY, &[0; 1025])), Err(WireError::TooLarge { .. })));
    assert_eq!(read(&one(tag::KEY, &[0; 1024])).unwrap().key.unwrap().len(), 1024);
    assert_eq!(read(&one(tag::KEY, &[])).unwrap().key.unwrap().len(), 0);
    let idempotency = |key: &[u8]| read(&one(tag::IDEMPOTENCY_KEY, key));
    assert!(matches!(idempotency(&[b'i'; 257]), Err(WireError::TooLarge { .. })));
    assert_eq!(idempotency(&[b'i'; 256]).unwrap().idempotency_key.unwrap().len(), 256);
    assert_eq!(idempotency(&[]), Err(WireError::NoText("idempotency key")));
    assert_eq!(idempotency(&[0xff]), Err(WireError::NotUtf8("idempotency key")));
    let nine = [&[9][..], &[1, 1, 5].repeat(9)].concat();
    assert!(matches!(read(&one(tag::ANSWER, &nine)), Err(WireError::TooMany { .. })));
    assert_eq!(read(&one(tag::ORIGIN, &[0; 17])), Err(WireError::NoSender));
    for attempt in [0, 1] {
        let value = u64::from(attempt);
        let first = Err(WireError::OutOfRange { what: "attempt", value });
        assert_eq!(read(&one(tag::ATTEMPT, &[attempt])), first);
    }
    let asker = |body: &[u8]| read(&one(tag::ASKER, body)).map(|terms| terms.asker);
    let named = AskedBy { caller: Some("c".into()), key: 7, offer: None };
    assert_eq!(asker(&[0, 0, 0, 7, 0, b'c']), Ok(Some(named)));
    assert_eq!(asker(&[0, 0, 0, 7, 0]), Err(WireError::NoText("caller")));
    assert_eq!(asker(&[0, 0, 0, 7, 1, 9]), Err(UnexpectedEnd.into()));
    assert_eq!(asker(&[0; 4]), Err(UnexpectedEnd.into()));
    let other = WireError::OutOfRange { what: "asker", value: 2 };
    assert_eq!(asker(&[0, 0, 0, 7, 2]), Err(other));
    assert_eq!(asker(&[0, 0, 0, 7, 0, 0xff]), Err(WireError::NotUtf8("caller")));
    assert!(matches!(asker(&[0; 134]), Err(WireError::TooLarge { what: "caller", .. })));
    let large = one(tag::ATTEMPT, &[0x80, 0x80, 0x80, 0x80, 0x10]);
    assert!(matches!(read(&large), Err(WireError::OutOfRange { what: "attempt", .. })));
}

#[test]
fn a_body_is_exactly_as_long_as_its_term() {
    let lengths = [(tag::DUE, 16), (tag::ORIGIN, 17), (tag::ATTEMPT, 1), (tag::ANSWER, 4)];
    for (tag, length) in lengths {
        let sound = if tag == tag::ANSWER { vec![1, 1, 1, 5] } else { vec![2; length] };
        assert!(read(&one(tag, &sound)).is_ok());
        assert_eq!(read(&one(tag, &sound[1..])), Err(UnexpectedEnd.into()), "{tag}");
        let longer = [&sound[..], &[0]].concat();
        let left = WireError::LeftOver { what: "term", left: 1 };
        assert_eq!(read(&one(tag, &longer)), Err(left), "{tag}");
    }
}

#[test]
fn an_unknown_term_makes_the_call_unreadable() {
    for tag in [8, 9, 0x7f, 0xff] {
        assert_eq!(read(&one(tag, b"later")), Err(WireError::UnknownTerm(tag)));
        let behind = [&[2, tag::ATTEMPT, 1, 2, tag][..], &[0]].concat();
        assert_eq!(read(&behind), Err(WireError::UnknownTerm(tag)));
    }
}

#[test]
fn tags_ascend_and_are_few() {
    assert_eq!(read(&[0]), Ok(Terms::default()));
    let terms = Terms { key: Some((*b"k").into()), attempt: Some(2), ..Terms::default() };
    assert_eq!(read(&[2, tag::KEY, 1, b'k', tag::ATTEMPT, 1, 2]), Ok(terms));
    let backwards = [2, tag::ATTEMPT, 1, 2, tag::KEY, 1, b'k'];
    assert_eq!(read(&backwards), Err(WireError::NotAscending));
    let twice = [2, tag::KEY, 1, b'k', tag::KEY, 1, b'k'];
    assert_eq!(read(&twice), Err(WireError::NotAscending));
    assert_eq!(read(&one(0, b"k")), Err(WireError::NotAscending), "no tag is 0");
    let many = WireError::TooMany { what: "terms", count: 9, max: MAX_TERMS };
    assert_eq!(read(&[9]), Err(many));
    // A claim of more terms than there are takes the path for one.
    assert!(read(&[1]).is_err());
}

#[test]
fn no_answer_is_told_from_an_answer_by_ways_that_are_not_known() {
    let answer = |routes: &[u8]| read(&one(tag::ANSWER, routes)).map(|terms| terms.answer);
    assert_eq!(answer(&[0]), Ok(Some(Routes::new())));
    assert_eq!(answer(&[2, 0x60, 2, 9, 9, 2, 1, 5]), Ok(Some(vec![Route::Results(5)].into())));
    assert_eq!(answer(&[1, 0x60, 2, 9, 9]), Err(WireError::UnknownRoutes));
}

#[test]
fn a_length_beyond_the_frame_is_an_error() {
    for tag in 1..=7 {
        let bytes = [1, tag, 0xff, 0xff, 0x7f];
        assert_eq!(read(&bytes), Err(UnexpectedEnd.into()), "{tag}");
    }
    let whole = [1, tag::KEY, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert!(matches!(read(&whole), Err(WireError::TooLarge { what: "term", .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_terms_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        tag in 0..9_u8,
    ) {
        let _ = Terms::decode(&mut Reader::new(&bytes));
        if let Ok(terms) = read(&one(tag, &bytes)) {
            prop_assert_eq!(terms.check(), Ok(()));
            let written = encode(terms.clone()).unwrap();
            prop_assert_eq!(decode(&written), Ok(Frame::Request(request(terms))));
        }
    }
}
