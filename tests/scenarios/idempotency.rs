//! Calls with an idempotency key: one execution's result is the answer of all of them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use krpc::{
    Error, RetryPolicy, Server, ServerStats,
    prelude::*,
    store::{
        BoxFuture, Bytes, Claim, ClaimId, MemoryStore, ResultStore, StoreError, StoreFailure,
        StoreKey,
    },
};
use tokio::sync::watch;

use crate::support::{
    ON_PURPOSE, Place, eventually,
    place::{settled, start},
    scenario,
};

#[krpc::service]
trait Bank {
    /// Yields a number that no other execution yields, once nobody is held up.
    async fn pay(&self, cents: u64) -> usize;
    /// The same as an error of the application.
    async fn refuse(&self) -> Result<(), usize>;
    /// Panics when it is executed for the first time.
    async fn stumble(&self) -> usize;
    /// Its results are soon forgotten.
    #[rpc(retention = "200ms")]
    async fn look(&self) -> usize;
    /// Fails twice.
    #[rpc(one_way, retry(max = 9, backoff = "1ms..2ms"))]
    async fn note(&self) -> Result<(), usize>;
}

#[derive(Clone)]
struct Teller {
    executions: Arc<AtomicUsize>,
    held_up: Arc<watch::Sender<bool>>,
}

impl Teller {
    fn new() -> Self {
        Self { executions: Arc::default(), held_up: Arc::new(watch::Sender::new(false)) }
    }

    fn execute(&self) -> usize {
        self.executions.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many there were since the last asking.
    fn executions(&self) -> usize {
        self.executions.swap(0, Ordering::SeqCst)
    }

    fn hold_up(&self, held_up: bool) {
        self.held_up.send_replace(held_up);
    }
}

impl Bank for Teller {
    async fn pay(&self, _cents: u64) -> usize {
        let number = self.execute();
        self.held_up.subscribe().wait_for(|held_up| !held_up).await.unwrap();
        number
    }

    async fn refuse(&self) -> Result<(), usize> {
        Err(self.execute())
    }

    async fn stumble(&self) -> usize {
        let number = self.execute();
        assert!(number > 1, "{ON_PURPOSE}");
        number
    }

    async fn look(&self) -> usize {
        self.execute()
    }

