//! Joining, leaving, committing: who owns what, and where reading goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use krpc_core::{
    ids::PartitionId,
    status::Status,
    transport::{
        BoxFuture, CommitPoint, Delivery, Endpoint, GroupProtocol, ProducerEvents, Record,
        ServerEvents, TransportConfig,
    },
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::KafkaEndpoint;

use crate::support::{Answerer, Caller, Driver, answerer, caller, config, endpoint, service};

fn id(partition: u32) -> PartitionId {
    PartitionId { service: 0, partition }
}

fn point(partition: u32, offset: i64, metadata: &str) -> CommitPoint {
    CommitPoint { partition: id(partition), offset, metadata: metadata.to_owned() }
}

#[tokio::test]
async fn a_successor_finds_offsets_and_metadata() {
    let (endpoint, service) = (endpoint(config()), service("takeover"));
    let client = caller(&endpoint, &service).await;
    let first = answerer(&endpoint, &service).await;
    first.owning(4).await;
    assert!(first.driver.seen.lock().committed.values().all(Option::is_none));
    for token in 0..40 {
        client.call(u32::try_from(token % 4).unwrap(), "call", token);
    }
    first.driver.until("all calls", |seen| seen.records.len() == 40).await;
    first.driver.seen.lock().note = "a map: ~!{}09azAZ+/=".to_owned();
    let results = first.transport.commit(first.driver.points()).await;
    assert_eq!(results, vec![Ok(()); 4]);
    first.driver.seen.lock().note = "the last word".to_owned();
    client.call(3, "one more", 40);
    first.driver.until("one more", |seen| seen.records.len() == 41).await;
    first.transport.leave().await.unwrap();
    assert_eq!(first.driver.seen.lock().released.len(), 4);
    first.transport.close().await;

    let second = answerer(&endpoint, &service).await;
    second.owning(4).await;
    client.call(0, "after", 41);
    second.driver.until("the new call", |seen| !seen.records.is_empty()).await;
    assert_eq!(second.driver.seen.lock().texts(), ["after"]);
    let word = "the last word".to_owned();
    let expected = [(0, 10), (1, 10), (2, 10), (3, 11)];
    let expected: BTreeMap<u32, _> =
        expected.into_iter().map(|(p, offset)| (p, Some((offset, word.clone())))).collect();
    assert_eq!(second.driver.seen.lock().committed, expected);
    second.transport.leave().await.unwrap();
    second.transport.close().await;
}

#[tokio::test]
async fn each_point_of_a_commit_has_its_own_result() {
    let (endpoint, service) = (endpoint(config()), service("results"));
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    let long = "x".repeat(4097);
    let fits = "y".repeat(4096);
    let points = vec![
        point(2, 1, "good"),
        point(0, 1, &long),
        point(77, 1, "not ours"),
        CommitPoint { partition: PartitionId { service: 5, partition: 0 }, ..point(0, 1, "") },
        point(1, 1, &fits),
    ];
    let results = server.transport.commit(points).await;
    let good: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, false, true], "{results:?}");
    assert_eq!(server.transport.commit(Vec::new()).await, Vec::new());
    server.transport.leave().await.unwrap();
    let late = server.transport.commit(vec![point(2, 2, "late")]).await;
    assert!(late[0].is_err());
    server.transport.close().await;
    assert!(server.transport.commit(vec![point(2, 2, "later")]).await[0].is_err());

    let second = answerer(&endpoint, &service).await;
    second.owning(4).await;
    let committed = second.driver.seen.lock().committed.clone();
    assert_eq!(committed[&2], Some((1, "good".to_owned())));
    assert_eq!(committed[&1], Some((1, fits)));
    assert_eq!((&committed[&0], &committed[&3]), (&None, &None));
    second.transport.leave().await.unwrap();
    second.transport.close().await;
}

#[tokio::test]
async fn one_server_of_two_services_commits_for_both() {
    let endpoint = endpoint(config());
    let names = [service("one"), service("two")];
    let driver = Arc::new(Driver::default());
    let server = endpoint.server(driver.clone()).unwrap();
    for (index, name) in (0..).zip(&names) {
        server.open(index, name).await.unwrap();
    }
    server.join().await.unwrap();
    driver.until("both services", |seen| seen.owned.len() == 8).await;
    let points: Vec<_> = [(1, 3), (0, 2), (1, 0)]
        .into_iter()
        .map(|(service, partition)| CommitPoint {
            partition: PartitionId { service, partition },
            ..point(0, 5, "")
        })
        .collect();
    assert_eq!(server.commit(points).await, vec![Ok(()); 3]);
    server.leave().await.unwrap();
    assert_eq!(driver.seen.lock().released.len(), 8);
    server.close().await;
}

