//! What one seed's run looks like: its size, its times, and what goes wrong in it and when.

use std::time::Duration;

use crate::rng::Rng;

/// A millisecond of virtual time.
pub(crate) const MILLI: u64 = 1_000;

/// A second of virtual time.
pub(crate) const SECOND: u64 = 1_000_000;

const HOUR: u64 = 3_600 * SECOND;

/// Of so many runs one is sealed: ciphers are slow where nothing is optimized.
const SEALED: u64 = 8;

/// A run, drawn from its seed before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) servers: usize,
    pub(crate) partitions: u32,
    pub(crate) reply_partitions: u32,
    /// Calls that are started while things go wrong; a tenth more follow when all is quiet.
    pub(crate) calls: u64,
    /// How long things go wrong.
    pub(crate) active: u64,
    pub(crate) max_packet: usize,
    pub(crate) max_in_flight: usize,
    /// No call is ever late, so each must get its real answer.
    pub(crate) patient: bool,
    /// Packets are sealed.
    pub(crate) sealed: bool,
    /// The topics stamp records with the time of their append.
    pub(crate) stamps: bool,
    /// How far a process's clock or the broker's may be off, either way.
    pub(crate) skew: u64,
    pub(crate) commit_interval: u64,
    pub(crate) release_timeout: u64,
    pub(crate) drain_timeout: u64,
    pub(crate) session_timeout: u64,
    pub(crate) net: Net,
    pub(crate) faults: Vec<(u64, Fault)>,
    /// Of a thousand calls: those with a short timeout, those that are dropped, those whose
    /// handlers take seconds.
    short: u64,
    dropped: u64,
    slow: u64,
    /// The most that an ordinary handler takes.
    usual: u64,
}

/// What goes wrong with messages, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Net {
    /// The producer's queue is full.
    pub(crate) full: u64,
    /// A record is refused for good.
    pub(crate) refused: u64,
    /// A record is stored, and its report says that it is not.
    pub(crate) report_lost: u64,
    /// A record is not stored, and its report says so, late.
    pub(crate) not_stored: u64,
    /// A record is stored twice.
    pub(crate) twice: u64,
    /// A report comes late.
    pub(crate) report_late: u64,
    /// Anything takes much longer than usual.
    pub(crate) slow: u64,
    /// A commit is refused, or made and reported as refused.
    pub(crate) commit_fails: u64,
}

/// Something that happens to one process or topic, drawn when it happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A client's process dies and a new one starts.
    ClientCrash,
    /// A server's process dies and a new one starts.
    ServerCrash,
    /// A server is shut down in good order and started again.
    Restart,
    /// A server's process stands still.
    Pause,
    /// A server does not reach the group's coordinator.
    CutOff,
    /// Somebody writes a record that is not kRPC's, or not whole.
    Garbage,
}

impl Plan {
    /// The run of this seed.
    pub(crate) fn new(seed: u64, rng: &mut Rng) -> Self {
        let calls = rng.doubling(20, 640);
        let active = (calls * rng.doubling(500, 16 * MILLI)).max(SECOND);
        let calm = rng.chance(100);
        let patient = rng.chance(250);
        let mut some = |most: u64| {
            let on = rng.chance(500);
            let permille = rng.doubling(1, most);
            if on && !calm { permille } else { 0 }
        };
        let net = Net {
            full: some(100),
            refused: if patient { 0 } else { some(8) },
            report_lost: some(100),
            not_stored: some(100),
            twice: some(200),
            report_late: some(100),
            slow: some(50),
            commit_fails: some(300),
        };
        let (short, dropped, slow) = (some(300), some(200), some(8));
        let mut plan = Self {
            seed,
            clients: rng.range(1, 4) as usize,
            servers: rng.range(1, 4) as usize,
            partitions: rng.range(1, 12) as u32,
            reply_partitions: rng.range(1, 4) as u32,
            calls,
            active,
            max_packet: rng.doubling(1 << 10, 1 << 15) as usize,
            max_in_flight: rng.doubling(16, 1 << 16) as usize,
            patient,
            // Not drawn: the others are as they would be without it.
            sealed: seed % SEALED == SEALED - 1,
            stamps: rng.chance(900),
            skew: if rng.chance(700) { 5 * HOUR } else { 0 },
            commit_interval: rng.doubling(5 * MILLI, 200 * MILLI),
            release_timeout: rng.doubling(20 * MILLI, 3 * SECOND),
            drain_timeout: rng.doubling(SECOND, 30 * SECOND),
            session_timeout: rng.doubling(200 * MILLI, 6 * SECOND),
            net,
            faults: Vec::new(),
            short: if patient { 0 } else { short },
            dropped,
            slow,
            usual: rng.doubling(MILLI, 100 * MILLI),
        };
        if !calm {
            plan.draw_faults(rng);
        }
        plan
    }

    fn draw_faults(&mut self, rng: &mut Rng) {
        use Fault::{ClientCrash, CutOff, Garbage, Pause, Restart, ServerCrash};
        let kinds = [
            (ClientCrash, 4),
            (ServerCrash, 4),
            (Restart, 6),
            (Pause, 3),
            (CutOff, 3),
            (Garbage, 60),
        ];
        for (fault, most) in kinds {
            let count = if rng.chance(500) { rng.doubling(1, most) } else { 0 };
            for _ in 0..count {
                self.faults.push((rng.range(0, self.active), fault));
            }
        }
    }

    /// How long a caller waits.
    pub(crate) fn timeout(&self, rng: &mut Rng) -> Duration {
        let short = rng.chance(self.short);
        let (low, high) = match (self.patient, short) {
            (true, _) => (HOUR, 4 * HOUR),
            (_, true) => (5 * MILLI, 2 * SECOND),
            _ => (30 * SECOND, 240 * SECOND),
        };
        Duration::from_micros(rng.doubling(low, high))
    }

    /// After how long a caller gives up, if it does.
    pub(crate) fn drop_after(&self, rng: &mut Rng) -> Option<u64> {
        rng.chance(self.dropped).then(|| rng.doubling(50, 2 * SECOND))
    }

    /// How long a handler takes.
    pub(crate) fn handler_time(&self, rng: &mut Rng) -> u64 {
        if rng.chance(self.slow) {
            rng.doubling(SECOND, 20 * SECOND)
        } else {
            rng.doubling(20, self.usual)
        }
    }
}
