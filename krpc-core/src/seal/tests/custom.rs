//! Hash functions of users' own, which may fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{
    Event, Level as Severity, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use super::*;

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Severity::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// They are fine when they are tried, and fail when they see a packet.
fn panics(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() { hash(bytes) } else { panic!("as users' functions may") }
}

fn gives_nothing(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() { hash(bytes) } else { Vec::new() }
}

#[test]
fn a_hash_function_that_fails_has_packets_refused_and_is_told_once() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let fine = bound(&Seal::new().verify_with(hash));
        let plain = packet(&[7; 200]);
        let hashed = sealed(&fine, &plain);
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        let fails = [
            (bound(&Seal::new().verify_with(panics)), SealError::HashPanics),
            (bound(&Seal::new().verify_with(gives_nothing)), SealError::HashLength(0)),
        ];
        for (told, (seal, error)) in fails.into_iter().enumerate() {
            for _ in 0..3 {
                let opened = seal.open(&mut scratch, &PLACE, &hashed);
                assert_eq!(opened, Err(OpenError::HashFails));
                let written = seal.seal(&mut scratch, &PLACE, &stamp(), &plain, &mut out);
                assert_eq!((written, out.len()), (Err(error.clone()), 0));
            }
            assert_eq!(warnings.0.load(Ordering::Relaxed), told + 1);
        }
        assert_eq!(OpenError::HashFails.cause(), DropCause::HashFails);
        // What is kept from packet to packet serves on.
        let opened = fine.open(&mut scratch, &PLACE, &hashed).unwrap();
        assert_eq!(unpack(opened, &hashed), plain);
    });
}

#[test]
fn a_hash_function_that_can_never_be_used_is_told_when_a_service_is_opened() {
    let seal = Seal::new().verify_with(|_| panic!("at once"));
    assert_eq!(seal.bind(SERVICE).unwrap_err(), SealError::HashPanics);
    let seal = Seal::new().verify_with(|_| Vec::new());
    assert_eq!(seal.bind(SERVICE).unwrap_err(), SealError::HashLength(0));
}
