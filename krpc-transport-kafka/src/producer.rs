//! Sending: one librdkafka producer per client or server, and the thread that reports its
//! deliveries.
//!
//! `send` copies the value into librdkafka's queue and returns; about a microsecond, half of it
//! for the topic's name, which librdkafka looks up for each record.
//!
//! A report wakes the thread only if it is the first after a pause, or if somebody waits for one
//! ([`krpc_core::transport::Producer::hurry`]): to a call that is alone, such a wake costs more
//! than anything that kRPC does with it. Otherwise whoever reads records serves the reports too
//! ([`Reports`]), and the thread looks every 20 ms.
//!
//! A fatal error (only with idempotence, which is off unless a property asks for it)
//! makes the thread build a new producer; what the old one held is reported as failed, to be sent
//! again.
//!
//! from: `krpc_core::transport::flush` (a sealed packet)
//! to: `krpc_core::transport::ProducerEvents::delivered` (its fate), and the broker

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    status::{Code, Status},
    transport::{Delivery, ProducerEvents, Rejected, Target, Topic},
};
use parking_lot::{Condvar, Mutex, RwLock};
use rdkafka::{
    ClientContext, Message, Timestamp,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
    },
    types::RDKafkaErrorCode,
};

use crate::{
    budget::Budget,
    config::Settings,
    events::{Reporter, broker_time, send_status},
    queue::Queue,
    wait::{NET, Signal},
};

// A record's token travels through C as a pointer.
const _: () = assert!(usize::BITS >= u64::BITS, "kRPC over Kafka needs a 64-bit target");

/// How long queued records may take to leave when the producer is closed.
const FLUSH: Duration = Duration::from_secs(5);

/// How long reports of purged records are waited for.
const PURGE: Duration = Duration::from_secs(1);

/// How long a report may lie that nobody waits for.
const PATIENCE: Duration = Duration::from_millis(20);

/// What happens when the producer is beyond repair.
type OnBroken = Box<dyn Fn(Status) + Send + Sync>;

/// Sends records and reports their fates.
pub(crate) struct KafkaProducer {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    outlet: Arc<Outlet>,
    on_broken: OnBroken,
    reporter: Arc<Reporter>,
    link: RwLock<Link>,
    signal: Arc<Signal>,
    closing: AtomicBool,
    ended: Mutex<bool>,
    end: Condvar,
}

/// What `send` needs, behind one lock.
struct Link {
    /// Gone when the producer is closed or broken.
    native: Option<Native>,
    /// Each service's topics, by its index.
    names: Vec<Option<Names>>,
}

/// A producer, and the queue that its reports come to.
#[derive(Clone)]
struct Native {
    producer: Arc<BaseProducer<Hooks>>,
    reports: Arc<Queue>,
}

#[derive(Clone, Debug)]
struct Names {
    calls: String,
    replies: String,
}

impl KafkaProducer {
    /// A producer and its thread. Does not wait for a broker.
    pub(crate) fn start(
        settings: &Settings,
        events: Arc<dyn ProducerEvents>,
        on_broken: OnBroken,
    ) -> Result<Self, SetupError> {
        let reporter = Arc::new(Reporter::new("producer"));
        let (records, bytes) = settings.queue_limits();
        let outlet = Arc::new(Outlet { events, budget: Budget::new(records, bytes) });
        let signal = Arc::new(Signal::default());
        let native = Native::connect(settings, &outlet, &reporter, &signal)?;
        let link = Link { native: Some(native.clone()), names: Vec::new() };
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            outlet,
            on_broken,
            reporter,
            link: RwLock::new(link),
            signal,
            closing: AtomicBool::new(false),
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let (theirs, broken) = (Arc::clone(&shared), Arc::clone(&shared));
        let broken = move |status| {
            // The thread's own share is gone, so this may be the last: its drop reports what is
            // queued, and whoever hears that may send, which takes the lock again.
            let last = broken.link.write().native.take();
            crate::aside(last);
            broken.end();
            (broken.on_broken)(status);
        };
        crate::spawn("krpc-producer", broken, move || theirs.run(native))?;
        Ok(Self { shared })
    }

    /// Makes a service's topics known, so that its index can be sent to.
    pub(crate) fn register(&self, service: u16, name: &str) {
        let config = &self.shared.settings.config;
        let names = Names {
            calls: config.topic(name, Topic::Calls),
            replies: config.topic(name, Topic::Replies),
        };
        let mut link = self.shared.link.write();
        let index = usize::from(service);
        if link.names.len() <= index {
            link.names.resize(index + 1, None);
        }
        link.names[index] = Some(names);
    }

