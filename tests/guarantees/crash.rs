//! A server is killed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use krpc::prelude::*;

use crate::work::{Site, answer, block_on, eventually};

#[test]
fn a_killed_server_costs_time_and_no_call() {
    const RATE: u64 = 500;
    const SECONDS: u64 = 12;
    let site = Site::new("killed");
    let first = site.server(&[]);
    let _second = site.server(&[]);
    let (answered, expired, longest) = block_on(async {
        let work = site.place.client().await;
        // Both servers have partitions and have said so.
        for id in 0..200 {
            assert_eq!(work.run(1_000_000 + id, 0).await, Ok(answer(1_000_000 + id)));
        }
        let mut calls = Vec::new();
        let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
        for id in 0..RATE * SECONDS {
            tick.tick().await;
            if id == RATE * 3 {
                first.kill9().unwrap();
            }
            let call = work.run(id, 1).timeout(secs(20));
            calls.push(tokio::spawn(async move {
                let started = Instant::now();
                (id, call.await, started.elapsed())
            }));
        }
        let (mut answered, mut expired, mut longest) = (0, 0, Duration::ZERO);
        for call in calls {
            match call.await.unwrap() {
                (id, Ok(value), elapsed) => {
                    assert_eq!(value, answer(id));
                    answered += 1;
                    longest = longest.max(elapsed);
                }
                (_, Err(error), elapsed) => {
                    assert_eq!(error.code(), Some(Code::DeadlineExceeded));
                    assert!(elapsed >= secs(20), "given up before its deadline: {elapsed:?}");
                    expired += 1;
                }
            }
        }
        (answered, expired, longest)
    });
    println!("figure: {answered} answered, {expired} expired, longest wait {longest:?}");
    assert_eq!(answered + expired, RATE * SECONDS);
    assert_eq!(expired, 0, "20 s are enough for a session of 6 s to end");
}

#[test]
fn a_successor_repeats_the_unfinished_call_and_not_the_finished_ones() {
    const FAST: u64 = 10_000;
    const SLOW: u64 = 999_999;
    let site = Site::new("successor");
    let partitions = [("KRPC_CALL_PARTITIONS", "1")];
    let first = site.server(&partitions);
    let executions = block_on(async {
        let work = site.place.client().await;
        let slow = tokio::spawn(work.run(SLOW, 20_000).timeout(secs(120)));
        eventually("the slow call runs", secs(10), || site.executions(None).contains_key(&SLOW))
            .await;
        let fast: Vec<_> =
            (0..FAST).map(|id| (id, tokio::spawn(work.run(id, 0).timeout(secs(60))))).collect();
        for (id, call) in fast {
            assert_eq!(call.await.unwrap(), Ok(answer(id)));
        }
        // Ten commit intervals: the finished calls are in the committed map.
        tokio::time::sleep(secs(1)).await;
        first.kill9().unwrap();
        let _second = site.server(&partitions);
        assert_eq!(slow.await.unwrap(), Ok(answer(SLOW)));
        site.executions(None)
    });
    let repeated: HashMap<_, _> = executions.iter().filter(|(_, times)| **times > 1).collect();
    println!("figure: {} calls executed, repeated: {repeated:?}", executions.len());
    assert_eq!(executions.len() as u64, FAST + 1);
    assert_eq!(executions[&SLOW], 2, "the unfinished call is repeated");
    assert_eq!(repeated.len(), 1, "no finished call is repeated");
}
