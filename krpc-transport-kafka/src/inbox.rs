//! The inbox: the partitions that are read by hand. A client's is one of replies for each service;
//! either side's are those that it follows.
//!
//! One consumer for all of them, assigned by hand and member of no group. A reply partition is
//! assigned at the concrete offset that was its end **before** anything was sent, so no reply can
//! be missed; and nothing is ever read from elsewhere without a warning.
//!
//! The reader is a [`task`], not a thread: the worker that librdkafka wakes goes on with the
//! caller, whose call has just ended.
//!
//! from: the topics · to: [`task`]

use std::{
    collections::HashSet,
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use krpc_core::{
    error::SetupError,
    status::Status,
    transport::{ClientEvents, Record, ServerEvents, Topic},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};
use tokio::runtime::Handle;

use self::task::Task;
use crate::{
    config::Settings,
    events::Reporter,
    producer::Reports,
    queue::Queue,
    topics::{Role, Setup},
    wait::{Signal, Waiter},
};

mod task;

/// How long going on elsewhere in a partition may take.
const SEEK: Duration = Duration::from_secs(1);

/// Reads partitions in a task of its own.
pub(crate) struct Inbox {
    shared: Arc<Shared>,
    /// Gone when the inbox is stopped.
    reader: Mutex<Option<Reader>>,
    /// What becomes the task when it begins to read, in the opener's runtime.
    task: Mutex<Option<(Task, Waiter)>>,
}

/// Who hears of the records.
#[derive(Clone, Debug)]
pub(crate) enum Hearer {
    /// A client's driver.
    Client(Arc<dyn ClientEvents>),
    /// A server's driver.
    Server(Arc<dyn ServerEvents>),
}

impl Hearer {
    /// Which side it is.
    pub(crate) const fn role(&self) -> Role {
        match self {
            Self::Client(_) => Role::Client,
            Self::Server(_) => Role::Server,
        }
    }

    fn arrived(&self, record: Record) {
        match self {
            Self::Client(events) => events.arrived(record),
            Self::Server(events) => events.arrived(record),
        }
    }

    fn broken(&self, status: Status) {
        match self {
            Self::Client(events) => events.broken(status),
            Self::Server(events) => events.broken(status),
        }
    }
}

/// A partition that is read.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The service's index.
    pub(crate) service: u16,
    /// Which of its topics.
    pub(crate) topic: Topic,
    /// The topic's name.
    pub(crate) name: String,
    /// The partition.
    pub(crate) partition: i32,
    /// The offset that is to come next. All clones share it, and nobody else: it tells two
    /// readings of one partition apart.
    next: Arc<AtomicI64>,
}

type ReplyConsumer = BaseConsumer<ReplyHooks>;

/// The consumer, and the queue that all its records come to.
#[derive(Clone)]
struct Reader {
    consumer: Arc<ReplyConsumer>,
    records: Arc<Queue>,
}

/// What the task and the openers share.
struct Shared {
    hearer: Hearer,
    routes: Mutex<Arc<Vec<Route>>>,
    /// Topics and partitions that the consumer reads. Held while that changes: of two opens of a
    /// service, of which one may be given up already, the second adopts the route of the first.
    assigned: Mutex<HashSet<(String, i32)>>,
    signal: Arc<Signal>,
    stopping: AtomicBool,
    /// How often reading went on elsewhere because the offset was gone.
    resets: AtomicU64,
}

