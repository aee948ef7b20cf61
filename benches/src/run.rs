//! Runs cases: starts Kafka, servers and clients, and collects what the clients measured.
//!
//! Systems take turns within a case and a round, so that a drift of the machine hits all alike.
//! Each measurement has servers and a client of its own, in processes of their own.

use std::{env, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use krpc_testkit::{BROKERS_VARIABLE, Kafka, Program};

use crate::{
    cases::{CASES, Case, SMOKE, WARM_UP},
    figure::{Figure, Measured},
    load::{Load, Times},
    plot, process, report,
    systems::{Drive, Ready, Serve, System},
};

/// How long a server may take to serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take beside what it measures.
const CALL_LIMIT: Duration = Duration::from_secs(60);

const FULL: Times = Times { warm_ms: 1_000, measure_ms: 2_000 };
const QUICK: Times = Times { warm_ms: 400, measure_ms: 800 };
const BRIEF: Times = Times { warm_ms: 50, measure_ms: 300 };
const WARMING: Times = Times { warm_ms: 0, measure_ms: 2_500 };

const ALL: [System; 4] = [System::Raw, System::Krpc, System::Tarpc, System::Tonic];

/// What to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// Fewer cases, shorter: less than three minutes.
    #[arg(long)]
    quick: bool,
    /// Each system once and briefly: whether it works, not how fast it is.
    #[arg(long, conflicts_with_all = ["quick", "only", "rounds", "json", "plots"])]
    smoke: bool,
    /// Only these cases.
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    only: Vec<String>,
    /// Only these systems.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<System>,
    /// How often each case is measured; the table has the medians [default: 5, or 2 if quick].
    #[arg(long)]
    rounds: Option<usize>,
    #[command(flatten)]
    output: Output,
}

impl Run {
    fn systems(&self) -> Vec<System> {
        if self.systems.is_empty() { ALL.to_vec() } else { self.systems.clone() }
    }

    fn cases(&self) -> Result<Vec<Case>> {
        if self.smoke {
            return Ok(vec![SMOKE]);
        }
        for name in &self.only {
            let names = || CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
            let known = CASES.iter().any(|case| case.name == name);
            ensure!(known, "there is no case `{name}`, only {}", names());
        }
        let wanted = |case: &&Case| {
            if self.only.is_empty() {
                case.quick || !self.quick
            } else {
                self.only.iter().any(|name| name == case.name)
            }
        };
        Ok(CASES.iter().filter(wanted).copied().collect())
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(match self {
            Self { smoke: true, .. } => 1,
            Self { quick: true, .. } => 2,
            _ => 5,
        })
    }

    fn times(&self) -> Times {
        match self {
            Self { smoke: true, .. } => BRIEF,
            Self { quick: true, .. } => QUICK,
            _ => FULL,
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        let (cases, systems) = (self.cases()?, self.systems());
        let bench = Bench::start(!self.smoke)?;
        if !self.smoke {
            bench.warm_up(&systems)?;
        }
        let mut figures = Vec::new();
        for round in 1..=self.rounds() {
            for case in &cases {
                for &system in &systems {
                    let measured = bench.measure(system, case, self.times())?;
                    eprintln!(
                        "round {round}: {:<14} {system:<6} {:>9.0} calls/s, p50 {:.0} µs",
                        case.name, measured.calls_per_s, measured.p50_us
                    );
                    figures.push(measured.named(&system.to_string(), case.name));
                }
            }
        }
        self.output.show(&figures)
    }
}

/// What is done with the figures.
#[derive(Clone, Debug, Args)]
pub(crate) struct Output {
    /// Writes the medians into this file, one object for each case and system.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the plots into this folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

impl Output {
    pub(crate) fn show(&self, figures: &[Figure]) -> Result<()> {
        print!("{}\n{}", report::table(figures), report::marks_table(&report::marks(figures)));
        if let Some(path) = &self.json {
            fs::write(path, report::json(figures)?).with_context(|| path.display().to_string())?;
        }
        match &self.plots {
            Some(folder) => {
                plot::write(figures, folder).with_context(|| folder.display().to_string())
            }
            None => Ok(()),
        }
    }
}

/// Shows once more what an earlier run wrote.
#[derive(Clone, Debug, Args)]
pub(crate) struct Again {
    /// What `--json` wrote.
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Again {
    pub(crate) fn run(&self) -> Result<()> {
        let told = || self.file.display().to_string();
        let text = fs::read_to_string(&self.file).with_context(told)?;
        self.output.show(&report::from_json(&text).with_context(told)?)
    }
}

/// A Kafka, and what is measured on it.
#[derive(Debug)]
pub(crate) struct Bench {
    brokers: String,
    /// Ends with this.
    _kafka: Option<Kafka>,
}

/// Servers of one system. Dropping them kills them.
#[derive(Debug)]
pub(crate) struct Servers {
    system: System,
    programs: Vec<Program>,
    addresses: Vec<String>,
}

impl Bench {
    /// Starts a Kafka, made for speed rather than for a fast start if `fast`, unless the
    /// environment names one.
    pub(crate) fn start(fast: bool) -> Result<Self> {
        if let Ok(brokers) = env::var(BROKERS_VARIABLE)
            && !brokers.is_empty()
        {
            eprintln!("Kafka at {brokers}, named by {BROKERS_VARIABLE}");
            return Ok(Self { brokers, _kafka: None });
        }
        let kafka = Kafka::builder().bench(fast).start()?;
        Ok(Self { brokers: kafka.bootstrap().to_owned(), _kafka: Some(kafka) })
    }

