//! What opens and what does not: places, levels, keys, damage, bombs.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{format::put_covered, *};
use crate::{
    ids::InstanceId,
    inbox::DropCause,
    transport::Topic,
    wire::{
        MAX_PACKET_BYTES,
        packet::{Header, Route, Routes},
    },
};

mod custom;
mod keys;
mod live;
mod private;
mod vectors;

const SERVICE: &str = "acme.Sum";

const PLACE: Place<'_> =
    Place { topic: Topic::Calls, name: "test.krpc.acme.Sum.calls", partition: 7 };

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; KEY_BYTES]).unwrap()
}

fn stamp() -> Stamp {
    Stamp {
        nonce: [9; NONCE_LEN],
        sealed_at: Time::from_micros(1_800_000_000_000_000),
        key: None,
        private: Private::No,
    }
}

/// A packet, and bytes that stand for its frames.
fn packet(body: &[u8]) -> Vec<u8> {
    let header = Header {
        sender: InstanceId::from_bytes(*b"client-instance!"),
        destination: InstanceId::ANY,
        sequence: 300,
        reply_to: [Route::Partition(5)].into_iter().collect::<Routes>(),
    };
    let mut packet = Vec::new();
    header.encode(&mut packet);
    packet.extend_from_slice(body);
    packet
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    blake3::hash(bytes).as_bytes()[..20].to_vec()
}

fn levels() -> [Seal; 5] {
    [
        Seal::new(),
        Seal::new().checksum(),
        Seal::new().verify_with(hash),
        Seal::new().verify(key(1)),
        Seal::new().encrypt(key(1)),
    ]
}

/// All levels, with and without compression.
fn settings() -> Vec<Seal> {
    let compressed = levels().map(|seal| seal.compress(3));
    levels().into_iter().chain(compressed).collect()
}

/// Those that tell any change.
fn sealing() -> impl Iterator<Item = Seal> {
    settings().into_iter().filter(|seal| seal.level() != Level::Unsealed)
}

fn bound(seal: &Seal) -> ServiceSeal {
    seal.bind(SERVICE).unwrap()
}

fn sealed(seal: &ServiceSeal, packet: &[u8]) -> Vec<u8> {
    let mut out = b"of an earlier packet".to_vec();
    seal.seal(&mut Scratch::default(), &PLACE, &stamp(), packet, &mut out).unwrap();
    out
}

fn open_at(seal: &ServiceSeal, place: &Place<'_>, packet: &[u8]) -> Result<Opened, OpenError> {
    seal.open(&mut Scratch::default(), place, packet)
}

fn open(seal: &ServiceSeal, packet: &[u8]) -> Result<Opened, OpenError> {
    open_at(seal, &PLACE, packet)
}

/// The packet as it was before it was sealed.
fn unpack(opened: Opened, as_it_is: &[u8]) -> Vec<u8> {
    match opened {
        Opened::AsItIs => as_it_is.to_vec(),
        Opened::Sealed { packet, .. } => packet,
    }
}

fn seen(seal: &ServiceSeal, packet: &[u8]) -> Seen {
    match open(seal, packet).unwrap() {
        Opened::AsItIs => panic!("not sealed"),
        Opened::Sealed { seen, .. } => seen,
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            prop::collection::vec(0..3_u8, 0..6000),
        ],
        nonce: [u8; NONCE_LEN],
        micros: u64,
    ) {
        let packet = packet(&body);
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        for seal in settings().iter().map(bound) {
            let sealed_at = Time::from_micros(micros);
            let stamp = Stamp { nonce, sealed_at, key: None, private: Private::No };
            seal.seal(&mut scratch, &PLACE, &stamp, &packet, &mut out).unwrap();
            prop_assert!(out.len() <= packet.len() + seal.level().overhead());
            let opened = seal.open(&mut scratch, &PLACE, &out).unwrap();
            if let Opened::Sealed { seen, .. } = &opened {
                prop_assert_eq!(seen.level, seal.level());
                let vouched = seal.level() != Level::Unsealed && micros != 0;
                prop_assert_eq!(seen.sealed_at, vouched.then_some(sealed_at));
            }
            prop_assert_eq!(unpack(opened, &out), packet.clone());
        }
    }

    #[test]
    fn garbage_behind_a_header_neither_opens_nor_panics(
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        flags: u8,
        key: u32,
    ) {
        let mut packet = packet(&garbage);
        packet[3] = flags;
        packet[4..8].copy_from_slice(&key.to_be_bytes());
        for seal in sealing() {
            prop_assert!(open(&bound(&seal), &packet).is_err());
        }
        // Whatever is taken: nothing panics, and what opens is within its limits.
        for seal in settings() {
            if let Ok(opened) = open(&bound(&seal.accept(Level::Unsealed)), &packet) {
                prop_assert!(unpack(opened, &packet).len() <= MAX_PACKET_BYTES);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        for seal in settings() {
            prop_assert!(open(&bound(&seal), &bytes).is_err());
        }
    }
}

#[test]
fn each_flipped_bit_and_each_cut_is_refused() {
    for seal in sealing() {
        let seal = bound(&seal);
        let sound = sealed(&seal, &packet(&[7; 200]));
        assert!(open(&seal, &sound).is_ok());
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&seal, &flipped).is_err(), "{seal:?}, bit {bit}");
        }
        for end in 0..sound.len() {
            assert!(open(&seal, &sound[..end]).is_err(), "{seal:?}, cut at {end}");
        }
        for more in 1..100 {
            let mut longer = sound.clone();
            longer.resize(sound.len() + more, 0);
            assert!(open(&seal, &longer).is_err(), "{seal:?}, {more} bytes more");
        }
    }
}

