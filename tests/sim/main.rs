//! The simulation: real machines and real bytes, a model broker, virtual time and chance from one
//! seed, faults, and checkers that see everything.
//!
//! A seed decides all: how many clients, servers and partitions there are, how far their clocks
//! are off, what goes wrong and when. After a while the faults stop, and the rest must come to a
//! good end. What is checked is said in [`check`].
//!
//! - `KRPC_SIM_SEEDS=N` runs the seeds 0 to N - 1 (200 by default), `KRPC_SIM_SEEDS=A..B` those
//!   from A to B - 1;
//! - `KRPC_SIM_SEED=S` runs one seed and prints what happens.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers of a simulation are small"
)]

mod broker;
mod bugs;
mod check;
mod client;
mod ctx;
mod faults;
mod group;
mod packets;
mod port;
mod release;
mod rng;
mod seals;
mod server;
mod world;

use std::{env, ops::Range, panic};

use bugs::Bug;
use check::{Failure, Tally};
use world::{Report, run};

/// Seeds that are run if nothing else is said.
const SEEDS: u64 = 200;

/// Seeds that a planted bug may take to show.
const SEEDS_FOR_BUGS: u64 = 500;

/// What must happen somewhere in so many seeds, or the checkers have nothing to see.
const MUST_OCCUR: &[&str] = &[
    "at most once: executed",
    "call dropped by its caller",
    "call ended: DEADLINE_EXCEEDED",
    "call ended: PERMISSION_DENIED",
    "call ended: UNAVAILABLE",
    "call ended: UNKNOWN",
    "call left by its client",
    "call stored again",
    "client dropped: duplicate",
    "client dropped: foreign",
    "client dropped: unknown_call",
    "commit reported as failed",
    "commit with a map",
    "fault: ClientCrash",
    "fault: CutOff",
    "fault: Garbage",
    "fault: Pause",
    "fault: Restart",
    "fault: ServerCrash",
    "member lost its place",
    "packet: not stored",
    "packet: queue full",
    "packet: report lost",
    "packet: stored twice",
    "partition assigned with a map",
    "partition drained",
    "release not done in time",
    "requests wait for others",
    #[cfg(feature = "seal")]
    "sealed: opened",
    #[cfg(feature = "seal")]
    "sealed: refused as bad_seal",
    #[cfg(feature = "seal")]
    "sealed: refused as replayed",
    "server dropped: duplicate",
    "server dropped: malformed",
    "server: cancelled",
    "server: expired",
    "server: reply given up",
    "server: skipped as finished",
];

/// Runs a seed; a panic of a machine is a failure too.
fn run_seed(seed: u64, bug: Option<Bug>, trace: bool) -> Result<Report, Failure> {
    let run = panic::catch_unwind(|| run(seed, bug, trace));
    run.unwrap_or_else(|_| {
        let message = "a panic, shown above".to_owned();
        Err(Failure { seed, checker: "nothing_panics", message })
    })
}

/// The seed to replay, if one is asked for.
fn one_seed() -> Option<u64> {
    let text = env::var("KRPC_SIM_SEED").ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("KRPC_SIM_SEED is {text:?}, not a number")))
}

/// The seeds to run.
fn seeds() -> Range<u64> {
    let Ok(text) = env::var("KRPC_SIM_SEEDS") else { return 0..SEEDS };
    let (from, to) = text.split_once("..").unwrap_or(("0", &text));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) => from..to,
        _ => panic!("KRPC_SIM_SEEDS is {text:?}, neither a number nor a range such as 200..400"),
    }
}

#[test]
fn every_seed_comes_to_a_good_end() {
    if let Some(seed) = one_seed() {
        match run_seed(seed, None, true) {
            Ok(report) => println!("seed {seed}: {report:?}"),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let seeds = seeds();
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for seed in seeds.clone() {
        match run_seed(seed, None, false) {
            Ok(report) => tally.merge(&report.tally),
            Err(failure) => failures.push(failure),
        }
    }
    failures.iter().take(10).for_each(|failure| println!("{failure}"));
    assert!(failures.is_empty(), "{} of seeds {seeds:?} failed", failures.len());
    println!("seeds {seeds:?}:");
    tally.0.iter().for_each(|(what, times)| println!("{times:>9} {what}"));
    if seeds.end - seeds.start >= SEEDS {
        let missing = MUST_OCCUR.iter().filter(|what| !tally.0.contains_key(**what));
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "never happened, so nothing was shown: {missing:?}");
    }
}

#[test]
fn a_seed_repeats() {
    for seed in 0..5 {
        let reports = [run_seed(seed, None, false), run_seed(seed, None, false)];
        let [Ok(first), Ok(second)] = reports else { panic!("{reports:?}") };
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL.into_iter().filter(|bug| cfg!(feature = "seal") || !bug.is_sealed()) {
        let found = (0..SEEDS_FOR_BUGS).find_map(|seed| run_seed(seed, Some(bug), false).err());
        let failure = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        println!("{bug:?}: seed {}, {}: {}", failure.seed, failure.checker, failure.message);
        assert!(bug.seen_by().contains(&failure.checker), "{bug:?} looks like {failure}");
    }
}
