//! What clients and servers have in common: an opened service's topics, and those that are made
//! and read only when asked for.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use krpc_core::{
    error::SetupError,
    status::{Code, Status},
    transport::{Topic, Topology},
};
use parking_lot::Mutex;

use crate::{
    config::Settings,
    embedded::MockHost,
    inbox::{Hearer, Inbox, Route},
    producer::KafkaProducer,
    topics::Setup,
    wait::{Cancel, blocking},
};

/// One side of an endpoint.
pub(crate) struct Side {
    endpoint: String,
    pub(crate) settings: Settings,
    host: Option<Arc<MockHost>>,
    pub(crate) producer: KafkaProducer,
    hearer: Hearer,
    /// Reads partitions by hand; made when the first one is to be read.
    inbox: OnceLock<Inbox>,
    /// Held while the inbox is made.
    making: Mutex<()>,
    services: Mutex<HashMap<u16, Opened>>,
    /// Held while a lazy topic is looked for: of many who ask at once, one does it for all.
    opening: tokio::sync::Mutex<()>,
}

/// A service as it was opened.
#[derive(Clone, Debug)]
struct Opened {
    name: String,
    topics: Vec<(Topic, u32)>,
}

impl Side {
    /// A side that has opened nothing yet, and reads nothing.
    pub(crate) fn new(
        endpoint: &str,
        settings: &Settings,
        host: Option<Arc<MockHost>>,
        producer: KafkaProducer,
        hearer: Hearer,
    ) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            settings: settings.clone(),
            host,
            producer,
            hearer,
            inbox: OnceLock::new(),
            making: Mutex::default(),
            services: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// What finds and creates topics, from now on until the connect timeout.
    pub(crate) fn setup<'a>(&'a self, cancel: &'a Cancel) -> Setup<'a> {
        Setup {
            settings: &self.settings,
            endpoint: &self.endpoint,
            producer: &self.producer,
            mock: self.host.as_deref(),
            role: self.hearer.role(),
            cancel,
            started: Instant::now(),
        }
    }

    /// Notes that a service is opened, so that it can be sent to.
    pub(crate) fn opened(&self, service: u16, name: &str, topology: Topology) {
        let Topology { call_partitions, reply_partitions } = topology;
        let topics = [(Topic::Calls, call_partitions), (Topic::Replies, reply_partitions)];
        for (topic, _) in topics {
            self.producer.register(service, topic, &self.settings.config.topic(name, topic));
        }
        let mut services = self.services.lock();
        // Opened again, it keeps what else is open.
        if services.get(&service).is_none_or(|known| known.name != name) {
            services.insert(service, Opened { name: name.to_owned(), topics: topics.to_vec() });
        }
    }

    /// The name of an opened service.
    pub(crate) fn name(&self, service: u16) -> Result<String, Status> {
        let services = self.services.lock();
        services.get(&service).map(|opened| opened.name.clone()).ok_or_else(|| not_open(service))
    }

    /// What reads partitions by hand; it begins to, in this runtime, if it does not yet.
    pub(crate) fn inbox(&self) -> Result<&Inbox, SetupError> {
        let inbox = self.make_inbox()?;
        inbox.run()?;
        Ok(inbox)
    }

    /// What reads partitions by hand; it may not have begun yet.
    pub(crate) fn make_inbox(&self) -> Result<&Inbox, SetupError> {
        if let Some(inbox) = self.inbox.get() {
            return Ok(inbox);
        }
        let _making = self.making.lock();
        if self.inbox.get().is_none() {
            if self.producer.is_closed() {
                return Err(SetupError::Closed);
            }
            let reports = self.producer.reports();
            let inbox = Inbox::new(&self.settings, self.hearer.clone(), reports)?;
            // Nobody else sets it.
            let _ = self.inbox.set(inbox);
        }
        self.inbox.get().ok_or(SetupError::Closed)
    }

    /// Ends reading by hand and closes the producer. Blocks.
    pub(crate) fn close(&self) {
        self.stop_reading();
        self.producer.close();
        // One that was made meanwhile; none is from here on.
        let _making = self.making.lock();
        self.stop_reading();
    }

