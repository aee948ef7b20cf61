//! Topics that are made when somebody asks for them, and read by hand.

use super::*;
use crate::{
    delay,
    transport::{Committed, Topics},
};

/// The payloads that arrived from a topic.
fn read(seen: &Fake, topic: Topic) -> Vec<(i64, Bytes)> {
    let records = seen.records.lock();
    let records = records.iter().filter(|record| record.topic == topic);
    records.map(|record| (record.offset, record.payload.clone())).collect()
}

fn numbers(read: &[(i64, Bytes)]) -> Vec<i64> {
    read.iter().map(|(offset, _)| *offset).collect()
}

fn target(topic: Topic, partition: u32) -> Target {
    Target { service: 0, topic, partition, exact: false }
}

async fn both_follow(side: &dyn Topics, seen: &Fake, endpoint: &MemoryEndpoint) {
    assert_eq!(side.open_topic(0, Topic::Results).await.unwrap(), 4);
    assert_eq!(side.open_topic(0, Topic::Results).await.unwrap(), 4, "asking again is harmless");
    let at = endpoint.records("sum", Topic::Results);
    for text in ["a", "b", "c"] {
        endpoint.inject("sum", Topic::Results, 2, text.as_bytes()).unwrap();
    }
    let start = i64::try_from(at).unwrap();
    assert_eq!(side.bounds(0, Topic::Results, 2).await.unwrap(), (0, start + 3));
    side.follow(0, Topic::Results, 2, start + 1).await.unwrap();
    seen.until_arrived(2).await;
    endpoint.inject("sum", Topic::Results, 2, b"d").unwrap();
    endpoint.inject("sum", Topic::Results, 1, b"another partition").unwrap();
    seen.until_arrived(3).await;
    assert_eq!(numbers(&read(seen, Topic::Results)), [start + 1, start + 2, start + 3]);
    assert_eq!(read(seen, Topic::Results)[2].1, "d");

    // Back to what was read, or from beyond the end: the nearest offset.
    side.follow(0, Topic::Results, 2, start).await.unwrap();
    seen.until_arrived(7).await;
    assert_eq!(numbers(&read(seen, Topic::Results)[3..]), [0, 1, 2, 3].map(|n| start + n));
    side.follow(0, Topic::Results, 2, 99).await.unwrap();
    endpoint.inject("sum", Topic::Results, 2, b"e").unwrap();
    seen.until_arrived(8).await;

    side.unfollow(0, Topic::Results, 2);
    endpoint.inject("sum", Topic::Results, 2, b"unseen").unwrap();
    side.open_topic(0, Topic::Dead).await.unwrap();
    endpoint.inject("sum", Topic::Dead, 0, b"seen").unwrap();
    side.follow(0, Topic::Dead, 0, -1).await.unwrap();
    seen.until_arrived(9).await;
    assert_eq!(read(seen, Topic::Results).len(), 8);
    assert_eq!(read(seen, Topic::Dead).len(), 1);
}

#[tokio::test]
async fn both_sides_follow_from_where_they_want() {
    let endpoint = private(1);
    let (client, seen) = client(&endpoint).await;
    both_follow(&*client, &seen, &endpoint).await;

    let endpoint = private(1);
    let (server, seen) = server(&endpoint).await;
    both_follow(&*server, &seen, &endpoint).await;
    assert!(server.leave().await.is_ok());
    server.close().await;
    endpoint.inject("sum", Topic::Dead, 0, b"unseen").unwrap();
    assert_eq!(read(&seen, Topic::Dead).len(), 1);
}

#[tokio::test]
async fn what_was_sent_to_a_lazy_topic_can_be_read_again() {
    let endpoint = private(1);
    let (client, seen) = client(&endpoint).await;
    assert!(client.send(target(Topic::Cancels, 0), b"x", 1).is_err(), "nobody opened it");
    client.open_topic(0, Topic::Cancels).await.unwrap();
    client.follow(0, Topic::Cancels, 0, 0).await.unwrap();
    let payload = vec![0; 1 << 20];
    for token in 0..10 {
        client.send(target(Topic::Cancels, 0), &payload, token).unwrap();
    }
    seen.until_arrived(10).await;
    // Ten times what is kept of what was read elsewhere.
    client.follow(0, Topic::Cancels, 0, 0).await.unwrap();
    seen.until_arrived(20).await;
    assert_eq!(numbers(&read(&seen, Topic::Cancels)[10..]), (0..10).collect::<Vec<_>>());
    for _ in 0..60 {
        endpoint.inject("sum", Topic::Cancels, 0, &payload).unwrap();
    }
    assert_eq!(client.bounds(0, Topic::Cancels, 0).await.unwrap(), (7, 70), "bytes bound it");
    assert_eq!(endpoint.dropped("sum", Topic::Cancels), 7);
}

