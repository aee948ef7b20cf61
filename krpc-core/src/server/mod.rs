//! A server: from a record to the user's handler, and from its outcome to a reply and a commit.

mod answer;
pub mod backoff;
mod batch;
pub mod builtin;
mod burial;
mod cancels;
pub mod commit_map;
mod commits;
pub mod delays;
pub mod driver;
mod events;
mod gate;
mod greeting;
pub mod idempotency;
pub mod incoming;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod machine;
pub mod options;
mod ownership;
mod refused;
mod responder;
pub mod service;
pub mod stats;
mod takeover;
mod topics;
