//! The transport against a real Apache Kafka: `KRPC_TEST_BROKERS` names one, or one is started.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests watch the clock")]

mod embedded;
mod exact;
mod faults;
mod follow;
mod groups;
mod pressure;
mod rights;
#[cfg(feature = "tls")]
mod rules;
#[cfg(feature = "tls")]
mod secure;
mod sending;
mod support;
mod topics;
