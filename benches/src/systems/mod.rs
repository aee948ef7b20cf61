//! What is measured. Each system has a server that sends values back, and clients of it.

pub(crate) mod krpc;
pub(crate) mod raw;
pub(crate) mod seal;
pub(crate) mod tarpc;
pub(crate) mod tonic;

use std::{
    fmt,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use self::seal::Sealing;
use crate::{
    figure::Measured,
    load::{self, Caller, Load, Times},
    open,
    process::Usage,
};

/// A system that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum System {
    /// One Kafka record each way with nothing but rdkafka: the floor.
    Raw,
    /// kRPC.
    Krpc,
    /// kRPC, with calls that are executed once at most; only beside the default.
    KrpcOnce,
    /// tarpc, over TCP.
    Tarpc,
    /// tonic, over HTTP/2.
    Tonic,
}

/// In the order of a case.
pub(crate) const ALL: [System; 4] = [System::Raw, System::Krpc, System::Tarpc, System::Tonic];

impl System {
    /// Whether it needs a Kafka.
    pub(crate) const fn is_on_kafka(self) -> bool {
        matches!(self, Self::Raw | Self::Krpc | Self::KrpcOnce)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Krpc => "krpc",
            Self::KrpcOnce => "krpc-once",
            Self::Tarpc => "tarpc",
            Self::Tonic => "tonic",
        })
    }
}

/// A server's process.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// What to serve with.
    pub(crate) system: System,
    /// Kafka's bootstrap string, for the systems on Kafka.
    #[arg(long, default_value = "")]
    pub(crate) brokers: String,
    /// Which of several servers this is, from 0.
    #[arg(long, default_value_t = 0)]
    pub(crate) index: usize,
    /// Microseconds that a handler sleeps before it answers; 0 answers at once.
    #[arg(long, default_value_t = 0)]
    pub(crate) delay_us: u64,
    /// Handlers that run at once, where the system bounds them.
    #[arg(long, default_value_t = 16_384)]
    pub(crate) concurrency: usize,
    /// Copies of the topics that it creates; 0 for as many as the broker likes.
    #[arg(long, default_value_t = 0)]
    pub(crate) replication: u8,
    /// How packets are sealed, for kRPC.
    #[arg(long, default_value = "none")]
    pub(crate) sealing: Sealing,
}

impl Serve {
    /// The command line that gives this.
    pub(crate) fn args(&self) -> Vec<String> {
        let Self { system, brokers, index, delay_us, concurrency, replication, sealing } = self;
        let words = ["serve".to_owned(), system.to_string()].into_iter();
        let options = [
            format!("--brokers={brokers}"),
            format!("--index={index}"),
            format!("--delay-us={delay_us}"),
            format!("--concurrency={concurrency}"),
            format!("--replication={replication}"),
            format!("--sealing={}", sealing.word()),
        ];
        words.chain(options).collect()
    }

    /// Serves until the process is ended.
    pub(crate) fn run(&self) -> Result<()> {
        match self.system {
            System::Raw => raw::serve(self),
            System::Krpc | System::KrpcOnce => runtime()?.block_on(krpc::serve(self)),
            System::Tarpc => runtime()?.block_on(tarpc::serve(self)),
            System::Tonic => runtime()?.block_on(tonic::serve(self)),
        }
    }

    /// What a handler does before it answers.
    pub(crate) fn work(&self) -> Work {
        Work(Duration::from_micros(self.delay_us))
    }
}

/// What a handler does before it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work(Duration);

impl Work {
    pub(crate) async fn run(self) {
        if !self.0.is_zero() {
            tokio::time::sleep(self.0).await;
        }
    }
}

/// What a server says as soon as it serves, after the word `ready`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where clients find it.
    pub(crate) address: String,
}

impl Ready {
    pub(crate) fn say(address: impl ToString) -> Result<()> {
        say("ready", &Self { address: address.to_string() })
    }
}

/// Prints a word and a value, for the process that started this one.
pub(crate) fn say(word: &str, value: &impl Serialize) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{word} {}", serde_json::to_string(value)?)?;
    Ok(stdout.flush()?)
}

