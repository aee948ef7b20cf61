//! Records there and back, and what becomes of those that do not get there.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use krpc_core::{
    status::{Code, Status},
    transport::{
        ClientEvents, ClientTransport, Delivery, Endpoint, ProducerEvents, Record, Rejected,
        Target, Topic,
    },
};
use krpc_testkit::Kafka;
use krpc_transport_kafka::KafkaEndpoint;

use crate::support::{
    Answerer, Caller, Driver, answerer, caller, config, endpoint, service, shared,
};

/// One call to each partition, one reply to each call.
pub(crate) async fn echo(caller: &Caller, answerer: &Answerer, broker_stamps: bool) {
    let count = caller.topology.call_partitions;
    for partition in 0..count {
        caller.call(partition, &format!("call {partition}"), u64::from(partition));
    }
    let all = usize::try_from(count).unwrap();
    answerer.driver.until("calls", |seen| seen.records.len() == all).await;
    caller.driver.until("call reports", |seen| seen.stored.len() == all).await;
    let calls = answerer.driver.seen.lock().records.clone();
    for call in &calls {
        assert_eq!(call.payload, format!("call {}", call.partition.partition).as_bytes());
        assert_eq!(call.appended.is_some(), broker_stamps);
        let target = Target {
            service: 0,
            topic: Topic::Replies,
            partition: caller.reply_partition,
            exact: false,
        };
        let token = u64::MAX - u64::from(call.partition.partition);
        answerer.transport.send(target, &call.payload, token).unwrap();
    }
    caller.driver.until("replies", |seen| seen.records.len() == all).await;
    answerer.driver.until("reply reports", |seen| seen.stored.len() == all).await;
    let seen = caller.driver.seen.lock();
    assert_eq!(seen.texts(), (0..count).map(|n| format!("call {n}")).collect::<Vec<_>>());
    assert!(seen.records.iter().all(|record| record.partition.service == 0));
    // The mock answers with a time, but keeps the sender's in the record.
    assert!(!broker_stamps || seen.stored.values().all(Option::is_some));
    assert!(seen.failed.is_empty() && seen.broken.is_empty());
}

#[tokio::test]
async fn calls_and_replies_travel_with_the_brokers_time() {
    let (endpoint, service) = (endpoint(config()), service("echo"));
    let server = answerer(&endpoint, &service).await;
    let client = caller(&endpoint, &service).await;
    assert_eq!((client.topology.call_partitions, client.topology.reply_partitions), (4, 2));
    assert_eq!(client.reply_partition, 1);
    echo(&client, &server, true).await;
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn reports_come_soon_though_nobody_reads_and_nobody_hurries() {
    let (endpoint, service) = (endpoint(config()), service("reports"));
    let client = caller(&endpoint, &service).await;
    for hurries in [false, true] {
        let mut times = Vec::new();
        for number in 0..20 {
            let (token, sent) = (u64::from(hurries) << 32 | number, Instant::now());
            client.call(0, "call", token);
            if hurries {
                client.transport.hurry();
            }
            client.driver.until("the report", |seen| seen.stored.contains_key(&token)).await;
            times.push(sent.elapsed());
        }
        times.sort_unstable();
        // A wake-up that was lost would cost the second after which the thread looks in any case.
        assert!(times[10] < Duration::from_millis(500), "hurried: {hurries}: {times:?}");
    }
    client.transport.close().await;
}

#[test]
fn a_client_whose_runtime_ends_says_so() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (opener, other) = (runtime(), runtime());
    let (endpoint, service) = (endpoint(config()), service("runtime"));
    let client = opener.block_on(caller(&endpoint, &service));
    drop(opener);
    other.block_on(client.driver.until("the end", |seen| !seen.broken.is_empty()));
    let broken = client.driver.seen.lock().broken.clone();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(broken[0].code(), Code::Unavailable);
    assert!(broken[0].message().contains("runtime"), "{broken:?}");
    other.block_on(client.transport.close());
}

#[test]
fn a_runtime_without_io_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (endpoint, service) = (endpoint(config()), service("no-io"));
    let client = endpoint.client(Arc::new(Driver::default())).unwrap();
    let refused = runtime.block_on(client.open(0, &service, 1)).unwrap_err();
    assert!(refused.to_string().contains("enable_all"), "{refused}");
}

#[tokio::test]
async fn a_client_reads_from_what_is_the_end_when_it_opens() {
    let (endpoint, service) = (endpoint(config()), service("end"));
    let first = caller(&endpoint, &service).await;
    let replies = Target {
        service: 0,
        topic: Topic::Replies,
        partition: first.reply_partition,
        exact: false,
    };
    for token in 0..20 {
        first.transport.send(replies, b"old", token).unwrap();
    }
    first.driver.until("old replies", |seen| seen.records.len() == 20).await;
    // Each of these must see everything that is sent after its open, and nothing before.
    for round in 0..5 {
        let client = caller(&endpoint, &service).await;
        let before = usize::try_from(20 + round).unwrap();
        first.transport.send(replies, b"new", 100 + round).unwrap();
        client.driver.until("the new reply", |seen| seen.records.len() == 1).await;
        assert_eq!(client.driver.seen.lock().texts(), ["new"]);
        first.driver.until("all", |seen| seen.records.len() == before + 1).await;
        client.transport.close().await;
    }
    first.transport.close().await;
}