    /// What `system`'s server is started with, unless a case says otherwise.
    pub(crate) fn server(&self, system: System) -> Serve {
        let brokers = if system.is_on_kafka() { self.brokers.clone() } else { String::new() };
        Serve { system, brokers, index: 0, delay_us: 0, concurrency: 16_384 }
    }

    /// A fresh JVM is several times slower than a warm one.
    fn warm_up(&self, systems: &[System]) -> Result<()> {
        for case in WARM_UP {
            for &system in systems.iter().filter(|system| system.is_on_kafka()) {
                let measured = self.measure(system, case, WARMING)?;
                eprintln!("{}: {system} {:.0} calls/s", case.name, measured.calls_per_s);
            }
        }
        Ok(())
    }

    /// One case of one system, with servers and a client of its own.
    pub(crate) fn measure(&self, system: System, case: &Case, times: Times) -> Result<Measured> {
        let told = || format!("{system}, case {}", case.name);
        let servers = Servers::start(&self.server(system), case.servers).with_context(told)?;
        let measured = servers.drive(case.load, times).with_context(told)?;
        servers.end().with_context(told)?;
        Ok(measured)
    }
}

impl Servers {
    /// Starts `count` servers alike, and returns when all of them serve.
    pub(crate) fn start(serve: &Serve, count: usize) -> Result<Self> {
        let system = serve.system;
        let mut servers = Self { system, programs: Vec::new(), addresses: Vec::new() };
        (0..count).try_for_each(|index| servers.add(&Serve { index, ..serve.clone() }))?;
        Ok(servers)
    }

    /// Starts one more.
    pub(crate) fn add(&mut self, serve: &Serve) -> Result<()> {
        let program = process::spawn(&serve.args())?;
        let line = program.wait_for(|line| line.starts_with("ready "), START_LIMIT)?;
        let ready: Ready = serde_json::from_str(&line["ready ".len()..])?;
        if !self.addresses.contains(&ready.address) {
            self.addresses.push(ready.address);
        }
        self.programs.push(program);
        Ok(())
    }

    /// Runs a client against them.
    pub(crate) fn drive(&self, load: Load, times: Times) -> Result<Measured> {
        let drive = Drive {
            system: self.system,
            at: self.addresses.clone(),
            servers: self.programs.iter().map(Program::pid).collect(),
            load,
            times,
        };
        let client = process::spawn(&drive.args())?;
        let limit = CALL_LIMIT + Duration::from_millis(times.warm_ms + times.measure_ms);
        let line = client.wait_for(|line| line.starts_with("measured "), limit)?;
        Ok(serde_json::from_str(&line["measured ".len()..])?)
    }

    /// Ends them in good order, as far as their system has one.
    pub(crate) fn end(self) -> Result<()> {
        self.programs.iter().try_for_each(Program::terminate)?;
        for program in &self.programs {
            ensure!(program.wait(END_LIMIT).is_some(), "a server did not end");
        }
        Ok(())
    }
}
