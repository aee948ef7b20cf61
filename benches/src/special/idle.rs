//! A server and a client of kRPC that made one call and have nothing more to do: what each costs.

use std::{thread, time::Duration};

use anyhow::Result;
use clap::Args;
use krpc::prelude::Channel;

use crate::{
    bench::{Bench, Servers},
    figure::{Figure, Measured},
    load, process,
    process::Usage,
    systems::{System, krpc::Client, runtime, say},
};

const CASE: &str = "idle";

/// How long the call may take.
const LIMIT: Duration = Duration::from_secs(30);

/// After it, so that its commit and its announcements are over.
const PAUSE: Duration = Duration::from_secs(1);

/// The client's process.
#[derive(Clone, Debug, Args)]
pub(crate) struct Idle {
    /// Kafka's bootstrap string.
    #[arg(long)]
    pub(crate) brokers: String,
}

impl Idle {
    /// The command line that gives this.
    pub(crate) fn args(&self) -> Vec<String> {
        vec!["idle".to_owned(), format!("--brokers={}", self.brokers)]
    }

    /// Makes one call and then nothing.
    pub(crate) fn run(&self) -> Result<()> {
        runtime()?.block_on(async {
            let client = Client::new(&Channel::connect(&self.brokers).await?);
            load::greet(std::slice::from_ref(&client)).await?;
            say("idle", &())?;
            std::future::pending().await
        })
    }
}

pub(crate) fn run(bench: &Bench, watched: Duration) -> Result<Vec<Figure>> {
    let servers = Servers::start(&bench.server(System::Krpc), 1)?;
    let client = process::spawn(&Idle { brokers: bench.brokers().to_owned() }.args())?;
    process::answer::<()>(&client, "idle", LIMIT)?;
    thread::sleep(PAUSE);
    let processes = [("client", vec![client.pid()]), ("server", servers.pids())];
    let usages = || processes.iter().map(|(_, pids)| Usage::of(pids)).collect::<Result<Vec<_>>>();
    let before = usages()?;
    thread::sleep(watched);
    let figures =
        processes.iter().zip(before).zip(usages()?).map(|(((name, _), before), after)| {
            let cpu = (after.cpu - before.cpu).as_secs_f64() / watched.as_secs_f64();
            let (cpu_us_per_call, rss_mib) = (cpu * 1e6, after.peak_mib);
            Measured { cpu_us_per_call, rss_mib, ..Measured::default() }.named(name, CASE)
        });
    let figures = figures.collect();
    client.terminate()?;
    servers.end()?;
    Ok(figures)
}