#[test]
fn a_header_does_not_fit_another_body() {
    for seal in sealing() {
        let seal = bound(&seal);
        let mut other = packet(&[8; 200]);
        other[24] = 1;
        let (one, two) = (sealed(&seal, &packet(&[7; 200])), sealed(&seal, &other));
        let len = Header::len_of(&one).unwrap();
        let swapped = [&one[..len], &two[len..]].concat();
        assert_eq!(open(&seal, &swapped), Err(OpenError::Broken));
    }
}

#[test]
fn a_packet_opens_in_its_place_only() {
    for seal in sealing() {
        let (seal, elsewhere) = (bound(&seal), seal.bind("acme.Product").unwrap());
        let sound = sealed(&seal, &packet(&[7; 200]));
        let places = [
            Place { partition: 8, ..PLACE },
            Place { partition: 7 << 8, ..PLACE },
            Place { name: "krpc.acme.Sum.calls", ..PLACE },
            Place { name: "test.krpc.acme.Sum.calls2", ..PLACE },
            Place { topic: Topic::Replies, ..PLACE },
            Place { topic: Topic::Results, ..PLACE },
            Place { topic: Topic::Dead, ..PLACE },
            Place { topic: Topic::Cancels, ..PLACE },
        ];
        for place in places {
            assert_eq!(open_at(&seal, &place, &sound), Err(OpenError::Broken), "{place:?}");
        }
        match seal.level() {
            // Of another service, even in the same place.
            Level::Verified | Level::Encrypted => {
                assert!(matches!(open(&elsewhere, &sound), Err(OpenError::UnknownKey(_))));
            }
            _ => assert!(open(&elsewhere, &sound).is_ok()),
        }
    }
}

/// What is covered says where each part ends: bytes cannot go over from one to the next.
#[test]
fn parts_of_what_is_covered_cannot_be_taken_for_each_other() {
    let covered = |name, header: &[u8]| {
        let mut out = Vec::new();
        put_covered(&mut out, &Place { name, ..PLACE }, header, None, Time::default());
        out
    };
    assert_ne!(covered("ab", b"c"), covered("a", b"bc"));
    assert_ne!(covered("", b"abc"), covered("abc", b""));
}

#[test]
fn what_is_too_weak_is_refused() {
    let all = Seal::new().verify_with(hash).keys(vec![key(1)]);
    let body = packet(&[7; 200]);
    for written in settings() {
        let bytes = sealed(&bound(&written), &body);
        for least in levels().map(|seal| seal.level()) {
            let found = written.level();
            let opened = open(&bound(&all.clone().accept(least)), &bytes);
            if found < least {
                assert_eq!(opened, Err(OpenError::TooWeak { found, least }));
            } else {
                assert_eq!(unpack(opened.unwrap(), &bytes), body, "{found} for {least}");
            }
        }
        // Who says nothing else demands what he writes.
        assert_eq!(bound(&written).least(), written.level());
    }
}

#[test]
fn who_lacks_key_or_hash_is_told_so() {
    let plain = Seal::new();
    let body = packet(&[7; 200]);
    let encrypted = bound(&Seal::new().encrypt(key(1)));
    let [id] = encrypted.key_ids().collect::<Vec<_>>()[..] else { panic!("one key") };
    let bytes = sealed(&encrypted, &body);
    assert_eq!(open(&bound(&plain), &bytes), Err(OpenError::UnknownKey(id)));
    let other = bound(&Seal::new().encrypt(key(2)));
    assert_eq!(open(&other, &bytes), Err(OpenError::UnknownKey(id)));
    let hashed = sealed(&bound(&Seal::new().verify_with(hash)), &body);
    assert_eq!(open(&bound(&plain), &hashed), Err(OpenError::NoHash));
    let differs = |bytes: &[u8]| hash(&[bytes, b"!"].concat());
    let differs = bound(&Seal::new().verify_with(differs));
    assert_eq!(open(&differs, &hashed), Err(OpenError::Broken));
}

