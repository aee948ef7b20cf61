//! Sending: one librdkafka producer per client or server, a second one for exact targets as soon
//! as there are any, and the thread that reports their deliveries.
//!
//! `send` copies the value into librdkafka's queue and returns; about a microsecond, half of it
//! for the topic's name, which librdkafka looks up for each record.
//!
//! A report wakes the thread only if it is the first after a pause, or if somebody waits for one
//! ([`krpc_core::transport::Producer::hurry`]): to a call that is alone, such a wake costs more
//! than anything that kRPC does with it. Otherwise whoever reads records serves the reports too
//! ([`Reports`]), and the thread looks every 20 ms.
//!
//! The second producer is idempotent: the broker drops what it stores twice and refuses what comes
//! out of order. That costs a producer id first, up to 500 ms, which nobody else is to wait for.
//!
//! A fatal error (only with idempotence) makes the thread build a new producer, or the next exact
//! record that of exact targets; what the old one held is reported as failed.
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
    transport::{ProducerEvents, Rejected, Target, Topic},
};
use parking_lot::{Condvar, Mutex, RwLock};
use rdkafka::producer::BaseProducer;

use self::native::{Hooks, Native, Natives, Outlet};
use crate::{
    budget::Budget,
    config::Settings,
    events::Reporter,
    wait::{NET, Signal},
};

mod exact;
mod native;

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
    /// After how long an exact record is overdue.
    exact_timeout: Option<Duration>,
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
    natives: Option<Natives>,
    /// Until when there is no exact producer, and why.
    refused: Option<(Instant, Status)>,
    /// Exact records are not taken for a moment.
    pausing: bool,
    /// Each service's topics, by its index; of each topic the name, once it is open.
    names: Vec<[Option<String>; TOPICS]>,
}

/// How many topics a service may have.
const TOPICS: usize = 6;

/// A topic's place among a service's names.
const fn place(topic: Topic) -> usize {
    match topic {
        Topic::Calls => 0,
        Topic::Replies => 1,
        Topic::Results => 2,
        Topic::Dead => 3,
        Topic::Cancels => 4,
        Topic::Delayed => 5,
    }
}

