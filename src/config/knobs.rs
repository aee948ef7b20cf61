//! Every setting: its name in the environment, default, unit, range, and what goes wrong outside
//! a sensible range.

use krpc_core::client::retry::MAX_ATTEMPTS;

use super::{
    Config,
    forms::{backoff, boolean, delayed_retention, duration, number, prefix, protocol, share},
    sealing::{self, Part},
    security,
};

/// One setting, as the table in the README shows it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Knob {
    /// The environment variable; builders set it by the method of the same name.
    pub name: &'static str,
    /// The default, with its unit.
    pub default: &'static str,
    /// What it sets.
    pub meaning: &'static str,
    /// What happens when it is too low.
    pub too_low: &'static str,
    /// What happens when it is too high.
    pub too_high: &'static str,
    pub(super) apply: fn(&mut Config, &str) -> Result<(), String>,
}

/// Every setting there is.
pub const KNOBS: &[Knob] = &[
    Knob {
        name: "KRPC_TIMEOUT",
        default: "10s",
        meaning: "deadline of calls that set none",
        too_low: "calls expire while a server is being replaced (6 s)",
        too_high: "callers wait long for what will not come",
        apply: |config, value| duration(value).map(|it| config.client.timeout = it),
    },
    Knob {
        name: "KRPC_QUEUE_TIMEOUT",
        default: "7d",
        meaning: "how long one-way and enqueued calls live that set no timeout",
        too_low: "calls expire while no server is there to execute them",
        too_high: "after a long outage calls are executed that nobody expects any more",
        apply: |config, value| duration(value).map(|it| config.client.queue_timeout = it),
    },
    Knob {
        name: "KRPC_MAX_IN_FLIGHT",
        default: "65536",
        meaning: "calls in flight per service and channel",
        too_low: "calls are refused with RESOURCE_EXHAUSTED",
        too_high: "memory: about 300 bytes and the arguments each",
        apply: |config, value| {
            number(value, 1, 1_000_000).map(|it| config.client.max_in_flight = it)
        },
    },
    Knob {
        name: "KRPC_RETRY_ATTEMPTS",
        default: "3",
        meaning: "sendings of an idempotent call whose failures may pass, at most",
        too_low: "1: no call is sent again by itself",
        too_high: "callers learn late that a service is down",
        apply: |config, value| {
            number(value, 1, MAX_ATTEMPTS)
                .map(|it| config.client.retry = config.client.retry.attempts(it))
        },
    },
    Knob {
        name: "KRPC_RETRY_BACKOFF",
        default: "50ms..1s",
        meaning: "the first back-off, which doubles, and the longest; chance shortens it",
        too_low: "what failed is met again before it has recovered",
        too_high: "the deadline leaves no time for a retry",
        apply: |config, value| {
            backoff(value).map(|it| config.client.retry = config.client.retry.backoff(it))
        },
    },
    Knob {
        name: "KRPC_RETRY_BUDGET",
        default: "0.1",
        meaning: "retries and hedges for each idempotent call; up to 10 are saved",
        too_low: "a few failures at once are not retried; 0: none ever",
        too_high: "a service in trouble gets as many times its load",
        apply: |config, value| share(value).map(|it| config.client.retry_budget = it),
    },
    Knob {
        name: "KRPC_CONCURRENCY",
        default: "1024",
        meaning: "handlers that run at once in a server",
        too_low: "calls wait in Kafka while the server idles",
        too_high: "handlers compete for memory and for what they call",
        apply: |config, value| number(value, 1, 1_000_000).map(|it| config.server.concurrency = it),
    },
    Knob {
        name: "KRPC_DRAIN_TIMEOUT",
        default: "30s",
        meaning: "how long a shutdown waits for running handlers",
        too_low: "long calls are executed again by another server",
        too_high: "a stuck handler holds up a deployment",
        apply: |config, value| duration(value).map(|it| config.server.drain_timeout = it),
    },
    Knob {
        name: "KRPC_RELEASE_TIMEOUT",
        default: "3s",
        meaning: "how long a rebalance waits for running handlers",
        too_low: "long calls are executed again by the new owner",
        too_high: "the whole group's rebalance waits",
        apply: |config, value| {
            duration(value).map(|it| {
                config.server.release_timeout = it;
                config.transport.release_timeout = it;
            })
        },
    },
    Knob {
        name: "KRPC_COMMIT_INTERVAL",
        default: "100ms",
        meaning: "how often finished calls are committed",
        too_low: "more requests to the group's coordinator",
        too_high: "more calls are executed again after a crash",
        apply: |config, value| duration(value).map(|it| config.server.commit_interval = it),
    },
    Knob {
        name: "KRPC_ATTEMPTS",
        default: "3",
        meaning: "executions of a call that may each have ended their server, at most",
        too_low: "a call that ran while servers were killed for other causes is given up",
        too_high: "a call that ends its server ends more of them",
        apply: |config, value| number(value, 2, 100).map(|it| config.server.attempts = it),
    },
    Knob {
        name: "KRPC_IDEMPOTENCY_LEASE",
        default: "10s",
        meaning: "how long a server that died holds an idempotency key; renewed three times in it",
        too_low: "servers that are slow for a moment lose keys: calls are executed twice",
        too_high: "calls with the key of a server that died wait that long",
        apply: |config, value| duration(value).map(|it| config.server.idempotency.lease = it),
    },
    Knob {
        name: "KRPC_CONNECT_TIMEOUT",
        default: "10s",
        meaning: "how long connecting and starting may take",
        too_low: "a slow broker counts as absent",
        too_high: "a wrong address is noticed late",
        apply: |config, value| {
            duration(value).map(|it| {
                config.client.connect_timeout = it;
                config.server.connect_timeout = it;
                config.transport.connect_timeout = it;
            })
        },
    },
    Knob {
        name: "KRPC_KEEP_TRYING",
        default: "false",
        meaning: "connect and start wait for the broker for ever",
        too_low: "",
        too_high: "a wrong address is never reported as an error, only logged",
        apply: |config, value| {
            boolean(value).map(|it| {
                config.client.keep_trying = it;
                config.server.keep_trying = it;
                config.transport.keep_trying = it;
            })
        },
    },
    Knob {
        name: "KRPC_TLS",
        default: "false",
        meaning: "connections to the brokers are encrypted (feature `tls` or `tls-vendored`)",
        too_low: "",
        too_high: "",
        apply: |config, value| boolean(value).map(|it| config.transport.security.tls = it),
    },
    Knob {
        name: "KRPC_TLS_CA_FILE",
        default: "(the system's)",
        meaning: "PEM file of who vouches for the brokers",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            security::file(value).map(|it| config.transport.security.ca_file = it)
        },
    },
    Knob {
        name: "KRPC_TLS_CERT_FILE",
        default: "(none)",
        meaning: "PEM file of a certificate of our own, for brokers that ask for one",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            security::file(value).map(|it| config.transport.security.cert_file = it)
        },
    },
    Knob {
        name: "KRPC_TLS_KEY_FILE",
        default: "(none)",
        meaning: "PEM file of that certificate's key",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            security::file(value).map(|it| config.transport.security.key_file = it)
        },
    },
    Knob {
        name: "KRPC_SASL",
        default: "none",
        meaning: "how brokers are shown who comes: none, plain, scram-sha-256, scram-sha-512 or \
                  oauthbearer",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            security::mechanism(value).map(|it| config.transport.security.sasl = it)
        },
    },
    Knob {
        name: "KRPC_SASL_USERNAME",
        default: "(none)",
        meaning: "the name for plain and scram",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            value.clone_into(&mut config.transport.security.username);
            Ok(())
        },
    },
    Knob {
        name: "KRPC_SASL_PASSWORD",
        default: "(none)",
        meaning: "the password for plain and scram; it is never shown",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            security::secret(value).map(|it| config.transport.security.password = Some(it))
        },
    },
    Knob {
        name: "KRPC_SASL_PASSWORD_FILE",
        default: "(none)",
        meaning: "file that holds the password instead",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            security::file(value).map(|it| config.transport.security.password_file = it)
        },
    },
    Knob {
        name: "KRPC_PREFIX",
        default: "(none)",
        meaning: "put before topic and group names, with a dot",
        too_low: "",
        too_high: "",
        apply: |config, value| prefix(value).map(|it| config.transport.prefix = it),
    },
    Knob {
        name: "KRPC_GROUP",
        default: "[prefix.]krpc.<service>",
        meaning: "the servers' consumer group",
        too_low: "",
        too_high: "",
        apply: |config, value| {
            config.transport.group = (!value.is_empty()).then(|| value.to_owned());
            Ok(())
        },
    },
    Knob {
        name: "KRPC_GROUP_PROTOCOL",
        default: "classic",
        meaning: "classic, or consumer (KIP-848, broker 4.0 and later)",
        too_low: "",
        too_high: "",
        apply: |config, value| protocol(value).map(|it| config.transport.group_protocol = it),
    },
    Knob {
        name: "KRPC_SESSION_TIMEOUT",
        default: "6s",
        meaning: "silence after which a server counts as dead (classic)",
        too_low: "the broker refuses it, or busy servers count as dead",
        too_high: "calls of a crashed server wait that long",
        apply: |config, value| duration(value).map(|it| config.transport.session_timeout = it),
    },
    Knob {
        name: "KRPC_HEARTBEAT_INTERVAL",
        default: "500ms",
        meaning: "how often a server says that it lives (classic)",
        too_low: "more requests to the group's coordinator",
        too_high: "a join or leave takes that long",
        apply: |config, value| duration(value).map(|it| config.transport.heartbeat_interval = it),
    },
    Knob {
        name: "KRPC_CALL_PARTITIONS",
        default: "12",
        meaning: "partitions of a calls topic that is created; an adopted one needs as many if set",
        too_low: "fewer servers can share the work than this",
        too_high: "more, smaller requests to the broker",
        apply: |config, value| {
            number(value, 1, 4096).map(|it| {
                config.transport.call_partitions = it;
                config.transport.min_call_partitions = it;
            })
        },
    },
    Knob {
        name: "KRPC_REPLY_PARTITIONS",
        default: "4",
        meaning: "partitions of a replies topic that is created",
        too_low: "each client reads more replies of others",
        too_high: "more requests from servers to the broker",
        apply: |config, value| {
            number(value, 1, 4096).map(|it| config.transport.reply_partitions = it)
        },
    },
    Knob {
        name: "KRPC_CALLS_RETENTION",
        default: "7d",
        meaning: "how long calls wait in a topic that is created",
        too_low: "calls vanish before a server comes",
        too_high: "disk",
        apply: |config, value| duration(value).map(|it| config.transport.calls_retention = it),
    },
    Knob {
        name: "KRPC_REPLIES_RETENTION",
        default: "1h",
        meaning: "how long replies stay in a topic that is created",
        too_low: "a client that was paused misses replies",
        too_high: "disk: at 200,000 calls/s a day is a terabyte",
        apply: |config, value| duration(value).map(|it| config.transport.replies_retention = it),
    },
    Knob {
        name: "KRPC_RESULTS_RETENTION",
        default: "7d",
        meaning: "how long the results of queued calls stay in a topic that is created",
        too_low: "whoever comes back later finds no result",
        too_high: "disk",
        apply: |config, value| duration(value).map(|it| config.transport.results_retention = it),
    },
    Knob {
        name: "KRPC_DEAD_RETENTION",
        default: "30d",
        meaning: "how long dead letters stay in a topic that is created",
        too_low: "calls that were given up vanish before anybody looks at them",
        too_high: "disk",
        apply: |config, value| duration(value).map(|it| config.transport.dead_retention = it),
    },
    Knob {
        name: "KRPC_DELAYED_RETENTION",
        default: "30d",
        meaning: "how long delayed calls stay where they wait in a topic that is created",
        too_low: "less than 4d is refused; calls that come due in a longer outage vanish",
        too_high: "disk",
        apply: |config, value| {
            delayed_retention(value).map(|it| config.transport.delayed_retention = it)
        },
    },
    Knob {
        name: "KRPC_REPLICATION",
        default: "(the broker's)",
        meaning: "replication factor of topics that are created",
        too_low: "a lost broker loses calls",
        too_high: "more than there are brokers is refused",
        apply: |config, value| {
            number(value, 1, 32).map(|it| config.transport.replication = Some(it))
        },
    },
    Knob {
        name: "KRPC_CREATE_TOPICS",
        default: "true",
        meaning: "missing topics are created",
        too_low: "",
        too_high: "",
        apply: |config, value| boolean(value).map(|it| config.transport.create_topics = it),
    },
    Knob {
        name: "KRPC_MAX_PACKET_BYTES",
        default: "4194304",
        meaning: "the largest packet; no value can be larger",
        too_low: "large values are refused",
        too_high: "topics and brokers refuse it; memory on both sides",
        apply: |config, value| {
            number(value, 16 * 1024, krpc_core::wire::MAX_PACKET_BYTES).map(|it| {
                config.client.max_packet_bytes = it;
                config.server.max_packet_bytes = it;
                config.transport.max_packet_bytes = it;
            })
        },
    },
    Knob {
        name: "KRPC_SEAL",
        default: "(encrypt if there is a key)",
        meaning: "how packets are protected: none, checksum, verify or encrypt",
        too_low: "others read, change and make calls",
        too_high: "",
        apply: |config, value| sealing::set(config, Part::Kind, value),
    },
    Knob {
        name: sealing::KEY,
        default: "(none)",
        meaning: "keys of 32 bytes, hexadecimal or base64, a caller's own as `name:key`: the first \
                  seals, all open",
        too_low: "",
        too_high: "",
        apply: |config, value| sealing::set(config, Part::Key, value),
    },
    Knob {
        name: sealing::KEY_FILE,
        default: "(none)",
        meaning: "a file with such keys",
        too_low: "",
        too_high: "",
        apply: |config, value| sealing::set(config, Part::KeyFile, value),
    },
    Knob {
        name: sealing::PASSWORD,
        default: "(none)",
        meaning: "a password that a key is derived from",
        too_low: "a short one can be found by who recorded a packet",
        too_high: "",
        apply: |config, value| sealing::set(config, Part::Password, value),
    },
    Knob {
        name: sealing::PASSWORD_FILE,
        default: "(none)",
        meaning: "a file with such a password",
        too_low: "",
        too_high: "",
        apply: |config, value| sealing::set(config, Part::PasswordFile, value),
    },
    Knob {
        name: "KRPC_SEAL_PRIVATE",
        default: "false",
        meaning: "whether answers can be opened by the client alone that asked (clients)",
        too_low: "",
        too_high: "",
        apply: |config, value| sealing::set(config, Part::Private, value),
    },
    Knob {
        name: "KRPC_COMPRESSION",
        default: "(none)",
        meaning: "level of Zstandard, -7 to 19, for packets that it makes smaller",
        too_low: "packets are larger",
        too_high: "calls wait for the compression",
        apply: |config, value| sealing::set(config, Part::Compression, value),
    },
];
