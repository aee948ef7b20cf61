//! A driver that notes everything, and waiting for what it notes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use krpc_core::{
    ids::PartitionId,
    status::Status,
    time::Time,
    transport::{
        BoxFuture, ClientEvents, ClientTransport, CommitPoint, Delivery, Endpoint, Producer,
        ProducerEvents, Record, Rejected, ServerEvents, ServerTransport, Target, Topic, Topology,
        TransportConfig,
    },
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::KafkaEndpoint;
use parking_lot::Mutex;
use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};
use tokio::sync::Notify;

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// What a driver has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) stored: BTreeMap<u64, Option<Time>>,
    /// Where each is stored.
    pub(crate) offsets: BTreeMap<u64, i64>,
    pub(crate) failed: Vec<(u64, Status, Vec<u8>)>,
    pub(crate) reported: usize,
    pub(crate) records: Vec<Record>,
    /// Records of partitions that were not owned when they came.
    pub(crate) strays: usize,
    pub(crate) committed: BTreeMap<u32, Option<(i64, String)>>,
    pub(crate) owned: BTreeSet<PartitionId>,
    pub(crate) released: Vec<PartitionId>,
    pub(crate) lost: Vec<PartitionId>,
    pub(crate) broken: Vec<Status>,
    pub(crate) full: bool,
    /// Metadata of the points that a release yields.
    pub(crate) note: String,
    next: BTreeMap<PartitionId, i64>,
}

/// A driver for both sides.
#[derive(Debug, Default)]
pub(crate) struct Driver {
    pub(crate) seen: Mutex<Seen>,
    changed: Notify,
}

impl Driver {
    fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let result = change(&mut self.seen.lock());
        self.changed.notify_waiters();
        result
    }

    /// Waits until the condition holds; panics with what was seen if that takes too long.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(&self.seen.lock()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let seen = self.seen.lock();
            panic!(
                "{what}: {} stored, {:?} failed, {} records, {} strays, owns {:?}, released {:?}, \
                 lost {:?}, broken {:?}",
                seen.stored.len(),
                seen.failed.len(),
                seen.records.len(),
                seen.strays,
                seen.owned,
                seen.released,
                seen.lost,
                seen.broken
            );
        }
    }

    /// Takes no more records.
    pub(crate) fn fill(&self) {
        self.seen.lock().full = true;
    }

    /// Takes records again.
    pub(crate) fn make_room(&self) {
        self.seen.lock().full = false;
    }

    /// The points to commit after everything that arrived.
    pub(crate) fn points(&self) -> Vec<CommitPoint> {
        let seen = self.seen.lock();
        seen.next.keys().filter_map(|partition| seen.point(*partition)).collect()
    }
}

impl Seen {
    fn point(&self, partition: PartitionId) -> Option<CommitPoint> {
        let offset = *self.next.get(&partition)?;
        Some(CommitPoint { partition, offset, metadata: self.note.clone() })
    }

    fn take(&mut self, record: Record) {
        if record.topic == Topic::Calls {
            self.next.insert(record.partition, record.offset + 1);
        }
        self.records.push(record);
    }

    /// The payloads as text, sorted.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |record: &Record| String::from_utf8_lossy(&record.payload).into_owned();
        let mut texts: Vec<_> = self.records.iter().map(text).collect();
        texts.sort();
        texts
    }
}

impl ProducerEvents for Driver {
    fn delivered(&self, token: u64, delivery: Delivery<'_>) {
        self.note(|seen| {
            seen.reported += 1;
            match delivery {
                Delivery::Stored { appended, offset } => {
                    seen.offsets.extend(offset.map(|offset| (token, offset)));
                    seen.stored.insert(token, appended);
                }
                Delivery::Failed { status, payload } => {
                    seen.failed.push((token, status, payload.to_vec()));
                }
            }
        });
    }
}

impl ClientEvents for Driver {
    fn arrived(&self, record: Record) {
        self.note(|seen| seen.take(record));
    }

    fn broken(&self, status: Status) {
        self.note(|seen| seen.broken.push(status));
    }
}

impl ServerEvents for Driver {
    fn assigned(&self, partitions: Vec<(PartitionId, Option<(i64, String)>)>) {
        self.note(|seen| {
            for (partition, committed) in partitions {
                assert!(seen.owned.insert(partition), "{partition:?} was assigned twice");
                seen.next.remove(&partition);
                seen.committed.insert(partition.partition, committed);
            }
        });
    }

