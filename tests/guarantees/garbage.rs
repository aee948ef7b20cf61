//! Strangers write into the topics.

use std::time::Duration;

use krpc::prelude::*;
use krpc_core::{
    ids::{CallId, PartitionId},
    inbox::Inbox,
    wire::{frame::Frame, packet::Addresses},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::work::{Place, Site, WorkClient, answer, block_on};

const RECORDS: usize = 20_000;

/// What reads as a packet about other calls than its own is a forgery rather than garbage, and is
/// taken for what it says: no seal is asked for here.
#[test]
fn garbage_in_both_topics_harms_no_call() {
    let site = Site::new("garbage");
    let _server = site.server(&[]);
    block_on(async {
        let channel = site.place.channel().await;
        garbage_harms_no_call(&site.place, channel, |sample, damaged| {
            let own = calls(sample);
            calls(damaged).iter().all(|call| own.contains(call))
        })
        .await;
    });
}

/// A checksum is enough for damage to be told, whatever it makes of a packet.
#[cfg(feature = "seal")]
#[test]
fn no_damage_to_packets_with_a_checksum_harms_a_call() {
    let site = Site::new("damage");
    let _server = site.server(&[("KRPC_SEAL", "checksum")]);
    block_on(async {
        let channel = Channel::builder(&site.place.brokers).prefix(&site.place.prefix);
        let channel = channel.seal(krpc::seal::Seal::new().checksum()).connect().await.unwrap();
        garbage_harms_no_call(&site.place, channel, |_, _| true).await;
    });
}

/// Calls beside garbage. Of the packets with one bit changed only those are `written` that are so.
async fn garbage_harms_no_call(place: &Place, channel: Channel, written: fn(&[u8], &[u8]) -> bool) {
    let topics =
        ["calls", "replies"].map(|topic| format!("{}.krpc.guarantee.Work.{topic}", place.prefix));
    let work = WorkClient::new(&channel);
    for id in 0..100 {
        assert_eq!(work.run(id, 0).await, Ok(answer(id)));
    }
    let samples = [(&topics[0], 12), (&topics[1], 4)]
        .map(|(topic, partitions)| samples(&place.brokers, topic, partitions));
    let brokers = place.brokers.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        for number in 0..RECORDS {
            let which = number % 2;
            let record = garbage(&samples[which], number, written);
            let partitions = if which == 0 { 12 } else { 4 };
            let partition = i32::try_from(number / 12 % partitions).unwrap();
            let mut message = BaseRecord::<(), [u8]>::to(&topics[which]).partition(partition);
            message.payload = record.as_deref();
            producer.send(message).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    });
    let mut calls = 0;
    while !writer.is_finished() || calls < 5_000 {
        let batch: Vec<_> = (calls..calls + 100)
            .map(|id| (id, tokio::spawn(work.run(id, 0).timeout(secs(30)))))
            .collect();
        for (id, call) in batch {
            assert_eq!(call.await.unwrap(), Ok(answer(id)));
        }
        calls += 100;
    }
    writer.await.unwrap();
    // One more round behind the last of the garbage, on every partition.
    for id in 0..500 {
        assert_eq!(work.run(id, 0).timeout(secs(30)).await, Ok(answer(id)));
    }
    let dropped = channel.stats("guarantee.Work").unwrap().dropped;
    let info = channel.service("guarantee.Work").info().await.unwrap();
    println!("figure: {calls} calls beside {RECORDS} records of garbage");
    println!("figure: dropped by the client {dropped:?}");
    println!("figure: dropped by the server {:?}", info.dropped);
    let faults = |dropped: &[(String, u64)]| -> u64 {
        dropped.iter().filter(|(cause, _)| cause != "foreign").map(|(_, count)| count).sum()
    };
    let by_client: Vec<_> = dropped.iter().map(|(cause, n)| ((*cause).to_owned(), *n)).collect();
    // The client reads one reply partition of four.
    assert!(faults(&by_client) >= 1_000, "{by_client:?}");
    assert!(faults(&info.dropped) >= 8_000, "{:?}", info.dropped);
}

/// Real packets of a topic, to be damaged.
fn samples(brokers: &str, topic: &str, partitions: i32) -> Vec<Vec<u8>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "samples")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut samples = Vec::new();
    while samples.len() < 20 {
        let Some(message) = consumer.poll(Duration::from_secs(10)) else { break };
        samples.extend(message.unwrap().payload().map(<[u8]>::to_vec));
    }
    assert!(!samples.is_empty(), "there are packets in {topic}");
    samples
}

/// The calls that a record is about, as far as it reads as a packet.
fn calls(record: &[u8]) -> Vec<CallId> {
    let Ok(Addresses { destination, .. }) = Addresses::peek(record) else { return Vec::new() };
    let partition = PartitionId { service: 0, partition: 0 };
    // Whoever it is for reads it, and has seen nothing before.
    let mut reader = Inbox::new(destination);
    let Ok(packet) = reader.open(partition, record) else { return Vec::new() };
    let call = |frame| match frame {
        Frame::Request(request) => Some(request.call),
        Frame::Reply(reply) => Some(reply.call),
        Frame::Cancel(cancel) => Some(cancel.call),
        Frame::Progress(progress) => Some(progress.call),
        _ => None,
    };
    packet.frames().filter_map(Result::ok).filter_map(call).collect()
}

/// One of six kinds of garbage, the same for the same number.
fn garbage(
    samples: &[Vec<u8>],
    number: usize,
    written: fn(&[u8], &[u8]) -> bool,
) -> Option<Vec<u8>> {
    let mut state = number as u64 + 1;
    let mut random = || {
        // Knuth's multiplicative generator: only variety is asked of it.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    let mut sample = samples[random() % samples.len()].clone();
    match number / 2 % 6 {
        0 => Some((0..random() % 300).map(|_| random().to_le_bytes()[0]).collect()),
        1 => Some(Vec::new()),
        2 => None,
        3 => {
            sample.truncate(random() % sample.len());
            Some(sample)
        }
        4 => loop {
            let bit = random() % (sample.len() * 8);
            let mut damaged = sample.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if written(&sample, &damaged) {
                return Some(damaged);
            }
        },
        _ => {
            sample[2] = 2;
            Some(sample)
        }
    }
}
