//! Brokers that are not there, go away and come back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    status::Code,
    transport::{Endpoint, GroupProtocol, Rejected, Target, Topic, TransportConfig},
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::KafkaEndpoint;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};

use crate::support::{self, Driver, admin, answerer, caller, config, endpoint, service};

#[tokio::test]
async fn without_a_broker_opening_fails_in_time_with_the_cause() {
    let absent = format!("127.0.0.1:{}", krpc_testkit::free_port().unwrap());
    for (bootstrap, cause) in
        [(absent.as_str(), "refused"), ("no-such-host.invalid:9092", "resolve")]
    {
        let config = TransportConfig { connect_timeout: Duration::from_millis(1500), ..config() };
        let endpoint = KafkaEndpoint::new(bootstrap, config).unwrap();
        let client = endpoint.client(Arc::new(Driver::default())).unwrap();
        let begin = Instant::now();
        let error = client.open(0, "absent", 0).await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_millis(2500), "{:?}", begin.elapsed());
        match &error {
            SetupError::Unreachable { endpoint, cause: said, .. } => {
                assert_eq!(endpoint, bootstrap);
                assert!(said.contains(cause), "{said}");
            }
            other => panic!("{other}"),
        }
        let begin = Instant::now();
        client.close().await;
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_can_keep_trying_and_can_be_given_up() {
    let kafka = Kafka::start().unwrap();
    kafka.kill(0).unwrap();
    let config = TransportConfig {
        connect_timeout: Duration::from_millis(100),
        keep_trying: true,
        ..config()
    };
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    let service = service("trying");

    let given_up = endpoint.client(Arc::new(Driver::default())).unwrap();
    let open = given_up.open(0, &service, 0);
    assert!(tokio::time::timeout(Duration::from_millis(300), open).await.is_err());
    let begin = Instant::now();
    given_up.close().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());

    let client = endpoint.client(Arc::new(Driver::default())).unwrap();
    let open = client.open(0, &service, 0);
    let (opened, ()) = tokio::join!(open, async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        tokio::task::block_in_place(|| kafka.restart(0)).unwrap();
    });
    opened.unwrap();
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_and_started_again_loses_nothing() {
    let kafka = Kafka::start().unwrap();
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config()).unwrap();
    let service = service("killed");
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    let client = caller(&endpoint, &service).await;
    let send = |range: std::ops::Range<u64>| {
        for token in range {
            client.call(u32::try_from(token % 4).unwrap(), &format!("{token:05}"), token);
        }
    };
    send(0..100);
    server.driver.until("calls before", |seen| seen.records.len() >= 100).await;
    kafka.kill(0).unwrap();
    send(100..200);
    tokio::task::block_in_place(|| kafka.restart(0)).unwrap();
    send(200..300);
    client.driver.until("all stored", |seen| seen.stored.len() == 300).await;
    let all = |seen: &crate::support::Seen| {
        let mut texts = seen.texts();
        // Without idempotence a record may be stored twice; its packet's number tells.
        texts.dedup();
        texts.len() == 300
    };
    server.driver.until("all calls", all).await;
    let replies = Target {
        service: 0,
        topic: Topic::Replies,
        partition: client.reply_partition,
        exact: false,
    };
    server.transport.send(replies, b"reply", 9).unwrap();
    client.driver.until("a reply", |seen| !seen.records.is_empty()).await;
    server.owning(4).await;
    let results = server.transport.commit(server.driver.points()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_brokers_one_may_be_killed() {
    let kafka = Kafka::builder()
        .brokers(3)
        .setting("broker.session.timeout.ms", "2000")
        .setting("broker.heartbeat.interval.ms", "200")
        .start()
        .unwrap();
    let config = TransportConfig { replication: Some(3), ..config() };
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    let service = service("cluster");
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    let client = caller(&endpoint, &service).await;
    // Every broker leads some partition of each topic; the second is not the first bootstrap.
    for token in 0..3_000 {
        client.call(u32::try_from(token % 4).unwrap(), &format!("{token:05}"), token);
        if token == 1_000 {
            kafka.kill(1).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.driver.until("all stored", |seen| seen.stored.len() == 3_000).await;
    assert!(client.driver.seen.lock().failed.is_empty());
    let all = |seen: &crate::support::Seen| {
        let mut texts = seen.texts();
        texts.dedup();
        texts.len() == 3_000
    };
    server.driver.until("all calls", all).await;
    server.owning(4).await;
    let results = server.transport.commit(server.driver.points()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let replies = Target {
        service: 0,
        topic: Topic::Replies,
        partition: client.reply_partition,
        exact: false,
    };
    server.transport.send(replies, b"reply", 1).unwrap();
    client.driver.until("a reply", |seen| !seen.records.is_empty()).await;
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn without_its_broker_a_server_still_ends_in_bounded_time() {
    let kafka = Kafka::start().unwrap();
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config()).unwrap();
    let server = answerer(&endpoint, &service("alone")).await;
    server.owning(4).await;
    let client = caller(&endpoint, &service("alone")).await;
    kafka.kill(0).unwrap();
    client.call(0, "never", 3);
    let begin = Instant::now();
    // The final points cannot be committed, and it is said.
    server.driver.seen.lock().note = "unheard".to_owned();
    let _ = server.transport.leave().await;
    assert!(begin.elapsed() < Duration::from_secs(11), "{:?}", begin.elapsed());
    let begin = Instant::now();
    server.transport.close().await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    client.transport.close().await;
    let seen = client.driver.seen.lock();
    assert_eq!((seen.failed.len(), seen.reported), (1, 1));
    assert!(seen.failed[0].1.is_retryable());
}

#[tokio::test]
async fn after_a_fatal_error_a_new_producer_takes_over() {
    take_over(false).await;
}

#[tokio::test]
async fn after_a_fatal_error_a_new_exact_producer_takes_over() {
    take_over(true).await;
}

async fn take_over(exact: bool) {
    let target = Target { service: 0, topic: Topic::Calls, partition: 0, exact };
    let mut config = config();
    // Under this guarantee one record that the broker refuses makes the producer unusable.
    for name in ["enable.idempotence", "enable.gapless.guarantee"] {
        config.properties.push((name.to_owned(), "true".to_owned()));
    }
    let service = service("fatal");
    let calls = config.topic(&service, Topic::Calls);
    let client = caller(&endpoint(config), &service).await;
    support::send(&*client.transport, target, b"good", 0).await;
    client.driver.until("stored", |seen| seen.stored.len() == 1).await;
    let smaller =
        AlterConfig::new(ResourceSpecifier::Topic(&calls)).set("max.message.bytes", "100000");
    let altered = admin().alter_configs([&smaller], &AdminOptions::new()).await.unwrap();
    altered[0].as_ref().unwrap();
    client.transport.send(target, &[0; 200_000], 1).unwrap();
    client.driver.until("the failure", |seen| seen.failed.len() == 1).await;
    // Refused until the new producer is there, for a reason that passes.
    let (begin, mut refused, mut token) = (Instant::now(), 0, 2);
    while client.driver.seen.lock().stored.len() < 2 {
        match client.transport.send(target, b"again", token) {
            Ok(()) => token += 1,
            Err(Rejected::Failed(status)) => {
                assert!(status.is_retryable(), "{status}");
                refused += 1;
            }
            // For a moment, while the last ones are given up.
            Err(Rejected::Full) => assert!(exact),
        }
        assert!(begin.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.transport.close().await;
    let seen = client.driver.seen.lock();
    assert!(seen.broken.is_empty());
    assert_eq!(u64::try_from(seen.reported).unwrap(), token, "each accepted one is reported once");
    // What is sent into the middle of the change may have to be sent again, and it is said.
    let told =
        seen.failed.iter().filter(|(token, ..)| *token > 1).all(|(_, s, _)| s.is_retryable());
    assert!(told, "{refused} refused, {} failed", seen.failed.len());
}

#[tokio::test]
async fn replies_go_on_after_their_topic_was_made_anew() {
    let (endpoint, service) = (endpoint(config()), service("anew"));
    let client = caller(&endpoint, &service).await;
    let replies = Target {
        service: 0,
        topic: Topic::Replies,
        partition: client.reply_partition,
        exact: false,
    };
    for token in 0..50 {
        client.transport.send(replies, b"old", token).unwrap();
    }
    client.driver.until("old replies", |seen| seen.records.len() == 50).await;
    let topic = config().topic(&service, Topic::Replies);
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    admin().delete_topics(&[&topic], &options).await.unwrap()[0].as_ref().unwrap();
    let other = caller(&endpoint, &service).await;
    // The offset that the client stood at does not exist here; what comes later is read.
    let begin = Instant::now();
    let mut token = 100;
    while client.driver.seen.lock().texts().last().is_none_or(|text| text != "young") {
        match other.transport.send(replies, b"young", token) {
            Ok(()) => token += 1,
            // The last news of a broker may be of before the topic was there again.
            Err(Rejected::Failed(status)) => assert_eq!(status.code(), Code::NotFound),
            Err(Rejected::Full) => {}
        }
        assert!(begin.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(client.driver.seen.lock().broken.is_empty());
    other.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn a_group_that_cannot_work_breaks_the_server_with_the_cause() {
    let kafka = Kafka::builder()
        .setting("group.coordinator.rebalance.protocols", "classic")
        .start()
        .unwrap();
    let config = TransportConfig { group_protocol: GroupProtocol::Consumer, ..config() };
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    let server = answerer(&endpoint, &service("broken")).await;
    server.driver.until("the word", |seen| !seen.broken.is_empty()).await;
    let _ = server.transport.leave().await;
    server.transport.close().await;
    assert_eq!(server.driver.seen.lock().broken.len(), 1);
}

#[tokio::test]
async fn calls_begin_anew_after_their_topic_was_made_anew() {
    let (endpoint, service) = (endpoint(config()), service("reborn"));
    let client = caller(&endpoint, &service).await;
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    (0..50).for_each(|token| client.call(0, "old", token));
    server.driver.until("old calls", |seen| seen.records.len() == 50).await;
    assert_eq!(server.transport.commit(server.driver.points()).await, vec![Ok(())]);
    let topic = config().topic(&service, Topic::Calls);
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    admin().delete_topics(&[&topic], &options).await.unwrap()[0].as_ref().unwrap();
    let other = caller(&endpoint, &service).await;
    // Fewer than there were, so that their offsets are below what was committed.
    (100..120).for_each(|token| other.call(0, "young", token));
    server.driver.until("young calls", |seen| seen.records.len() == 70).await;
    {
        let seen = server.driver.seen.lock();
        let young = |record: &&krpc_core::transport::Record| record.payload == "young";
        let offset = seen.records.iter().find(young).map(|record| record.offset);
        assert_eq!(offset, Some(0), "read from the first on");
        // Told anew, whether by the group or by the log, before the first record.
        assert!(seen.lost.len() + seen.released.len() >= 1 && seen.broken.is_empty());
        assert_eq!(seen.committed[&0], None);
    }
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    other.transport.close().await;
    client.transport.close().await;
}
