//! What holds over every transport: each file is one subject, compiled once for each transport.

mod at_most_once;
mod calls;
mod cancel;
mod context;
mod dead_letters;
mod deadlines;
mod delay;
mod failures;
mod garbage;
mod idempotency;
mod keys;
mod limits;
mod one_way;
mod queued;
mod retries;
mod servers;
mod setup;
mod tickets;
mod types;
