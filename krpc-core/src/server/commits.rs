//! Driver: commits what is finished, one request for all partitions: at intervals, and at once
//! where calls wait for it.
//!
//! from: [`super::ledger`] and [`super::gate`], through the machine · to: the transport's commit

#![expect(clippy::disallowed_methods, reason = "a driver: the interval is real time")]

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

use super::{driver::Shared, machine::ServerMachine};

/// What the commit loop is told.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// There is something to commit.
    due: Bell,
    /// Somebody waits for it.
    hurry: Bell,
}

/// Rung once until it is looked at.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    notify: Notify,
}

impl Bell {
    fn ring(&self, when: impl FnOnce() -> bool) {
        let rings =
            !self.rung.load(Ordering::Acquire) && when() && !self.rung.swap(true, Ordering::AcqRel);
        if rings {
            self.notify.notify_one();
        }
    }
}

impl Commits {
    /// Looks what the machine has to commit.
    pub(super) fn look<K: Clone>(&self, machine: &ServerMachine<K>) {
        self.due.ring(|| machine.has_commits());
        if machine.awaits_commit() {
            self.hurry.ring(|| machine.has_commits());
        }
    }

    /// There is no server any more.
    pub(super) fn stop(&self) {
        self.due.notify.notify_one();
    }

    /// What comes from now on rings again.
    fn seen(&self) {
        self.due.rung.store(false, Ordering::Release);
        self.hurry.rung.store(false, Ordering::Release);
    }
}

/// Commits what is finished, one commit after the other, as long as there is a server.
pub(super) async fn commit_loop(weak: Weak<Shared>, commits: Arc<Commits>) {
    let mut failed = false;
    loop {
        commits.due.notify.notified().await;
        let Some(interval) = weak.upgrade().map(|shared| shared.options().commit_interval) else {
            return;
        };
        let pause = tokio::time::sleep(interval);
        if failed {
            pause.await;
        } else {
            tokio::select! {
                () = pause => {}
                () = commits.hurry.notify.notified() => {}
            }
        }
        let Some(shared) = weak.upgrade() else { return };
        commits.seen();
        let points = shared.with(|machine, _| machine.poll_commit()).unwrap_or_default();
        let Some(transport) = shared.transport().map(Arc::clone) else { return };
        // A server that is dropped meanwhile must not live until the commit is answered.
        drop(shared);
        if points.is_empty() {
            continue;
        }
        let partitions: Vec<_> = points.iter().map(|point| point.partition).collect();
        let results = transport.commit(points).await;
        drop(transport);
        let Some(shared) = weak.upgrade() else { return };
        failed = false;
        let results = partitions.into_iter().zip(results).map(|(partition, result)| {
            if let Err(cause) = &result {
                tracing::warn!(target: "krpc::server", ?partition, cause, "commit failed");
                failed = true;
            }
            (partition, result.is_ok())
        });
        let results: Vec<_> = results.collect();
        shared.with(|machine, now| machine.handle_committed(&results, now));
    }
}
