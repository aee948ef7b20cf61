//! Keys are exchanged under load, by servers and clients in processes of their own, while calls
//! that the oldest key sealed wait in Kafka.
//!
//! All of them read one file of keys, as they would read a secret that is mounted. Each rotation
//! takes the documented steps, and each step waits until it has come everywhere.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use krpc::{
    ServerBuilder, Ticket,
    prelude::*,
    seal::{BoxFuture, Key, KeyProvider, Seal, SealError},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::work::{
    Place, Program, Site, WorkClient, WorkServer, Worker, answer, block_on, eventually,
};

const SERVICE: &str = "guarantee.Work";
const KEYS: &str = "KRPC_TEST_KEYS";

/// Calls a second, and for how long.
const RATE: u64 = 5_000;
const SECONDS: u64 = 30;
/// When rotations begin, in seconds of the load.
const ROTATIONS: [u64; 3] = [2, 10, 18];

/// Calls that wait under the oldest key: for the first server, and for one that comes after the
/// last rotation. Their ids are behind those of the load.
const QUEUED: u64 = 2_000;
const SOON: u64 = RATE * SECONDS;
const LATE: u64 = SOON + QUEUED;

/// What no rotation may cause.
const CAUSES: [&str; 5] = ["unknown_key", "bad_seal", "too_weak", "stale", "replayed"];

/// Keys in a file: the number of the step, then a key on each line.
#[derive(Clone)]
struct KeyFile {
    path: PathBuf,
    given: Arc<AtomicU64>,
    in_use: Arc<AtomicU64>,
}

impl KeyFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), given: Arc::default(), in_use: Arc::default() }
    }

    fn seal(&self) -> Seal {
        Seal::new().encrypt_from(self.clone()).refresh(millis(100))
    }

    fn read(&self) -> Result<Vec<Key>, SealError> {
        let text = std::fs::read_to_string(&self.path);
        let text = text.map_err(|error| SealError::Provider(error.to_string()))?;
        let mut lines = text.lines();
        self.given.store(lines.next().unwrap().parse().unwrap(), Ordering::Release);
        lines.map(Key::from_text).collect()
    }
}

impl KeyProvider for KeyFile {
    fn keys<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>> {
        Box::pin(async { self.read() })
    }

    /// Who asks for the next change is done with the keys that it was given before.
    fn changed(&self) -> BoxFuture<'_, ()> {
        let given = self.given.load(Ordering::Acquire);
        if self.in_use.swap(given, Ordering::AcqRel) < given {
            println!("{}", in_use(given));
        }
        Box::pin(std::future::pending())
    }
}

fn in_use(step: u64) -> String {
    format!("keys of step {step} are in use.")
}

/// Not a test by itself, as `work::serve` is not.
#[test]
fn serve() {
    let Ok(keys) = std::env::var(KEYS) else { return };
    let seal = KeyFile::new(Path::new(&keys)).seal();
    let services = |builder: ServerBuilder, log: &Path| {
        builder.seal(seal).serve(WorkServer::new(Worker::new(log)))
    };
    Site::serve_and_report(services, |server| println!("{}", refused(&server.stats().dropped)));
}

