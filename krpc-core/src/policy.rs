//! What a method's options say of the delivery of its calls.

use std::time::Duration;

/// The promises of a method, as its `#[rpc(..)]` states them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Whether the generated client gives each call a key.
    pub keyed: bool,
    /// Whether a call ends when the broker has it, and nobody waits for its result.
    pub one_way: bool,
    /// Whether a call may be executed once at most, even if its outcome stays unknown.
    pub at_most_once: bool,
    /// How often the server executes a call that nobody waits for, and what becomes of it then.
    pub retry: Option<ServerRetry>,
    /// How long the result of a call with an idempotency key is kept; `None` for the default.
    pub retention: Option<Duration>,
}

impl Policy {
    /// Of a method without any of these options.
    pub const PLAIN: Self =
        Self { keyed: false, one_way: false, at_most_once: false, retry: None, retention: None };
}

/// How a server goes on after a call of it has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerRetry {
    /// Executions in all, the first one included.
    pub max: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
    /// What follows the last failure.
    pub then: Then,
}

/// What becomes of a call whose last execution has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// It is kept in the topic of dead letters.
    DeadLetter,
    /// It is counted and forgotten.
    Drop,
}
