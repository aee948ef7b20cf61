//! What kRPC promises when something fails, on a real Apache Kafka, with servers in processes of
//! their own that are stopped and killed. docs/GUARANTEES.md names these tests.
//!
//! They run one at a time: several state how long something takes. `--nocapture` shows figures.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod at_most_once;
mod broker;
mod clients;
mod crash;
mod delay;
mod delivery;
mod examples;
mod garbage;
mod keys;
mod one_way;
mod poison;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "seal")]
mod rotation;
mod shutdown;
mod tickets;
mod waiting;
mod work;
