//! kRPC with each way to seal packets, beside kRPC that seals none.
//!
//! All in one round, in every second one backwards, so that a drift of the machine hits all alike.

use anyhow::{Context, Result};

use crate::{
    bench::{Bench, Servers},
    cases::Closed,
    figure::{Figure, Measured},
    load::Times,
    systems::{
        Drive, Serve, System,
        seal::{ALL, Sealing},
    },
};

/// Of the round of this number. What is not sealed is called as kRPC is everywhere else.
pub(crate) fn run(
    bench: &Bench,
    case: &str,
    closed: Closed,
    times: Times,
    round: usize,
) -> Result<Vec<Figure>> {
    let mut turns = ALL.to_vec();
    if round.is_multiple_of(2) {
        turns.reverse();
    }
    let figures = turns.into_iter().map(|sealing| {
        let word = sealing.word();
        let measured = measure(bench, sealing, closed, times).context(word)?;
        let system = if sealing == Sealing::None { "krpc" } else { word };
        Ok(measured.named(system, case))
    });
    figures.collect()
}

fn measure(bench: &Bench, sealing: Sealing, closed: Closed, times: Times) -> Result<Measured> {
    let serve = Serve { sealing, ..bench.server(System::Krpc) };
    let servers = Servers::start(&serve, closed.servers)?;
    let measured =
        servers.drive(&Drive { load: closed.load, times, sealing, ..servers.client() })?;
    servers.end()?;
    Ok(measured)
}
