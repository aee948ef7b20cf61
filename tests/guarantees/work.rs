//! The service that is served by other processes, and the processes.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use krpc::{ServerBuilder, prelude::*};
use krpc_testkit::Kafka;
pub(crate) use krpc_testkit::Program;
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
pub(crate) struct Worker {
    log: Mutex<File>,
}

impl Worker {
    pub(crate) fn new(log: &Path) -> Self {
        let log = OpenOptions::new().append(true).create(true).open(log).unwrap();
        Self { log: Mutex::new(log) }
    }
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
    Site::serve(|builder, log| builder.serve(WorkServer::new(Worker::new(log))));
}

const CALLS: &str = "KRPC_TEST_CALLS";

/// Not a test by itself either: with this variable set it makes so many calls, each of which
/// takes a while, says so, and waits for them.
#[test]
fn call() {
    let (Ok(endpoint), Ok(calls)) = (std::env::var(ENDPOINT), std::env::var(CALLS)) else { return };
    block_on(async {
        let work = WorkClient::connect(endpoint).await.unwrap();
        let calls =
            (0..calls.parse().unwrap()).map(|id| tokio::spawn(work.run(id, 200).timeout(secs(60))));
        let calls: Vec<_> = calls.collect();
        println!("calling");
        for call in calls {
            call.await.unwrap().unwrap();
        }
        println!("answered");
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
    _turn: Turn,
}

/// The right to run: figures of time are only good alone.
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its drop")] MutexGuard<'static, ()>);

impl Turn {
    pub(crate) fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        Self(TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Site {
    /// Waits for its turn.
    pub(crate) fn new(name: &str) -> Self {
        let turn = Turn::take();
        let kafka = Kafka::shared().unwrap();
        let place = Place {
            brokers: kafka.bootstrap().to_owned(),
            prefix: format!("{name}-{}", std::process::id()),
        };
        Self { place, logs: tempfile::tempdir().unwrap(), started: AtomicU32::new(0), _turn: turn }
    }

    /// Is a server until it is told to stop, if this process was started for that.
    pub(crate) fn serve(services: impl FnOnce(ServerBuilder, &Path) -> ServerBuilder) {
        Self::serve_and_report(services, |_| {});
    }

    /// The same, and has something to say of the server before that ends.
    pub(crate) fn serve_and_report(
        services: impl FnOnce(ServerBuilder, &Path) -> ServerBuilder,
        report: impl FnOnce(&Server),
    ) {
        let (Ok(endpoint), Ok(log)) = (std::env::var(ENDPOINT), std::env::var(LOG)) else { return };
        block_on(async {
            let builder = services(Server::builder(endpoint), Path::new(&log));
            let server = builder.start().await.unwrap();
            println!("serving");
            tokio::select! {
                () = ctrl_c() => {}
                cause = server.broken() => println!("broken: {cause}"),
            }
            report(&server);
            server.shutdown().await.unwrap();
            println!("drained");
        });
    }

    /// A server in a process of its own, with further `KRPC_*` settings.
    pub(crate) fn server(&self, settings: &[(&str, &str)]) -> Program {
        self.program("work::serve", settings)
    }

    /// A server of another service, which that test is in a process of its own.
    pub(crate) fn program(&self, test: &str, settings: &[(&str, &str)]) -> Program {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.logs.path().join(format!("server-{number}"));
        let mut envs = vec![
            (ENDPOINT, self.place.brokers.as_str()),
            (LOG, log.to_str().unwrap()),
            ("KRPC_PREFIX", self.place.prefix.as_str()),
        ];
        envs.extend_from_slice(settings);
        let me = std::env::current_exe().unwrap();
        let args = ["--exact", test, "--nocapture"];
        let program = Program::spawn(me, &args, &envs).unwrap();
        program.wait_for_line("serving", Duration::from_secs(30)).unwrap();
        program
    }

    /// A client in a process of its own, which makes so many calls.
    pub(crate) fn caller(&self, calls: u64) -> Program {
        let calls = calls.to_string();
        let envs = [
            (ENDPOINT, self.place.brokers.as_str()),
            (CALLS, calls.as_str()),
            ("KRPC_PREFIX", self.place.prefix.as_str()),
        ];
        let me = std::env::current_exe().unwrap();
        Program::spawn(me, &["--exact", "work::call", "--nocapture"], &envs).unwrap()
    }

    /// What each server wrote down, by its number in the order of their starts.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (u32, PathBuf)> {
        let count = self.started.load(Ordering::Relaxed);
        (0..count).map(|number| (number, self.logs.path().join(format!("server-{number}"))))
    }

    /// How often each call was executed, by all servers of this site or by the one of a number.
    pub(crate) fn executions(&self, server: Option<u32>) -> HashMap<u64, usize> {
        let mut executions = HashMap::new();
        for (_, log) in self.logs().filter(|(number, _)| server.is_none_or(|only| only == *number))
        {
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
