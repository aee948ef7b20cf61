//! Calls that are given up: kept as they were made, listed, shown, sent once more, dropped.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use krpc::{
    DeadLetter, DeadLetterError, DeadLetters, InstanceId, LetterId, Server, SetupError, prelude::*,
};
use krpc_core::transport::Topic;
use serde::Deserialize;
use serde_json::json;

use crate::support::{ON_PURPOSE, Place, eventually, scenario};

#[krpc::service]
trait Mill {
    #[rpc(one_way, retry(max = 3, backoff = "1ms..5ms"))]
    async fn grind(&self, cx: &Context, sack: u64, grain: String) -> Result<(), String>;
    #[rpc(one_way, retry(max = 2, backoff = "1ms..5ms", then = drop))]
    async fn spill(&self, sack: u64) -> Result<(), String>;
    #[rpc(one_way)]
    async fn burst(&self);
}

/// Fails until it is mended.
#[derive(Clone, Default)]
struct Miller {
    mended: Arc<AtomicBool>,
    /// Of each execution: whose call it was, its sack, and which attempt.
    log: Arc<Mutex<Vec<(InstanceId, u64, u32)>>>,
}

impl Miller {
    fn mend(&self) {
        self.mended.store(true, Ordering::Relaxed);
    }

    fn executions(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    fn result(&self) -> Result<(), String> {
        if self.mended.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("the stone is off".to_owned())
        }
    }
}

impl Mill for Miller {
    async fn grind(&self, cx: &Context, sack: u64, _grain: String) -> Result<(), String> {
        self.log.lock().unwrap().push((cx.caller().instance(), sack, cx.attempt()));
        self.result()
    }

    async fn spill(&self, sack: u64) -> Result<(), String> {
        self.log.lock().unwrap().push((InstanceId::ANY, sack, 0));
        self.result()
    }

    async fn burst(&self) {
        panic!("{ON_PURPOSE}");
    }
}

async fn mill(place: &Place) -> (Miller, Server, Channel, MillClient) {
    let miller = Miller::default();
    let server = place.serve(MillServer::new(miller.clone())).await;
    let channel = place.connect().await;
    let client = MillClient::new(&channel);
    (miller, server, channel, client)
}

/// Waits until so many calls were given up, and their letters are stored.
async fn buried(server: &Server, letters: u64) {
    eventually("the letters are stored", || server.stats().counts.dead_lettered >= letters).await;
}

async fn only(letters: &DeadLetters) -> DeadLetter {
    let mut list = letters.list().await.unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    list.pop().unwrap()
}

#[derive(PartialEq, Debug, Deserialize)]
struct Grind {
    sack: u64,
    grain: String,
}

