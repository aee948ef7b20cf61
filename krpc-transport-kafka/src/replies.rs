//! The inbox of a client: reads one reply partition for each service.
//!
//! One consumer for all services, assigned by hand and member of no group. A partition is assigned
//! at the concrete offset that was its end **before** anything was sent, so no reply can be
//! missed; and nothing is ever read from elsewhere without a warning.
//!
//! The reader is a task, not a thread: the worker that librdkafka wakes goes on with the caller,
//! whose call has just ended.
//!
//! from: the replies topics
//! to: `krpc_core::transport::ClientEvents::arrived`

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    status::{Code, Status},
    transport::{ClientEvents, Topic},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use tokio::{
    runtime::Handle,
    task::{spawn_blocking, yield_now},
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::Settings,
    events::{Reporter, is_unauthorized},
    producer::Reports,
    queue::{Queue, Taken},
    topics::Setup,
    wait::{Listener, NET, Signal, Waiter},
};

/// How long one question for a partition's end may take.
const WATERMARKS: Duration = Duration::from_secs(1);

/// Records passed on before the callers whose calls they ended get on.
const RECORDS: usize = 4;

/// Reads replies in a task of its own.
pub(crate) struct Inbox {
    shared: Arc<Shared>,
    /// Gone when the inbox is stopped.
    reader: Mutex<Option<Reader>>,
    /// What becomes the task at the first opening, in the opener's runtime.
    task: Mutex<Option<(Task, Waiter)>>,
}

/// A reply partition that is read.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The service's index.
    pub(crate) service: u16,
    /// Its replies topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: i32,
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
    events: Arc<dyn ClientEvents>,
    routes: Mutex<Arc<Vec<Route>>>,
    /// Held from the last look for a route until it is read: of two opens of a service, of which
    /// one may be given up already, the second adopts the route of the first.
    opening: Mutex<()>,
    signal: Arc<Signal>,
    stopping: AtomicBool,
    /// How often reading went on elsewhere because the offset was gone.
    resets: AtomicU64,
}