/// Waits until this many partitions are owned, which must be so long before the session of
/// whoever closed just now would end: it has left the group.
async fn soon_owning(server: &Answerer, count: usize) {
    let limit = Duration::from_secs(3);
    assert!(limit < config().session_timeout);
    tokio::time::timeout(limit, server.owning(count)).await.expect("nobody else is a member");
}

/// Starts and stops servers, one after the other.
async fn restart(group_protocol: GroupProtocol) {
    // The more of them are being stopped, the sooner a close comes into the middle of it.
    let call_partitions = 256;
    let config = TransportConfig { call_partitions, group_protocol, ..config() };
    let (endpoint, service) = (endpoint(config), service("restarts"));
    let first = answerer(&endpoint, &service).await;
    first.owning(256).await;
    let mut last = first;
    for _ in 0..20 {
        last.transport.leave().await.unwrap();
        last.transport.close().await;
        last = answerer(&endpoint, &service).await;
        soon_owning(&last, 256).await;
    }
    last.transport.leave().await.unwrap();
    last.transport.close().await;
}

#[tokio::test]
async fn whoever_has_closed_has_left_its_group() {
    restart(GroupProtocol::Classic).await;
}

#[tokio::test]
async fn whoever_has_closed_has_left_its_group_by_the_new_protocol() {
    restart(GroupProtocol::Consumer).await;
}

/// Stops servers while they join, each a little later than the one before.
async fn hesitate(group_protocol: GroupProtocol) {
    let config = TransportConfig { group_protocol, ..config() };
    let (endpoint, service) = (endpoint(config), service("joining"));
    let first = answerer(&endpoint, &service).await;
    first.owning(4).await;
    for millis in [0, 1, 2, 4, 8, 400] {
        let second = answerer(&endpoint, &service).await;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        second.transport.leave().await.unwrap();
        second.transport.close().await;
        let third = answerer(&endpoint, &service).await;
        soon_owning(&third, 2).await;
        third.transport.leave().await.unwrap();
        third.transport.close().await;
        first.owning(4).await;
    }
    first.transport.leave().await.unwrap();
    first.transport.close().await;
}

#[tokio::test]
async fn whoever_closes_while_it_joins_has_left_its_group() {
    hesitate(GroupProtocol::Classic).await;
}

#[tokio::test]
async fn whoever_closes_while_it_joins_has_left_its_group_by_the_new_protocol() {
    hesitate(GroupProtocol::Consumer).await;
}

