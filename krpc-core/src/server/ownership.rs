//! Which partitions a server owns: taken, lost, given back in good order; and what is committed of
//! them.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::driver`], for the transport's assignments · to: [`super::ledger`]

use super::{
    incoming::{Call, Origin},
    intake::{Fate, Stage},
    ledger::CommitPoint,
    machine::ServerMachine,
};
use crate::{
    ids::PartitionId,
    metadata::Metadata,
    status::{Code, Status},
    time::Time,
    transport::Record,
    wire::frame::Outcome,
};

impl<K: Clone> ServerMachine<K> {
    /// Partitions this server now owns, with what the group has committed.
    pub fn handle_assigned(
        &mut self,
        partitions: &[(PartitionId, Option<(i64, String)>)],
        now: Time,
    ) {
        let brokers = self.clock.to_broker(now);
        // Should the group have forgotten the last fence, time has not.
        let fence = brokers.unwrap_or(now).as_micros() / 1_000;
        let doubt = self.clock.uncertainty(now).unwrap_or_default();
        for (partition, committed) in partitions {
            self.let_go(*partition, now);
            let Some(service) = self.services.get_mut(usize::from(partition.service)) else {
                continue;
            };
            self.releasing.remove(partition);
            self.inbox.reset(*partition);
            let committed = committed.as_ref().map(|(offset, map)| (*offset, map.as_str()));
            let before = self.ledger.assign(*partition, committed, fence);
            self.counts.unreadable_maps += u64::from(before.is_err());
            let before = before.unwrap_or_default();
            let held = before.held.clone();
            self.gate.open(*partition, before, brokers.map(|at| at + doubt));
            if self.retired {
                self.releasing.insert(*partition, 0);
            } else {
                service.owned.insert(partition.partition);
                self.handle_mover(*partition, &held, now);
            }
        }
        self.announce_everywhere(now);
    }

    /// Partitions that somebody else may own already: their calls are not finished here.
    pub fn handle_lost(&mut self, partitions: &[PartitionId], now: Time) {
        for partition in partitions {
            self.let_go(*partition, now);
            self.ledger.lose(*partition);
            self.disown(*partition, now);
        }
        self.announce_everywhere(now);
    }

    /// The fence of a partition of which records are taken: it is owned, and not on its way out.
    pub(super) fn fence(&self, partition: PartitionId) -> Option<u64> {
        self.ledger.fence(partition).filter(|_| !self.releasing.contains_key(&partition))
    }

    /// Partitions are to be given back: nothing more of them starts.
    pub fn release(&mut self, partitions: &[PartitionId], now: Time) {
        for partition in partitions {
            if self.ledger.is_assigned(*partition) {
                let left = self.gate.release(*partition) + self.forget_waiting(*partition, now);
                *self.releasing.entry(*partition).or_default() += left;
            }
        }
    }

    /// The server is to end: nothing more starts, and clients learn that there is no use in
    /// choosing it. Returns the partitions it owned.
    pub fn retire(&mut self, now: Time) -> Vec<PartitionId> {
        self.retired = true;
        let mut partitions = Vec::new();
        for (service, served) in (0..).zip(&mut self.services) {
            let owned = std::mem::take(&mut served.owned);
            partitions
                .extend(owned.into_iter().map(|partition| PartitionId { service, partition }));
        }
        self.release(&partitions, now);
        self.announce_everywhere(now);
        partitions
    }

    /// Whether partitions are on their way out, or the server is.
    pub fn is_ending(&self) -> bool {
        self.retired || !self.releasing.is_empty()
    }

    /// Whether nothing of these partitions runs or waits for its reply's delivery.
    pub fn is_released(&self, partitions: &[PartitionId]) -> bool {
        partitions.iter().all(|partition| {
            let left = self.releasing.get(partition).copied().unwrap_or_default();
            self.ledger.unfinished(*partition) <= left && !self.delays.moves(*partition)
        })
    }

    /// Ends the release: the partitions are no longer owned, and these points are to be committed.
    pub fn take_released(&mut self, partitions: &[PartitionId], now: Time) -> Vec<CommitPoint> {
        let points = partitions.iter().filter_map(|partition| self.ledger.revoke(*partition));
        let points = points.collect();
        for partition in partitions {
            self.disown(*partition, now);
        }
        self.announce_everywhere(now);
        points
    }

    /// The server ends, and its handlers with it: of at-most-once calls that still run nobody will
    /// learn how far they came.
    pub fn abandon(&mut self, now: Time) {
        self.give_up_early(|_| true, now);
    }

