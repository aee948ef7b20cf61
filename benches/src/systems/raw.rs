//! The floor: one record each way, with nothing but rdkafka.
//!
//! Clients and servers have a partition each, which they read by hand: no group, no commits, no
//! deadlines, no tasks. A thread per client or server does all the work, and rdkafka's own threads
//! do the rest. A client here is a connection: several that share one would be one with more calls
//! in flight.

mod open;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, ThreadedProducer},
};
use tokio::runtime::Runtime;

use super::{Drive, Ready, Serve};
use crate::{
    figure::Measured,
    load::{Phase, Values},
    process::Usage,
    record::Recorder,
};

const CALLS: &str = "bench.raw.calls";
const REPLIES: &str = "bench.raw.replies";

/// At most so many servers, and so many clients.
const CALL_PARTITIONS: i32 = 4;
const REPLY_PARTITIONS: i32 = 64;

/// The largest record: a value of a mebibyte with room to spare.
const LARGEST: &str = "4194304";

/// How long an answer may take, and Kafka to tell of its topics.
const LIMIT: Duration = Duration::from_secs(30);

type Producer = ThreadedProducer<DefaultProducerContext>;

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("message.max.bytes", LARGEST);
    config.set("socket.nagle.disable", "true");
    config
}

fn producer(brokers: &str) -> Result<Producer> {
    let mut config = config(brokers);
    config
        // Waiting for more records would only add to every call's time.
        .set("linger.ms", "0")
        .set("acks", "all")
        .set("max.in.flight", "5")
        .set("delivery.report.only.error", "true");
    Ok(config.create()?)
}

/// A reader of one partition from its end on.
fn consumer(brokers: &str, topic: &str, partition: i32) -> Result<BaseConsumer> {
    let mut config = config(brokers);
    config
        .set("group.id", "bench.raw")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", LARGEST)
        .set("fetch.wait.max.ms", "100")
        // The default of a second stalls a partition whose prefetch was full.
        .set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer = config.create()?;
    let end = end(&consumer, topic, partition)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(end))?;
    consumer.assign(&list)?;
    Ok(consumer)
}

/// A partition's end. One that was created just now may have no leader for a moment.
fn end(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<i64> {
    let started = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, LIMIT) {
            Ok((_, end)) => return Ok(end),
            Err(error) if started.elapsed() > LIMIT => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn create_topics(serve: &Serve) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(&serve.brokers).create()?;
    let copies = if serve.replication == 0 { -1 } else { i32::from(serve.replication) };
    let topics = [(CALLS, CALL_PARTITIONS), (REPLIES, REPLY_PARTITIONS)].map(|(name, count)| {
        let topic = NewTopic::new(name, count, TopicReplication::Fixed(copies));
        topic.set("max.message.bytes", LARGEST)
    });
    let results = Runtime::new()?.block_on(admin.create_topics(&topics, &AdminOptions::new()))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("{topic} was not created: {code}"),
        }
    }
    Ok(())
}

fn send(producer: &Producer, topic: &str, partition: i32, payload: &[u8]) -> Result<()> {
    let mut record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload);
    while let Err((error, back)) = producer.send(record) {
        // The queue is full only while the broker catches up.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        record = back;
        thread::yield_now();
    }
    Ok(())
}

fn word(bytes: &[u8]) -> Result<u64> {
    let first = bytes.first_chunk().context("a record is too short")?;
    Ok(u64::from_le_bytes(*first))
}

/// Waits at most a tenth of a second for a record.
fn take<T>(consumer: &BaseConsumer, then: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
    match consumer.poll(Duration::from_millis(100)) {
        None => Ok(None),
        // The broker is asked again by librdkafka itself.
        Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown))) => Ok(None),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(message)) => then(message.payload().context("a record is empty")?).map(Some),
    }
}

pub(crate) fn serve(serve: &Serve) -> Result<()> {
    ensure!(serve.delay_us == 0, "raw has no handlers that could sleep");
    let partition = i32::try_from(serve.index)?;
    ensure!(partition < CALL_PARTITIONS, "raw has {CALL_PARTITIONS} servers at most");
    create_topics(serve)?;
    let consumer = consumer(&serve.brokers, CALLS, partition)?;
    let producer = producer(&serve.brokers)?;
    Ready::say(&serve.brokers)?;
    loop {
        take(&consumer, |value| {
            let client = i32::try_from(word(value)? >> CLIENT)?;
            send(&producer, REPLIES, client, value)
        })?;
    }
}

