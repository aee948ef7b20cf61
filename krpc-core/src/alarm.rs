//! Driver: one timer for a machine, set by whoever moves the machine's next timeout forward.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

use crate::{clock::Clock, time::Time};

/// Holds the earliest moment at which something is due. Setting it is cheap: only a moment
/// earlier than the one that is set wakes the task.
#[derive(Debug)]
pub(crate) struct Alarm {
    at: AtomicU64,
    stopped: AtomicBool,
    changed: Notify,
}

const NEVER: u64 = u64::MAX;

impl Alarm {
    pub(crate) fn new() -> Arc<Self> {
        let (at, stopped) = (AtomicU64::new(NEVER), AtomicBool::new(false));
        Arc::new(Self { at, stopped, changed: Notify::new() })
    }

    /// Something is due at `next`.
    pub(crate) fn set(&self, next: Option<Time>) {
        // A look first, for it is nearly always set early enough.
        let earlier = |next: &u64| *next < self.at.load(Ordering::Acquire);
        let Some(next) = next.map(Time::as_micros).filter(earlier) else { return };
        if next < self.at.fetch_min(next, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// Ends the task.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Calls `ring` whenever the moment has come, until the owner is gone or the alarm stopped.
    /// `ring` says what is due next through [`Alarm::set`].
    pub(crate) async fn run<T>(self: Arc<Self>, clock: Clock, owner: Weak<T>, ring: fn(&T)) {
        while !self.stopped.load(Ordering::Acquire) {
            let at = Time::from_micros(self.at.load(Ordering::Acquire));
            if at == Time::MAX {
                self.changed.notified().await;
                continue;
            }
            if clock.now() < at {
                tokio::select! {
                    () = tokio::time::sleep_until(clock.instant(at).into()) => {}
                    () = self.changed.notified() => continue,
                }
            }
            self.at.store(NEVER, Ordering::Release);
            match owner.upgrade() {
                Some(owner) => ring(&owner),
                None => return,
            }
        }
    }
}
