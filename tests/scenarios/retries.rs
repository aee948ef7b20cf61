//! Calls that are sent again: after a failure that may pass, and beside one that is held up.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures_util::future::join_all;
use krpc::{
    Error, RetryPolicy, Server,
    prelude::*,
    rt::{Incoming, Service, ServiceDescriptor},
};
use tokio::sync::watch;

use crate::support::{Place, block_on, eventually, place::settled, scenario};

#[krpc::service]
trait Shop {
    /// Says which server answers, once nobody is held up.
    #[rpc(idempotent)]
    async fn look(&self) -> usize;
    #[rpc(idempotent)]
    async fn refuse(&self) -> Result<(), String>;
    /// Not to be done twice.
    async fn buy(&self) -> usize;
}

#[derive(Clone)]
struct Keeper {
    number: usize,
    held_up: Arc<watch::Sender<bool>>,
}

impl Shop for Keeper {
    async fn look(&self) -> usize {
        self.held_up.subscribe().wait_for(|held_up| !held_up).await.unwrap();
        self.number
    }

    async fn refuse(&self) -> Result<(), String> {
        Err("sold out".to_owned())
    }

    async fn buy(&self) -> usize {
        self.number
    }
}

/// A server that can be in trouble: it answers calls with a status, or holds them up.
struct Troubled {
    shop: ShopServer<Keeper>,
    held_up: Arc<watch::Sender<bool>>,
    status: Mutex<Status>,
    refusals: AtomicUsize,
    calls: AtomicUsize,
}

impl Troubled {
    fn new(number: usize) -> Arc<Self> {
        let held_up = Arc::new(watch::Sender::new(false));
        Arc::new(Self {
            shop: ShopServer::new(Keeper { number, held_up: Arc::clone(&held_up) }),
            held_up,
            status: Mutex::new(Status::new(Code::Unavailable, "not now")),
            refusals: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        })
    }

    fn hold_up(&self, held_up: bool) {
        self.held_up.send_replace(held_up);
    }

    /// The next calls.
    fn refuse(&self, calls: usize) {
        self.refusals.store(calls, Ordering::SeqCst);
    }

    /// Calls that it was given since the last asking.
    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }
}

impl Service for Troubled {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        self.shop.descriptor()
    }

    fn dispatch(&self, call: Incoming) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let one_less = |left: usize| left.checked_sub(1);
        match self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => call.refuse(self.status.lock().unwrap().clone()),
            Err(_) => self.shop.dispatch(call),
        }
    }
}

/// A server that was called once, and its client.
async fn open(place: &Place, channel: Channel) -> (Arc<Troubled>, Channel, ShopClient, Server) {
    let troubled = Troubled::new(0);
    let server = place.serve(Arc::clone(&troubled)).await;
    let shop = ShopClient::new(&channel);
    assert_eq!(shop.look().await, Ok(0));
    assert_eq!(troubled.calls(), 1);
    (troubled, channel, shop, server)
}

/// One that tests need not wait for.
fn quick() -> RetryPolicy {
    RetryPolicy::new().backoff(millis(1)..millis(2))
}

fn code<T, E>(result: Result<T, Error<E>>) -> Option<Code> {
    result.err().and_then(|error| error.code())
}

#[test]
fn a_call_that_fails_twice_works_at_the_third_attempt() {
    scenario(async |place| {
        let (troubled, channel, shop, _server) = open(&place, place.connect().await).await;
        troubled.refuse(2);
        let reply = shop.look().reply().await.unwrap();
        assert_eq!((reply.value, reply.attempts, troubled.calls()), (0, 3, 3));
        troubled.refuse(3);
        assert_eq!((code(shop.look().await), troubled.calls()), (Some(Code::Unavailable), 3));
        troubled.refuse(4);
        let reply = shop.look().retry(quick().attempts(5)).reply().await.unwrap();
        assert_eq!((reply.attempts, troubled.calls()), (5, 5));
        let stats = channel.stats("Shop").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (0, 0));
        assert_eq!((stats.retries.retries, stats.retries.refused), (8, 0));
    });
}

