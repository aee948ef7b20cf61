//! What every result store must do, tried on each: in this process, and on a real Redis, which is
//! started here.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use krpc::store::{Claim, ClaimId, MemoryStore, ResultStore, StoreKey};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// A key that no other test uses.
fn key() -> StoreKey {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    StoreKey::new("Shop/buy", format!("ключ-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn by(number: u8) -> ClaimId {
    ClaimId::from_bytes([number; 16])
}

async fn claim(store: &dyn ResultStore, key: &StoreKey, number: u8) -> Claim {
    store.claim(key, by(number), LONG).await.unwrap()
}

async fn finish(store: &dyn ResultStore, key: &StoreKey, number: u8, result: &[u8]) -> bool {
    store.finish(key, by(number), result.to_vec().into(), LONG).await.unwrap()
}

fn done(result: &'static [u8]) -> Claim {
    Claim::Done(result.into())
}

/// Waits until the key is free, and claims it.
async fn claimed_when_free(store: &dyn ResultStore, key: &StoreKey, number: u8) -> Duration {
    let started = Instant::now();
    loop {
        match claim(store, key, number).await {
            Claim::Mine => return started.elapsed(),
            Claim::Held { left } => assert!(left <= SHORT, "{left:?}"),
            Claim::Done(_) => {}
        }
        assert!(started.elapsed() < LONG, "it never became free");
        tokio::time::sleep(SHORT / 30).await;
    }
}

async fn one_claims_and_all_see_its_result(store: &dyn ResultStore) {
    let key = key();
    let claims = join_all((1..=50).map(|number| claim(store, &key, number))).await;
    let mine: Vec<_> = (0..50).filter(|index| claims[*index] == Claim::Mine).collect();
    assert_eq!(mine.len(), 1);
    let owner = u8::try_from(mine[0] + 1).unwrap();
    let held = |claim: &Claim| matches!(claim, Claim::Held { left } if *left <= LONG);
    assert_eq!(claims.iter().filter(|claim| held(claim)).count(), 49);

    // Any bytes, and none of another claimant.
    let result = b"\0\r\n\xff and text";
    assert!(!finish(store, &key, owner + 1, b"wrong").await);
    assert!(finish(store, &key, owner, result).await);
    assert!(!finish(store, &key, owner + 1, b"wrong").await);
    for number in 1..=50 {
        assert_eq!(claim(store, &key, number).await, done(result));
    }
}

async fn each_operation_may_be_repeated(store: &dyn ResultStore) {
    let key = key();
    for _ in 0..2 {
        assert_eq!(claim(store, &key, 1).await, Claim::Mine);
    }
    for _ in 0..2 {
        assert!(store.renew(&key, by(1), LONG).await.unwrap());
    }
    for _ in 0..2 {
        assert!(store.release(&key, by(1)).await.unwrap());
    }
    assert_eq!(claim(store, &key, 2).await, Claim::Mine);
    for _ in 0..2 {
        assert!(finish(store, &key, 2, b"").await);
    }
    assert_eq!(claim(store, &key, 2).await, done(b""));
}

async fn nobody_touches_what_is_anothers(store: &dyn ResultStore) {
    let key = key();
    assert_eq!(claim(store, &key, 1).await, Claim::Mine);
    assert!(!store.renew(&key, by(2), SHORT).await.unwrap());
    assert!(!store.release(&key, by(2)).await.unwrap());
    assert!(matches!(claim(store, &key, 2).await, Claim::Held { left } if left > SHORT));
    assert!(finish(store, &key, 1, b"one").await);
    // What is done is nobody's any more.
    for number in 1..=2 {
        assert!(!store.renew(&key, by(number), LONG).await.unwrap());
        assert!(!store.release(&key, by(number)).await.unwrap());
    }
    assert_eq!(claim(store, &key, 2).await, done(b"one"));
}

async fn a_claim_runs_out_unless_it_is_renewed(store: &dyn ResultStore) {
    let key = key();
    assert_eq!(store.claim(&key, by(1), SHORT).await.unwrap(), Claim::Mine);
    assert!(claimed_when_free(store, &key, 2).await >= SHORT / 2);
    // The first one has lost it, and learns so.
    assert!(!store.renew(&key, by(1), LONG).await.unwrap());
    assert!(!finish(store, &key, 1, b"one").await);
    assert!(!store.release(&key, by(1)).await.unwrap());
    assert!(finish(store, &key, 2, b"two").await);
    assert_eq!(claim(store, &key, 1).await, done(b"two"));

    let key = self::key();
    assert_eq!(store.claim(&key, by(1), SHORT).await.unwrap(), Claim::Mine);
    assert!(store.renew(&key, by(1), LONG).await.unwrap());
    tokio::time::sleep(SHORT).await;
    assert!(matches!(claim(store, &key, 2).await, Claim::Held { left } if left > SHORT));
}

async fn a_claim_that_ran_out_is_still_ones_own_while_nobody_came(store: &dyn ResultStore) {
    for renewed in [true, false] {
        let key = key();
        let moment = Duration::from_millis(1);
        assert_eq!(store.claim(&key, by(1), moment).await.unwrap(), Claim::Mine);
        tokio::time::sleep(moment * 20).await;
        if renewed {
            assert!(store.renew(&key, by(1), LONG).await.unwrap());
            assert!(matches!(claim(store, &key, 2).await, Claim::Held { .. }));
        }
        assert!(finish(store, &key, 1, b"late").await);
        assert_eq!(claim(store, &key, 2).await, done(b"late"));
    }
}

async fn a_result_stays_as_long_as_was_asked(store: &dyn ResultStore) {
    let key = key();
    assert_eq!(claim(store, &key, 1).await, Claim::Mine);
    assert!(store.finish(&key, by(1), b"one".as_slice().into(), SHORT).await.unwrap());
    assert_eq!(claim(store, &key, 2).await, done(b"one"));
    claimed_when_free(store, &key, 2).await;
}

async fn a_free_key_is_claimed_when_it_was_released(store: &dyn ResultStore) {
    let key = key();
    assert_eq!(claim(store, &key, 1).await, Claim::Mine);
    assert!(store.release(&key, by(1)).await.unwrap());
    assert_eq!(claim(store, &key, 2).await, Claim::Mine);
}

async fn keys_are_told_apart(store: &dyn ResultStore) {
    let text = "a key of its own";
    for method in ["Shop/buy", "Shop/sell", "Other/buy"] {
        assert_eq!(claim(store, &StoreKey::new(method, text), 1).await, Claim::Mine);
    }
    assert!(matches!(claim(store, &StoreKey::new("Shop/buy", text), 2).await, Claim::Held { .. }));
}

/// All of it, on one store.
macro_rules! contract {
    ($store:expr; $($name:ident)+) => {
        $(#[tokio::test]
        async fn $name() {
            super::$name(&$store).await;
        })+
    };
    ($store:expr) => {
        contract! {
            $store;
            one_claims_and_all_see_its_result
            each_operation_may_be_repeated
            nobody_touches_what_is_anothers
            a_claim_runs_out_unless_it_is_renewed
            a_claim_that_ran_out_is_still_ones_own_while_nobody_came
            a_result_stays_as_long_as_was_asked
            a_free_key_is_claimed_when_it_was_released
            keys_are_told_apart
        }
    };
}

mod memory {
    use super::*;

    contract!(MemoryStore::new());
}

#[cfg(feature = "redis")]
mod redis {
    use krpc::store::RedisStore;
    use krpc_testkit::Redis;

    use super::*;

    contract!(
        {
            // Dropped with the store, at the end of the test.
            let redis = Redis::start().unwrap();
            Held { store: RedisStore::connect(&redis.url()).await.unwrap(), _redis: redis }
        }
        .store
    );

    struct Held {
        store: RedisStore,
        _redis: Redis,
    }

    #[tokio::test]
    async fn two_environments_share_a_redis() {
        let redis = Redis::start().unwrap();
        let store = RedisStore::connect(&redis.url()).await.unwrap();
        let other = store.clone().prefix("test");
        let key = key();
        assert_eq!(claim(&store, &key, 1).await, Claim::Mine);
        assert_eq!(claim(&other, &key, 2).await, Claim::Mine);
    }

    #[tokio::test]
    async fn claims_and_results_outlive_the_redis_that_took_them() {
        let redis = Redis::start().unwrap();
        let store = RedisStore::connect(&redis.url()).await.unwrap();
        let (claimed, finished) = (key(), key());
        assert_eq!(claim(&store, &claimed, 1).await, Claim::Mine);
        assert!(finish(&store, &finished, 1, b"one").await);
        redis.kill().unwrap();
        assert!(store.claim(&claimed, by(2), LONG).await.is_err());
        redis.restart().unwrap();
        // The connection is made again, which takes a moment.
        let started = Instant::now();
        while let Err(error) = store.claim(&claimed, by(2), LONG).await {
            assert!(started.elapsed() < LONG, "{error}");
        }
        assert!(matches!(claim(&store, &claimed, 2).await, Claim::Held { .. }));
        assert_eq!(claim(&store, &finished, 2).await, done(b"one"));
        assert!(finish(&store, &claimed, 1, b"two").await);
    }

    #[tokio::test]
    async fn a_redis_that_hangs_is_an_error_in_time() {
        let redis = Redis::start().unwrap();
        let store = RedisStore::connect(&redis.url()).await.unwrap();
        redis.pause().unwrap();
        let started = Instant::now();
        assert!(store.claim(&key(), by(1), LONG).await.is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
        redis.resume().unwrap();
        assert_eq!(claim(&store, &key(), 1).await, Claim::Mine);
    }

    #[tokio::test]
    async fn without_a_redis_connecting_fails_in_time() {
        let port = krpc_testkit::free_port().unwrap();
        let started = Instant::now();
        assert!(RedisStore::connect(&format!("redis://127.0.0.1:{port}")).await.is_err());
        assert!(RedisStore::connect("no url").await.is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn the_password_is_not_shown() {
        let redis = Redis::start().unwrap();
        let url = redis.url().replace("redis://", "redis://:secret@");
        let store = RedisStore::connect(&url).await;
        assert!(!format!("{store:?}").contains("secret"));
    }
}
