//! A call of each kind, so that there are records in each topic.

use std::time::Duration;

use krpc::{Ticket, TicketStatus, prelude::*};
use krpc_core::{delay::NEAR, transport::Topic};
use tokio::task::JoinHandle;

use super::{Scene, TOGETHER};
use crate::support::eventually;

/// Due so late that the call lies among the delayed ones, and is executed here all the same.
const SOON: Duration = NEAR.saturating_add(Duration::from_secs(1));

/// Due when nobody waits for it here.
const LATE: Duration = Duration::from_secs(24 * 60 * 60);

const DONE: u64 = TOGETHER;
const CANCELLED: u64 = TOGETHER + 1;
const HELD: u64 = TOGETHER + 2;
const BROKEN: u64 = TOGETHER + 3;
pub(super) const DELAYED: u64 = TOGETHER + 4;
const NEVER: u64 = 1_000;

/// The number of the next call.
pub(super) const LAST: u64 = TOGETHER + 5;

/// Calls that were made, beside those that were answered at once.
pub(super) struct Kinds {
    done: Ticket<u64>,
    cancelled: Ticket<u64>,
    /// Its handler waits until it is let through; somebody waits for its answer.
    held: JoinHandle<Result<u64, krpc::Error>>,
    late: Ticket<u64>,
}

impl Kinds {
    pub(super) async fn make(scene: &Scene) -> Self {
        let work = &scene.work;
        scene.call_together().await;
        let done = work.quick(DONE).enqueue().await.unwrap();
        assert_eq!(work.attach(&done).await, Ok(DONE));
        let cancelled = work.held(CANCELLED).enqueue().await.unwrap();
        scene.worker.log.until_running(1).await;
        work.cancel(&cancelled).await.unwrap();
        assert_cancelled(work.attach(&cancelled).await);
        work.breaks(BROKEN).await.unwrap();
        let buried = || scene.server.stats().counts.dead_lettered == 1;
        eventually("the letter is stored", buried).await;
        let late = work.quick(NEVER).delay(LATE).enqueue().await.unwrap();
        let waiting = || scene.written(Topic::Delayed).len();
        eventually("the late one is where it waits", || waiting() == 1).await;
        let held = work.held(HELD).enqueue().await.unwrap();
        scene.worker.log.until_running(1).await;
        let held = tokio::spawn(work.attach(&held));
        Self { done, cancelled, held, late }
    }

    /// Each has its own end, and no other.
    pub(super) async fn end(self, scene: &Scene) {
        let work = &scene.work;
        scene.worker.let_through(1);
        assert_eq!(self.held.await.unwrap(), Ok(HELD));
        assert_eq!(work.attach(&self.done).await, Ok(DONE));
        assert_cancelled(work.attach(&self.cancelled).await);
        let late = work.status(&self.late).await;
        assert!(matches!(late, Ok(TicketStatus::Queued { .. })), "{late:?}");
    }
}

/// A second delayed call, which is due soon.
pub(super) async fn delay(scene: &Scene) -> Ticket<u64> {
    let delayed = scene.work.quick(DELAYED).delay(SOON).enqueue().await.unwrap();
    let waiting = || scene.written(Topic::Delayed).len();
    eventually("it is with those that are delayed", || waiting() == 2).await;
    delayed
}

fn assert_cancelled(answer: Result<u64, krpc::Error>) {
    assert_eq!(answer.unwrap_err().code(), Some(Code::Cancelled));
}