#[test]
fn what_will_not_pass_is_sent_once() {
    scenario(async |place| {
        let (troubled, channel, shop, _server) = open(&place, place.connect().await).await;
        let sold_out = shop.refuse().retry(quick().attempts(9)).await;
        assert_eq!(sold_out, Err(Error::App("sold out".to_owned())));
        assert_eq!(troubled.calls(), 1);
        let last = [
            Status::new(Code::FailedPrecondition, "never"),
            Status::new(Code::Unavailable, "never").with_retryable(false),
            Status::new(Code::DeadlineExceeded, "too late").with_retryable(true),
        ];
        for status in last {
            *troubled.status.lock().unwrap() = status.clone();
            troubled.refuse(9);
            assert_eq!(code(shop.look().retry(quick().attempts(9)).await), Some(status.code()));
            assert_eq!(troubled.calls(), 1, "{status}");
        }
        assert_eq!(channel.stats("Shop").unwrap().retries.retries, 0);
    });
}

#[test]
fn methods_that_are_not_idempotent_are_sent_once() {
    scenario(async |place| {
        let (troubled, _channel, shop, _server) = open(&place, place.connect().await).await;
        troubled.refuse(1);
        assert_eq!(code(shop.buy().await), Some(Code::Unavailable));
        assert_eq!(troubled.calls(), 1);
        // Who asks for more is told so, before anything is sent.
        let wrong = [
            shop.buy().retry(RetryPolicy::new()),
            shop.buy().hedge(millis(1)),
            shop.look().retry(RetryPolicy::new().attempts(0)),
            shop.look().retry(RetryPolicy::new().backoff(secs(2)..secs(1))),
        ];
        for call in wrong {
            assert_eq!(code(call.await), Some(Code::InvalidArgument));
        }
        assert_eq!(troubled.calls(), 0);
        let reply = shop.buy().retry(RetryPolicy::none()).reply().await.unwrap();
        assert_eq!((reply.attempts, troubled.calls()), (1, 1));
    });
}

#[test]
fn a_channel_has_a_policy_and_a_call_may_have_another() {
    scenario(async |place| {
        let never = place.channel().retry(RetryPolicy::none()).connect().await.unwrap();
        let (troubled, _channel, shop, _server) = open(&place, never).await;
        troubled.refuse(1);
        assert_eq!((code(shop.look().await), troubled.calls()), (Some(Code::Unavailable), 1));
        troubled.refuse(1);
        assert_eq!((shop.look().retry(quick()).await, troubled.calls()), (Ok(0), 2));

        let twice = place.channel().set("KRPC_RETRY_ATTEMPTS", 2).connect().await.unwrap();
        let shop = ShopClient::new(&twice);
        troubled.refuse(2);
        assert_eq!((code(shop.look().await), troubled.calls()), (Some(Code::Unavailable), 2));
        troubled.refuse(1);
        let once = shop.look().retry(RetryPolicy::none());
        assert_eq!((code(once.await), troubled.calls()), (Some(Code::Unavailable), 1));
    });
}

#[test]
fn a_service_in_trouble_is_not_held_there_by_retries() {
    scenario(async |place| {
        let channel = place.channel().retry(quick().attempts(10)).connect().await.unwrap();
        let (troubled, channel, shop, _server) = open(&place, channel).await;
        troubled.refuse(usize::MAX);
        for _ in 0..10 {
            let failed = join_all((0..100).map(|_| shop.look())).await;
            assert!(failed.into_iter().all(|result| code(result) == Some(Code::Unavailable)));
        }
        let calls = troubled.calls();
        assert!((1000..=1110).contains(&calls), "a tenth of them, and ten: {calls}");
        let retries = channel.stats("Shop").unwrap().retries;
        assert_eq!(usize::try_from(retries.retries), Ok(calls - 1000));
        assert!(retries.refused > 800, "{retries:?}");

        let none = place.channel().retry_budget(0.0).connect().await.unwrap();
        assert_eq!(code(ShopClient::new(&none).look().await), Some(Code::Unavailable));
        assert_eq!(troubled.calls(), 1);
    });
}

/// Two servers that the client knows both.
async fn two_servers(place: &Place, shop: &ShopClient) -> ([Arc<Troubled>; 2], [Server; 2]) {
    let troubled = [1, 2].map(Troubled::new);
    let start = |number: usize| place.server().serve(Arc::clone(&troubled[number])).start();
    let servers = [start(0).await.unwrap(), start(1).await.unwrap()];
    settled(&[&servers[0], &servers[1]]).await;
    let mut seen = [false; 2];
    while seen != [true; 2] {
        let numbers = join_all((0..8).map(|_| shop.look())).await;
        numbers.into_iter().for_each(|number| seen[number.unwrap() - 1] = true);
    }
    (troubled, servers)
}

