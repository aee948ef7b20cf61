//! What calls cost, beside others: `cargo xtask bench`.
//!
//! One program that runs itself again: [`run`] starts servers and clients as processes, each with
//! one of the [`systems`], and makes a table of what the clients report. `serve` and `drive` may be
//! used by hand, to look at one of them with a profiler.

mod bench;
mod cases;
mod figure;
mod load;
mod plot;
mod process;
mod record;
mod report;
mod run;
mod systems;

use clap::{Parser, Subcommand};

/// What calls cost: kRPC beside raw rdkafka, tarpc and tonic.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs cases and prints a table; the same as no command.
    Run(run::Run),
    /// Shows the figures of an earlier run again.
    Report(run::Again),
    /// Serves with one system until the process is ended; prints `ready` and an address.
    Serve(systems::Serve),
    /// Calls servers of one system; prints `measured` and what it measured.
    Drive(systems::Drive),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(run) => run.run(),
        Command::Report(again) => again.run(),
        Command::Serve(serve) => serve.run(),
        Command::Drive(drive) => drive.run(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;
    use crate::{
        load::{Load, Times},
        systems::{Drive, Serve, System},
    };

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn processes_get_what_they_are_started_with() {
        let brokers = "a:1,b:2".to_owned();
        let serve = Serve { system: System::Krpc, brokers, index: 1, delay_us: 2, concurrency: 3 };
        let drive = Drive {
            system: System::Tonic,
            at: vec!["a:1".to_owned(), "b:2".to_owned()],
            servers: vec![1, 2],
            load: Load { clients: 3, in_flight: 4, size: 8 },
            times: Times { warm_ms: 5, measure_ms: 6 },
        };
        for args in [serve.args(), drive.args()] {
            let words = ["krpc-bench".to_owned()].into_iter().chain(args.clone());
            let again = match Cli::try_parse_from(words).unwrap().command {
                Some(Command::Serve(serve)) => serve.args(),
                Some(Command::Drive(drive)) => drive.args(),
                other => panic!("{other:?}"),
            };
            assert_eq!(again, args);
        }
    }
}
