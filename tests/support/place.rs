//! Where a scenario runs: an endpoint, and a prefix that nobody else uses.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use krpc::{Channel, ChannelBuilder, Server, ServerBuilder, rt::Service};
use krpc_core::transport::TransportConfig;

use super::{eventually, seals};

/// Partitions of the calls topics that scenarios make.
pub(crate) const PARTITIONS: u32 = 4;

/// Partitions of their replies topics.
const REPLY_PARTITIONS: u32 = 2;

/// What carries the calls of a test target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backend {
    /// The in-process broker.
    Memory,
    /// The same, with every seal.
    Sealed,
    /// A real Apache Kafka.
    Kafka,
    /// The same, with seals: each scenario with one of them.
    SealedKafka,
    /// librdkafka's mock cluster.
    Embedded,
}

/// An endpoint and a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: String,
    pub(crate) prefix: String,
    /// How packets are sealed here.
    pub(crate) seal: Option<&'static str>,
}

impl Place {
    pub(crate) fn new(seal: Option<&'static str>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("test-{started:x}-{number}");
        let endpoint = match crate::BACKEND {
            Backend::Memory | Backend::Sealed => format!("memory:{prefix}"),
            Backend::Embedded => "embedded:scenarios".to_owned(),
            Backend::Kafka | Backend::SealedKafka => {
                krpc_testkit::Kafka::shared().unwrap().bootstrap().to_owned()
            }
        };
        Self { endpoint, prefix, seal }
    }

    /// What a transport is told here.
    pub(crate) fn config(&self) -> TransportConfig {
        TransportConfig {
            prefix: self.prefix.clone(),
            call_partitions: PARTITIONS,
            reply_partitions: REPLY_PARTITIONS,
            replication: Some(1),
            ..TransportConfig::default()
        }
    }

    /// A server's builder.
    pub(crate) fn server(&self) -> ServerBuilder {
        seals::server(Server::builder(&self.endpoint), self.seal)
            .prefix(&self.prefix)
            .set("KRPC_CALL_PARTITIONS", PARTITIONS)
            .set("KRPC_REPLY_PARTITIONS", REPLY_PARTITIONS)
            .set("KRPC_REPLICATION", 1)
    }

    /// A channel's builder.
    pub(crate) fn channel(&self) -> ChannelBuilder {
        seals::channel(Channel::builder(&self.endpoint), self.seal)
            .prefix(&self.prefix)
            .set("KRPC_CALL_PARTITIONS", PARTITIONS)
            .set("KRPC_REPLY_PARTITIONS", REPLY_PARTITIONS)
            .set("KRPC_REPLICATION", 1)
    }

    /// A channel.
    pub(crate) async fn connect(&self) -> Channel {
        self.channel().connect().await.unwrap()
    }

    /// The only server of a service.
    pub(crate) async fn serve(&self, service: impl Service) -> Server {
        start(self.server().serve(service)).await
    }
}

/// Starts the only server of its services; returns when it owns all of their partitions.
pub(crate) async fn start(builder: ServerBuilder) -> Server {
    let server = builder.start().await.unwrap();
    let all = usize::try_from(PARTITIONS).unwrap();
    eventually("the server owns all partitions", || {
        server.stats().partitions.iter().all(|owned| owned.len() == all)
    })
    .await;
    server
}

/// Waits until these servers share all partitions of their only service, each having some.
pub(crate) async fn settled(servers: &[&Server]) {
    let all = usize::try_from(PARTITIONS).unwrap();
    eventually("the servers share the partitions", || {
        let owned: Vec<_> =
            servers.iter().map(|server| server.stats().partitions[0].len()).collect();
        owned.iter().sum::<usize>() == all && !owned.contains(&0)
    })
    .await;
}
