//! Sending: order, reports, limits, and what arrives where.

use super::{super::side::MAX_UNREPORTED, *};

async fn everything_arrives_in_order() {
    const RECORDS: u64 = 5_000;
    let endpoint = private(4);
    let (client, sent) = client(&endpoint).await;
    let (_server, seen) = server(&endpoint).await;
    for token in 0..RECORDS {
        let partition = u32::try_from(token % 4).unwrap();
        client.send(calls(partition), &token.to_be_bytes(), token).unwrap();
    }
    seen.until_arrived(5_000).await;
    sent.until_delivered(5_000).await;
    assert_eq!(sent.log(), (0..RECORDS).map(Event::Delivered).collect::<Vec<_>>());

    let records = std::mem::take(&mut *seen.records.lock());
    for partition in 0..4 {
        let of_it: Vec<_> = records.iter().filter(|r| r.partition == id(partition)).collect();
        let offsets: Vec<_> = of_it.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..1_250).collect::<Vec<_>>());
        assert!(of_it.is_sorted_by_key(|record| record.payload.clone()), "in order of sending");
        assert!(of_it.is_sorted_by_key(|record| record.appended.unwrap()));
    }
    assert_eq!(endpoint.records("sum", Topic::Calls), RECORDS);
}

#[tokio::test]
async fn order_holds_on_one_thread() {
    everything_arrives_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn order_holds_on_several_threads() {
    everything_arrives_in_order().await;
}

#[tokio::test]
async fn reports_come_later_and_once() {
    let (client, sent) = client(&private(1)).await;
    client.send(calls(0), b"x", 7).unwrap();
    assert_eq!(sent.log(), [], "not from inside the call");
    sent.until_delivered(1).await;
    client.send(calls(0), b"x", 8).unwrap();
    sent.until_delivered(2).await;
    assert_eq!(sent.log(), [Event::Delivered(7), Event::Delivered(8)]);
}

#[tokio::test]
async fn sending_works_under_the_locks_that_events_take() {
    let endpoint = private(1);
    let (client, events) = client(&endpoint).await;
    let locked = events.log.lock();
    client.send(calls(0), b"x", 1).unwrap();
    drop(locked);
    events.until_delivered(1).await;
}

#[tokio::test]
async fn a_full_queue_is_back_pressure_until_a_report() {
    let endpoint = private(1);
    let (client, sent) = client(&endpoint).await;
    for token in 0..MAX_UNREPORTED as u64 {
        client.send(calls(0), b"x", token).unwrap();
    }
    assert_eq!(client.send(calls(0), b"x", 0), Err(Rejected::Full));
    sent.until_delivered(1).await;
    client.send(calls(0), b"x", 1 << 40).unwrap();
    sent.until_delivered(MAX_UNREPORTED + 1).await;
    assert_eq!(endpoint.records("sum", Topic::Calls), MAX_UNREPORTED as u64 + 1);
}

#[tokio::test]
async fn a_packet_that_is_too_large_is_given_up() {
    let endpoint = MemoryEndpoint::private(TransportConfig { max_packet_bytes: 9, ..config(1) });
    let (client, sent) = client(&endpoint).await;
    client.send(calls(0), &[0; 10], 1).unwrap();
    client.send(calls(0), &[0; 9], 2).unwrap();
    sent.until_delivered(2).await;
    let failed = Event::Failed(1, Code::ResourceExhausted, 10);
    assert_eq!(sent.log(), [failed, Event::Delivered(2)]);
    assert_eq!(endpoint.records("sum", Topic::Calls), 1);
}

#[tokio::test]
async fn a_wrong_target_is_rejected_without_report() {
    let (client, sent) = client(&private(2)).await;
    let code = |rejected| match rejected {
        Err(Rejected::Failed(status)) => Some(status.code()),
        _ => None,
    };
    let unopened = Target { service: 3, ..calls(0) };
    assert_eq!(code(client.send(unopened, b"x", 1)), Some(Code::FailedPrecondition));
    assert_eq!(code(client.send(calls(2), b"x", 1)), Some(Code::OutOfRange));
    assert_eq!(code(client.send(replies(9), b"x", 1)), Some(Code::OutOfRange));
    client.send(calls(1), b"x", 5).unwrap();
    client.close().await;
    assert_eq!(sent.log(), [Event::Delivered(5)], "closing waits for the reports");
    assert_eq!(code(client.send(calls(0), b"x", 1)), Some(Code::Unavailable));
    assert!(matches!(client.open(1, "sum", 0).await, Err(SetupError::Closed)));
}

#[tokio::test]
async fn a_client_reads_its_partition_from_now_on() {
    let endpoint = private(1);
    for partition in 0..4 {
        endpoint.inject("sum", Topic::Replies, partition, b"old").unwrap();
    }
    let mut clients = Vec::new();
    for seed in 0..8 {
        let events = Fake::new();
        let client = endpoint.client(events.clone()).unwrap();
        let (topology, partition) = client.open(0, "sum", seed).await.unwrap();
        assert_eq!((topology.reply_partitions, u64::from(partition)), (4, seed % 4));
        clients.push((client, events, partition));
    }
    let (server, _) = server(&endpoint).await;
    (0..4).for_each(|partition| server.send(replies(partition), b"new", 0).unwrap());
    for (_, events, partition) in &clients {
        events.until_arrived(1).await;
        assert_eq!(arrived(&events.log()), [(id(*partition), 1)]);
        assert_eq!(events.records.lock()[0].payload, "new");
    }
}

#[tokio::test]
async fn empty_records_and_strangers_arrive_too() {
    let endpoint = private(2);
    let (_server, seen) = server(&endpoint).await;
    assert_eq!(endpoint.inject("sum", Topic::Calls, 1, b""), Some(0));
    assert_eq!(endpoint.inject("sum", Topic::Calls, 2, b""), None);
    seen.until_arrived(1).await;
    assert_eq!(arrived(&seen.log()), [(id(1), 0)]);
}

#[tokio::test]
async fn a_client_of_several_services_reads_each() {
    let endpoint = private(1);
    let (client, events) = client(&endpoint).await;
    let (_, partition) = client.open(4, "echo", 2).await.unwrap();
    let other = PartitionId { service: 4, partition };
    // More than a batch in the first must not keep the second from its turn.
    for _ in 0..1_000 {
        endpoint.inject("sum", Topic::Replies, 0, b"x").unwrap();
    }
    endpoint.inject("echo", Topic::Replies, partition, b"x");
    events.until_arrived(1_001).await;
    let place = arrived(&events.log()).iter().position(|(id, _)| *id == other).unwrap();
    assert!(place <= 512, "at {place}");
}

#[tokio::test]
async fn sides_that_idle_are_woken() {
    let endpoint = private(1);
    let (_client, client_events) = client(&endpoint).await;
    let (_server, server_events) = server(&endpoint).await;
    server_events.until_owns(1).await;
    for round in 1..4 {
        // Enough turns for both tasks to find nothing and wait.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        put(&endpoint, 0);
        endpoint.inject("sum", Topic::Replies, 0, b"x").unwrap();
        server_events.until_arrived(round).await;
        client_events.until_arrived(round).await;
    }
}
