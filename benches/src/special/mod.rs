//! Cases that are neither the closed nor the open loop. Each gives figures of its own kind: the
//! words in the system's place are explained in [`report`](crate::report).

pub(crate) mod backlog;
pub(crate) mod cold;
pub(crate) mod idle;
pub(crate) mod seals;
pub(crate) mod slow_fast;
