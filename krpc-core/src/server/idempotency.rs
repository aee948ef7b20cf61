//! Driver: calls with an idempotency key. One of those with the same key is executed, and its
//! result is the answer of all.
//!
//! A call claims its key, executes, puts its result in the claim's place, and only then answers.
//! The others ask again until the result is there. Who executes renews its claim; should it die,
//! the claim runs out, and the next who asks executes. A status is no result: it frees the key.
//!
//! from: [`super::service`], instead of a first poll
//! to: [`crate::store`], then `responder`

#![expect(clippy::disallowed_methods, reason = "a driver: time and tasks enter here")]

mod stored;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};

pub(super) use self::stored::Stored;
use self::stored::fingerprint;
use super::{
    incoming::Invocation,
    responder::Responder,
    service::{cancelled, overdue, panicked, unwanted},
};
use crate::{
    clock::fresh_claim,
    context::Context,
    status::{Code, Status},
    store::{Claim, ClaimId, ResultStore, StoreError, StoreKey},
    transport::BoxFuture,
    wire::frame::Outcome,
};

/// How long a result is kept of whose method nothing else is said.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the first wait for another's result is, and the longest: each is twice the one before.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// The part of a lease that the store has for an answer.
const TRIES: u32 = 3;

/// A claim is renewed so often in its lease, counted from when it was asked for. Two renewals may
/// fail, if only by hanging: the third ends within the lease.
const RENEWALS: u32 = 4;

/// The part of a lease that the store has for a renewal: less than there is between two.
const RENEWAL_TRIES: u32 = 8;

/// What a server does with calls that have an idempotency key while its store does not work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum StoreFailure {
    /// Refuse them with `UNAVAILABLE`, which is worth a retry. A call that was executed already is
    /// not answered before its result is stored.
    #[default]
    Refuse,
    /// Execute them as if they had no key.
    Execute,
}

/// How a server keeps the promise of idempotency keys.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// Where results are kept; without it calls with a key are refused.
    pub store: Option<Arc<dyn ResultStore>>,
    /// How long a claim lasts unless it is renewed.
    pub lease: Duration,
    /// What happens while the store does not work.
    pub when_store_fails: StoreFailure,
    /// Whether the store failed when it was last asked: it is told once.
    failing: Arc<AtomicBool>,
}

impl Default for Idempotency {
    fn default() -> Self {
        let lease = Duration::from_secs(10);
        Self { store: None, lease, when_store_fails: StoreFailure::Refuse, failing: Arc::default() }
    }
}

impl Idempotency {
    /// What the store says, in bounded time.
    async fn ask<T>(
        &self,
        operation: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.ask_within(self.lease / TRIES, operation).await
    }

    async fn ask_within<T>(
        &self,
        patience: Duration,
        operation: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = timeout(patience, operation).await;
        let answer = answer.unwrap_or_else(|_| Err(StoreError::new("it did not answer in time")));
        let failed = answer.as_ref().err();
        if self.failing.swap(failed.is_some(), Ordering::Relaxed) != failed.is_some() {
            match failed {
                Some(error) => tracing::warn!(target: "krpc", %error, "the result store fails"),
                None => tracing::info!(target: "krpc", "the result store works again"),
            }
        }
        answer
    }
}

/// A handler, from its first poll to its encoded result.
type Execution = BoxFuture<'static, Result<Stored, Status>>;

/// What is left to do for a call once its key is claimed.
enum Work {
    Begin(Execution),
    /// It was executed here, and its result is not in the store.
    Keep(Stored),
}

/// One call on its way to the one result of its key.
#[derive(Debug)]
pub(super) struct Once {
    how: Idempotency,
    store: Arc<dyn ResultStore>,
    key: StoreKey,
    claim: ClaimId,
    /// Of the arguments: those of all calls with this key must be the same.
    fingerprint: u64,
    retention: Duration,
    /// Whether the application's own error is a result. Where it asks for another execution, or
    /// makes a dead letter that may be sent once more, it is not.
    keeps_errors: bool,
    /// Whether the claim may be there, and ours.
    claimed: AtomicBool,
}

impl Once {
    /// Of a call with this key, in a server that has a store.
    pub(super) fn new(
        how: Option<Idempotency>,
        key: StoreKey,
        retention: Option<Duration>,
        call: &Invocation,
    ) -> Result<Self, Status> {
        let Some((how, store)) = how.and_then(|how| Some((how.clone(), how.store?))) else {
            let message = "the call has an idempotency key, and this server has no result store";
            return Err(Status::new(Code::FailedPrecondition, message));
        };
        Ok(Self {
            how,
            store,
            key,
            claim: fresh_claim(),
            fingerprint: fingerprint(call.codec, &call.value),
            retention: retention.unwrap_or(RETENTION),
            keeps_errors: call.keeps_errors,
            claimed: AtomicBool::new(false),
        })
    }

