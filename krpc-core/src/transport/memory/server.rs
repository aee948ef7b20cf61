//! Driver: a server's side of the in-process broker: one task reads the partitions that the
//! groups assign, and lets go of those they take away.
//!
//! from: the partitions' logs and the groups
//! to: [`ServerEvents`]

use std::sync::{
    Arc, Once, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Lease,
    broker::{Membership, Work},
    group::Member,
    side::Side,
};
use crate::{
    error::SetupError,
    ids::PartitionId,
    status::Status,
    transport::{
        BoxFuture, CommitPoint, Producer, Rejected, ServerEvents, ServerTransport, Target, Topic,
        Topics, Topology, TransportConfig,
    },
};

/// The handle: dropping it without [`ServerTransport::leave`] is a crash.
#[derive(Debug)]
pub(super) struct MemoryServer {
    shared: Arc<Shared>,
}

/// What the handle and the reading task share.
#[derive(Debug)]
struct Shared {
    side: Side,
    events: Arc<dyn ServerEvents>,
    places: OnceLock<Vec<Membership>>,
    /// Whether the task runs that reads what is followed.
    along: Once,
    leaving: AtomicBool,
    /// Told when the last partition is released while leaving.
    left: Notify,
    uncommitted: Mutex<Vec<String>>,
}

/// Partitions that were released, and their final points.
struct Released {
    partitions: Vec<PartitionId>,
    points: Vec<CommitPoint>,
}

/// Ends the membership with the reading task, however that ends, so that nobody waits for it.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.crash();
    }
}

impl MemoryServer {
    /// A server's side; its reading task runs from [`ServerTransport::join`] on.
    ///
    /// # Errors
    /// There is no runtime here.
    pub(super) fn new(
        broker: Lease,
        config: TransportConfig,
        events: Arc<dyn ServerEvents>,
    ) -> Result<Self, SetupError> {
        let shared = Shared {
            side: Side::new(broker, config, events.clone())?,
            events,
            places: OnceLock::new(),
            along: Once::new(),
            leaving: AtomicBool::new(false),
            left: Notify::new(),
            uncommitted: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn places(&self) -> &[Membership] {
        self.places.get().map_or(&[], Vec::as_slice)
    }

    fn owns_any(&self) -> bool {
        self.side.broker.owns_any(self.side.id, self.places())
    }

    fn join_groups(&self) -> Vec<Membership> {
        let join = |(index, service): (u16, super::side::Service)| {
            let group = self.side.config.group(&service.name);
            let (side, wake) = (self.side.id, self.side.wake.clone());
            self.side.broker.join(service.calls, &group, Member { side, service: index, wake })
        };
        self.side.services().into_iter().map(join).collect()
    }

    fn crash(&self) {
        self.side.broker.crash(self.side.id, self.places());
        self.left.notify_waiters();
    }

    /// Hands this over; `false` if nobody wants it any more.
    fn hand_over(&self, work: &mut Work) -> bool {
        if self.side.is_gone() {
            return false;
        }
        if !work.assigned.is_empty() {
            self.events.assigned(std::mem::take(&mut work.assigned));
        }
        for record in work.records.drain(..) {
            if self.side.is_gone() {
                return false;
            }
            self.events.arrived(record);
        }
        true
    }

    fn release(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Released> {
        let points = self.events.release(partitions.clone());
        Box::pin(async move { Released { partitions, points: points.await } })
    }

    /// Commits the final points and lets the partitions go.
    fn finish(&self, released: Released) {
        let Released { partitions, points } = released;
        let side = &self.side;
        let results = side.broker.release(side.id, self.places(), points, &partitions);
        for error in results.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "the final point of a released partition is not committed");
            self.uncommitted.lock().push(error);
        }
        if self.leaving.load(Ordering::Acquire) && !self.owns_any() {
            self.left.notify_waiters();
        }
    }
}

/// Fetches what the broker has for this server and hands it over, until the side ends.
///
/// Neither a full server nor one that is releasing holds up the rest: both futures are waited for
/// beside the next piece of work, not before it.
async fn read(shared: Arc<Shared>) {
    let ended = Ended(shared);
    let shared = &ended.0;
    let (broker, id, wake) = (&shared.side.broker, shared.side.id, &shared.side.wake);
    let mut full: Option<BoxFuture<'static, ()>> = None;
    let mut releasing: Option<BoxFuture<'static, Released>> = None;
    let (mut turn, mut work) = (0_usize, Work::default());
    loop {
        let (hungry, free) = (full.is_none(), releasing.is_none());
        broker.work(id, shared.places(), hungry, free, turn, &mut work);
        let idle = work.is_empty();
        let (revoked, batch) = (std::mem::take(&mut work.revoked), !work.records.is_empty());
        if !shared.hand_over(&mut work) {
            return;
        }
        if !revoked.is_empty() {
            releasing = Some(shared.release(revoked));
        }
        if batch {
            full = shared.events.full();
        }
        if !idle {
            turn = turn.wrapping_add(1);
            tokio::task::yield_now().await;
        }
        tokio::select! {
            biased;
            released = pending_or(&mut releasing) => {
                releasing = None;
                shared.finish(released);
            }
            () = pending_or(&mut full) => full = None,
            () = wake.notified(), if idle => {}
            () = std::future::ready(()), if !idle => {}
        }
    }
}

/// The future's output; for ever pending without one.
async fn pending_or<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

impl Producer for MemoryServer {
    fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        self.shared.side.send(target, payload, token)
    }
}

