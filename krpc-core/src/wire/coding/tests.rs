//! Varints, fixed integers and lengths, sound and not.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn varint(bytes: &[u8]) -> Result<u64, WireError> {
    Reader::new(bytes).varint()
}

#[test]
fn varints_have_the_known_bytes() {
    for (value, bytes) in [
        (0, &[0x00][..]),
        (0x7f, &[0x7f]),
        (0x80, &[0x80, 0x01]),
        (300, &[0xac, 0x02]),
        (0x3fff, &[0xff, 0x7f]),
        (0x4000, &[0x80, 0x80, 0x01]),
        (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ] {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, bytes);
        assert_eq!(varint(bytes), Ok(value));
    }
}

#[test]
fn a_varint_has_one_form_only() {
    assert_eq!(varint(&[0x80, 0x00]), Err(WireError::NonCanonical));
    assert_eq!(varint(&[0xff, 0x80, 0x00]), Err(WireError::NonCanonical));
    assert_eq!(varint(&[0x80; 9]), Err(WireError::UnexpectedEnd(UnexpectedEnd)));
    assert_eq!(varint(&[0x80; 10]), Err(WireError::VarintTooLong));
    let past = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    assert_eq!(varint(&past), Err(WireError::VarintTooLong));
}

#[test]
fn a_claimed_length_meets_its_limit_before_the_bytes() {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, u64::MAX);
    let error = Reader::new(&bytes).prefixed("text", 16).unwrap_err();
    assert!(matches!(error, WireError::TooLarge { what: "text", max: 16, .. }));
    let error = Reader::new(&[5, 1, 2]).prefixed("text", 16).unwrap_err();
    assert_eq!(error, WireError::UnexpectedEnd(UnexpectedEnd));
    assert_eq!(Reader::new(&[1, 0xff]).str("text", 1), Err(WireError::NotUtf8("text")));
    let error = Reader::new(&[17]).count("things", 16).unwrap_err();
    assert_eq!(error, WireError::TooMany { what: "things", count: 17, max: 16 });
}

proptest! {
    #[test]
    fn varints_survive_and_their_length_is_known(value: u64, shift in 0_u32..64) {
        let value = value >> shift;
        let mut out = Vec::new();
        put_varint(&mut out, value);
        prop_assert_eq!(out.len(), varint_len(value));
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert!(reader.is_empty());
        for cut in 0..out.len() {
            prop_assert_eq!(varint(&out[..cut]), Err(WireError::UnexpectedEnd(UnexpectedEnd)));
        }
    }

    #[test]
    fn whatever_reads_as_a_varint_is_its_only_form(bytes: [u8; 12]) {
        let mut reader = Reader::new(&bytes);
        if let Ok(value) = reader.varint() {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(&bytes[..bytes.len() - reader.left()], &out[..]);
        }
    }

    #[test]
    fn fixed_integers_and_bytes_survive(a: u8, b: u32, c: u64, d: Vec<u8>) {
        let mut out = vec![a];
        put_u32(&mut out, b);
        put_u64(&mut out, c);
        put_prefixed(&mut out, &d);
        prop_assert_eq!(out.len(), 13 + prefixed_len(d.len()));
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.u8(), Ok(a));
        prop_assert_eq!(reader.u32(), Ok(b));
        prop_assert_eq!(reader.u64(), Ok(c));
        prop_assert_eq!(reader.prefixed("d", d.len()), Ok(&d[..]));
        prop_assert_eq!(reader.end("all"), Ok(()));
    }
}
