//! What a handler knows about the call it serves.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::SetOnce;

use crate::{clock::Clock, ids::InstanceId, metadata::Metadata, status::Status, time::Time};

/// A call's surroundings, handed to methods that ask for `cx: &Context`. Cheap to clone; a clone
/// may outlive the handler.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    metadata: Metadata,
    reply_metadata: Mutex<Metadata>,
    clock: Clock,
    deadline: Time,
    fence: u64,
    attempt: u32,
    caller: Caller,
    caller_name: Option<Arc<str>>,
    key: Option<Box<[u8]>>,
    due: Option<Time>,
    cancelled: SetOnce<()>,
}

/// What is known of a call when its handler begins.
pub(crate) struct Facts {
    pub(crate) metadata: Metadata,
    /// On the time line of the context's clock.
    pub(crate) deadline: Time,
    pub(crate) fence: u64,
    pub(crate) attempt: u32,
    pub(crate) caller: InstanceId,
    pub(crate) caller_name: Option<Arc<str>>,
    pub(crate) key: Option<Box<[u8]>>,
    /// On the same time line.
    pub(crate) due: Option<Time>,
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
    pub(crate) fn new(clock: Clock, facts: Facts) -> Self {
        let Facts { metadata, deadline, fence, attempt, caller, caller_name, key, due } = facts;
        let inner = Inner {
            metadata,
            reply_metadata: Mutex::default(),
            clock,
            deadline,
            fence,
            attempt,
            caller: Caller { instance: caller },
            caller_name,
            key,
            due,
            cancelled: SetOnce::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What the caller sent along: `cx.metadata().get("tenant")`.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// When the call's time is over. The handler's future is dropped then.
    pub fn deadline(&self) -> Instant {
        self.inner.clock.instant(self.inner.deadline)
    }

    /// The time left until the deadline; zero once it has passed.
    #[expect(clippy::disallowed_methods, reason = "for handlers, which live in real time")]
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// Which execution of this call this is, as far as this server knows; the first is 1. Counted
    /// are those that failed here and were repeated, and those that may have ended their server;
    /// not those that a server in good order left to the next one.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// A number that grows with each owner of the partition the call came from. What is written
    /// with it can refuse a server that was taken for dead and comes late: whoever has seen a
    /// greater fence, of calls of the same key, takes no smaller one any more.
    pub fn fence(&self) -> u64 {
        self.inner.fence
    }

    /// Who calls.
    pub fn caller(&self) -> Caller {
        self.inner.caller
    }

    /// The name of who calls, if it called with a key of its own
    /// ([`Key::of_caller`](crate::seal::Key::of_caller)): nobody without that key can have made
    /// this call. `None` if the key is one that all have, or there is none.
    pub fn caller_name(&self) -> Option<&str> {
        self.inner.caller_name.as_deref()
    }

    pub(crate) fn proven_caller(&self) -> Option<&Arc<str>> {
        self.inner.caller_name.as_ref()
    }

    /// The bytes of the call's key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        self.inner.key.as_deref()
    }

    /// When the call was to be executed, by this machine's clock, if its caller delayed it.
    pub fn due(&self) -> Option<SystemTime> {
        self.inner.clock.wall(self.inner.due?)
    }

    /// Resolves when the call is no longer wanted: its caller gave up, its deadline passed, or
    /// the server gave it up. The handler's own future is dropped at that moment too, so this is
    /// for what the handler spawned.
    pub async fn cancelled(&self) {
        self.inner.cancelled.wait().await;
    }

    /// Whether the call is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.initialized()
    }

    /// Sets a pair of metadata that travels back with the reply, whatever its outcome.
    ///
    /// # Errors
    /// As [`Metadata::insert`].
    pub fn insert_reply_metadata(&self, key: &str, value: &str) -> Result<(), Status> {
        self.inner.reply_metadata.lock().insert(key, value)
    }

    /// The call is no longer wanted. Wakes whoever waits for it, so not under a lock.
    pub(crate) fn cancel(&self) {
        // It may be cancelled more than once; the first time counts.
        let _ = self.inner.cancelled.set(());
    }

    /// The present moment, on the call's time line.
    pub(crate) fn now(&self) -> Time {
        self.inner.clock.now()
    }

    /// Whether the deadline has passed by then.
    pub(crate) fn is_late(&self, now: Time) -> bool {
        self.inner.deadline <= now
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
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}