impl Inbox {
    /// A consumer; nothing is read yet. `reports` are served when replies have come.
    pub(crate) fn new(
        settings: &Settings,
        events: Arc<dyn ClientEvents>,
        reports: Reports,
    ) -> Result<Self, SetupError> {
        let (signal, waiter) = Signal::of_task()?;
        let hooks = ReplyHooks(Reporter::new("replies"));
        let consumer: Arc<ReplyConsumer> = Arc::new(settings.create(&settings.replies(), hooks)?);
        let shared = Arc::new(Shared {
            events,
            routes: Mutex::default(),
            opening: Mutex::default(),
            signal,
            stopping: AtomicBool::new(false),
            resets: AtomicU64::new(0),
        });
        let client = consumer.client();
        // One signal for both queues: the task serves the consumer's events as well.
        let own = Queue::of_consumer(client, Arc::clone(&consumer), Arc::clone(&shared.signal));
        let records = Queue::private(client, Arc::clone(&consumer), Arc::clone(&shared.signal));
        let reader = Reader { records: Arc::new(records), consumer: Arc::clone(&consumer) };
        let task = Task {
            shared: Arc::clone(&shared),
            read: Some((reader.clone(), own)),
            reports,
            next: HashMap::new(),
            lost: Vec::new(),
            broken: false,
        };
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

    /// What is read for a service.
    pub(crate) fn route(&self, service: u16) -> Option<Route> {
        self.shared.routes.lock().iter().find(|route| route.service == service).cloned()
    }

    /// Begins to read a partition at its present end, unless the service has another by now;
    /// returns which is read.
    pub(crate) fn read(&self, setup: &Setup<'_>, route: Route) -> Result<Route, SetupError> {
        let Some(reader) = self.reader.lock().clone() else { return Err(SetupError::Closed) };
        let end = loop {
            let timeout = setup.left()?.min(WATERMARKS);
            let began = Instant::now();
            match reader.consumer.fetch_watermarks(&route.topic, route.partition, timeout) {
                Ok((_, end)) => break end,
                Err(error) => match error.rdkafka_error_code() {
                    Some(code) if is_unauthorized(code) => {
                        return Err(SetupError::Unauthorized {
                            action: "read".to_owned(),
                            resource: route.topic.clone(),
                            cause: code.to_string(),
                        });
                    }
                    _ => setup.retry("WATERMARKS", &error.to_string(), began),
                },
            }
        };
        // Not during the questions above: opens of other services need not wait for them.
        let _opening = self.shared.opening.lock();
        if let Some(theirs) = self.route(route.service) {
            return Ok(theirs);
        }
        // Known before its first record can come.
        Arc::make_mut(&mut *self.shared.routes.lock()).push(route.clone());
        match reader.assign(&route, end) {
            Ok(()) => Ok(route),
            Err(error) => {
                let service = route.service;
                Arc::make_mut(&mut *self.shared.routes.lock()).retain(|one| one.service != service);
                Err(SetupError::Transport(format!("{} cannot be assigned: {error}", route.topic)))
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

impl Reader {
    fn assign(&self, route: &Route, offset: i64) -> KafkaResult<()> {
        if !self.receive(route) {
            // Its records would come to the consumer's own queue, where nobody takes them.
            return Err(KafkaError::Subscription("its queue cannot be forwarded".to_owned()));
        }
        self.consumer.incremental_assign(&route.list(Offset::Offset(offset))?)
    }

    /// Sends the partition's records to our queue; harmless to repeat. False if that cannot be.
    fn receive(&self, route: &Route) -> bool {
        self.records.receive(self.consumer.client(), &route.topic, route.partition)
    }

    /// Goes on where something is left to read: the offset that was asked for is not there.
    fn restart(&self, route: &Route, next: Option<i64>) -> KafkaResult<i64> {
        let watermarks =
            self.consumer.fetch_watermarks(&route.topic, route.partition, WATERMARKS)?;
        let offset = match watermarks {
            // Retention overtook us: what is left has not been read.
            (low, _) if next.is_some_and(|next| next < low) => low,
            // The log was cut or made anew: what is there may have been read before.
            (_, end) => end,
        };
        self.consumer.incremental_unassign(&route.list(Offset::Invalid)?)?;
        self.assign(route, offset)?;
        Ok(offset)
    }
}

impl Route {
    fn list(&self, offset: Offset) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.topic, self.partition, offset)?;
        Ok(list)
    }
}

/// The reader of all replies.
struct Task {
    shared: Arc<Shared>,
    /// With the consumer's own queue; gone when the task ends.
    read: Option<(Reader, Queue)>,
    reports: Reports,
    /// The offset after the last record of each service.
    next: HashMap<u16, i64>,
    /// What must be read from elsewhere.
    lost: Vec<Route>,
    broken: bool,
}

impl Task {
    /// Passes on replies until the client is closed.
    async fn run(mut self, mut listener: Listener) {
        let mut tick = interval(NET);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let lost = self.lost.len();
            let more = self.pass_on();
            if self.lost.len() > lost {
                self.restart().await;
            }
            if more {
                // After the callers, whose next calls are to go on.
                yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                () = listener.raised() => self.serve(false),
                _ = tick.tick() => {
                    self.serve(true);
                    self.restart().await;
                }
            }
        }
    }

    /// Passes on what has come; whether there is more.
    fn pass_on(&mut self) -> bool {
        let Self { shared, read: Some((reader, _)), next, lost, .. } = self else { return false };
        let routes = Arc::clone(&shared.routes.lock());
        let taken =
            reader.records.take(RECORDS, |taken| match (find(&routes, &taken), taken.error) {
                (Some(route), None) => {
                    next.insert(route.service, taken.offset + 1);
                    if let Some(record) = crate::record(route.service, Topic::Replies, &taken) {
                        shared.events.arrived(record);
                    }
                }
                (Some(route), Some(RDKafkaErrorCode::AutoOffsetReset)) => lost.push(route.clone()),
                (_, error) => shared.unexpected(&reader.consumer, &taken, error),
            });
        if taken > 0 {
            // The calls of these replies were delivered: their reports need not wake anybody.
            self.reports.serve();
        }
        reader.records.len() > 0
    }

    /// Reads lost routes from where they can be read; one that cannot be is tried again.
    async fn restart(&mut self) {
        for route in std::mem::take(&mut self.lost) {
            let Some((reader, _)) = &self.read else { return };
            let (shared, reader) = (Arc::clone(&self.shared), reader.clone());
            let next = self.next.get(&route.service).copied();
            let tried = spawn_blocking(move || {
                let done = shared.restarted(&reader, &route, next);
                (done, route)
            });
            if let Ok((false, route)) = tried.await {
                self.lost.push(route);
            }
        }
    }

    /// Serves what the consumer has to say, and now and then looks whether all is as it should be.
    fn serve(&mut self, tick: bool) {
        let Some((reader, own)) = &self.read else { return };
        if tick {
            // A restart stops the partition in the background, and that takes its forwarding
            // away; seldom after it was set again.
            let routes = Arc::clone(&self.shared.routes.lock());
            for route in routes.iter().filter(|route| !reader.receive(route)) {
                let message = format!("{} [{}] is not forwarded", route.topic, route.partition);
                reader.consumer.context().0.warn("FORWARD", &message);
            }
        }
        if (tick || own.len() > 0) && self.shared.serve(reader, own) && !self.broken {
            self.broken = true;
            let message = "the reply consumer met a fatal error";
            self.shared.events.broken(Status::new(Code::Unavailable, message));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The drop of a consumer blocks.
        crate::aside(self.read.take());
        if !self.shared.stopping.load(Ordering::Acquire) {
            let message = match std::thread::panicking() {
                true => "the reader of replies panicked",
                false => "the runtime in which the channel was opened has ended",
            };
            self.shared.events.broken(Status::new(Code::Unavailable, message));
        }
    }
}

impl Shared {
    /// Serves errors, logs and statistics; one event for each call. True if the consumer failed.
    fn serve(&self, reader: &Reader, own: &Queue) -> bool {
        let mut failed = false;
        loop {
            match reader.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => reader.consumer.context().0.stray(&message),
                Some(Err(_)) => failed = true,
                None => (),
            }
            if own.len() == 0 || self.stopping.load(Ordering::Acquire) {
                return failed && reader.consumer.client().fatal_error().is_some();
            }
        }
    }

    fn restarted(&self, reader: &Reader, route: &Route, next: Option<i64>) -> bool {
        let reporter = &reader.consumer.context().0;
        let Route { topic, partition, .. } = route;
        match reader.restart(route, next) {
            Ok(offset) => {
                let times = self.resets.fetch_add(1, Ordering::Relaxed) + 1;
                let message = format!(
                    "{topic} [{partition}] is no longer there from {next:?} on: reading goes on \
                     at {offset}, replies may be lost ({times} times so far)"
                );
                reporter.warn("RESET", &message);
                true
            }
            Err(error) => {
                reporter.warn("RESET", &format!("{topic} [{partition}]: {error}"));
                self.stopping.load(Ordering::Acquire)
            }
        }
    }

    fn unexpected(
        &self,
        consumer: &ReplyConsumer,
        taken: &Taken<'_>,
        error: Option<RDKafkaErrorCode>,
    ) {
        let topic = String::from_utf8_lossy(taken.topic);
        let (kind, text) = match error {
            Some(code) => (code.to_string(), String::from_utf8_lossy(taken.payload)),
            None => ("STRAY".to_owned(), "a record of a topic that is not open".into()),
        };
        consumer.context().0.warn(&kind, &format!("{topic} [{}]: {text}", taken.partition));
    }
}

fn find<'a>(routes: &'a [Route], taken: &Taken<'_>) -> Option<&'a Route> {
    routes
        .iter()
        .find(|route| route.partition == taken.partition && route.topic.as_bytes() == taken.topic)
}

/// librdkafka's view of us.
struct ReplyHooks(Reporter);

impl ClientContext for ReplyHooks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ConsumerContext for ReplyHooks {}
