//! Whether a call is sent again, when, and how often at most: policy, back-off, hedge and budget.
//!
//! Pure: time and entropy are arguments. What may harm is bounded twice: each call by its policy
//! and its deadline, and all calls of a service together by a [`Budget`], so that a service in
//! trouble is not held there by those who repeat what it refused.
//!
//! from: `client/attempts`, with what happened · to: the same, with what is to be done

use std::{ops::Range, time::Duration};

use crate::{
    status::{Code, Status},
    time::{Time, micros},
};

/// How often a call may be sent at most: what needs more needs another cure.
pub const MAX_ATTEMPTS: u32 = 100;

/// The largest share of a [`Budget`]: ten times as much again as there are calls.
pub const MAX_SHARE: f64 = 10.0;

/// Repeats that a [`Budget`] holds when no call failed for a while.
pub const BURST: u64 = 10;

/// When a call whose failure may pass is sent again, and how often.
///
/// It concerns calls of `#[rpc(idempotent)]` methods only, and failures that
/// [may pass](Status::is_retryable); never an application's own error, an expired deadline or a
/// cancellation. All attempts share the call's deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    attempts: u32,
    shortest: Duration,
    longest: Duration,
}

impl RetryPolicy {
    /// Three attempts, with a back-off of 50 ms to 1 s: the default of channels.
    pub const fn new() -> Self {
        Self {
            attempts: 3,
            shortest: Duration::from_millis(50),
            longest: Duration::from_millis(1000),
        }
    }

    /// One attempt.
    pub const fn none() -> Self {
        Self::new().attempts(1)
    }

    /// How often the call is sent at most, the first time included; 1 to 100.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The back-off after the first failure, which doubles with each further one, and the longest
    /// one. Of each, a part is waited that chance decides, from nothing to all of it, so that
    /// callers that failed together do not come back together.
    #[must_use]
    pub const fn backoff(mut self, backoff: Range<Duration>) -> Self {
        (self.shortest, self.longest) = (backoff.start, backoff.end);
        self
    }

    /// Whether it allows more than one attempt.
    pub const fn repeats(&self) -> bool {
        self.attempts > 1
    }

    /// What is wrong with it, if something is.
    pub fn mistake(&self) -> Option<&'static str> {
        match () {
            () if !(1..=MAX_ATTEMPTS).contains(&self.attempts) => {
                Some("the attempts of a retry policy are from 1 to 100")
            }
            () if self.shortest.is_zero() => Some("the back-off begins with more than zero"),
            () if self.shortest > self.longest => Some("the back-off ends before it begins"),
            () => None,
        }
    }

    /// How long to wait when so many attempts, at least one, have failed.
    fn delay(&self, failed: u32, entropy: u64) -> Duration {
        let doubled = 1 << failed.saturating_sub(1).min(31);
        let most = micros(self.shortest.saturating_mul(doubled).min(self.longest));
        // The upper half of the product: a share of `most`, without the bias of a remainder.
        let part = (u128::from(entropy) * (u128::from(most) + 1)) >> 64;
        Duration::from_micros(u64::try_from(part).unwrap_or(most))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// What all calls of a service on a channel may be sent again, retries and hedges together.
///
/// Each call that may be repeated pays a share in, each repeat takes one out, and no more than
/// [`BURST`] is kept. So of any number of calls in a row, at most that share is repeated, and
/// [`BURST`] more.
#[derive(Clone, Debug)]
pub struct Budget {
    /// In thousandths of a repeat.
    left: u64,
    /// What a call pays in, in thousandths of a repeat.
    share: u64,
    counts: RetryCounts,
}

/// How often calls of a service were sent again.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct RetryCounts {
    /// Attempts after a failure.
    pub retries: u64,
    /// Second sendings because the first was not answered in time.
    pub hedges: u64,
    /// Repeats that were not made because the budget was used up.
    pub refused: u64,
}

impl Budget {
    const WHOLE: u64 = 1000;

