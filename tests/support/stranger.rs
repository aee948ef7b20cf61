//! Somebody who reads and writes a service's topics without being one of us.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use krpc_core::transport::{Topic, TransportConfig, memory::MemoryEndpoint};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{Backend, Place};

/// How long the broker may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads what is written, and writes records of its own making.
pub(crate) struct Stranger {
    service: &'static str,
    config: TransportConfig,
    way: Way,
}

enum Way {
    Memory(Box<MemoryEndpoint>),
    Kafka(Box<Kafka>),
}

/// A partition, by the name of its topic.
type Partition = (String, i32);

struct Kafka {
    producer: BaseProducer,
    consumer: BaseConsumer,
    /// What was read so far of each partition.
    read: RefCell<HashMap<Partition, Vec<Vec<u8>>>>,
}

impl Stranger {
    /// A stranger at the topics of a service, which exist.
    pub(crate) fn new(place: &Place, service: &'static str) -> Self {
        let config = place.config();
        let way = match crate::BACKEND {
            Backend::Memory | Backend::Sealed => {
                Way::Memory(Box::new(MemoryEndpoint::new(&place.endpoint, config.clone())))
            }
            Backend::Embedded => panic!("its address is nobody's business"),
            Backend::Kafka | Backend::SealedKafka => {
                Way::Kafka(Box::new(Kafka::new(&place.endpoint)))
            }
        };
        Self { service, config, way }
    }

    /// Writes a record; `None` is a null value.
    pub(crate) fn write(&self, topic: Topic, partition: u32, value: Option<&[u8]>) {
        match &self.way {
            Way::Memory(endpoint) => {
                // The in-process broker has no null: an empty value is the same to readers.
                let value = value.unwrap_or_default();
                endpoint.inject(self.service, topic, partition, value).unwrap();
            }
            Way::Kafka(kafka) => {
                kafka.write(&self.config.topic(self.service, topic), partition, value);
            }
        }
    }

    /// Returns when everything is written.
    pub(crate) fn flush(&self) {
        if let Way::Kafka(kafka) = &self.way {
            kafka.producer.flush(PATIENCE).unwrap();
        }
    }

    /// The values that lie in a topic, each with its partition, in the order of each; none if there
    /// is no such topic. The in-process broker soon forgets what everybody has read.
    pub(crate) fn read(&self, topic: Topic) -> Vec<(u32, Vec<u8>)> {
        let values = |partition| match &self.way {
            Way::Memory(endpoint) => {
                let values = endpoint.recorded(self.service, topic, partition);
                values.iter().map(|value| value.to_vec()).collect::<Vec<_>>()
            }
            Way::Kafka(kafka) => kafka.read(&self.config.topic(self.service, topic), partition),
        };
        let partitions = match &self.way {
            Way::Memory(_) => self.config.partitions(topic),
            Way::Kafka(kafka) => kafka.partitions(&self.config.topic(self.service, topic)),
        };
        let records = |partition| values(partition).into_iter().map(move |it| (partition, it));
        (0..partitions).flat_map(records).collect()
    }
}

impl Kafka {
    fn new(brokers: &str) -> Self {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers);
        let producer = client.create().unwrap();
        // A name is asked for, though it joins no group.
        client.set("group.id", "stranger").set("enable.auto.commit", "false");
        // A broker answers nothing else meanwhile.
        client.set("fetch.wait.max.ms", "10");
        Self { producer, consumer: client.create().unwrap(), read: RefCell::default() }
    }

    fn write(&self, topic: &str, partition: u32, value: Option<&[u8]>) {
        let mut record = BaseRecord::<(), [u8]>::to(topic);
        record.partition = Some(i32::try_from(partition).unwrap());
        record.payload = value;
        loop {
            // What is reported makes room.
            self.producer.poll(Duration::ZERO);
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), full)) => {
                    record = full;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }

    /// How many partitions a topic has; 0 if it is not there.
    fn partitions(&self, topic: &str) -> u32 {
        let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        u32::try_from(metadata.topics()[0].partitions().len()).unwrap()
    }

    /// Reads a partition on, to where it ends now.
    fn read(&self, topic: &str, partition: u32) -> Vec<Vec<u8>> {
        let place = (topic.to_owned(), i32::try_from(partition).unwrap());
        let until = Instant::now() + PATIENCE;
        let end = loop {
            match self.consumer.fetch_watermarks(topic, place.1, PATIENCE) {
                Ok((_, end)) => break usize::try_from(end).unwrap(),
                // A topic that was just made may have no leader yet.
                Err(error) => assert!(Instant::now() < until, "{topic}: {error}"),
            }
        };
        let mut read = self.read.borrow_mut();
        if end > 0 && !read.contains_key(&place) {
            let mut from = TopicPartitionList::new();
            from.add_partition_offset(topic, place.1, Offset::Beginning).unwrap();
            self.consumer.incremental_assign(&from).unwrap();
            read.insert(place.clone(), Vec::new());
        }
        while read.get(&place).map_or(0, Vec::len) < end {
            assert!(Instant::now() < until, "{topic} is not read to {end}");
            let Some(record) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let record = record.unwrap();
            let value = record.payload().unwrap_or_default().to_vec();
            // Offsets have no gaps here.
            let values = read.get_mut(&(record.topic().to_owned(), record.partition())).unwrap();
            assert_eq!(usize::try_from(record.offset()), Ok(values.len()));
            values.push(value);
        }
        read.get(&place).cloned().unwrap_or_default()
    }
}
