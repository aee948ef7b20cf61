//! Some of the scenarios over the broker inside this process that speaks Kafka's protocol.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

#[path = "scenarios/blocking.rs"]
mod blocking;
#[path = "scenarios/calls.rs"]
mod calls;
#[path = "scenarios/context.rs"]
mod context;
#[path = "scenarios/dead_letters.rs"]
mod dead_letters;
#[path = "scenarios/delay.rs"]
mod delay;
#[path = "scenarios/idempotency.rs"]
mod idempotency;
#[path = "scenarios/keys.rs"]
mod keys;
#[path = "scenarios/one_way.rs"]
mod one_way;
#[path = "scenarios/queued.rs"]
mod queued;
#[path = "scenarios/retries.rs"]
mod retries;
mod support;
#[path = "scenarios/tickets.rs"]
mod tickets;

const BACKEND: support::Backend = support::Backend::Embedded;
