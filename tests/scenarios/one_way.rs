//! Calls that nobody waits for: executed until they succeed, or are given up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use krpc::{Error, prelude::*};

use crate::support::{ON_PURPOSE, Place, eventually, scenario, start};

#[krpc::service]
trait Post {
    /// Fails so many times, in all the ways there are, before it succeeds.
    #[rpc(
        one_way,
        timeout = "200ms",
        retry(max = 5, backoff = "50ms..200ms", then = drop)
    )]
    async fn send(&self, cx: &Context, letter: u64, failures: u32) -> Result<(), String>;
    /// The same, one letter of an address at a time; its pauses are long.
    #[rpc(one_way, key = address, retry(max = 3, backoff = "400ms..1s", then = drop))]
    async fn sort(&self, cx: &Context, address: u64, letter: u64, failures: u32);
    /// Always fails.
    #[rpc(one_way, retry(max = 2, backoff = "10ms..10ms"))]
    async fn lose(&self, cx: &Context, letter: u64);
    /// Fails, and would be tried again after an hour.
    #[rpc(one_way, retry(max = 2, backoff = "1h..1h", then = drop))]
    async fn postpone(&self, cx: &Context, letter: u64) -> Result<(), String>;
}

/// The executions of each letter: the attempt's number, and when it was.
type Executions = HashMap<u64, Vec<(u32, Instant)>>;

#[derive(Clone, Default)]
struct Postman(Arc<Mutex<Executions>>);

impl Postman {
    /// Writes an execution down; how many there were before.
    fn begin(&self, cx: &Context, letter: u64) -> u32 {
        let mut log = self.0.lock().unwrap();
        let executions = log.entry(letter).or_default();
        executions.push((cx.attempt(), Instant::now()));
        u32::try_from(executions.len()).unwrap() - 1
    }

    fn attempts(&self, letter: u64) -> Vec<u32> {
        let log = self.0.lock().unwrap();
        log.get(&letter).into_iter().flatten().map(|(attempt, _)| *attempt).collect()
    }

    fn pauses(&self, letter: u64) -> Vec<Duration> {
        let log = self.0.lock().unwrap();
        log[&letter].windows(2).map(|pair| pair[1].1 - pair[0].1).collect()
    }

    fn at(&self, letter: u64, execution: usize) -> Instant {
        self.0.lock().unwrap()[&letter][execution].1
    }
}

impl Post for Postman {
    async fn send(&self, cx: &Context, letter: u64, failures: u32) -> Result<(), String> {
        let before = self.begin(cx, letter);
        match before {
            _ if before >= failures => Ok(()),
            0 => Err("not at home".to_owned()),
            1 => panic!("{ON_PURPOSE}"),
            2 => std::future::pending().await,
            _ => Err("moved away".to_owned()),
        }
    }

    async fn sort(&self, cx: &Context, _address: u64, letter: u64, failures: u32) {
        if self.begin(cx, letter) < failures {
            panic!("{ON_PURPOSE}");
        }
    }

    async fn lose(&self, cx: &Context, letter: u64) {
        self.begin(cx, letter);
        tokio::task::yield_now().await;
        panic!("{ON_PURPOSE}");
    }

    async fn postpone(&self, cx: &Context, letter: u64) -> Result<(), String> {
        match self.begin(cx, letter) {
            0 => Err("tomorrow".to_owned()),
            _ => Ok(()),
        }
    }
}

async fn client(place: &Place) -> PostClient {
    let channel = place.connect().await;
    channel.open("Post").await.unwrap();
    PostClient::new(&channel)
}

#[test]
fn a_call_is_executed_until_it_succeeds() {
    scenario(async |place| {
        let postman = Postman::default();
        let server = place.serve(PostServer::new(postman.clone())).await;
        let post = client(&place).await;
        for (letter, failures) in (0..).zip(0..5) {
            post.send(letter, failures).await.unwrap();
        }
        let done = || (server.stats().counts.executed, server.stats().unfinished) == (15, 0);
        eventually("all are done", done).await;
        for (letter, failures) in (0..).zip(0..5) {
            assert!(postman.attempts(letter).into_iter().eq(1..=failures + 1));
        }
        // After an error, a panic, an execution over time, and an error again.
        let pauses = postman.pauses(4);
        for (pause, least) in pauses.iter().zip([40, 80, 160 + 200, 160]) {
            assert!(*pause >= millis(least), "{pauses:?}");
        }
        let counts = server.stats().counts;
        assert_eq!((counts.executed, counts.retried, counts.given_up), (15, 10, 0));
        assert_eq!((counts.undeliverable, server.stats().backing_off), (0, 0));
    });
}

