//! The scenarios over the in-process broker, with packets that are sealed in every way there is.
#![cfg(feature = "seal")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod scenarios;
mod support;

const BACKEND: support::Backend = support::Backend::Sealed;
