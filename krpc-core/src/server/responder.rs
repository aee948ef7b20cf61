//! Driver: the one answer of a call.
//!
//! from: [`super::service`], when the handler is done · to: [`super::machine`]

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

use super::driver::Shared;
use crate::{
    clock::Clock,
    metadata::Metadata,
    status::{Code, Status},
    time::Time,
    wire::frame::Outcome,
};

/// Answers one call, once; dropped in a panic, or by the service, it answers `Internal`.
///
/// It does not keep its server alive: a handler that runs on must not keep a dropped server's
/// partitions from those who would repeat its calls.
pub(crate) struct Responder {
    shared: Weak<Shared>,
    clock: Clock,
    place: usize,
    answered: bool,
    /// Answering from inside [`Shared::run`], which looks for the next call by itself: a thousand
    /// refused calls must not nest a thousand deep.
    inline: bool,
    /// When the handler's first poll began, if it is polled by the thread that reads records.
    began: Option<Time>,
}

impl Responder {
    pub(super) fn new(shared: &Arc<Shared>, place: usize) -> Self {
        let (weak, clock) = (Arc::downgrade(shared), shared.clock());
        Self { shared: weak, clock, place, answered: false, inline: true, began: None }
    }

    /// Whether the handler may be polled here, by the thread that reads records: most handlers
    /// are done at once, or wait for something, and a task for each would cost more than they do.
    /// Not after one of them has held the thread up.
    pub(crate) fn may_poll_here(&mut self) -> bool {
        let here = self.shared.upgrade().is_some_and(|shared| shared.pace().is_quick());
        self.began = here.then(|| self.clock.now());
        here
    }

    /// The handler was polled here.
    pub(crate) fn polled_here(&mut self) {
        if let Some((began, shared)) = self.began.take().zip(self.shared.upgrade()) {
            shared.pace().polled(self.clock.now().saturating_since(began));
        }
    }

    /// From here on the answer comes from a task of its own, on this runtime; `None` if the
    /// server is gone.
    pub(crate) fn detach(&mut self) -> Option<Handle> {
        self.inline = false;
        self.shared.upgrade().map(|shared| shared.runtime().clone())
    }

    pub(crate) fn finish(mut self, outcome: Outcome<'_>, metadata: &Metadata) {
        self.answered = true;
        let Some(shared) = self.shared.upgrade() else { return };
        let (place, inline) = (self.place, self.inline);
        if inline {
            shared.with(|machine, now| machine.finish(place, outcome, metadata, now));
        } else {
            shared.step(|machine, now| machine.finish(place, outcome, metadata, now));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        // A task that is dropped without a panic goes with its runtime: that is a crash, after
        // which a successor repeats the call.
        if self.answered || !(self.inline || panicking) {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let message = match panicking {
            true => "the handler panicked",
            false => "the service gave the call up",
        };
        let outcome = Outcome::Status(Status::new(Code::Internal, message));
        let place = self.place;
        shared.with(|machine, now| machine.finish(place, outcome, &Metadata::new(), now));
        if !self.inline {
            // As a task: when the runtime is shutting down this does nothing, instead of going
            // through all waiting calls from inside one another's drop.
            let runtime = shared.runtime().clone();
            runtime.spawn(async move { shared.dispatch() });
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
}

/// Calls that get a task of their own after one was not quick.
const WARY: u32 = 1024;

impl Pace {
    pub(super) const fn new(quick: Duration) -> Self {
        Self { quick, wary: AtomicU32::new(0) }
    }

    fn is_quick(&self) -> bool {
        let one_less = |wary: u32| wary.checked_sub(1);
        self.wary.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err()
    }

    fn polled(&self, took: Duration) {
        if took > self.quick {
            self.wary.store(WARY, Ordering::Relaxed);
        }
    }
}
