//! Driver: what a client's and a server's side of the in-process broker have in common: opened
//! services, sending, and the task that reports deliveries.
//!
//! from: [`Producer::send`](crate::transport::Producer::send)
//! to: the partition's log, and [`ProducerEvents::delivered`]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    Lease,
    broker::TopicRef,
    follow::{no_partition, not_opened},
};
use crate::{
    error::SetupError,
    ids::PartitionId,
    status::{Code, Status},
    time::Time,
    transport::{Delivery, ProducerEvents, Rejected, Target, Topic, Topology, TransportConfig},
};

/// Records sent and not yet reported; beyond, [`Rejected::Full`].
pub(super) const MAX_UNREPORTED: usize = 16 * 1024;

/// Reports handed out before the task lets others run.
const BATCH_REPORTS: usize = 256;

/// A service's topics, as a side opened them.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) calls: TopicRef,
    pub(super) replies: TopicRef,
    /// Topics that were asked for later.
    pub(super) lazy: Vec<(Topic, TopicRef)>,
    /// The reply partition that is read, on a client's side.
    pub(super) reply_partition: Option<u32>,
}

impl Service {
    /// One of its topics, if it is opened.
    pub(super) fn topic(&self, topic: Topic) -> Option<TopicRef> {
        match topic {
            Topic::Calls => Some(self.calls),
            Topic::Replies => Some(self.replies),
            _ => self.lazy.iter().find(|(known, _)| *known == topic).map(|(_, topic)| *topic),
        }
    }

    /// The topics' sizes.
    pub(super) fn topology(&self) -> Topology {
        Topology {
            call_partitions: self.calls.partitions,
            reply_partitions: self.replies.partitions,
        }
    }
}

/// The part that clients and servers share.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) broker: Lease,
    pub(super) config: TransportConfig,
    /// Its number within the broker.
    pub(super) id: u64,
    /// Tells a server's task that its groups have something to fetch.
    pub(super) wake: Arc<Notify>,
    /// Tells the task that reads along that a followed partition has.
    pub(super) along: Arc<Notify>,
    /// The partitions that are read by hand.
    pub(super) followed: Mutex<Vec<(TopicRef, PartitionId)>>,
    pub(super) services: RwLock<BTreeMap<u16, Service>>,
    reports: mpsc::Sender<Report>,
    closing: CancellationToken,
    gone: Arc<AtomicBool>,
    runtime: Handle,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    reporter: Mutex<Option<JoinHandle<()>>>,
}

/// What became of a record.
#[derive(Debug)]
struct Report {
    token: u64,
    fate: Result<(i64, Time), (Status, Bytes)>,
}

impl Side {
    /// A side whose deliveries go to `events`.
    ///
    /// # Errors
    /// There is no runtime here to run its tasks.
    pub(super) fn new(
        broker: Lease,
        config: TransportConfig,
        events: Arc<dyn ProducerEvents>,
    ) -> Result<Self, SetupError> {
        let runtime =
            Handle::try_current().map_err(|error| SetupError::Transport(error.to_string()))?;
        let (reports, queue) = mpsc::channel(MAX_UNREPORTED);
        let closing = CancellationToken::new();
        let gone = Arc::new(AtomicBool::new(false));
        let reporter = runtime.spawn(report(events, queue, closing.clone(), gone.clone()));
        Ok(Self {
            id: broker.new_side(),
            broker,
            config,
            wake: Arc::new(Notify::new()),
            along: Arc::new(Notify::new()),
            followed: Mutex::default(),
            services: RwLock::default(),
            reports,
            closing,
            gone,
            runtime,
            tasks: Mutex::default(),
            reporter: Mutex::new(Some(reporter)),
        })
    }

    /// All opened services with their indexes.
    pub(super) fn services(&self) -> Vec<(u16, Service)> {
        self.services.read().iter().map(|(index, service)| (*index, service.clone())).collect()
    }

