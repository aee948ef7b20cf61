//! `embedded:`: librdkafka's mock cluster, a broker inside this process.
//!
//! It speaks Kafka's protocol, so the same code runs as against Apache Kafka; it keeps nothing on
//! disk, drops the oldest records of a full partition without a word, and its speed means
//! nothing. For the first ten minutes and for tests.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use krpc_core::{
    error::SetupError,
    transport::{
        ClientEvents, ClientTransport, Endpoint, ServerEvents, ServerTransport, Topic,
        TransportConfig,
    },
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    mocking::MockCluster,
    producer::{BaseProducer, DefaultProducerContext, Producer as _},
    types::RDKafkaErrorCode,
};

use crate::{client::KafkaClient, config::Settings, server::KafkaServer};

/// A mock cluster of this process.
pub(crate) struct MockHost {
    // The cluster lives inside this client.
    client: BaseProducer<DefaultProducerContext>,
    bootstrap: String,
    // Creating a topic twice at a time is not what the mock was made for.
    creating: Mutex<()>,
}

impl MockHost {
    fn start() -> Result<Self, SetupError> {
        let failed = |error: KafkaError| SetupError::Transport(format!("mock cluster: {error}"));
        let client: BaseProducer<DefaultProducerContext> = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("client.id", "krpc-embedded")
            .create()
            .map_err(failed)?;
        let bootstrap = cluster(&client)?.bootstrap_servers();
        Ok(Self { client, bootstrap, creating: Mutex::new(()) })
    }

    /// Creates a topic unless it is there.
    pub(crate) fn create(&self, topic: &str, partitions: u32) -> Result<(), SetupError> {
        let _one_at_a_time = self.creating.lock();
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        match cluster(&self.client)?.create_topic(topic, partitions, 1) {
            Ok(()) | Err(KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
            Err(error) => {
                Err(SetupError::MissingTopic { topic: topic.to_owned(), reason: error.to_string() })
            }
        }
    }
}

impl fmt::Debug for MockHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockHost").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

fn cluster(
    client: &BaseProducer<DefaultProducerContext>,
) -> Result<MockCluster<'_, DefaultProducerContext>, SetupError> {
    let missing = || SetupError::Transport("librdkafka started no mock cluster".to_owned());
    client.client().mock_cluster().ok_or_else(missing)
}

/// An endpoint whose broker runs inside this process.
#[derive(Clone, Debug)]
pub struct EmbeddedEndpoint {
    name: String,
    settings: Settings,
    host: Arc<MockHost>,
}

/// The embedded broker of this name: one per process and name, started at its first use and alive
/// until the process ends, so that calls may wait in it while nobody is connected.
///
/// # Errors
/// Settings that cannot be used, or no local port to listen at.
pub fn embedded(name: &str, config: TransportConfig) -> Result<EmbeddedEndpoint, SetupError> {
    static HOSTS: OnceLock<Mutex<HashMap<String, Arc<MockHost>>>> = OnceLock::new();

    let mut hosts = HOSTS.get_or_init(Mutex::default).lock();
    let host = match hosts.get(name) {
        Some(host) => Arc::clone(host),
        None => {
            let host = Arc::new(MockHost::start()?);
            hosts.insert(name.to_owned(), Arc::clone(&host));
            host
        }
    };
    drop(hosts);
    let settings = Settings::new(host.bootstrap.clone(), config, true)?;
    Ok(EmbeddedEndpoint { name: format!("embedded:{name}"), settings, host })
}

impl EmbeddedEndpoint {
    /// The broker's address, for other programs that speak Kafka's protocol: `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.host.bootstrap
    }
}

impl Endpoint for EmbeddedEndpoint {
    fn name(&self) -> &str {
        &self.name
    }

    fn topic(&self, service: &str, topic: Topic) -> String {
        self.settings.config.topic(service, topic)
    }

    fn client(
        &self,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Arc<dyn ClientTransport>, SetupError> {
        let host = Some(Arc::clone(&self.host));
        Ok(Arc::new(KafkaClient::new(&self.name, &self.settings, host, events)?))
    }

    fn server(
        &self,
        events: Arc<dyn ServerEvents>,
    ) -> Result<Arc<dyn ServerTransport>, SetupError> {
        let host = Some(Arc::clone(&self.host));
        Ok(Arc::new(KafkaServer::new(&self.name, &self.settings, host, events)?))
    }
}
