//! Where the results of calls with an idempotency key are kept, so that servers agree on one.
//!
//! A store knows nothing of calls: a key is free, claimed for a while, or done, and what it is done
//! with are bytes. All that has to be atomic is one operation on one key, which most stores can do.
//! A claim ends by itself, or a server that dies would hold its keys for ever; so a server that is
//! slower than its lease can lose a claim, and must ask before it believes to be the one.

mod memory;

use std::{error::Error, fmt, sync::Arc, time::Duration};

pub use bytes::Bytes;

pub use self::memory::MemoryStore;
pub use crate::transport::BoxFuture;

/// Keeps results of calls by their idempotency keys, for the servers of a service together.
///
/// Each operation is on one key and atomic. All may be repeated with the same arguments, as
/// is done when an answer got lost, and then have the same result. A key that is neither claimed
/// nor done, perhaps because its claim ran out, is of whoever asks first, its last claimant too.
///
/// An error means that the operation may or may not have happened. Whoever calls a store bounds its
/// time, so an implementation need not.
pub trait ResultStore: Send + Sync + 'static {
    /// Claims a free key until `lease` is over, or says how it stands.
    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>>;

    /// Has the claim end `lease` from now. False if another's claim or a result is there.
    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Puts a result in the claim's place, for `retention`. False if another's claim or result is
    /// there.
    fn finish<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        result: Bytes,
        retention: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Frees the key. False if another's claim or a result is there.
    fn release<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
}

/// How a key stands after it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Claimed, by who asked.
    Mine,
    /// Claimed by another, who has so long left to renew it.
    Held {
        /// Until the claim ends.
        left: Duration,
    },
    /// It has a result: the bytes that it was finished with.
    Done(Bytes),
}

/// Who claims: 16 random bytes, new for each execution of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimId([u8; 16]);

impl ClaimId {
    /// A claimant of these bytes; the caller supplies the entropy.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What is claimed: a caller's key, within one method. The keys of callers that are proven have
/// nothing to do with those of others.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StoreKey {
    method: &'static str,
    key: Box<str>,
    caller: Option<Arc<str>>,
}

impl StoreKey {
    /// The key of a caller of `method`, which is `service/method`.
    pub fn new(method: &'static str, key: impl Into<Box<str>>) -> Self {
        Self { method, key: key.into(), caller: None }
    }

    /// The same, of a caller whose name is proven.
    #[must_use]
    pub fn of_caller(mut self, caller: Option<Arc<str>>) -> Self {
        self.caller = caller;
        self
    }
}

impl fmt::Display for StoreKey {
    /// `service/method:key`, or `service/method@length:caller:key`: unambiguous, for the method has
    /// neither of these signs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, key, caller } = self;
        match caller {
            Some(caller) => write!(f, "{method}@{}:{caller}:{key}", caller.len()),
            None => write!(f, "{method}:{key}"),
        }
    }
}

/// A store could not do what it was asked for; it may have done it all the same.
#[derive(Debug, thiserror::Error)]
#[error("the result store failed: {cause}")]
pub struct StoreError {
    cause: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// For this cause, an error or a text.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: cause.into() }
    }
}

impl fmt::Debug for dyn ResultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResultStore")
    }
}

/// A store behind a shared pointer is the store.
impl<S: ResultStore + ?Sized> ResultStore for Arc<S> {
    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        (**self).claim(key, claim, lease)
    }

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        (**self).renew(key, claim, lease)
    }

    fn finish<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        result: Bytes,
        retention: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        (**self).finish(key, claim, result, retention)
    }

    fn release<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        (**self).release(key, claim)
    }
}