impl Inbox {
    /// A consumer; nothing is read yet. `reports` are served when records have come.
    pub(crate) fn new(
        settings: &Settings,
        hearer: Hearer,
        reports: Reports,
    ) -> Result<Self, SetupError> {
        let (signal, waiter) = Signal::of_task()?;
        let hooks = ReplyHooks(settings.reporter("replies"));
        let consumer: Arc<ReplyConsumer> = Arc::new(settings.create(&settings.replies(), hooks)?);
        let shared = Arc::new(Shared {
            hearer,
            routes: Mutex::default(),
            assigned: Mutex::default(),
            signal,
            stopping: AtomicBool::new(false),
            resets: AtomicU64::new(0),
        });
        let client = consumer.client();
        // One signal for both queues: the task serves the consumer's events as well.
        let own = Queue::of_consumer(client, Arc::clone(&consumer), Arc::clone(&shared.signal));
        let records = Queue::private(client, Arc::clone(&consumer), Arc::clone(&shared.signal));
        let reader = Reader { records: Arc::new(records), consumer: Arc::clone(&consumer) };
        let task = Task::new(Arc::clone(&shared), reader.clone(), own, reports);
        let (reader, task) = (Mutex::new(Some(reader)), Mutex::new(Some((task, waiter))));
        Ok(Self { shared, reader, task })
    }

    /// Begins to read in this runtime, unless that was done before.
    pub(crate) fn run(&self) -> Result<(), SetupError> {
        let mut task = self.task.lock();
        let listener = match &*task {
            Some((_, waiter)) => waiter.listen()?,
            None => return Ok(()),
        };
        if let Some((task, _)) = task.take() {
            Handle::current().spawn(task.run(listener));
        }
        Ok(())
    }

    /// The reply partition that is read for a service.
    pub(crate) fn reply_route(&self, service: u16) -> Option<Route> {
        let routes = self.shared.routes.lock();
        let replies = |route: &&Route| (route.service, route.topic) == (service, Topic::Replies);
        routes.iter().find(replies).cloned()
    }

    /// Begins to read a reply partition at its present end, unless the service has another by now;
    /// returns which is read.
    pub(crate) fn read(&self, setup: &Setup<'_>, route: Route) -> Result<Route, SetupError> {
        let reader = self.reader()?;
        let (_, end) = setup.bounds(reader.consumer.client(), &route.name, route.partition)?;
        // Not during the question above: opens of other services need not wait for it.
        let mut assigned = self.shared.assigned.lock();
        if let Some(theirs) = self.reply_route(route.service) {
            return Ok(theirs);
        }
        self.begin(&mut assigned, &reader, &route, end)?;
        Ok(route)
    }

    /// Reads a partition from this offset on, or the nearest that is there.
    pub(crate) fn follow(
        &self,
        setup: &Setup<'_>,
        route: &Route,
        from: i64,
    ) -> Result<(), SetupError> {
        let reader = self.reader()?;
        let known = self.shared.assigned.lock().iter().any(|(name, _)| *name == route.name);
        let (low, end) = match known {
            true => setup.bounds_by_producer(&route.name, route.partition)?,
            // The consumer would look for the leader of its first partition most of a second.
            false => setup.bounds(reader.consumer.client(), &route.name, route.partition)?,
        };
        let mut assigned = self.shared.assigned.lock();
        self.begin(&mut assigned, &reader, route, from.clamp(low, end))
    }

    /// Ends [`follow`](Self::follow), on a thread of its own: the consumer takes a moment.
    pub(crate) fn unfollow(&self, route: &Route) {
        let (shared, Ok(reader)) = (Arc::clone(&self.shared), self.reader()) else { return };
        let known = shared.routes.lock().iter().find(|known| known.is_at(route)).cloned();
        if let Some(known) = known {
            // Without a thread it is still read, which nobody minds but the network.
            let _ = crate::apart(move || shared.end(&reader, &known));
        }
    }

    fn reader(&self) -> Result<Reader, SetupError> {
        self.reader.lock().clone().ok_or(SetupError::Closed)
    }

