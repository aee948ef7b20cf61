//! What is measured. Each system has a server that sends values back, and clients of it.

pub(crate) mod krpc;
pub(crate) mod raw;
pub(crate) mod tarpc;
pub(crate) mod tonic;

use std::{fmt, io::Write, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::{
    figure::Measured,
    load::{self, Load, Times},
};

/// A system that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// One Kafka record each way with nothing but rdkafka: the floor.
    Raw,
    /// kRPC.
    Krpc,
    /// tarpc, over TCP.
    Tarpc,
    /// tonic, over HTTP/2.
    Tonic,
}

impl System {
    /// Whether it needs a Kafka.
    pub(crate) const fn is_on_kafka(self) -> bool {
        matches!(self, Self::Raw | Self::Krpc)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Krpc => "krpc",
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
}

impl Serve {
    /// The command line that gives this.
    pub(crate) fn args(&self) -> Vec<String> {
        let Self { system, brokers, index, delay_us, concurrency } = self;
        let words = ["serve".to_owned(), system.to_string()].into_iter();
        let options = [
            format!("--brokers={brokers}"),
            format!("--index={index}"),
            format!("--delay-us={delay_us}"),
            format!("--concurrency={concurrency}"),
        ];
        words.chain(options).collect()
    }

    /// Serves until the process is ended.
    pub(crate) fn run(&self) -> Result<()> {
        match self.system {
            System::Raw => raw::serve(self),
            System::Krpc => runtime()?.block_on(krpc::serve(self)),
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
}

impl Drive {
    /// The command line that gives this.
    pub(crate) fn args(&self) -> Vec<String> {
        let Self { system, at, servers, load, times } = self;
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let words = ["drive".to_owned(), system.to_string()].into_iter();
        let options = [
            format!("--at={}", at.join(",")),
            format!("--servers={}", servers.join(",")),
            format!("--clients={}", load.clients),
            format!("--in-flight={}", load.in_flight),
            format!("--size={}", load.size),
            format!("--warm-ms={}", times.warm_ms),
            format!("--measure-ms={}", times.measure_ms),
        ];
        words.chain(options).collect()
    }

    /// Makes calls and tells what they cost.
    pub(crate) fn run(&self) -> Result<()> {
        let measured = match self.system {
            System::Raw => raw::drive(self)?,
            System::Krpc => {
                runtime()?.block_on(async { self.call(krpc::connect(self).await?).await })?
            }
            System::Tarpc => {
                runtime()?.block_on(async { self.call(tarpc::connect(self).await?).await })?
            }
            System::Tonic => {
                runtime()?.block_on(async { self.call(tonic::connect(self).await?).await })?
            }
        };
        say("measured", &measured)
    }

    async fn call<C: load::Caller>(&self, clients: Vec<C>) -> Result<Measured> {
        load::closed(clients, self.load, self.times, &self.servers).await
    }

    /// Kafka's bootstrap string.
    pub(crate) fn brokers(&self) -> String {
        self.at.join(",")
    }
}

/// The runtime that every asynchronous system gets: Tokio's own default.
fn runtime() -> Result<Runtime> {
    Runtime::new().context("the runtime does not start")
}

/// Which of `servers` connections a call takes: a caller's calls take turns, as their numbers
/// follow each other.
fn in_turn(value: &[u8], servers: usize) -> usize {
    usize::from(value[0]) % servers
}
