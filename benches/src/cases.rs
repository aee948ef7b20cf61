//! The cases: what is in flight, how large, over how many processes and brokers.

use crate::load::Load;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Brokers, with a copy of everything on each.
    pub(crate) brokers: usize,
    /// Whether `--quick` runs it.
    pub(crate) quick: bool,
    /// At most so many rounds, the first ones.
    pub(crate) rounds: usize,
}

/// How a case is measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// The closed loop.
    Closed(Closed),
    /// The open loop, at so many hundredths of the system's own [`PEAK`] in the same round.
    Open(u64),
    /// The closed loop, with kRPC alone: its calls as ever, and those executed once at most.
    AtMostOnce(Closed),
    /// The closed loop, with kRPC alone: its packets as ever, and sealed in each way.
    Sealed(Closed),
    /// Calls that wait for a server.
    Backlog,
    /// Two servers of unequal speed.
    SlowFast,
    /// Fresh processes.
    Cold,
    /// Processes that have nothing to do.
    Idle,
}

/// A closed loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closed {
    /// Server processes.
    pub(crate) servers: usize,
    pub(crate) load: Load,
}

const KIB: usize = 1024;

/// The size of a value unless the case is about that: a call number and as much again, like two
/// numbers to add.
pub(crate) const SMALL: usize = 16;

/// The case whose rate is a system's peak. More in flight may give more, but then waiting in the
/// system's own queues is what is measured.
pub(crate) const PEAK: &str = "1024";

/// Rounds of the cases that take long, and of those that no mark is on.
const FEW: usize = 3;

const fn load(in_flight: usize, size: usize) -> Load {
    Load { connections: 1, clients: 1, in_flight, size }
}

const fn case(name: &'static str, kind: Kind) -> Case {
    Case { name, kind, brokers: 1, quick: false, rounds: usize::MAX }
}

const fn closed(name: &'static str, in_flight: usize, size: usize) -> Case {
    case(name, Kind::Closed(Closed { servers: 1, load: load(in_flight, size) }))
}

const fn at_most_once(name: &'static str, in_flight: usize) -> Case {
    case(name, Kind::AtMostOnce(Closed { servers: 1, load: load(in_flight, SMALL) }))
}

const fn sealed(name: &'static str, in_flight: usize) -> Case {
    case(name, Kind::Sealed(Closed { servers: 1, load: load(in_flight, SMALL) }))
}

/// Clients with 16 calls in flight each, spread over connections.
const fn sixteen(name: &'static str, connections: usize, clients: usize) -> Case {
    let load = Load { connections, clients, in_flight: 16, size: SMALL };
    case(name, Kind::Closed(Closed { servers: 1, load }))
}

const fn servers(name: &'static str, servers: usize) -> Case {
    case(name, Kind::Closed(Closed { servers, load: load(1_024, SMALL) }))
}

impl Case {
    const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    const fn few(self) -> Self {
        Self { rounds: FEW, ..self }
    }

    const fn brokers(self, brokers: usize) -> Self {
        Self { brokers, ..self }
    }
}

/// In the order of a round: what is compared with each other is measured soon after each other.
///
/// `clients-AxB` is A clients of one connection with B calls in flight each, as users have it;
/// `channels-AxB` is A connections with one client each.
pub(crate) const CASES: &[Case] = &[
    closed("one", 1, SMALL).quick(),
    closed("128", 128, SMALL).quick(),
    closed(PEAK, 1_024, SMALL).quick(),
    sixteen("clients-64x16", 1, 64).quick(),
    sixteen("channels-64x16", 64, 1),
    case("open-10", Kind::Open(10)).few(),
    case("open-50", Kind::Open(50)).quick(),
    case("open-80", Kind::Open(80)).few(),
    closed("8192", 8_192, SMALL).quick(),
    closed("1m", 8, KIB * KIB).quick(),
    closed("1k", 256, KIB).few(),
    closed("64k", 64, 64 * KIB).few(),
    sixteen("clients-1x16", 1, 1).few(),
    sixteen("clients-16x16", 1, 16).few(),
    sixteen("channels-16x16", 16, 1).few(),
    servers("servers-2", 2).few(),
    servers("servers-4", 4).few(),
    at_most_once("at-most-once", 1_024).few(),
    sealed("seal-one", 1).few(),
    sealed("seal-1024", 1_024),
    case("slow-fast", Kind::SlowFast).quick(),
    case("cold", Kind::Cold).quick().few(),
    case("idle", Kind::Idle).quick().few(),
    case("backlog", Kind::Backlog).quick().few(),
    closed("cluster-one", 1, SMALL).brokers(3).few(),
    closed("cluster-1024", 1_024, SMALL).brokers(3).few(),
];

/// A look at whether everything works, not a measurement.
pub(crate) const SMOKE: &[Case] = &[
    closed("smoke", 16, SMALL),
    case("open-50", Kind::Open(50)),
    case("slow-fast", Kind::SlowFast),
    case("cold", Kind::Cold),
    case("idle", Kind::Idle),
    case("backlog", Kind::Backlog),
];

/// What makes a fresh JVM fast: many small records, large ones, and single ones that are waited
/// for.
pub(crate) const WARM_UP: &[Case] = &[
    closed(PEAK, 1_024, SMALL),
    closed(PEAK, 1_024, SMALL),
    closed("1m", 8, KIB * KIB),
    closed("one", 1, SMALL),
    closed("128", 128, SMALL),
    closed(PEAK, 1_024, SMALL),
];

/// The closed loop of [`PEAK`].
pub(crate) const AT_PEAK: Closed = Closed { servers: 1, load: load(1_024, SMALL) };
