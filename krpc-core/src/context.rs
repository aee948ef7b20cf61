//! What a handler knows about the call it serves.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{ids::InstanceId, metadata::Metadata, status::Status};

/// A call's surroundings, handed to methods that ask for `cx: &Context`. Cheap to clone; a clone
/// may outlive the handler.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    metadata: Metadata,
    reply_metadata: Mutex<Metadata>,
    deadline: Instant,
    attempt: u32,
    caller: Caller,
    cancelled: CancellationToken,
}

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Caller {
    instance: InstanceId,
}

impl Caller {
    /// The client's running instance: new at each start of a client.
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instance.fmt(f)
    }
}

impl Context {
    pub(crate) fn new(
        metadata: Metadata,
        deadline: Instant,
        attempt: u32,
        caller: InstanceId,
        cancelled: CancellationToken,
    ) -> Self {
        let caller = Caller { instance: caller };
        let reply_metadata = Mutex::default();
        let inner = Inner { metadata, reply_metadata, deadline, attempt, caller, cancelled };
        Self { inner: Arc::new(inner) }
    }

    /// What the caller sent along: `cx.metadata().get("tenant")`.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// When the call's time is over. The handler's future is dropped then.
    pub fn deadline(&self) -> Instant {
        self.inner.deadline
    }

    /// The time left until the deadline; zero once it has passed.
    #[expect(clippy::disallowed_methods, reason = "for handlers, which live in real time")]
    pub fn remaining(&self) -> Duration {
        self.inner.deadline.saturating_duration_since(Instant::now())
    }

    /// Which execution of this call this is, as far as this server knows; the first is 1. This
    /// version counts no attempts across servers: it is always 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Who calls.
    pub fn caller(&self) -> Caller {
        self.inner.caller
    }

    /// Resolves when the call is no longer wanted: its caller gave up, its deadline passed, or
    /// the server gave it up. The handler's own future is dropped at that moment too, so this is
    /// for what the handler spawned.
    pub async fn cancelled(&self) {
        self.inner.cancelled.cancelled().await;
    }

    /// Whether the call is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.is_cancelled()
    }

    /// Sets a pair of metadata that travels back with the reply, whatever its outcome.
    ///
    /// # Errors
    /// As [`Metadata::insert`].
    pub fn insert_reply_metadata(&self, key: &str, value: &str) -> Result<(), Status> {
        self.inner.reply_metadata.lock().insert(key, value)
    }

    pub(crate) fn take_reply_metadata(&self) -> Metadata {
        std::mem::take(&mut self.inner.reply_metadata.lock())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("caller", &self.inner.caller)
            .field("attempt", &self.inner.attempt)
            .field("deadline", &self.inner.deadline)
            .finish_non_exhaustive()
    }
}
