//! A client's side: the producer for calls, and the inbox for replies.

use std::{sync::Arc, time::Instant};

use krpc_core::{
    error::SetupError,
    status::Status,
    transport::{
        BoxFuture, ClientEvents, ClientTransport, Producer, Rejected, Target, Topic, Topics,
        Topology,
    },
};
use tokio::task::spawn_blocking;

use crate::{
    config::Settings,
    embedded::MockHost,
    producer::KafkaProducer,
    replies::{Inbox, Route},
    topics::Setup,
    wait::{Cancel, blocking},
};

/// Calls over Kafka.
#[derive(Debug)]
pub(crate) struct KafkaClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: String,
    settings: Settings,
    host: Option<Arc<MockHost>>,
    producer: KafkaProducer,
    inbox: Inbox,
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
        let inner = Inner {
            endpoint: endpoint.to_owned(),
            settings: settings.clone(),
            host,
            inbox: Inbox::new(settings, events, producer.reports())?,
            producer,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn setup<'a>(&'a self, cancel: &'a Cancel) -> Setup<'a> {
        Setup {
            settings: &self.settings,
            endpoint: &self.endpoint,
            producer: &self.producer,
            mock: self.host.as_deref(),
            cancel,
            started: Instant::now(),
        }
    }

    fn open(
        &self,
        cancel: &Cancel,
        service: u16,
        name: &str,
        seed: u64,
    ) -> Result<(Topology, u32), SetupError> {
        let setup = self.setup(cancel);
        let topology = setup.prepare(name)?;
        let route = match self.inbox.route(service) {
            Some(route) => route,
            None => {
                let chosen = seed % u64::from(topology.reply_partitions);
                let partition = i32::try_from(chosen).expect("less than Kafka's count, an i32");
                let topic = self.settings.config.topic(name, Topic::Replies);
                let route = Route { service, topic, partition };
                self.inbox.read(&setup, route)?
            }
        };
        self.producer.register(service, name);
        let partition = u32::try_from(route.partition).expect("made from a positive number");
        Ok((topology, partition))
    }
}

impl Producer for KafkaClient {
    fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        self.inner.producer.send(target, payload, token)
    }

    fn hurry(&self) {
        self.inner.producer.hurry();
    }
}

impl Topics for KafkaClient {}

impl ClientTransport for KafkaClient {
    fn reach(&self) -> BoxFuture<'_, Result<(), SetupError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { blocking(move |cancel| inner.setup(cancel).reach()).await? })
    }

    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
        seed: u64,
    ) -> BoxFuture<'a, Result<(Topology, u32), SetupError>> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        Box::pin(async move {
            inner.inbox.run()?;
            blocking(move |cancel| inner.open(cancel, service, &name, seed)).await?
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let closed = spawn_blocking(move || {
                inner.inbox.stop();
                inner.producer.close();
            });
            // Fails only when the runtime is shutting down: then the threads end by themselves.
            let _ = closed.await;
        })
    }
}
