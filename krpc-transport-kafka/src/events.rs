//! librdkafka's logs, errors and statistics, on their way into `tracing`.
//!
//! All of them go to the target `krpc::kafka`. A broker that is down is reported by every client
//! for every try; so each kind of message appears at most once in ten seconds, with the number
//! of those left out. The last error is also kept, because it is the cause that a failed start
//! reports.

use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use krpc_core::{
    status::{Code, Status},
    time::Time,
};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message, client::OAuthToken, config::RDKafkaLogLevel, error::KafkaError,
    message::BorrowedMessage, types::RDKafkaErrorCode,
};

use crate::security::{Fault, Keeper};

/// The `tracing` target of everything that librdkafka says.
pub(crate) const TARGET: &str = "krpc::kafka";

/// How long one kind of message stays quiet after it was shown.
const QUIET: Duration = Duration::from_secs(10);

/// The context of one librdkafka client: passes on what it says, and remembers what was wrong.
#[derive(Debug)]
pub(crate) struct Reporter {
    client: &'static str,
    cause: Mutex<Option<String>>,
    news: AtomicBool,
    denied: Mutex<Option<RDKafkaErrorCode>>,
    fault: Mutex<Option<Fault>>,
    tokens: Option<Arc<Keeper>>,
    limiter: Limiter,
}

impl Reporter {
    /// A reporter for a client of this role, which gets its tokens here, if it needs any.
    pub(crate) fn new(client: &'static str, tokens: Option<Arc<Keeper>>) -> Self {
        Self {
            client,
            cause: Mutex::new(None),
            news: AtomicBool::new(false),
            denied: Mutex::new(None),
            fault: Mutex::new(None),
            tokens,
            limiter: Limiter::default(),
        }
    }

    /// The last error, as a cause for people.
    pub(crate) fn cause(&self) -> Option<String> {
        self.cause.lock().clone()
    }

    /// The last refusal for missing rights.
    pub(crate) fn denied(&self) -> Option<RDKafkaErrorCode> {
        *self.denied.lock()
    }

    /// What was refused before is allowed by now.
    pub(crate) fn allowed(&self) {
        *self.denied.lock() = None;
    }

    /// What no further try mends, seen since a broker last answered. librdkafka says it once in
    /// half a minute, however often it tries.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.lock().clone()
    }

    /// A broker has answered.
    pub(crate) fn answered(&self) {
        *self.fault.lock() = None;
    }

    /// A token for librdkafka.
    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let keeper = self.tokens.as_ref().ok_or("there is no provider of tokens")?;
        // It becomes a text of C's.
        Ok(keeper.token().map_err(|error| error.replace('\0', " "))?)
    }

    /// Whether there was an error since this was last asked. Nothing in the error itself says that
    /// it was fatal: the client must be asked then.
    pub(crate) fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    /// Notes why something must be tried again; an error of librdkafka's says more and stays.
    pub(crate) fn note(&self, kind: &str, cause: &str) {
        self.cause.lock().get_or_insert_with(|| cause.to_owned());
        if let Some(left_out) = self.limiter.admit(kind, Instant::now()) {
            tracing::info!(target: TARGET, client = self.client, kind, left_out, "{cause}");
        }
    }

    /// Warns, unless the same kind was shown just now.
    pub(crate) fn warn(&self, kind: &str, message: &str) {
        if let Some(left_out) = self.limiter.admit(kind, Instant::now()) {
            tracing::warn!(target: TARGET, client = self.client, kind, left_out, "{message}");
        }
    }

    /// Warns of a record that came to a consumer's own queue, where nobody takes it: its partition
    /// was read without being forwarded.
    pub(crate) fn stray(&self, message: &BorrowedMessage<'_>) {
        let (topic, partition) = (message.topic(), message.partition());
        let offset = message.offset();
        self.warn("STRAY", &format!("{topic} [{partition}] at {offset} came astray"));
    }
}

