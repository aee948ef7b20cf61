//! Strangers with access to the topics: what they can read, change, move, repeat or blow up.

use std::collections::BTreeSet;

use krpc::{
    Channel, Server,
    seal::{Key, Seal},
};
use krpc_core::transport::{Topic, memory::MemoryEndpoint};

use crate::support::{
    Place, count, eventually_ok,
    place::PARTITIONS,
    services::{Adder, Echo, EchoClient, EchoServer, SumServer, WorkClient, WorkServer, Worker},
    start, total,
};

mod bombs;
mod callers;
mod change;
mod mismatch;
mod read;
mod repeat;

const SERVICE: &str = "Work";

/// Where a record lies, and its value.
type Written = (Topic, u32, Vec<u8>);

/// A server and a channel that seal their packets, and a stranger at their topics.
struct Scene {
    broker: MemoryEndpoint,
    server: Server,
    channel: Channel,
    worker: Worker,
    work: WorkClient,
    echo: EchoClient,
}

fn key() -> Key {
    Key::from_bytes([7; 32]).unwrap()
}

/// Repeats what it is told.
struct Repeats;

impl Echo for Repeats {
    async fn echo(&self, text: String) -> String {
        format!("{text}, again")
    }
}

impl Scene {
    async fn new(place: &Place, seal: Seal) -> Self {
        let worker = Worker::new();
        worker.open_gate();
        let server = place.server().seal(seal.clone()).set("KRPC_REPLY_PARTITIONS", 1);
        let server = server.serve(WorkServer::new(worker.clone()));
        let server = server.serve(SumServer::new(Adder)).serve(EchoServer::new(Repeats));
        let server = start(server).await;
        let channel = place.channel().seal(seal).set("KRPC_REPLY_PARTITIONS", 1);
        let channel = channel.connect().await.unwrap();
        channel.open(SERVICE).await.unwrap();
        let broker = MemoryEndpoint::new(&place.endpoint, place.config());
        let (work, echo) = (WorkClient::new(&channel), EchoClient::new(&channel));
        Self { broker, server, channel, worker, work, echo }
    }

    /// What lies in these topics of the service.
    fn recorded(&self, topics: &[Topic]) -> BTreeSet<(u8, u32, Vec<u8>)> {
        let partitions =
            topics.iter().flat_map(|topic| (0..PARTITIONS).map(move |it| (*topic, it)));
        let records = |(topic, partition)| {
            let values = self.broker.recorded(SERVICE, topic, partition);
            values.into_iter().map(move |value| (topic as u8, partition, value.to_vec()))
        };
        partitions.flat_map(records).collect()
    }

    /// What lies in one of them.
    fn written(&self, topic: Topic) -> Vec<Written> {
        let records = self.recorded(&[topic]);
        records.into_iter().map(|(_, partition, value)| (topic, partition, value)).collect()
    }

    fn write(&self, topic: Topic, partition: u32, value: &[u8]) {
        self.broker.inject(SERVICE, topic, partition, value).unwrap();
    }

    /// What the server dropped, and what the channel did, but for what is for others: so is what
    /// the server tells strangers.
    fn dropped(&self) -> (u64, u64) {
        let channel = self.channel.stats(SERVICE).unwrap().dropped;
        (total(&self.server.stats().dropped), total(&channel) - count(&channel, "foreign"))
    }

    /// Waits until as many more records are dropped.
    async fn until_dropped(&self, before: (u64, u64), more: (u64, u64)) {
        let expected = (before.0 + more.0, before.1 + more.1);
        eventually_ok(|| match self.dropped() {
            dropped if dropped == expected => Ok(()),
            dropped => Err(format!("{dropped:?} dropped, not {expected:?}")),
        })
        .await;
    }

    /// Each call that was made was executed once, and none else.
    fn assert_executed(&self, calls: u64) {
        let executions = self.worker.log.executions();
        let expected = (0..calls).map(|job| (job, 1)).collect();
        assert_eq!(executions, expected);
    }
}