    fn arrived(&self, record: Record) {
        let lazy = record.topic.is_lazy();
        self.note(|seen| match lazy || seen.owned.contains(&record.partition) {
            true => seen.take(record),
            false => seen.strays += 1,
        });
    }

    fn full(&self) -> Option<BoxFuture<'static, ()>> {
        // Never more than a look at a flag, and a timer of the runtime's: as the driver does.
        self.seen.lock().full.then(|| {
            Box::pin(tokio::time::sleep(Duration::from_millis(20))) as BoxFuture<'static, ()>
        })
    }

    fn release(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Vec<CommitPoint>> {
        let points = self.note(|seen| {
            for partition in &partitions {
                seen.owned.remove(partition);
                seen.released.push(*partition);
            }
            partitions.iter().filter_map(|partition| seen.point(*partition)).collect()
        });
        Box::pin(async move { points })
    }

    fn lost(&self, partitions: Vec<PartitionId>) {
        self.note(|seen| {
            for partition in partitions {
                seen.owned.remove(&partition);
                seen.lost.push(partition);
            }
        });
    }

    fn broken(&self, status: Status) {
        self.note(|seen| seen.broken.push(status));
    }
}

/// Sends a record, again while it is not taken.
pub(crate) async fn send(
    producer: &(impl Producer + ?Sized),
    target: Target,
    payload: &[u8],
    token: u64,
) {
    let begin = Instant::now();
    while let Err(rejected) = producer.send(target, payload, token) {
        assert!(rejected == Rejected::Full && begin.elapsed() < PATIENCE, "{rejected:?}");
        tokio::task::yield_now().await;
    }
}

/// A service's name that no other test of any run uses.
pub(crate) fn service(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{test}.{}-{number}", std::process::id())
}

/// Small topics, so that tests are quick.
pub(crate) fn config() -> TransportConfig {
    TransportConfig {
        call_partitions: 4,
        min_call_partitions: 4,
        reply_partitions: 2,
        replication: Some(1),
        ..TransportConfig::default()
    }
}

/// The broker that most tests share.
pub(crate) fn shared() -> &'static Kafka {
    Kafka::shared().unwrap()
}

/// An endpoint of the shared broker.
pub(crate) fn endpoint(config: TransportConfig) -> KafkaEndpoint {
    KafkaEndpoint::new(shared().bootstrap(), config).unwrap()
}

/// Asks the shared broker as an operator would.
pub(crate) fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", shared().bootstrap()).create().unwrap()
}

/// A client of one service.
pub(crate) struct Caller {
    pub(crate) driver: Arc<Driver>,
    pub(crate) transport: Arc<dyn ClientTransport>,
    pub(crate) topology: Topology,
    pub(crate) reply_partition: u32,
}

/// A server of one service.
pub(crate) struct Answerer {
    pub(crate) driver: Arc<Driver>,
    pub(crate) transport: Arc<dyn ServerTransport>,
}

/// Opens a client.
pub(crate) async fn caller(endpoint: &dyn Endpoint, service: &str) -> Caller {
    let driver = Arc::new(Driver::default());
    let transport = endpoint.client(driver.clone()).unwrap();
    let (topology, reply_partition) = transport.open(0, service, 7).await.unwrap();
    Caller { driver, transport, topology, reply_partition }
}

/// Opens and joins a server.
pub(crate) async fn answerer(endpoint: &dyn Endpoint, service: &str) -> Answerer {
    let driver = Arc::new(Driver::default());
    let transport = endpoint.server(driver.clone()).unwrap();
    transport.open(0, service).await.unwrap();
    transport.join().await.unwrap();
    Answerer { driver, transport }
}

impl Caller {
    /// Sends to a calls partition, again while the queue is full.
    pub(crate) fn call(&self, partition: u32, text: &str, token: u64) {
        let target = Target { service: 0, topic: Topic::Calls, partition, exact: false };
        self.transport.send(target, text.as_bytes(), token).unwrap();
    }
}

impl Answerer {
    /// Waits until this many partitions are owned.
    pub(crate) async fn owning(&self, count: usize) {
        self.driver.until(&format!("owns {count}"), |seen| seen.owned.len() == count).await;
    }
}