    async fn note(&self) -> Result<(), usize> {
        let number = self.execute();
        if number < 3 { Err(number) } else { Ok(()) }
    }
}

/// A server with a store that was called once, and its client.
async fn open(place: &Place, store: impl ResultStore) -> (Teller, BankClient, Server) {
    let teller = Teller::new();
    let server = place.server().serve(BankServer::new(teller.clone())).result_store(store);
    let server = start(server).await;
    let bank = BankClient::new(&place.connect().await);
    bank.pay(0).await.unwrap();
    assert_eq!(teller.executions(), 1);
    (teller, bank, server)
}

fn code<T, E>(result: Result<T, Error<E>>) -> Option<Code> {
    result.err().and_then(|error| error.code())
}

#[test]
fn calls_with_one_key_are_executed_once() {
    scenario(async |place| {
        // Two servers with one store, and callers on two channels.
        let (teller, store) = (Teller::new(), MemoryStore::new());
        let server =
            || place.server().serve(BankServer::new(teller.clone())).result_store(store.clone());
        let (first, second) = (server().start().await.unwrap(), server().start().await.unwrap());
        settled(&[&first, &second]).await;
        let mut banks = Vec::new();
        for _ in 0..2 {
            banks.push(BankClient::new(&place.connect().await));
        }
        let pay = |key: usize| {
            let calls = banks.iter().flat_map(|bank| (0..10).map(move |_| bank.pay(5)));
            join_all(calls.map(move |call| call.idempotency_key(format!("invoice {key}"))))
        };
        teller.hold_up(true);
        let calls = [0, 1, 2].map(|key| tokio::spawn(pay(key)));
        eventually("each was begun", || teller.executions.load(Ordering::SeqCst) == 3).await;
        teller.hold_up(false);
        let mut all = Vec::new();
        for (key, calls) in (0..).zip(calls) {
            let results = calls.await.unwrap();
            assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
            // And afterwards, as long as the result is kept.
            assert!(pay(key).await.iter().all(|result| *result == results[0]));
            all.push(results[0].clone().unwrap());
        }
        assert_eq!(teller.executions(), 3);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        // Of another method it is another key, and without one each call is executed.
        assert_eq!(banks[0].refuse().idempotency_key("invoice 0").await, Err(Error::App(1)));
        assert_eq!(banks[0].pay(5).await, Ok(2));
        assert_eq!(banks[0].pay(5).await, Ok(3));
    });
}

#[test]
fn an_application_error_is_a_result_and_a_status_is_none() {
    scenario(async |place| {
        let (teller, bank, _server) = open(&place, MemoryStore::new()).await;
        for _ in 0..3 {
            assert_eq!(bank.refuse().idempotency_key("a").await, Err(Error::App(1)));
        }
        assert_eq!(teller.executions(), 1);
        assert_eq!(code(bank.stumble().idempotency_key("a").await), Some(Code::Internal));
        for _ in 0..3 {
            assert_eq!(bank.stumble().idempotency_key("a").await, Ok(2));
        }
        assert_eq!(teller.executions(), 2);
    });
}

#[test]
fn a_result_is_kept_as_long_as_its_method_says() {
    scenario(async |place| {
        let (_teller, bank, _server) = open(&place, MemoryStore::new()).await;
        let look = || async { bank.look().idempotency_key("a").await.unwrap() };
        assert_eq!(look().await, 1);
        while look().await == 1 {}
        assert_eq!(bank.look().idempotency_key("b").await, Ok(3));
    });
}

#[test]
fn one_way_calls_with_one_key_are_executed_until_one_succeeds() {
    scenario(async |place| {
        let (teller, bank, server) = open(&place, MemoryStore::new()).await;
        // They are done for their caller when they are stored: the server may not have them yet.
        let done = || {
            let ServerStats { counts, unfinished, .. } = server.stats();
            (counts.executed - counts.retried, unfinished)
        };
        let before = done().0;
        for _ in 0..5 {
            bank.note().idempotency_key("a").await.unwrap();
        }
        eventually("all are done", || done() == (before + 5, 0)).await;
        bank.note().idempotency_key("a").await.unwrap();
        eventually("it is done", || done() == (before + 6, 0)).await;
        assert_eq!(teller.executions(), 3);
    });
}

#[test]
fn a_key_is_for_one_call_and_its_repeats() {
    scenario(async |place| {
        let (teller, bank, _server) = open(&place, MemoryStore::new()).await;
        assert_eq!(bank.pay(5).idempotency_key("a").await, Ok(1));
        let other = bank.pay(6).idempotency_key("a").await;
        assert_eq!(code(other), Some(Code::InvalidArgument));
        assert_eq!(bank.pay(5).idempotency_key("a").await, Ok(1));
        // What cannot travel is told before anything is sent.
        for key in ["".to_owned(), "k".repeat(257)] {
            assert_eq!(code(bank.pay(5).idempotency_key(key).await), Some(Code::InvalidArgument));
        }
        assert_eq!(bank.pay(5).idempotency_key("k".repeat(256)).await, Ok(2));
        assert_eq!(teller.executions(), 2);
    });
}

#[test]
fn without_a_store_calls_with_a_key_are_refused() {
    scenario(async |place| {
        let teller = Teller::new();
        let _server = place.serve(BankServer::new(teller.clone())).await;
        let bank = BankClient::new(&place.connect().await);
        let refused = bank.pay(5).idempotency_key("a").await;
        assert_eq!(code(refused), Some(Code::FailedPrecondition));
        assert_eq!(teller.executions(), 0);
        assert_eq!(bank.pay(5).await, Ok(1));
    });
}

#[test]
fn a_call_that_waits_for_anothers_result_can_be_given_up() {
    scenario(async |place| {
        let (teller, bank, server) = open(&place, MemoryStore::new()).await;
        teller.hold_up(true);
        let pay = || bank.pay(5).idempotency_key("a").timeout(secs(50));
        let first = tokio::spawn(pay());
        eventually("it executes", || teller.executions.load(Ordering::SeqCst) == 1).await;
        let waiting = tokio::spawn(pay());
        eventually("the second is there", || server.stats().running == 2).await;
        let late = pay().timeout(millis(300)).await;
        assert_eq!(code(late), Some(Code::DeadlineExceeded));
        waiting.abort();
        eventually("they are gone", || server.stats().running == 1).await;
        // The one that executes is given up as well: then another executes.
        let third = tokio::spawn(pay());
        eventually("the third is there", || server.stats().running == 2).await;
        assert_eq!(teller.executions.load(Ordering::SeqCst), 1);
        first.abort();
        eventually("it executes", || teller.executions.load(Ordering::SeqCst) == 2).await;
        teller.hold_up(false);
        assert_eq!(third.await.unwrap(), Ok(2));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}

#[test]
fn a_hedged_call_with_a_key_is_executed_once() {
    scenario(async |place| {
        let (teller, store) = (Teller::new(), MemoryStore::new());
        let server =
            || place.server().serve(BankServer::new(teller.clone())).result_store(store.clone());
        let (first, second) = (server().start().await.unwrap(), server().start().await.unwrap());
        settled(&[&first, &second]).await;
        let channel = place.channel().retry_budget(10.0).connect().await.unwrap();
        let bank = BankClient::new(&channel);
        bank.pay(0).await.unwrap();
        teller.executions();
        teller.hold_up(true);
        let call = bank.pay(5).idempotency_key("a").hedge(millis(5)).timeout(secs(50)).reply();
        let call = tokio::spawn(call);
        eventually("it was sent twice", || first.stats().running + second.stats().running == 2)
            .await;
        teller.hold_up(false);
        let reply = call.await.unwrap().unwrap();
        assert_eq!((reply.value, reply.attempts, teller.executions()), (1, 2, 1));
    });
}

/// A store that fails when it is told to.
#[derive(Clone)]
struct Fragile {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
    /// How often it is asked for a claim before it works again.
    claims: Arc<Mutex<usize>>,
}

impl Fragile {
    fn new() -> Self {
        Self { store: MemoryStore::new(), fails: Arc::default(), claims: Arc::default() }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::new("no store today")),
            false => Ok(()),
        }
    }

    fn check_claim(&self) -> Result<(), StoreError> {
        let mut claims = self.claims.lock().unwrap();
        if *claims > 0 {
            *claims -= 1;
            return Err(StoreError::new("no claim yet"));
        }
        self.check()
    }
}

impl ResultStore for Fragile {
    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        Box::pin(async move {
            self.check_claim()?;
            self.store.claim(key, claim, lease).await
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.store.renew(key, claim, lease).await
        })
    }

