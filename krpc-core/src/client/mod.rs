//! A client: from `sum.add(1, 2)` to a record, and from a reply back to its caller.

mod attach;
mod attempts;
pub mod balance;
pub mod call;
pub mod channel;
pub mod dead;
mod ending;
pub mod enqueue;
mod events;
pub mod machine;
pub mod pending;
pub mod placing;
mod posting;
mod refused;
mod request;
mod results;
pub mod retry;
pub mod ticket;
pub mod tickets;
