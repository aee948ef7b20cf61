//! One key, several servers, and a store that may be out of reach; in virtual time.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicU8;

use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::{codec::ValueCodec, store::MemoryStore};

const LEASE: Duration = Duration::from_secs(9);

/// A way to a store that others reach by ways of their own.
#[derive(Clone)]
struct Way {
    store: MemoryStore,
    state: Arc<AtomicU8>,
}

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;
/// It does what it is asked for and says that it did not.
const LOSES_ANSWERS: u8 = 3;

impl Way {
    fn to(store: &MemoryStore) -> Self {
        Self { store: store.clone(), state: Arc::default() }
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    fn pass<'a, T: Send + 'a>(
        &self,
        operation: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let state = self.state.load(Ordering::SeqCst);
        Box::pin(async move {
            match state {
                FAILS => return Err(StoreError::new("on purpose")),
                HANGS => pending().await,
                _ => {}
            }
            let answer = operation.await;
            if state == LOSES_ANSWERS { Err(StoreError::new("on purpose")) } else { answer }
        })
    }
}

impl ResultStore for Way {
    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        self.pass(Box::pin(async move { self.store.claim(key, claim, lease).await }))
    }

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.pass(Box::pin(async move { self.store.renew(key, claim, lease).await }))
    }

    fn finish<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        result: Bytes,
        retention: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.pass(Box::pin(async move { self.store.finish(key, claim, result, retention).await }))
    }

    fn release<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.pass(Box::pin(async move { self.store.release(key, claim).await }))
    }
}

fn once(way: &Way, when_store_fails: StoreFailure) -> Once {
    let how = Idempotency { lease: LEASE, when_store_fails, ..Idempotency::default() };
    Once {
        how,
        store: Arc::new(way.clone()),
        key: StoreKey::new("Shop/buy", "one"),
        claim: fresh_claim(),
        fingerprint: 1,
        retention: RETENTION,
        keeps_errors: true,
        claimed: AtomicBool::new(false),
    }
}

/// What executions did.
#[derive(Clone, Default)]
struct Log(Arc<AtomicU8>);

impl Log {
    fn executions(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }

    /// One that takes a while, and whose result is how many there were.
    fn execution(&self, time: Duration) -> Execution {
        let log = self.clone();
        Box::pin(async move {
            let number = log.0.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(time).await;
            Ok(stored(number))
        })
    }
}

fn stored(number: u8) -> Stored {
    Stored { ok: true, codec: ValueCodec::MessagePack, value: vec![number].into() }
}

fn begin(once: Once, execution: Execution) -> JoinHandle<Result<Stored, Status>> {
    tokio::spawn(async move { once.result(execution).await })
}

fn code(result: Result<Stored, Status>) -> Code {
    result.unwrap_err().code()
}

