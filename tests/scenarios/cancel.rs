//! Callers that give up, and channels that close.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use krpc::prelude::*;
use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    eventually, scenario,
    services::{WorkClient, WorkServer, Worker},
    start,
};

#[test]
fn a_dropped_call_is_forgotten_and_its_handler_cancelled() {
    scenario(async |place| {
        let worker = Worker::new();
        let server = place.serve(WorkServer::new(worker.clone())).await;
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        let mut calls = JoinSet::new();
        for job in 0..20 {
            calls.spawn(work.watched(job).timeout(secs(50)));
        }
        worker.log.until_running(20).await;
        assert_eq!(channel.stats("Work").unwrap().in_flight, 20);
        calls.shutdown().await;
        let stats = channel.stats("Work").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (0, 0));
        eventually("the handlers are dropped", || worker.log.dropped() == 20).await;
        eventually("their tasks are told", || worker.log.cancelled() == 20).await;
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        assert_eq!(server.stats().counts.cancelled, 20);
        assert_eq!(work.quick(99).await, Ok(99));
    });
}

/// What a handler that returns at once left behind.
#[krpc::service]
trait Leave {
    async fn leave(&self, cx: &Context);
}

#[derive(Clone, Default)]
struct Leaver(Arc<Notify>);

impl Leave for Leaver {
    async fn leave(&self, cx: &Context) {
        let (cx, told) = (cx.clone(), Arc::clone(&self.0));
        tokio::spawn(async move {
            cx.cancelled().await;
            told.notify_one();
        });
    }
}

#[test]
fn what_a_handler_left_behind_is_told_that_its_call_is_over() {
    scenario(async |place| {
        let leaver = Leaver::default();
        let _server = place.serve(LeaveServer::new(leaver.clone())).await;
        let leave = LeaveClient::new(&place.connect().await);
        leave.leave().await.unwrap();
        leaver.0.notified().await;
    });
}

#[test]
fn a_call_that_is_dropped_while_it_waits_is_not_executed() {
    scenario(async |place| {
        let worker = Worker::new();
        // While as many wait as may run, a server takes nothing from the topic, no cancels either.
        let builder = place.server().concurrency(2).serve(WorkServer::new(worker.clone()));
        let server = start(builder).await;
        let work = WorkClient::new(&place.connect().await);
        let holders = [0, 1].map(|job| tokio::spawn(work.held(job).timeout(secs(50))));
        worker.log.until_running(2).await;
        let waiting = tokio::spawn(work.quick(2).timeout(secs(50)));
        eventually("it waits", || server.stats().queued == 1).await;
        waiting.abort();
        eventually("it is gone", || server.stats().queued == 0).await;
        worker.open_gate();
        assert!(join_all(holders).await.into_iter().all(|result| result.unwrap().is_ok()));
        assert_eq!(work.quick(3).await, Ok(3));
        assert_eq!(worker.log.executions(), [(0, 1), (1, 1), (3, 1)].into());
        assert_eq!(server.stats().counts.cancelled, 1);
    });
}

#[test]
fn a_call_that_is_never_awaited_is_never_made() {
    scenario(async |place| {
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        drop(work.quick(1));
        drop(work.quick(2));
        drop(work.quick(3).reply());
        assert_eq!(work.quick(4).await, Ok(4));
        assert_eq!(worker.log.executions(), [(4, 1)].into());
    });
}

#[test]
fn closing_a_channel_ends_every_call_at_once() {
    scenario(async |place| {
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        let mut calls = JoinSet::new();
        for job in 0..100 {
            calls.spawn(work.held(job).timeout(secs(50)));
        }
        worker.log.until_running(100).await;
        let began = Instant::now();
        channel.close().await;
        for result in calls.join_all().await {
            assert_eq!(result.unwrap_err().code(), Some(Code::Cancelled));
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        let stats = channel.stats("Work").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (0, 0));
        let later = work.quick(1).await.unwrap_err();
        assert_eq!(later.code(), Some(Code::Unavailable));
        channel.close().await;
    });
}

#[test]
fn a_channel_that_is_closed_before_its_first_call_opens_nothing() {
    scenario(async |place| {
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        channel.close().await;
        let later = work.quick(1).await.unwrap_err();
        assert_eq!(later.code(), Some(Code::Unavailable));
        assert!(channel.open("Other").await.is_err());
    });
}

#[test]
fn a_call_keeps_its_channel_alive() {
    scenario(async |place| {
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        let calls = (0..10).map(|job| tokio::spawn(work.held(job).timeout(secs(50))));
        let calls: Vec<_> = calls.collect();
        worker.log.until_running(10).await;
        drop((work, channel));
        worker.open_gate();
        let results = join_all(calls).await;
        let values: Vec<_> = results.into_iter().map(|result| result.unwrap().unwrap()).collect();
        assert_eq!(values, (0..10).collect::<Vec<_>>());
    });
}
