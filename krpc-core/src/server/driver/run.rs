//! Driver: runs the calls that may run, on the thread that made it so.
//!
//! from: [`crate::server::events`], when records were read, and [`crate::server::responder`]
//! to: [`crate::server::builtin`] (calls to run), [`crate::server::batch`] (their answers)

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::Shared;
use crate::{
    context::{Context, Facts},
    metadata::Metadata,
    server::{
        builtin,
        incoming::{Call, Invocation},
        machine::{Dispatch, ServerMachine},
        responder::Responder,
        service::{Incoming, unwanted},
    },
    time::Time,
    wire::frame::Outcome,
};

/// How many calls one thread runs, and which of them it begins itself.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// In all.
    calls: usize,
    /// Taken out under one lock, and their answers come back under one.
    at_once: usize,
    /// It begins them also when one before was not done at once.
    all_here: bool,
}

/// The thread that reads records, and has nothing to do that could not wait.
const READER: Turn = Turn { calls: usize::MAX, at_once: 1024, all_here: true };

/// A worker of the runtime, whose other tasks wait meanwhile: some ten microseconds for quick
/// handlers. Other workers steal its tasks, but not the one that it woke last. That may be the task
/// of a call before, or the alarm's, which fetches answers: so no handler is begun here behind one
/// that was not done at once, or behind answers that the machine has not got.
const WORKER: Turn = Turn { calls: 16, at_once: 1, all_here: false };

/// How long answers wait, at most, for those of the calls behind them, to share packets: after
/// 100 µs instead, each of 1,024 calls in flight took a fifth more CPU.
const HELD_UP: Duration = Duration::from_millis(2);

/// A call to run.
#[derive(Debug)]
pub(super) struct Work {
    place: usize,
    service: u16,
    call: Invocation,
    context: Context,
}

impl Shared {
    /// Drives the machine with an event, and runs what may run then: some calls on this worker of
    /// the runtime, as far as they are done at once, and the others soon.
    pub(in crate::server) fn step(
        self: &Arc<Self>,
        event: impl FnOnce(&mut ServerMachine<Context>, Time),
    ) {
        self.drive(event, WORKER);
    }

    /// Runs every call that may run now, on this thread as far as it is done at once.
    pub(in crate::server) fn dispatch(self: &Arc<Self>) {
        self.drive(|_, _| {}, READER);
    }

    fn drive(self: &Arc<Self>, event: impl FnOnce(&mut ServerMachine<Context>, Time), turn: Turn) {
        let mut calls = std::mem::take(&mut *self.calls.lock());
        self.with(|machine, now| {
            event(machine, now);
            self.next_calls(machine, now, &mut calls, turn.at_once);
        });
        if !calls.is_empty() {
            self.run(&mut calls, turn);
        }
        let mut kept = self.calls.lock();
        if kept.capacity() < calls.capacity() {
            *kept = calls;
        }
    }

    /// Runs these calls, and then whatever may run after them, up to so many. The machine gets
    /// their answers together, but none later than [`HELD_UP`].
    fn run(self: &Arc<Self>, calls: &mut Vec<Work>, turn: Turn) {
        // Handlers may start tasks and timers at their first poll already.
        let _entered = self.runtime.enter();
        let batch = &self.batch;
        batch.begin_run();
        let mut left = turn.calls;
        let mut here = true;
        loop {
            left -= calls.len();
            let last = calls.last().map(|work| work.place);
            let mut began = self.clock.now();
            let mut given = None;
            for Work { place, service: index, call, context } in calls.drain(..) {
                // Should this one hold the thread up, the answers before it are fetched.
                match given {
                    None => given = Some(began),
                    Some(_) => self.alarm.set(Some(began + HELD_UP)),
                }
                let responder = Responder::new(batch, place);
                let Some(service) = self.service(usize::from(index)) else { continue };
                // Those before it may have taken long.
                if let Some(status) = unwanted(&context, began) {
                    responder.finish(Outcome::Status(status), Metadata::new());
                    continue;
                }
                // Asked for each, as it counts those that get tasks.
                let here = self.pace.is_quick() && here;
                let incoming = Incoming::new(call, context, responder, here);
                // The user's code again: of serializing and dropping. A panic of it ends the call,
                // which is answered as it is dropped, and not this thread.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    builtin::dispatch(self, index, &**service, incoming);
                }));
                let now = self.clock.now();
                self.pace.polled(now.saturating_since(began));
                began = now;
                if given.is_some_and(|at| now.saturating_since(at) > HELD_UP) {
                    self.with(|machine, now| batch.fetch(machine, now));
                    began = self.clock.now();
                    given = None;
                }
            }
            self.with(|machine, now| {
                batch.finish(machine, now);
                here &= turn.all_here || last.is_none_or(|place| !machine.is_running(place));
                self.next_calls(machine, now, calls, left.min(turn.at_once));
            });
            if calls.is_empty() && batch.end_run() {
                if left == 0 {
                    self.run_soon();
                }
                return;
            }
        }
    }

    /// The next calls that may run, at most so many.
    fn next_calls(
        &self,
        machine: &mut ServerMachine<Context>,
        now: Time,
        calls: &mut Vec<Work>,
        most: usize,
    ) {
        let clock = machine.clock.clone();
        let context = |call: &mut Call| {
            let (key, due) = call.terms.as_mut().map_or((None, None), |terms| {
                (terms.key.take(), terms.due.map(|it| clock.unstamp(it.due, now)))
            });
            let facts = Facts {
                metadata: std::mem::take(&mut call.metadata),
                deadline: call.execution_deadline(now),
                fence: call.fence,
                attempt: call.attempt(),
                caller: call.origin.caller,
                caller_name: call.verdict.take().and_then(|verdict| verdict.caller),
                key,
                due,
            };
            Context::new(self.clock, facts)
        };
        // A loop, for an iterator would copy each call once more.
        for _ in 0..most {
            match machine.poll_dispatch(now, context) {
                Some(Dispatch { place, call, cancel }) => {
                    let service = call.origin.position.partition.service;
                    calls.push(Work { place, service, call: call.into(), context: cancel });
                }
                None => break,
            }
        }
    }
}
