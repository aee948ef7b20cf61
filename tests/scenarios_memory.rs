//! The scenarios over the in-process broker: real frames, partitions, groups and offsets.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod scenarios;
mod support;

#[cfg(feature = "seal")]
#[path = "scenarios/callers.rs"]
mod callers;
#[path = "scenarios/local.rs"]
mod local;
#[cfg(feature = "seal")]
#[path = "scenarios/seals.rs"]
mod seals;

const BACKEND: support::Backend = support::Backend::Memory;
