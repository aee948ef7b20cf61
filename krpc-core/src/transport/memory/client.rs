//! Driver: a client's side of the in-process broker: one task reads one reply partition of each
//! opened service.
//!
//! from: the partitions' logs
//! to: [`ClientEvents::arrived`]

use std::sync::Arc;

use super::{Lease, side::Side};
use crate::{
    error::SetupError,
    transport::{
        BoxFuture, ClientEvents, ClientTransport, Producer, Rejected, Target, Topics, Topology,
        TransportConfig,
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
        side.spawn(read(side.clone(), events));
        Ok(Self { side })
    }
}

/// Hands over what arrives, until the side ends.
async fn read(side: Arc<Side>, events: Arc<dyn ClientEvents>) {
    let (mut records, mut followed) = (Vec::new(), Vec::new());
    let mut turn = 0_usize;
    loop {
        side.followed(&mut followed);
        // A busy partition must not starve the rest.
        let first = turn % followed.len().max(1);
        followed.rotate_left(first);
        side.broker.read_along(side.id, followed.drain(..), &mut records);
        if records.is_empty() {
            side.wake.notified().await;
            continue;
        }
        for record in records.drain(..) {
            if side.is_gone() {
                return;
            }
            events.arrived(record);
        }
        turn = turn.wrapping_add(1);
        tokio::task::yield_now().await;
    }
}

impl Producer for MemoryClient {
    fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected> {
        self.side.send(target, payload, token)
    }
}

impl Topics for MemoryClient {}

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

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.side.close().await;
            self.side.broker.unfollow(self.side.id);
        })
    }
}

impl Drop for MemoryClient {
    fn drop(&mut self) {
        self.side.abandon();
        self.side.broker.unfollow(self.side.id);
    }
}
