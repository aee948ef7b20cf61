//! Where the results of calls with an idempotency key are kept.
//!
//! A server that is to take such calls has a store: [`ServerBuilder::result_store`]. Servers of
//! one service must share it, or each keeps results of its own: `RedisStore` (feature `redis`) is
//! for several, [`MemoryStore`] for those of one process. Others implement [`ResultStore`].
//!
//! [`ServerBuilder::result_store`]: crate::ServerBuilder::result_store

pub use krpc_core::{
    server::idempotency::StoreFailure,
    store::{BoxFuture, Bytes, Claim, ClaimId, MemoryStore, ResultStore, StoreError, StoreKey},
};

#[cfg(feature = "redis")]
pub use crate::redis::RedisStore;
