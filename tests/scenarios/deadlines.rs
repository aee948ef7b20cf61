//! Deadlines: of the method, of the call, of the channel; while a handler runs, and too late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use krpc::{Error, TicketStatus, prelude::*};

use super::tickets::{until, work};
use crate::support::{
    count, eventually, eventually_ok, scenario,
    services::{WorkClient, WorkServer, Worker},
};

/// What a deadline may come too early: a server ends a call by the broker's clock, which each
/// side knows to some milliseconds on a busy machine.
const DOUBT: Duration = Duration::from_millis(20);

#[test]
fn the_methods_own_timeout_holds_and_the_calls_wins() {
    scenario(async |place| {
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        let work = WorkClient::new(&place.connect().await);
        work.quick(0).await.unwrap();
        let began = Instant::now();
        let late = work.impatient(1).await.unwrap_err();
        assert_eq!(late.code(), Some(Code::DeadlineExceeded));
        assert!(began.elapsed() >= millis(500) - DOUBT, "{:?}", began.elapsed());
        assert!(began.elapsed() < secs(8), "{:?}, less than the default", began.elapsed());
        let began = Instant::now();
        let late = work.impatient(2).timeout(millis(50)).await.unwrap_err();
        assert_eq!(late.code(), Some(Code::DeadlineExceeded));
        assert!(began.elapsed() >= millis(50) - DOUBT, "{:?}", began.elapsed());
        let patient = tokio::spawn(work.impatient(3).timeout(secs(50)));
        tokio::time::sleep(millis(600)).await;
        worker.open_gate();
        assert_eq!(patient.await.unwrap(), Ok(3));
    });
}

#[test]
fn the_channels_timeout_is_for_calls_that_set_none() {
    scenario(async |place| {
        let _server = place.serve(WorkServer::new(Worker::new())).await;
        let channel = place.channel().timeout(millis(300)).connect().await.unwrap();
        let work = WorkClient::new(&channel);
        let began = Instant::now();
        let late = work.held(1).await.unwrap_err();
        assert_eq!(late.code(), Some(Code::DeadlineExceeded));
        let took = began.elapsed();
        assert!((millis(300) - DOUBT..secs(8)).contains(&took), "{took:?}");
    });
}

#[test]
fn a_handler_is_dropped_at_its_deadline_and_the_caller_is_told() {
    scenario(async |place| {
        let worker = Worker::new();
        let server = place.serve(WorkServer::new(worker.clone())).await;
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        work.quick(0).await.unwrap();
        let calls = (1..=10).map(|job| work.watched(job).timeout(secs(1)));
        for late in join_all(calls).await {
            assert_eq!(late.unwrap_err().code(), Some(Code::DeadlineExceeded));
        }
        eventually("all handlers are dropped", || worker.log.dropped() == 10).await;
        eventually("their tasks are told", || worker.log.cancelled() == 10).await;
        assert_eq!((worker.log.running(), worker.log.finished()), (0, 1));
        eventually("all is answered", || server.stats().unfinished == 0).await;
        assert_eq!(channel.stats("Work").unwrap().occupied, 0);
    });
}

#[test]
fn a_call_without_time_fails_at_once() {
    scenario(async |place| {
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        let work = WorkClient::new(&place.connect().await);
        let late = work.quick(1).timeout(Duration::ZERO).await.unwrap_err();
        assert_eq!(late.code(), Some(Code::DeadlineExceeded));
        // More than any clock can count is a year.
        assert_eq!(work.quick(2).timeout(Duration::MAX).await, Ok(2));
        assert_eq!(worker.log.executions().into_keys().collect::<Vec<_>>(), [2]);
    });
}

#[test]
fn calls_that_arrive_too_late_are_answered_and_not_executed() {
    scenario(async |place| {
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        channel.open("Work").await.unwrap();
        let calls = (1..=50).map(|job| work.quick(job).timeout(millis(300)));
        for late in join_all(calls).await {
            assert_eq!(late.unwrap_err().code(), Some(Code::DeadlineExceeded));
        }
        let alive = tokio::spawn(work.quick(0).timeout(secs(50)));
        let worker = Worker::new();
        let server = place.serve(WorkServer::new(worker.clone())).await;
        assert_eq!(alive.await.unwrap(), Ok(0));
        eventually("all are refused", || server.stats().counts.expired == 50).await;
        // Answered: the replies come, though nobody waits for them any more.
        let answered = || count(&channel.stats("Work").unwrap().dropped, "unknown_call") == 50;
        eventually("all are answered", answered).await;
        assert_eq!(worker.log.executions(), [(0, 1)].into());
        assert_eq!(server.stats().counts.executed, 1);
    });
}

