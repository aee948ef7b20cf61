//! A stranger who reads and writes all topics, and has no key. Over the in-process broker.
#![cfg(feature = "seal")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod attacker;
mod support;

const BACKEND: support::Backend = support::Backend::Memory;
