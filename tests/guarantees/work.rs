//! The service that is served by other processes, and the processes.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use krpc::prelude::*;
use krpc_testkit::{Kafka, Program};
use tempfile::TempDir;

#[krpc::service(name = "guarantee.Work")]
pub(crate) trait Work {
    /// Writes `id` down, waits, and yields [`answer`] of it.
    async fn run(&self, id: u64, millis: u64) -> u64;
}

pub(crate) const fn answer(id: u64) -> u64 {
    id * 2 + 1
}

/// Executes calls and keeps a log of them that survives `kill -9`.
struct Worker {
    log: Mutex<File>,
}

impl Work for Worker {
    async fn run(&self, id: u64, millis: u64) -> u64 {
        // One write per line, to a file opened for appending: whole lines, whoever is killed.
        self.log.lock().unwrap().write_all(format!("{id}\n").as_bytes()).unwrap();
        if millis > 0 {
            tokio::time::sleep(krpc::prelude::millis(millis)).await;
        }
        answer(id)
    }
}

const ENDPOINT: &str = "KRPC_TEST_ENDPOINT";
const LOG: &str = "KRPC_TEST_LOG";

/// Not a test by itself: the other tests start this program again with these variables set, and
/// then this is a server until it is told to stop.
#[test]
fn serve() {
    let (Ok(endpoint), Ok(log)) = (std::env::var(ENDPOINT), std::env::var(LOG)) else { return };
    let log = OpenOptions::new().append(true).create(true).open(log).unwrap();
    let worker = Worker { log: Mutex::new(log) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server =
            Server::builder(endpoint).serve(WorkServer::new(worker)).start().await.unwrap();
        println!("serving");
        server.run_until(ctrl_c()).await.unwrap();
        println!("drained");
    });
}

/// A place of its own on the shared broker.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
}

impl Place {
    pub(crate) async fn channel(&self) -> Channel {
        Channel::builder(&self.brokers).prefix(&self.prefix).connect().await.unwrap()
    }

    pub(crate) async fn client(&self) -> WorkClient {
        WorkClient::new(&self.channel().await)
    }
}

/// A place, the turn to use it, and the servers that a test starts there.
pub(crate) struct Site {
    pub(crate) place: Place,
    logs: TempDir,
    started: AtomicU32,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// Waits for its turn: figures of time are only good alone.
    pub(crate) fn new(name: &str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let kafka = Kafka::shared().unwrap();
        let place = Place {
            brokers: kafka.bootstrap().to_owned(),
            prefix: format!("{name}-{}", std::process::id()),
        };
        Self { place, logs: tempfile::tempdir().unwrap(), started: AtomicU32::new(0), _turn: turn }
    }

    /// A server in a process of its own, with further `KRPC_*` settings.
    pub(crate) fn server(&self, settings: &[(&str, &str)]) -> Program {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.logs.path().join(format!("server-{number}"));
        let mut envs = vec![
            (ENDPOINT, self.place.brokers.as_str()),
            (LOG, log.to_str().unwrap()),
            ("KRPC_PREFIX", self.place.prefix.as_str()),
        ];
        envs.extend_from_slice(settings);
        let me = std::env::current_exe().unwrap();
        let args = ["--exact", "work::serve", "--nocapture"];
        let program = Program::spawn(me, &args, &envs).unwrap();
        program.wait_for_line("serving", Duration::from_secs(30)).unwrap();
        program
    }

    /// How often each call was executed, by all servers of this site or by the one of a number.
    pub(crate) fn executions(&self, server: Option<u32>) -> HashMap<u64, usize> {
        let count = self.started.load(Ordering::Relaxed);
        let mut executions = HashMap::new();
        for number in (0..count).filter(|number| server.is_none_or(|only| only == *number)) {
            let log = self.logs.path().join(format!("server-{number}"));
            for id in lines(&log) {
                *executions.entry(id).or_default() += 1;
            }
        }
        executions
    }
}

fn lines(log: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Waits until a condition holds; asks every 20 ms.
pub(crate) async fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A runtime for a test, on as many threads as there are cores.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}
