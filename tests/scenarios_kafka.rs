//! The scenarios over a real Apache Kafka: `KRPC_TEST_BROKERS` names one, or one is started.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod scenarios;
mod support;

#[path = "scenarios/blocking.rs"]
mod blocking;
#[cfg(feature = "seal")]
#[path = "scenarios/callers.rs"]
mod callers;
#[cfg(feature = "seal")]
#[path = "scenarios/seals.rs"]
mod seals;
#[path = "scenarios/topics.rs"]
mod topics;

const BACKEND: support::Backend = support::Backend::Kafka;
