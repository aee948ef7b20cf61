//! Handlers that panic, and values that are too large.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use krpc::prelude::*;

use crate::support::{
    ON_PURPOSE, eventually, scenario,
    services::{WorkClient, WorkServer, Worker},
    start,
};

#[test]
fn a_panicking_handler_is_answered_and_the_server_lives_on() {
    scenario(async |place| {
        let builder = place.server().concurrency(4).serve(WorkServer::new(Worker::new()));
        let server = start(builder).await;
        let work = WorkClient::new(&place.connect().await);
        // More than may run at once: a panic gives its place back.
        let calls = (0..40).map(|n| work.panics(n % 2 == 0));
        for result in join_all(calls).await {
            assert_eq!(result.unwrap_err().code(), Some(Code::Internal));
        }
        assert_eq!(work.quick(1).await, Ok(1));
        eventually("no place is taken", || server.stats().running == 0).await;
        eventually("all is finished", || server.stats().unfinished == 0).await;
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_panic_before_there_is_a_future_is_answered_too() {
    #[krpc::service]
    trait Rash {
        async fn rash(&self, panics: bool) -> bool;
    }
    struct Hurry;
    impl Rash for Hurry {
        fn rash(&self, panics: bool) -> impl Future<Output = bool> + Send {
            assert!(!panics, "{ON_PURPOSE}");
            std::future::ready(panics)
        }
    }

    scenario(async |place| {
        let _server = place.serve(RashServer::new(Hurry)).await;
        let rash = RashClient::new(&place.connect().await);
        assert_eq!(rash.rash(true).await.unwrap_err().code(), Some(Code::Internal));
        assert_eq!(rash.rash(false).await, Ok(false));
    });
}

#[test]
fn a_value_that_panics_when_it_is_written_is_answered_too() {
    #[derive(serde::Deserialize)]
    struct Thorny(bool);
    impl serde::Serialize for Thorny {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(!self.0, "{ON_PURPOSE}");
            serializer.serialize_newtype_struct("Thorny", &self.0)
        }
    }
    #[krpc::service]
    trait Rose {
        async fn pick(&self, thorns: bool) -> Thorny;
    }
    struct Bush;
    impl Rose for Bush {
        async fn pick(&self, thorns: bool) -> Thorny {
            Thorny(thorns)
        }
    }

    scenario(async |place| {
        let server = place.serve(RoseServer::new(Bush)).await;
        let rose = RoseClient::new(&place.connect().await);
        for _ in 0..20 {
            assert_eq!(rose.pick(true).await.err().and_then(|e| e.code()), Some(Code::Internal));
            assert!(!rose.pick(false).await.unwrap().0);
        }
        eventually("no place is taken", || server.stats().running == 0).await;
    });
}

#[krpc::service]
trait Blob {
    async fn swallow(&self, text: String) -> usize;
    async fn produce(&self, len: usize) -> String;
    async fn fail(&self, len: usize) -> Result<(), String>;
}

#[derive(Clone, Default)]
struct Whale(Arc<AtomicUsize>);

impl Blob for Whale {
    async fn swallow(&self, text: String) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst);
        text.len()
    }

    async fn produce(&self, len: usize) -> String {
        "x".repeat(len)
    }

    async fn fail(&self, len: usize) -> Result<(), String> {
        Err("x".repeat(len))
    }
}

/// The largest packet of these scenarios.
const PACKET: usize = 64 * 1024;

/// A value that is just too large for it, and one that is not.
const LARGE: usize = PACKET;
const FITS: usize = PACKET - 256;

#[test]
fn a_request_that_is_too_large_is_refused_before_it_is_sent() {
    scenario(async |place| {
        let whale = Whale::default();
        let builder = place.server().max_packet_bytes(PACKET).serve(BlobServer::new(whale.clone()));
        let server = start(builder).await;
        let channel = place.channel().max_packet_bytes(PACKET).connect().await.unwrap();
        let blob = BlobClient::new(&channel);
        let large = blob.swallow("x".repeat(LARGE)).await.unwrap_err();
        assert_eq!((large.code(), large.is_retryable()), (Some(Code::InvalidArgument), false));
        assert_eq!(channel.stats("Blob").unwrap().occupied, 0);
        assert_eq!(blob.swallow("x".repeat(FITS)).await, Ok(FITS));
        // Large ones do not hold up small ones beside them.
        let calls = (0..40).map(|n| blob.swallow("x".repeat(if n % 2 == 0 { LARGE } else { n })));
        let results = join_all(calls).await;
        let good = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!((good, whale.0.load(Ordering::SeqCst)), (20, 21));
        assert_eq!(server.stats().counts.executed, 21);
    });
}

#[test]
fn a_reply_that_is_too_large_is_answered_with_a_status() {
    scenario(async |place| {
        let builder = place.server().max_packet_bytes(PACKET);
        let server = start(builder.serve(BlobServer::new(Whale::default()))).await;
        let channel = place.channel().max_packet_bytes(PACKET).connect().await.unwrap();
        let blob = BlobClient::new(&channel);
        let large = blob.produce(LARGE).await.unwrap_err();
        assert_eq!((large.code(), large.is_retryable()), (Some(Code::ResourceExhausted), false));
        let large = blob.fail(LARGE).await.unwrap_err();
        assert_eq!(large.code(), Some(Code::ResourceExhausted));
        assert_eq!(blob.produce(FITS).await.map(|text| text.len()), Ok(FITS));
        eventually("all is finished", || server.stats().unfinished == 0).await;
    });
}

#[test]
fn values_of_a_megabyte_travel() {
    scenario(async |place| {
        let _server = place.serve(BlobServer::new(Whale::default())).await;
        let blob = BlobClient::new(&place.connect().await);
        assert_eq!(blob.swallow("x".repeat(1 << 20)).await, Ok(1 << 20));
        assert_eq!(blob.produce(1 << 20).await.map(|text| text.len()), Ok(1 << 20));
    });
}
