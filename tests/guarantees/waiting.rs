//! There is no server.

use std::time::Duration;

use krpc::prelude::*;

use crate::work::{Site, answer, block_on, eventually};

#[test]
fn calls_wait_in_kafka_for_a_server_or_expire_without_executing() {
    const WAITING: u64 = 1_000;
    const IMPATIENT: u64 = 200;
    let site = Site::new("waiting");
    block_on(async {
        let work = site.place.client().await;
        let waiting: Vec<_> =
            (0..WAITING).map(|id| (id, tokio::spawn(work.run(id, 0).timeout(secs(60))))).collect();
        let impatient: Vec<_> = (WAITING..WAITING + IMPATIENT)
            .map(|id| tokio::spawn(work.run(id, 0).timeout(secs(1))))
            .collect();
        for call in impatient {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.code(), Some(Code::DeadlineExceeded));
        }
        let started = std::time::Instant::now();
        let _server = site.server(&[]);
        for (id, call) in waiting {
            assert_eq!(call.await.unwrap(), Ok(answer(id)));
        }
        println!("figure: {WAITING} answered {:?} after the server's start", started.elapsed());
    });
    let executions = site.executions(None);
    let late = executions.keys().filter(|id| **id >= WAITING).count();
    println!("figure: {} executed, {late} of them too late", executions.len());
    assert_eq!((executions.len() as u64, late), (WAITING, 0));
}

#[test]
fn a_server_answers_what_expired_behind_its_limit_instead_of_executing_it() {
    const BEHIND: u64 = 50;
    let site = Site::new("behind");
    let _server = site.server(&[("KRPC_CONCURRENCY", "1"), ("KRPC_CALL_PARTITIONS", "1")]);
    block_on(async {
        let work = site.place.client().await;
        let first = tokio::spawn(work.run(BEHIND, 3_000).timeout(secs(20)));
        eventually("it runs", secs(10), || site.executions(None).contains_key(&BEHIND)).await;
        let behind: Vec<_> =
            (0..BEHIND).map(|id| tokio::spawn(work.run(id, 0).timeout(secs(1)))).collect();
        for call in behind {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.code(), Some(Code::DeadlineExceeded));
        }
        assert_eq!(first.await.unwrap(), Ok(answer(BEHIND)));
        // The server has gone through the queue once this is answered.
        assert_eq!(
            work.run(BEHIND + 1, 0).timeout(Duration::from_secs(20)).await,
            Ok(answer(BEHIND + 1))
        );
    });
    let executions = site.executions(None);
    println!("figure: {} of {BEHIND} executed", executions.len() - 2);
    assert_eq!(executions.len(), 2, "{executions:?}");
}