/// Sends numbered calls until told to stop; returns how many.
async fn stream(client: &Caller, stop: &AtomicBool) -> usize {
    let mut count: usize = 0;
    while !stop.load(Ordering::Acquire) {
        let token = u64::try_from(count).unwrap();
        client.call(u32::try_from(count % 4).unwrap(), &format!("{count:06}"), token);
        count += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.driver.until("all reports", |seen| seen.stored.len() == count).await;
    count
}

/// Each call once, over all servers.
fn each_once(servers: &[&Answerer], count: usize) {
    let mut all: Vec<String> = Vec::new();
    for server in servers {
        let seen = server.driver.seen.lock();
        assert_eq!((seen.strays, seen.lost.len(), seen.broken.len()), (0, 0, 0));
        all.extend(seen.texts());
    }
    all.sort();
    let expected: Vec<_> = (0..count).map(|number| format!("{number:06}")).collect();
    assert_eq!(all, expected);
}

/// One server stays, others come and go while calls keep coming.
async fn coming_and_going(endpoint: &KafkaEndpoint, service: &str, rounds: usize) {
    let client = caller(endpoint, service).await;
    let steady = answerer(endpoint, service).await;
    steady.owning(4).await;
    let stop = AtomicBool::new(false);
    let visits = async {
        let mut visitors = Vec::new();
        for _ in 0..rounds {
            let visitor = answerer(endpoint, service).await;
            visitor.owning(2).await;
            steady.owning(2).await;
            let before = visitor.driver.seen.lock().records.len();
            visitor.driver.until("calls", |seen| seen.records.len() > before + 20).await;
            visitor.transport.leave().await.unwrap();
            visitor.transport.close().await;
            steady.owning(4).await;
            visitors.push(visitor);
        }
        stop.store(true, Ordering::Release);
        visitors
    };
    let (count, visitors) = tokio::join!(stream(&client, &stop), visits);
    let done = || {
        let visited: usize = visitors.iter().map(|v| v.driver.seen.lock().records.len()).sum();
        visited
    };
    steady.driver.until("the rest", |seen| seen.records.len() + done() >= count).await;
    let mut all: Vec<_> = visitors.iter().collect();
    all.push(&steady);
    each_once(&all, count);
    steady.transport.leave().await.unwrap();
    steady.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn servers_come_and_go_and_each_call_is_read_once() {
    coming_and_going(&endpoint(config()), &service("visits"), 3).await;
}

#[tokio::test]
async fn the_same_with_the_new_group_protocol() {
    let kafka = Kafka::builder()
        .setting("group.consumer.min.heartbeat.interval.ms", "500")
        .setting("group.consumer.heartbeat.interval.ms", "500")
        .start()
        .unwrap();
    let config = TransportConfig { group_protocol: GroupProtocol::Consumer, ..config() };
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    coming_and_going(&endpoint, &service("visits"), 3).await;
}

#[tokio::test]
async fn a_server_that_loses_its_session_is_told_and_comes_back() {
    let kafka = Kafka::start().unwrap();
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config()).unwrap();
    let service = service("lost");
    let client = caller(&endpoint, &service).await;
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    client.call(0, "before", 0);
    server.driver.until("a call", |seen| seen.records.len() == 1).await;
    assert_eq!(server.transport.commit(server.driver.points()).await, vec![Ok(())]);
    kafka.pause(0).unwrap();
    server.driver.until("the loss", |seen| seen.lost.len() == 4).await;
    assert!(server.driver.seen.lock().released.is_empty());
    let refused = server.transport.commit(vec![point(0, 1, "")]).await;
    assert!(refused[0].is_err());
    kafka.resume(0).unwrap();
    server.owning(4).await;
    assert_eq!(server.driver.seen.lock().committed[&0], Some((1, String::new())));
    client.call(0, "after", 1);
    server.driver.until("the next call", |seen| seen.records.len() == 2).await;
    assert_eq!(server.driver.seen.lock().texts(), ["after", "before"]);
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

/// A periodic commit may be on its way when its partition is released: it must not come after the
/// last one, whose point is newer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_on_its_way_does_not_come_after_the_last_one() {
    let (endpoint, service) = (endpoint(config()), service("overtaken"));
    let client = caller(&endpoint, &service).await;
    let first = answerer(&endpoint, &service).await;
    first.owning(4).await;
    (0..3).for_each(|token| client.call(0, "call", token));
    first.driver.until("the calls", |seen| seen.records.len() == 3).await;
    first.driver.seen.lock().note = "last".to_owned();
    let committers: Vec<_> = (0..4)
        .map(|_| {
            let transport = Arc::clone(&first.transport);
            tokio::spawn(async move {
                while transport.commit(vec![point(0, 1, "early")]).await[0].is_ok() {}
            })
        })
        .collect();
    first.transport.leave().await.unwrap();
    for committer in committers {
        committer.await.unwrap();
    }
    first.transport.close().await;
    let second = answerer(&endpoint, &service).await;
    second.owning(4).await;
    assert_eq!(second.driver.seen.lock().committed[&0], Some((3, "last".to_owned())));
    second.transport.leave().await.unwrap();
    second.transport.close().await;
}

/// A server whose records nobody reads any more must not keep its partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_panic_while_reading_others_get_the_partitions() {
    #[derive(Debug, Default)]
    struct Fragile(Driver);

    impl ProducerEvents for Fragile {
        fn delivered(&self, token: u64, delivery: Delivery<'_>) {
            self.0.delivered(token, delivery);
        }
    }

    impl ServerEvents for Fragile {
        fn assigned(&self, partitions: Vec<(PartitionId, Option<(i64, String)>)>) {
            ServerEvents::assigned(&self.0, partitions);
        }

        fn arrived(&self, record: Record) {
            panic!("a panic that a test asks for, at {}", record.offset);
        }

        fn full(&self) -> Option<BoxFuture<'static, ()>> {
            None
        }

        fn release(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Vec<CommitPoint>> {
            self.0.release(partitions)
        }

        fn lost(&self, partitions: Vec<PartitionId>) {
            self.0.lost(partitions);
        }

        fn broken(&self, status: Status) {
            ServerEvents::broken(&self.0, status);
        }
    }

    let (endpoint, service) = (endpoint(config()), service("fragile"));
    let client = caller(&endpoint, &service).await;
    let fragile = Arc::new(Fragile::default());
    let server = endpoint.server(fragile.clone()).unwrap();
    server.open(0, &service).await.unwrap();
    server.join().await.unwrap();
    fragile.0.until("owns 4", |seen| seen.owned.len() == 4).await;
    client.call(0, "call", 0);
    fragile.0.until("the word", |seen| seen.broken.len() == 1).await;
    // It is neither left nor closed by its driver.
    let second = answerer(&endpoint, &service).await;
    second.owning(4).await;
    second.driver.until("the call", |seen| seen.records.len() == 1).await;
    second.transport.leave().await.unwrap();
    second.transport.close().await;
    server.close().await;
    client.transport.close().await;
}
