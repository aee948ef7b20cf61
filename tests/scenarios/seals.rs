//! Both sides with different seals; keys that are exchanged; strangers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use krpc::{
    prelude::*,
    seal::{BoxFuture, Key, KeyProvider, KeyRing, Level, Seal, SealError},
};
use krpc_core::transport::Topic;
use tokio::task::JoinSet;

use crate::support::{
    count, eventually, eventually_is, scenario,
    services::{Adder, SumClient, SumServer},
    start,
    stranger::Stranger,
};

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32]).unwrap()
}

/// Calls that cannot be opened end at their deadlines, are counted, and hold up nothing.
#[test]
fn packets_of_another_seal_are_refused_and_counted() {
    let seals = [
        (Seal::new(), "too_weak"),
        (Seal::new().checksum(), "too_weak"),
        (Seal::new().verify(key(1)), "too_weak"),
        (Seal::new().encrypt(key(2)), "unknown_key"),
        (Seal::new().password("another"), "unknown_key"),
    ];
    scenario(async |place| {
        let server = place.server().seal(Seal::new().compress(1).encrypt(key(1)));
        let server = start(server.serve(SumServer::new(Adder))).await;
        for (seal, cause) in &seals {
            let before = count(&server.stats().dropped, cause);
            let other = place.channel().seal(seal.clone()).connect().await.unwrap();
            // A password takes its time.
            other.open("Sum").await.unwrap();
            let sum = SumClient::new(&other);
            let call = async || sum.add(1, 2).timeout(millis(300)).await.unwrap_err();
            eventually_is(call, |error| error.code() == Some(Code::FailedPrecondition)).await;
            eventually("it is counted", || count(&server.stats().dropped, cause) > before).await;
        }
        let right = place.channel().seal(Seal::new().encrypt(key(1))).connect().await.unwrap();
        let sum = SumClient::new(&right);
        assert_eq!(sum.add(1, 2).await, Ok(3));
        assert_eq!(server.stats().counts.executed, 1);
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        server.shutdown().await.unwrap();
        let server = place.server().seal(Seal::new().encrypt(key(1)));
        let server = start(server.serve(SumServer::new(Adder))).await;
        assert_eq!(sum.add(1, 2).await, Ok(3));
        assert_eq!(server.stats().counts.executed, 1, "a record was read again");
        for (_, cause) in &seals {
            assert_eq!(count(&server.stats().dropped, cause), 0, "a record was read again");
        }
    });
}

#[test]
fn who_has_no_seal_does_not_read_sealed_packets() {
    scenario(async |place| {
        let server = place.server().seal(Seal::new()).serve(SumServer::new(Adder));
        let server = start(server).await;
        let sealed = place.channel().seal(Seal::new().encrypt(key(1))).connect().await.unwrap();
        let error = SumClient::new(&sealed).add(1, 2).timeout(millis(300)).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
        assert_eq!(server.stats().counts.executed, 0);
        eventually("they are counted", || {
            let dropped = server.stats().dropped;
            count(&dropped, "unknown_key") + count(&dropped, "sealed") > 0
        })
        .await;
    });
}

/// What goes from nothing to encryption in three steps, and is called all the while.
#[test]
fn a_service_is_sealed_without_a_stop() {
    scenario(async |place| {
        let old = start(place.server().seal(Seal::new()).serve(SumServer::new(Adder))).await;
        let plain = place.channel().seal(Seal::new()).connect().await.unwrap();
        assert_eq!(SumClient::new(&plain).add(1, 2).await, Ok(3));
        old.shutdown().await.unwrap();
        // All sides can open what is sealed, and write as ever.
        let opens = Seal::new().open_with(key(1));
        let server = start(place.server().seal(opens.clone()).serve(SumServer::new(Adder))).await;
        assert_eq!(SumClient::new(&plain).add(1, 2).await, Ok(3));
        let ready = place.channel().seal(opens).connect().await.unwrap();
        assert_eq!(SumClient::new(&ready).add(1, 2).await, Ok(3));
        server.shutdown().await.unwrap();
        // Then they seal.
        let seals = Seal::new().encrypt(key(1));
        let tolerant = seals.clone().accept(Level::Unsealed);
        let server = start(place.server().seal(tolerant).serve(SumServer::new(Adder))).await;
        assert_eq!(SumClient::new(&ready).add(1, 2).await, Ok(3));
        let sealed = place.channel().seal(seals.clone()).connect().await.unwrap();
        assert_eq!(SumClient::new(&sealed).add(1, 2).await, Ok(3));
        server.shutdown().await.unwrap();
        let _server = start(place.server().seal(seals).serve(SumServer::new(Adder))).await;
        assert_eq!(SumClient::new(&sealed).add(1, 2).await, Ok(3));
        assert!(SumClient::new(&ready).add(1, 2).timeout(millis(300)).await.is_err());
    });
}

