//! Topics and brokers: created, adopted, refused, shared, freed.

use super::*;

#[tokio::test]
async fn topics_are_created_once_and_adopted() {
    let creator = MemoryEndpoint::new("topics.adopt", config(3));
    let other = MemoryEndpoint::new("memory:topics.adopt", config(7));
    assert_eq!((creator.name(), other.name()), ("memory:topics.adopt", "memory:topics.adopt"));
    let events = Fake::new();
    let client = creator.client(events.clone()).unwrap();
    let (created, _) = client.open(0, "sum", 0).await.unwrap();
    let adopted = other.server(events).unwrap().open(0, "sum").await.unwrap();
    assert_eq!((created, created.call_partitions), (adopted, 3));
}

#[tokio::test]
async fn a_prefix_keeps_users_apart() {
    let endpoint = MemoryEndpoint::new("topics.prefix", config(1));
    let config = TransportConfig { prefix: "mine".to_owned(), ..config(2) };
    let prefixed = MemoryEndpoint::new("topics.prefix", config);
    assert_eq!(endpoint.inject("sum", Topic::Calls, 0, b"x"), Some(0));
    assert_eq!(prefixed.records("sum", Topic::Calls), 0);
    assert_eq!(prefixed.inject("sum", Topic::Calls, 1, b"x"), Some(0));
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let name = "topics.refuse";
    let open = async |config| {
        let client = MemoryEndpoint::new(name, config).client(Fake::new()).unwrap();
        client.open(0, "sum", 0).await
    };
    let adopt = TransportConfig { create_topics: false, ..config(1) };
    assert!(matches!(open(adopt.clone()).await, Err(SetupError::MissingTopic { .. })));
    assert!(matches!(open(config(0)).await, Err(SetupError::InvalidConfig { .. })));
    assert!(matches!(open(config(u32::MAX)).await, Err(SetupError::InvalidConfig { .. })));
    let endpoint = MemoryEndpoint::new(name, config(1));
    put(&endpoint, 0);
    assert!(matches!(open(adopt.clone()).await, Err(SetupError::MissingTopic { .. })));
    open(config(1)).await.unwrap();
    open(adopt).await.unwrap();
    let max_packet_bytes = TransportConfig::default().max_packet_bytes + 1;
    let larger = TransportConfig { max_packet_bytes, ..config(1) };
    assert!(matches!(open(larger).await, Err(SetupError::UnfitTopic { .. })));
}

#[tokio::test]
async fn an_index_stands_for_one_service() {
    let (client, _) = client(&private(1)).await;
    client.open(0, "sum", 0).await.unwrap();
    assert!(matches!(client.open(0, "other", 0).await, Err(SetupError::Transport(_))));
    let (server, _) = server(&private(1)).await;
    let twice = server.open(1, "sum").await;
    assert!(matches!(twice, Err(SetupError::DuplicateService { .. })));
}

#[test]
fn without_a_runtime_there_are_no_sides() {
    let endpoint = private(1);
    assert!(matches!(endpoint.client(Fake::new()), Err(SetupError::Transport(_))));
    assert!(matches!(endpoint.server(Fake::new()), Err(SetupError::Transport(_))));
}

#[tokio::test]
async fn calls_wait_in_a_named_broker_that_nobody_uses() {
    let name = "topics.wait";
    {
        let (client, sent) = client(&MemoryEndpoint::new(name, config(1))).await;
        client.send(calls(0), b"early", 1).unwrap();
        sent.until_delivered(1).await;
        client.close().await;
    }
    let (_server, seen) = server(&MemoryEndpoint::new(name, config(1))).await;
    seen.until_arrived(1).await;
    assert_eq!(seen.records.lock()[0].payload, "early");
}

#[tokio::test]
async fn an_empty_broker_goes_with_its_last_user() {
    let endpoint = MemoryEndpoint::new("topics.empty", config(1));
    let broker = Arc::downgrade(&endpoint.broker.broker);
    let (client, _) = client(&endpoint).await;
    drop(endpoint);
    assert!(broker.upgrade().is_some());
    client.close().await;
    drop(client);
    assert!(broker.upgrade().is_none());
    assert!(!NAMED.lock().contains_key("topics.empty"));
}

#[tokio::test]
async fn a_private_broker_goes_with_its_last_side() {
    let endpoint = private(1);
    let broker = Arc::downgrade(&endpoint.broker.broker);
    let (client, client_events) = client(&endpoint).await;
    let (server, server_events) = server(&endpoint).await;
    client.send(calls(0), b"x", 1).unwrap();
    server_events.until_arrived(1).await;
    drop(endpoint);
    client.close().await;
    server.leave().await.unwrap();
    server.close().await;
    drop((client, server));
    assert!(broker.upgrade().is_none());
    assert_eq!(Arc::strong_count(&client_events), 1, "the tasks have ended");
    assert_eq!(Arc::strong_count(&server_events), 1, "the tasks have ended");
}

#[tokio::test]
async fn two_private_brokers_are_apart() {
    let (one, other) = (private(1), private(1));
    one.inject("sum", Topic::Calls, 0, b"x");
    assert_eq!(one.clone().records("sum", Topic::Calls), 1);
    assert_eq!(other.records("sum", Topic::Calls), 0);
}

#[tokio::test]
async fn a_partition_without_readers_stays_bounded() {
    let endpoint = private(1);
    let payload = vec![0; 4 << 20];
    for _ in 0..20 {
        endpoint.inject("sum", Topic::Calls, 0, &payload).unwrap();
    }
    assert_eq!(endpoint.records("sum", Topic::Calls), 20);
    assert_eq!(endpoint.dropped("sum", Topic::Calls), 5);
    let (_server, seen) = server(&endpoint).await;
    seen.until_arrived(15).await;
    assert_eq!(arrived(&seen.log())[0], (id(0), 5));
}

#[tokio::test]
async fn a_consumer_that_commits_keeps_a_partition_small() {
    let endpoint = private(1);
    let (server, seen) = server(&endpoint).await;
    let payload = vec![0; 1 << 20];
    for round in 1..=100 {
        endpoint.inject("sum", Topic::Calls, 0, &payload).unwrap();
        seen.until_arrived(round).await;
        seen.records.lock().clear();
        let offset = i64::try_from(round).unwrap();
        let point = CommitPoint { partition: id(0), offset, metadata: String::new() };
        assert_eq!(server.commit(vec![point]).await, [Ok(())]);
    }
    assert_eq!(endpoint.dropped("sum", Topic::Calls), 0, "none was lost");
}
