//! Strangers with access to the topics: what they can read, change, move, repeat or blow up.

use std::{collections::BTreeSet, iter};

use futures_util::future::join_all;
use krpc::{
    Channel, Server,
    prelude::*,
    seal::{Key, Seal},
};
use krpc_core::{ids::InstanceId, transport::Topic, wire::packet::Addresses};

use crate::support::{
    Backend, Place, count, eventually_ok, scenario,
    services::{Adder, Echo, EchoClient, EchoServer, SumServer, WorkClient, WorkServer, Worker},
    start,
    stranger::Stranger,
    total,
};

mod bombs;
mod callers;
mod change;
mod flood;
mod kinds;
mod mismatch;
mod moves;
mod read;
mod repeat;

const SERVICE: &str = "Work";

const TOPICS: [Topic; 6] =
    [Topic::Calls, Topic::Replies, Topic::Results, Topic::Dead, Topic::Cancels, Topic::Delayed];

/// Calls at the same time, so that packets are large enough to be compressed.
const TOGETHER: u64 = 20;

/// Where a record lies, and its value.
type Written = (Topic, u32, Vec<u8>);

/// A server and a channel that seal their packets, and a stranger at their topics.
struct Scene {
    place: Place,
    stranger: Stranger,
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

/// At a place of its own for each seal that a key vouches with; over Kafka for two of them, as the
/// bytes of a seal are the same there.
fn under_each_seal(body: impl AsyncFn(Place, Seal)) {
    let (encrypted, verified) = (Seal::new().encrypt(key()), Seal::new().verify(key()));
    let mut seals = vec![encrypted.clone().compress(3), verified.clone()];
    if crate::BACKEND == Backend::Memory {
        seals.extend([encrypted, verified.compress(3)]);
    }
    for seal in seals {
        scenario(async |place| body(place, seal.clone()).await);
    }
}

/// A server of all services.
async fn serve(place: &Place, seal: &Seal, replies: u32, worker: &Worker) -> Server {
    let server = place.server().seal(seal.clone()).set("KRPC_REPLY_PARTITIONS", replies);
    let server = server.serve(WorkServer::new(worker.clone()));
    start(server.serve(SumServer::new(Adder)).serve(EchoServer::new(Repeats))).await
}

/// Whom a packet is for.
fn is_for(packet: &[u8]) -> Option<InstanceId> {
    Addresses::peek(packet).ok().map(|addresses| addresses.destination)
}

impl Scene {
    async fn new(place: &Place, seal: Seal) -> Self {
        Self::with_replies(place, seal, 1).await
    }

    /// With so many partitions of replies, of which the channel reads one.
    async fn with_replies(place: &Place, seal: Seal, replies: u32) -> Self {
        let worker = Worker::new();
        let server = serve(place, &seal, replies, &worker).await;
        let channel = place.channel().seal(seal).set("KRPC_REPLY_PARTITIONS", replies);
        let channel = channel.connect().await.unwrap();
        channel.open(SERVICE).await.unwrap();
        let (place, stranger) = (place.clone(), Stranger::new(place, SERVICE));
        let (work, echo) = (WorkClient::new(&channel), EchoClient::new(&channel));
        Self { place, stranger, server, channel, worker, work, echo }
    }

    /// What lies in these topics of the service, each record once.
    fn recorded(&self, topics: &[Topic]) -> BTreeSet<(u8, u32, Vec<u8>)> {
        let records = |topic: &Topic| {
            let (number, values) = (*topic as u8, self.stranger.read(*topic));
            values.into_iter().map(move |(partition, value)| (number, partition, value))
        };
        topics.iter().flat_map(records).collect()
    }

    /// What lies in one of them.
    fn written(&self, topic: Topic) -> Vec<Written> {
        let records = self.recorded(&[topic]);
        records.into_iter().map(|(_, partition, value)| (topic, partition, value)).collect()
    }

    fn write(&self, topic: Topic, partition: u32, value: &[u8]) {
        self.stranger.write(topic, partition, Some(value));
    }

    /// The partition of replies that the channel reads, once it was answered.
    fn reply_partition(&self) -> u32 {
        let answers = self.written(Topic::Replies).into_iter();
        let mut mine = answers.filter(|(.., it)| is_for(it) == Some(self.channel.instance()));
        mine.next().unwrap().1
    }

    /// Makes calls whose numbers begin at 0, all together.
    async fn call_together(&self) {
        let calls = (0..TOGETHER).map(|job| self.work.quick(job).timeout(secs(50)));
        let answers = join_all(calls).await;
        assert!(iter::zip(0..TOGETHER, answers).all(|(job, answer)| answer == Ok(job)));
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