    fn begin(
        &self,
        assigned: &mut HashSet<(String, i32)>,
        reader: &Reader,
        route: &Route,
        offset: i64,
    ) -> Result<(), SetupError> {
        let shared = &self.shared;
        let failed = |error: KafkaError| {
            SetupError::Transport(format!("{} cannot be assigned: {error}", route.name))
        };
        route.next.store(offset, Ordering::Relaxed);
        let known = shared.routes.lock().iter().find(|known| known.is_at(route)).cloned();
        // Known before its first record can come; and the old one not after it.
        if let Some(known) = &known {
            shared.forget(known);
        }
        Arc::make_mut(&mut *shared.routes.lock()).push(route.clone());
        // Not assigned anew, which for a moment takes away where its records are to come.
        if known.is_some() && reader.seek(route, offset).is_ok() {
            return Ok(());
        }
        if let Some(known) = &known {
            // Were it still assigned after a failure, the assignment below would say so.
            let _ = reader.unassign(known);
            assigned.remove(&known.place());
        }
        match reader.assign(route, offset) {
            Ok(()) => {
                assigned.insert(route.place());
                Ok(())
            }
            Err(error) => {
                shared.forget(route);
                Err(failed(error))
            }
        }
    }

    /// Ends the task, which drops the consumer. Does not wait.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.signal.raise();
        drop(self.task.lock().take());
        // Were this the last owner, the drop would block.
        let reader = self.reader.lock().take();
        crate::aside(reader);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("routes", &*self.shared.routes.lock())
            .field("resets", &self.shared.resets)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn forget(&self, route: &Route) {
        Arc::make_mut(&mut *self.routes.lock()).retain(|known| !known.is(route));
    }

    fn reads(&self, route: &Route) -> bool {
        self.routes.lock().iter().any(|known| known.is(route))
    }

    /// Ends the reading of a partition, unless it has begun anew meanwhile.
    fn end(&self, reader: &Reader, route: &Route) {
        let mut assigned = self.assigned.lock();
        if self.reads(route) && assigned.remove(&route.place()) {
            if let Err(error) = reader.unassign(route) {
                let message = format!("{} is still read: {error}", route.name);
                reader.consumer.context().0.warn("UNFOLLOW", &message);
            }
            self.forget(route);
        }
    }
}

impl Reader {
    fn assign(&self, route: &Route, offset: i64) -> KafkaResult<()> {
        if !self.receive(route) {
            // Its records would come to the consumer's own queue, where nobody takes them.
            return Err(KafkaError::Subscription("its queue cannot be forwarded".to_owned()));
        }
        self.consumer.incremental_assign(&route.list(Offset::Offset(offset))?)
    }

    /// Goes on elsewhere in a partition that is assigned.
    fn seek(&self, route: &Route, offset: i64) -> KafkaResult<()> {
        let sought = self.consumer.seek_partitions(route.list(Offset::Offset(offset))?, SEEK)?;
        sought.elements().iter().try_for_each(|element| element.error())
    }

    fn unassign(&self, route: &Route) -> KafkaResult<()> {
        self.consumer.incremental_unassign(&route.list(Offset::Invalid)?)
    }

    /// Sends the partition's records to our queue; harmless to repeat. False if that cannot be.
    fn receive(&self, route: &Route) -> bool {
        self.records.receive(self.consumer.client(), &route.name, route.partition)
    }
}

impl Route {
    /// A partition that is not read yet.
    pub(crate) fn new(service: u16, topic: Topic, name: String, partition: i32) -> Self {
        Self { service, topic, name, partition, next: Arc::default() }
    }

    /// Whether both are the same reading of a partition.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.next, &other.next)
    }

    /// Whether both stand for the same partition.
    fn is_at(&self, other: &Self) -> bool {
        (self.service, self.topic, self.partition) == (other.service, other.topic, other.partition)
    }

    fn place(&self) -> (String, i32) {
        (self.name.clone(), self.partition)
    }

    /// A list with this partition alone.
    pub(crate) fn list(&self, offset: Offset) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.name, self.partition, offset)?;
        Ok(list)
    }
}

/// librdkafka's view of us.
struct ReplyHooks(Reporter);

impl ClientContext for ReplyHooks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.0.token()
    }
}

impl ConsumerContext for ReplyHooks {}
