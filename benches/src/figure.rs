//! What one measurement gives.

use serde::{Deserialize, Serialize};

/// One case of one system in one round. The names are those of `--json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The system's name on the command line.
    pub(crate) system: String,
    /// The case's name on the command line.
    pub(crate) case: String,
    /// Calls that were answered within the measured interval, per second.
    pub(crate) calls_per_s: f64,
    /// From the call to its checked answer, in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// User and system time of client and servers together, without the broker.
    pub(crate) cpu_us_per_call: f64,
    /// The larger of the peaks of client and servers.
    pub(crate) rss_mib: f64,
}

/// What the client's process reports: a figure that does not know its names yet.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) calls: u64,
    /// Calls of the open loop that were sent late, as too many others were not answered.
    pub(crate) held: u64,
    pub(crate) calls_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) cpu_us_per_call: f64,
    pub(crate) rss_mib: f64,
}

impl Measured {
    pub(crate) fn named(self, system: &str, case: &str) -> Figure {
        Figure {
            system: system.to_owned(),
            case: case.to_owned(),
            calls_per_s: self.calls_per_s,
            p50_us: self.p50_us,
            p99_us: self.p99_us,
            p999_us: self.p999_us,
            cpu_us_per_call: self.cpu_us_per_call,
            rss_mib: self.rss_mib,
        }
    }
}
