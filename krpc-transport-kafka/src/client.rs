//! A client's side: the producer for calls, the inbox for replies, and questions to groups.

use std::sync::Arc;

use krpc_core::{
    error::SetupError,
    status::Status,
    transport::{
        BoxFuture, ClientEvents, ClientTransport, Committed, Producer, Rejected, Target, Topic,
        Topics, Topology,
    },
};
use tokio::task::spawn_blocking;

use crate::{
    committed::Watchers,
    config::Settings,
    embedded::MockHost,
    inbox::{Hearer, Route},
    producer::KafkaProducer,
    side::Side,
    wait::{Cancel, blocking},
};

/// Calls over Kafka.
#[derive(Debug)]
pub(crate) struct KafkaClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    side: Arc<Side>,
    watchers: Watchers,
}

impl KafkaClient {
    /// A client that has opened nothing yet.
    pub(crate) fn new(
        endpoint: &str,
        settings: &Settings,
        host: Option<Arc<MockHost>>,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Self, SetupError> {
        let broken = Arc::clone(&events);
        let on_broken = Box::new(move |status: Status| broken.broken(status));
        let producer = KafkaProducer::start(settings, events.clone(), on_broken)?;
        let side = Side::new(endpoint, settings, host, producer, Hearer::Client(events));
        // Replies are read in any case: while the first connections are made.
        side.make_inbox()?;
        let inner = Inner { side: Arc::new(side), watchers: Watchers::default() };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn open(
        &self,
        cancel: &Cancel,
        service: u16,
        name: &str,
        seed: u64,
    ) -> Result<(Topology, u32), SetupError> {
        let setup = self.side.setup(cancel);
        let topology = setup.prepare_service(name)?;
        let inbox = self.side.inbox()?;
        let route = match inbox.reply_route(service) {
            Some(route) => route,
            None => {
                let chosen = seed % u64::from(topology.reply_partitions);
                let partition = i32::try_from(chosen).expect("less than Kafka's count, an i32");
                let topic = self.side.settings.config.topic(name, Topic::Replies);
                inbox.read(&setup, Route::new(service, Topic::Replies, topic, partition))?
            }
        };
        self.side.opened(service, name, topology);
        let partition = u32::try_from(route.partition).expect("made from a positive number");
        Ok((topology, partition))
    }

    fn committed(
        &self,
        cancel: &Cancel,
        service: &str,
        calls: &Route,
    ) -> Result<Committed, SetupError> {
        self.watchers.committed(&self.side.setup(cancel), service, calls)
    }
}

impl Producer for KafkaClient {
    fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        self.inner.side.producer.send(target, payload, token)
    }

    fn hurry(&self) {
        self.inner.side.producer.hurry();
    }

    fn prepare_exact(&self) {
        self.inner.side.producer.prepare_exact();
    }
}

impl Topics for KafkaClient {
    fn open_topic(&self, service: u16, topic: Topic) -> BoxFuture<'_, Result<u32, SetupError>> {
        Box::pin(Arc::clone(&self.inner.side).open_topic(service, topic))
    }

    fn bounds(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
    ) -> BoxFuture<'_, Result<(i64, i64), Status>> {
        Box::pin(Arc::clone(&self.inner.side).bounds(service, topic, partition))
    }

    fn follow(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
        from: i64,
    ) -> BoxFuture<'_, Result<(), Status>> {
        Box::pin(Arc::clone(&self.inner.side).follow(service, topic, partition, from))
    }

    fn unfollow(&self, service: u16, topic: Topic, partition: u32) {
        self.inner.side.unfollow(service, topic, partition);
    }
}

impl ClientTransport for KafkaClient {
    fn reach(&self) -> BoxFuture<'_, Result<(), SetupError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { blocking(move |cancel| inner.side.setup(cancel).reach()).await? })
    }

    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
        seed: u64,
    ) -> BoxFuture<'a, Result<(Topology, u32), SetupError>> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        Box::pin(async move {
            // In this runtime: the reader is a task of it.
            inner.side.inbox()?;
            blocking(move |cancel| inner.open(cancel, service, &name, seed)).await?
        })
    }

    fn committed(&self, service: u16, partition: u32) -> BoxFuture<'_, Result<Committed, Status>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let name = inner.side.name(service)?;
            let calls = inner.side.route(service, Topic::Calls, partition)?;
            let asked = blocking(move |cancel| inner.committed(cancel, &name, &calls)).await;
            asked.and_then(|asked| asked).map_err(|error| error.to_status())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let closed = spawn_blocking(move || {
                inner.side.close();
                inner.watchers.stop();
            });
            // Fails only when the runtime is shutting down: then the threads end by themselves.
            let _ = closed.await;
        })
    }
}
