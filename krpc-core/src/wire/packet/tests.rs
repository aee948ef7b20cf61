//! Headers, sound and not.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::wire::coding::UnexpectedEnd;

fn id(byte: u8) -> InstanceId {
    InstanceId::from_bytes([byte; 16])
}

fn header() -> Header {
    let reply_to = vec![Route::Partition(300)].into();
    Header { sender: id(1), destination: id(2), sequence: 7, reply_to }
}

fn bytes(header: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    header.encode(&mut out);
    out
}

fn decode(bytes: &[u8]) -> Result<Header, WireError> {
    Header::decode(&mut Reader::new(bytes))
}

/// The header with one byte replaced.
fn with(at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes(&header());
    bytes[at] = byte;
    bytes
}

#[test]
fn a_stranger_is_told_from_a_later_version() {
    assert_eq!(decode(b""), Err(WireError::Empty));
    assert_eq!(decode(b"{\"a\":1}"), Err(WireError::BadMagic));
    assert_eq!(decode(b"{"), Err(WireError::BadMagic));
    assert_eq!(decode(b"k"), Err(WireError::UnexpectedEnd(UnexpectedEnd)));
    assert_eq!(decode(&with(2, 2)), Err(WireError::UnsupportedVersion(2)));
    assert_eq!(decode(&with(3, 1)), Err(WireError::UnsupportedFlags(1)));
    assert_eq!(decode(&with(7, 9)), Err(WireError::UnsupportedKey(9)));
}

#[test]
fn nobody_sends_nothing() {
    let nobody = Header { sender: InstanceId::ANY, ..header() };
    assert_eq!(decode(&bytes(&nobody)), Err(WireError::NoSender));
}

#[test]
fn addresses_are_seen_whatever_the_flags() {
    let addresses = Addresses { sender: id(1), destination: id(2) };
    assert_eq!(Addresses::peek(&with(3, 0xff)), Ok(addresses));
    assert_eq!(Addresses::peek(&bytes(&header())[..39]), Err(UnexpectedEnd.into()));
    assert_eq!(Addresses::peek(&with(2, 9)), Err(WireError::UnsupportedVersion(9)));
}

#[test]
fn unknown_routes_are_skipped_and_known_ones_are_exact() {
    let mut out = bytes(&Header { reply_to: Routes::new(), ..header() });
    let count = out.pop();
    assert_eq!(count, Some(0));
    let before = out.clone();
    out.extend_from_slice(&[4, 0x7f, 2, 9, 9, TAG_PARTITION, 1, 4, 0x60, 0, TAG_RESULTS, 1, 5]);
    let known = [Route::Partition(4), Route::Results(5)];
    assert_eq!(decode(&out).unwrap().reply_to[..], known);

    let routes = |tail: &[u8]| decode(&[&before, tail].concat());
    let left = routes(&[1, TAG_PARTITION, 2, 4, 0]);
    assert_eq!(left, Err(WireError::LeftOver { what: "route", left: 1 }));
    let large = routes(&[1, TAG_PARTITION, 5, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(large, Err(WireError::OutOfRange { .. })));
    let many = routes(&[9, 0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0]);
    assert_eq!(many, Err(WireError::TooMany { what: "routes", count: 9, max: 8 }));
    let long = routes(&[1, 0x60, 0x80, 0x02]);
    assert_eq!(long, Err(WireError::TooLarge { what: "route", len: 256, max: 255 }));
}

#[test]
fn the_longest_header_is_as_long_as_said_and_the_best_routes_stay() {
    let reply_to: Routes = (0..20).map(|n| Route::Partition(u32::MAX - n)).collect();
    let long = Header { sequence: u64::MAX, reply_to: reply_to.clone(), ..header() };
    let out = bytes(&long);
    assert_eq!(out.len(), Header::max_len());
    assert_eq!(decode(&out).unwrap().reply_to[..], reply_to[..MAX_ROUTES]);
}

fn any_header() -> impl Strategy<Value = Header> {
    let (reply, result) = (Route::Partition as fn(u32) -> Route, Route::Results as fn(_) -> _);
    let route = (prop_oneof![Just(reply), Just(result)], any::<u32>());
    let route = route.prop_map(|(route, partition)| route(partition));
    let routes = prop::collection::vec(route, 0..=MAX_ROUTES);
    (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u64>(), routes)
        .prop_filter("a sender", |(sender, ..)| *sender != [0; 16])
        .prop_map(|(sender, destination, sequence, reply_to)| Header {
            sender: InstanceId::from_bytes(sender),
            destination: InstanceId::from_bytes(destination),
            sequence,
            reply_to: reply_to.into(),
        })
}

proptest! {
    #[test]
    fn headers_survive_and_no_prefix_of_one_is_a_header(header in any_header(), tail: [u8; 3]) {
        let mut out = bytes(&header);
        for cut in 0..out.len() {
            prop_assert!(decode(&out[..cut]).is_err());
        }
        out.extend_from_slice(&tail);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(Header::decode(&mut reader), Ok(header));
        prop_assert_eq!(reader.rest(), &tail[..]);
    }

    #[test]
    fn whatever_reads_as_a_header_writes_as_one(header in any_header(), at: usize, bit in 0..8_u8) {
        let mut out = bytes(&header);
        let at = at % out.len();
        out[at] ^= 1 << bit;
        if let Ok(other) = decode(&out) {
            prop_assert_ne!(&other, &header, "a flipped bit went unseen");
            prop_assert_eq!(decode(&bytes(&other)), Ok(other));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = decode(&bytes);
        let _ = decode(&[&MAGIC[..], &[VERSION, 0, 0, 0, 0, 0], &[1; 32], &bytes].concat());
    }
}
