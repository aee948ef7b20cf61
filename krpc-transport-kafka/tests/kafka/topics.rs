//! Topics: created, adopted, refused.

use std::{sync::Arc, time::Duration};

use krpc_core::{
    error::SetupError,
    transport::{Endpoint, Target, Topic, TransportConfig},
};
use krpc_transport_kafka::KafkaEndpoint;
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};

use crate::support::{Driver, admin, caller, config, endpoint, service, shared};

/// Creates a topic as a stranger would.
async fn create(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let results = admin().create_topics([&topic], &options).await.unwrap();
    assert!(results[0].is_ok(), "{results:?}");
}

async fn setting(topic: &str, name: &str) -> String {
    let options = AdminOptions::new();
    let results =
        admin().describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.unwrap();
    results[0].as_ref().unwrap().get(name).unwrap().value.clone().unwrap()
}

async fn open(config: TransportConfig, service: &str) -> Result<(), SetupError> {
    let endpoint = endpoint(config);
    let client = endpoint.client(Arc::new(Driver::default())).unwrap();
    let opened = client.open(0, service, 0).await;
    client.close().await;
    let server = endpoint.server(Arc::new(Driver::default())).unwrap();
    let opened_by_server = server.open(0, service).await;
    server.close().await;
    assert_eq!(opened.is_ok(), opened_by_server.is_ok());
    opened.map(|_| ())
}

#[tokio::test]
async fn created_topics_have_our_settings() {
    let service = service("created");
    let config = TransportConfig {
        prefix: "tests".to_owned(),
        calls_retention: Duration::from_secs(100),
        max_packet_bytes: 100_000,
        ..config()
    };
    let client = caller(&endpoint(config.clone()), &service).await;
    let calls = format!("tests.krpc.{service}.calls");
    assert_eq!(setting(&calls, "message.timestamp.type").await, "LogAppendTime");
    assert_eq!(setting(&calls, "retention.ms").await, "100000");
    assert_eq!(setting(&calls, "cleanup.policy").await, "delete");
    assert_eq!(setting(&calls, "max.message.bytes").await, "101024");
    assert_eq!(setting(&config.topic(&service, Topic::Replies), "retention.ms").await, "3600000");
    client.transport.close().await;
}

#[tokio::test]
async fn lazy_topics_are_created_with_settings_of_their_own() {
    const DAY: u64 = 24 * 60 * 60;
    let service = service("lazy");
    let config = TransportConfig { dead_retention: Duration::from_secs(100), ..config() };
    let client = caller(&endpoint(config.clone()), &service).await;
    for (topic, partitions, retention) in [
        (Topic::Results, 4, Duration::from_secs(7 * DAY)),
        (Topic::Dead, 1, Duration::from_secs(100)),
        (Topic::Cancels, 1, Duration::from_secs(7 * DAY)),
        (Topic::Delayed, 10, Duration::from_secs(30 * DAY)),
    ] {
        assert_eq!(client.transport.open_topic(0, topic).await.unwrap(), partitions);
        let name = config.topic(&service, topic);
        assert_eq!(setting(&name, "retention.ms").await, retention.as_millis().to_string());
        assert_eq!(setting(&name, "message.timestamp.type").await, "LogAppendTime");
        assert_eq!(setting(&name, "cleanup.policy").await, "delete");
    }
    client.transport.close().await;

    let adopted = self::service("adopted");
    create(&config.topic(&adopted, Topic::Dead), 2, &[("max.message.bytes", "9000000")]).await;
    create(&config.topic(&adopted, Topic::Results), 2, &[("cleanup.policy", "compact")]).await;
    let client = caller(&endpoint(config.clone()), &adopted).await;
    assert_eq!(client.transport.open_topic(0, Topic::Dead).await.unwrap(), 2);
    let unfit = client.transport.open_topic(0, Topic::Results).await.unwrap_err();
    assert!(matches!(unfit, SetupError::UnfitTopic { .. }), "{unfit}");
    client.transport.close().await;
}

#[tokio::test]
async fn a_topic_of_delayed_calls_has_a_partition_for_each_class() {
    let (smaller, larger) = (service("classes"), service("more-classes"));
    for (service, partitions) in [(&smaller, 9), (&larger, 11)] {
        let name = config().topic(service, Topic::Delayed);
        create(&name, partitions, &[("max.message.bytes", "9000000")]).await;
    }
    let client = caller(&endpoint(config()), &smaller).await;
    match client.transport.open_topic(0, Topic::Delayed).await.unwrap_err() {
        SetupError::UnfitTopic { topic, reason } => {
            assert_eq!(topic, config().topic(&smaller, Topic::Delayed));
            assert!(reason.contains('9') && reason.contains("10"), "{reason}");
        }
        other => panic!("{other}"),
    }
    client.transport.close().await;
    let client = caller(&endpoint(config()), &larger).await;
    assert_eq!(client.transport.open_topic(0, Topic::Delayed).await.unwrap(), 11);
    client.transport.close().await;
}

#[tokio::test]
async fn whoever_comes_first_creates_and_all_others_adopt() {
    let service = Arc::new(service("race"));
    let opens: Vec<_> = (0..8)
        .map(|_| {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                let client = caller(&endpoint(config()), &service).await;
                client.transport.close().await;
                client.topology
            })
        })
        .collect();
    for open in opens {
        assert_eq!(open.await.unwrap().call_partitions, 4);
    }
}