    /// A full one, into which each call pays this share: 0, for no repeats at all, to
    /// [`MAX_SHARE`], in steps of a thousandth.
    pub fn new(share: f64) -> Self {
        let share = (share.clamp(0.0, MAX_SHARE) * 1000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 10,000"
        )]
        let share = share as u64;
        let left = if share == 0 { 0 } else { BURST * Self::WHOLE };
        Self { left, share, counts: RetryCounts::default() }
    }

    /// What was repeated so far.
    pub const fn counts(&self) -> RetryCounts {
        self.counts
    }

    fn earn(&mut self) {
        self.left = (self.left + self.share).min(BURST * Self::WHOLE);
    }

    fn take(&mut self, what: Due) -> bool {
        let Some(left) = self.left.checked_sub(Self::WHOLE) else {
            self.counts.refused += 1;
            return false;
        };
        self.left = left;
        match what {
            Due::Attempt => self.counts.retries += 1,
            Due::Hedge => self.counts.hedges += 1,
        }
        true
    }
}

/// What is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// The call, for the first time or after a failure.
    Attempt,
    /// The call once more, to another server, beside the attempt that is not answered.
    Hedge,
}

/// What is known and planned of one call that may be sent more than once.
///
/// Events: `handle_sent`, `handle_failed`; what to do: `poll_due`, `next_timeout`.
#[derive(Debug)]
pub struct Plan {
    policy: RetryPolicy,
    /// How long an attempt may be unanswered; absent when there was a hedge: one is enough.
    hedge: Option<Duration>,
    deadline: Time,
    /// Attempts that failed, an attempt and its hedge counting as one.
    failed: u32,
    /// Sent and not ended.
    flying: u32,
    due: Option<(Time, Due)>,
}

impl Plan {
    /// The first attempt is due at once.
    pub fn new(policy: RetryPolicy, hedge: Option<Duration>, deadline: Time) -> Self {
        let due = Some((Time::default(), Due::Attempt));
        Self { policy, hedge, deadline, failed: 0, flying: 0, due }
    }

    /// What is to be sent now.
    pub fn poll_due(&mut self, now: Time, budget: &mut Budget) -> Option<Due> {
        let (_, what) = self.due.take_if(|(at, _)| *at <= now)?;
        let allowed = match what {
            // A retry took its part when it was decided on.
            Due::Attempt => {
                if self.failed == 0 {
                    budget.earn();
                }
                true
            }
            Due::Hedge => {
                self.hedge = None;
                budget.take(what)
            }
        };
        allowed.then_some(what)
    }

    /// When [`Plan::poll_due`] has something to do.
    pub fn next_timeout(&self) -> Option<Time> {
        self.due.map(|(at, _)| at)
    }

    /// It was sent.
    pub fn handle_sent(&mut self, what: Due, now: Time) {
        self.flying += 1;
        if what == Due::Attempt {
            let at = self.hedge.map(|after| (now + after, Due::Hedge));
            // Nothing is gained by it later than that.
            self.due = at.filter(|(at, _)| *at < self.deadline);
        }
    }

    /// What was sent, or could not be, has failed. Whether that is the call's end; otherwise there
    /// is something in flight or due.
    pub fn handle_failed(
        &mut self,
        status: &Status,
        entropy: impl FnOnce() -> u64,
        now: Time,
        budget: &mut Budget,
    ) -> bool {
        self.flying = self.flying.saturating_sub(1);
        if !may_pass(status) {
            return true;
        }
        if self.flying > 0 {
            return false;
        }
        self.due = None;
        self.failed += 1;
        if self.failed >= self.policy.attempts {
            return true;
        }
        let at = now + self.policy.delay(self.failed, entropy());
        if at >= self.deadline || !budget.take(Due::Attempt) {
            return true;
        }
        self.due = Some((at, Due::Attempt));
        false
    }
}

/// Whether the same call may fare better. Where time is up or the caller is gone it cannot,
/// whatever a server says.
fn may_pass(status: &Status) -> bool {
    let over = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
    status.is_retryable() && !over
}

#[cfg(test)]
mod tests;