#[tokio::test]
async fn several_services_share_one_client() {
    let endpoint = endpoint(config());
    let names = [service("first"), service("second")];
    let driver = Arc::new(crate::support::Driver::default());
    let client = endpoint.client(driver.clone()).unwrap();
    for (index, name) in (0u16..).zip(&names) {
        let (_, partition) = client.open(index, name, 0).await.unwrap();
        let target = Target { service: index, topic: Topic::Replies, partition, exact: false };
        client.send(target, name.as_bytes(), u64::from(index)).unwrap();
    }
    driver.until("both", |seen| seen.records.len() == 2).await;
    for record in &driver.seen.lock().records {
        assert_eq!(record.payload, names[usize::from(record.partition.service)].as_bytes());
    }
    // A second open of the same service goes on reading where it reads.
    assert_eq!(client.open(0, &names[0], 1).await.unwrap().1, 0);
    client.close().await;
}

#[tokio::test]
async fn what_can_never_be_sent_is_refused_for_good() {
    let endpoint = endpoint(config());
    let client = caller(&endpoint, &service("refused")).await;
    let good = Target { service: 0, topic: Topic::Calls, partition: 0, exact: false };
    let code = |result: Result<(), Rejected>| match result.unwrap_err() {
        Rejected::Failed(status) => (status.code(), status.is_retryable()),
        Rejected::Full => panic!("full"),
    };
    let huge = vec![0; config().max_packet_bytes * 2];
    let refused = code(client.transport.send(good, &huge, 1));
    assert_eq!(refused, (Code::ResourceExhausted, false));
    let unopened = Target { service: 9, ..good };
    assert_eq!(code(client.transport.send(unopened, b"x", 2)).0, Code::InvalidArgument);
    let far = Target { partition: u32::MAX, ..good };
    assert_eq!(code(client.transport.send(far, b"x", 3)).0, Code::InvalidArgument);
    // The largest packet fits.
    client.transport.send(good, &huge[..config().max_packet_bytes], 4).unwrap();
    client.driver.until("the largest", |seen| seen.stored.contains_key(&4)).await;
    // A partition beyond the topic's: refused at once, or reported.
    let beyond = Target { partition: 99, ..good };
    match client.transport.send(beyond, b"x", 5) {
        Err(Rejected::Failed(status)) => assert_eq!(status.code(), Code::NotFound),
        Err(Rejected::Full) => panic!("full"),
        Ok(()) => {
            client.driver.until("the report", |seen| seen.failed.len() == 1).await;
            assert_eq!(client.driver.seen.lock().failed[0].1.code(), Code::NotFound);
        }
    }
    client.transport.close().await;
    let closed = code(client.transport.send(good, b"x", 6));
    assert_eq!(closed, (Code::Unavailable, true));
}

#[tokio::test]
async fn closing_reports_every_record() {
    let endpoint = endpoint(config());
    let client = caller(&endpoint, &service("closing")).await;
    for token in 0..5_000 {
        client.call(u32::try_from(token % 4).unwrap(), "last words", token);
    }
    let begin = std::time::Instant::now();
    client.transport.close().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let seen = client.driver.seen.lock();
    assert_eq!((seen.stored.len(), seen.failed.len(), seen.reported), (5_000, 0, 5_000));
}

#[tokio::test]
async fn a_full_queue_says_so_and_loses_nothing() {
    let kafka = Kafka::start().unwrap();
    let mut config = config();
    config.properties.push(("queue.buffering.max.messages".to_owned(), "100".to_owned()));
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    let client = caller(&endpoint, &service("full")).await;
    let target = Target { service: 0, topic: Topic::Calls, partition: 0, exact: false };
    kafka.pause(0).unwrap();
    let mut accepted = 0;
    let rejected = loop {
        match client.transport.send(target, b"more", accepted) {
            Ok(()) => accepted += 1,
            Err(rejected) => break rejected,
        }
    };
    assert_eq!(rejected, Rejected::Full);
    assert_eq!(accepted, 100);
    kafka.resume(0).unwrap();
    client.driver.until("all", |seen| seen.stored.len() == 100).await;
    client.transport.send(target, b"again", 1000).unwrap();
    client.driver.until("one more", |seen| seen.stored.contains_key(&1000)).await;
    client.transport.close().await;
}

