//! The scenarios over a real Apache Kafka: `KRPC_TEST_BROKERS` names one, or one is started.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod scenarios;
mod support;

#[path = "scenarios/blocking.rs"]
mod blocking;
#[path = "scenarios/topics.rs"]
mod topics;
#[cfg(feature = "seal")]
#[path = "scenarios/seals.rs"]
mod seals;

const BACKEND: support::Backend = support::Backend::Kafka;
