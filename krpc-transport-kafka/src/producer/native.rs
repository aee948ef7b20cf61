//! Producers of librdkafka's, and where their delivery reports go.
//!
//! from: [`super::KafkaProducer`] (records)
//! to: the broker, and `krpc_core::transport::ProducerEvents::delivered`

use std::{
    collections::HashMap,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    status::{Code, Status},
    transport::{Delivery, ProducerEvents, Rejected},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message, Timestamp,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
    },
    types::RDKafkaErrorCode,
};

use super::{PATIENCE, PURGE};
use crate::{
    budget::Budget,
    config::Settings,
    events::{Reporter, broker_time, is_unauthorized, send_status},
    queue::Queue,
    wait::Signal,
};

// A record's token travels through C as a pointer.
const _: () = assert!(usize::BITS >= u64::BITS, "kRPC over Kafka needs a 64-bit target");

/// The producers of one client or server.
#[derive(Clone)]
pub(super) struct Natives {
    /// For all that may be stored twice.
    pub(super) plain: Native,
    /// For all that may not; once it is needed.
    pub(super) exact: Option<Native>,
}

/// A producer, and the queue that its reports come to.
#[derive(Clone)]
pub(super) struct Native {
    pub(super) producer: Arc<BaseProducer<Hooks>>,
    reports: Arc<Queue>,
    made: Instant,
}

impl Natives {
    fn all(&self) -> impl Iterator<Item = &Native> {
        std::iter::once(&self.plain).chain(&self.exact)
    }

    /// Passes on everything that is queued; how many events there were.
    pub(super) fn serve(&self) -> usize {
        self.all().map(Native::serve).sum()
    }

    /// Records whose report has not been passed on.
    pub(super) fn in_flight(&self) -> usize {
        self.all()
            .map(|native| usize::try_from(native.producer.in_flight_count()).unwrap_or(0))
            .sum()
    }

    /// Whether nothing is queued that could be passed on.
    pub(super) fn is_served(&self) -> bool {
        self.all().all(|native| native.reports.len() == 0)
    }

    /// Gives up what is queued or in flight and reports it as failed.
    pub(super) fn purge(&self, signal: &Signal) {
        self.all().for_each(|native| native.purge(signal));
    }
}

impl Native {
    /// A producer with these properties. Does not wait for a broker. It notes since when each
    /// record is under way, if `noting`.
    pub(super) fn connect(
        settings: &Settings,
        properties: &ClientConfig,
        outlet: &Arc<Outlet>,
        reporter: &Arc<Reporter>,
        signal: &Arc<Signal>,
        noting: bool,
    ) -> Result<Self, SetupError> {
        let (outlet, reporter) = (Arc::clone(outlet), Arc::clone(reporter));
        let hooks = Hooks { outlet, reporter, since: noting.then(Mutex::default) };
        let producer: Arc<BaseProducer<_>> = Arc::new(settings.create(properties, hooks)?);
        let owner = Arc::clone(&producer);
        let reports = Queue::of_client(producer.client(), owner, Arc::clone(signal));
        Ok(Self { producer, reports: Arc::new(reports), made: Instant::now() })
    }

    /// Queues a record.
    pub(super) fn send(
        &self,
        topic: &str,
        partition: i32,
        payload: &[u8],
        token: u64,
        budget: &Budget,
    ) -> Result<(), Rejected> {
        let token = usize::try_from(token).expect("both have 64 bits, as asserted above");
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, token)
            .partition(partition)
            .payload(payload);
        if !budget.take(payload.len()) {
            return Err(Rejected::Full);
        }
        let since = &self.producer.context().since;
        if let Some(since) = since {
            // Before its report can come.
            since.lock().insert(token, Instant::now());
        }
        self.producer.send(record).map_err(|(error, _)| {
            if let Some(since) = since {
                since.lock().remove(&token);
            }
            let was_alone = budget.give_back(payload.len());
            rejected(&error, was_alone)
        })
    }

    /// Passes on everything that is queued; how many events there were. Each poll handles one; the
    /// signal comes again only after the queue was empty.
    pub(super) fn serve(&self) -> usize {
        let mut events = 0;
        while self.reports.len() > 0 {
            self.producer.poll(Duration::ZERO);
            events += 1;
        }
        events
    }

    /// Why it can do nothing any more, if it met a fatal error since this was last asked.
    pub(super) fn failure(&self) -> Option<(RDKafkaErrorCode, String)> {
        if !self.reporter().take_news() {
            return None;
        }
        self.producer.client().fatal_error()
    }

    /// What collects its errors.
    pub(super) fn reporter(&self) -> &Reporter {
        &self.producer.context().reporter
    }

    /// How many of the records that it notes have been under way for less than this, and how many
    /// longer.
    pub(super) fn ages(&self, limit: Duration) -> (usize, usize) {
        let Some(since) = &self.producer.context().since else { return (0, 0) };
        let (since, now) = (since.lock(), Instant::now());
        let older = since.values().filter(|sent| now.saturating_duration_since(**sent) >= limit);
        let older = older.count();
        (since.len() - older, older)
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Gives up what is queued or in flight and reports it as failed.
    pub(super) fn purge(&self, signal: &Signal) {
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

/// Where delivery reports go, over all producers of a client or server.
pub(super) struct Outlet {
    pub(super) events: Arc<dyn ProducerEvents>,
    pub(super) budget: Budget,
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
    /// Since when each record is under way, by its token.
    since: Option<Mutex<HashMap<usize, Instant>>>,
}

impl ClientContext for Hooks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporter.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.reporter.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporter.error(error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.reporter.token()
    }
}

impl ProducerContext for Hooks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        if let Some(since) = &self.since {
            since.lock().remove(&token);
        }
        let token = u64::try_from(token).expect("both have 64 bits, as asserted above");
        match result {
            Ok(message) => {
                let appended = match message.timestamp() {
                    Timestamp::LogAppendTime(millis) => broker_time(millis),
                    // The sender's own time says nothing about the broker's clock.
                    Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
                };
                // Without a number if the broker had it already and does not say where.
                let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                let stored = Delivery::Stored { appended, offset };
                self.outlet.report(token, message.payload_len(), stored);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                let topic = message.topic();
                let status = send_status(
                    code,
                    match is_unauthorized(code) {
                        true => format!("not authorized to write {topic}: {code}"),
                        false => format!("not delivered to {topic}: {code}"),
                    },
                );
                let payload = message.payload().unwrap_or_default();
                self.outlet.report(token, payload.len(), Delivery::Failed { status, payload });
            }
        }
    }
}
