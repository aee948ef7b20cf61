//! Answers that only who asked can open.

use super::*;

pub(super) fn exchange(byte: u8) -> Scratch {
    Scratch::with_exchange(Exchange::from_bytes([byte; 32]))
}

fn write(seal: &ServiceSeal, scratch: &mut Scratch, private: Private) -> Vec<u8> {
    let (mut out, stamp) = (Vec::new(), Stamp { private, ..stamp() });
    seal.seal(scratch, &PLACE, &stamp, &packet(&[7; 200]), &mut out).unwrap();
    out
}

#[test]
fn an_answer_opens_for_who_asked_alone() {
    let seal = bound(&Seal::new().compress(1).encrypt(key(1)));
    let (mut client, mut other, mut server) = (exchange(11), exchange(12), exchange(13));
    let call = write(&seal, &mut client, Private::Offer);
    let said = seen(&seal, &call);
    let offer = said.offer.unwrap();
    assert!(!said.private);
    // Twice: derived, and remembered.
    for _ in 0..2 {
        let answer = write(&seal, &mut server, Private::For(offer));
        let Opened::Sealed { packet: opened, seen } =
            seal.open(&mut client, &PLACE, &answer).unwrap()
        else {
            panic!("not sealed")
        };
        assert_eq!(opened, packet(&[7; 200]));
        assert!(seen.private && seen.offer.is_none());
        // The same key of the service does not help.
        assert_eq!(seal.open(&mut other, &PLACE, &answer), Err(OpenError::Broken));
        assert_eq!(open(&seal, &answer), Err(OpenError::NoExchange));
        // Nor does an exchange without the key of the service.
        let stranger = bound(&Seal::new().encrypt(key(2)));
        let refused = stranger.open(&mut client, &PLACE, &answer);
        assert!(matches!(refused, Err(OpenError::UnknownKey(_))));
    }
}

#[test]
fn each_flipped_bit_of_offer_and_answer_is_refused() {
    let seal = bound(&Seal::new().encrypt(key(1)));
    let (mut client, mut server) = (exchange(11), exchange(13));
    let call = write(&seal, &mut client, Private::Offer);
    let answer = write(&seal, &mut server, Private::For(seen(&seal, &call).offer.unwrap()));
    for sound in [call, answer] {
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = seal.open(&mut client, &PLACE, &flipped);
            assert!(opened.is_err(), "bit {bit}: {opened:?}");
        }
        assert!(seal.open(&mut client, &PLACE, &sound).is_ok());
    }
}

#[test]
fn what_makes_no_answer_private_is_refused() {
    let seal = bound(&Seal::new().encrypt(key(1)));
    let refuse = |seal: &ServiceSeal, scratch: &mut Scratch, private| {
        let stamp = Stamp { private, ..stamp() };
        let sealed = seal.seal(scratch, &PLACE, &stamp, &packet(&[7; 200]), &mut Vec::new());
        assert_eq!(sealed, Err(SealError::NoExchange));
    };
    // Points of small order have the same secret with everybody.
    for weak in [[0; 32], std::array::from_fn(|n| u8::from(n == 0))] {
        refuse(&seal, &mut exchange(13), Private::For(Public(weak)));
    }
    refuse(&seal, &mut Scratch::default(), Private::Offer);
    for seal in levels().iter().filter(|seal| seal.level() != Level::Encrypted) {
        refuse(&bound(seal), &mut exchange(13), Private::Offer);
    }
}

/// RFC 7748, 6.1.
#[test]
fn x25519() {
    use x25519_dalek::{PublicKey, StaticSecret};
    let hex = super::vectors::hex::<32>;
    let alice =
        StaticSecret::from(hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let bob =
        PublicKey::from(hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    let shared = alice.diffie_hellman(&bob).to_bytes();
    assert_eq!(shared, hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"));
}
