//! kRPC over Apache Kafka, through librdkafka.
//!
//! [`KafkaEndpoint`] and [`embedded()`] implement `krpc_core::transport`: they move packets and
//! report events, and know nothing of frames or calls. Each client has a thread of
//! its own for deliveries and a task for replies, each server a thread for deliveries and two for
//! each service (group, records), beside librdkafka's. All of them sleep until there is something
//! to do.
//!
//! `ARCHITECTURE.md` in the repository says where this lies on a call's way.
#![allow(
    clippy::disallowed_methods,
    reason = "this crate drives a broker's client: clock, threads"
)]

pub mod acl;
mod budget;
mod client;
mod commits;
mod committed;
mod config;
mod embedded;
mod endpoint;
mod events;
mod fit;
mod inbox;
mod producer;
mod queue;
mod rebalance;
mod security;
mod server;
mod side;
mod topics;
mod validate;
mod wait;
mod worker;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use krpc_core::{
    error::SetupError,
    ids::PartitionId,
    sealing::Proof,
    status::{Code, Status},
    transport::{Record, Topic},
};

pub use crate::{
    embedded::{EmbeddedEndpoint, embedded},
    endpoint::KafkaEndpoint,
};

/// Starts a thread; should it panic, somebody is told instead of waiting for ever.
fn spawn(
    name: &str,
    broken: impl FnOnce(Status) + Send + 'static,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, SetupError> {
    let message = format!("thread {name} of the transport panicked");
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                broken(Status::new(Code::Internal, message));
            }
        })
        .map_err(|error| SetupError::Transport(format!("no thread for {name}: {error}")))
}

/// Does something that takes a moment, on a thread of its own; false if there can be none.
fn apart(work: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().name("krpc-apart".to_owned()).spawn(work).is_ok()
}

/// Drops something whose drop may block, on a thread of its own.
fn aside<T: Send + 'static>(value: T) {
    // Without a thread it is dropped here: slow, but not wrong.
    let _ = thread::Builder::new().name("krpc-drop".to_owned()).spawn(move || drop(value));
}

/// A record as drivers see it; its value is copied out of librdkafka's fetch buffer, which would
/// be kept whole otherwise.
fn record(service: u16, topic: Topic, taken: &queue::Taken<'_>) -> Option<Record> {
    Some(Record {
        topic,
        partition: PartitionId { service, partition: u32::try_from(taken.partition).ok()? },
        offset: taken.offset,
        appended: taken.appended.and_then(events::broker_time),
        payload: Bytes::copy_from_slice(taken.payload),
        proof: Proof::None,
    })
}
