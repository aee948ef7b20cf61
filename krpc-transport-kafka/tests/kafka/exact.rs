//! Records that are stored once at most, in order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use krpc_core::{
    status::Code,
    transport::{Rejected, Target, Topic, TransportConfig},
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::KafkaEndpoint;

use crate::support::{self, Answerer, Caller, Seen, answerer, caller, config, endpoint, service};

const EXACT: Target = Target { service: 0, topic: Topic::Calls, partition: 0, exact: true };

/// Sends these, as soon as they are taken.
async fn send(client: &Caller, tokens: std::ops::Range<u64>) {
    for token in tokens {
        let text = format!("{token:05}");
        support::send(&*client.transport, EXACT, text.as_bytes(), token).await;
    }
}

/// Fails unless the server was handed each of them once, in order.
async fn are_in_order(server: &Answerer, count: u64) {
    let all = |seen: &Seen| u64::try_from(seen.records.len()).unwrap() >= count;
    server.driver.until("exact calls", all).await;
    let seen = server.driver.seen.lock();
    let texts: Vec<_> = seen.records.iter().map(|it| it.payload.clone()).collect();
    let expected: Vec<_> = (0..count).map(|token| format!("{token:05}")).collect();
    assert_eq!(texts, expected);
}

/// A paused broker answers nothing, so requests time out and are sent again; when it goes on, it
/// has the first ones as well. One that is killed has perhaps stored what it never answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_fails_stores_nothing_twice_and_nothing_out_of_order() {
    const RECORDS: u64 = 1_200;

    let kafka = Kafka::start().unwrap();
    let mut config = config();
    config.properties.push(("socket.timeout.ms".to_owned(), "1000".to_owned()));
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    let service = service("exact");
    let server = answerer(&endpoint, &service).await;
    let client = caller(&endpoint, &service).await;
    client.transport.prepare_exact();
    for token in 0..RECORDS {
        send(&client, token..token + 1).await;
        match token {
            300 => kafka.pause(0).unwrap(),
            // Later than the requests time out.
            600 => {
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                kafka.resume(0).unwrap();
            }
            900 => {
                kafka.kill(0).unwrap();
                tokio::task::block_in_place(|| kafka.restart(0)).unwrap();
            }
            _ if token % 10 == 0 => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => {}
        }
    }
    let all = |seen: &Seen| u64::try_from(seen.reported).unwrap() == RECORDS;
    client.driver.until("reports", all).await;
    assert!(client.driver.seen.lock().failed.is_empty());
    are_in_order(&server, RECORDS).await;
    let offsets = client.driver.seen.lock().offsets.clone();
    assert!(offsets.iter().all(|(token, offset)| i64::try_from(*token) == Ok(*offset)));
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn properties_for_all_producers_do_not_break_it() {
    let (mut loose, service) = (config(), service("loose"));
    for (name, value) in [
        ("enable.idempotence", "false"),
        ("acks", "1"),
        ("retries", "0"),
        ("max.in.flight", "1000"),
        ("queuing.strategy", "lifo"),
    ] {
        loose.properties.push((name.to_owned(), value.to_owned()));
    }
    let endpoint = endpoint(TransportConfig { call_partitions: 4, ..loose });
    let server = answerer(&endpoint, &service).await;
    let client = caller(&endpoint, &service).await;
    send(&client, 0..100).await;
    are_in_order(&server, 100).await;
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    // What is queued leaves before the end.
    send(&client, 100..200).await;
    client.transport.close().await;
    assert_eq!(client.driver.seen.lock().stored.len(), 200);
    match client.transport.send(EXACT, b"late", 200) {
        Err(Rejected::Failed(status)) => assert_eq!(status.code(), Code::Unavailable),
        other => panic!("{other:?}"),
    }
}

/// One record is overdue while others, sent later, are under way too: librdkafka would send those
/// again under a new producer id, and the broker would not know them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_overdue_takes_the_others_with_it() {
    let kafka = Kafka::start().unwrap();
    let mut config = config();
    for (name, value) in [("socket.timeout.ms", "1000"), ("message.timeout.ms", "3000")] {
        config.properties.push((name.to_owned(), value.to_owned()));
    }
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    let service = service("overdue");
    let server = answerer(&endpoint, &service).await;
    let client = caller(&endpoint, &service).await;
    send(&client, 0..10).await;
    client.driver.until("the first", |seen| seen.stored.len() == 10).await;
    kafka.pause(0).unwrap();
    let begin = Instant::now();
    for (token, after) in [(10, 0), (11, 700), (12, 1_800)] {
        tokio::time::sleep_until((begin + Duration::from_millis(after)).into()).await;
        send(&client, token..token + 1).await;
    }
    client.driver.until("all three are given up", |seen| seen.failed.len() == 3).await;
    let waited = begin.elapsed();
    kafka.resume(0).unwrap();
    assert!((3.0..4.7).contains(&waited.as_secs_f64()), "{waited:?}");
    send(&client, 13..20).await;
    client.driver.until("the others", |seen| seen.stored.len() == 17).await;
    let last = client.driver.seen.lock().offsets[&19];
    server.driver.until("the last", |seen| seen.records.iter().any(|it| it.offset == last)).await;
    {
        let (client, server) = (client.driver.seen.lock(), server.driver.seen.lock());
        assert!(client.failed.iter().all(|(_, status, _)| status.code() == Code::Unavailable));
        // The group may have read some again meanwhile.
        let stored: BTreeMap<_, _> = server.records.iter().map(|it| (it.offset, it)).collect();
        let payloads = stored.values().map(|record| &record.payload);
        assert!(payloads.is_sorted_by(|one, next| one < next), "{stored:?}");
    }
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}
