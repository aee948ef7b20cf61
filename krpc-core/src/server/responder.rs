//! Driver: the one answer of a call.
//!
//! from: [`super::service`], when the handler is done
//! to: [`super::batch`], or [`super::machine`]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    batch::{Answer, Batch},
    idempotency::Idempotency,
};
use crate::{
    metadata::Metadata,
    status::{Code, Status},
    wire::frame::Outcome,
};

/// Answers one call, once; dropped in a panic, or by the service, it answers `Internal`.
pub(crate) struct Responder {
    batch: Arc<Batch>,
    place: usize,
    answered: bool,
    /// The answer comes from a task of its own, and not from inside of a run.
    detached: bool,
}

impl Responder {
    /// Of a call that runs in `batch`.
    pub(super) fn new(batch: &Arc<Batch>, place: usize) -> Self {
        Self { batch: Arc::clone(batch), place, answered: false, detached: false }
    }

    /// From here on the answer comes from a task of its own, on this runtime; `None` if the
    /// server is gone.
    pub(crate) fn detach(&mut self) -> Option<Handle> {
        self.detached = true;
        self.batch.shared().map(|shared| shared.runtime().clone())
    }

    /// How calls with an idempotency key are to be treated; `None` if the server is gone.
    pub(crate) fn idempotency(&self) -> Option<Idempotency> {
        self.batch.shared().map(|shared| shared.options().idempotency.clone())
    }

    pub(crate) fn finish(mut self, outcome: Outcome<'_>, metadata: Metadata) {
        self.answered = true;
        let Some(answer) = self.gather(outcome, metadata) else { return };
        let Some(shared) = self.batch.shared() else { return };
        if self.detached {
            shared.step(|machine, now| answer.finish(machine, now));
        } else {
            // Not `step`, or a thousand calls that are done at once would nest a thousand deep.
            // Whoever runs them looks for the next call by himself.
            shared.with(|machine, now| answer.finish(machine, now));
            if self.batch.freed() {
                shared.run_soon();
            }
        }
    }

    /// Gives the answer to the batch; back comes one that has to go to the machine alone.
    fn gather<'a>(&self, outcome: Outcome<'a>, metadata: Metadata) -> Option<Answer<'a>> {
        let answer = Answer { place: self.place, outcome, metadata };
        if self.detached { Some(answer) } else { self.batch.gather(answer) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        // A task that is dropped without a panic goes with its runtime: that is a crash, after
        // which a successor repeats the call.
        if self.answered || (self.detached && !panicking) {
            return;
        }
        let message = match panicking {
            true => "the handler panicked",
            false => "the service gave the call up",
        };
        let outcome = Outcome::Status(Status::new(Code::Internal, message));
        let Some(answer) = self.gather(outcome, Metadata::new()) else { return };
        if let Some(shared) = self.batch.shared() {
            shared.with(|machine, now| answer.finish(machine, now));
            // Not here, or it would go through all waiting calls from inside one another's drop.
            shared.run_soon();
        }
    }
}

/// Whether handlers are quick enough to be polled by the thread that hands their calls out.
///
/// A clock cannot tell a handler that computes from one whose thread was interrupted, as happens
/// to one of a hundred calls on a busy machine. So it is not single calls that count, but how much
/// all of them hold up.
#[derive(Debug)]
pub(super) struct Pace {
    /// A first poll that takes longer holds up the calls behind it.
    quick: Duration,
    /// Calls that are still to be given tasks of their own.
    wary: AtomicU32,
    /// Microseconds by which calls were held up, less what was forgiven since.
    held: AtomicU64,
}

/// Calls that get a task of their own after others were held up for too long.
const WARY: u32 = 1024;

/// How much calls may be held up, in quick polls: some milliseconds.
const HELD: u32 = 50;

/// How much is forgiven with each call: the fourth part of a quick poll.
const FORGIVEN: u32 = 4;

impl Pace {
    pub(super) const fn new(quick: Duration) -> Self {
        Self { quick, wary: AtomicU32::new(0), held: AtomicU64::new(0) }
    }

    /// Whether the next handler may be polled here.
    pub(super) fn is_quick(&self) -> bool {
        !one_less(&self.wary)
    }

    /// A call held the thread for so long.
    pub(super) fn polled(&self, took: Duration) {
        let held = self.held.load(Ordering::Relaxed);
        if took <= self.quick {
            if held > 0 {
                let forgiven = micros(self.quick / FORGIVEN);
                self.held.store(held.saturating_sub(forgiven), Ordering::Relaxed);
            }
            return;
        }
        let held = held.saturating_add(micros(took));
        let too_long = held >= micros(self.quick.saturating_mul(HELD));
        if too_long {
            self.wary.store(WARY, Ordering::Relaxed);
        }
        self.held.store(if too_long { 0 } else { held }, Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Counts down; whether there was something left.
fn one_less(counter: &AtomicU32) -> bool {
    let one_less = |left: u32| left.checked_sub(1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(100);

    /// Of these calls, how many ran before one was to get a task.
    fn calls_until_wary(took: impl Iterator<Item = u64>) -> Option<usize> {
        let pace = Pace::new(QUICK);
        took.map(Duration::from_micros).position(|took| {
            pace.polled(took);
            !pace.is_quick()
        })
    }

    #[test]
    fn handlers_that_hold_up_others_get_tasks() {
        assert_eq!(calls_until_wary([1_000_000].into_iter()), Some(0));
        assert_eq!(calls_until_wary((0..1_000).map(|_| 150)), Some(33));
        let one_of_ten = calls_until_wary(
            (0..1_000).map(|call: u64| if call.is_multiple_of(10) { 2_000 } else { 1 }),
        );
        assert!(one_of_ten.is_some_and(|calls| calls < 40), "{one_of_ten:?}");
    }

    #[test]
    fn a_thread_that_is_interrupted_now_and_then_is_no_slow_handler() {
        let interrupted = |call: u64| if call.is_multiple_of(100) { 2_000 } else { 5 };
        assert_eq!(calls_until_wary((0..100_000).map(interrupted)), None);
        assert_eq!(calls_until_wary((0..100_000).map(|_| 100)), None);
    }

    #[test]
    fn after_a_while_handlers_are_tried_again() {
        let pace = Pace::new(QUICK);
        pace.polled(Duration::from_secs(1));
        assert!((0..WARY).all(|_| !pace.is_quick()));
        assert!(pace.is_quick());
    }
}