    /// Handlers of at-most-once calls are cut off, and nobody executes these calls again.
    pub(super) fn give_up_early(&mut self, which: impl Fn(&Origin) -> bool, now: Time) {
        let mut cut_off = Vec::new();
        for (origin, running) in self.intake.each_running().filter(|(origin, _)| which(origin)) {
            if running.fate == Fate::Wanted && self.ledger.is_early(origin.position) {
                running.fate = Fate::Left;
                self.cancels.push_back(running.cancel.clone());
                cut_off.push(*origin);
            }
        }
        for origin in cut_off {
            let status = Status::outcome_unknown("the server gave the call up while it ran");
            self.reply(&origin, Outcome::Status(status), &Metadata::new(), now);
        }
    }

    /// What is to be committed now and was not handed out before. The answer goes to
    /// [`handle_committed`](Self::handle_committed) before this is asked again.
    pub fn poll_commit(&mut self) -> Vec<CommitPoint> {
        self.gate.poll_commit(&mut self.ledger);
        self.ledger.commit_points()
    }

    /// Whether [`ServerMachine::poll_commit`] has something to say.
    pub fn has_commits(&self) -> bool {
        self.gate.wants_commit() || self.ledger.has_changes()
    }

    /// Whether somebody waits for a commit: then the next one is made without a pause.
    pub const fn awaits_commit(&self) -> bool {
        self.gate.awaits_commit()
    }

    /// Of which partitions the points were committed, and of which not: the latter are handed out
    /// again. Afterwards [`ServerMachine::poll_dispatch`] until empty.
    pub fn handle_committed(&mut self, results: &[(PartitionId, bool)], now: Time) {
        for (partition, made) in results {
            if !made {
                self.ledger.commit_failed(*partition);
                continue;
            }
            let releasing = self.releasing.contains_key(partition);
            let covered = self.ledger.covered(*partition);
            let passed = self.gate.handle_committed(*partition, covered);
            self.ripe |= !passed.is_empty() || self.gate.has_doomed();
            for call in passed {
                if releasing {
                    self.not_executed(&call.origin, now);
                } else {
                    self.intake.list(&call.origin, Stage::Queued);
                    self.intake.offer(call);
                }
            }
        }
    }

    /// A record of so many calls came: whether a predecessor may have died of one of them.
    #[cold]
    pub(super) fn is_doubted(&mut self, record: &Record, calls: u32) -> bool {
        let partition = record.partition;
        let doubted = self.gate.doubts(partition, record.appended, calls);
        if !doubted {
            self.ledger.trust(partition, record.offset);
        }
        doubted
    }

    /// A call that has to be shown to the gate.
    #[cold]
    pub(super) fn enter_gate(&mut self, call: Call) {
        let origin = call.origin;
        match self.gate.hold(call) {
            Some(call) => self.intake.offer(call),
            None => self.intake.list(&origin, Stage::Gated),
        }
    }

    /// Calls that were begun as often as is allowed.
    #[inline]
    pub(super) fn condemn_doomed(&mut self, now: Time) {
        while let Some(call) = self.gate.poll_doomed() {
            self.intake.unlist(&call.origin);
            self.counts.aborted += 1;
            let times = call.begins;
            let message = format!("its execution ended its server {times} times; given up");
            let status = Status::new(Code::Aborted, message).with_retryable(false);
            self.condemn(&call, times, status, now);
            self.pass_on(&call.origin);
        }
    }

    /// Answers an at-most-once call that nobody will execute any more.
    pub(super) fn not_executed(&mut self, origin: &Origin, now: Time) {
        let message = "the server gave the call's partition back before it began; not executed";
        let status = Status::new(Code::Unavailable, message);
        self.reply(origin, Outcome::Status(status), &Metadata::new(), now);
    }

    /// At-most-once calls that a commit names which may have been made, or not.
    fn close_gate(&mut self, partition: PartitionId, now: Time) {
        for origin in self.gate.close(partition) {
            let message = "the server lost the call's partition before it could begin, and the \
                           next one may execute it or not";
            let status = Status::outcome_unknown(message);
            self.reply(&origin, Outcome::Status(status), &Metadata::new(), now);
        }
    }

    /// Without a word: whoever owns it now may run its calls already.
    fn let_go(&mut self, partition: PartitionId, now: Time) {
        self.forget_waiting(partition, now);
        self.close_gate(partition, now);
        self.cut_off(&[partition], now);
        self.forget_keys(partition);
    }

    fn disown(&mut self, partition: PartitionId, now: Time) {
        self.close_gate(partition, now);
        self.releasing.remove(&partition);
        self.inbox.forget(partition);
        self.burials.forget(partition);
        self.dismiss_mover(partition);
        self.forget_keys(partition);
        if let Some(service) = self.services.get_mut(usize::from(partition.service)) {
            service.owned.remove(&partition.partition);
        }
    }
}
