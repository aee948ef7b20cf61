//! The command that measures: which cases, in which order, and what is done with the figures.
//!
//! Systems take turns within a case and a round, so that a drift of the machine hits all alike.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    bench::Bench,
    cases::{CASES, Case, SMOKE},
    figure::Figure,
    load::Times,
    plot, report,
    systems::System,
};

const FULL: Times = Times { warm_ms: 1_000, measure_ms: 2_000 };
const QUICK: Times = Times { warm_ms: 400, measure_ms: 800 };
const BRIEF: Times = Times { warm_ms: 50, measure_ms: 300 };

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
        let (cases, systems, times) = (self.cases()?, self.systems(), self.times());
        let bench = Bench::start(!self.smoke)?;
        if !self.smoke {
            bench.warm_up(&systems, self.quick)?;
        }
        let mut figures = Vec::new();
        for round in 1..=self.rounds() {
            for case in &cases {
                for &system in &systems {
                    let measured = bench.measure(system, case, times)?;
                    eprintln!(
                        "round {round}: {:<14} {system:<6} {:>9.0} calls/s, p50 {:.0} µs",
                        case.name, measured.calls_per_s, measured.p50_us
                    );
                    figures.push(measured.named(&system.to_string(), case.name));
                }
            }
        }
        if self.smoke {
            println!("smoke: every system answered, and every answer was right");
            return Ok(());
        }
        println!(
            "{}; medians of {} rounds, each of {} ms after {} ms\n",
            bench.describe(),
            self.rounds(),
            times.measure_ms,
            times.warm_ms
        );
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
