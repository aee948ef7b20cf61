//! Limits: how many handlers run at once, how many calls are in flight.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
};

use futures_util::future::join_all;
use krpc::{
    prelude::*,
    rt::{Incoming, Service, ServiceDescriptor},
};
use tokio::{
    sync::Semaphore,
    task::{self, JoinSet},
};

use crate::support::{
    eventually, scenario,
    services::{Work, WorkClient, WorkServer, Worker},
    start,
};

#[test]
fn no_more_handlers_run_at_once_than_the_limit_says() {
    scenario(async |place| {
        let worker = Worker::new();
        let builder = place.server().concurrency(4).serve(WorkServer::new(worker.clone()));
        let server = start(builder).await;
        let work = WorkClient::new(&place.connect().await);
        let mut calls = JoinSet::new();
        for job in 0..16 {
            calls.spawn(work.held(job).timeout(secs(50)));
        }
        worker.log.until_running(4).await;
        for round in 1..=4 {
            eventually("four run", || server.stats().running == 4).await;
            worker.let_through(4);
            let done = round * 4;
            eventually("they are through", || worker.log.finished() == done).await;
        }
        let mut values: Vec<_> = calls.join_all().await.into_iter().map(Result::unwrap).collect();
        values.sort_unstable();
        assert_eq!(values, (0..16).collect::<Vec<_>>());
        assert_eq!(worker.log.most(), 4);
        assert_eq!(worker.log.started(), 16);
    });
}

#[test]
fn the_limit_is_one_for_all_services_of_a_server() {
    mod second {
        use krpc::prelude::*;

        #[krpc::service]
        pub(super) trait Job {
            async fn run(&self, cx: &Context, job: u64) -> u64;
        }
    }
    use second::{Job, JobClient, JobServer};

    impl Job for Worker {
        async fn run(&self, _: &Context, job: u64) -> u64 {
            self.held(job).await
        }
    }

    scenario(async |place| {
        let worker = Worker::new();
        let builder = place.server().concurrency(3).serve(WorkServer::new(worker.clone()));
        let server = start(builder.serve(JobServer::new(worker.clone()))).await;
        let channel = place.connect().await;
        let (work, job) = (WorkClient::new(&channel), JobClient::new(&channel));
        let mut calls = JoinSet::new();
        for n in 0..12 {
            calls.spawn(work.held(n).timeout(secs(50)));
            calls.spawn(job.run(100 + n).timeout(secs(50)));
        }
        worker.log.until_running(3).await;
        worker.open_gate();
        assert_eq!(calls.join_all().await.into_iter().filter(Result::is_ok).count(), 24);
        assert!(worker.log.most() <= 3, "{}", worker.log.most());
        assert_eq!(server.stats().counts.executed, 24);
    });
}

#[test]
fn a_channel_refuses_more_calls_than_it_may_hold() {
    scenario(async |place| {
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        let channel = place.channel().max_in_flight(4).connect().await.unwrap();
        let work = WorkClient::new(&channel);
        let mut calls = JoinSet::new();
        for job in 0..4 {
            calls.spawn(work.held(job).timeout(secs(50)));
        }
        worker.log.until_running(4).await;
        let refused = work.held(5).await.unwrap_err();
        assert_eq!((refused.code(), refused.is_retryable()), (Some(Code::ResourceExhausted), true));
        worker.open_gate();
        assert!(calls.join_all().await.iter().all(Result::is_ok));
        assert_eq!(work.held(6).await, Ok(6));
        assert_eq!(worker.log.started(), 5);
    });
}

#[test]
fn a_backlog_of_many_times_the_limit_is_worked_off() {
    scenario(async |place| {
        let worker = Worker::new();
        let builder = place.server().concurrency(2).serve(WorkServer::new(worker.clone()));
        let server = start(builder).await;
        let work = WorkClient::new(&place.connect().await);
        let mut calls = JoinSet::new();
        for job in 0..500 {
            calls.spawn(work.slow(job, 1).timeout(secs(50)));
        }
        assert_eq!(calls.join_all().await.into_iter().filter(Result::is_ok).count(), 500);
        assert_eq!((worker.log.most(), worker.log.started()), (2, 500));
        assert!(worker.log.executions().values().all(|times| *times == 1));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}

#[krpc::service]
trait Desk {
    /// Waits until it is let through.
    async fn wait(&self);
    /// Notes which task it is begun in.
    async fn stamp(&self);
}

#[derive(Clone)]
struct Clerk {
    gate: Arc<Semaphore>,
    tasks: Arc<Mutex<HashSet<Option<task::Id>>>>,
}

impl Desk for Clerk {
    async fn wait(&self) {
        self.gate.acquire().await.unwrap().forget();
    }

    async fn stamp(&self) {
        self.tasks.lock().unwrap().insert(task::try_id());
    }
}

/// With a task for each, a server that is once at the limit would be slower than the reading of
/// records, and stay there until its backlog is drained.
#[test]
fn quick_calls_that_wait_for_a_place_need_no_tasks() {
    // More than half of the limit are not read ahead.
    const LIMIT: usize = 100;
    const CALLS: usize = LIMIT / 2;
    scenario(async |place| {
        let clerk = Clerk { gate: Arc::new(Semaphore::new(0)), tasks: Arc::default() };
        let builder = place.server().concurrency(LIMIT).serve(DeskServer::new(clerk.clone()));
        let server = start(builder).await;
        let desk = DeskClient::new(&place.connect().await);
        let mut tasks = CALLS;
        // A busy machine may interrupt one of them, and the next ones get tasks then.
        for _ in 0..25 {
            let mut waiting = JoinSet::new();
            for _ in 0..LIMIT {
                waiting.spawn(desk.wait().timeout(secs(50)).into_future());
            }
            eventually("they run", || server.stats().running == LIMIT).await;
            let mut calls = JoinSet::new();
            for _ in 0..CALLS {
                calls.spawn(desk.stamp().timeout(secs(50)).into_future());
            }
            eventually("the others wait", || server.stats().queued == CALLS).await;
            clerk.gate.add_permits(1);
            assert!(calls.join_all().await.iter().all(Result::is_ok));
            clerk.gate.add_permits(LIMIT - 1);
            assert!(waiting.join_all().await.iter().all(Result::is_ok));
            tasks = tasks.min(std::mem::take(&mut *clerk.tasks.lock().unwrap()).len());
            if tasks < CALLS / 5 {
                return;
            }
        }
        panic!("at least {tasks} tasks for {CALLS} calls");
    });
}

/// Answers each call from a thread of its own.
struct Elsewhere;

impl Service for Elsewhere {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        WorkServer::new(Worker::new()).descriptor()
    }

    fn dispatch(&self, call: Incoming) {
        thread::spawn(move || call.refuse(Status::new(Code::ResourceExhausted, "not here")));
    }
}

#[test]
fn an_answer_from_another_thread_makes_room_for_the_next_call() {
    scenario(async |place| {
        let _server = start(place.server().concurrency(1).serve(Elsewhere)).await;
        let work = WorkClient::new(&place.connect().await);
        for refused in join_all((0..20).map(|job| work.quick(job))).await {
            assert_eq!(refused.unwrap_err().code(), Some(Code::ResourceExhausted));
        }
    });
}
