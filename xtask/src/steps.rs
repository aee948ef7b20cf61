//! What each command runs.

use std::env;
use std::fmt::Display;
use std::time::Instant;

use krpc_testkit::{BROKERS_VARIABLE, KAFKA_VERSION, Kafka};

use crate::cargo::Cargo;
use crate::counts::Counts;
use crate::{fuzz, guards, setup};

/// How many seeds of the simulation `ci` runs.
pub(crate) const CI_SEEDS: u32 = 200;

/// All that users may switch on. Whatever of `test` and `ci` builds librdkafka does it with these,
/// so that it is built once, which takes minutes.
const ALL_FEATURES: [&str; 2] = ["--features", "krpc/redis,krpc/tls"];

/// How much of Kafka's log a failed test run shows.
const SHOWN_LOG_LINES: usize = 30;

/// The example that needs no broker, and no OpenSSL either.
pub(crate) fn demo() -> Result<(), String> {
    setup::ensure(setup::BUILD)?;
    hello(&[])
}

fn hello(features: &[&str]) -> Result<(), String> {
    let hello = Cargo::new("run --quiet --example hello").args(features);
    hello.env_remove("KRPC_ENDPOINT").run()
}

/// All tests against one Kafka. The last line is `N passed, M failed` and nothing else; a step
/// that fails without a failed test, as a compiler error does, counts as one failure.
pub(crate) fn test(args: &[String]) -> Result<(), String> {
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut seen = "none".to_owned();
    let result = run_tests(args, &mut counts, &mut seen);
    if let Err(message) = &result {
        eprintln!("\nxtask: {message}");
        counts.failed = counts.failed.max(1);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("\nkafka: {seen}\nduration: {seconds:.1} s\nignored: {}", counts.ignored);
    println!("{counts}");
    // The cause was told above, so that the count stays the last line.
    result.map_err(|_| String::new())
}

fn run_tests(args: &[String], counts: &mut Counts, seen: &mut String) -> Result<(), String> {
    setup::ensure(setup::TEST)?;
    let kafka = Broker::provide()?;
    kafka.describe().clone_into(seen);
    // Some tests run the examples as programs.
    let mut steps = Steps::default();
    steps.add(Cargo::new("build --workspace --examples").args(ALL_FEATURES).run());
    for targets in ["--lib --bins --tests --examples", "--doc"] {
        let test = Cargo::new("test --workspace --no-fail-fast").args(ALL_FEATURES);
        let test = test.args(targets.split(' '));
        let test = if args.is_empty() { test } else { test.args(["--"]).args(args) };
        steps.add(test.env(BROKERS_VARIABLE, kafka.bootstrap()).run_counting(counts));
    }
    let result = steps.finish();
    if result.is_err() {
        kafka.show_log();
    }
    result
}

/// Everything that must pass, to the end even where something fails.
pub(crate) fn ci(without_tests: bool) -> Result<(), String> {
    let mut steps = Steps::default();
    if !without_tests {
        steps.add(test(&[]).map_err(|_| "tests".to_owned()));
    }
    steps.add(setup::ensure(setup::ALL));
    steps.add(Cargo::new("fmt --all -- --check").run());
    let clippy = Cargo::new("clippy --workspace --all-targets").args(ALL_FEATURES);
    steps.add(clippy.args(["--", "-D", "warnings"]).run());
    let doc = Cargo::new("doc --workspace --no-deps").args(ALL_FEATURES);
    steps.add(doc.env("RUSTDOCFLAGS", "-D warnings").run());
    steps.add(Cargo::new("check --package krpc --no-default-features").run());
    steps.add(hello(&ALL_FEATURES));
    steps.add(msrv());
    steps.add(deny());
    steps.add(guards::run());
    steps.add(simulate(&ALL_FEATURES, CI_SEEDS, None));
    steps.add(fuzz::smoke());
    // In the profile of the tests, for the sake of librdkafka.
    let bench = Cargo::new("run --package krpc-bench").args(ALL_FEATURES);
    steps.add(bench.args(["--", "--smoke"]).run());
    steps.finish()?;
    println!("ci: every step passed");
    Ok(())
}

/// Whether the oldest promised compiler takes it, where that is installed.
fn msrv() -> Result<(), String> {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let works = Cargo::of_toolchain(version, "--version").succeeds_quietly();
    if !works {
        println!(
            "SKIPPED: msrv (`rustup run {version} cargo check --workspace`), as that toolchain is \
             not installed: rustup toolchain install {version} --profile minimal"
        );
        return Ok(());
    }
    Cargo::of_toolchain(version, "check --workspace").args(ALL_FEATURES).run()
}

/// Licences, advisories, sources and bans by `deny.toml`, where cargo-deny is installed:
/// compiling it here would take longer than everything else together.
fn deny() -> Result<(), String> {
    if !Cargo::new("deny --version").succeeds_quietly() {
        println!(
            "SKIPPED: `cargo deny check` (licences, advisories, sources), as cargo-deny is not \
             installed: cargo install --locked cargo-deny"
        );
        return Ok(());
    }
    Cargo::new("deny check").run()
}

/// The simulation over `seeds` seeds.
pub(crate) fn sim(seeds: u32, seed: Option<u64>) -> Result<(), String> {
    simulate(&[], seeds, seed)
}

fn simulate(features: &[&str], seeds: u32, seed: Option<u64>) -> Result<(), String> {
    let test = Cargo::new("test --package krpc --test sim").args(features);
    let test = test.args(["--", "--nocapture"]).env("KRPC_SIM_SEEDS", &seeds.to_string());
    let test = match seed {
        Some(seed) => test.env("KRPC_SIM_SEED", &seed.to_string()),
        None => test,
    };
    test.run()
}

/// What calls cost, on a Kafka made for speed that the bench itself starts.
pub(crate) fn bench(args: &[String]) -> Result<(), String> {
    setup::ensure(setup::TEST)?;
    Cargo::new("run --release --package krpc-bench --").args(args).run()
}

/// Writes the golden files anew.
pub(crate) fn bless() -> Result<(), String> {
    let mut steps = Steps::default();
    let goldens = [
        "--package krpc-core --test wire",
        "--package krpc-macros --lib golden",
        "--package krpc-macros --test ui",
    ];
    for tests in goldens {
        let test = Cargo::new("test").args(tests.split(' '));
        steps.add(test.env("KRPC_BLESS", "1").env("TRYBUILD", "overwrite").run());
    }
    steps.finish()
}

/// Steps that all run, and together fail if one does.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    failures: Vec<String>,
}

