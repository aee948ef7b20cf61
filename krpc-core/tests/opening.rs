//! Opening a service over a transport that does as it is told: what the first packets meet.

#![allow(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "the transport of these tests has tasks")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use krpc_core::{
    client::channel::{Channel, ClientOptions},
    error::SetupError,
    server::{
        driver::{Server, ServerOptions},
        service::{Incoming, Service, ServiceDescriptor},
    },
    status::{Code, Status},
    transport::{
        BoxFuture, ClientEvents, ClientTransport, CommitPoint, Delivery, Endpoint, Producer,
        ProducerEvents, Rejected, ServerEvents, ServerTransport, Target, Topic, Topology,
    },
};

const TOPOLOGY: Topology = Topology { call_partitions: 1, reply_partitions: 2 };

/// An endpoint whose producer takes everything or nothing.
#[derive(Debug, Default)]
struct Scripted {
    refuses: bool,
    joined: Arc<AtomicBool>,
}

/// Either side of it.
#[derive(Debug)]
struct Side {
    refuses: bool,
    joined: Arc<AtomicBool>,
    events: Arc<dyn ProducerEvents>,
}

impl Scripted {
    fn side(&self, events: Arc<dyn ProducerEvents>) -> Arc<Side> {
        Arc::new(Side { refuses: self.refuses, joined: Arc::clone(&self.joined), events })
    }
}

impl Endpoint for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn topic(&self, service: &str, topic: Topic) -> String {
        format!("{service}.{}", topic.suffix())
    }

    fn client(
        &self,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Arc<dyn ClientTransport>, SetupError> {
        Ok(self.side(events))
    }

    fn server(
        &self,
        events: Arc<dyn ServerEvents>,
    ) -> Result<Arc<dyn ServerTransport>, SetupError> {
        Ok(self.side(events))
    }
}

impl Producer for Side {
    /// What it takes is stored at once, in a topic that keeps the senders' times.
    fn send(&self, _: Target, _: &[u8], token: u64) -> Result<(), Rejected> {
        if self.refuses {
            return Err(Rejected::Failed(Status::new(Code::NotFound, "no such partition")));
        }
        let events = Arc::clone(&self.events);
        tokio::spawn(async move { events.delivered(token, Delivery::Stored { appended: None }) });
        Ok(())
    }
}

impl ClientTransport for Side {
    fn open<'a>(
        &'a self,
        _: u16,
        _: &'a str,
        _: u64,
    ) -> BoxFuture<'a, Result<(Topology, u32), SetupError>> {
        Box::pin(async { Ok((TOPOLOGY, 0)) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl ServerTransport for Side {
    fn open<'a>(&'a self, _: u16, _: &'a str) -> BoxFuture<'a, Result<Topology, SetupError>> {
        Box::pin(async { Ok(TOPOLOGY) })
    }

    fn join(&self) -> BoxFuture<'_, Result<(), SetupError>> {
        self.joined.store(true, Ordering::Release);
        Box::pin(async { Ok(()) })
    }

    fn commit(&self, points: Vec<CommitPoint>) -> BoxFuture<'_, Vec<Result<(), String>>> {
        Box::pin(async move { points.iter().map(|_| Ok(())).collect() })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Nothing;

impl Service for Nothing {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        &ServiceDescriptor { name: "Nothing", version: "", doc: "", methods: &[] }
    }

    fn dispatch(&self, _: Incoming) {}
}

async fn serve(endpoint: &Scripted) -> Result<Server, SetupError> {
    Server::start(endpoint, vec![Arc::new(Nothing)], ServerOptions::default()).await
}

#[tokio::test]
async fn a_first_packet_that_was_never_sent_opens_nothing() {
    let endpoint = Arc::new(Scripted { refuses: true, ..Scripted::default() });
    let channel = Channel::new(endpoint.clone(), ClientOptions::default()).unwrap();
    let error = channel.open("Nothing").await.unwrap_err();
    assert!(matches!(error, SetupError::Transport(_)), "{error}");
    let error = serve(&endpoint).await.unwrap_err();
    assert!(matches!(error, SetupError::Transport(_)), "{error}");
    assert!(!endpoint.joined.load(Ordering::Acquire), "it would take calls and not answer them");
}

#[tokio::test]
async fn topics_of_the_senders_times_are_greeted_once() {
    let endpoint = Arc::new(Scripted::default());
    let channel = Channel::new(endpoint.clone(), ClientOptions::default()).unwrap();
    channel.open("Nothing").await.unwrap();
    assert_eq!(channel.stats("Nothing").unwrap().packets, 1);
    let server = serve(&endpoint).await.unwrap();
    assert_eq!(server.stats().packets, 2, "one for each reply partition");
    assert!(endpoint.joined.load(Ordering::Acquire));
}
