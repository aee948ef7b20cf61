//! Topics that are made and read when somebody asks for them, and what a group has committed.

use std::{sync::Arc, time::Duration};

use krpc_core::{
    error::SetupError,
    ids::PartitionId,
    status::{Code, Status},
    transport::{
        CommitPoint, Committed, Endpoint, Producer, Target, Topic, Topics, TransportConfig,
    },
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::{KafkaEndpoint, embedded};
use rdkafka::admin::AdminOptions;

use crate::support::{self, Driver, admin, answerer, caller, config, endpoint, service};

const RESULTS: Target = Target { service: 0, topic: Topic::Results, partition: 2, exact: false };
const CANCELS: Target = Target { service: 0, topic: Topic::Cancels, partition: 0, exact: false };

/// The offsets that came of a topic, in their order.
fn offsets(driver: &Driver, topic: Topic) -> Vec<i64> {
    let seen = driver.seen.lock();
    seen.records.iter().filter(|it| it.topic == topic).map(|it| it.offset).collect()
}

/// Sends records to a target, and waits until they are stored.
async fn send(
    producer: &(impl Producer + ?Sized),
    driver: &Driver,
    target: Target,
    tokens: std::ops::Range<u64>,
) {
    for token in tokens.clone() {
        support::send(producer, target, format!("{token:05}").as_bytes(), token).await;
    }
    let all = |seen: &crate::support::Seen| tokens.clone().all(|it| seen.stored.contains_key(&it));
    driver.until("stored", all).await;
}

/// Reads a results partition from the middle, the start and the end. `send` has put ten in it.
async fn follow_about(side: &dyn Topics, driver: &Driver) {
    let Target { service, topic, partition, .. } = RESULTS;
    assert_eq!(side.open_topic(service, topic).await.unwrap(), 4);
    assert_eq!(side.bounds(service, topic, partition).await.unwrap(), (0, 10));
    side.follow(service, topic, partition, 6).await.unwrap();
    driver.until("the last four", |seen| seen.records.len() == 4).await;
    side.follow(service, topic, partition, -5).await.unwrap();
    driver.until("all of them", |seen| seen.records.len() == 14).await;
    let expected: Vec<i64> = (6..10).chain(0..10).collect();
    assert_eq!(offsets(driver, topic), expected);
    side.follow(service, topic, partition, 99).await.unwrap();
}

#[tokio::test]
async fn both_sides_follow_from_an_offset_and_from_the_end() {
    let (endpoint, service) = (endpoint(config()), service("follow"));
    let client = caller(&endpoint, &service).await;
    let sent = client.transport.send(RESULTS, b"x", 0);
    assert!(sent.is_err(), "it is not open");
    client.transport.open_topic(0, Topic::Results).await.unwrap();
    send(&*client.transport, &client.driver, RESULTS, 0..10).await;
    let told = client.driver.seen.lock().offsets.clone();
    assert_eq!(told, (0..10).map(|n| (n, i64::try_from(n).unwrap())).collect());

    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    follow_about(&*client.transport, &client.driver).await;
    follow_about(&*server.transport, &server.driver).await;
    send(&*client.transport, &client.driver, RESULTS, 10..12).await;
    for driver in [&client.driver, &server.driver] {
        driver.until("the new ones", |seen| seen.records.len() == 16).await;
        assert_eq!(offsets(driver, Topic::Results)[14..], [10, 11]);
    }

    // Who follows no longer gets nothing; the other one does, and replies as before.
    client.transport.unfollow(0, Topic::Results, 2);
    server.transport.follow(0, Topic::Results, 3, 0).await.unwrap();
    let other = Target { partition: 3, ..RESULTS };
    send(&*client.transport, &client.driver, RESULTS, 12..13).await;
    send(&*client.transport, &client.driver, other, 13..14).await;
    server.driver.until("both", |seen| seen.records.len() == 18).await;
    let partition = client.reply_partition;
    let replies = Target { topic: Topic::Replies, partition, ..RESULTS };
    send(&*server.transport, &server.driver, replies, 0..1).await;
    client.driver.until("a reply", |seen| seen.texts().len() > 16).await;
    client.transport.follow(0, Topic::Results, 2, 12).await.unwrap();
    client.driver.until("it follows again", |seen| seen.texts().len() >= 18).await;
    let seen = offsets(&client.driver, Topic::Results);
    assert!(seen[16..].iter().all(|offset| *offset == 12), "{seen:?}");
    assert_eq!(server.driver.seen.lock().strays, 0);
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
    let closed = client.transport.follow(0, Topic::Results, 2, 0).await.unwrap_err();
    assert_eq!(closed.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_goes_on_when_a_broker_comes_back() {
    let kafka = Kafka::start().unwrap();
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config()).unwrap();
    let service = service("back");
    let client = caller(&endpoint, &service).await;
    let driver = Arc::new(Driver::default());
    let server = endpoint.server(driver.clone()).unwrap();
    server.open(0, &service).await.unwrap();
    for side in [&*client.transport as &dyn Topics, &*server] {
        side.open_topic(0, Topic::Cancels).await.unwrap();
    }
    send(&*client.transport, &client.driver, CANCELS, 0..100).await;
    server.follow(0, Topic::Cancels, 0, 50).await.unwrap();
    driver.until("the first", |seen| seen.records.len() == 50).await;
    kafka.kill(0).unwrap();
    tokio::task::block_in_place(|| kafka.restart(0)).unwrap();
    send(&*client.transport, &client.driver, CANCELS, 100..200).await;
    driver.until("the others", |seen| seen.records.len() >= 150).await;
    let (_, end) = server.bounds(0, Topic::Cancels, 0).await.unwrap();
    assert_eq!(offsets(&driver, Topic::Cancels), (50..end).collect::<Vec<_>>());
    server.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn a_client_reads_what_a_living_group_has_committed() {
    let (endpoint, service) = (endpoint(config()), service("committed"));
    let client = caller(&endpoint, &service).await;
    let nothing = Committed { offset: None, metadata: String::new(), end: 0 };
    assert_eq!(client.transport.committed(0, 1).await.unwrap(), nothing);
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    (0..5).for_each(|token| client.call(1, "call", token));
    server.driver.until("calls", |seen| seen.records.len() == 5).await;
    for (offset, metadata) in [(2, "a map"), (4, &*"x".repeat(4_096))] {
        let partition = PartitionId { service: 0, partition: 1 };
        let point = CommitPoint { partition, offset, metadata: metadata.to_owned() };
        assert_eq!(server.transport.commit(vec![point]).await, [Ok(())]);
        let expected = Committed { offset: Some(offset), metadata: metadata.to_owned(), end: 5 };
        assert_eq!(client.transport.committed(0, 1).await.unwrap(), expected);
    }
    let other = client.transport.committed(0, 0).await.unwrap();
    assert_eq!(other, nothing);
    {
        let seen = server.driver.seen.lock();
        assert_eq!((seen.owned.len(), seen.released.len(), seen.lost.len()), (4, 0, 0));
    }
    let code = |asked: Result<Committed, Status>| asked.unwrap_err().code();
    assert_eq!(code(client.transport.committed(0, 4).await), Code::OutOfRange);
    assert_eq!(code(client.transport.committed(9, 0).await), Code::FailedPrecondition);
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
    assert_eq!(code(client.transport.committed(0, 1).await), Code::Unavailable);
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_named() {
    let quick = TransportConfig { connect_timeout: Duration::from_secs(3), ..config() };
    let service = service("gone");
    let client = caller(&endpoint(quick.clone()), &service).await;
    let unwilling = TransportConfig { create_topics: false, ..quick.clone() };
    let other = caller(&endpoint(unwilling), &service).await;
    let name = quick.topic(&service, Topic::Dead);
    match other.transport.open_topic(0, Topic::Dead).await.unwrap_err() {
        SetupError::MissingTopic { topic, .. } => assert_eq!(topic, name),
        error => panic!("{error}"),
    }
    let mut opens = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let transport = Arc::clone(&client.transport);
        opens.spawn(async move { transport.open_topic(0, Topic::Dead).await });
    }
    for opened in opens.join_all().await {
        assert_eq!(opened.unwrap(), 1);
    }
    assert_eq!(other.transport.open_topic(0, Topic::Dead).await.unwrap(), 1);
    let results = admin().delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
    assert!(results[0].is_ok(), "{results:?}");
    let status = client.transport.follow(0, Topic::Dead, 0, 0).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains(&name), "{status}");
    let status = client.transport.bounds(0, Topic::Results, 0).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    client.transport.close().await;
    other.transport.close().await;
}

#[tokio::test]
async fn the_embedded_broker_can_all_of_it() {
    let endpoint = embedded("follow", config()).unwrap();
    let service = service("embedded");
    let client = caller(&endpoint, &service).await;
    client.transport.prepare_exact();
    client.transport.open_topic(0, Topic::Results).await.unwrap();
    send(&*client.transport, &client.driver, RESULTS, 0..10).await;
    follow_about(&*client.transport, &client.driver).await;
    let exact = Target { topic: Topic::Calls, partition: 1, exact: true, ..RESULTS };
    send(&*client.transport, &client.driver, exact, 20..40).await;
    let server = answerer(&endpoint, &service).await;
    server.driver.until("exact calls", |seen| seen.records.len() == 20).await;
    assert_eq!(offsets(&server.driver, Topic::Calls), (0..20).collect::<Vec<_>>());
    let results = server.transport.commit(server.driver.points()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(client.transport.committed(0, 1).await.unwrap().offset, Some(20));
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

/// An assignment that comes soon after the last one ended reads the same records again.
#[tokio::test]
async fn who_follows_anew_at_once_misses_nothing() {
    let (endpoint, service) = (endpoint(config()), service("anew"));
    let client = caller(&endpoint, &service).await;
    client.transport.open_topic(0, Topic::Results).await.unwrap();
    let Target { topic, partition, .. } = RESULTS;
    for round in 0..20 {
        client.transport.unfollow(0, topic, partition);
        send(&*client.transport, &client.driver, RESULTS, round..round + 1).await;
        client.driver.seen.lock().records.clear();
        client.transport.follow(0, topic, partition, 0).await.unwrap();
        let all: Vec<_> = (0..=i64::try_from(round).unwrap()).collect();
        // What is left of the last time comes first, perhaps the newest record with it.
        let whole = |seen: &support::Seen| {
            let seen: Vec<_> = seen.records.iter().map(|record| record.offset).collect();
            seen.ends_with(&all)
        };
        client.driver.until("all of it again", whole).await;
    }
    client.transport.close().await;
}