#[test]
fn a_letter_has_all_that_its_call_had() {
    scenario(async |place| {
        let (miller, server, channel, client) = mill(&place).await;
        let began = SystemTime::now();
        let call = client.grind(7, "rye".to_owned()).key("north").header("tenant", "a");
        assert_eq!(call.await, Ok(()));
        buried(&server, 1).await;

        let letters = channel.dead_letters("Mill");
        let letter = only(&letters).await;
        assert_eq!(letter.method, "Mill/grind");
        assert_eq!(letter.caller, channel.instance());
        assert_eq!(letter.key.as_deref(), Some(&b"north"[..]));
        assert_eq!(letter.metadata.get("tenant"), Some("a"));
        assert_eq!(letter.arguments.json().unwrap(), json!({"sack": 7, "grain": "rye"}));
        let grind = Grind { sack: 7, grain: "rye".to_owned() };
        assert_eq!(letter.arguments.decode::<Grind>().unwrap(), grind);
        assert_eq!((letter.attempts, miller.executions()), (3, 3));
        assert_eq!(letter.cause.code(), Code::Unknown);
        assert!(!letter.cause.details().is_empty(), "the handler's own error");
        let near = Duration::from_secs(60);
        let now = SystemTime::now();
        assert!(letter.at > began - near && letter.at < now + near, "{:?} {now:?}", letter.at);
        // The client's first word may lie before it.
        assert!((0..=1).contains(&letter.position.offset), "{:?}", letter.position);
        assert_eq!(letter.position.index, 0);

        let id: LetterId = letter.id.to_string().parse().unwrap();
        assert_eq!(letters.show(&id).await.unwrap(), letter);
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}

#[test]
fn a_panic_of_a_call_without_retries_is_a_letter() {
    scenario(async |place| {
        let (_, server, channel, client) = mill(&place).await;
        client.burst().await.unwrap();
        buried(&server, 1).await;
        let letter = only(&channel.dead_letters("Mill")).await;
        assert_eq!((letter.attempts, letter.cause.code()), (1, Code::Internal));
        assert_eq!(letter.cause.message(), "the handler panicked");
        assert_eq!(letter.arguments.json().unwrap(), json!({}));
    });
}

#[test]
fn a_replayed_call_runs_once_it_is_mended_whoever_made_it() {
    scenario(async |place| {
        let (miller, server, _, _) = mill(&place).await;
        let gone = place.connect().await;
        MillClient::new(&gone).grind(1, "oat".to_owned()).await.unwrap();
        buried(&server, 1).await;
        let caller = gone.instance();
        gone.close().await;

        let channel = place.connect().await;
        let letters = channel.dead_letters("Mill");
        let first = only(&letters).await;
        letters.replay(&first.id).await.unwrap();
        // It is not mended, so that is another letter.
        buried(&server, 2).await;
        let second = only(&letters).await;
        assert_ne!(second.id, first.id);
        assert_eq!((second.caller, second.attempts), (caller, 3));
        assert_eq!(second.arguments, first.arguments);

        miller.mend();
        letters.replay(&second.id).await.unwrap();
        eventually("it is executed", || miller.executions() == 7).await;
        assert_eq!(miller.log.lock().unwrap()[6], (caller, 1, 1));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        assert!(letters.list().await.unwrap().is_empty());
        assert_eq!(server.stats().counts.undeliverable, 0);
        let stats = channel.stats("Mill").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (0, 0));
    });
}

#[test]
fn what_was_done_to_a_letter_is_done_once() {
    scenario(async |place| {
        let (miller, server, channel, client) = mill(&place).await;
        for sack in [1, 2] {
            client.grind(sack, "oat".to_owned()).await.unwrap();
            buried(&server, sack).await;
        }
        miller.mend();
        let letters = channel.dead_letters("Mill");
        let list = letters.list().await.unwrap();
        let [replayed, dropped] = [list[0].id, list[1].id];
        letters.replay(&replayed).await.unwrap();
        letters.drop(&dropped).await.unwrap();

        letters.replay(&replayed).await.unwrap();
        letters.drop(&dropped).await.unwrap();
        let error = letters.show(&replayed).await.unwrap_err();
        assert!(matches!(error, DeadLetterError::Replayed { id, .. } if id == replayed), "{error}");
        let error = letters.drop(&replayed).await.unwrap_err();
        assert!(matches!(error, DeadLetterError::Replayed { .. }), "{error}");
        for error in
            [letters.show(&dropped).await.unwrap_err(), letters.replay(&dropped).await.unwrap_err()]
        {
            assert!(matches!(error, DeadLetterError::Dropped { .. }), "{error}");
        }
        assert!(letters.list().await.unwrap().is_empty());
        eventually("one is executed again", || miller.executions() == 7).await;
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        assert_eq!(miller.executions(), 7);
    });
}

#[test]
fn letters_that_are_not_there_are_named() {
    scenario(async |place| {
        let (miller, server, channel, client) = mill(&place).await;
        let letters = channel.dead_letters("Mill");
        assert!(letters.list().await.unwrap().is_empty());
        client.spill(1).await.unwrap();
        eventually("it is given up", || server.stats().counts.given_up == 1).await;
        assert_eq!(miller.executions(), 2);
        assert!(letters.list().await.unwrap().is_empty(), "it asked to be dropped");
        assert_eq!(server.stats().counts.dead_lettered, 0);

        client.grind(1, String::new()).await.unwrap();
        buried(&server, 1).await;
        let there = only(&letters).await.id;
        for id in [
            LetterId { partition: 99, ..there },
            LetterId { offset: there.offset + 1, ..there },
            LetterId { offset: i64::MAX, ..there },
            LetterId { index: 5, ..there },
        ] {
            let error = letters.replay(&id).await.unwrap_err();
            assert!(matches!(error, DeadLetterError::NotFound { .. }), "{error}");
            assert!(error.to_string().contains(&id.to_string()), "{error}");
        }
        assert!("0-1".parse::<LetterId>().is_err());
        assert_eq!(only(&letters).await.id, there);
    });
}

#[test]
fn a_list_is_as_long_as_it_is_asked_for() {
    scenario(async |place| {
        let (_, server, channel, client) = mill(&place).await;
        let calls = join_all((0..300).map(|sack| client.grind(sack, "oat".to_owned()))).await;
        assert_eq!(calls, vec![Ok(()); 300]);
        buried(&server, 300).await;
        let letters = channel.dead_letters("Mill");
        let all = letters.list().await.unwrap();
        assert_eq!(all.len(), 300);
        assert!(all.is_sorted_by_key(|letter| letter.at));
        assert_eq!(letters.list().limit(10).await.unwrap(), all[290..]);
        let since = all[100].at;
        let late = all.iter().filter(|letter| letter.at >= since).count();
        assert_eq!(letters.list().since(since).await.unwrap().len(), late);
        let later = since + Duration::from_secs(3_600);
        assert!(letters.list().since(later).await.unwrap().is_empty());

        // Two look at once, and one that gives up does not spoil it for the next.
        let (one, other) = tokio::join!(letters.list(), letters.clone().list());
        assert_eq!((one.unwrap(), other.unwrap()), (all.clone(), all.clone()));
        let _ = tokio::time::timeout(millis(0), letters.list().into_future()).await;
        assert_eq!(letters.list().await.unwrap(), all);
    });
}

#[test]
fn a_topic_that_is_missing_is_named() {
    scenario(async |place| {
        let (_, server, _, _) = mill(&place).await;
        let channel = place.channel().set("KRPC_CREATE_TOPICS", false).connect().await.unwrap();
        let letters = channel.dead_letters("Mill");
        let name = place.config().topic("Mill", Topic::Dead);
        let error = letters.list().await.unwrap_err();
        match &error {
            DeadLetterError::Setup(SetupError::MissingTopic { topic, .. }) => {
                assert_eq!(*topic, name);
            }
            _ => panic!("{error}"),
        }
        channel.close().await;
        let error = letters.list().await.unwrap_err();
        assert!(matches!(error, DeadLetterError::Setup(SetupError::Closed)), "{error}");
        server.shutdown().await.unwrap();
    });
}