impl Steps {
    pub(crate) fn add(&mut self, result: Result<(), String>) {
        self.failures.extend(result.err());
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        if self.failures.is_empty() {
            return Ok(());
        }
        Err(format!("failed:\n  {}", self.failures.join("\n  ")))
    }
}

/// The Kafka that the tests run against.
#[derive(Debug)]
enum Broker {
    /// Named by the caller.
    Named(String),
    /// Started here, and gone with this process.
    Started(Kafka),
}

impl Broker {
    fn provide() -> Result<Self, String> {
        match env::var(BROKERS_VARIABLE) {
            Ok(named) if !named.is_empty() => Ok(Self::Named(named)),
            _ => Ok(Self::Started(Kafka::start().map_err(|error| chain(&error))?)),
        }
    }

    fn bootstrap(&self) -> &str {
        match self {
            Self::Named(bootstrap) => bootstrap,
            Self::Started(kafka) => kafka.bootstrap(),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Named(named) => format!("at {named}, named by {BROKERS_VARIABLE}"),
            Self::Started(kafka) => {
                format!("Apache Kafka {KAFKA_VERSION} at {}, started here", kafka.bootstrap())
            }
        }
    }

    fn show_log(&self) {
        let Self::Started(kafka) = self else { return };
        let log = kafka.logs(0);
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
        eprintln!("\n--- the end of Kafka's log ---\n{}", shown.join("\n"));
    }
}

/// An error with its causes, in one line each.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = text + ": " + &(error as &dyn Display).to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_fails_them_all() {
        let mut steps = Steps::default();
        steps.add(Ok(()));
        assert_eq!(Steps::default().finish(), Ok(()));
        steps.add(Err("a".to_owned()));
        steps.add(Ok(()));
        assert!(steps.finish().is_err_and(|message| message.ends_with('a')));
    }
}
