//! Sealed packets as others see them: bytes that never change.
//!
//! Each golden file is a sealed packet; all hold the same one. A file that is missing is written by
//! `KRPC_BLESS=1`; one that is there never changes, for such packets wait in topics. All must open.
//! They must be written alike too, but for compressed ones: another version of Zstandard may
//! find other bytes.

#![cfg(feature = "seal")]
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use krpc_core::{
    ids::InstanceId,
    seal::{Exchange, Key, Level, Opened, Place, Private, Scratch, Seal, Seen, Stamp},
    time::Time,
    transport::Topic,
    wire::packet::{Header, Route},
};

const PLACE: Place<'_> = Place { topic: Topic::Calls, name: "krpc.acme.Sum.calls", partition: 3 };

const SEALED_AT: Time = Time::from_micros(1_800_000_000_000_000);

fn key() -> Key {
    Key::from_text("9f2c64d1a7b85e03f6c41d2b8a907e553c10fe86b2d4976a0158e3cb7d42af90").unwrap()
}

/// Eight bytes that depend on all others.
fn sum(bytes: &[u8]) -> Vec<u8> {
    let add = |sum: u64, byte: &u8| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
    bytes.iter().fold(7, add).to_be_bytes().to_vec()
}

fn settings() -> [(&'static str, Seal); 8] {
    [
        ("compressed", Seal::new().compress(3)),
        ("checksum", Seal::new().checksum()),
        ("custom", Seal::new().verify_with(sum)),
        ("verified", Seal::new().verify(key())),
        ("verified_compressed", Seal::new().verify(key()).compress(3)),
        ("encrypted", Seal::new().encrypt(key())),
        ("encrypted_compressed", Seal::new().encrypt(key()).compress(3)),
        ("encrypted_caller", Seal::new().encrypt(key().of_caller("billing").unwrap())),
    ]
}

fn packet() -> Vec<u8> {
    let header = Header {
        sender: InstanceId::from_bytes(*b"client-instance!"),
        destination: InstanceId::ANY,
        sequence: 300,
        reply_to: [Route::Partition(5)].into_iter().collect(),
    };
    let mut packet = Vec::new();
    header.encode(&mut packet);
    packet.extend_from_slice(&b"as it was, ".repeat(20));
    packet
}

fn stamp() -> Stamp {
    let nonce = *b"nonce of twenty-four by.";
    Stamp { nonce, sealed_at: SEALED_AT, key: None, private: Private::No }
}

fn to_hex(bytes: &[u8]) -> String {
    let pairs = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
    bytes.chunks(32).map(|line| pairs(line).join(" ") + "\n").collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The bytes of a golden file, which are written first if they are missing and may be.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let folder = [env!("CARGO_MANIFEST_DIR"), "tests", "sealed"].iter();
    let path = folder.collect::<PathBuf>().join(format!("{name}.hex"));
    if !path.exists() && std::env::var("KRPC_BLESS").is_ok_and(|bless| bless == "1") {
        fs::write(&path, to_hex(bytes)).unwrap();
    }
    let text = fs::read_to_string(&path);
    from_hex(&text.unwrap_or_else(|error| panic!("{name}: {error}; KRPC_BLESS=1 writes it")))
}

fn exchange(bytes: &[u8; 32]) -> Exchange {
    Exchange::from_bytes(*bytes)
}

fn client() -> Exchange {
    exchange(b"a client's thirty-two bytes, yes")
}

fn server() -> Exchange {
    exchange(b"a server's thirty-two bytes, yes")
}

/// What the golden packet's seal says.
fn check(name: &str, seal: &Seal, writer: Exchange, private: Private) -> Seen {
    let seal = seal.bind("acme.Sum").unwrap();
    let (stamp, mut bytes) = (Stamp { private, ..stamp() }, Vec::new());
    seal.seal(&mut Scratch::with_exchange(writer), &PLACE, &stamp, &packet(), &mut bytes).unwrap();
    let golden = golden(name, &bytes);
    let opened = seal.open(&mut Scratch::with_exchange(client()), &PLACE, &golden).unwrap();
    let Opened::Sealed { packet: opened, seen } = opened else { panic!("{name} is not sealed") };
    assert_eq!(opened, packet(), "{name}");
    assert_eq!(seen.level, seal.level());
    if !name.contains("compressed") {
        assert_eq!(to_hex(&bytes), to_hex(&golden), "{name}");
    }
    if seen.level != Level::Unsealed {
        assert_eq!(seen.sealed_at, Some(SEALED_AT));
    }
    assert_eq!(seen.caller.as_deref(), name.contains("caller").then_some("billing"));
    seen
}

#[test]
fn sealed_packets_are_written_and_read_as_ever() {
    for (name, seal) in settings() {
        check(name, &seal, client(), Private::No);
    }
}

#[test]
fn private_packets_are_written_and_read_as_ever() {
    let seal = Seal::new().encrypt(key());
    let offer = check("encrypted_offer", &seal, client(), Private::Offer).offer;
    assert_eq!(offer, Some(client().public()));
    let answer = Private::For(client().public());
    assert!(check("encrypted_private", &seal, server(), answer).private);
}

/// On its own, for deriving the key takes a while.
#[test]
fn a_packet_encrypted_by_a_password_is_written_and_read_as_ever() {
    let seal = Seal::new().password("correct horse battery staple");
    check("encrypted_password", &seal, client(), Private::No);
}