    /// Queues a record; see [`krpc_core::transport::Producer::send`].
    pub(crate) fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        let link = self.shared.link.read();
        let Some(native) = &link.native else { return Err(Rejected::Failed(closed())) };
        let names = link.names.get(usize::from(target.service)).and_then(Option::as_ref);
        let (Some(names), Ok(partition)) = (names, i32::try_from(target.partition)) else {
            let message = format!("{target:?} is not open");
            return Err(Rejected::Failed(Status::new(Code::InvalidArgument, message)));
        };
        let topic = match target.topic {
            Topic::Calls => &names.calls,
            Topic::Replies => &names.replies,
            topic => {
                let message = format!("the topic of {} is not open", topic.suffix());
                return Err(Rejected::Failed(Status::new(Code::FailedPrecondition, message)));
            }
        };
        let token = usize::try_from(token).expect("both have 64 bits, as asserted above");
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, token)
            .partition(partition)
            .payload(payload);
        let budget = &self.shared.outlet.budget;
        if !budget.take(payload.len()) {
            return Err(Rejected::Full);
        }
        native.producer.send(record).map_err(|(error, _)| {
            let was_alone = budget.give_back(payload.len());
            rejected(&error, was_alone)
        })
    }

    /// Reports come without delay until nothing is in flight; see
    /// [`krpc_core::transport::Producer::hurry`].
    pub(crate) fn hurry(&self) {
        self.shared.hurry();
    }

    /// A hand that serves reports.
    pub(crate) fn reports(&self) -> Reports {
        Reports(Arc::clone(&self.shared))
    }

    /// The present producer, for asking the brokers; none when closed.
    pub(crate) fn native(&self) -> Option<Arc<BaseProducer<Hooks>>> {
        self.shared.link.read().native.as_ref().map(|native| Arc::clone(&native.producer))
    }

    /// Collects this producer's errors.
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.shared.reporter
    }

    /// Whether the producer is closed or about to be.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    /// Gives queued records up to five seconds to leave, reports the others as failed and ends
    /// the thread. Blocks.
    pub(crate) fn close(&self) {
        self.shared.ask_to_end();
        let until = Instant::now() + FLUSH + PURGE * 2;
        let mut ended = self.shared.ended.lock();
        while !*ended && !self.shared.end.wait_until(&mut ended, until).timed_out() {}
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        // The thread flushes and ends by itself.
        self.shared.ask_to_end();
    }
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProducer").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// Serves a producer's reports where somebody is awake in any case.
pub(crate) struct Reports(Arc<Shared>);

impl Reports {
    /// Passes on the reports that have come.
    pub(crate) fn serve(&self) {
        let shared = &self.0;
        // Not under the lock: whoever hears a report may send.
        let Some(native) = shared.link.read().native.clone() else { return };
        if native.serve() > 0 {
            shared.settle(&native);
        }
        if shared.closing.load(Ordering::Acquire) {
            // Were this the last owner, the drop would block.
            crate::aside(native);
        }
    }
}

impl Shared {
    fn ask_to_end(&self) {
        self.closing.store(true, Ordering::Release);
        self.signal.hurry();
        self.signal.raise();
    }

    fn end(&self) {
        *self.ended.lock() = true;
        self.end.notify_all();
    }

    fn hurry(&self) {
        if self.signal.hurry() {
            let link = self.link.read();
            if link.native.as_ref().is_some_and(|native| native.reports.len() > 0) {
                self.signal.raise();
            }
        }
    }

    /// Nobody waits any more if nothing is in flight. Not before: who hurried may wait for another
    /// report than those that were served.
    fn settle(&self, native: &Native) {
        if self.signal.is_hurried() && native.producer.in_flight_count() == 0 {
            self.signal.attended();
            if native.producer.in_flight_count() > 0 {
                // It was sent meanwhile, and perhaps hurried for.
                self.hurry();
            }
        }
    }

    /// The thread: reports deliveries until it is asked to end.
    fn run(&self, mut native: Native) {
        let mut deadline = None;
        loop {
            self.signal.be_patient();
            let served = native.serve();
            self.settle(&native);
            let quiet = served == 0 && native.producer.in_flight_count() == 0;
            if self.reporter.take_news() && native.producer.client().fatal_error().is_some() {
                match self.rebuild(&native) {
                    Some(fresh) => {
                        crate::aside(std::mem::replace(&mut native, fresh));
                        continue;
                    }
                    None => break,
                }
            }
            if self.closing.load(Ordering::Acquire) {
                let until = *deadline.get_or_insert_with(|| {
                    // From here on nothing is accepted, so the queue can only shrink.
                    self.link.write().native = None;
                    Instant::now() + FLUSH
                });
                if native.producer.in_flight_count() == 0 || Instant::now() >= until {
                    break;
                }
            }
            let asleep = quiet && self.signal.be_prompt() && native.reports.len() == 0;
            self.signal.wait(if asleep { NET } else { PATIENCE });
        }
        self.link.write().native = None;
        native.purge(&self.signal);
        self.end();
        // The last owner's drop waits about 100 ms; nobody waits for that here.
        drop(native);
    }

