//! The protocol and the machines of kRPC: what a call is on the wire, and what a client and a
//! server do with it.
//!
//! Most of this crate is **pure**: no clock, no task, no socket, no randomness; time comes in as
//! an argument ([`time::Time`]) and what is to be done comes out as a value. That makes the same
//! code run under the simulation, the in-process broker and Apache Kafka. The few *driver* files
//! that own a clock, a lock or a task say so in their first line.
//!
//! Users depend on the façade crate `krpc`, which re-exports what is meant for them.

mod alarm;
pub mod askers;
pub mod client;
pub mod clock;
pub mod codec;
pub mod context;
pub mod dead;
pub mod deadline;
pub mod delay;
pub mod error;
mod hello;
pub mod ids;
pub mod inbox;
pub mod key;
pub mod metadata;
pub mod murmur2;
pub mod outbox;
pub mod policy;
pub mod replay;
#[cfg(feature = "seal")]
pub mod seal;
pub mod sealing;
pub mod server;
pub mod status;
pub mod store;
pub mod time;
pub mod transport;
pub mod window;
pub mod wire;
