//! Calls that wait in Kafka while no server is up, and one server that comes and drains them.
//!
//! All callers are there and wait, as a call whose future is dropped is given up. Every answer is
//! checked, so no record can have been deleted meanwhile: the bench's Kafka keeps the last 64 MiB
//! of each partition, and a million calls are 6 MiB in each of the twelve.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, ensure};
use clap::Args;
use krpc::prelude::Channel;
use krpc_testkit::Program;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    bench::{Bench, Servers},
    cases::{AT_PEAK, SMALL},
    figure::{Figure, Measured},
    load::{Caller, Times, Values},
    process::{self, Usage},
    systems::{
        Drive, System,
        krpc::{Client, SERVICE},
        runtime, say,
    },
};

const CASE: &str = "backlog";

/// Deadline of the calls, and how long all of it may take.
const LIMIT: Duration = Duration::from_secs(300);

/// For so long nothing more was sent when everything is queued.
const SETTLED: Duration = Duration::from_millis(500);

/// Between two looks at the server's memory.
const LOOK: Duration = Duration::from_millis(20);

/// The client's process.
#[derive(Clone, Debug, Args)]
pub(crate) struct Queue {
    /// Kafka's bootstrap string.
    #[arg(long)]
    pub(crate) brokers: String,
    /// How many calls wait.
    #[arg(long)]
    pub(crate) calls: u64,
}

/// What it says when they wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Queued {
    packets: u64,
    seconds: f64,
}

/// What it says when they are answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Drained {
    /// From the first answer to the last.
    calls_per_s: f64,
    /// The client's own CPU time since all calls were queued.
    cpu_us: f64,
}

/// What the callers share.
struct Callers {
    client: Client,
    values: Values,
    calls: u64,
    answered: AtomicU64,
    first: OnceLock<Instant>,
    /// Set by the last answer, or the first failure.
    end: OnceLock<Result<Instant, Error>>,
    ended: Notify,
}

impl Queue {
    /// The command line that gives this.
    pub(crate) fn args(&self) -> Vec<String> {
        let Self { brokers, calls } = self;
        vec!["queue".to_owned(), format!("--brokers={brokers}"), format!("--calls={calls}")]
    }

    /// Makes the calls, and tells when they wait and how fast they were answered.
    pub(crate) fn run(&self) -> Result<()> {
        runtime()?.block_on(self.make())
    }

    async fn make(&self) -> Result<()> {
        let started = Instant::now();
        let builder = Channel::builder(&self.brokers).timeout(LIMIT);
        let channel = builder.max_in_flight(usize::try_from(self.calls)?).connect().await?;
        channel.open(SERVICE).await?;
        let callers = Arc::new(Callers {
            client: Client::new(&channel),
            values: Values::new(SMALL),
            calls: self.calls,
            answered: AtomicU64::new(0),
            first: OnceLock::new(),
            end: OnceLock::new(),
            ended: Notify::new(),
        });
        for number in 0..self.calls {
            tokio::spawn(call(Arc::clone(&callers), number));
        }
        let packets = self.queued(&channel, &callers).await?;
        say("queued", &Queued { packets, seconds: started.elapsed().as_secs_f64() })?;
        let before = Usage::of_self_and(&[])?;
        callers.ended.notified().await;
        callers.failure()?;
        let (first, last) = (callers.first.get(), callers.end.get());
        let (first, last) = first.zip(last).context("no answer came")?;
        let last = last.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let elapsed = last.duration_since(*first).as_secs_f64();
        let cpu = Usage::of_self_and(&[])?.cpu - before.cpu;
        let calls_per_s = (self.calls - 1) as f64 / elapsed;
        say("drained", &Drained { calls_per_s, cpu_us: cpu.as_secs_f64() * 1e6 })
    }

    /// Waits until all calls are in Kafka; in how many packets.
    async fn queued(&self, channel: &Channel, callers: &Callers) -> Result<u64> {
        let (mut packets, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            callers.failure()?;
            let stats = channel.stats(SERVICE).context("the service is not open")?;
            let all = u64::try_from(stats.in_flight)? == self.calls;
            if !all || stats.packets != packets {
                (packets, since) = (stats.packets, Instant::now());
            } else if since.elapsed() > SETTLED {
                return Ok(packets);
            }
        }
    }
}

