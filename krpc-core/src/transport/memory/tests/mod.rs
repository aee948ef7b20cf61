//! The in-process broker under fake events: who was called, with what, in which order.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod crashes;
mod delivery;
mod follow;
mod groups;
mod topics;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::*;
use crate::{
    ids::PartitionId,
    status::{Code, Status},
    transport::{BoxFuture, CommitPoint, Delivery, ProducerEvents, Record, Rejected, Target},
};

/// What a side was told. Records appear as partition and offset.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Delivered(u64),
    Failed(u64, Code, usize),
    Arrived(PartitionId, i64),
    Assigned(Vec<(PartitionId, Option<(i64, String)>)>),
    Release(Vec<PartitionId>),
    Released(Vec<PartitionId>),
}

/// Events of either side that write down what they are told.
#[derive(Debug)]
struct Fake {
    log: Mutex<Vec<Event>>,
    records: Mutex<Vec<Record>>,
    /// The offset behind the last record of each partition that was seen.
    next: Mutex<HashMap<PartitionId, i64>>,
    changed: Notify,
    /// While `true`, the side says that it is full after a batch.
    full: watch::Sender<bool>,
    /// While `true`, releasing does not finish.
    hold: watch::Sender<bool>,
    /// The metadata of the points that releasing yields.
    metadata: Mutex<String>,
    /// Dropped with the first record: a crash in the middle of a batch.
    victim: Mutex<Option<Arc<dyn ServerTransport>>>,
    me: Weak<Fake>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            log: Mutex::default(),
            records: Mutex::default(),
            next: Mutex::default(),
            changed: Notify::new(),
            full: watch::Sender::new(false),
            hold: watch::Sender::new(false),
            metadata: Mutex::new("final".to_owned()),
            victim: Mutex::default(),
            me: me.clone(),
        })
    }

    fn note(&self, event: Event) {
        self.log.lock().push(event);
        self.changed.notify_waiters();
    }

    fn see(&self, record: Record) {
        let event = Event::Arrived(record.partition, record.offset);
        self.next.lock().insert(record.partition, record.offset + 1);
        self.records.lock().push(record);
        self.note(event);
    }

    fn log(&self) -> Vec<Event> {
        self.log.lock().clone()
    }

    /// Waits until the log fulfils a condition.
    async fn until(&self, what: &str, condition: impl Fn(&[Event]) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(&self.log.lock()) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(waited.is_ok(), "{what} did not come: {:?}", self.log());
    }

    async fn until_arrived(&self, count: usize) {
        self.until("records", |log| arrived(log).len() >= count).await;
    }

    async fn until_delivered(&self, count: usize) {
        let delivered = |log: &[Event]| {
            log.iter().filter(|e| matches!(e, Event::Delivered(_) | Event::Failed(..))).count()
        };
        self.until("reports", |log| delivered(log) >= count).await;
    }

    async fn until_owns(&self, count: usize) {
        self.until("partitions", |log| owned(log).len() == count).await;
    }

    fn points(&self, partitions: &[PartitionId]) -> Vec<CommitPoint> {
        let (next, metadata) = (self.next.lock(), self.metadata.lock().clone());
        let point = |id: &PartitionId| {
            let (partition, offset, metadata) = (*id, *next.get(id)?, metadata.clone());
            Some(CommitPoint { partition, offset, metadata })
        };
        partitions.iter().filter_map(point).collect()
    }
}

/// The records in a log.
fn arrived(log: &[Event]) -> Vec<(PartitionId, i64)> {
    let arrived = |event: &Event| match event {
        Event::Arrived(id, offset) => Some((*id, *offset)),
        _ => None,
    };
    log.iter().filter_map(arrived).collect()
}

/// The partitions that a server holds at the end of a log, in order.
fn owned(log: &[Event]) -> Vec<PartitionId> {
    let mut owned = Vec::new();
    for event in log {
        match event {
            Event::Assigned(partitions) => owned.extend(partitions.iter().map(|(id, _)| *id)),
            Event::Released(partitions) => owned.retain(|id| !partitions.contains(id)),
            _ => {}
        }
    }
    owned.sort();
    owned
}

impl ProducerEvents for Fake {
    fn delivered(&self, token: u64, delivery: Delivery<'_>) {
        self.note(match delivery {
            Delivery::Stored { appended, offset } => {
                assert!(appended.is_some() && offset.is_some());
                Event::Delivered(token)
            }
            Delivery::Failed { status, payload } => {
                assert!(!status.is_retryable());
                Event::Failed(token, status.code(), payload.len())
            }
        });
    }
}

impl ClientEvents for Fake {
    fn arrived(&self, record: Record) {
        self.see(record);
    }

    fn broken(&self, status: Status) {
        panic!("broken: {status}");
    }
}

impl ServerEvents for Fake {
    fn assigned(&self, partitions: Vec<(PartitionId, Option<(i64, String)>)>) {
        self.note(Event::Assigned(partitions));
    }

    fn arrived(&self, record: Record) {
        let owned = owned(&self.log.lock()).contains(&record.partition);
        assert!(owned || record.topic.is_lazy(), "a record of nobody's");
        self.see(record);
        drop(self.victim.lock().take());
    }

    fn full(&self) -> Option<BoxFuture<'static, ()>> {
        let mut full = self.full.subscribe();
        let wait = async move { drop(full.wait_for(|full| !full).await) };
        self.full.borrow().then(|| Box::pin(wait) as BoxFuture<'static, ()>)
    }

    fn release(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Vec<CommitPoint>> {
        self.note(Event::Release(partitions.clone()));
        let (mut hold, me) = (self.hold.subscribe(), self.me.clone());
        Box::pin(async move {
            drop(hold.wait_for(|hold| !hold).await);
            let me = me.upgrade().unwrap();
            me.note(Event::Released(partitions.clone()));
            me.points(&partitions)
        })
    }

    fn lost(&self, partitions: Vec<PartitionId>) {
        panic!("lost {partitions:?}");
    }

    fn broken(&self, status: Status) {
        panic!("broken: {status}");
    }
}

/// A client of service 0, "sum".
async fn client(endpoint: &MemoryEndpoint) -> (Arc<dyn ClientTransport>, Arc<Fake>) {
    let events = Fake::new();
    let client = endpoint.client(events.clone()).unwrap();
    client.open(0, "sum", 0).await.unwrap();
    (client, events)
}

/// A server of service 0, "sum", that has joined.
async fn server(endpoint: &MemoryEndpoint) -> (Arc<dyn ServerTransport>, Arc<Fake>) {
    let events = Fake::new();
    let server = endpoint.server(events.clone()).unwrap();
    server.open(0, "sum").await.unwrap();
    server.join().await.unwrap();
    (server, events)
}

fn config(call_partitions: u32) -> TransportConfig {
    TransportConfig { call_partitions, ..TransportConfig::default() }
}

fn private(call_partitions: u32) -> MemoryEndpoint {
    MemoryEndpoint::private(config(call_partitions))
}

fn id(partition: u32) -> PartitionId {
    PartitionId { service: 0, partition }
}

fn calls(partition: u32) -> Target {
    Target { service: 0, topic: Topic::Calls, partition, exact: false }
}

fn replies(partition: u32) -> Target {
    Target { service: 0, topic: Topic::Replies, partition, exact: false }
}

/// Writes a record into a calls partition of "sum".
fn put(endpoint: &MemoryEndpoint, partition: u32) {
    endpoint.inject("sum", Topic::Calls, partition, b"x").unwrap();
}
