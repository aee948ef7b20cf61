//! The development commands of kRPC: `cargo xtask --help` lists them.
//!
//! [`setup`] makes sure of the tools, [`steps`] says what each command runs, [`cargo`] runs it,
//! [`counts`] adds up the tests, [`guards`] counts what a call costs, [`fuzz`] fuzzes, [`kafka`]
//! keeps a Kafka running beside the terminal.

mod cargo;
mod counts;
mod fuzz;
mod guards;
mod kafka;
mod setup;
mod steps;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The development commands of kRPC.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks for Java, Maven, OpenSSL, valgrind and the C tools, and installs what is missing
    /// where it may.
    Setup,
    /// Runs the first example, which needs no broker, and prints its answer.
    Demo,
    /// Runs every test against a real Kafka, which it starts (or KRPC_TEST_BROKERS).
    Test {
        /// Passed on to the test programs: filters, `--nocapture`, ….
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Everything that must pass: tests, formatting, lints, docs, feature sets, the first
    /// example, licences, guards, simulation, smoke runs of fuzzing and bench.
    Ci {
        /// Leaves out the tests, for a caller that has just run them.
        #[arg(long)]
        without_tests: bool,
    },
    /// Counts what a call costs, in allocations and instructions, and fails above the bounds.
    Guards,
    /// Runs the simulation.
    Sim {
        /// How many seeds to run.
        #[arg(long, default_value_t = steps::CI_SEEDS)]
        seeds: u32,
        /// Replays this one seed and prints what happens.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Fuzzes what reads bytes of others: one target or all, one after the other.
    Fuzz {
        /// The only one.
        #[arg(value_parser = fuzz::TARGETS)]
        target: Option<String>,
        /// How long each is fuzzed.
        #[arg(long, default_value_t = fuzz::SECONDS)]
        seconds: u32,
    },
    /// Measures calls on a real Kafka, which it starts for speed (or KRPC_TEST_BROKERS), beside
    /// other systems.
    Bench {
        /// Passed on to the bench: `--quick`, `--smoke`, `--only CASE`, …; `-- --help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// A Kafka that stays: started here, used by any program, stopped here.
    Kafka {
        #[command(subcommand)]
        command: kafka::Command,
    },
    /// Writes the golden files anew from what the code gives now; look at the difference.
    Bless,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup => setup::ensure(setup::ALL),
        Command::Demo => steps::demo(),
        Command::Test { args } => steps::test(&args),
        Command::Ci { without_tests } => steps::ci(without_tests),
        Command::Guards => guards::run(),
        Command::Sim { seeds, seed } => steps::sim(seeds, seed),
        Command::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Command::Bench { args } => steps::bench(&args),
        Command::Kafka { command } => kafka::run(&command),
        Command::Bless => steps::bless(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // The last line of `test` is its count, so that an empty message says nothing more.
            if !message.is_empty() {
                eprintln!("xtask: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_are_passed_on() {
        let cli = Cli::try_parse_from(["xtask", "test", "--", "--nocapture", "sim"]).unwrap();
        assert!(matches!(cli.command, Command::Test { args } if args == ["--nocapture", "sim"]));
        let cli = Cli::try_parse_from(["xtask", "bench", "--quick", "x"]).unwrap();
        assert!(matches!(cli.command, Command::Bench { args } if args == ["--quick", "x"]));
        let cli = Cli::try_parse_from(["xtask", "fuzz", "open", "--seconds", "9"]).unwrap();
        assert!(matches!(cli.command, Command::Fuzz { target: Some(_), seconds: 9 }));
        assert!(Cli::try_parse_from(["xtask", "fuzz", "nothing"]).is_err());
    }
}