impl ClientContext for Reporter {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.client;
        match level {
            // Said of every setting that only the other kind of client has: no news.
            _ if facility == "CONFWARN" => {
                tracing::debug!(target: TARGET, client, kind = facility, "{message}");
            }
            RDKafkaLogLevel::Debug => {
                tracing::debug!(target: TARGET, client, kind = facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                if let Some(left_out) = self.limiter.admit(facility, Instant::now()) {
                    tracing::info!(target: TARGET, client, kind = facility, left_out, "{message}");
                }
            }
            // librdkafka's errors are lost connections that it re-establishes: warnings here.
            _ => self.warn(facility, message),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics = String::from_utf8_lossy(statistics);
        tracing::debug!(target: TARGET, client = self.client, kind = "STATS", "{statistics}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        self.news.store(true, Ordering::Release);
        if let Some(code) = code.filter(|code| is_unauthorized(*code)) {
            *self.denied.lock() = Some(code);
        }
        if let Some(fault) = Fault::of(code, reason) {
            *self.fault.lock() = Some(fault);
        }
        {
            let mut cause = self.cause.lock();
            // "1/1 brokers are down" says less than the refused connection before it.
            if cause.is_none() || code != Some(RDKafkaErrorCode::AllBrokersDown) {
                *cause = Some(reason.to_owned());
            }
        }
        self.warn(&error.to_string(), reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token()
    }
}

/// Lets one message of a kind through in ten seconds, and counts the others.
#[derive(Debug, Default)]
struct Limiter {
    kinds: Mutex<HashMap<String, (Instant, u64)>>,
}

impl Limiter {
    /// How many of this kind were left out before this one; `None` to leave this one out.
    fn admit(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock();
        match kinds.get_mut(kind) {
            Some((shown, left_out)) if now.saturating_duration_since(*shown) < QUIET => {
                *left_out += 1;
                None
            }
            Some((shown, left_out)) => {
                *shown = now;
                Some(std::mem::take(left_out))
            }
            None => {
                kinds.insert(kind.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

/// A moment of the broker's clock, from its milliseconds.
pub(crate) fn broker_time(millis: i64) -> Option<Time> {
    let micros = u64::try_from(millis).ok()?.checked_mul(1000)?;
    Some(Time::from_micros(micros))
}

/// What a failed send means to the caller: whether the same bytes may succeed later.
pub(crate) fn send_status(code: RDKafkaErrorCode, message: String) -> Status {
    use RDKafkaErrorCode as Kafka;
    match code {
        Kafka::TopicAuthorizationFailed | Kafka::ClusterAuthorizationFailed => {
            Status::new(Code::PermissionDenied, message)
        }
        Kafka::MessageSizeTooLarge | Kafka::InvalidMessageSize => {
            Status::new(Code::ResourceExhausted, message).with_retryable(false)
        }
        Kafka::UnknownTopic | Kafka::UnknownPartition | Kafka::UnknownTopicOrPartition => {
            Status::new(Code::NotFound, message)
        }
        Kafka::InvalidArgument | Kafka::InvalidRecord | Kafka::PolicyViolation => {
            Status::new(Code::InvalidArgument, message)
        }
        // Timeouts, lost connections, moving leaders, too few replicas, a purged queue.
        _ => Status::new(Code::Unavailable, message),
    }
}

/// Whether librdkafka's word means "no rights".
pub(crate) fn is_unauthorized(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_in_ten_seconds_and_the_others_counted() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert_eq!(limiter.admit("FAIL", start), Some(0));
        assert_eq!(limiter.admit("FAIL", start + Duration::from_secs(1)), None);
        assert_eq!(limiter.admit("FAIL", start + Duration::from_secs(9)), None);
        assert_eq!(limiter.admit("OTHER", start), Some(0));
        assert_eq!(limiter.admit("FAIL", start + QUIET), Some(2));
        assert_eq!(limiter.admit("FAIL", start + QUIET * 2), Some(0));
    }

    #[test]
    fn the_cause_is_the_most_telling_error() {
        let reporter = Reporter::new("producer", None);
        assert_eq!(reporter.cause(), None);
        let transport = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        reporter.error(transport, "connection refused");
        reporter.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 are down");
        assert_eq!(reporter.cause().as_deref(), Some("connection refused"));
        assert!(reporter.take_news() && !reporter.take_news());
    }

    #[test]
    fn what_may_be_sent_again() {
        let retryable = |code| send_status(code, String::new()).is_retryable();
        assert!(retryable(RDKafkaErrorCode::MessageTimedOut));
        assert!(retryable(RDKafkaErrorCode::PurgeQueue));
        assert!(!retryable(RDKafkaErrorCode::MessageSizeTooLarge));
        assert!(!retryable(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert!(!retryable(RDKafkaErrorCode::UnknownPartition));
    }

    #[test]
    fn impossible_times_are_none() {
        assert_eq!(broker_time(-1), None);
        assert_eq!(broker_time(i64::MAX), None);
        assert_eq!(broker_time(2), Some(Time::from_micros(2000)));
    }
}