    /// Answers the call, unless it becomes unwanted or overdue before.
    pub(super) async fn answer(self, execution: Execution, context: Context, responder: Responder) {
        // It may have waited for a thread.
        let ended = match unwanted(&context, context.now()) {
            Some(status) => {
                drop(execution);
                Err(status)
            }
            None => tokio::select! {
                biased;
                result = self.result(execution) => result,
                () = context.cancelled() => Err(cancelled()),
                () = sleep_until(context.deadline().into()) => Err(overdue()),
            },
        };
        // For what the handler spawned.
        context.cancel();
        let outcome = match &ended {
            Ok(stored) => stored.outcome(),
            Err(status) => Outcome::Status(status.clone()),
        };
        responder.finish(outcome, context.take_reply_metadata());
        self.release().await;
    }

    /// The result of the key: of this execution, or of another.
    async fn result(&self, execution: Execution) -> Result<Stored, Status> {
        let refuses = self.how.when_store_fails == StoreFailure::Refuse;
        let mut work = Work::Begin(execution);
        let mut wait = WAITS.0;
        loop {
            self.claimed.store(true, Ordering::Relaxed);
            let asked = Instant::now();
            let claim = self.store.claim(&self.key, self.claim, self.how.lease);
            let left = match self.how.ask(claim).await {
                Ok(Claim::Mine) => {
                    let own = match work {
                        Work::Begin(execution) => match self.execute(execution, asked).await? {
                            own if self.keeps(&own) => own,
                            own => return Ok(own),
                        },
                        Work::Keep(own) => own,
                    };
                    if self.finish(&own).await {
                        return Ok(own);
                    }
                    work = Work::Keep(own);
                    wait
                }
                Ok(Claim::Held { left }) => {
                    self.claimed.store(false, Ordering::Relaxed);
                    left
                }
                Ok(Claim::Done(bytes)) => {
                    self.claimed.store(false, Ordering::Relaxed);
                    return self.read(bytes);
                }
                Err(_) => match work {
                    Work::Begin(_) if refuses => {
                        // The cause is the server's own affair, and in its log.
                        let message = "the result store does not work; the call was not executed";
                        return Err(Status::new(Code::Unavailable, message));
                    }
                    Work::Begin(execution) => return caught(execution).await,
                    Work::Keep(_) if refuses => wait,
                    Work::Keep(own) => return Ok(own),
                },
            };
            sleep(left.min(wait).max(Duration::from_millis(1))).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    fn keeps(&self, own: &Stored) -> bool {
        own.ok || self.keeps_errors
    }

    /// Executes, and keeps the claim meanwhile. What is no result frees the key.
    async fn execute(&self, execution: Execution, claimed: Instant) -> Result<Stored, Status> {
        let ended = tokio::select! {
            biased;
            ended = caught(execution) => ended,
            never = self.renew(claimed) => match never {},
        };
        if !ended.as_ref().is_ok_and(|own| self.keeps(own)) {
            self.release().await;
        }
        ended
    }

    /// Renews the claim until it is lost, which the end of the execution will find out.
    async fn renew(&self, claimed: Instant) -> Infallible {
        let lease = self.how.lease;
        let period = (lease / RENEWALS).max(Duration::from_millis(1));
        let mut moments = interval_at(claimed + period, period);
        moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            moments.tick().await;
            let renewal = self.store.renew(&self.key, self.claim, lease);
            if let Ok(false) = self.how.ask_within(lease / RENEWAL_TRIES, renewal).await {
                return pending().await;
            }
        }
    }

    /// Puts the own result into the store. False if another's may be there, or the store fails:
    /// then it is no answer yet.
    async fn finish(&self, own: &Stored) -> bool {
        let bytes = own.to_bytes(self.fingerprint);
        let finish = self.store.finish(&self.key, self.claim, bytes, self.retention);
        let finished = self.how.ask(finish).await;
        self.claimed.fetch_and(!matches!(finished, Ok(true)), Ordering::Relaxed);
        finished.unwrap_or(self.how.when_store_fails == StoreFailure::Execute)
    }

    /// Frees the key, if this call may hold it.
    async fn release(&self) {
        if self.claimed.swap(false, Ordering::Relaxed) {
            // Where that fails, the claim runs out.
            let _ = self.how.ask(self.store.release(&self.key, self.claim)).await;
        }
    }

    fn read(&self, bytes: Bytes) -> Result<Stored, Status> {
        match Stored::from_bytes(bytes) {
            Some((fingerprint, stored)) if fingerprint == self.fingerprint => Ok(stored),
            Some(_) => {
                let message = "this idempotency key was used with other arguments";
                Err(Status::new(Code::InvalidArgument, message))
            }
            None => {
                let message = "the result store holds what this version cannot read";
                Err(Status::new(Code::Internal, message))
            }
        }
    }
}

/// An execution whose panic is a status, for its claim must not stay.
async fn caught(mut execution: Execution) -> Result<Stored, Status> {
    poll_fn(move |cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| execution.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    })
    .await
}
