//! Driver: the one answer of a call.
//!
//! from: [`super::service`], when the handler is done
//! to: [`super::batch`], or [`super::machine`]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::batch::{Answer, Batch};
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
                shared.step(|_, _| {});
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
            // As a task: when the runtime is shutting down this does nothing, instead of going
            // through all waiting calls from inside one another's drop.
            let runtime = shared.runtime().clone();
            runtime.spawn(async move { shared.step(|_, _| {}) });
        }
    }
}

/// Whether handlers are quick enough to be polled by the thread that reads records.
#[derive(Debug)]
pub(super) struct Pace {
    /// A first poll that takes longer holds up the calls behind it.
    quick: Duration,
    /// Calls that are still to be given tasks of their own.
    wary: AtomicU32,
    /// Calls among which another that is not quick counts: one alone may have been interrupted.
    doubtful: AtomicU32,
}

/// Calls that get a task of their own after two were not quick.
const WARY: u32 = 1024;

/// Calls between those two, at most.
const DOUBTFUL: u32 = 256;

impl Pace {
    pub(super) const fn new(quick: Duration) -> Self {
        Self { quick, wary: AtomicU32::new(0), doubtful: AtomicU32::new(0) }
    }

    /// Whether the next handler may be polled here.
    pub(super) fn is_quick(&self) -> bool {
        !one_less(&self.wary)
    }

    /// A call held the thread for so long.
    pub(super) fn polled(&self, took: Duration) {
        let doubted = one_less(&self.doubtful);
        if took > self.quick {
            let counter = if doubted { &self.wary } else { &self.doubtful };
            counter.store(if doubted { WARY } else { DOUBTFUL }, Ordering::Relaxed);
        }
    }
}

/// Counts down; whether there was something left.
fn one_less(counter: &AtomicU32) -> bool {
    let one_less = |left: u32| left.checked_sub(1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
}