#[test]
fn a_call_that_fails_too_often_is_counted_and_dropped_or_kept() {
    scenario(async |place| {
        let postman = Postman::default();
        let server = place.serve(PostServer::new(postman.clone())).await;
        let post = client(&place).await;
        post.send(1, 99).await.unwrap();
        post.lose(2).await.unwrap();
        let ended = || (server.stats().counts.given_up, server.stats().unfinished) == (2, 0);
        eventually("both are given up", ended).await;
        assert_eq!(postman.attempts(1), [1, 2, 3, 4, 5]);
        assert_eq!(postman.attempts(2), [1, 2]);
        assert_eq!(
            (server.stats().counts.dead_lettered, server.stats().counts.dead_letters_failed),
            (1, 0)
        );
    });
}

#[test]
fn a_key_waits_for_its_call_that_failed_and_others_go_on() {
    scenario(async |place| {
        let postman = Postman::default();
        let builder = place.server().concurrency(1).serve(PostServer::new(postman.clone()));
        let server = start(builder).await;
        let post = client(&place).await;
        post.sort(1, 10, 1).await.unwrap();
        post.sort(1, 11, 0).await.unwrap();
        post.sort(2, 20, 0).await.unwrap();
        eventually("the other key is done", || postman.attempts(20) == [1]).await;
        assert_eq!(postman.attempts(11), [0; 0], "its key waits");
        let done = || (server.stats().counts.executed, server.stats().unfinished) == (4, 0);
        eventually("all are done", done).await;
        assert_eq!((postman.attempts(10), postman.attempts(11)), (vec![1, 2], vec![1]));
        assert!(postman.at(10, 1) < postman.at(11, 0));
        assert!(postman.at(20, 0) < postman.at(10, 1));
    });
}

#[test]
fn a_shutdown_waits_out_no_pause_and_the_next_server_begins_anew() {
    scenario(async |place| {
        let postman = Postman::default();
        let first = place.serve(PostServer::new(postman.clone())).await;
        let post = client(&place).await;
        post.postpone(1).await.unwrap();
        eventually("it failed", || first.stats().backing_off == 1).await;
        let began = Instant::now();
        first.shutdown().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let second = place.serve(PostServer::new(postman.clone())).await;
        eventually("it is executed again", || postman.attempts(1) == [1, 1]).await;
        eventually("nothing is left", || second.stats().unfinished == 0).await;
    });
}

/// Enqueued, the same calls have an answer: what their last execution came to.
#[test]
fn an_enqueued_call_is_executed_again_too_and_its_last_error_is_its_answer() {
    scenario(async |place| {
        let postman = Postman::default();
        let server = place.serve(PostServer::new(postman.clone())).await;
        let post = client(&place).await;
        let late = post.send(1, 4).enqueue().await.unwrap();
        let never = post.send(2, 99).enqueue().await.unwrap();
        assert_eq!(post.attach(&late).await, Ok(()));
        assert_eq!(post.attach(&never).await, Err(Error::App("moved away".to_owned())));
        assert_eq!(
            (postman.attempts(1), postman.attempts(2)),
            (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5])
        );
        // One that waits for its next execution is found by its cancel.
        let postponed = post.postpone(3).enqueue().await.unwrap();
        eventually("it failed", || server.stats().backing_off == 1).await;
        post.cancel(&postponed).await.unwrap();
        let cancelled = post.attach(&postponed).await.unwrap_err();
        assert_eq!(cancelled.code(), Some(Code::Cancelled));
        assert_eq!((server.stats().backing_off, postman.attempts(3)), (0, vec![1]));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}