#[test]
fn calls_that_wait_for_a_place_too_long_are_answered_and_not_executed() {
    scenario(async |place| {
        let worker = Worker::new();
        let builder = place.server().concurrency(1).serve(WorkServer::new(worker.clone()));
        let server = crate::support::start(builder).await;
        let channel = place.connect().await;
        let work = WorkClient::new(&channel);
        let holder = tokio::spawn(work.held(0).timeout(secs(50)));
        worker.log.until_running(1).await;
        let calls = (1..=5).map(|job| work.quick(job).timeout(millis(500)));
        for late in join_all(calls).await {
            assert_eq!(late.unwrap_err().code(), Some(Code::DeadlineExceeded));
        }
        // In doubt a call lives.
        let doubt = server.stats().clock_uncertainty.unwrap_or_default();
        tokio::time::sleep(millis(500) + 2 * doubt).await;
        worker.open_gate();
        assert_eq!(holder.await.unwrap(), Ok(0));
        eventually_ok(|| match server.stats() {
            stats if stats.counts.expired == 5 => Ok(()),
            stats => Err(format!("all are refused, with a doubt of {doubt:?}: {stats:?}")),
        })
        .await;
        let answered = || count(&channel.stats("Work").unwrap().dropped, "unknown_call") == 5;
        eventually("all are answered", answered).await;
        assert_eq!(worker.log.executions(), [(0, 1)].into());
    });
}

/// Jobs that hold the thread they run on.
#[krpc::service]
trait Hold {
    /// Returns at once.
    async fn pass(&self);
    /// Holds its thread until its deadline is over.
    async fn hold(&self, cx: &Context);
}

#[derive(Clone, Default)]
struct Holder(Arc<AtomicUsize>);

impl Hold for Holder {
    async fn pass(&self) {}

    async fn hold(&self, cx: &Context) {
        self.0.fetch_add(1, Ordering::SeqCst);
        thread::sleep(cx.remaining() + 10 * DOUBT);
    }
}

#[test]
fn calls_behind_one_that_holds_the_thread_past_their_deadlines_are_not_executed() {
    // Two that are not quick have those after them begun as tasks, of which two run at once here.
    for (before, most) in [(0, 1), (2, 2)] {
        scenario(async |place| {
            let holder = Holder::default();
            let server = place.serve(HoldServer::new(holder.clone())).await;
            let hold = HoldClient::new(&place.connect().await);
            hold.pass().await.unwrap();
            // On a busy machine one may come too late.
            while holder.0.load(Ordering::SeqCst) < before {
                let _ = hold.hold().timeout(millis(200)).await;
                eventually("it is over", || server.stats().unfinished == 0).await;
            }
            holder.0.store(0, Ordering::SeqCst);
            // While two packets are under way, the calls share a third.
            let first = join_all([hold.pass(), hold.pass()]);
            let calls = join_all((0..20).map(|_| hold.hold().timeout(millis(500))));
            let (_, late) = join(first, calls).await;
            // With every thread held, a reply may come before the timer that was due meanwhile.
            let (done, late): (Vec<_>, Vec<_>) = late.into_iter().partition(Result::is_ok);
            for late in late {
                assert_eq!(late.unwrap_err().code(), Some(Code::DeadlineExceeded));
            }
            eventually("all is answered", || server.stats().unfinished == 0).await;
            let executed = holder.0.load(Ordering::SeqCst);
            assert!(executed <= most + 1, "{executed} were executed");
            assert!(done.len() <= executed, "{} were answered", done.len());
        });
    }
}

#[test]
fn a_ticket_has_an_end() {
    scenario(async |place| {
        let client = work(&place).await;
        let long = client.quick(2).enqueue().await.unwrap();
        // Not the first one, which makes topics.
        let short = client.quick(1).timeout(millis(500)).enqueue().await.unwrap();
        let expired = |error: Error| {
            assert_eq!(error.code(), Some(Code::DeadlineExceeded), "{error}");
        };
        // No answer within the time that its taker has, or that it has itself.
        expired(client.attach(&long).timeout(millis(100)).await.unwrap_err());
        expired(client.attach(&short).await.unwrap_err());
        assert_eq!(client.status(&short).await, Ok(TicketStatus::Expired));
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        assert_eq!(client.attach(&long).await, Ok(2));
        until(&client, &short, |it| *it == TicketStatus::Expired).await;
        expired(client.attach(&short).await.unwrap_err());
        assert_eq!(worker.log.executions().into_iter().collect::<Vec<_>>(), [(2, 1)]);
    });
}
