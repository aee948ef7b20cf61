//! What every transport needs to know, with its defaults.

use std::{fmt, time::Duration};

use super::{Security, Topic};
use crate::{delay, wire};

/// Partitions of a results topic: whoever waits for one answer reads along a fourth of them.
const RESULT_PARTITIONS: u32 = 4;

/// What every transport needs to know; the façade fills it from the builder and `KRPC_*`.
#[derive(Clone)]
pub struct TransportConfig {
    /// Put before every topic and group name, followed by a dot; empty for none.
    pub prefix: String,
    /// Partitions of a calls topic that is created here.
    pub call_partitions: u32,
    /// Partitions that a calls topic must have to be adopted.
    pub min_call_partitions: u32,
    /// Partitions of a replies topic that is created here.
    pub reply_partitions: u32,
    /// Retention of a calls topic that is created here, and of its cancels.
    pub calls_retention: Duration,
    /// Retention of a replies topic that is created here.
    pub replies_retention: Duration,
    /// Retention of a results topic that is created here: how long an answer can be fetched.
    pub results_retention: Duration,
    /// Retention of a topic of dead letters that is created here.
    pub dead_retention: Duration,
    /// Retention of a topic of delayed calls that is created here.
    pub delayed_retention: Duration,
    /// Replication factor of topics created here; `None` for the broker's default.
    pub replication: Option<u16>,
    /// Whether missing topics are created; otherwise they are an error.
    pub create_topics: bool,
    /// The largest packet, in bytes; topics must carry it.
    pub max_packet_bytes: usize,
    /// How long connecting or starting may take before it fails with the cause.
    pub connect_timeout: Duration,
    /// Keep trying for ever instead of failing after `connect_timeout`.
    pub keep_trying: bool,
    /// The worker group; `None` for `[prefix.]krpc.<service>`.
    pub group: Option<String>,
    /// The group protocol.
    pub group_protocol: GroupProtocol,
    /// After how long without heartbeat a server counts as dead (classic protocol).
    pub session_timeout: Duration,
    /// How often a server says that it lives (classic protocol).
    pub heartbeat_interval: Duration,
    /// How long a rebalance waits for running handlers of partitions that are taken away.
    pub release_timeout: Duration,
    /// TLS and SASL towards the brokers.
    pub security: Security,
    /// Properties passed to librdkafka as they are, after ours; the last of a name wins.
    /// Their values may be secrets: debug output has the names only.
    pub properties: Vec<(String, String)>,
}

/// How Kafka coordinates the servers of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GroupProtocol {
    /// The classic protocol with cooperative-sticky assignment.
    #[default]
    Classic,
    /// KIP-848 (`group.protocol=consumer`), for brokers of 4.0 and later.
    Consumer,
}

impl Default for TransportConfig {
    fn default() -> Self {
        const HOUR: u64 = 60 * 60;
        Self {
            prefix: String::new(),
            call_partitions: 12,
            min_call_partitions: 1,
            reply_partitions: 4,
            calls_retention: Duration::from_secs(7 * 24 * HOUR),
            replies_retention: Duration::from_secs(HOUR),
            results_retention: Duration::from_secs(7 * 24 * HOUR),
            dead_retention: Duration::from_secs(30 * 24 * HOUR),
            delayed_retention: Duration::from_secs(30 * 24 * HOUR),
            replication: None,
            create_topics: true,
            max_packet_bytes: wire::MAX_PACKET_BYTES,
            connect_timeout: Duration::from_secs(10),
            keep_trying: false,
            group: None,
            group_protocol: GroupProtocol::Classic,
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_millis(500),
            release_timeout: Duration::from_secs(3),
            security: Security::default(),
            properties: Vec::new(),
        }
    }
}

impl fmt::Debug for TransportConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each by name, so that a new setting cannot be forgotten here.
        let Self {
            prefix,
            call_partitions,
            min_call_partitions,
            reply_partitions,
            calls_retention,
            replies_retention,
            results_retention,
            dead_retention,
            delayed_retention,
            replication,
            create_topics,
            max_packet_bytes,
            connect_timeout,
            keep_trying,
            group,
            group_protocol,
            session_timeout,
            heartbeat_interval,
            release_timeout,
            security,
            properties,
        } = self;
        // Values may be passwords.
        let names: Vec<_> = properties.iter().map(|(name, _)| (name, "…")).collect();
        f.debug_struct("TransportConfig")
            .field("prefix", prefix)
            .field("call_partitions", call_partitions)
            .field("min_call_partitions", min_call_partitions)
            .field("reply_partitions", reply_partitions)
            .field("calls_retention", calls_retention)
            .field("replies_retention", replies_retention)
            .field("results_retention", results_retention)
            .field("dead_retention", dead_retention)
            .field("delayed_retention", delayed_retention)
            .field("replication", replication)
            .field("create_topics", create_topics)
            .field("max_packet_bytes", max_packet_bytes)
            .field("connect_timeout", connect_timeout)
            .field("keep_trying", keep_trying)
            .field("group", group)
            .field("group_protocol", group_protocol)
            .field("session_timeout", session_timeout)
            .field("heartbeat_interval", heartbeat_interval)
            .field("release_timeout", release_timeout)
            .field("security", security)
            .field("properties", &names)
            .finish()
    }
}

impl TransportConfig {
    /// How many partitions a topic gets that is created here.
    pub const fn partitions(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Calls => self.call_partitions,
            Topic::Replies => self.reply_partitions,
            Topic::Results => RESULT_PARTITIONS,
            // Few records, and whoever reads them reads all of them.
            Topic::Dead | Topic::Cancels => 1,
            // What a partition means is agreed between all servers.
            Topic::Delayed => delay::CLASSES,
        }
    }

    /// The retention of a topic that is created here.
    pub const fn retention(&self, topic: Topic) -> Duration {
        match topic {
            // A cancel is kept as long as the call that it may still meet.
            Topic::Calls | Topic::Cancels => self.calls_retention,
            Topic::Replies => self.replies_retention,
            Topic::Results => self.results_retention,
            Topic::Dead => self.dead_retention,
            Topic::Delayed => self.delayed_retention,
        }
    }

    /// The name of one of a service's topics.
    pub fn topic(&self, service: &str, topic: Topic) -> String {
        let dot = if self.prefix.is_empty() { "" } else { "." };
        format!("{}{dot}krpc.{service}.{}", self.prefix, topic.suffix())
    }

    /// The name of a service's worker group.
    pub fn group(&self, service: &str) -> String {
        let dot = if self.prefix.is_empty() { "" } else { "." };
        self.group.clone().unwrap_or_else(|| format!("{}{dot}krpc.{service}", self.prefix))
    }
}
