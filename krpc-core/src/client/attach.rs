//! Driver: reads the partitions of results that somebody waits for.
//!
//! A partition is followed by one task, which is there as long as anybody waits, and half a minute
//! longer. Those who come at once are gathered first, so that they share one reading.
//!
//! from: [`super::tickets`]; records by [`super::events`]
//! to: the transport; [`super::results`]

#![expect(clippy::disallowed_methods, reason = "a driver: time and tasks enter here")]

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    channel::ServiceChannel,
    pending::Completion,
    results::{CallName, Results, Seen},
};
use crate::{
    status::{Code, Status},
    transport::{Record, Topic},
};

/// How long those are waited for who come for answers together.
const GATHER: Duration = Duration::from_millis(5);

/// How long a partition is followed that nobody waits for: at least this, and less than twice as
/// long.
const IDLE: Duration = Duration::from_secs(30);

/// How soon a partition is tried again that could not be followed.
const AGAIN: Duration = Duration::from_secs(1);

/// A service's partitions of results, of which some are read.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<BTreeMap<u32, Arc<Reader>>>);

#[derive(Debug, Default)]
struct Reader {
    results: Mutex<Results<Waker>>,
    /// Rung when the partition is to be read from elsewhere.
    wanted: Notify,
    /// Whether there is a task for it. Changes under the lock of `results` only: who comes finds
    /// either a task that sees it, or none.
    kept: AtomicBool,
    /// Whether anybody came lately.
    used: AtomicBool,
}

impl Readers {
    /// A record of results.
    pub(super) fn arrived(&self, record: &Record) {
        let reader = self.0.lock().get(&record.partition.partition).map(Arc::clone);
        if let Some(reader) = reader {
            reader.with(|results| results.handle_record(record));
        }
    }
}

impl Reader {
    fn with<R>(&self, event: impl FnOnce(&mut Results<Waker>) -> R) -> R {
        let mut results = self.results.lock();
        let result = event(&mut results);
        let wakes = results.take_wakes();
        drop(results);
        // Outside the lock: a waker may run anything.
        wakes.into_iter().for_each(Waker::wake);
        result
    }
}

/// Held by the task of a partition, which may also end with its runtime: the next one who comes
/// finds that there is none.
struct Keeping(Option<Arc<Reader>>);

impl Keeping {
    /// Ends the task's part if nobody waits.
    fn end_if_idle(&mut self) -> bool {
        let ended = self.0.as_ref().is_none_or(|reader| {
            reader.with(|results| {
                let idle = results.is_idle();
                if idle {
                    reader.kept.store(false, Ordering::Release);
                }
                idle
            })
        });
        if ended {
            self.0 = None;
        }
        ended
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(reader) = self.0.take() {
            reader.with(|results| {
                // Should anybody be left, the next task reads for them.
                results.failed();
                reader.kept.store(false, Ordering::Release);
            });
        }
    }
}

/// Waits for news of one call, until it is dropped.
#[derive(Debug)]
pub(super) struct Watching {
    reader: Arc<Reader>,
    id: usize,
}

impl Watching {
    /// Whether an answer may have been there that is kept no longer.
    pub(super) async fn is_cut(&self) -> bool {
        poll_fn(|cx| self.poll(|results| results.poll_cut(self.id, cx.waker()))).await
    }

    /// All that the partition says before this offset, or less, if there is the answer.
    pub(super) async fn read_to(&self, end: i64) -> Seen {
        poll_fn(|cx| self.poll(|results| results.poll(self.id, Some(end), cx.waker()))).await
    }

    /// The answer.
    pub(super) async fn answered(&self) -> Completion {
        let answer = |seen: Seen| seen.answer;
        poll_fn(|cx| self.poll(|results| results.poll(self.id, None, cx.waker()).and_then(answer)))
            .await
    }

    fn poll<R>(&self, look: impl FnOnce(&mut Results<Waker>) -> Option<R>) -> Poll<R> {
        self.reader.with(look).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // The waker's drop may run anything, too.
        let waker = self.reader.with(|results| results.unwatch(self.id));
        drop(waker);
    }
}

impl ServiceChannel {
    /// Begins to wait for news of a call, which this partition of the opened results has from this
    /// offset on.
    pub(super) fn watch(
        self: &Arc<Self>,
        partition: u32,
        call: CallName,
        from: i64,
    ) -> Result<Watching, Status> {
        // That of whoever came first may end while others wait.
        let Some(runtime) = self.runtime() else {
            return Err(Status::new(Code::Unavailable, "the service is not open"));
        };
        let reader = Arc::clone(self.readers.0.lock().entry(partition).or_default());
        reader.used.store(true, Ordering::Release);
        let (id, wanted, kept) = reader.with(|results| {
            let (id, wanted) = results.watch(call, from);
            (id, wanted, reader.kept.swap(true, Ordering::AcqRel))
        });
        let watching = Watching { reader, id };
        let reader = &watching.reader;
        if !kept {
            let keeping = Keeping(Some(Arc::clone(reader)));
            runtime.spawn(keep(Arc::downgrade(self), Arc::clone(reader), keeping, partition));
        }
        if wanted {
            reader.wanted.notify_one();
        }
        Ok(watching)
    }

    /// The oldest offset of a partition of results, and the next one.
    pub(super) async fn results_bounds(&self, partition: u32) -> Result<(i64, i64), Status> {
        self.transport()?.bounds(self.index(), Topic::Results, partition).await
    }

    /// Follows the partition from where those who wait for that need it.
    async fn follow_results(&self, reader: &Reader, partition: u32) -> Result<(), Status> {
        let (low, _) = self.results_bounds(partition).await?;
        let Some(from) = reader.with(|results| results.poll_follow(low)) else { return Ok(()) };
        let transport = self.transport()?;
        transport.follow(self.index(), Topic::Results, partition, from).await?;
        let bounds = self.results_bounds(partition).await?;
        reader.with(|results| results.followed(bounds));
        Ok(())
    }
}

/// The task of a partition. It keeps neither the channel nor the service.
async fn keep(
    service: Weak<ServiceChannel>,
    reader: Arc<Reader>,
    mut keeping: Keeping,
    partition: u32,
) {
    loop {
        sleep(GATHER).await;
        if reader.results.lock().wants().is_some() {
            let Some(service) = service.upgrade() else { return };
            if let Err(status) = service.follow_results(&reader, partition).await {
                reader.with(Results::failed);
                if service.closed().is_some() {
                    return;
                }
                tracing::warn!(target: "krpc::client", partition, %status, "no results to read");
                drop(service);
                sleep(AGAIN).await;
                continue;
            }
        }
        if timeout(IDLE, reader.wanted.notified()).await.is_ok() {
            continue;
        }
        let Some(service) = service.upgrade() else { return };
        if service.closed().is_some() {
            return;
        }
        if reader.used.swap(false, Ordering::AcqRel) || !reader.with(Results::stop_if_idle) {
            continue;
        }
        // Whoever comes from here on wants it read anew: by this task, or by the next one.
        if let Ok(transport) = service.transport() {
            transport.unfollow(service.index(), Topic::Results, partition);
        }
        if keeping.end_if_idle() {
            return;
        }
    }
}
