//! A stranger who reads and writes all topics, and has no key. Over a real Apache Kafka:
//! `KRPC_TEST_BROKERS` names one, or one is started.
#![cfg(all(feature = "kafka", feature = "seal"))]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod attacker;
mod support;

const BACKEND: support::Backend = support::Backend::Kafka;
