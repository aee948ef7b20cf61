//! Strangers write into the topics.

use std::time::Duration;

use krpc::prelude::*;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::work::{Site, answer, block_on};

const RECORDS: usize = 20_000;

#[test]
fn garbage_in_both_topics_harms_no_call() {
    let site = Site::new("garbage");
    let _server = site.server(&[]);
    let topics = ["calls", "replies"]
        .map(|topic| format!("{}.krpc.guarantee.Work.{topic}", site.place.prefix));
    block_on(async {
        let channel = site.place.channel().await;
        let work = crate::work::WorkClient::new(&channel);
        for id in 0..100 {
            assert_eq!(work.run(id, 0).await, Ok(answer(id)));
        }
        let samples = [(&topics[0], 12), (&topics[1], 4)]
            .map(|(topic, partitions)| samples(&site.place.brokers, topic, partitions));
        let brokers = site.place.brokers.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let producer: BaseProducer =
                ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
            for number in 0..RECORDS {
                let which = number % 2;
                let record = garbage(&samples[which], number);
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
        let by_client: Vec<_> =
            dropped.iter().map(|(cause, n)| ((*cause).to_owned(), *n)).collect();
        // The client reads one reply partition of four.
        assert!(faults(&by_client) >= 1_000, "{by_client:?}");
        assert!(faults(&info.dropped) >= 8_000, "{:?}", info.dropped);
    });
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

/// One of six kinds of garbage, the same for the same number.
fn garbage(samples: &[Vec<u8>], number: usize) -> Option<Vec<u8>> {
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
        4 => {
            let bit = random() % (sample.len() * 8);
            sample[bit / 8] ^= 1 << (bit % 8);
            Some(sample)
        }
        _ => {
            sample[2] = 2;
            Some(sample)
        }
    }
}
