//! A server's side: the producer for replies, one worker for each service, and an inbox if
//! something is followed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    status::Status,
    transport::{
        BoxFuture, CommitPoint, Producer, Rejected, ServerEvents, ServerTransport, Target, Topic,
        Topics, Topology,
    },
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    config::Settings,
    embedded::MockHost,
    inbox::Hearer,
    producer::KafkaProducer,
    side::Side,
    wait::blocking,
    worker::{self, Worker},
};

/// How long the threads may take to end: to leave their groups, and then to hear that they have.
const END: Duration = worker::MEMBER.saturating_add(Duration::from_secs(2));

/// Serves over Kafka.
#[derive(Debug)]
pub(crate) struct KafkaServer {
    inner: Arc<Inner>,
}

struct Inner {
    side: Arc<Side>,
    events: Arc<dyn ServerEvents>,
    services: Mutex<BTreeMap<u16, Service>>,
}

struct Service {
    name: String,
    topology: Topology,
    worker: Option<Arc<Worker>>,
}

impl KafkaServer {
    /// A server that has opened nothing yet.
    pub(crate) fn new(
        endpoint: &str,
        settings: &Settings,
        host: Option<Arc<MockHost>>,
        events: Arc<dyn ServerEvents>,
    ) -> Result<Self, SetupError> {
        let broken = Arc::clone(&events);
        let on_broken = Box::new(move |status: Status| broken.broken(status));
        let producer = KafkaProducer::start(settings, events.clone(), on_broken)?;
        let hearer = Hearer::Server(Arc::clone(&events));
        let side = Arc::new(Side::new(endpoint, settings, host, producer, hearer));
        let inner = Inner { side, events, services: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn workers(&self) -> Vec<Arc<Worker>> {
        self.services.lock().values().filter_map(|service| service.worker.clone()).collect()
    }

    /// Starts the worker of a service, once, and asks its group.
    fn join(&self, index: u16, runtime: &Handle) -> Result<(), SetupError> {
        let (name, topology) = match self.services.lock().get(&index) {
            Some(service) if service.worker.is_none() => (service.name.clone(), service.topology),
            _ => return Ok(()),
        };
        let (events, reports) = (Arc::clone(&self.events), self.side.producer.reports());
        let runtime = Some(runtime.clone());
        let worker = Worker::start(&self.side.settings, index, &name, events, reports, runtime)?;
        worker.join(topology.call_partitions)?;
        if let Some(service) = self.services.lock().get_mut(&index) {
            service.worker = Some(Arc::new(worker));
        }
        Ok(())
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("side", &self.side)
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

impl Producer for KafkaServer {
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

impl Topics for KafkaServer {
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

impl ServerTransport for KafkaServer {
    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Topology, SetupError>> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        Box::pin(async move {
            blocking(move |cancel| {
                let topology = inner.side.setup(cancel).prepare_service(&name)?;
                inner.side.opened(service, &name, topology);
                inner.services.lock().insert(service, Service { name, topology, worker: None });
                Ok(topology)
            })
            .await?
        })
    }

    fn join(&self) -> BoxFuture<'_, Result<(), SetupError>> {
        Box::pin(async move {
            let runtime = Handle::current();
            let indices: Vec<_> = self.inner.services.lock().keys().copied().collect();
            let joins: Vec<_> = indices
                .into_iter()
                .map(|index| {
                    let (inner, runtime) = (Arc::clone(&self.inner), runtime.clone());
                    spawn_blocking(move || inner.join(index, &runtime))
                })
                .collect();
            for join in joins {
                join.await.map_err(|_| SetupError::Closed)??;
            }
            Ok(())
        })
    }

    fn has_topic(&self, service: u16, topic: Topic) -> BoxFuture<'_, Result<bool, SetupError>> {
        Box::pin(Arc::clone(&self.inner.side).has_topic(service, topic))
    }

    fn commit(&self, points: Vec<CommitPoint>) -> BoxFuture<'_, Vec<Result<(), String>>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let mut results = vec![Err("the service is not joined".to_owned()); points.len()];
            let mut groups: BTreeMap<u16, (Vec<usize>, Vec<CommitPoint>)> = BTreeMap::new();
            for (index, point) in points.into_iter().enumerate() {
                let (indices, points) = groups.entry(point.partition.service).or_default();
                indices.push(index);
                points.push(point);
            }
            let commits: Vec<_> = groups
                .into_iter()
                .filter_map(|(service, (indices, points))| {
                    let worker = inner.services.lock().get(&service)?.worker.clone()?;
                    Some((indices, spawn_blocking(move || worker.commit(&points))))
                })
                .collect();
            for (indices, commit) in commits {
                match commit.await {
                    Ok(committed) => {
                        indices.into_iter().zip(committed).for_each(|(at, one)| results[at] = one);
                    }
                    Err(error) => {
                        indices.into_iter().for_each(|at| results[at] = Err(error.to_string()));
                    }
                }
            }
            results
        })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), String>> {
        let workers = self.inner.workers();
        Box::pin(async move {
            let leaves: Vec<_> =
                workers.into_iter().map(|worker| spawn_blocking(move || worker.leave())).collect();
            let mut failures = Vec::new();
            for leave in leaves {
                failures.extend(leave.await.unwrap_or_else(|error| Err(error.to_string())).err());
            }
            if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let closed = spawn_blocking(move || {
                let workers = inner.workers();
                workers.iter().for_each(|worker| worker.stop());
                inner.side.close();
                let until = Instant::now() + END;
                workers.iter().for_each(|worker| worker.wait_ended(until));
            });
            // Fails only when the runtime is shutting down: then the threads end by themselves.
            let _ = closed.await;
        })
    }
}
