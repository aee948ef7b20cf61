//! A Kafka with an authorizer, where these programs may nothing, or not write: they are told what
//! is missing.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use krpc_core::{
    client::{
        call::Client,
        channel::{Channel, ClientOptions},
    },
    error::SetupError,
    server::{
        driver::Server,
        options::ServerOptions,
        service::{Incoming, Service, ServiceDescriptor},
    },
    status::Code,
    transport::{Endpoint, Target, Topic, TransportConfig},
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::KafkaEndpoint;

use crate::support::{Driver, caller, config, service};

/// The broker speaks to its controller as a super user; whoever else comes is anonymous.
const SETTINGS: [(&str, &str); 6] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:broker"),
    ("listener.security.protocol.map", "CONTROLLER:SASL_PLAINTEXT,PLAINTEXT:PLAINTEXT"),
    ("sasl.mechanism.controller.protocol", "PLAIN"),
    ("listener.name.controller.sasl.enabled.mechanisms", "PLAIN"),
    (
        "listener.name.controller.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"broker\" password=\"broker\" user_broker=\"broker\";",
    ),
];

/// Whether what no rule is about is allowed or not.
fn guarded(allow: bool) -> Kafka {
    let builder = Kafka::builder().setting("allow.everyone.if.no.acl.found", allow.to_string());
    let builder = SETTINGS.into_iter().fold(builder, |it, (key, value)| it.setting(key, value));
    builder.start().unwrap()
}

/// Fails unless it is told that this topic may not be touched.
fn is_told(result: Result<(), SetupError>, topics: &[String]) {
    match result.unwrap_err() {
        SetupError::Unauthorized { action, resource, .. } => {
            assert!(["read", "write", "create"].contains(&action.as_str()), "{action}");
            assert!(topics.contains(&resource), "{resource}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn missing_rights_are_told_within_the_connect_timeout() {
    let kafka = guarded(false);
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

/// Lets everybody read a topic, and so nobody write to it.
fn let_read_only(kafka: &Kafka, topic: &str) {
    let_only(kafka, topic, "User:ANONYMOUS");
}

/// Lets only this user read a topic: one CreateAcls request, version 1, by hand, for librdkafka's
/// safe wrapper has none.
fn let_only(kafka: &Kafka, topic: &str, user: &str) {
    const TOPIC: u8 = 2;
    const LITERAL: u8 = 3;
    const READ: u8 = 3;
    const ALLOW: u8 = 3;

    let mut request = vec![0, 30, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1, TOPIC];
    let string = |request: &mut Vec<u8>, text: &str| {
        request.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        request.extend(text.as_bytes());
    };
    string(&mut request, topic);
    request.push(LITERAL);
    string(&mut request, user);
    string(&mut request, "*");
    request.extend([READ, ALLOW]);

    let mut stream = TcpStream::connect(kafka.bootstrap()).unwrap();
    stream.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    // Correlation, throttle time, one result, its code.
    assert_eq!(answer[8..14], [0, 0, 0, 1, 0, 0], "{answer:?}");
}

/// Whose calls topic may not be written to.
const CALLS_CLOSED: &str = "rights.Calls";

/// Whose replies topic may not be written to.
struct RepliesClosed;

impl Service for RepliesClosed {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        &ServiceDescriptor { name: "rights.Replies", version: "", doc: "", methods: &[] }
    }

    fn dispatch(&self, _: Incoming) {}
}

/// Fails unless it is told that this topic may not be written to.
fn is_told_of_writing<T>(result: Result<T, SetupError>, topic: &str) {
    match result.err().unwrap() {
        SetupError::Unauthorized { action, resource, .. } => {
            assert_eq!((action.as_str(), resource.as_str()), ("write", topic));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_topic_that_may_not_be_written_to_is_named() {
    let kafka = guarded(true);
    let endpoint = Arc::new(KafkaEndpoint::new(kafka.bootstrap(), config()).unwrap());
    let replies_closed = RepliesClosed.descriptor().name;
    let calls = config().topic(CALLS_CLOSED, Topic::Calls);
    let replies = config().topic(replies_closed, Topic::Replies);
    for (name, closed) in [(CALLS_CLOSED, &calls), (replies_closed, &replies)] {
        caller(&*endpoint, name).await.transport.close().await;
        let_read_only(&kafka, closed);
    }
    // The rule is made, and reaches the broker soon: the second one after the first.
    let driver = Arc::new(Driver::default());
    let server = endpoint.server(driver.clone()).unwrap();
    server.open(0, replies_closed).await.unwrap();
    let target = Target { service: 0, topic: Topic::Replies, partition: 0, exact: false };
    for token in 0.. {
        server.send(target, b"?", token).unwrap();
        driver.until("reported", |seen| seen.reported as u64 == token + 1).await;
        if !driver.seen.lock().failed.is_empty() {
            break;
        }
    }
    server.close().await;

    let channel = Channel::new(endpoint.clone(), ClientOptions::default()).unwrap();
    is_told_of_writing(channel.open(CALLS_CLOSED).await, &calls);
    let error = Client::named(&channel, CALLS_CLOSED).ping().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::PermissionDenied));
    // Its calls topic is as it was.
    channel.open(replies_closed).await.unwrap();
    channel.close().await;

    let services: Vec<Arc<dyn Service>> = vec![Arc::new(RepliesClosed)];
    let started = Server::start(&*endpoint, services, ServerOptions::default()).await;
    is_told_of_writing(started, &replies);
}

#[tokio::test]
async fn a_lazy_topic_without_rights_is_named() {
    let kafka = guarded(true);
    let config = TransportConfig { connect_timeout: Duration::from_secs(8), ..config() };
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config.clone()).unwrap();
    let name = service("lazy");
    let client = caller(&endpoint, &name).await;
    client.transport.open_topic(0, Topic::Dead).await.unwrap();
    let dead = config.topic(&name, Topic::Dead);
    let_only(&kafka, &dead, "User:somebody");
    // The rule reaches the broker soon.
    let started = Instant::now();
    let status = loop {
        match client.transport.follow(0, Topic::Dead, 0, 0).await {
            Ok(()) => assert!(started.elapsed() < Duration::from_secs(20)),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains(&dead), "{status}");
    let later = caller(&endpoint, &name).await;
    is_told(later.transport.open_topic(0, Topic::Dead).await.map(drop), &[dead]);
    client.transport.close().await;
    later.transport.close().await;
}