const REFUSE: StoreFailure = StoreFailure::Refuse;
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn calls_of_one_key_share_one_execution() {
    let (way, log) = (Way::to(&MemoryStore::new()), Log::default());
    // Some come while it runs, for longer than a lease; some after it.
    let calls = (0..20).map(|_| begin(once(&way, REFUSE), log.execution(LEASE * 5)));
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Ok(stored(1)));
    }
    assert_eq!(once(&way, REFUSE).result(log.execution(SECOND)).await, Ok(stored(1)));
    assert_eq!(log.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_and_a_panic_free_the_key() {
    let (way, log) = (Way::to(&MemoryStore::new()), Log::default());
    let refused = Status::new(Code::ResourceExhausted, "not now");
    let fails: Execution = Box::pin(std::future::ready(Err(refused.clone())));
    assert_eq!(once(&way, REFUSE).result(fails).await, Err(refused));
    let panics: Execution = Box::pin(async { panic!("on purpose") });
    assert_eq!(code(once(&way, REFUSE).result(panics).await), Code::Internal);
    let began = Instant::now();
    assert_eq!(once(&way, REFUSE).result(log.execution(SECOND)).await, Ok(stored(1)));
    assert_eq!(began.elapsed(), SECOND, "nobody waited for the claim's end");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_asks_for_another_execution_frees_the_key() {
    let (way, log) = (Way::to(&MemoryStore::new()), Log::default());
    let error = Stored { ok: false, ..stored(0) };
    let fails = || -> Execution { Box::pin(std::future::ready(Ok(error.clone()))) };
    let queued = || Once { keeps_errors: false, ..once(&way, REFUSE) };
    assert_eq!(queued().result(fails()).await, Ok(error.clone()));
    assert_eq!(queued().result(log.execution(SECOND)).await, Ok(stored(1)));
    // Its value is a result all the same, and so is the error of a call that is waited for.
    assert_eq!(queued().result(log.execution(SECOND)).await, Ok(stored(1)));
    let other = || Once { key: StoreKey::new("Shop/buy", "two"), ..once(&way, REFUSE) };
    for execution in [fails(), log.execution(SECOND)] {
        assert_eq!(other().result(execution).await, Ok(error.clone()));
    }
    assert_eq!(log.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_arguments_under_the_same_key_are_refused() {
    let (way, log) = (Way::to(&MemoryStore::new()), Log::default());
    assert_eq!(once(&way, REFUSE).result(log.execution(SECOND)).await, Ok(stored(1)));
    let other = Once { fingerprint: 2, ..once(&way, REFUSE) };
    assert_eq!(code(other.result(log.execution(SECOND)).await), Code::InvalidArgument);
    assert_eq!(log.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_claim_of_the_dead_runs_out() {
    let (way, log) = (Way::to(&MemoryStore::new()), Log::default());
    let dies = begin(once(&way, REFUSE), log.execution(LEASE));
    while log.executions() == 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    dies.abort();
    assert_eq!(once(&way, REFUSE).result(log.execution(SECOND)).await, Ok(stored(2)));
    let took = began.elapsed() - SECOND;
    assert!(took >= LEASE && took <= LEASE + WAITS.1, "{took:?}");
}

/// The first ones of a claim, and those after one that was made.
#[tokio::test(start_paused = true)]
async fn two_renewals_in_a_row_may_hang() {
    let store = MemoryStore::new();
    let (hangs, way, log) = (Way::to(&store), Way::to(&store), Log::default());
    let first = begin(once(&hangs, REFUSE), log.execution(LEASE * 3));
    while log.executions() == 0 {
        tokio::task::yield_now().await;
    }
    let second = begin(once(&way, REFUSE), log.execution(SECOND));
    for _ in 0..2 {
        hangs.set(HANGS);
        sleep(LEASE * 55 / 100).await;
        hangs.set(WORKS);
        // The third one is made.
        sleep(LEASE * 3 / 10).await;
    }
    assert_eq!(first.await.unwrap(), Ok(stored(1)));
    assert_eq!(second.await.unwrap(), Ok(stored(1)));
    assert_eq!(log.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_lost_its_claim_answers_with_the_others_result() {
    let store = MemoryStore::new();
    let (cut_off, way, log) = (Way::to(&store), Way::to(&store), Log::default());
    let first = begin(once(&cut_off, REFUSE), log.execution(LEASE * 2));
    while log.executions() == 0 {
        tokio::task::yield_now().await;
    }
    cut_off.set(HANGS);
    // Comes later, and ends later than the first one's execution.
    let second = begin(once(&way, REFUSE), log.execution(LEASE * 2));
    sleep(LEASE + SECOND).await;
    assert_eq!(log.executions(), 2);
    cut_off.set(WORKS);
    assert_eq!(first.await.unwrap(), Ok(stored(2)));
    assert_eq!(second.await.unwrap(), Ok(stored(2)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_refuses_calls_or_is_passed_by() {
    let (way, log) = (Way::to(&MemoryStore::new()), Log::default());
    for state in [FAILS, HANGS] {
        way.set(state);
        let began = Instant::now();
        let refused = once(&way, REFUSE).result(log.execution(SECOND)).await.unwrap_err();
        assert_eq!((refused.code(), refused.is_retryable()), (Code::Unavailable, true));
        assert!(began.elapsed() <= LEASE / TRIES);
    }
    assert_eq!(log.executions(), 0);
    let passes = once(&way, StoreFailure::Execute).result(log.execution(SECOND)).await;
    assert_eq!(passes, Ok(stored(1)));
}

#[tokio::test(start_paused = true)]
async fn a_result_is_no_answer_before_it_is_stored_unless_so_wished() {
    for (when_store_fails, waits) in [(REFUSE, true), (StoreFailure::Execute, false)] {
        let store = MemoryStore::new();
        let (way, log) = (Way::to(&store), Log::default());
        let call = begin(once(&way, when_store_fails), log.execution(SECOND));
        while log.executions() == 0 {
            tokio::task::yield_now().await;
        }
        way.set(FAILS);
        sleep(SECOND * 5).await;
        assert_eq!(call.is_finished(), !waits);
        way.set(WORKS);
        assert_eq!(call.await.unwrap(), Ok(stored(1)));
        let next = once(&way, REFUSE).result(log.execution(SECOND)).await;
        assert_eq!(next, Ok(stored(if waits { 1 } else { 2 })));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_store_that_got_lost_changes_nothing() {
    let (way, log) = (Way::to(&MemoryStore::new()), Log::default());
    way.set(LOSES_ANSWERS);
    let refused = once(&way, REFUSE);
    assert_eq!(code(refused.result(log.execution(SECOND)).await), Code::Unavailable);
    // It may hold the key, and gives it back.
    refused.release().await;
    way.set(WORKS);
    let call = begin(once(&way, REFUSE), log.execution(SECOND));
    while log.executions() == 0 {
        tokio::task::yield_now().await;
    }
    way.set(LOSES_ANSWERS);
    sleep(SECOND * 2).await;
    assert!(!call.is_finished());
    way.set(WORKS);
    assert_eq!(call.await.unwrap(), Ok(stored(1)));
    assert_eq!(log.executions(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told() {
    let way = Way::to(&MemoryStore::new());
    let other = once(&way, REFUSE);
    assert_eq!(way.claim(&other.key, other.claim, LEASE).await.unwrap(), Claim::Mine);
    let strange = Bytes::from_static(b"\x02 of a later version");
    assert!(way.finish(&other.key, other.claim, strange, LEASE).await.unwrap());
    let log = Log::default();
    assert_eq!(code(once(&way, REFUSE).result(log.execution(SECOND)).await), Code::Internal);
}
