//! Opening a service over transports that do as they are told: what the first packets meet, and
//! callers who have less time than it takes.

#![allow(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "the transport of these tests has tasks")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use krpc_core::{
    client::{
        call::Client,
        channel::{Channel, ClientOptions},
    },
    error::SetupError,
    server::{
        driver::Server,
        options::ServerOptions,
        service::{Incoming, Service, ServiceDescriptor},
    },
    status::{Code, Status},
    transport::{
        BoxFuture, ClientEvents, ClientTransport, CommitPoint, Delivery, Endpoint, Producer,
        ProducerEvents, Rejected, ServerEvents, ServerTransport, Target, Topic, Topics, Topology,
        TransportConfig, memory::MemoryEndpoint,
    },
};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
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
        let stored = Delivery::Stored { appended: None, offset: None };
        tokio::spawn(async move { events.delivered(token, stored) });
        Ok(())
    }
}

impl Topics for Side {}

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

async fn serve(endpoint: &dyn Endpoint) -> Result<Server, SetupError> {
    Server::start(endpoint, vec![Arc::new(Nothing)], ServerOptions::default()).await
}

#[tokio::test]
async fn a_first_packet_that_was_never_sent_opens_nothing() {
    let endpoint = Arc::new(Scripted { refuses: true, ..Scripted::default() });
    let channel = Channel::new(endpoint.clone(), ClientOptions::default()).unwrap();
    let error = channel.open("Nothing").await.unwrap_err();
    assert!(matches!(error, SetupError::Transport(_)), "{error}");
    let error = serve(&*endpoint).await.unwrap_err();
    assert!(matches!(error, SetupError::Transport(_)), "{error}");
    assert!(!endpoint.joined.load(Ordering::Acquire), "it would take calls and not answer them");
}

#[tokio::test]
async fn topics_of_the_senders_times_are_greeted_once() {
    let endpoint = Arc::new(Scripted::default());
    let channel = Channel::new(endpoint.clone(), ClientOptions::default()).unwrap();
    channel.open("Nothing").await.unwrap();
    assert_eq!(channel.stats("Nothing").unwrap().packets, 1);
    let server = serve(&*endpoint).await.unwrap();
    assert_eq!(server.stats().packets, 2, "one for each reply partition");
    assert!(endpoint.joined.load(Ordering::Acquire));
}

/// The in-process broker, at a distance from its clients.
#[derive(Debug)]
struct Distant {
    broker: MemoryEndpoint,
    road: Road,
}

/// The way there.
#[derive(Clone, Debug)]
struct Road {
    /// How long finding a service's topics takes.
    takes: Duration,
    /// How often that fails at first.
    fails: usize,
    /// How often it was begun.
    begun: Arc<AtomicUsize>,
}

/// A client's side of it.
#[derive(Debug)]
struct Far {
    near: Arc<dyn ClientTransport>,
    road: Road,
}

impl Distant {
    fn new(takes: Duration, fails: usize) -> Arc<Self> {
        let broker = MemoryEndpoint::private(TransportConfig::default());
        Arc::new(Self { broker, road: Road { takes, fails, begun: Arc::default() } })
    }

    fn channel(self: &Arc<Self>) -> Channel {
        Channel::new(self.clone(), ClientOptions::default()).unwrap()
    }

    fn begun(&self) -> usize {
        self.road.begun.load(Ordering::Acquire)
    }
}

impl Endpoint for Distant {
    fn name(&self) -> &str {
        self.broker.name()
    }

    fn topic(&self, service: &str, topic: Topic) -> String {
        self.broker.topic(service, topic)
    }

    fn client(
        &self,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Arc<dyn ClientTransport>, SetupError> {
        let near = self.broker.client(events)?;
        Ok(Arc::new(Far { near, road: self.road.clone() }))
    }

    fn server(
        &self,
        events: Arc<dyn ServerEvents>,
    ) -> Result<Arc<dyn ServerTransport>, SetupError> {
        self.broker.server(events)
    }
}

impl Producer for Far {
    fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        self.near.send(target, payload, token)
    }
}

impl Topics for Far {}

impl ClientTransport for Far {
    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
        seed: u64,
    ) -> BoxFuture<'a, Result<(Topology, u32), SetupError>> {
        let begun = self.road.begun.fetch_add(1, Ordering::AcqRel);
        Box::pin(async move {
            sleep(self.road.takes).await;
            if begun < self.road.fails {
                return Err(SetupError::Transport("a bridge is down".to_owned()));
            }
            self.near.open(service, name, seed).await
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.near.close()
    }
}

const PATIENCE: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn calls_of_less_time_than_an_opening_takes_do_not_keep_a_service_closed() {
    let endpoint = Distant::new(Duration::from_millis(350), 0);
    let _server = serve(&endpoint.broker).await.unwrap();
    let channel = endpoint.channel();
    let client = Client::named(&channel, "Nothing");
    for _ in 0..3 {
        let error = client.ping().timeout(PATIENCE).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Unavailable));
    }
    client.ping().timeout(PATIENCE).await.unwrap();
    assert_eq!(endpoint.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_for_those_who_wait_and_the_next_caller_has_it_tried_again() {
    let endpoint = Distant::new(PATIENCE, 1);
    let channel = endpoint.channel();
    let (one, other) = tokio::join!(channel.open("Nothing"), channel.open("Nothing"));
    for opened in [one, other] {
        assert!(matches!(opened, Err(SetupError::Transport(_))), "{opened:?}");
    }
    assert_eq!(endpoint.begun(), 1);
    channel.open("Nothing").await.unwrap();
    channel.open("Nothing").await.unwrap();
    assert_eq!(endpoint.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_opening_ends_with_its_channel() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for closes in [true, false] {
        let endpoint = Distant::new(DAY, 0);
        let channel = endpoint.channel();
        assert!(timeout(PATIENCE, channel.open("Nothing")).await.is_err(), "so soon");
        if closes {
            let (opened, ()) = tokio::join!(channel.open("Nothing"), channel.close());
            assert!(matches!(opened, Err(SetupError::Closed)), "{opened:?}");
            assert_eq!(endpoint.begun(), 1);
        }
        drop(channel);
        let mut turns = 0;
        while Arc::strong_count(&endpoint.road.begun) > 1 {
            turns += 1;
            assert!(turns < 1000, "it keeps the transport");
            yield_now().await;
        }
    }
}

#[test]
fn calls_of_a_channel_whose_runtime_ended_fail() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (opener, other) = (runtime(), runtime());
    let endpoint = Arc::new(MemoryEndpoint::private(TransportConfig::default()));
    let channel = opener.block_on(async {
        let channel = Channel::new(endpoint, ClientOptions::default()).unwrap();
        channel.open("ended.Service").await.unwrap();
        channel
    });
    let client = Client::named(&channel, "ended.Service");
    let call = other.spawn(client.ping().timeout(Duration::from_secs(3600)).into_future());
    other.block_on(async {
        while channel.stats("ended.Service").unwrap().in_flight == 0 {
            yield_now().await;
        }
    });
    drop(opener);
    let ended = other.block_on(call).unwrap().unwrap_err();
    assert_eq!(ended.code(), Some(Code::Unavailable));
    assert!(ended.to_string().contains("runtime"), "{ended}");
    let later = other.block_on(client.ping().into_future()).unwrap_err();
    assert_eq!(later.code(), Some(Code::Unavailable));
}
