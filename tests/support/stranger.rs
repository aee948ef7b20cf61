//! Somebody who writes into a service's topics without being one of us.

use krpc_core::transport::{Topic, TransportConfig, memory::MemoryEndpoint};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{Backend, Place};

/// Writes records of its own making.
pub(crate) struct Stranger {
    service: &'static str,
    config: TransportConfig,
    way: Way,
}

enum Way {
    Memory(Box<MemoryEndpoint>),
    Kafka(BaseProducer),
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
            Backend::Kafka => {
                let mut client = ClientConfig::new();
                client.set("bootstrap.servers", &place.endpoint);
                Way::Kafka(client.create().unwrap())
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
            Way::Kafka(producer) => {
                let topic = self.config.topic(self.service, topic);
                let mut record = BaseRecord::<(), [u8]>::to(&topic);
                record.partition = Some(i32::try_from(partition).unwrap());
                record.payload = value;
                producer.send(record).unwrap();
            }
        }
    }

    /// Returns when everything is written.
    pub(crate) fn flush(&self) {
        if let Way::Kafka(producer) = &self.way {
            producer.flush(std::time::Duration::from_secs(20)).unwrap();
        }
    }
}
