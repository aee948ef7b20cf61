//! Driver: commits what is finished, one request for all partitions, at intervals.
//!
//! from: [`super::ledger`], through the machine · to: the transport's commit

#![expect(clippy::disallowed_methods, reason = "a driver: the interval is real time")]

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::driver::Shared;

/// Commits what is finished, at intervals, as long as there is something.
pub(super) async fn commit_loop(weak: Weak<Shared>, commits: Arc<Notify>) {
    loop {
        commits.notified().await;
        let Some(interval) = weak.upgrade().map(|shared| shared.options().commit_interval) else {
            return;
        };
        tokio::time::sleep(interval).await;
        let Some(shared) = weak.upgrade() else { return };
        shared.commits_seen();
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
        for (partition, result) in partitions.into_iter().zip(results) {
            if let Err(cause) = result {
                tracing::warn!(target: "krpc::server", ?partition, cause, "commit failed");
                shared.with(|machine, _| machine.handle_commit_failed(partition));
            }
        }
    }
}