    fn stop_reading(&self) {
        if let Some(inbox) = self.inbox.get() {
            inbox.stop();
        }
    }

    /// As [`krpc_core::transport::Topics::open_topic`] has it.
    pub(crate) async fn open_topic(
        self: Arc<Self>,
        service: u16,
        topic: Topic,
    ) -> Result<u32, SetupError> {
        let name =
            self.name(service).map_err(|status| SetupError::Transport(status.to_string()))?;
        if let Some(partitions) = self.partitions(service, topic) {
            return Ok(partitions);
        }
        let _opening = self.opening.lock().await;
        if let Some(partitions) = self.partitions(service, topic) {
            return Ok(partitions);
        }
        let side = Arc::clone(&self);
        blocking(move |cancel| {
            let partitions = side.setup(cancel).prepare(&name, topic)?;
            let full = side.settings.config.topic(&name, topic);
            side.producer.register(service, topic, &full);
            if let Some(opened) = side.services.lock().get_mut(&service) {
                opened.topics.push((topic, partitions));
            }
            Ok(partitions)
        })
        .await?
    }

    /// As [`krpc_core::transport::ServerTransport::has_topic`] has it.
    pub(crate) async fn has_topic(
        self: Arc<Self>,
        service: u16,
        topic: Topic,
    ) -> Result<bool, SetupError> {
        let name =
            self.name(service).map_err(|status| SetupError::Transport(status.to_string()))?;
        if self.partitions(service, topic).is_some() {
            return Ok(true);
        }
        blocking(move |cancel| self.setup(cancel).is_there(&name, topic)).await?
    }

    /// As [`krpc_core::transport::Topics::bounds`] has it.
    pub(crate) async fn bounds(
        self: Arc<Self>,
        service: u16,
        topic: Topic,
        partition: u32,
    ) -> Result<(i64, i64), Status> {
        let route = self.route(service, topic, partition)?;
        let asked = blocking(move |cancel| {
            self.setup(cancel).bounds_by_producer(&route.name, route.partition)
        })
        .await;
        asked.and_then(|asked| asked).map_err(|error| error.to_status())
    }

    /// As [`krpc_core::transport::Topics::follow`] has it.
    pub(crate) async fn follow(
        self: Arc<Self>,
        service: u16,
        topic: Topic,
        partition: u32,
        from: i64,
    ) -> Result<(), Status> {
        let route = self.route(service, topic, partition)?;
        // In the caller's runtime: the reader is a task of it.
        self.inbox().map_err(|error| error.to_status())?;
        let followed =
            blocking(move |cancel| self.inbox()?.follow(&self.setup(cancel), &route, from));
        followed.await.and_then(|followed| followed).map_err(|error| error.to_status())
    }

    /// As [`krpc_core::transport::Topics::unfollow`] has it.
    pub(crate) fn unfollow(&self, service: u16, topic: Topic, partition: u32) {
        if let (Some(inbox), Ok(route)) = (self.inbox.get(), self.route(service, topic, partition))
        {
            inbox.unfollow(&route);
        }
    }

    /// A partition of a topic that is open.
    pub(crate) fn route(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
    ) -> Result<Route, Status> {
        let name = self.name(service)?;
        let partitions = self.partitions(service, topic).ok_or_else(|| not_open(service))?;
        match i32::try_from(partition) {
            Ok(number) if partition < partitions => {
                Ok(Route::new(service, topic, self.settings.config.topic(&name, topic), number))
            }
            _ => Err(Status::new(Code::OutOfRange, "the topic has no such partition")),
        }
    }

    fn partitions(&self, service: u16, topic: Topic) -> Option<u32> {
        let services = self.services.lock();
        let mut topics = services.get(&service)?.topics.iter();
        topics.find(|(known, _)| *known == topic).map(|(_, partitions)| *partitions)
    }
}

fn not_open(service: u16) -> Status {
    Status::new(Code::FailedPrecondition, format!("the topic of service {service} is not open"))
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side")
            .field("endpoint", &self.endpoint)
            .field("inbox", &self.inbox)
            .finish_non_exhaustive()
    }
}
