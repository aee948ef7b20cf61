//! Fresh processes: from just before they connect to the first answer, topics there and a server
//! up.
//!
//! The clock runs inside of the process. How long the whole process takes, from its start to its
//! end, stands beside kRPC's as `process`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Servers},
    figure::{Figure, Measured},
    process,
    record::Recorder,
    systems::{Drive, System},
};

const CASE: &str = "cold";

/// How long a process may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What the processes of one system took.
struct Fresh {
    servers: Servers,
    first: Recorder,
    whole: Recorder,
    cpu_us: f64,
    rss_mib: f64,
}

pub(crate) fn run(
    bench: &Bench,
    systems: impl Iterator<Item = System>,
    processes: u64,
) -> Result<Vec<Figure>> {
    let mut all = Vec::new();
    for system in systems {
        all.push((system, Fresh::new(Servers::start(&bench.server(system), 1)?)));
    }
    for number in 0..processes {
        for (_, fresh) in &mut all {
            fresh.process(number)?;
        }
    }
    let mut figures = Vec::new();
    for (system, fresh) in all {
        let (first, whole) = fresh.measured(processes);
        figures.push(first.named(&system.to_string(), CASE));
        if system == System::Krpc {
            figures.push(whole.named("process", CASE));
        }
        fresh.servers.end()?;
    }
    Ok(figures)
}

impl Fresh {
    fn new(servers: Servers) -> Self {
        let (first, whole) = (Recorder::new(), Recorder::new());
        Self { servers, first, whole, cpu_us: 0.0, rss_mib: 0.0 }
    }

    fn process(&mut self, number: u64) -> Result<()> {
        let drive = Drive { once: true, ..self.servers.client() };
        let started = Instant::now();
        let client = process::spawn(&drive.args())?;
        let measured = process::answer::<Measured>(&client, "measured", LIMIT)?;
        ensure!(client.wait(LIMIT).is_some_and(|status| status.success()), "a client did not end");
        self.whole.add(number, started.elapsed());
        self.first.add(number, Duration::from_secs_f64(measured.p50_us / 1e6));
        self.cpu_us += measured.cpu_us_per_call;
        self.rss_mib = self.rss_mib.max(measured.rss_mib);
        Ok(())
    }

    /// To the first answer, and of the whole process.
    fn measured(&self, processes: u64) -> (Measured, Measured) {
        let of = |recorder: &Recorder| {
            let times = recorder.summary();
            Measured {
                calls: times.calls,
                p50_us: times.p50_us,
                p99_us: times.p99_us,
                p999_us: times.p999_us,
                ..Measured::default()
            }
        };
        let cpu_us_per_call = self.cpu_us / processes as f64;
        let first = Measured { cpu_us_per_call, rss_mib: self.rss_mib, ..of(&self.first) };
        (first, of(&self.whole))
    }
}