    fn finish<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        result: Bytes,
        retention: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.store.finish(key, claim, result, retention).await
        })
    }

    fn release<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.store.release(key, claim).await
        })
    }
}

#[test]
fn a_call_with_a_key_is_sent_again_whatever_its_method() {
    scenario(async |place| {
        let store = Fragile::new();
        let (teller, bank, _server) = open(&place, store.clone()).await;
        *store.claims.lock().unwrap() = 2;
        let reply = bank.pay(5).idempotency_key("a").reply().await.unwrap();
        assert_eq!((reply.value, reply.attempts), (1, 3));
        *store.claims.lock().unwrap() = 4;
        let policy = RetryPolicy::new().attempts(5).backoff(millis(1)..millis(2));
        // In whatever order the call is built.
        let reply = bank.pay(5).retry(policy).idempotency_key("b").reply().await.unwrap();
        assert_eq!((reply.value, reply.attempts), (2, 5));
        assert_eq!(teller.executions(), 2);
    });
}

#[test]
fn a_store_that_fails_is_told_or_passed_by() {
    scenario(async |place| {
        let store = Fragile::new();
        let (teller, bank, server) = open(&place, store.clone()).await;
        let once = |key: &str| bank.pay(5).idempotency_key(key).retry(RetryPolicy::none());
        store.fails.store(true, Ordering::SeqCst);
        let refused = once("a").await.unwrap_err();
        assert_eq!((refused.code(), refused.is_retryable()), (Some(Code::Unavailable), true));
        assert_eq!(teller.executions(), 0);
        // A result that cannot be stored is no answer yet.
        store.fails.store(false, Ordering::SeqCst);
        teller.hold_up(true);
        let call = tokio::spawn(once("a").timeout(secs(50)));
        eventually("it executes", || teller.executions.load(Ordering::SeqCst) == 1).await;
        store.fails.store(true, Ordering::SeqCst);
        teller.hold_up(false);
        assert_eq!(bank.pay(5).await, Ok(2), "others are served");
        store.fails.store(false, Ordering::SeqCst);
        assert_eq!(call.await.unwrap(), Ok(1));
        assert_eq!(once("a").await, Ok(1));
        teller.executions();

        server.shutdown().await.unwrap();
        let server = place.server().serve(BankServer::new(teller.clone()));
        let server = server.result_store(store.clone()).when_store_fails(StoreFailure::Execute);
        let _server = start(server).await;
        assert_eq!(once("b").await, Ok(1));
        store.fails.store(true, Ordering::SeqCst);
        assert_eq!(once("b").await, Ok(2));
        store.fails.store(false, Ordering::SeqCst);
        assert_eq!(once("b").await, Ok(1));
    });
}
