//! The floor: one record each way, with nothing but rdkafka.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseRecord, DefaultProducerContext, ThreadedProducer},
};

use crate::Measured;

const CALLS: &str = "bench.raw.calls";
const REPLIES: &str = "bench.raw.replies";

type Producer = ThreadedProducer<DefaultProducerContext>;

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

fn producer(brokers: &str) -> Producer {
    config(brokers)
        .set("linger.ms", "0")
        .set("acks", "all")
        .set("max.in.flight", "5")
        .set("delivery.report.only.error", "true")
        .create()
        .expect("a producer is made")
}

fn consumer(brokers: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "bench.raw")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a consumer is made");
    let end =
        consumer.fetch_watermarks(topic, 0, Duration::from_secs(10)).expect("the topic is there");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(end.1)).expect("a valid offset");
    consumer.assign(&list).expect("the partition is assigned");
    consumer
}

fn send(producer: &Producer, topic: &str, payload: &[u8]) {
    let mut record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(payload);
    // The queue holds 100,000 records: it is full only while the broker catches up.
    while let Err((_, back)) = producer.send(record) {
        record = back;
        std::thread::yield_now();
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

pub(crate) fn serve(brokers: &str) {
    let admin: AdminClient<DefaultClientContext> =
        config(brokers).create().expect("an admin client");
    let topics = [CALLS, REPLIES].map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(admin.create_topics(&topics, &AdminOptions::new())).expect("topics are made");
    let (producer, consumer) = (producer(brokers), consumer(brokers, CALLS));
    println!("ready");
    loop {
        let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) else { continue };
        let call = message.payload().expect("a payload");
        let mut reply = [0; 16];
        reply[..8].copy_from_slice(&call[..8]);
        reply[8..].copy_from_slice(&(word(&call[8..16]) + word(&call[16..])).to_le_bytes());
        send(&producer, REPLIES, &reply);
    }
}

pub(crate) fn call(brokers: &str, window: usize, count: usize) -> Measured {
    let (consumer, producer) = (consumer(brokers, REPLIES), producer(brokers));
    let call = |id: u64| {
        let mut record = [0; 24];
        record[..8].copy_from_slice(&id.to_le_bytes());
        record[8..16].copy_from_slice(&id.to_le_bytes());
        record[16..].copy_from_slice(&2_u64.to_le_bytes());
        send(&producer, CALLS, &record);
    };
    let answer = || loop {
        let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) else { continue };
        let reply = message.payload().expect("a payload");
        let id = word(&reply[..8]);
        assert_eq!(word(&reply[8..]), id + 2);
        return usize::try_from(id).expect("a small number");
    };
    for id in 0..100 {
        call(id);
        answer();
    }
    let mut latency = Histogram::new(3).expect("three digits are supported");
    let mut sent = vec![Instant::now(); count];
    let (mut started, mut done) = (0, 0);
    let begin = Instant::now();
    while done < count {
        while started < count && started - done < window {
            sent[started] = Instant::now();
            call(started as u64);
            started += 1;
        }
        let micros = sent[answer()].elapsed().as_micros();
        latency.record(u64::try_from(micros).expect("a short time")).expect("it resizes");
        done += 1;
    }
    Measured::new(count, begin.elapsed(), latency)
}