#[tokio::test]
async fn from_inside_the_last_report_there_is_room_again() {
    /// Sends the next record from inside each report, as outboxes do.
    #[derive(Debug, Default)]
    struct Relay {
        transport: OnceLock<Arc<dyn ClientTransport>>,
        sent: AtomicU64,
        full: AtomicU64,
        done: tokio::sync::Notify,
    }

    const TARGET: Target = Target { service: 0, topic: Topic::Calls, partition: 0, exact: false };
    const ALL: u64 = 2_000;

    impl ProducerEvents for Relay {
        fn delivered(&self, token: u64, _: Delivery<'_>) {
            let next = self.sent.fetch_add(1, Ordering::SeqCst);
            if next < ALL {
                if self.transport.get().unwrap().send(TARGET, b"next", next).is_err() {
                    self.full.fetch_add(1, Ordering::SeqCst);
                }
            } else if token == ALL - 1 {
                self.done.notify_one();
            }
        }
    }

    impl ClientEvents for Relay {
        fn arrived(&self, _: Record) {}

        fn broken(&self, status: Status) {
            panic!("{status}");
        }
    }

    let mut config = config();
    config.properties.push(("queue.buffering.max.messages".to_owned(), "10".to_owned()));
    let relay = Arc::new(Relay::default());
    let client = endpoint(config).client(relay.clone()).unwrap();
    relay.transport.set(client.clone()).unwrap();
    client.open(0, &service("relay"), 0).await.unwrap();
    relay.sent.store(10, Ordering::SeqCst);
    for token in 0..10 {
        client.send(TARGET, b"first", token).unwrap();
    }
    tokio::time::timeout(crate::support::PATIENCE, relay.done.notified()).await.unwrap();
    assert_eq!(relay.full.load(Ordering::SeqCst), 0);
    client.close().await;
}

#[tokio::test]
async fn a_record_larger_than_the_whole_queue_is_refused_for_good() {
    let mut config = config();
    config.properties.push(("queue.buffering.max.kbytes".to_owned(), "10".to_owned()));
    let client = caller(&endpoint(config), &service("larger")).await;
    let target = Target { service: 0, topic: Topic::Calls, partition: 0, exact: false };
    match client.transport.send(target, &[0; 100_000], 0).unwrap_err() {
        Rejected::Failed(status) => assert!(!status.is_retryable(), "{status}"),
        Rejected::Full => panic!("full"),
    }
    client.transport.close().await;
}

#[tokio::test]
async fn a_record_that_expires_comes_back_with_its_bytes() {
    let kafka = Kafka::start().unwrap();
    let mut config = config();
    config.properties.push(("message.timeout.ms".to_owned(), "1500".to_owned()));
    let endpoint = KafkaEndpoint::new(kafka.bootstrap(), config).unwrap();
    let client = caller(&endpoint, &service("expired")).await;
    kafka.kill(0).unwrap();
    client.call(0, "too late", 5);
    client.driver.until("the report", |seen| seen.failed.len() == 1).await;
    let (token, status, payload) = client.driver.seen.lock().failed[0].clone();
    assert_eq!((token, payload.as_slice()), (5, b"too late".as_slice()));
    assert!(status.is_retryable() && status.code() == Code::Unavailable, "{status}");
    client.transport.close().await;
}

#[tokio::test]
async fn null_and_empty_records_arrive_as_empty() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    let (endpoint, service) = (endpoint(config()), service("null"));
    let server = answerer(&endpoint, &service).await;
    let stranger: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", shared().bootstrap())
        .create()
        .unwrap();
    let topic = config().topic(&service, Topic::Calls);
    stranger.send(BaseRecord::<(), ()>::to(&topic).partition(0)).unwrap();
    stranger.send(BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(&[])).unwrap();
    stranger.flush(Duration::from_secs(10)).unwrap();
    server.driver.until("both", |seen| seen.records.len() == 2).await;
    assert!(server.driver.seen.lock().records.iter().all(|record| record.payload.is_empty()));
    server.transport.leave().await.unwrap();
    server.transport.close().await;
}

/// The thread that reports deliveries may hold the last share of the producer, whose end reports
/// the other records; and who hears that may send.
#[tokio::test]
async fn a_panic_in_a_report_breaks_the_producer_without_a_deadlock() {
    #[derive(Debug, Default)]
    struct Fragile {
        transport: OnceLock<Arc<dyn ClientTransport>>,
        panicked: AtomicBool,
        broken: tokio::sync::Notify,
    }

    const TARGET: Target = Target { service: 0, topic: Topic::Calls, partition: 0, exact: false };

    impl ProducerEvents for Fragile {
        fn delivered(&self, token: u64, _: Delivery<'_>) {
            assert!(self.panicked.swap(true, Ordering::SeqCst), "a panic that a test asks for");
            let again = self.transport.get().unwrap().send(TARGET, b"again", token);
            assert!(matches!(again, Err(Rejected::Failed(_))), "{again:?}");
        }
    }

    impl ClientEvents for Fragile {
        fn arrived(&self, _: Record) {}

        fn broken(&self, _: Status) {
            self.broken.notify_one();
        }
    }

    let fragile = Arc::new(Fragile::default());
    let client = endpoint(config()).client(fragile.clone()).unwrap();
    fragile.transport.set(client.clone()).unwrap();
    client.open(0, &service("fragile"), 0).await.unwrap();
    for token in 0..1_000 {
        // Refused from the moment on when the first report comes.
        let _ = client.send(TARGET, &[0; 10_000], token);
    }
    tokio::time::timeout(crate::support::PATIENCE, fragile.broken.notified()).await.unwrap();
    assert!(matches!(client.send(TARGET, b"late", 1_000), Err(Rejected::Failed(_))));
    client.close().await;
}
