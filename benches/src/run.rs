//! The command that measures: which cases, in which order, and what is done with the figures.
//!
//! Systems take turns within a case and a round, so that a drift of the machine hits all alike.

use std::{collections::HashMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    bench::{Bench, Servers},
    cases::{AT_PEAK, Case, Kind, PEAK},
    figure::{Figure, Measured},
    plan::Plan,
    plot, report, special,
    systems::{ALL, Drive, System},
};

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
    fn plan(&self) -> Result<Plan> {
        let systems = if self.systems.is_empty() { ALL.to_vec() } else { self.systems.clone() };
        match self.smoke {
            true => Ok(Plan::smoke(systems)),
            false => Plan::new(self.quick, &self.only, systems, self.rounds),
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        let plan = self.plan()?;
        let minutes = plan.estimate().as_secs_f64() / 60.0;
        let (cases, rounds) = (plan.cases.len(), plan.rounds);
        eprintln!("{cases} cases, up to {rounds} rounds: this takes about {minutes:.1} minutes");
        let (mut figures, mut kafkas) = (Vec::new(), Vec::new());
        for brokers in plan.clusters() {
            let bench = Bench::start(brokers, !self.smoke)?;
            if !plan.scale.warm_up.is_nothing() {
                bench.warm_up(&plan.systems, plan.scale.warm_up)?;
            }
            for number in 1..=plan.rounds {
                let mut round = Round { plan: &plan, bench: &bench, number, peaks: HashMap::new() };
                for case in plan.cases(brokers, number) {
                    let measured = round.case(case).with_context(|| format!("case {}", case.name));
                    figures.extend(measured?);
                }
            }
            kafkas.push(bench.describe());
        }
        if self.smoke {
            println!("smoke: every system answered, and every answer was right");
            return Ok(());
        }
        println!(
            "{}; medians of up to {rounds} rounds, each of {} ms after {} ms\n",
            kafkas.join(" and "),
            plan.scale.times.measure_ms,
            plan.scale.times.warm_ms
        );
        self.output.show(&figures)
    }
}

/// One round, and what its open loops go by.
struct Round<'a> {
    plan: &'a Plan,
    bench: &'a Bench,
    number: usize,
    peaks: HashMap<System, f64>,
}

impl Round<'_> {
    /// Measures a case with each system and tells of it.
    fn case(&mut self, case: &Case) -> Result<Vec<Figure>> {
        let scale = self.plan.scale;
        let of_krpc = matches!(
            case.kind,
            Kind::AtMostOnce(_) | Kind::Sealed(_) | Kind::Backlog | Kind::SlowFast | Kind::Idle
        );
        if of_krpc && !self.plan.systems.contains(&System::Krpc) {
            return Ok(Vec::new());
        }
        let figures = match case.kind {
            Kind::Closed(_) | Kind::Open(_) => {
                let systems = self.plan.turns(case.brokers, self.number);
                return systems.into_iter().map(|system| self.system(system, case)).collect();
            }
            Kind::AtMostOnce(_) => {
                let systems = [System::Krpc, System::KrpcOnce];
                return systems.into_iter().map(|system| self.system(system, case)).collect();
            }
            Kind::Sealed(closed) => {
                special::seals::run(self.bench, case.name, closed, scale.times, self.number)
            }
            Kind::Backlog => special::backlog::run(self.bench, scale.backlog, scale.times),
            Kind::SlowFast => special::slow_fast::run(self.bench, scale.times),
            Kind::Cold => special::cold::run(self.bench, self.plan.systems(1), scale.fresh),
            Kind::Idle => special::idle::run(self.bench, scale.idle),
        };
        let figures = figures?;
        figures.iter().for_each(|figure| self.tell(figure));
        Ok(figures)
    }

    fn system(&mut self, system: System, case: &Case) -> Result<Figure> {
        let measured = match case.kind {
            Kind::Open(percent) => self.open(system, percent),
            Kind::Closed(closed) | Kind::AtMostOnce(closed) => {
                self.bench.measure(system, closed, self.plan.scale.times)
            }
            _ => unreachable!("the other kinds are not of one system"),
        };
        let measured = measured.with_context(|| system.to_string())?;
        if case.name == PEAK {
            self.peaks.insert(system, measured.calls_per_s);
        }
        let figure = measured.named(&system.to_string(), case.name);
        self.tell(&figure);
        if measured.held > 0 {
            eprintln!("{} calls were held up, as too many were not answered", measured.held);
        }
        Ok(figure)
    }

    /// Calls at a share of the system's peak in this round; it is measured if it was not.
    fn open(&mut self, system: System, percent: u64) -> Result<Measured> {
        let (bench, times) = (self.bench, self.plan.scale.times);
        let peak = match self.peaks.get(&system) {
            Some(peak) => *peak,
            None => bench.measure(system, AT_PEAK, times)?.calls_per_s,
        };
        self.peaks.insert(system, peak);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive rate of at most some million calls per second"
        )]
        let rate = (peak * percent as f64 / 100.0) as u64;
        let servers = Servers::start(&bench.server(system), 1)?;
        let drive = Drive { times, rate: rate.max(1), ..servers.client() };
        let measured = servers.drive(&drive)?;
        servers.end()?;
        Ok(measured)
    }

    fn tell(&self, figure: &Figure) {
        let Figure { system, case, calls_per_s, p50_us, p99_us, rss_mib, .. } = figure;
        eprintln!(
            "round {}: {case:<14} {system:<8} {calls_per_s:>9.0} calls/s, p50 {p50_us:.0} µs, \
             p99 {p99_us:.0} µs, {rss_mib:.0} MiB",
            self.number
        );
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
