//! Calls that are executed once at most, and what their callers are told.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::join_all;
use krpc::{Error, RetryPolicy, Server, ShutdownError, TicketStatus, prelude::*};
use tokio::sync::Semaphore;

use crate::support::{ON_PURPOSE, Place, eventually, scenario, start};

/// Payments, which must not be made twice.
#[krpc::service]
trait Till {
    #[rpc(at_most_once)]
    async fn pay(&self, cx: &Context, amount: u64) -> Result<u64, String>;
    /// Waits until the test lets it through.
    #[rpc(at_most_once)]
    async fn hold(&self, amount: u64) -> u64;
    async fn fence(&self, cx: &Context) -> (u64, u32);
}

#[derive(Clone)]
struct Cashier {
    paid: Arc<Mutex<Vec<u64>>>,
    held: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
}

impl Cashier {
    fn new() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        Self { paid: Arc::default(), held: Arc::default(), gate }
    }

    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

impl Till for Cashier {
    async fn pay(&self, cx: &Context, amount: u64) -> Result<u64, String> {
        self.paid.lock().unwrap().push(amount);
        assert_ne!(amount, 13, "{ON_PURPOSE}");
        assert!(cx.fence() > 0 && cx.attempt() == 1);
        if amount == 0 { Err("nothing to pay".to_owned()) } else { Ok(amount) }
    }

    async fn hold(&self, amount: u64) -> u64 {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.gate.acquire().await.unwrap().forget();
        amount
    }

    async fn fence(&self, cx: &Context) -> (u64, u32) {
        (cx.fence(), cx.attempt())
    }
}

async fn till(place: &Place) -> (Cashier, Server, TillClient) {
    let cashier = Cashier::new();
    let server = place.serve(TillServer::new(cashier.clone())).await;
    let client = TillClient::new(&place.connect().await);
    (cashier, server, client)
}

#[test]
fn its_answer_is_that_of_any_other_call() {
    scenario(async |place| {
        let (cashier, server, client) = till(&place).await;
        assert_eq!(client.pay(7).await, Ok(7));
        assert_eq!(client.pay(0).await, Err(Error::App("nothing to pay".to_owned())));
        let panicked = client.pay(13).await.unwrap_err();
        assert_eq!(panicked.code(), Some(Code::Internal));
        assert!(!panicked.is_outcome_unknown());
        assert_eq!(*cashier.paid.lock().unwrap(), [7, 0, 13]);
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}

#[test]
fn a_thousand_at_once_are_executed_once_each() {
    scenario(async |place| {
        let (cashier, server, client) = till(&place).await;
        let values = join_all((100..1_124).map(|amount| client.pay(amount))).await;
        assert!(values.into_iter().map(Result::unwrap).eq(100..1_124));
        let mut paid = cashier.paid.lock().unwrap().clone();
        paid.sort_unstable();
        assert!(paid.into_iter().eq(100..1_124));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}

#[test]
fn a_call_that_is_cut_off_is_told_so_and_not_executed_again() {
    scenario(async |place| {
        let cashier = Cashier::new();
        let service = TillServer::new(cashier.clone());
        let builder = place.server().drain_timeout(millis(200)).serve(service);
        let first = start(builder).await;
        let client = TillClient::new(&place.connect().await);
        let held = tokio::spawn(client.hold(5).timeout(secs(50)));
        eventually("it runs", || cashier.held() == 1).await;
        let ended = first.shutdown().await;
        assert!(matches!(ended, Err(ShutdownError::DrainTimeout { unfinished: 1, .. })));
        let unknown = held.await.unwrap().unwrap_err();
        assert!(unknown.is_outcome_unknown() && !unknown.is_retryable(), "{unknown}");

        let second = place.serve(TillServer::new(cashier.clone())).await;
        assert_eq!(client.pay(6).await, Ok(6));
        assert_eq!((cashier.held(), second.stats().counts.executed), (1, 1));
    });
}

#[test]
fn its_ticket_says_that_it_runs_though_the_group_is_past_it() {
    scenario(async |place| {
        let (cashier, _server, client) = till(&place).await;
        let ticket = client.hold(5).enqueue().await.unwrap();
        eventually("it runs", || cashier.held() == 1).await;
        let running = async {
            while client.status(&ticket).await != Ok(TicketStatus::Running { attempt: 1 }) {}
        };
        tokio::time::timeout(secs(20), running).await.unwrap();
        cashier.gate.add_permits(1);
        assert_eq!(client.attach(&ticket).await, Ok(5));
        assert_eq!(client.status(&ticket).await, Ok(TicketStatus::Done));
    });
}

#[test]
fn it_cannot_be_repeated_and_its_caller_is_told_why() {
    scenario(async |place| {
        let (_, _server, client) = till(&place).await;
        let repeated = [
            client.pay(1).hedge(millis(10)),
            client.pay(1).retry(RetryPolicy::new()),
            client.pay(1).idempotency_key("once"),
        ];
        for error in join_all(repeated).await {
            let error = error.unwrap_err();
            assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
            assert!(error.to_string().contains("is executed once at most"), "{error}");
        }
    });
}

#[test]
fn a_call_that_waits_for_its_commit_can_be_given_up() {
    scenario(async |place| {
        let (cashier, server, client) = till(&place).await;
        // Whether the service opens within a millisecond is another question.
        assert_eq!(client.pay(1).await, Ok(1));
        for _ in 0..20 {
            let call = client.hold(5).timeout(millis(1));
            assert_eq!(call.await.unwrap_err().code(), Some(Code::DeadlineExceeded));
        }
        cashier.gate.add_permits(20);
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        assert!(cashier.held() <= 20);
    });
}

#[test]
fn a_fence_grows_with_each_owner() {
    scenario(async |place| {
        let mut last = 0;
        for _ in 0..3 {
            let (_, server, client) = till(&place).await;
            let calls = join_all((0..50).map(|_| client.fence())).await;
            let fences: Vec<_> = calls.into_iter().map(Result::unwrap).collect();
            assert!(fences.iter().all(|(fence, attempt)| *fence > last && *attempt == 1));
            last = fences.iter().map(|(fence, _)| *fence).max().unwrap();
            server.shutdown().await.unwrap();
        }
    });
}