    /// Finds or creates a service's topics, and with a seed begins to read one reply partition.
    /// Opening the same again changes nothing.
    ///
    /// # Errors
    /// Closed; unfit or missing topics; the index stands for another service.
    pub(super) fn open(
        &self,
        index: u16,
        name: &str,
        seed: Option<u64>,
    ) -> Result<Service, SetupError> {
        if self.is_closed() {
            return Err(SetupError::Closed);
        }
        let mut services = self.services.write();
        match services.get(&index) {
            Some(known) if known.name == name => return Ok(known.clone()),
            Some(known) => {
                let message = format!("index {index} stands for service {:?}", known.name);
                return Err(SetupError::Transport(message));
            }
            // Two places in one group would each get the other's partitions.
            None if seed.is_none() && services.values().any(|known| known.name == name) => {
                return Err(SetupError::DuplicateService { name: name.to_owned() });
            }
            None => {}
        }
        let calls = self.broker.open(&self.config, name, Topic::Calls)?;
        let replies = self.broker.open(&self.config, name, Topic::Replies)?;
        let choose = |seed| u32::try_from(seed % u64::from(replies.partitions)).unwrap_or(0);
        let reply_partition = seed.map(choose);
        if let Some(partition) = reply_partition {
            self.read_from(replies, PartitionId { service: index, partition }, None);
        }
        let service =
            Service { name: name.to_owned(), calls, replies, lazy: Vec::new(), reply_partition };
        services.insert(index, service.clone());
        Ok(service)
    }

    /// Appends a record and queues its report, as [`Producer::send`](crate::transport::Producer)
    /// has it.
    pub(super) fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        let rejected = |code, message: &str| Rejected::Failed(Status::new(code, message));
        let report = self.reports.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Rejected::Full,
            mpsc::error::TrySendError::Closed(()) => rejected(Code::Unavailable, "closed"),
        })?;
        let services = self.services.read();
        let service = services
            .get(&target.service)
            .ok_or_else(|| rejected(Code::FailedPrecondition, "the service is not opened"))?;
        let topic = service.topic(target.topic).ok_or_else(|| Rejected::Failed(not_opened()))?;
        if target.partition >= topic.partitions {
            return Err(Rejected::Failed(no_partition()));
        }
        let bytes = Bytes::copy_from_slice(payload);
        let fate = if payload.len() > self.config.max_packet_bytes {
            let most = self.config.max_packet_bytes;
            let message = format!("a packet of {} bytes; at most {most} fit", payload.len());
            Err((Status::new(Code::ResourceExhausted, message).with_retryable(false), bytes))
        } else {
            let stored = self.broker.append(topic, target.partition, bytes);
            Ok(stored.ok_or_else(|| rejected(Code::Internal, "the partition is not there"))?)
        };
        report.send(Report { token, fate });
        Ok(())
    }

    /// Runs a task of this side until it ends, or the side is closed or abandoned.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        if !self.is_closed() {
            tasks.push(self.runtime.spawn(task));
        }
    }

    /// Whether sending and reading are over.
    pub(super) fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Whether nobody holds this side any more: its events get no call.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Ends the tasks, after the reports of what was sent; nothing is called afterwards.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.iter().for_each(JoinHandle::abort);
        let reporter = self.reporter.lock().take();
        for task in tasks.into_iter().chain(reporter) {
            // It was aborted, or it ended: both are what is wanted.
            drop(task.await);
        }
    }

    /// Ends the tasks at once, as a crash does.
    pub(super) fn abandon(&self) {
        self.gone.store(true, Ordering::Release);
        self.closing.cancel();
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        if let Some(reporter) = self.reporter.lock().take() {
            reporter.abort();
        }
    }
}

/// Hands out the reports, until closing and the queue is empty.
async fn report(
    events: Arc<dyn ProducerEvents>,
    mut queue: mpsc::Receiver<Report>,
    closing: CancellationToken,
    gone: Arc<AtomicBool>,
) {
    let mut batch = Vec::with_capacity(BATCH_REPORTS);
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled(), if !queue.is_closed() => queue.close(),
            count = queue.recv_many(&mut batch, BATCH_REPORTS) => if count == 0 { return },
        }
        for Report { token, fate } in batch.drain(..) {
            if gone.load(Ordering::Acquire) {
                return;
            }
            match fate {
                Ok((offset, at)) => {
                    let (appended, offset) = (Some(at), Some(offset));
                    events.delivered(token, Delivery::Stored { appended, offset });
                }
                Err((status, payload)) => {
                    events.delivered(token, Delivery::Failed { status, payload: &payload });
                }
            }
        }
        tokio::task::yield_now().await;
    }
}