/// A client's process.
#[derive(Clone, Debug, Args)]
pub(crate) struct Drive {
    /// What to call with.
    pub(crate) system: System,
    /// Kafka's bootstrap string, or each server's address.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) at: Vec<String>,
    /// The servers' processes, whose CPU time is counted.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) servers: Vec<u32>,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) times: Times,
    /// The open loop: so many calls per second with one client, however many are in flight; 0 for
    /// the closed loop.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// One call only, its time counted from before the connection is made.
    #[arg(long, conflicts_with = "rate")]
    pub(crate) once: bool,
    /// How packets are sealed, for kRPC.
    #[arg(long, default_value = "none")]
    pub(crate) sealing: Sealing,
}

impl Drive {
    /// The command line that gives this.
    pub(crate) fn args(&self) -> Vec<String> {
        let Self { system, at, servers, load, times, rate, once, sealing } = self;
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let words = ["drive".to_owned(), system.to_string()].into_iter();
        let options = [
            format!("--at={}", at.join(",")),
            format!("--servers={}", servers.join(",")),
            format!("--connections={}", load.connections),
            format!("--clients={}", load.clients),
            format!("--in-flight={}", load.in_flight),
            format!("--size={}", load.size),
            format!("--warm-ms={}", times.warm_ms),
            format!("--measure-ms={}", times.measure_ms),
            format!("--sealing={}", sealing.word()),
        ];
        let how = match (once, rate) {
            (true, _) => Some("--once".to_owned()),
            (false, 0) => None,
            (false, rate) => Some(format!("--rate={rate}")),
        };
        words.chain(options).chain(how).collect()
    }

    /// Makes calls and tells what they cost.
    pub(crate) fn run(&self) -> Result<()> {
        let measured = match self.system {
            System::Raw => raw::drive(self)?,
            System::Krpc | System::KrpcOnce => {
                runtime()?.block_on(self.call(krpc::connect(self)))?
            }
            System::Tarpc => runtime()?.block_on(self.call(tarpc::connect(self)))?,
            System::Tonic => runtime()?.block_on(self.call(tonic::connect(self)))?,
        };
        say("measured", &measured)
    }

    async fn call<C: Caller>(
        &self,
        connect: impl Future<Output = Result<Vec<C>>>,
    ) -> Result<Measured> {
        let (before, started) = (Usage::of(&self.servers)?, Instant::now());
        let clients = connect.await?;
        load::greet(&clients).await?;
        if self.once {
            return self.first(started.elapsed(), before);
        }
        match (self.rate, clients.into_iter()) {
            (0, clients) => {
                load::closed(clients.collect(), self.load, self.times, &self.servers).await
            }
            (rate, mut clients) => {
                let client = clients.next().context("the open loop needs a client")?;
                let schedule = open::Schedule::new(rate, self.times);
                open::open(client, self.load.size, schedule, &self.servers).await
            }
        }
    }

    /// What the first call took; `before` is what the servers had used.
    fn first(&self, elapsed: Duration, before: Usage) -> Result<Measured> {
        let after = Usage::of_self_and(&self.servers)?;
        let elapsed = elapsed.as_secs_f64() * 1e6;
        Ok(Measured {
            calls: 1,
            p50_us: elapsed,
            p99_us: elapsed,
            p999_us: elapsed,
            cpu_us_per_call: (after.cpu - before.cpu).as_secs_f64() * 1e6,
            rss_mib: after.peak_mib,
            ..Measured::default()
        })
    }

    /// Kafka's bootstrap string.
    pub(crate) fn brokers(&self) -> String {
        self.at.join(",")
    }
}

/// The runtime that every asynchronous system gets: Tokio's own default.
pub(crate) fn runtime() -> Result<Runtime> {
    Runtime::new().context("the runtime does not start")
}

/// Which of `servers` connections a call takes: a caller's calls take turns, as their numbers
/// follow each other.
fn in_turn(value: &[u8], servers: usize) -> usize {
    usize::from(value[0]) % servers
}
