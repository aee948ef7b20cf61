//! From kRPC's settings to librdkafka's properties, each with the reason for its value.
//!
//! The user's own properties come last and win, except for those that would break a promise
//! ([`validate`]). Figures that the reasons name were measured on two cores over loopback.

use std::{fmt, time::Duration};

use krpc_core::{
    error::SetupError,
    transport::{GroupProtocol, TransportConfig},
};
use rdkafka::{
    ClientConfig, ClientContext,
    client::Client,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
};

use crate::{
    events::{Reporter, TARGET},
    queue,
    security::Secured,
    validate,
};

/// Bytes of a record batch beside the packet: its header, the record's own lengths, and room for
/// brokers that count differently.
pub(crate) const RECORD_OVERHEAD: usize = 1024;

const MAX_MESSAGES: &str = "queue.buffering.max.messages";
const MAX_KBYTES: &str = "queue.buffering.max.kbytes";
const MESSAGE_TIMEOUT: &str = "message.timeout.ms";

/// Properties of every client.
const COMMON: &[(&str, &str)] = &[
    // The interval between two first contacts is half of this, at least 11 ms: with the default
    // of 100 a cold start takes 55 ms instead of 16.
    ("reconnect.backoff.ms", "10"),
    // A broker that is back is used again within a second.
    ("reconnect.backoff.max.ms", "1000"),
    // A request to a broker that hangs is given up after this; the default is a minute.
    ("socket.timeout.ms", "5000"),
    ("socket.keepalive.enable", "true"),
    // A small request behind a large one must not wait for its acknowledgement, up to 40 ms: with
    // half of the peak's calls, p99 was 11 to 35 ms instead of 11 to 19.
    ("socket.nagle.disable", "true"),
    // How soon a lost leader is looked for again.
    ("topic.metadata.refresh.fast.interval.ms", "20"),
    // Finds a new leader that nobody announced: librdkafka has no faster pace for failures only.
    ("topic.metadata.refresh.interval.ms", "1000"),
    // A topic that was created just now may be unknown to a broker this long.
    ("topic.metadata.propagation.max.ms", "5000"),
    // Topics are created with the right settings by the admin client, or not at all.
    ("allow.auto.create.topics", "false"),
    // Idle connections are closed by brokers every ten minutes: no news.
    ("log.connection.close", "false"),
];

/// Properties of producers.
const PRODUCER: &[(&str, &str)] = &[
    // Packing is clocked by delivery reports; waiting here would only add to it.
    ("queue.buffering.max.ms", "0"),
    ("request.required.acks", "all"),
    // Lanes keep at most two packets in flight each, so order does not need 1; batches fill by
    // themselves.
    ("max.in.flight.requests.per.connection", "5"),
    // Its producer id costs 500 ms in half of the starts; duplicates are dropped by packet
    // sequence anyway.
    ("enable.idempotence", "false"),
    // After this a record is reported as failed and its lane moves on.
    (MESSAGE_TIMEOUT, "30000"),
    // With 50 instead of 200 a failover is over about a second earlier.
    ("retry.backoff.ms", "20"),
    ("retry.backoff.max.ms", "50"),
    // The lanes bound what is queued; these are a net, and what they refuse is tried again.
    (MAX_MESSAGES, "500000"),
    (MAX_KBYTES, "262144"),
];

/// Properties of consumers.
const CONSUMER: &[(&str, &str)] = &[
    // A broker answers a waiting fetch at once when there is something; this only delays a new
    // assignment, and below 100 costs CPU when idle (0.94 % of a core at 10).
    ("fetch.wait.max.ms", "100"),
    ("fetch.min.bytes", "1"),
    // The default of 1,000 stalls a partition for a second whenever the prefetch is full.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "50"),
    // The prefetch is what is lost to others when a server is slow: keep it small.
    ("queued.min.messages", "1000"),
    ("queued.max.messages.kbytes", "16384"),
    // Offsets are committed by the ledger, with its map, and by nobody else.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // kRPC writes no transactions; with the default a stranger's open one would stall readers.
    ("isolation.level", "read_uncommitted"),
];