#[test]
fn it_is_compressed_if_that_pays() {
    let seal = bound(&Seal::new().compress(3));
    let noise = noise(5000);
    for (body, pays) in [(&[7; 127][..], false), (&[7; 128], true), (&noise, false), (b"", false)] {
        let bytes = sealed(&seal, &packet(body));
        assert_eq!(open(&seal, &bytes).unwrap() != Opened::AsItIs, pays);
        assert_eq!(bytes.len() < packet(body).len(), pays);
        assert!(pays || bytes == packet(body));
    }
}

/// Bytes that cannot be compressed.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// A packet that says of itself to be compressed.
fn bomb(claimed: u64, compressed: &[u8]) -> Vec<u8> {
    let mut packet = packet(&[]);
    packet[3] = 1;
    crate::wire::coding::put_varint(&mut packet, claimed);
    packet.extend_from_slice(compressed);
    packet
}

#[test]
fn what_expands_beyond_its_claim_or_the_limit_is_refused() {
    let (seal, mut scratch) = (bound(&Seal::new()), Scratch::default());
    let room = MAX_PACKET_BYTES - packet(&[]).len();
    let gibibyte = {
        // Frames one after the other expand to the sum of them.
        let frame = zstd::bulk::compress(&vec![0; 1 << 24], 19).unwrap();
        frame.repeat(64)
    };
    let mut open = |bytes: &[u8]| seal.open(&mut scratch, &PLACE, bytes);
    let (max, small) = (room, zstd::bulk::compress(&[0; 1000], 1).unwrap());
    for claimed in [room as u64 + 1, 1 << 30, u64::MAX] {
        assert_eq!(open(&bomb(claimed, &gibibyte)), Err(OpenError::Expands { claimed, max }));
    }
    assert_eq!(open(&bomb(room as u64, &gibibyte)), Err(OpenError::Compression));
    for claimed in [0, 1, 999, 1001, room as u64] {
        assert_eq!(open(&bomb(claimed, &small)), Err(OpenError::Compression), "{claimed}");
    }
    assert!(open(&bomb(1000, &small)).is_ok());
    // More than it claims, for which there would be room.
    let raw = zstd::bulk::compress(&noise(1000), 1).unwrap();
    for claimed in 990..1000 {
        assert_eq!(open(&bomb(claimed, &raw)), Err(OpenError::Compression), "{claimed}");
    }
    assert!(open(&bomb(1000, &raw)).is_ok());
    for cut in 0..small.len() {
        assert_eq!(open(&bomb(1000, &small[..cut])), Err(OpenError::Compression));
    }
    // A seal that does not hold is found before anything is expanded.
    let verified = bound(&Seal::new().verify(key(1)));
    let mut forged = sealed(&verified, &packet(&[7; 200]));
    forged[3] |= 1;
    assert_eq!(verified.open(&mut scratch, &PLACE, &forged), Err(OpenError::Broken));
}

#[test]
fn a_packet_as_large_as_may_be_opens_and_no_larger_one_is_written() {
    let seal = bound(&Seal::new().encrypt(key(1)));
    let (mut scratch, mut out) = (private::exchange(11), Vec::new());
    let stamp = Stamp { private: Private::Offer, ..stamp() };
    let most = MAX_PACKET_BYTES - seal.level().overhead() - packet(&[]).len();
    seal.seal(&mut scratch, &PLACE, &stamp, &packet(&vec![7; most]), &mut out).unwrap();
    assert_eq!(out.len(), MAX_PACKET_BYTES);
    assert!(open(&seal, &out).is_ok());
    let one_more = packet(&vec![7; most + 1]);
    let refused = seal.seal(&mut scratch, &PLACE, &stamp, &one_more, &mut out);
    let (len, max) = (MAX_PACKET_BYTES + 1, MAX_PACKET_BYTES);
    assert_eq!(refused, Err(SealError::TooLarge { len, max }));
    assert_eq!(open(&seal, &vec![0; max + 1]), Err(OpenError::TooLarge { max }));
}

#[test]
fn nothing_is_sealed_twice() {
    let seal = bound(&Seal::new().encrypt(key(1)));
    let once = sealed(&seal, &packet(&[7; 200]));
    let mut out = Vec::new();
    for no_packet in [&once[..], b"", b"kR"] {
        let refused = seal.seal(&mut Scratch::default(), &PLACE, &stamp(), no_packet, &mut out);
        assert_eq!(refused, Err(SealError::NoPacket));
    }
}
