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

/// Calls that are taken out under one lock, and whose answers come back under one.
const DISPATCH_BATCH: usize = 1024;

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
    /// Drives the machine with an event, and has every call run that may run then: as tasks, for
    /// this may be a worker of the runtime, which a handler must not hold up.
    pub(in crate::server) fn step(
        self: &Arc<Self>,
        event: impl FnOnce(&mut ServerMachine<Context>, Time),
    ) {
        self.drive(event, false);
    }

    /// Runs every call that may run now, on this thread as far as it is done at once.
    pub(in crate::server) fn dispatch(self: &Arc<Self>) {
        self.drive(|_, _| {}, true);
    }

    fn drive(self: &Arc<Self>, event: impl FnOnce(&mut ServerMachine<Context>, Time), here: bool) {
        let mut calls = std::mem::take(&mut *self.calls.lock());
        self.with(|machine, now| {
            event(machine, now);
            self.next_calls(machine, now, &mut calls);
        });
        if !calls.is_empty() {
            self.run(&mut calls, here);
        }
        *self.calls.lock() = calls;
    }

    /// Runs these calls, and then whatever may run after them. The machine gets their answers
    /// together, but none later than [`HELD_UP`].
    fn run(self: &Arc<Self>, calls: &mut Vec<Work>, here: bool) {
        // Handlers may start tasks and timers at their first poll already.
        let _entered = self.runtime.enter();
        let batch = &self.batch;
        batch.begin_run();
        loop {
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
                let incoming =
                    Incoming::new(call, context, responder, here && self.pace.is_quick());
                // The user's code again: of serializing and dropping. A panic of it ends the call,
                // which is answered as it is dropped, and not the thread that reads records.
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
                self.next_calls(machine, now, calls);
            });
            if calls.is_empty() && batch.end_run() {
                return;
            }
        }
    }

    /// The next calls that may run, at most a batch.
    fn next_calls(&self, machine: &mut ServerMachine<Context>, now: Time, calls: &mut Vec<Work>) {
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
        for _ in 0..DISPATCH_BATCH {
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