/// Other names of properties that are set above: so that the user's value replaces ours.
const ALIASES: &[(&str, &str)] = &[
    ("linger.ms", "queue.buffering.max.ms"),
    ("acks", "request.required.acks"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
];

/// Checked settings of one endpoint.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The brokers.
    pub(crate) bootstrap: String,
    /// kRPC's settings.
    pub(crate) config: TransportConfig,
    /// Whether the broker is librdkafka's mock cluster.
    pub(crate) embedded: bool,
    /// TLS and SASL; nothing for the mock cluster, which is in this process.
    secured: Secured,
}

impl Settings {
    /// Checks every setting that can be checked without a broker.
    pub(crate) fn new(
        bootstrap: String,
        config: TransportConfig,
        embedded: bool,
    ) -> Result<Self, SetupError> {
        validate::check(&config)?;
        let secured = match embedded {
            true => Secured::default(),
            false => Secured::new(&bootstrap, &config.security)?,
        };
        let settings = Self { bootstrap, config, embedded, secured };
        let all = [settings.producer(), settings.replies(), settings.worker("check")];
        for client in &all {
            client.create_native_config().map_err(|error| settings.refused(&error))?;
        }
        Ok(settings)
    }

    /// The producer's properties. Its queue gets twice the room that [`Settings::queue_limits`]
    /// grants: librdkafka counts a record until its report has been served, we until it begins.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut client = self.client("krpc-producer", &[PRODUCER]);
        for name in [MAX_MESSAGES, MAX_KBYTES] {
            // What is no number is left for librdkafka to refuse.
            if let Some(limit) = client.get(name).and_then(|text| text.parse::<u32>().ok()) {
                client.set(name, limit.saturating_mul(2).min(i32::MAX.unsigned_abs()).to_string());
            }
        }
        client
    }

    /// The properties of the producer for records that are stored once at most, in order.
    ///
    /// No record expires in it: librdkafka goes on with a new producer id then, under which a
    /// record that was sent before may be stored again. See [`Settings::exact_timeout`].
    pub(crate) fn exact(&self) -> ClientConfig {
        const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";
        let mut client = self.producer();
        // librdkafka refuses it together with these at other values, which may do for the rest.
        client.set(MESSAGE_TIMEOUT, "0");
        client.set("enable.idempotence", "true");
        client.set("request.required.acks", "all");
        client.remove("queuing.strategy");
        if client.get(IN_FLIGHT).and_then(|most| most.parse::<u32>().ok()).is_none_or(|it| it > 5) {
            client.set(IN_FLIGHT, "5");
        }
        for retries in ["retries", "message.send.max.retries"] {
            client.remove(retries);
        }
        client
    }

    /// After how long a record of [`Settings::exact`] is given up, with all others; `None` if
    /// never.
    pub(crate) fn exact_timeout(&self) -> Option<Duration> {
        let client = self.client("krpc-producer", &[PRODUCER]);
        let millis = client.get(MESSAGE_TIMEOUT).and_then(|text| text.parse().ok());
        millis.filter(|millis| *millis > 0).map(Duration::from_millis)
    }

    /// How many records, and how many bytes of them, may be on their way at a time.
    pub(crate) fn queue_limits(&self) -> (u64, u64) {
        let client = self.client("krpc-producer", &[PRODUCER]);
        let number = |name| client.get(name).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
        let messages = match number(MAX_MESSAGES) {
            // librdkafka's word for no limit.
            0 => u64::MAX,
            messages => messages,
        };
        (messages, number(MAX_KBYTES).saturating_mul(1024))
    }

    /// The properties of a client that only creates and describes topics.
    pub(crate) fn admin(&self) -> ClientConfig {
        self.client("krpc-admin", &[])
    }

    /// The reply consumer's properties: assigned by hand, member of no group.
    pub(crate) fn replies(&self) -> ClientConfig {
        let mut client = self.client("krpc-replies", &[CONSUMER]);
        // librdkafka wants a name even for a consumer that never joins.
        client.set("group.id", "krpc-replies");
        // Replies are read from a concrete offset; silently starting elsewhere would lose some.
        client.set("auto.offset.reset", "error");
        self.finish(client)
    }

    /// The properties of a consumer that only asks what a group has committed.
    pub(crate) fn watcher(&self, group: &str) -> ClientConfig {
        let mut client = self.replies();
        client.set("group.id", group);
        client
    }

    /// The properties of a service's worker.
    pub(crate) fn worker(&self, service: &str) -> ClientConfig {
        let mut client = self.client("krpc-worker", &[CONSUMER]);
        client.set("group.id", self.config.group(service));
        // Calls that wait are to be served, also by the first server there ever was.
        client.set("auto.offset.reset", "earliest");
        match self.group_protocol() {
            GroupProtocol::Classic => {
                // A member that keeps its partitions goes on working through a rebalance.
                client.set("partition.assignment.strategy", "cooperative-sticky");
                client.set("session.timeout.ms", millis(self.config.session_timeout));
                client.set("heartbeat.interval.ms", millis(self.config.heartbeat_interval));
            }
            // The broker sets session and heartbeat; librdkafka refuses them here.
            GroupProtocol::Consumer => {
                client.set("group.protocol", "consumer");
            }
        }
        self.finish(client)
    }

    /// What a refusal by librdkafka means, by the name of the property.
    pub(crate) fn refused(&self, error: &KafkaError) -> SetupError {
        let (name, value, reason) = match error {
            KafkaError::ClientConfig(_, reason, name, value) => {
                (name.as_str(), value.as_str(), reason)
            }
            KafkaError::ClientCreation(reason) => {
                let named = self.config.properties.iter().find(|(name, _)| reason.contains(name));
                match (named, self.secured.named(reason)) {
                    (Some((name, value)), _) => (name.as_str(), value.as_str(), reason),
                    (None, Some((name, value))) => (name, value, reason),
                    (None, None) => return SetupError::Transport(reason.clone()),
                }
            }
            other => return SetupError::Transport(other.to_string()),
        };
        validate::invalid(name, value, reason)
    }

    /// Creates a client of librdkafka.
    pub(crate) fn create<C, T>(&self, client: &ClientConfig, context: C) -> Result<T, SetupError>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        client.create_with_context(context).map_err(|error| self.refused(&error))
    }

    /// What collects the words of a client of this role: `producer`, `worker`, `replies`, `admin`.
    pub(crate) fn reporter(&self, client: &'static str) -> Reporter {
        Reporter::new(client, self.secured.tokens.clone())
    }

    /// Gives a client its token, if it needs one, before librdkafka asks for it: where nobody polls
    /// yet, or ever.
    pub(crate) fn give_token<C: ClientContext>(&self, client: &Client<C>) -> Result<(), String> {
        let Some(keeper) = &self.secured.tokens else { return Ok(()) };
        queue::set_token(client, &keeper.token()?)
    }

    fn group_protocol(&self) -> GroupProtocol {
        match self.embedded {
            // The mock's classic groups always wait 3 s for more members.
            true => GroupProtocol::Consumer,
            false => self.config.group_protocol,
        }
    }

    fn client(&self, id: &str, tables: &[&[(&str, &str)]]) -> ClientConfig {
        let mut client = ClientConfig::new();
        for (name, value) in COMMON.iter().chain(tables.iter().copied().flatten()) {
            client.set(*name, *value);
        }
        self.secured.apply(&mut client);
        client.set("bootstrap.servers", &self.bootstrap);
        client.set("client.id", id);
        // librdkafka raises its fetch and receive limits to fit this.
        client
            .set("message.max.bytes", (self.config.max_packet_bytes + RECORD_OVERHEAD).to_string());
        if self.embedded && id != "krpc-producer" && id != "krpc-admin" {
            // The mock does not wake a waiting fetch when data comes: this is its latency.
            client.set("fetch.wait.max.ms", "5");
        }
        client.set_log_level(match tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            true => RDKafkaLogLevel::Debug,
            false => RDKafkaLogLevel::Info,
        });
        self.finish(client)
    }

    /// Lays the user's properties over ours.
    fn finish(&self, mut client: ClientConfig) -> ClientConfig {
        for (name, value) in &self.config.properties {
            let ours = ALIASES.iter().find(|(alias, _)| alias == name);
            client.set(ours.map_or(name.as_str(), |(_, name)| *name), value);
        }
        client
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The properties hold passwords: their names only.
        let names: Vec<_> = self.config.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Settings")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn with(change: impl FnOnce(&mut TransportConfig)) -> Result<Settings, SetupError> {
        let mut config = TransportConfig::default();
        change(&mut config);
        Settings::new("localhost:9092".to_owned(), config, false)
    }

    fn refused(change: impl FnOnce(&mut TransportConfig)) -> String {
        match with(change).unwrap_err() {
            SetupError::InvalidConfig { name, .. } => name,
            other => panic!("{other}"),
        }
    }

    fn property(name: &str, value: &str) -> impl FnOnce(&mut TransportConfig) {
        let property = (name.to_owned(), value.to_owned());
        move |config| config.properties.push(property)
    }

    #[test]
    fn the_defaults_are_taken_by_librdkafka() {
        let settings = with(|_| ()).unwrap();
        for client in [settings.producer(), settings.replies(), settings.worker("a.B")] {
            assert!(client.create_native_config().is_ok());
        }
        assert_eq!(settings.worker("a.B").get("group.id"), Some("krpc.a.B"));
    }

    #[test]
    fn the_users_properties_win_under_any_name() {
        let settings = with(property("linger.ms", "7")).unwrap();
        assert_eq!(settings.producer().get("queue.buffering.max.ms"), Some("7"));
        assert_eq!(settings.producer().get("linger.ms"), None);
        let settings = with(property("auto.offset.reset", "latest")).unwrap();
        assert_eq!(settings.worker("a").get("auto.offset.reset"), Some("latest"));
    }

    #[test]
    fn librdkafkas_queue_is_twice_ours() {
        let settings = with(property("queue.buffering.max.messages", "100")).unwrap();
        assert_eq!(settings.queue_limits(), (100, 256 * 1024 * 1024));
        assert_eq!(settings.producer().get("queue.buffering.max.messages"), Some("200"));
        let settings = with(property("queue.buffering.max.messages", "0")).unwrap();
        assert_eq!(settings.queue_limits().0, u64::MAX);
        assert_eq!(settings.producer().get("queue.buffering.max.messages"), Some("0"));
        assert_eq!(refused(property("queue.buffering.max.kbytes", "-1")), MAX_KBYTES);
    }

    #[test]
    fn exact_records_are_idempotent_and_never_expire_alone() {
        for (name, value) in [("acks", "1"), ("max.in.flight", "1000"), ("retries", "0")] {
            let exact = with(property(name, value)).unwrap().exact();
            assert_eq!(exact.get("enable.idempotence"), Some("true"));
            assert_eq!(exact.get("request.required.acks"), Some("all"));
            assert_eq!(exact.get("max.in.flight.requests.per.connection"), Some("5"));
            assert_eq!((exact.get("retries"), exact.get(MESSAGE_TIMEOUT)), (None, Some("0")));
        }
        let timeout = |value| with(property("delivery.timeout.ms", value)).unwrap().exact_timeout();
        assert_eq!(timeout("7000"), Some(Duration::from_secs(7)));
        assert_eq!(timeout("0"), None);
    }

    #[test]
    fn refused_properties_are_named() {
        assert_eq!(refused(property("no.such.property", "1")), "no.such.property");
        assert_eq!(refused(property("fetch.wait.max.ms", "soon")), "fetch.wait.max.ms");
        assert_eq!(refused(property("enable.auto.commit", "true")), "enable.auto.commit");
        assert_eq!(refused(property("bootstrap.servers", "x:1")), "bootstrap.servers");
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let settings = with(property("sasl.password", "hush")).unwrap();
        let text = format!("{settings:?}");
        assert!(text.contains("sasl.password") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn the_new_group_protocol_sets_nothing_it_forbids() {
        let settings = with(|config| config.group_protocol = GroupProtocol::Consumer).unwrap();
        let worker = settings.worker("a");
        for name in ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"]
        {
            assert_eq!(worker.get(name), None);
        }
    }
}