#[tokio::test]
async fn delayed_calls_have_a_partition_for_each_class_and_stay() {
    let endpoint = private(1);
    let (server, seen) = server(&endpoint).await;
    assert_eq!(server.open_topic(0, Topic::Delayed).await.unwrap(), delay::CLASSES);
    for class in 0..delay::CLASSES {
        server.follow(0, Topic::Delayed, class, 0).await.unwrap();
        server.send(target(Topic::Delayed, class), b"held", u64::from(class)).unwrap();
    }
    seen.until_arrived(10).await;
    let payload = vec![0; 1 << 20];
    for _ in 0..3 {
        endpoint.inject("sum", Topic::Delayed, 9, &payload).unwrap();
    }
    seen.until_arrived(13).await;
    assert_eq!(server.bounds(0, Topic::Delayed, 9).await.unwrap(), (0, 4), "read, and kept");
    let beyond = server.follow(0, Topic::Delayed, delay::CLASSES, 0).await.unwrap_err();
    assert_eq!(beyond.code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_client_sees_how_far_the_group_is() {
    let endpoint = private(2);
    let (client, _) = client(&endpoint).await;
    let committed =
        |offset, metadata: &str, end| Committed { offset, metadata: metadata.to_owned(), end };
    assert_eq!(client.committed(0, 1).await.unwrap(), committed(None, "", 0));
    let (server, seen) = server(&endpoint).await;
    (0..3).for_each(|_| put(&endpoint, 1));
    seen.until_arrived(3).await;
    assert_eq!(client.committed(0, 1).await.unwrap(), committed(None, "", 3));
    let point = CommitPoint { partition: id(1), offset: 2, metadata: "map".to_owned() };
    assert_eq!(server.commit(vec![point]).await, [Ok(())]);
    assert_eq!(client.committed(0, 1).await.unwrap(), committed(Some(2), "map", 3));
}

#[tokio::test]
async fn what_is_not_open_is_refused() {
    let strict = TransportConfig { create_topics: false, ..config(1) };
    let endpoint = private(1);
    let (client, _) = client(&endpoint).await;
    let code = |status: Result<_, Status>| status.map(drop).map_err(|status| status.code());
    let closed = Err(Code::FailedPrecondition);
    assert_eq!(code(client.follow(0, Topic::Dead, 0, 0).await), closed);
    assert_eq!(code(client.bounds(0, Topic::Dead, 0).await.map(drop)), closed);
    assert_eq!(code(client.committed(5, 0).await.map(drop)), closed);
    assert!(client.open_topic(5, Topic::Dead).await.is_err());
    client.open_topic(0, Topic::Dead).await.unwrap();
    assert_eq!(code(client.follow(0, Topic::Dead, 1, 0).await), Err(Code::OutOfRange));
    assert_eq!(code(client.committed(0, 1).await.map(drop)), Err(Code::OutOfRange));
    client.close().await;
    assert_eq!(code(client.follow(0, Topic::Dead, 0, 0).await), Err(Code::Unavailable));
    assert!(matches!(client.open_topic(0, Topic::Results).await, Err(SetupError::Closed)));

    let unwilling = MemoryEndpoint { config: strict, ..endpoint.clone() };
    let events = Fake::new();
    let other = unwilling.client(events).unwrap();
    other.open(0, "sum", 0).await.unwrap();
    assert_eq!(other.open_topic(0, Topic::Dead).await.unwrap(), 1, "it is there");
    let missing = other.open_topic(0, Topic::Results).await;
    assert!(matches!(missing, Err(SetupError::MissingTopic { .. })), "{missing:?}");
}
