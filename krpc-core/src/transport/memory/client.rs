//! Driver: a client's side of the in-process broker: one task reads one reply partition of each
//! opened service, and what is followed.
//!
//! from: the partitions' logs
//! to: [`ClientEvents::arrived`]

use std::sync::Arc;

use super::{Lease, side::Side};
use crate::{
    error::SetupError,
    status::Status,
    transport::{
        BoxFuture, ClientEvents, ClientTransport, Committed, Producer, Rejected, Target, Topic,
        Topics, Topology, TransportConfig,
    },
};

/// The handle: dropping it ends everything, as a crash would.
#[derive(Debug)]
pub(super) struct MemoryClient {
    side: Arc<Side>,
}

impl MemoryClient {
    /// A client's side; its task runs from now on.
    ///
    /// # Errors
    /// There is no runtime here.
    pub(super) fn start(
        broker: Lease,
        config: TransportConfig,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Self, SetupError> {
        let side = Arc::new(Side::new(broker, config, events.clone())?);
        let reader = side.clone();
        side.spawn(async move { reader.read_along(|record| events.arrived(record)).await });
        Ok(Self { side })
    }
}

impl Producer for MemoryClient {
    fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        self.side.send(target, payload, token)
    }
}

impl Topics for MemoryClient {
    fn open_topic(&self, service: u16, topic: Topic) -> BoxFuture<'_, Result<u32, SetupError>> {
        Box::pin(async move { self.side.open_topic(service, topic) })
    }

    fn bounds(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
    ) -> BoxFuture<'_, Result<(i64, i64), Status>> {
        Box::pin(async move { self.side.bounds(service, topic, partition) })
    }

    fn follow(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
        from: i64,
    ) -> BoxFuture<'_, Result<(), Status>> {
        Box::pin(async move { self.side.follow(service, topic, partition, from) })
    }

    fn unfollow(&self, service: u16, topic: Topic, partition: u32) {
        self.side.unfollow(service, topic, partition);
    }
}

impl ClientTransport for MemoryClient {
    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
        seed: u64,
    ) -> BoxFuture<'a, Result<(Topology, u32), SetupError>> {
        Box::pin(async move {
            let opened = self.side.open(service, name, Some(seed))?;
            Ok((opened.topology(), opened.reply_partition.unwrap_or(0)))
        })
    }

    fn committed(&self, service: u16, partition: u32) -> BoxFuture<'_, Result<Committed, Status>> {
        Box::pin(async move { self.side.committed(service, partition) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.side.close().await;
            self.side.broker.unfollow_all(self.side.id);
        })
    }
}

impl Drop for MemoryClient {
    fn drop(&mut self) {
        self.side.abandon();
        self.side.broker.unfollow_all(self.side.id);
    }
}
