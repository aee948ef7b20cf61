//! Services that scenarios call.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use krpc::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{ON_PURPOSE, eventually};

/// Arithmetic.
#[krpc::service(version = "2.1")]
pub(crate) trait Sum {
    /// Adds two numbers.
    async fn add(&self, x: i64, y: i64) -> i64;
    /// Divides `x` by `y`.
    #[rpc(timeout = "20s", idempotent)]
    async fn divide(&self, x: i64, y: i64) -> Result<i64, MathError>;
    /// Nothing in, nothing out.
    async fn nothing(&self);
}

/// Why there is no quotient.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum MathError {
    DivisionByZero { dividend: i64 },
}

/// Serves [`Sum`].
pub(crate) struct Adder;

impl Sum for Adder {
    async fn add(&self, x: i64, y: i64) -> i64 {
        // Wrapping: strangers may add anything.
        x.wrapping_add(y)
    }

    async fn divide(&self, x: i64, y: i64) -> Result<i64, MathError> {
        x.checked_div(y).ok_or(MathError::DivisionByZero { dividend: x })
    }

    async fn nothing(&self) {}
}

/// Repeats what it is told.
#[krpc::service]
pub(crate) trait Echo {
    async fn echo(&self, text: String) -> String;
}

/// Serves [`Echo`], with a mark in front.
pub(crate) struct Parrot(pub(crate) &'static str);

impl Echo for Parrot {
    async fn echo(&self, text: String) -> String {
        format!("{}{text}", self.0)
    }
}

/// Work whose end the test decides.
#[krpc::service]
pub(crate) trait Work {
    /// Waits for the gate.
    async fn held(&self, job: u64) -> u64;
    /// The same; its callers are impatient.
    #[rpc(timeout = "500ms")]
    async fn impatient(&self, job: u64) -> u64;
    /// Waits for the gate beside a task that waits for the cancellation.
    async fn watched(&self, cx: &Context, job: u64) -> u64;
    /// Does not wait.
    async fn quick(&self, job: u64) -> u64;
    /// Takes a while.
    async fn slow(&self, job: u64, millis: u64) -> u64;
    /// Panics, at once or after the first `await`.
    async fn panics(&self, late: bool);
    /// Panics, and becomes a dead letter.
    #[rpc(one_way)]
    async fn breaks(&self, job: u64);
}

/// Serves [`Work`]; clones share gate and log.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) log: Arc<Log>,
    gate: Arc<Semaphore>,
}

/// What the handlers of a [`Worker`] did.
#[derive(Default)]
pub(crate) struct Log {
    started: Mutex<Vec<u64>>,
    running: AtomicUsize,
    most: AtomicUsize,
    finished: AtomicUsize,
    dropped: AtomicUsize,
    cancelled: AtomicUsize,
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self { log: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    /// Lets everything through, from now on.
    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets this many through.
    pub(crate) fn let_through(&self, jobs: usize) {
        self.gate.add_permits(jobs);
    }

    async fn wait(&self, job: u64) -> u64 {
        let mut running = self.log.start(job);
        self.gate.acquire().await.unwrap().forget();
        running.finished = true;
        job
    }
}

impl Work for Worker {
    async fn held(&self, job: u64) -> u64 {
        self.wait(job).await
    }

    async fn impatient(&self, job: u64) -> u64 {
        self.wait(job).await
    }

    async fn watched(&self, cx: &Context, job: u64) -> u64 {
        let (cx, log) = (cx.clone(), self.log.clone());
        tokio::spawn(async move {
            cx.cancelled().await;
            log.cancelled.fetch_add(1, Ordering::SeqCst);
        });
        self.wait(job).await
    }

    async fn quick(&self, job: u64) -> u64 {
        self.log.start(job).finished = true;
        job
    }

    async fn slow(&self, job: u64, millis: u64) -> u64 {
        let mut running = self.log.start(job);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        running.finished = true;
        job
    }

    async fn panics(&self, late: bool) {
        if late {
            tokio::task::yield_now().await;
        }
        panic!("{ON_PURPOSE}");
    }

    async fn breaks(&self, job: u64) {
        let _running = self.log.start(job);
        panic!("{ON_PURPOSE}");
    }
}

impl Log {
    fn start(&self, job: u64) -> Running<'_> {
        self.started.lock().unwrap().push(job);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        Running { log: self, finished: false }
    }

    /// How often each job was executed.
    pub(crate) fn executions(&self) -> BTreeMap<u64, usize> {
        let mut executions = BTreeMap::new();
        self.started
            .lock()
            .unwrap()
            .iter()
            .for_each(|job| *executions.entry(*job).or_default() += 1);
        executions
    }

    /// Handlers started.
    pub(crate) fn started(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    /// Handlers that run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// The most that ever ran at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Handlers that came to their end.
    pub(crate) fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    /// Handlers whose future was dropped before its end.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Cancellations that tasks of handlers were told of.
    pub(crate) fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until exactly this many handlers run.
    pub(crate) async fn until_running(&self, handlers: usize) {
        eventually(&format!("{handlers} handlers run"), || self.running() == handlers).await;
    }
}

/// A handler at work: its drop tells the log how it ended.
struct Running<'a> {
    log: &'a Log,
    finished: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.log.running.fetch_sub(1, Ordering::SeqCst);
        let end = if self.finished { &self.log.finished } else { &self.log.dropped };
        end.fetch_add(1, Ordering::SeqCst);
    }
}
