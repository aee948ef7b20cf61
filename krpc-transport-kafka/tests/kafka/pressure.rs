//! A driver that takes no more: the backlog stays in Kafka, the membership stays alive.

use std::time::{Duration, Instant};

use crate::support::{answerer, caller, config, endpoint, service};

#[tokio::test]
async fn a_full_server_reads_nothing_more_and_stays_in_its_group() {
    let (endpoint, service) = (endpoint(config()), service("pressure"));
    let client = caller(&endpoint, &service).await;
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    server.driver.fill();
    for token in 0..4_000 {
        client.call(u32::try_from(token % 4).unwrap(), &format!("{token:05}"), token);
    }
    client.driver.until("all stored", |seen| seen.stored.len() == 4_000).await;
    // Nothing announces that nothing happens: longer than the session timeout.
    tokio::time::sleep(config().session_timeout + Duration::from_millis(1500)).await;
    {
        let seen = server.driver.seen.lock();
        // What was asked for before the driver was full may have come: one batch.
        assert!(seen.records.len() <= 256, "{}", seen.records.len());
        assert_eq!((seen.owned.len(), seen.lost.len(), seen.broken.len()), (4, 0, 0));
    }
    // A rebalance goes on all the same.
    let second = answerer(&endpoint, &service).await;
    second.owning(2).await;
    server.owning(2).await;
    second.driver.until("its half", |seen| seen.records.len() >= 2_000).await;
    second.transport.leave().await.unwrap();
    server.owning(4).await;
    let read = server.driver.seen.lock().records.len();
    assert!(read <= 256, "{read}");
    let left = 4_000 - second.driver.seen.lock().records.len();
    server.driver.make_room();
    server.driver.until("the rest", |seen| seen.records.len() == left).await;
    let mut last = std::collections::BTreeMap::new();
    for record in &server.driver.seen.lock().records {
        let before = last.insert(record.partition, record.offset);
        assert!(before.is_none_or(|before| before < record.offset), "out of order");
    }
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    second.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn a_full_server_can_leave() {
    let (endpoint, service) = (endpoint(config()), service("full-leave"));
    let server = answerer(&endpoint, &service).await;
    server.owning(4).await;
    server.driver.fill();
    let begin = Instant::now();
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(server.driver.seen.lock().released.len(), 4);
}