#[test]
fn keys_are_exchanged_while_calls_are_made() {
    scenario(async |place| {
        let ring = Watched { ring: KeyRing::new(vec![key(1)]), asked: Arc::default() };
        let seal = Seal::new().encrypt_from(ring.clone());
        let server = place.server().seal(seal.clone()).serve(SumServer::new(Adder));
        let server = start(server).await;
        let channel = place.channel().seal(seal).connect().await.unwrap();
        let sum = SumClient::new(&channel);
        assert_eq!(sum.add(0, 0).await, Ok(0));
        for round in 2..5 {
            let mut calls = JoinSet::new();
            for keys in [vec![key(round - 1), key(round)], vec![key(round), key(round - 1)]] {
                ring.replace(keys).await;
                for n in 0..100 {
                    let call = sum.add(n, 1);
                    calls.spawn(async move { (call.await, n + 1) });
                    tokio::task::yield_now().await;
                }
            }
            // Nothing that the old key sealed is waited for once they are answered.
            for (sum, right) in calls.join_all().await {
                assert_eq!(sum, Ok(right), "{:?}", server.stats().dropped);
            }
            ring.replace(vec![key(round)]).await;
        }
        let (server, client) = (server.stats(), channel.stats("Sum").unwrap());
        for cause in ["unknown_key", "bad_seal"] {
            assert_eq!((count(&server.dropped, cause), count(&client.dropped, cause)), (0, 0));
        }
    });
}

/// A ring that tells when its keys are in use by a server and a channel.
#[derive(Clone)]
struct Watched {
    ring: KeyRing,
    asked: Arc<AtomicUsize>,
}

impl KeyProvider for Watched {
    fn keys<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>> {
        self.ring.keys(service)
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        let changed = self.ring.changed();
        self.asked.fetch_add(1, Ordering::AcqRel);
        changed
    }
}

impl Watched {
    async fn replace(&self, keys: Vec<Key>) {
        // Who waits for the next change is done with the one before.
        for _ in 0..2 {
            let before = self.asked.load(Ordering::Acquire);
            self.ring.replace(keys.clone());
            eventually("both have seen it", || self.asked.load(Ordering::Acquire) >= before + 2)
                .await;
        }
    }
}

#[test]
fn a_seal_that_cannot_be_made_is_told_at_the_start() {
    scenario(async |place| {
        let wrong = [
            (Seal::new().password(""), "the password is empty"),
            (Seal::new().compress(99), "compression of level 99"),
            (Seal::new().verify_with(|_| Vec::new()), "the hash function gives 0 bytes"),
            (Seal::new().checksum().encrypt(key(1)), "so choose one"),
        ];
        for (seal, reason) in wrong {
            let server = place.server().seal(seal.clone()).serve(SumServer::new(Adder));
            let server = server.start().await.unwrap_err().to_string();
            let channel = place.channel().seal(seal).connect().await.unwrap_err().to_string();
            assert!(server.contains(reason) && channel.contains(reason), "{server}; {channel}");
        }
        // What a service's keys are wrong in is told with its name.
        let twice = Seal::new().encrypt(key(1)).open_with(key(1));
        let channel = place.channel().seal(twice).connect().await.unwrap();
        let error = channel.open("Sum").await.unwrap_err().to_string();
        assert!(error.contains("packets of Sum cannot be sealed"), "{error}");
    });
}

/// What a stranger writes is not sealed, or not with a key that is known.
#[test]
fn a_stranger_calls_nothing() {
    scenario(async |place| {
        let seal = Seal::new().verify(key(1));
        let server = place.server().seal(seal.clone()).serve(SumServer::new(Adder));
        let server = start(server).await;
        let channel = place.channel().seal(seal).connect().await.unwrap();
        assert_eq!(SumClient::new(&channel).add(1, 2).await, Ok(3));
        let stranger = Stranger::new(&place, "Sum");
        let call = include_str!("../../krpc-core/tests/golden/request.hex");
        let bytes = call.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
        let call: Vec<u8> = bytes.collect();
        for _ in 0..100 {
            stranger.write(Topic::Calls, 0, Some(&call));
        }
        stranger.flush();
        eventually("all are counted", || count(&server.stats().dropped, "too_weak") == 100).await;
        assert_eq!(server.stats().counts.executed, 1);
    });
}
