//! A Kafka with an authorizer, where these programs may nothing: they are told what is missing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    transport::{Endpoint, Topic, TransportConfig},
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::KafkaEndpoint;

use crate::support::{Driver, config, service};

/// The broker speaks to its controller as a super user; whoever else comes is anonymous.
const SETTINGS: [(&str, &str); 7] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:broker"),
    ("allow.everyone.if.no.acl.found", "false"),
    ("listener.security.protocol.map", "CONTROLLER:SASL_PLAINTEXT,PLAINTEXT:PLAINTEXT"),
    ("sasl.mechanism.controller.protocol", "PLAIN"),
    ("listener.name.controller.sasl.enabled.mechanisms", "PLAIN"),
    (
        "listener.name.controller.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"broker\" password=\"broker\" user_broker=\"broker\";",
    ),
];

fn guarded() -> Kafka {
    let builder = Kafka::builder();
    let builder = SETTINGS.into_iter().fold(builder, |it, (key, value)| it.setting(key, value));
    builder.start().unwrap()
}

/// Fails unless it is told that this topic may not be touched.
fn is_told(result: Result<(), SetupError>, topics: &[String]) {
    match result.unwrap_err() {
        SetupError::Unauthorized { action, resource, .. } => {
            assert!(["describe", "create"].contains(&action.as_str()), "{action}");
            assert!(topics.contains(&resource), "{resource}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn missing_rights_are_told_within_the_connect_timeout() {
    let kafka = guarded();
    let connect_timeout = Duration::from_secs(8);
    let name = service("rights");
    for create_topics in [true, false] {
        let config = TransportConfig { connect_timeout, create_topics, ..config() };
        let topics = [Topic::Calls, Topic::Replies].map(|topic| config.topic(&name, topic));
        let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();

        let started = Instant::now();
        let client = endpoint.client(Arc::new(Driver::default())).unwrap();
        client.reach().await.unwrap();
        is_told(client.open(0, &name, 0).await.map(drop), &topics);
        assert!(started.elapsed() < connect_timeout);
        client.close().await;

        let started = Instant::now();
        let server = endpoint.server(Arc::new(Driver::default())).unwrap();
        is_told(server.open(0, &name).await.map(drop), &topics);
        assert!(started.elapsed() < connect_timeout);
        server.close().await;
    }
}