#[test]
fn a_hedge_beats_a_server_that_is_held_up() {
    scenario(async |place| {
        // As many hedges as there are calls, for a slow machine makes more of them.
        let channel = place.channel().retry_budget(10.0).connect().await.unwrap();
        let shop = ShopClient::new(&channel);
        let (troubled, servers) = two_servers(&place, &shop).await;
        for (slow, quick) in [(0, 1), (1, 0)] {
            troubled[slow].hold_up(true);
            let before = servers[slow].stats().counts.cancelled;
            let call = || shop.look().hedge(millis(20)).timeout(secs(50)).reply();
            let mut hedged = 0;
            for reply in join_all((0..8).map(|_| call())).await {
                let reply = reply.unwrap();
                assert_eq!(reply.value, quick + 1);
                hedged += reply.attempts - 1;
            }
            assert!(hedged > 0, "some went to the slow one first");
            // There they are given up, though it is held up still.
            eventually("the losers are cancelled", || servers[slow].stats().running == 0).await;
            assert!(servers[slow].stats().counts.cancelled > before);
            troubled[slow].hold_up(false);
        }
        let stats = channel.stats("Shop").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (0, 0));
        assert!(stats.retries.hedges > 0);
    });
}

#[test]
fn a_call_that_is_answered_in_time_is_not_hedged() {
    scenario(async |place| {
        let (troubled, channel, shop, _server) = open(&place, place.connect().await).await;
        let reply = shop.look().hedge(secs(5)).reply().await.unwrap();
        assert_eq!((reply.attempts, troubled.calls()), (1, 1));
        assert_eq!(channel.stats("Shop").unwrap().retries.hedges, 0);
    });
}

#[test]
fn a_hedged_call_that_is_dropped_is_given_up_everywhere() {
    scenario(async |place| {
        let (troubled, channel, shop, server) = open(&place, place.connect().await).await;
        troubled.hold_up(true);
        let call = tokio::spawn(shop.look().hedge(millis(1)).timeout(secs(50)));
        eventually("both are there", || server.stats().running == 2).await;
        call.abort();
        eventually("both are cancelled", || server.stats().counts.cancelled == 2).await;
        let stats = channel.stats("Shop").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (0, 0));
    });
}

#[test]
fn all_attempts_share_the_deadline_of_their_call() {
    scenario(async |place| {
        let (troubled, channel, shop, server) = open(&place, place.connect().await).await;
        troubled.hold_up(true);
        let late = shop.look().hedge(millis(1)).timeout(millis(300));
        assert_eq!(code(late.await), Some(Code::DeadlineExceeded));
        eventually("nothing runs", || server.stats().running == 0).await;
        troubled.hold_up(false);
        // A back-off that would end too late is not waited for.
        troubled.refuse(1);
        let policy = RetryPolicy::new().backoff(secs(1_000_000)..secs(1_000_000)).attempts(9);
        let failed = shop.look().retry(policy).timeout(millis(500)).await;
        assert_eq!(code(failed), Some(Code::Unavailable));
        assert_eq!(channel.stats("Shop").unwrap().in_flight, 0);
    });
}

#[test]
fn closing_a_channel_ends_a_call_that_waits_to_be_sent_again() {
    scenario(async |place| {
        let (troubled, channel, shop, _server) = open(&place, place.connect().await).await;
        troubled.refuse(1);
        let policy = RetryPolicy::new().backoff(secs(1_000_000)..secs(1_000_000));
        let call = tokio::spawn(shop.look().retry(policy).timeout(secs(10_000_000)));
        eventually("it waits", || channel.stats("Shop").unwrap().retries.retries == 1).await;
        channel.close().await;
        assert_eq!(code(call.await.unwrap()), Some(Code::Cancelled));
        assert_eq!(code(shop.look().await), Some(Code::Unavailable), "at once");
    });
}

#[test]
fn a_call_is_sent_again_outside_of_any_runtime() {
    scenario(async |place| {
        let (troubled, _channel, shop, _server) = open(&place, place.connect().await).await;
        troubled.refuse(2);
        let call = shop.look().retry(quick());
        let polled = thread::spawn(move || block_on(call));
        eventually("it is done", || polled.is_finished()).await;
        assert_eq!((polled.join().unwrap(), troubled.calls()), (Ok(0), 3));
    });
}
