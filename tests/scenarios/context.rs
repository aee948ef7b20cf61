//! What travels beside arguments and values.

use std::time::{Duration, Instant};

use krpc::{Metadata, prelude::*};

use crate::support::{
    scenario,
    services::{WorkClient, WorkServer, Worker},
};

/// What a handler saw of its context.
type Seen = (Vec<(String, String)>, u32, String, u64);

#[krpc::service]
trait Mirror {
    /// What is here, and back with it: each pair of metadata, with its value doubled.
    async fn look(&self, cx: &Context) -> Seen;
    /// Fails, and says something beside it.
    async fn fail(&self, cx: &Context) -> Result<(), String>;
}

struct Glass;

impl Mirror for Glass {
    async fn look(&self, cx: &Context) -> Seen {
        let pairs: Vec<_> =
            cx.metadata().iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        for (key, value) in &pairs {
            cx.insert_reply_metadata(key, &value.repeat(2)).unwrap();
        }
        let left = cx.deadline().saturating_duration_since(Instant::now());
        let left = u64::try_from(left.as_millis()).unwrap();
        (pairs, cx.attempt(), cx.caller().instance().to_string(), left)
    }

    async fn fail(&self, cx: &Context) -> Result<(), String> {
        cx.insert_reply_metadata("why", "because").unwrap();
        let refused = cx.insert_reply_metadata("not a key", "").unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        Err(cx.metadata().get("tenant").unwrap_or("nobody").to_owned())
    }
}

#[test]
fn metadata_travels_there_and_back() {
    scenario(async |place| {
        let _server = place.serve(MirrorServer::new(Glass)).await;
        let mirror = MirrorClient::new(&place.connect().await);
        let call = mirror.look().header("tenant", "a").header("täglich", "").header("tenant", "b");
        assert_eq!(call.await.unwrap_err().code(), Some(Code::InvalidArgument));
        let call = mirror.look().header("tenant", "a").header("empty", "").header("tenant", "ü");
        let reply = call.reply().await.unwrap();
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert_eq!(reply.value.0, pairs(&[("tenant", "ü"), ("empty", "")]));
        let back: Vec<_> = reply.metadata.iter().collect();
        assert_eq!(back, [("tenant", "üü"), ("empty", "")]);
        let without = mirror.look().reply().await.unwrap();
        assert_eq!((without.value.0, without.metadata), (Vec::new(), Metadata::new()));
        let failed = mirror.fail().header("tenant", "c").await;
        assert_eq!(failed, Err(krpc::Error::App("c".to_owned())));
    });
}

#[test]
fn metadata_beyond_its_caps_is_refused_before_anything_is_sent() {
    scenario(async |place| {
        let worker = Worker::new();
        let server = place.serve(WorkServer::new(worker.clone())).await;
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        let large = work.quick(1).header("k", &"v".repeat(8 * 1024));
        assert_eq!(large.await.unwrap_err().code(), Some(Code::ResourceExhausted));
        let many = (0..65).fold(work.quick(2), |call, n| call.header(&format!("k{n}"), ""));
        assert_eq!(many.await.unwrap_err().code(), Some(Code::ResourceExhausted));
        for key in ["", "a b", "ä", "a\n"] {
            let refused = work.quick(3).header(key, "v").await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::InvalidArgument), "{key:?}");
        }
        // As much as is allowed does travel, and the calls before did not.
        let all = (0..64).fold(work.quick(4), |call, n| call.header(&format!("key-{n:02}"), "v"));
        assert_eq!(all.await, Ok(4));
        let full = work.quick(5).header("k", &"v".repeat(8 * 1024 - 1));
        assert_eq!(full.await, Ok(5));
        assert_eq!(worker.log.executions().into_keys().collect::<Vec<_>>(), [4, 5]);
        assert_eq!(server.stats().counts.executed, 2);
        assert_eq!(channel.stats("Work").unwrap().occupied, 0);
    });
}

#[test]
fn a_handler_sees_deadline_attempt_and_caller() {
    scenario(async |place| {
        let _server = place.serve(MirrorServer::new(Glass)).await;
        let channel = place.connect().await;
        let mirror = MirrorClient::new(&channel);
        let (_, attempt, caller, left) = mirror.look().timeout(secs(50)).await.unwrap();
        assert_eq!((attempt, caller), (1, channel.instance().to_string()));
        assert!((20_000..=50_000).contains(&left), "{left} ms left of 50 s");
        let (.., left) = mirror.look().await.unwrap();
        assert!((1..=10_000).contains(&left), "{left} ms left of the default, 10 s");
    });
}

#[test]
fn a_reply_says_where_the_time_went_and_who_answered() {
    scenario(async |place| {
        let server = place.serve(WorkServer::new(Worker::new())).await;
        let work = WorkClient::new(&place.connect().await);
        for job in 0..5 {
            let began = Instant::now();
            let reply = work.slow(job, 30).reply().await.unwrap();
            let around = began.elapsed();
            assert_eq!((reply.value, reply.server_id), (job, server.instance()));
            let parts = reply.flight_request + reply.server_elapsed + reply.flight_response;
            assert_eq!(reply.elapsed, parts);
            assert!(reply.server_elapsed >= Duration::from_millis(30), "{reply:?}");
            assert!(reply.elapsed <= around, "{reply:?} within {around:?}");
        }
    });
}
