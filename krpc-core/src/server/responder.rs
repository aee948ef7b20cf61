//! Driver: the one answer of a call.
//!
//! from: [`super::service`], when the handler is done · to: [`super::machine`]

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::driver::Shared;
use crate::{
    clock::Clock,
    metadata::Metadata,
    status::{Code, Status},
    time::Time,
    wire::frame::Outcome,
};

/// Answers one call, once; dropped without an answer, it answers `Internal`.
///
/// It does not keep its server alive: a handler that runs on must not keep a dropped server's
/// partitions from those who would repeat its calls.
pub(crate) struct Responder {
    shared: Weak<Shared>,
    runtime: Handle,
    clock: Clock,
    place: usize,
    answered: bool,
    /// Answering from inside [`Shared::dispatch`], which looks for the next call by itself: a
    /// thousand refused calls must not nest a thousand deep.
    inline: bool,
}

impl Responder {
    pub(super) fn new(shared: &Arc<Shared>, place: usize) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            runtime: shared.runtime().clone(),
            clock: shared.clock(),
            place,
            answered: false,
            inline: true,
        }
    }

    /// From here on the answer comes from a task of its own.
    pub(crate) const fn detach(&mut self) {
        self.inline = false;
    }

    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn instant(&self, at: Time) -> std::time::Instant {
        self.clock.instant(at)
    }

    pub(crate) fn finish(mut self, outcome: Outcome<'_>, metadata: &Metadata) {
        let shared = self.answer(outcome, metadata);
        if let Some(shared) = shared.filter(|_| !self.inline) {
            shared.dispatch();
        }
    }

    /// Answers; `None` if the server is gone, so that nobody can.
    fn answer(&mut self, outcome: Outcome<'_>, metadata: &Metadata) -> Option<Arc<Shared>> {
        self.answered = true;
        let (shared, place) = (self.shared.upgrade()?, self.place);
        shared.with(|machine, now| machine.finish(place, outcome, metadata, now));
        Some(shared)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let message = match std::thread::panicking() {
            true => "the handler panicked",
            false => "the server gave the call up",
        };
        let status = Status::new(Code::Internal, message);
        let shared = self.answer(Outcome::Status(status), &Metadata::new());
        if let Some(shared) = shared.filter(|_| !self.inline) {
            // As a task: when the runtime is shutting down this does nothing, instead of going
            // through all waiting calls from inside one another's drop.
            self.runtime.spawn(async move { shared.dispatch() });
        }
    }
}
