//! Servers that come, share the work, and go.

use std::{collections::BTreeMap, time::Instant};

use krpc::{ShutdownError, prelude::*};
use tokio::{sync::oneshot, task::JoinSet};

use crate::support::{
    eventually,
    place::{PARTITIONS, settled},
    scenario,
    services::{WorkClient, WorkServer, Worker},
    start,
};

/// How often each job was executed, by any of these.
fn executions(workers: &[&Worker]) -> BTreeMap<u64, usize> {
    let mut all = BTreeMap::new();
    for (job, times) in workers.iter().flat_map(|worker| worker.log.executions()) {
        *all.entry(job).or_default() += times;
    }
    all
}

#[test]
fn calls_wait_for_a_server() {
    scenario(async |place| {
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        let mut calls = JoinSet::new();
        for job in 0..100 {
            calls.spawn(work.quick(job).timeout(secs(50)));
        }
        eventually("they are in flight", || {
            channel.stats("Work").is_some_and(|stats| stats.in_flight == 100)
        })
        .await;
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        assert!(calls.join_all().await.iter().all(Result::is_ok));
        assert_eq!(executions(&[&worker]), (0..100).map(|job| (job, 1)).collect());
    });
}

#[test]
fn two_servers_share_the_work() {
    scenario(async |place| {
        let (one, two) = (Worker::new(), Worker::new());
        let server = |worker: &Worker| {
            place.server().concurrency(4).serve(WorkServer::new(worker.clone())).start()
        };
        let first = server(&one).await.unwrap();
        let second = server(&two).await.unwrap();
        settled(&[&first, &second]).await;
        let work = WorkClient::new(&place.connect().await);
        let mut calls = JoinSet::new();
        for job in 0..40 {
            calls.spawn(work.held(job).timeout(secs(50)));
        }
        // Each works at its limit, at the same time.
        one.log.until_running(4).await;
        two.log.until_running(4).await;
        one.open_gate();
        two.open_gate();
        assert!(calls.join_all().await.iter().all(Result::is_ok));
        assert_eq!(executions(&[&one, &two]), (0..40).map(|job| (job, 1)).collect());
        assert_eq!((one.log.most(), two.log.most()), (4, 4));
    });
}

#[test]
fn a_shutdown_finishes_what_runs_and_leaves_the_rest_to_another_server() {
    scenario(async |place| {
        let (one, two) = (Worker::new(), Worker::new());
        let server = |worker: &Worker| {
            place.server().concurrency(4).serve(WorkServer::new(worker.clone())).start()
        };
        let first = server(&one).await.unwrap();
        let second = server(&two).await.unwrap();
        settled(&[&first, &second]).await;
        let work = WorkClient::new(&place.connect().await);
        let mut calls = JoinSet::new();
        for job in 0..60 {
            calls.spawn(work.held(job).timeout(secs(50)));
        }
        one.log.until_running(4).await;
        two.log.until_running(4).await;
        let ending = tokio::spawn(first.shutdown());
        one.open_gate();
        ending.await.unwrap().unwrap();
        let finished = one.log.finished();
        assert_eq!((one.log.started(), one.log.dropped()), (finished, 0));
        two.open_gate();
        for result in calls.join_all().await {
            result.unwrap();
        }
        assert_eq!(executions(&[&one, &two]), (0..60).map(|job| (job, 1)).collect());
        assert_eq!(two.log.started(), 60 - finished);
        let all = usize::try_from(PARTITIONS).unwrap();
        assert_eq!(second.stats().partitions[0].len(), all);
        second.shutdown().await.unwrap();
    });
}

#[test]
fn a_server_may_be_replaced_while_nobody_serves() {
    scenario(async |place| {
        let work = WorkClient::new(&place.connect().await);
        for job in 0..3 {
            let worker = Worker::new();
            let server = place.serve(WorkServer::new(worker.clone())).await;
            let reply = work.quick(job).timeout(secs(50)).reply().await.unwrap();
            assert_eq!((reply.value, reply.server_id), (job, server.instance()));
            server.shutdown().await.unwrap();
            // What was committed is not executed again by the next server.
            assert_eq!(executions(&[&worker]), [(job, 1)].into());
        }
    });
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    scenario(async |place| {
        let worker = Worker::new();
        let builder = place.server().drain_timeout(millis(300));
        let server = start(builder.serve(WorkServer::new(worker.clone()))).await;
        let work = WorkClient::new(&place.connect().await);
        let stuck = tokio::spawn(work.held(1).timeout(secs(50)));
        worker.log.until_running(1).await;
        let began = Instant::now();
        let error = server.shutdown().await.unwrap_err();
        let took = began.elapsed();
        assert!(matches!(error, ShutdownError::DrainTimeout { unfinished: 1, .. }), "{error}");
        eventually("the handler is dropped", || worker.log.dropped() == 1).await;
        assert!((millis(300)..secs(10)).contains(&took), "{took:?}");
        // Another server repeats it.
        let next = Worker::new();
        next.open_gate();
        let _next_server = place.serve(WorkServer::new(next.clone())).await;
        assert_eq!(stuck.await.unwrap(), Ok(1));
        assert_eq!(next.log.executions(), [(1, 1)].into());
    });
}

#[test]
fn run_until_serves_until_it_is_told() {
    scenario(async |place| {
        let (end, told) = oneshot::channel::<()>();
        let builder = place.server().serve(WorkServer::new(Worker::new()));
        let serving = tokio::spawn(builder.run_until(told));
        let work = WorkClient::new(&place.connect().await);
        assert_eq!(work.quick(1).timeout(secs(50)).await, Ok(1));
        assert!(!serving.is_finished());
        end.send(()).unwrap();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn what_a_dropped_server_left_is_executed_by_another() {
    scenario(async |place| {
        let (one, two) = (Worker::new(), Worker::new());
        let first = place.serve(WorkServer::new(one.clone())).await;
        let work = WorkClient::new(&place.connect().await);
        let mut calls = JoinSet::new();
        for job in 0..10 {
            calls.spawn(work.held(job).timeout(secs(50)));
        }
        one.log.until_running(10).await;
        drop(first);
        eventually("its handlers are dropped", || one.log.dropped() == 10).await;
        two.open_gate();
        let _second = place.serve(WorkServer::new(two.clone())).await;
        assert!(calls.join_all().await.iter().all(Result::is_ok));
        assert_eq!(two.log.executions(), (0..10).map(|job| (job, 1)).collect());
    });
}