    /// Puts a new producer in place of one that met a fatal error; none if that cannot be done.
    fn rebuild(&self, old: &Native) -> Option<Native> {
        let why = self.reporter.cause().unwrap_or_else(|| "a fatal error".to_owned());
        self.reporter.warn("REBUILD", &format!("the producer is built anew after: {why}"));
        let fresh = Native::connect(&self.settings, &self.outlet, &self.reporter, &self.signal);
        let fresh = match fresh {
            Ok(fresh) => {
                self.link.write().native = Some(fresh.clone());
                Some(fresh)
            }
            Err(error) => {
                self.link.write().native = None;
                (self.on_broken)(error.to_status());
                None
            }
        };
        // Only now, so that what their reports send again goes to the new one.
        old.purge(&self.signal);
        fresh
    }
}

impl Native {
    fn connect(
        settings: &Settings,
        outlet: &Arc<Outlet>,
        reporter: &Arc<Reporter>,
        signal: &Arc<Signal>,
    ) -> Result<Self, SetupError> {
        let hooks = Hooks { outlet: Arc::clone(outlet), reporter: Arc::clone(reporter) };
        let producer: Arc<BaseProducer<_>> =
            Arc::new(settings.create(&settings.producer(), hooks)?);
        let owner = Arc::clone(&producer);
        let reports = Queue::of_client(producer.client(), owner, Arc::clone(signal));
        Ok(Self { producer, reports: Arc::new(reports) })
    }

    /// Passes on everything that is queued; how many events there were. Each poll handles one; the
    /// signal comes again only after the queue was empty.
    fn serve(&self) -> usize {
        let mut events = 0;
        while self.reports.len() > 0 {
            self.producer.poll(Duration::ZERO);
            events += 1;
        }
        events
    }

    /// Gives up what is queued or in flight and reports it as failed.
    fn purge(&self, signal: &Signal) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        let until = Instant::now() + PURGE;
        loop {
            self.serve();
            let left = until.saturating_duration_since(Instant::now());
            if self.producer.in_flight_count() == 0 || left.is_zero() {
                return;
            }
            signal.wait(left.min(PATIENCE));
        }
    }
}

fn closed() -> Status {
    Status::new(Code::Unavailable, "the producer is closed")
}

/// Why librdkafka did not take a record; `was_alone` says that no report is on its way.
fn rejected(error: &KafkaError, was_alone: bool) -> Rejected {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) if !was_alone => Rejected::Full,
        Some(RDKafkaErrorCode::QueueFull) => {
            let message = "the record is larger than the whole queue";
            Rejected::Failed(Status::new(Code::ResourceExhausted, message).with_retryable(false))
        }
        Some(code) => Rejected::Failed(send_status(code, error.to_string())),
        None => Rejected::Failed(Status::new(Code::InvalidArgument, error.to_string())),
    }
}

/// Where delivery reports go, over all producers that succeed each other.
struct Outlet {
    events: Arc<dyn ProducerEvents>,
    budget: Budget,
}

impl Outlet {
    fn report(&self, token: u64, length: usize, delivery: Delivery<'_>) {
        // First, so that the driver may send from inside the report.
        self.budget.give_back(length);
        self.events.delivered(token, delivery);
    }
}

/// librdkafka's view of us: its words go to the reporter, its delivery reports to the driver.
pub(crate) struct Hooks {
    outlet: Arc<Outlet>,
    reporter: Arc<Reporter>,
}

impl ClientContext for Hooks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporter.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.reporter.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporter.error(error, reason);
    }
}

impl ProducerContext for Hooks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let token = u64::try_from(token).expect("both have 64 bits, as asserted above");
        match result {
            Ok(message) => {
                let appended = match message.timestamp() {
                    Timestamp::LogAppendTime(millis) => broker_time(millis),
                    // The sender's own time says nothing about the broker's clock.
                    Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
                };
                let stored = Delivery::Stored { appended, offset: Some(message.offset()) };
                self.outlet.report(token, message.payload_len(), stored);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                let status = send_status(code, format!("not delivered: {code}"));
                let payload = message.payload().unwrap_or_default();
                self.outlet.report(token, payload.len(), Delivery::Failed { status, payload });
            }
        }
    }
}