impl Callers {
    fn failure(&self) -> Result<()> {
        match self.end.get() {
            Some(Err(error)) => Err(anyhow::anyhow!("a call failed: {error:#}")),
            _ => Ok(()),
        }
    }

    fn end(&self, end: Result<Instant, Error>) {
        self.end.get_or_init(|| end);
        self.ended.notify_one();
    }
}

async fn call(callers: Arc<Callers>, number: u64) {
    let answer = callers.client.echo(callers.values.of(number)).await;
    match answer.and_then(|answer| callers.values.check(number, answer.as_ref())) {
        Err(error) => callers.end(Err(error)),
        Ok(()) => match callers.answered.fetch_add(1, Relaxed) + 1 {
            1 => drop(callers.first.set(Instant::now())),
            answered if answered == callers.calls => callers.end(Ok(Instant::now())),
            _ => {}
        },
    }
}

pub(crate) fn run(bench: &Bench, calls: u64, times: Times) -> Result<Vec<Figure>> {
    let steady = steady(bench, times)?;
    let queue = Queue { brokers: bench.brokers().to_owned(), calls };
    let client = process::spawn(&queue.args())?;
    let queued: Queued = process::answer(&client, "queued", LIMIT)?;
    let servers = Servers::start(&bench.server(System::Krpc), 1)?;
    let (drained, memory) = watch(&client, &servers)?;
    let server = Usage::of(&servers.pids())?;
    servers.end()?;
    let Queued { packets, seconds } = queued;
    eprintln!("backlog: {calls} calls in {packets} packets, after {seconds:.1} s");
    let (early, late) = early_and_late(&memory).context("the server's memory was not seen")?;
    let measured = Measured {
        calls,
        calls_per_s: drained.calls_per_s,
        cpu_us_per_call: (server.cpu.as_secs_f64() * 1e6 + drained.cpu_us) / calls as f64,
        rss_mib: server.peak_mib,
        ..Measured::default()
    };
    let memory = |name, rss_mib| Measured { rss_mib, ..Measured::default() }.named(name, CASE);
    let (early, late) = (memory("early", early), memory("late", late));
    Ok(vec![measured.named("krpc", CASE), steady.named("steady", CASE), early, late])
}

/// The most in the first quarter of what was seen, and in its second half. Where memory grows with
/// what was drained, the second is well above the first.
fn early_and_late(memory: &[f64]) -> Option<(f64, f64)> {
    let most = |part: &[f64]| part.iter().copied().reduce(f64::max);
    let quarter = memory.len().div_ceil(4);
    Some((most(&memory[..quarter])?, most(&memory[memory.len() / 2..])?))
}

/// The same server with a closed loop; its memory is the server's alone.
fn steady(bench: &Bench, times: Times) -> Result<Measured> {
    let servers = Servers::start(&bench.server(System::Krpc), 1)?;
    let drive = Drive { load: AT_PEAK.load, times, ..servers.client() };
    let measured = servers.drive(&drive)?;
    let rss_mib = Usage::of(&servers.pids())?.peak_mib;
    servers.end()?;
    Ok(Measured { rss_mib, ..measured })
}

/// Looks at the server's memory until all calls are answered.
fn watch(client: &Program, servers: &Servers) -> Result<(Drained, Vec<f64>)> {
    let (started, mut memory) = (Instant::now(), Vec::new());
    loop {
        let resident = servers.pids().into_iter().map(process::resident_mib);
        memory.push(resident.sum::<Result<f64>>()?);
        if let Some(drained) = process::said(client, "drained")? {
            return Ok((drained, memory));
        }
        let ended = client.wait(Duration::ZERO).is_some();
        ensure!(!ended, "the client ended: {}", client.lines().join("\n"));
        ensure!(started.elapsed() < LIMIT, "the backlog was not drained within {LIMIT:?}");
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::early_and_late;

    #[test]
    fn memory_that_grows_is_told_from_memory_that_fills_once() {
        let filled = [12.0, 30.0, 31.0, 30.0, 31.0, 30.0, 30.0, 31.0];
        assert_eq!(early_and_late(&filled), Some((30.0, 31.0)));
        let growing = [12.0, 15.0, 18.0, 21.0, 24.0, 27.0, 30.0, 33.0];
        assert_eq!(early_and_late(&growing), Some((15.0, 33.0)));
        assert_eq!(early_and_late(&[12.0]), Some((12.0, 12.0)));
        assert_eq!(early_and_late(&[]), None);
    }
}
