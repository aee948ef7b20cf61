//! The cases of the closed loop: what is in flight, how large, over how many processes.

use crate::load::Load;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Server processes.
    pub(crate) servers: usize,
    pub(crate) load: Load,
    /// Whether `--quick` runs it.
    pub(crate) quick: bool,
}

const KIB: usize = 1024;

/// The size of a value unless the case is about that: a call number and as much again, like two
/// numbers to add.
pub(crate) const SMALL: usize = 16;

const fn case(name: &'static str, clients: usize, in_flight: usize, size: usize) -> Case {
    Case { name, servers: 1, load: Load { clients, in_flight, size }, quick: false }
}

impl Case {
    const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    const fn servers(self, servers: usize) -> Self {
        Self { servers, ..self }
    }
}

/// `clients-AxB` is A clients in one process, each with a connection of its own and B calls in
/// flight.
pub(crate) const CASES: &[Case] = &[
    case("one", 1, 1, SMALL).quick(),
    case("128", 1, 128, SMALL).quick(),
    case("1024", 1, 1_024, SMALL).quick(),
    case("8192", 1, 8_192, SMALL).quick(),
    case("1k", 1, 256, KIB),
    case("64k", 1, 64, 64 * KIB),
    case("1m", 1, 8, KIB * KIB).quick(),
    case("clients-1x16", 1, 16, SMALL),
    case("clients-16x16", 16, 16, SMALL),
    case("clients-64x16", 64, 16, SMALL).quick(),
    case("servers-2", 1, 1_024, SMALL).servers(2),
    case("servers-4", 1, 1_024, SMALL).servers(4),
];

/// A look at whether everything works, not a measurement.
pub(crate) const SMOKE: Case = case("smoke", 1, 16, SMALL);

/// What makes a fresh JVM fast: many small records, large ones, and single ones that are waited
/// for.
pub(crate) const WARM_UP: &[Case] = &[
    case("1024", 1, 1_024, SMALL),
    case("1024", 1, 1_024, SMALL),
    case("1m", 1, 8, KIB * KIB),
    case("one", 1, 1, SMALL),
    case("128", 1, 128, SMALL),
    case("1024", 1, 1_024, SMALL),
];
