//! What calls cost, beside others: `cargo xtask bench`.
//!
//! One program that runs itself again: [`run`] starts servers and clients as processes, each with
//! one of the [`systems`], and makes a table of what the clients report. `serve` and `drive` may be
//! used by hand, to look at one of them with a profiler.

mod bench;
mod cases;
mod figure;
mod load;
mod open;
mod plan;
mod plot;
mod process;
mod record;
mod report;
mod run;
mod special;
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
    /// Makes calls of kRPC while no server is up; prints `queued`, and `drained` when all are
    /// answered.
    Queue(special::backlog::Queue),
    /// Makes one call of kRPC, prints `idle` and does nothing until the process is ended.
    Idle(special::idle::Idle),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(run) => run.run(),
        Command::Report(again) => again.run(),
        Command::Serve(serve) => serve.run(),
        Command::Drive(drive) => drive.run(),
        Command::Queue(queue) => queue.run(),
        Command::Idle(idle) => idle.run(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;
    use crate::{
        load::{Load, Times},
        special::{backlog::Queue, idle::Idle},
        systems::{Drive, Serve, System, seal::Sealing},
    };

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn processes_get_what_they_are_started_with() {
        let brokers = "a:1,b:2".to_owned();
        let serve = Serve {
            system: System::Krpc,
            brokers: brokers.clone(),
            index: 1,
            delay_us: 2,
            concurrency: 3,
            replication: 4,
            sealing: Sealing::Verify,
        };
        let drive = Drive {
            system: System::Tonic,
            at: vec!["a:1".to_owned(), "b:2".to_owned()],
            servers: vec![1, 2],
            load: Load { connections: 2, clients: 3, in_flight: 4, size: 8 },
            times: Times { warm_ms: 5, measure_ms: 6 },
            rate: 0,
            once: false,
            sealing: Sealing::ZstdEncrypt,
        };
        let open = Drive { rate: 7, ..drive.clone() };
        let once = Drive { once: true, ..drive.clone() };
        let queue = Queue { brokers: brokers.clone(), calls: 8 };
        let all = [serve.args(), drive.args(), open.args(), once.args(), queue.args()];
        for args in all.into_iter().chain([Idle { brokers }.args()]) {
            let words = ["krpc-bench".to_owned()].into_iter().chain(args.clone());
            let again = match Cli::try_parse_from(words).unwrap().command {
                Some(Command::Serve(serve)) => serve.args(),
                Some(Command::Drive(drive)) => drive.args(),
                Some(Command::Queue(queue)) => queue.args(),
                Some(Command::Idle(idle)) => idle.args(),
                other => panic!("{other:?}"),
            };
            assert_eq!(again, args);
        }
    }
}