/// A call's number: the client above, then one of its places for calls in flight, then how often
/// that place was used.
const CLIENT: u32 = 48;
const PLACE: u32 = 32;

/// One of the calls in flight.
#[derive(Clone, Copy)]
struct Place {
    number: u64,
    sent: Instant,
}

struct Client<'a> {
    drive: &'a Drive,
    values: Values,
    consumer: BaseConsumer,
    producer: Producer,
    places: Vec<Place>,
    /// The value to send, but for its number.
    value: Vec<u8>,
}

impl<'a> Client<'a> {
    fn new(drive: &'a Drive, index: usize) -> Result<Self> {
        let (brokers, sent) = (drive.brokers(), Instant::now());
        let client = i32::try_from(index)?;
        ensure!(client < REPLY_PARTITIONS, "raw has {REPLY_PARTITIONS} clients at most");
        let number = |place| (u64::from(client.unsigned_abs()) << CLIENT) | (place << PLACE);
        let in_flight = u64::from(u16::try_from(drive.load.clients * drive.load.in_flight)?);
        let values = Values::new(drive.load.size);
        Ok(Self {
            drive,
            value: values.of(0),
            values,
            consumer: consumer(&brokers, REPLIES, client)?,
            producer: producer(&brokers)?,
            places: (0..in_flight).map(|place| Place { number: number(place), sent }).collect(),
        })
    }

    fn call(&mut self, place: usize) -> Result<()> {
        let place = &mut self.places[place];
        place.number += 1;
        place.sent = Instant::now();
        let servers = u64::try_from(self.drive.servers.len())?;
        let partition = i32::try_from(place.number % servers)?;
        self.value[..8].copy_from_slice(&place.number.to_le_bytes());
        send(&self.producer, CALLS, partition, &self.value)
    }

    /// The place whose answer came, and how long that took.
    fn answer(&self) -> Result<(usize, Duration)> {
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            let taken = take(&self.consumer, |answer| {
                let index = usize::try_from((word(answer)? >> PLACE) & 0xffff)?;
                let place = self.places.get(index).context("an answer to no call")?;
                let elapsed = place.sent.elapsed();
                self.values.check(place.number, answer)?;
                Ok((index, elapsed))
            })?;
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
        bail!("no answer within {LIMIT:?}")
    }

    fn run(mut self, phase: &Phase, recorder: &Recorder) -> Result<()> {
        let shard = self.places[0].number >> CLIENT;
        for place in 0..self.places.len() {
            self.call(place)?;
        }
        while !phase.is_over() {
            let (place, elapsed) = self.answer()?;
            if phase.counts() {
                recorder.add(shard, elapsed);
            }
            self.call(place)?;
        }
        for _ in 0..self.places.len() {
            self.answer()?;
        }
        Ok(())
    }
}

pub(crate) fn drive(drive: &Drive) -> Result<Measured> {
    let (before, started) = (Usage::of(&drive.servers)?, Instant::now());
    let clients = (0..drive.load.connections).map(|index| Client::new(drive, index));
    let mut clients = clients.collect::<Result<Vec<_>>>()?;
    if drive.once {
        let client = clients.first_mut().context("one call needs a client")?;
        client.call(0)?;
        client.answer()?;
        return drive.first(started.elapsed(), before);
    }
    if drive.rate > 0 {
        let client = clients.first_mut().context("the open loop needs a client")?;
        return open::drive(client);
    }
    let (phase, recorder) = (Phase::new(), Recorder::new());
    let interval = phase.run(drive.times, &drive.servers);
    thread::scope(|scope| {
        let threads = clients.into_iter().map(|client| {
            let (phase, recorder) = (&phase, &recorder);
            scope.spawn(move || client.run(phase, recorder))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a client panicked")))
        })
    })?;
    let interval = interval.join().map_err(|_| anyhow!("the clock panicked"))??;
    let latency = recorder.summary();
    interval.measured(latency.calls, latency)
}
