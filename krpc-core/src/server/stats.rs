//! What a server says of itself: its counts, its load, its partitions.
//!
//! from: [`super::machine`] · to: [`super::driver`], and whoever asks a running server

use std::time::Duration;

use super::{driver::Shared, machine::ServerMachine};
use crate::{inbox::DropCounts, time::Time};

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerCounts {
    /// Calls that got a place to run.
    pub executed: u64,
    /// Calls answered `DeadlineExceeded` without executing.
    pub expired: u64,
    /// Calls answered `PermissionDenied`, as their callers may not make them.
    pub denied: u64,
    /// Calls whose caller gave up before they were answered.
    pub cancelled: u64,
    /// Calls skipped because the committed map says that they are finished.
    pub skipped: u64,
    /// Executions that failed and are followed by another, of calls that nobody waits for.
    pub retried: u64,
    /// Delayed calls that were written anew: to wait, to whoever has them wait, or to be executed.
    pub moved: u64,
    /// Calls that nobody waits for and that failed for the last time.
    pub given_up: u64,
    /// Replies that could not be delivered until their deadline.
    pub undeliverable: u64,
    /// Calls that are in the topic of dead letters.
    pub dead_lettered: u64,
    /// Calls that should be, and could not be put there.
    pub dead_letters_failed: u64,
    /// Calls that were not begun again, for each execution may have ended its server.
    pub aborted: u64,
    /// Calls with tickets that ran although their cancels could not be read.
    pub cancels_unread: u64,
    /// Committed maps that could not be read.
    pub unreadable_maps: u64,
}

/// What a server did and does.
#[derive(Clone, Debug)]
pub struct ServerStats {
    /// Handlers that run now.
    pub running: usize,
    /// Calls that wait for a place, or for a commit that has to come first.
    pub queued: usize,
    /// Calls that wait for an earlier one of their key.
    pub keyed: usize,
    /// Calls that failed and wait to be executed again.
    pub backing_off: usize,
    /// Calls taken and not yet finished: running, waiting, or with their reply under way.
    pub unfinished: usize,
    /// Counts since the start.
    pub counts: ServerCounts,
    /// Packets sent since the start: replies under way at once share them.
    pub packets: u64,
    /// Records and frames that were dropped, by cause.
    pub dropped: Vec<(&'static str, u64)>,
    /// Partitions owned now, by service in the order of `.serve(…)`.
    pub partitions: Vec<Vec<u32>>,
    /// How far off the server may be in telling the broker's clock, by which deadlines are judged;
    /// `None` before it is known, and where the topics keep the senders' times.
    pub clock_uncertainty: Option<Duration>,
}

impl<K: Clone> ServerMachine<K> {
    /// Handlers that run, calls that wait, and how many may run.
    pub fn load(&self) -> (usize, usize, usize) {
        let queued = self.intake.queued() + self.gate.len();
        (self.intake.running(), queued, self.intake.limit())
    }

    /// Of the calls that wait, those that are to run one after the other, as each may end the
    /// server: they do not keep others from being taken.
    pub const fn in_turn(&self) -> usize {
        self.gate.in_turn()
    }

    /// Calls taken and not finished, in all partitions.
    pub fn unfinished(&self) -> usize {
        self.ledger.total_unfinished()
    }

    /// The partitions of a service that this server owns.
    pub fn owned(&self, service: u16) -> Vec<u32> {
        let service = self.services.get(usize::from(service));
        service.map(|service| service.owned.iter().copied().collect()).unwrap_or_default()
    }

    /// Counts since the start.
    pub const fn counts(&self) -> ServerCounts {
        self.counts
    }

    /// Packets sent since the start: replies share them.
    pub const fn packets(&self) -> u64 {
        self.outbox.packets()
    }

    /// Records and frames that were dropped, by cause.
    pub fn dropped(&self) -> &DropCounts {
        self.inbox.dropped()
    }

    /// Whether every packet that was sent has been reported and none waits.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_idle()
    }

    /// How far off this server may be in telling the broker's clock; `None` if it cannot at all.
    pub fn clock_uncertainty(&self, now: Time) -> Option<Duration> {
        self.clock.uncertainty(now)
    }
}

impl Shared {
    pub(super) fn stats(&self) -> ServerStats {
        let count = u16::try_from(self.services.len()).unwrap_or(u16::MAX);
        let stats = self.with(|machine, now| {
            let (running, queued, _) = machine.load();
            ServerStats {
                running,
                queued,
                keyed: machine.keys.waiting(),
                backing_off: machine.backoff.len(),
                unfinished: machine.unfinished(),
                counts: machine.counts(),
                packets: machine.packets(),
                dropped: machine.dropped().iter().collect(),
                partitions: (0..count).map(|service| machine.owned(service)).collect(),
                clock_uncertainty: machine.clock_uncertainty(now),
            }
        });
        stats.unwrap_or_else(|| ServerStats {
            running: 0,
            queued: 0,
            keyed: 0,
            backing_off: 0,
            unfinished: 0,
            counts: ServerCounts::default(),
            packets: 0,
            dropped: Vec::new(),
            partitions: Vec::new(),
            clock_uncertainty: None,
        })
    }
}