#[tokio::test]
async fn larger_topics_are_adopted_and_smaller_ones_refused() {
    let (larger, smaller) = (service("larger"), service("smaller"));
    create(&config().topic(&larger, Topic::Calls), 9, &[("max.message.bytes", "9000000")]).await;
    let client = caller(&endpoint(config()), &larger).await;
    assert_eq!(client.topology.call_partitions, 9);
    client.transport.close().await;

    let calls = config().topic(&smaller, Topic::Calls);
    create(&calls, 3, &[("max.message.bytes", "9000000")]).await;
    match open(config(), &smaller).await.unwrap_err() {
        SetupError::UnfitTopic { topic, reason } => {
            assert_eq!(topic, calls);
            assert!(reason.contains('3') && reason.contains('4'), "{reason}");
        }
        other => panic!("{other}"),
    }
    let enough = TransportConfig { min_call_partitions: 3, ..config() };
    open(enough, &smaller).await.unwrap();
}

#[tokio::test]
async fn a_topic_whose_messages_are_too_small_is_refused_until_packets_fit() {
    let service = service("small");
    create(&config().topic(&service, Topic::Replies), 2, &[("max.message.bytes", "50000")]).await;
    match open(config(), &service).await.unwrap_err() {
        SetupError::UnfitTopic { reason, .. } => assert!(reason.contains("max_packet_bytes")),
        other => panic!("{other}"),
    }
    let fits = TransportConfig { max_packet_bytes: 50_000 - 1024, ..config() };
    open(fits, &service).await.unwrap();
}

#[tokio::test]
async fn a_compacted_topic_is_refused() {
    let service = service("compacted");
    let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "9000000")];
    create(&config().topic(&service, Topic::Calls), 4, &settings).await;
    let error = open(config(), &service).await.unwrap_err();
    assert!(matches!(error, SetupError::UnfitTopic { .. }), "{error}");
}

#[tokio::test]
async fn a_topic_with_the_senders_time_is_adopted_without_times() {
    let service = service("create-time");
    for (topic, partitions) in [(Topic::Calls, 4), (Topic::Replies, 2)] {
        let settings = [("message.timestamp.type", "CreateTime"), ("max.message.bytes", "9000000")];
        create(&config().topic(&service, topic), partitions, &settings).await;
    }
    let client = caller(&endpoint(config()), &service).await;
    client.call(0, "call", 1);
    client.driver.until("the report", |seen| seen.stored.contains_key(&1)).await;
    assert_eq!(client.driver.seen.lock().stored[&1], None);
    client.transport.close().await;
}

#[tokio::test]
async fn missing_topics_are_an_error_when_none_may_be_created() {
    let config = TransportConfig { create_topics: false, ..config() };
    let error = open(config, &service("missing")).await.unwrap_err();
    assert!(matches!(error, SetupError::MissingTopic { .. }), "{error}");
}

#[tokio::test]
async fn more_copies_than_brokers_are_a_setting_out_of_range() {
    let config = TransportConfig { replication: Some(7), ..config() };
    match open(config, &service("copies")).await.unwrap_err() {
        SetupError::InvalidConfig { name, .. } => assert_eq!(name, "replication"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn names_that_are_no_topics_are_refused() {
    for bad in ["", "a b", "ü", "a/b", &"x".repeat(250)] {
        let error = open(config(), bad).await.unwrap_err();
        assert!(matches!(error, SetupError::InvalidService { .. }), "{bad:?}: {error}");
    }
}

#[tokio::test]
async fn settings_that_librdkafka_refuses_are_named() {
    let mut config = config();
    config.properties.push(("linger.ms".to_owned(), "soon".to_owned()));
    match KafkaEndpoint::new(shared().bootstrap(), config).unwrap_err() {
        SetupError::InvalidConfig { value, .. } => assert_eq!(value, "soon"),
        other => panic!("{other}"),
    }
}

/// The work of an open that is given up goes on for a while, beside that of the next open of the
/// service, or of another at the same time: none may fail at it nor be robbed of its replies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_of_one_service_at_a_time_share_what_is_read() {
    let endpoint = endpoint(config());
    let names: Vec<_> = (0..24).map(|_| service("midway")).collect();
    for name in &names {
        // The topics are there later, so that most of an open is the question for the end.
        caller(&endpoint, name).await.transport.close().await;
    }
    let driver = Arc::new(Driver::default());
    let transport = endpoint.client(driver.clone()).unwrap();
    for (index, name) in (0u16..).zip(&names) {
        let given_up = transport.open(index, name, 1);
        let soon = Duration::from_micros(200) * u32::from(index);
        let _opened_or_given_up = tokio::time::timeout(soon, given_up).await;
        let (next, other) =
            tokio::join!(transport.open(index, name, 0), transport.open(index, name, 1));
        let (_, partition) = next.unwrap();
        assert_eq!(other.unwrap().1, partition);
        let target = Target { service: index, topic: Topic::Replies, partition, exact: false };
        transport.send(target, name.as_bytes(), u64::from(index)).unwrap();
        driver.until(name, |seen| seen.records.len() > usize::from(index)).await;
    }
    let mut expected = names;
    expected.sort();
    assert_eq!(driver.seen.lock().texts(), expected);
    transport.close().await;
}