impl Topics for MemoryServer {
    fn open_topic(&self, service: u16, topic: Topic) -> BoxFuture<'_, Result<u32, SetupError>> {
        Box::pin(async move { self.shared.side.open_topic(service, topic) })
    }

    fn bounds(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
    ) -> BoxFuture<'_, Result<(i64, i64), Status>> {
        Box::pin(async move { self.shared.side.bounds(service, topic, partition) })
    }

    fn follow(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
        from: i64,
    ) -> BoxFuture<'_, Result<(), Status>> {
        Box::pin(async move {
            let shared = &self.shared;
            shared.side.follow(service, topic, partition, from)?;
            shared.along.call_once(|| {
                let reader = shared.clone();
                shared.side.spawn(async move {
                    reader.side.read_along(|record| reader.events.arrived(record)).await;
                });
            });
            Ok(())
        })
    }

    fn unfollow(&self, service: u16, topic: Topic, partition: u32) {
        self.shared.side.unfollow(service, topic, partition);
    }
}

impl ServerTransport for MemoryServer {
    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Topology, SetupError>> {
        Box::pin(async move { Ok(self.shared.side.open(service, name, None)?.topology()) })
    }

    fn join(&self) -> BoxFuture<'_, Result<(), SetupError>> {
        Box::pin(async {
            let shared = &self.shared;
            if shared.side.is_closed() || shared.leaving.load(Ordering::Acquire) {
                return Err(SetupError::Closed);
            }
            let mut first = false;
            shared.places.get_or_init(|| {
                first = true;
                shared.join_groups()
            });
            if first {
                shared.side.spawn(read(shared.clone()));
            }
            Ok(())
        })
    }

    fn has_topic(&self, service: u16, topic: Topic) -> BoxFuture<'_, Result<bool, SetupError>> {
        Box::pin(async move { Ok(self.shared.side.has_topic(service, topic)) })
    }

    fn commit(&self, points: Vec<CommitPoint>) -> BoxFuture<'_, Vec<Result<(), String>>> {
        let side = &self.shared.side;
        Box::pin(async { side.broker.commit(side.id, self.shared.places(), points) })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let shared = &self.shared;
            if !shared.leaving.swap(true, Ordering::AcqRel) {
                shared.uncommitted.lock().clear();
                shared.side.broker.leave(shared.side.id, shared.places());
            }
            loop {
                let left = shared.left.notified();
                tokio::pin!(left);
                left.as_mut().enable();
                if !shared.owns_any() {
                    break;
                }
                left.await;
            }
            let uncommitted = shared.uncommitted.lock();
            if uncommitted.is_empty() { Ok(()) } else { Err(uncommitted.join("; ")) }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let side = &self.shared.side;
            side.close().await;
            side.broker.unfollow_all(side.id);
            self.shared.crash();
        })
    }
}

impl Drop for MemoryServer {
    fn drop(&mut self) {
        let side = &self.shared.side;
        side.abandon();
        side.broker.unfollow_all(side.id);
        self.shared.crash();
    }
}