/// Such causes and their counts, in words.
fn refused(dropped: &[(&'static str, u64)]) -> String {
    let count = |cause| dropped.iter().find(|(label, _)| *label == cause).unwrap().1;
    format!("refused: {:?}", CAUSES.map(count))
}

/// The file of keys, and everybody who uses it.
struct Everywhere {
    folder: TempDir,
    step: u64,
    clients: Vec<KeyFile>,
    servers: Vec<Program>,
}

impl Everywhere {
    fn new(keys: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut everywhere = Self { folder, step: 0, clients: Vec::new(), servers: Vec::new() };
        everywhere.write(keys);
        everywhere
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Whole or not at all, as it is read meanwhile.
    fn write(&mut self, keys: &[u8]) {
        self.step += 1;
        let line = |key: &u8| format!("\n{}", format!("{key:02x}").repeat(32));
        let text = self.step.to_string() + &keys.iter().map(line).collect::<String>();
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    async fn replace(&mut self, keys: &[u8]) {
        self.write(keys);
        for server in &self.servers {
            server.wait_for_line(&in_use(self.step), secs(20)).unwrap();
        }
        let seen = |client: &KeyFile| client.in_use.load(Ordering::Acquire) == self.step;
        eventually("all clients use them", secs(20), || self.clients.iter().all(seen)).await;
    }

    async fn channel(&mut self, place: &Place) -> Channel {
        let keys = KeyFile::new(&self.path());
        let channel = Channel::builder(&place.brokers).prefix(&place.prefix).seal(keys.seal());
        self.clients.push(keys);
        channel.connect().await.unwrap()
    }

    fn server(&mut self, site: &Site, prefix: &str) {
        let settings = [(KEYS, self.path()), ("KRPC_PREFIX", prefix.into())];
        let settings = settings.each_ref().map(|(name, value)| (*name, value.to_str().unwrap()));
        self.servers.push(site.program("rotation::serve", &settings));
    }
}

type Calls = Vec<(u64, JoinHandle<Result<u64, krpc::Error>>)>;

/// Calls that are made at their times, whether others are answered or not.
#[derive(Clone, Default)]
struct Load(Arc<Mutex<Calls>>);

impl Load {
    async fn run(self, work: WorkClient) -> Duration {
        let begin = Instant::now();
        let mut tick = tokio::time::interval(millis(2));
        let mut next = 0;
        while next < RATE * SECONDS {
            tick.tick().await;
            let due = u64::try_from(begin.elapsed().as_millis()).unwrap() * RATE / 1_000;
            let due = due.min(RATE * SECONDS);
            let call = |id| (id, tokio::spawn(work.run(id, 0).timeout(secs(30)).into_future()));
            self.0.lock().unwrap().extend((next..due).map(call));
            next = due;
        }
        begin.elapsed()
    }

    /// Waits for all that were made until now, each with its own answer.
    async fn answered(&self) -> u64 {
        let calls = std::mem::take(&mut *self.0.lock().unwrap());
        let count = calls.len() as u64;
        for (id, call) in calls {
            assert_eq!(call.await.unwrap(), Ok(answer(id)), "call {id}");
        }
        count
    }
}

async fn enqueue(work: &WorkClient, first: u64) -> Vec<Ticket<u64>> {
    let calls = (first..first + QUEUED).map(|id| work.run(id, 0).timeout(secs(100)).enqueue());
    join_all(calls).await.into_iter().map(Result::unwrap).collect()
}

async fn attach(work: WorkClient, tickets: Vec<Ticket<u64>>, first: u64) {
    let answers = join_all(tickets.iter().map(|ticket| work.attach(ticket))).await;
    for (id, value) in (first..).zip(answers) {
        assert_eq!(value, Ok(answer(id)), "call {id}");
    }
}

/// Exchanges the key that seals for the next one, three times; the oldest key stays.
async fn rotate(everywhere: &mut Everywhere, load: &Load) -> u64 {
    const OLDEST: u8 = 1;
    let mut answered = 0;
    let begin = Instant::now();
    let mut ring = vec![OLDEST];
    for (second, key) in ROTATIONS.into_iter().zip(OLDEST + 1..) {
        let due = begin + secs(second);
        eventually("it is time", secs(SECONDS), || Instant::now() >= due).await;
        let behind: Vec<_> = ring.iter().copied().chain([key]).collect();
        everywhere.replace(&behind).await;
        let before: Vec<_> = [key].into_iter().chain(ring).collect();
        everywhere.replace(&before).await;
        // So nothing is waited for any more that the one before has sealed.
        answered += load.answered().await;
        ring = vec![key, OLDEST];
        if before != ring {
            everywhere.replace(&ring).await;
        }
        println!("figure: key {key} seals after {:?}", due.elapsed());
    }
    answered
}

#[test]
fn three_rotations_under_load_lose_and_refuse_no_call() {
    let site = Site::new("rotation");
    let late = Place { prefix: format!("{}-late", site.place.prefix), ..site.place.clone() };
    let mut everywhere = Everywhere::new(&[1]);
    let (elapsed, answered) = block_on(async {
        let channels = [everywhere.channel(&site.place).await, everywhere.channel(&late).await];
        let [work, work_later] = channels.each_ref().map(WorkClient::new);
        let soon = enqueue(&work, SOON).await;
        let waits = enqueue(&work_later, LATE).await;
        (0..2).for_each(|_| everywhere.server(&site, &site.place.prefix));

        let load = Load::default();
        let calls = tokio::spawn(load.clone().run(work.clone()));
        let soon = tokio::spawn(attach(work, soon, SOON));
        let mut answered = rotate(&mut everywhere, &load).await;
        everywhere.server(&site, &late.prefix);
        attach(work_later, waits, LATE).await;
        soon.await.unwrap();
        // Now the oldest key has sealed nothing that is waited for.
        answered += load.answered().await;
        everywhere.replace(&[4]).await;
        let sent = calls.await.unwrap();
        let rest = Instant::now();
        answered += load.answered().await;
        println!("figure: the last call was answered {:?} after it was made", rest.elapsed());
        for channel in &channels {
            let dropped = channel.stats(SERVICE).unwrap().dropped;
            assert_eq!(refused(&dropped), refused(&CAUSES.map(|cause| (cause, 0))));
        }
        (sent, answered)
    });
    for server in &everywhere.servers {
        server.terminate().unwrap();
        let refusals = server.wait_for_line("refused: ", secs(30)).unwrap();
        assert_eq!(refusals, refused(&CAUSES.map(|cause| (cause, 0))));
    }
    let per_second = f64::from(u32::try_from(answered).unwrap()) / elapsed.as_secs_f64();
    println!("figure: {answered} calls within {elapsed:?}, {per_second:.0} a second");
    assert_eq!(answered, RATE * SECONDS);
    assert!(elapsed < secs(SECONDS + 1), "calls were not made at their times");
    let executions = site.executions(None);
    let executed = (0..LATE + QUEUED).filter(|id| executions.contains_key(id)).count();
    assert_eq!(executed as u64, LATE + QUEUED);
    let twice = executions.values().filter(|times| **times > 1).count();
    println!("figure: {executed} executed, {twice} of them more than once");
}
