//! Driver: the answers of calls that run one after the other on one thread.
//!
//! Most handlers are done at once. Their answers go to the machine together: under one lock, and
//! in packets that they share.
//!
//! from: [`super::responder`] · to: [`super::machine`], through [`super::driver`]

use std::{
    ops::Range,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{driver::Shared, machine::ServerMachine};
use crate::{
    codec::ValueCodec, context::Context, metadata::Metadata, status::Status, time::Time,
    wire::frame::Outcome,
};

/// Bytes of a value from which its answer goes alone: copying it costs more than a lock.
const LARGE: usize = 4096;

/// The one answer of a call, on its way to the machine.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) place: usize,
    pub(super) outcome: Outcome<'a>,
    pub(super) metadata: Metadata,
}

impl Answer<'_> {
    pub(super) fn finish(self, machine: &mut ServerMachine<Context>, now: Time) {
        machine.finish(self.place, self.outcome, &self.metadata, now);
    }
}

/// Answers without their values, and the values.
#[derive(Debug, Default)]
struct Gathered {
    /// Threads that run calls: the last one leaves nothing behind.
    runs: usize,
    answers: Vec<(usize, Kind, Range<usize>, Metadata)>,
    values: Vec<u8>,
    /// Places became free by other answers.
    freed: bool,
}

/// An [`Outcome`] without its value.
#[derive(Debug)]
enum Kind {
    Ok(ValueCodec),
    App(ValueCodec),
    Status(Status),
}

impl Gathered {
    fn push(&mut self, answer: Answer<'_>) {
        let (kind, value) = match answer.outcome {
            Outcome::Ok { codec, value } => (Kind::Ok(codec), value),
            Outcome::App { codec, value } => (Kind::App(codec), value),
            Outcome::Status(status) => (Kind::Status(status), &[][..]),
        };
        let start = self.values.len();
        self.values.extend_from_slice(value);
        let range = start..self.values.len();
        self.answers.push((answer.place, kind, range, answer.metadata));
    }

    fn finish(&mut self, machine: &mut ServerMachine<Context>, now: Time) {
        for (place, kind, range, metadata) in self.answers.drain(..) {
            let value = &self.values[range];
            let outcome = match kind {
                Kind::Ok(codec) => Outcome::Ok { codec, value },
                Kind::App(codec) => Outcome::App { codec, value },
                Kind::Status(status) => Outcome::Status(status),
            };
            machine.finish(place, outcome, &metadata, now);
        }
        self.values.clear();
    }
}

/// Gathers the answers of calls as long as a thread that runs calls comes back for them.
///
/// It does not keep its server alive: a handler that runs on must not keep a dropped server's
/// partitions from those who would repeat its calls.
#[derive(Debug)]
pub(super) struct Batch {
    shared: Weak<Shared>,
    gathered: Mutex<Gathered>,
}

impl Batch {
    pub(super) fn new(shared: Weak<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, gathered: Mutex::default() })
    }

    pub(super) fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade()
    }

    /// A thread begins to run calls; it comes back by [`Batch::finish`] and [`Batch::end_run`].
    pub(super) fn begin_run(&self) {
        self.gathered.lock().runs += 1;
    }

    /// A place became free by an answer that was not gathered; whether nobody will look for the
    /// next call by himself.
    pub(super) fn freed(&self) -> bool {
        let mut gathered = self.gathered.lock();
        gathered.freed = gathered.runs > 0;
        gathered.runs == 0
    }

    /// Takes an answer; gives it back if it is large, or nobody will come for it.
    pub(super) fn gather<'a>(&self, answer: Answer<'a>) -> Option<Answer<'a>> {
        let mut gathered = self.gathered.lock();
        if gathered.runs == 0 || answer.outcome.value().len() >= LARGE {
            return Some(answer);
        }
        gathered.push(answer);
        None
    }

    /// Gives the machine what was gathered, by one who goes on to look for the next calls.
    pub(super) fn finish(&self, machine: &mut ServerMachine<Context>, now: Time) {
        let mut gathered = self.gathered.lock();
        gathered.finish(machine, now);
        gathered.freed = false;
    }

    /// The same, by one who does not: places became free then.
    pub(super) fn fetch(&self, machine: &mut ServerMachine<Context>, now: Time) {
        let mut gathered = self.gathered.lock();
        gathered.freed |= !gathered.answers.is_empty();
        gathered.finish(machine, now);
    }

    /// The thread has run its calls. False if answers or places came after its last
    /// [`Batch::finish`] and nobody else comes for them: then the run goes on.
    pub(super) fn end_run(&self) -> bool {
        let mut gathered = self.gathered.lock();
        let left = gathered.freed || !gathered.answers.is_empty();
        let ends = gathered.runs > 1 || !left;
        gathered.runs -= usize::from(ends);
        ends
    }
}
