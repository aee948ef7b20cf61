//! Two servers of which one is ten times slower, against the sum of what each does alone.
//!
//! Handlers sleep, so that the machine's processors are not the limit: what is measured is whether
//! calls go where there is room. Half of the calls in flight keep either server busy.

use anyhow::Result;

use crate::{
    bench::{Bench, Servers},
    cases::SMALL,
    figure::{Figure, Measured},
    load::{Load, Times},
    systems::{Drive, Serve, System},
};

const CASE: &str = "slow-fast";

/// Microseconds that a handler sleeps.
const FAST: u64 = 2_000;
const SLOW: u64 = 10 * FAST;

/// Handlers that run at once in each server: 32,000 calls/s in the fast one at most.
const HANDLERS: usize = 64;

/// Of one client.
const IN_FLIGHT: usize = 512;

pub(crate) fn run(bench: &Bench, times: Times) -> Result<Vec<Figure>> {
    let fast = measure(bench, &[FAST], times)?;
    let slow = measure(bench, &[SLOW], times)?;
    let both = measure(bench, &[FAST, SLOW], times)?;
    let sum = fast.calls_per_s + slow.calls_per_s;
    let capacity = Measured { calls_per_s: sum, ..Measured::default() };
    let figures = [("krpc", both), ("capacity", capacity), ("fast", fast), ("slow", slow)];
    Ok(figures.map(|(name, measured)| measured.named(name, CASE)).into())
}

fn measure(bench: &Bench, delays: &[u64], times: Times) -> Result<Measured> {
    let mut servers = Servers::none(System::Krpc);
    for (index, &delay_us) in delays.iter().enumerate() {
        let serve = bench.server(System::Krpc);
        servers.add(&Serve { index, delay_us, concurrency: HANDLERS, ..serve })?;
    }
    let load = Load { connections: 1, clients: 1, in_flight: IN_FLIGHT, size: SMALL };
    let measured = servers.drive(&Drive { load, times, ..servers.client() })?;
    servers.end()?;
    Ok(measured)
}