impl KafkaProducer {
    /// A producer and its thread. Does not wait for a broker.
    pub(crate) fn start(
        settings: &Settings,
        events: Arc<dyn ProducerEvents>,
        on_broken: OnBroken,
    ) -> Result<Self, SetupError> {
        let reporter = Arc::new(settings.reporter("producer"));
        let (records, bytes) = settings.queue_limits();
        let outlet = Arc::new(Outlet { events, budget: Budget::new(records, bytes) });
        let signal = Arc::new(Signal::default());
        let properties = settings.producer();
        let plain = Native::connect(settings, &properties, &outlet, &reporter, &signal, false)?;
        let natives = Natives { plain, exact: None };
        let link = Link {
            natives: Some(natives.clone()),
            refused: None,
            pausing: false,
            names: Vec::new(),
        };
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            exact_timeout: settings.exact_timeout(),
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
            let last = broken.link.write().natives.take();
            crate::aside(last);
            broken.end();
            (broken.on_broken)(status);
        };
        crate::spawn("krpc-producer", broken, move || theirs.run(natives))?;
        Ok(Self { shared })
    }

    /// Makes one of a service's topics known, so that it can be sent to.
    pub(crate) fn register(&self, service: u16, topic: Topic, name: &str) {
        let mut link = self.shared.link.write();
        let index = usize::from(service);
        if link.names.len() <= index {
            link.names.resize_with(index + 1, Default::default);
        }
        link.names[index][place(topic)] = Some(name.to_owned());
    }

    /// Queues a record; see [`krpc_core::transport::Producer::send`].
    pub(crate) fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        let shared = &self.shared;
        if target.exact {
            shared.make_exact()?;
        }
        let link = shared.link.read();
        let Some(natives) = &link.natives else { return Err(Rejected::Failed(closed())) };
        let names = link.names.get(usize::from(target.service));
        let name = names.and_then(|names| names[place(target.topic)].as_deref());
        let (Some(name), Ok(partition)) = (name, i32::try_from(target.partition)) else {
            let message = format!("{target:?} is not open");
            return Err(Rejected::Failed(Status::new(Code::InvalidArgument, message)));
        };
        let native = match target.exact {
            // It was taken away just now: the next one is made soon.
            true => natives.exact.as_ref().ok_or(Rejected::Full)?,
            false => &natives.plain,
        };
        native.send(name, partition, payload, token, &shared.outlet.budget)
    }

    /// Has the producer of exact targets made, unless it is there; see
    /// [`krpc_core::transport::Producer::prepare_exact`].
    pub(crate) fn prepare_exact(&self) {
        // Whoever sends is told why it cannot be made.
        drop(self.shared.make_exact());
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
        let link = self.shared.link.read();
        link.natives.as_ref().map(|natives| Arc::clone(&natives.plain.producer))
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
        let Some(natives) = shared.link.read().natives.clone() else { return };
        if natives.serve() > 0 {
            shared.settle(&natives);
        }
        if shared.closing.load(Ordering::Acquire) {
            // Were this the last owner, the drop would block.
            crate::aside(natives);
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
            if link.natives.as_ref().is_some_and(|natives| !natives.is_served()) {
                self.signal.raise();
            }
        }
    }

    /// Nobody waits any more if nothing is in flight. Not before: who hurried may wait for another
    /// report than those that were served.
    fn settle(&self, natives: &Natives) {
        if self.signal.is_hurried() && natives.in_flight() == 0 {
            self.signal.attended();
            if natives.in_flight() > 0 {
                // It was sent meanwhile, and perhaps hurried for.
                self.hurry();
            }
        }
    }

    /// The thread: reports deliveries until it is asked to end.
    fn run(&self, mut natives: Natives) {
        let (mut deadline, mut look) = (None, Instant::now());
        loop {
            self.signal.be_patient();
            if natives.exact.is_none() {
                let link = self.link.read();
                natives.exact = link.natives.as_ref().and_then(|natives| natives.exact.clone());
            }
            let served = natives.serve();
            self.settle(&natives);
            let quiet = served == 0 && natives.in_flight() == 0;
            self.look_after_exact(&mut natives, &mut look);
            if let Some((_, why)) = natives.plain.failure() {
                match self.rebuild(&natives.plain, &why) {
                    Some(fresh) => {
                        crate::aside(std::mem::replace(&mut natives.plain, fresh));
                        continue;
                    }
                    None => break,
                }
            }
            if self.closing.load(Ordering::Acquire) {
                let until = *deadline.get_or_insert_with(|| {
                    // From here on nothing is accepted, so the queue can only shrink. What was
                    // made last is to be flushed as well.
                    let last = self.link.write().natives.take();
                    natives = last.unwrap_or_else(|| natives.clone());
                    Instant::now() + FLUSH
                });
                if natives.in_flight() == 0 || Instant::now() >= until {
                    break;
                }
            }
            let asleep = quiet && self.signal.be_prompt() && natives.is_served();
            self.signal.wait(if asleep { NET } else { PATIENCE });
        }
        drop(self.link.write().natives.take());
        natives.purge(&self.signal);
        self.end();
        // The last owner's drop waits about 100 ms; nobody waits for that here.
        drop(natives);
    }

    /// Puts a new producer in place of one that met a fatal error; none if that cannot be done.
    fn rebuild(&self, old: &Native, why: &str) -> Option<Native> {
        let Self { settings, outlet, reporter, signal, .. } = self;
        reporter.warn("REBUILD", &format!("the producer is built anew after: {why}"));
        let fresh = settings.producer();
        let fresh = Native::connect(settings, &fresh, outlet, reporter, signal, false);
        let fresh = match fresh {
            Ok(fresh) => {
                if let Some(natives) = &mut self.link.write().natives {
                    natives.plain = fresh.clone();
                }
                Some(fresh)
            }
            Err(error) => {
                let last = self.link.write().natives.take();
                crate::aside(last);
                (self.on_broken)(error.to_status());
                None
            }
        };
        // Only now, so that what their reports send again goes to the new one.
        old.purge(&self.signal);
        fresh
    }
}

fn closed() -> Status {
    Status::new(Code::Unavailable, "the producer is closed")
}
