//! Which partitions a server owns: taken, lost, given back in good order; and what is committed of
//! them.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::driver`], for the transport's assignments · to: [`super::ledger`]

use super::{ledger::CommitPoint, machine::ServerMachine};
use crate::{ids::PartitionId, time::Time};

impl<K: Clone> ServerMachine<K> {
    /// Partitions this server now owns, with what the group has committed.
    pub fn handle_assigned(
        &mut self,
        partitions: &[(PartitionId, Option<(i64, String)>)],
        now: Time,
    ) {
        for (partition, committed) in partitions {
            self.let_go(*partition);
            let Some(service) = self.services.get_mut(usize::from(partition.service)) else {
                continue;
            };
            self.releasing.remove(partition);
            self.inbox.reset(*partition);
            let committed = committed.as_ref().map(|(offset, map)| (*offset, map.as_str()));
            if self.ledger.assign(*partition, committed).is_err() {
                self.counts.unreadable_maps += 1;
            }
            if self.retired {
                self.releasing.insert(*partition, 0);
            } else {
                service.owned.insert(partition.partition);
            }
        }
        self.announce_everywhere(now);
    }

    /// Partitions that somebody else may own already: their calls are not finished here.
    pub fn handle_lost(&mut self, partitions: &[PartitionId], now: Time) {
        for partition in partitions {
            self.let_go(*partition);
            self.ledger.lose(*partition);
            self.disown(*partition);
        }
        self.announce_everywhere(now);
    }

    /// Partitions are to be given back: nothing more of them starts.
    pub fn release(&mut self, partitions: &[PartitionId]) {
        for partition in partitions {
            if self.ledger.is_assigned(*partition) {
                let left = self.forget_waiting(*partition);
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
        self.release(&partitions);
        self.announce_everywhere(now);
        partitions
    }

    /// Whether partitions are on their way out.
    pub fn is_releasing(&self) -> bool {
        !self.releasing.is_empty()
    }

    /// Whether nothing of these partitions runs or waits for its reply's delivery.
    pub fn is_released(&self, partitions: &[PartitionId]) -> bool {
        partitions.iter().all(|partition| {
            let left = self.releasing.get(partition).copied().unwrap_or_default();
            self.ledger.unfinished(*partition) <= left
        })
    }

    /// Ends the release: the partitions are no longer owned, and these points are to be committed.
    pub fn take_released(&mut self, partitions: &[PartitionId], now: Time) -> Vec<CommitPoint> {
        let points = partitions.iter().filter_map(|partition| self.ledger.revoke(*partition));
        let points = points.collect();
        for partition in partitions {
            self.disown(*partition);
        }
        self.announce_everywhere(now);
        points
    }

    /// What may be committed now and was not handed out before.
    pub fn poll_commit(&mut self) -> Vec<CommitPoint> {
        self.ledger.commit_points()
    }

    /// Whether [`ServerMachine::poll_commit`] has something to say.
    pub fn has_commits(&self) -> bool {
        self.ledger.has_changes()
    }

    /// A commit failed: the point is handed out again.
    pub fn handle_commit_failed(&mut self, partition: PartitionId) {
        self.ledger.commit_failed(partition);
    }

    /// Without a word: whoever owns it now may run its calls already.
    fn let_go(&mut self, partition: PartitionId) {
        self.forget_waiting(partition);
        self.cut_off(&[partition]);
        self.forget_keys(partition);
    }

    fn disown(&mut self, partition: PartitionId) {
        self.releasing.remove(&partition);
        self.inbox.forget(partition);
        self.burials.forget(partition);
        self.forget_keys(partition);
        if let Some(service) = self.services.get_mut(usize::from(partition.service)) {
            service.owned.remove(&partition.partition);
        }
    }
}
