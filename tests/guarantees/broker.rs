//! The broker vanishes.

use std::time::{Duration, Instant};

use krpc::prelude::*;
use krpc_testkit::Kafka;

use crate::work::{Turn, WorkClient, WorkServer, Worker, answer, block_on};

#[test]
fn a_killed_broker_costs_time_and_no_call() {
    const CALLS: u64 = 1_000;
    let _turn = Turn::take();
    let kafka = Kafka::start().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let worker = Worker::new(&logs.path().join("server"));
    let longest = block_on(async {
        let server = Server::builder(kafka.bootstrap()).serve(WorkServer::new(worker));
        let server = server.start().await.unwrap();
        let work = WorkClient::connect(kafka.bootstrap()).await.unwrap();
        assert_eq!(work.run(CALLS, 0).await, Ok(answer(CALLS)));
        let mut calls = Vec::new();
        let mut tick = tokio::time::interval(millis(5));
        for id in 0..CALLS {
            tick.tick().await;
            if id == CALLS / 4 {
                kafka.kill(0).unwrap();
            }
            if id == CALLS / 2 {
                tokio::task::block_in_place(|| kafka.restart(0)).unwrap();
            }
            let call = work.run(id, 0).timeout(secs(60));
            calls.push(tokio::spawn(async move {
                let started = Instant::now();
                (id, call.await, started.elapsed())
            }));
        }
        let mut longest = Duration::ZERO;
        for call in calls {
            let (id, value, elapsed) = call.await.unwrap();
            assert_eq!(value, Ok(answer(id)));
            longest = longest.max(elapsed);
        }
        server.shutdown().await.unwrap();
        longest
    });
    println!("figure: {CALLS} answered, longest wait {longest:?}");
}

#[test]
fn a_broker_that_hangs_costs_calls_their_deadlines_and_no_more() {
    let _turn = Turn::take();
    let kafka = Kafka::start().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let worker = Worker::new(&logs.path().join("server"));
    block_on(async {
        let server = Server::builder(kafka.bootstrap()).serve(WorkServer::new(worker));
        let _server = server.start().await.unwrap();
        let work = WorkClient::connect(kafka.bootstrap()).await.unwrap();
        assert_eq!(work.run(0, 0).await, Ok(answer(0)));
        kafka.pause(0).unwrap();
        let started = Instant::now();
        let error = work.run(1, 0).timeout(secs(1)).await.unwrap_err();
        let waited = started.elapsed();
        println!("figure: a deadline of 1 s ended the call after {waited:?}");
        assert_eq!(error.code(), Some(Code::DeadlineExceeded));
        assert!(waited >= secs(1) && waited < secs(3), "{waited:?}");
        kafka.resume(0).unwrap();
        assert_eq!(work.run(2, 0).timeout(secs(60)).await, Ok(answer(2)));
    });
}

#[test]
fn calls_that_the_broker_takes_too_late_are_not_executed() {
    const LATE: u64 = 200;
    let _turn = Turn::take();
    let kafka = Kafka::start().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("server");
    block_on(async {
        let one = Channel::builder(kafka.bootstrap()).set("KRPC_CALL_PARTITIONS", 1);
        let channel = one.connect().await.unwrap();
        channel.open("guarantee.Work").await.unwrap();
        let work = WorkClient::new(&channel);
        // The client's very first calls: they are on their way while the broker hangs.
        kafka.pause(0).unwrap();
        let calls: Vec<_> =
            (0..LATE).map(|id| tokio::spawn(work.run(id, 0).timeout(secs(1)))).collect();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.code(), Some(Code::DeadlineExceeded));
        }
        kafka.resume(0).unwrap();
        // Behind them in the one partition.
        let after = tokio::spawn(work.run(LATE, 0).timeout(secs(60)));
        let server = Server::builder(kafka.bootstrap()).serve(WorkServer::new(Worker::new(&log)));
        let server = server.start().await.unwrap();
        assert_eq!(after.await.unwrap(), Ok(answer(LATE)));
        let expired = server.stats().counts.expired;
        println!("figure: {expired} of {LATE} came too late, as the server saw them");
        assert!(expired > 0, "none of them reached the broker");
        server.shutdown().await.unwrap();
    });
    assert_eq!(std::fs::read_to_string(&log).unwrap(), format!("{LATE}\n"));
}
