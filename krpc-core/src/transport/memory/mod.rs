//! Driver: an in-process broker behind the same traits: `memory:`.
//!
//! It has what the drivers rely on in Kafka: topics with partitions, offsets and the broker's own
//! append times, worker groups with cooperative assignment, and committed points with metadata.
//! It has no process of its own and nothing survives this process.
//!
//! - **Names.** Brokers are shared by name within the process. A named broker lives as long as
//!   somebody uses it *or it holds records*: calls queued by a client that is gone still wait for
//!   a server that comes later. A [`MemoryEndpoint::private`] one ends with its last side.
//! - **Topics** are created by whichever side opens them first, with its configuration, and
//!   adopted by everybody else. Retention times and replication mean nothing here; what is to be
//!   read again later ([`Topic::is_lazy`]) stays as long as its partition has room for it.
//! - **Memory.** A partition holds at most 64 MiB; beyond, its oldest records are dropped and
//!   counted ([`MemoryEndpoint::dropped`]), even if nobody has read them. Of calls that every
//!   group has committed, and of replies that every client has read, it keeps at most 1 MiB.
//! - **Positions.** A worker starts at the committed offset, else at 0; an offset outside the
//!   partition is taken for the nearest one inside.
//! - **Crashes.** Dropping a side without closing it is a crash: its events get no call any more,
//!   and a server's partitions are free at once, to be read on from the committed points.
//!
//! A side keeps its events alive, so events must not own the side. Sides are made within a tokio
//! runtime, which runs two tasks for each (one reads, one reports deliveries); no lock is held
//! while an event is called.
//!
//! from: [`Producer::send`](super::Producer::send)
//! to: [`ClientEvents`] and [`ServerEvents`]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    ops::Deref,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;

use self::{broker::Broker, client::MemoryClient, server::MemoryServer};
use super::{
    ClientEvents, ClientTransport, Endpoint, ServerEvents, ServerTransport, Topic, TransportConfig,
};
use crate::error::SetupError;

mod assign;
mod broker;
mod client;
mod follow;
mod group;
mod log;
mod server;
mod side;
#[cfg(test)]
mod tests;

/// The endpoint scheme.
const SCHEME: &str = "memory:";

/// The named brokers of this process, and how many leases each has.
static NAMED: Mutex<BTreeMap<String, (Arc<Broker>, usize)>> = Mutex::new(BTreeMap::new());

/// An in-process broker as an endpoint; clones stand for the same broker.
#[derive(Clone, Debug)]
pub struct MemoryEndpoint {
    name: String,
    config: TransportConfig,
    broker: Lease,
}

impl MemoryEndpoint {
    /// The broker of this name, which may be empty: what stands after `memory:`, or all of it.
    /// Comes into being with its first user.
    pub fn new(name: &str, config: TransportConfig) -> Self {
        let name = name.strip_prefix(SCHEME).unwrap_or(name);
        Self { name: format!("{SCHEME}{name}"), config, broker: Lease::named(name) }
    }

    /// A broker that nobody else reaches; freed when this endpoint, its clones and all their
    /// sides are dropped.
    pub fn private(config: TransportConfig) -> Self {
        Self { name: SCHEME.to_owned(), config, broker: Lease::private() }
    }

    /// For tests: appends a stranger's record, creating the topic if need be. Returns its offset;
    /// `None` if there is no such topic or partition.
    pub fn inject(
        &self,
        service: &str,
        topic: Topic,
        partition: u32,
        payload: &[u8],
    ) -> Option<i64> {
        let topic = self.broker.open(&self.config, service, topic).ok()?;
        let stored = self.broker.append(topic, partition, Bytes::copy_from_slice(payload));
        stored.map(|(offset, _)| offset)
    }

    /// For tests: the values of a partition's records, as a stranger reads them, as far as they are
    /// still held.
    pub fn recorded(&self, service: &str, topic: Topic, partition: u32) -> Vec<Bytes> {
        self.broker.held(&self.config.topic(service, topic), partition)
    }

    /// For tests: how many records a topic was given so far, whether they are still held or not;
    /// 0 if there is no such topic.
    pub fn records(&self, service: &str, topic: Topic) -> u64 {
        self.broker.count(&self.config.topic(service, topic)).0
    }

    /// How many records of a topic were dropped because a partition was full, though somebody may
    /// still have wanted them; 0 if there is no such topic.
    pub fn dropped(&self, service: &str, topic: Topic) -> u64 {
        self.broker.count(&self.config.topic(service, topic)).1
    }
}

impl Endpoint for MemoryEndpoint {
    fn name(&self) -> &str {
        &self.name
    }

    fn topic(&self, service: &str, topic: Topic) -> String {
        self.config.topic(service, topic)
    }

    fn client(
        &self,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Arc<dyn ClientTransport>, SetupError> {
        let (broker, config) = (self.broker.clone(), self.config.clone());
        Ok(Arc::new(MemoryClient::start(broker, config, events)?))
    }

    fn server(
        &self,
        events: Arc<dyn ServerEvents>,
    ) -> Result<Arc<dyn ServerTransport>, SetupError> {
        let (broker, config) = (self.broker.clone(), self.config.clone());
        Ok(Arc::new(MemoryServer::new(broker, config, events)?))
    }
}

/// A share of a broker. The last one of a named broker takes it from the process, unless there
/// are records in it.
struct Lease {
    broker: Arc<Broker>,
    name: Option<String>,
}

impl Lease {
    fn named(name: &str) -> Self {
        let mut named = NAMED.lock();
        let new = || (Arc::new(Broker::new()), 0);
        let (broker, leases) = named.entry(name.to_owned()).or_insert_with(new);
        *leases += 1;
        Self { broker: broker.clone(), name: Some(name.to_owned()) }
    }

    fn private() -> Self {
        Self { broker: Arc::new(Broker::new()), name: None }
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        match &self.name {
            Some(name) => Self::named(name),
            None => Self { broker: self.broker.clone(), name: None },
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        if let Entry::Occupied(mut entry) = NAMED.lock().entry(name) {
            let (broker, leases) = entry.get_mut();
            *leases -= 1;
            if *leases == 0 && broker.is_empty() {
                entry.remove();
            }
        }
    }
}

impl Deref for Lease {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("name", &self.name).finish_non_exhaustive()
    }
}
