//! A worker group of the in-process broker on one calls topic: who owns which partition, who
//! shall, and what is committed.
//!
//! The assignment is cooperative and incremental, as `cooperative-sticky` is: a rebalance moves
//! as few partitions as balance allows, and a partition that moves stays with its owner until
//! that has released it.

use std::sync::Arc;

use tokio::sync::Notify;

use super::assign::plan;
use crate::ids::PartitionId;

/// Characters of a committed offset's metadata, as Kafka's `offset.metadata.max.bytes` has it.
pub(super) const MAX_METADATA_CHARS: usize = 4096;

/// A server within a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its number within the broker.
    pub(super) side: u64,
    /// Its index for the service whose calls topic this is.
    pub(super) service: u16,
    /// Told when there is something to poll.
    pub(super) wake: Arc<Notify>,
}

/// What the group has committed for a partition: the next offset and its metadata.
pub(super) type Committed = Option<(i64, String)>;

/// Handles joins, leaves and releases; polled by each member for what it gains and loses.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
    members: Vec<Member>,
    seats: Vec<Seat>,
}

/// One partition as the group sees it.
#[derive(Debug, Default)]
struct Seat {
    owner: Option<Member>,
    target: Option<Member>,
    phase: Phase,
    next: i64,
    committed: Committed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// The owner does not know yet.
    #[default]
    Granted,
    /// The owner reads.
    Reading,
    /// The owner was asked to release and has not finished.
    Releasing,
}

impl Seat {
    fn owned_by(&self, side: u64) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.side == side)
    }

    fn aimed_at(&self, side: u64) -> bool {
        self.target.as_ref().is_some_and(|target| target.side == side)
    }

    fn must_move(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| !self.aimed_at(owner.side))
    }

    /// Gives a partition that nobody uses to whoever shall have it.
    fn hand_over(&mut self) {
        self.owner = self.target.clone();
        self.phase = Phase::Granted;
    }

    /// Who should keep it if balance allows: its owner, or on its way the one it goes to.
    fn holder(&self) -> Option<u64> {
        let moving = self.phase == Phase::Releasing;
        let holder = if moving { &self.target } else { &self.owner };
        holder.as_ref().map(|member| member.side)
    }
}

impl Group {
    /// A group without members.
    pub(super) fn new(name: &str, partitions: usize) -> Self {
        let seats = (0..partitions).map(|_| Seat::default()).collect();
        Self { name: name.to_owned(), members: Vec::new(), seats }
    }

    /// The group's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is committed for a partition.
    pub(super) fn committed(&self, partition: usize) -> &Committed {
        self.seats.get(partition).map_or(&None, |seat| &seat.committed)
    }

    /// Whether a member owns a partition, told or not.
    pub(super) fn owns_any(&self, side: u64) -> bool {
        self.seats.iter().any(|seat| seat.owned_by(side))
    }

    /// Adds a member; a second time changes nothing.
    pub(super) fn handle_join(&mut self, member: Member) {
        if self.members.iter().all(|other| other.side != member.side) {
            self.members.push(member);
            self.rebalance();
        }
    }

    /// A member wants no partitions any more; those it has, it keeps until it releases them.
    pub(super) fn handle_leave(&mut self, side: u64) {
        self.members.retain(|member| member.side != side);
        self.rebalance();
    }

    /// A member is gone: its partitions are free at once.
    pub(super) fn handle_crash(&mut self, side: u64) {
        self.seats.iter_mut().filter(|seat| seat.owned_by(side)).for_each(|seat| seat.owner = None);
        self.handle_leave(side);
    }

    /// A member has finished with a partition that [`Self::poll_revoked`] named.
    pub(super) fn handle_released(&mut self, side: u64, partition: usize) {
        let Some(seat) = self.seats.get_mut(partition).filter(|seat| seat.owned_by(side)) else {
            return;
        };
        seat.hand_over();
        if let Some(owner) = &seat.owner {
            owner.wake.notify_one();
        }
    }

    /// Stores a point.
    ///
    /// # Errors
    /// Not the owner's, or not storable; nothing changed.
    pub(super) fn commit(
        &mut self,
        side: u64,
        partition: usize,
        offset: i64,
        metadata: String,
    ) -> Result<(), String> {
        let seat = self
            .seats
            .get_mut(partition)
            .filter(|seat| seat.owned_by(side) && seat.phase != Phase::Granted)
            .ok_or_else(|| format!("partition {partition} is not owned by this member"))?;
        if offset < 0 {
            return Err(format!("offset {offset} is negative"));
        }
        if metadata.chars().count() > MAX_METADATA_CHARS {
            return Err(format!("metadata is longer than {MAX_METADATA_CHARS} characters"));
        }
        seat.committed = Some((offset, metadata));
        Ok(())
    }

    /// Partitions that a member owns since the last poll, each read from its committed offset.
    pub(super) fn poll_assigned(&mut self, side: u64) -> Vec<(PartitionId, Committed)> {
        let granted = |seat: &Seat| seat.owned_by(side) && seat.phase == Phase::Granted;
        let mut assigned = Vec::new();
        for (partition, seat) in (0..).zip(&mut self.seats).filter(|(_, seat)| granted(seat)) {
            seat.phase = Phase::Reading;
            seat.next = seat.committed.as_ref().map_or(0, |(offset, _)| *offset);
            let service = seat.owner.as_ref().map_or(0, |owner| owner.service);
            assigned.push((PartitionId { service, partition }, seat.committed.clone()));
        }
        assigned
    }

    /// Partitions that a member shall release since the last poll.
    pub(super) fn poll_revoked(&mut self, side: u64) -> Vec<PartitionId> {
        let leaving =
            |seat: &Seat| seat.owned_by(side) && seat.phase == Phase::Reading && seat.must_move();
        let mut revoked = Vec::new();
        for (partition, seat) in (0..).zip(&mut self.seats).filter(|(_, seat)| leaving(seat)) {
            seat.phase = Phase::Releasing;
            let service = seat.owner.as_ref().map_or(0, |owner| owner.service);
            revoked.push(PartitionId { service, partition });
        }
        revoked
    }

    /// The read position of each partition that a member reads, to be moved on. They begin at
    /// another one each `turn`.
    pub(super) fn poll_positions(
        &mut self,
        side: u64,
        turn: usize,
    ) -> impl Iterator<Item = (PartitionId, &mut i64)> {
        let first = turn % self.seats.len().max(1);
        let (before, from) = self.seats.split_at_mut(first);
        let seats = (first..).zip(from).chain((0..).zip(before));
        seats.filter_map(move |(partition, seat)| {
            let owner = seat.owner.as_ref().filter(|owner| owner.side == side)?;
            let id = PartitionId { service: owner.service, partition: partition.try_into().ok()? };
            (seat.phase == Phase::Reading).then_some((id, &mut seat.next))
        })
    }

    /// Wakes the owner of a partition: it has a new record.
    pub(super) fn wake_owner(&self, partition: usize) {
        if let Some(owner) = self.seats.get(partition).and_then(|seat| seat.owner.as_ref()) {
            owner.wake.notify_one();
        }
    }

    /// Aims every partition at a member, gives away those that nobody uses, and wakes everybody
    /// who has to act.
    fn rebalance(&mut self) {
        let members: Vec<_> = self.members.iter().map(|member| member.side).collect();
        let holders: Vec<_> = self.seats.iter().map(Seat::holder).collect();
        let plan = plan(&holders, &members);
        for (seat, target) in self.seats.iter_mut().zip(plan) {
            seat.target = target.and_then(|index| self.members.get(index).cloned());
            let untold = seat.phase == Phase::Granted && seat.must_move();
            if seat.owner.is_none() || untold {
                seat.hand_over();
            }
            let acts = seat.phase == Phase::Granted || seat.must_move();
            if let Some(owner) = seat.owner.as_ref().filter(|_| acts) {
                owner.wake.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn member(side: u64) -> Member {
        Member { side, service: 0, wake: Arc::new(Notify::new()) }
    }

    fn numbers(partitions: &[PartitionId]) -> Vec<usize> {
        partitions.iter().map(|id| usize::try_from(id.partition).unwrap()).collect()
    }

    fn assigned(group: &mut Group, side: u64) -> Vec<usize> {
        let ids: Vec<_> = group.poll_assigned(side).into_iter().map(|(id, _)| id).collect();
        numbers(&ids)
    }

    fn release(group: &mut Group, side: u64) -> Vec<usize> {
        let revoked = numbers(&group.poll_revoked(side));
        revoked.iter().for_each(|partition| group.handle_released(side, *partition));
        revoked
    }

    fn group_of(sides: &[u64], partitions: usize) -> Group {
        let mut group = Group::new("g", partitions);
        sides.iter().for_each(|side| group.handle_join(member(*side)));
        sides.iter().for_each(|side| drop(assigned(&mut group, *side)));
        group
    }

    #[test]
    fn a_partition_moves_only_when_it_is_released() {
        let mut group = group_of(&[1], 4);
        group.handle_join(member(2));
        assert!(assigned(&mut group, 2).is_empty());
        let moving = numbers(&group.poll_revoked(1));
        assert_eq!(moving.len(), 2);
        assert_eq!(group.poll_revoked(1), [], "asked once");
        group.handle_released(1, moving[0]);
        assert_eq!(assigned(&mut group, 2), [moving[0]]);
        group.handle_released(1, moving[1]);
        assert_eq!(assigned(&mut group, 2), [moving[1]]);
        assert_eq!(group.poll_positions(1, 0).count(), 2);
    }

    #[test]
    fn a_partition_whose_new_owner_vanished_comes_back() {
        let mut group = group_of(&[1], 4);
        group.handle_join(member(2));
        let moving = numbers(&group.poll_revoked(1));
        group.handle_crash(2);
        moving.iter().for_each(|partition| group.handle_released(1, *partition));
        assert_eq!(assigned(&mut group, 1), moving);
    }

    #[test]
    fn a_partition_on_its_way_goes_on() {
        let mut group = Group::new("g", 6);
        for side in [1, 2, 3] {
            group.handle_join(member(side));
            (1..=side).for_each(|other| drop(release(&mut group, other)));
            (1..=side).for_each(|other| drop(assigned(&mut group, other)));
        }
        group.handle_join(member(4));
        let moving: Vec<_> = (1..4).map(|side| numbers(&group.poll_revoked(side))).collect();
        let from = (1..4).zip(&moving).find(|(_, moving)| !moving.is_empty()).unwrap();
        let (owner, partition) = (from.0, from.1[0]);
        // Now there is room for it where it was, but its owner has stopped using it.
        group.handle_crash(if owner == 1 { 2 } else { 1 });
        group.handle_released(owner, partition);
        assert!(!assigned(&mut group, owner).contains(&partition));
        assert!(assigned(&mut group, 4).contains(&partition));
    }

    #[test]
    fn a_revocation_not_yet_polled_is_taken_back() {
        let mut group = group_of(&[1], 4);
        group.handle_join(member(2));
        group.handle_crash(2);
        assert_eq!(group.poll_revoked(1), []);
        assert_eq!(group.poll_positions(1, 0).count(), 4);
    }

    #[test]
    fn a_grant_not_yet_polled_goes_on_without_release() {
        let mut group = Group::new("g", 2);
        group.handle_join(member(1));
        group.handle_join(member(2));
        assert_eq!(group.poll_revoked(1), []);
        assert_eq!(assigned(&mut group, 1).len(), 1);
        assert_eq!(assigned(&mut group, 2).len(), 1);
    }

    #[test]
    fn a_leaver_keeps_its_partitions_until_it_releases_them() {
        let mut group = group_of(&[1, 2], 4);
        group.handle_leave(1);
        assert!(group.owns_any(1));
        assert!(assigned(&mut group, 2).is_empty());
        assert_eq!(release(&mut group, 1).len(), 2);
        assert!(!group.owns_any(1));
        assert_eq!(assigned(&mut group, 2).len(), 2);
    }

    #[test]
    fn the_last_to_leave_leaves_the_points() {
        let mut group = group_of(&[1], 2);
        group.commit(1, 1, 7, "map".into()).unwrap();
        group.handle_leave(1);
        assert_eq!(release(&mut group, 1), [0, 1]);
        group.handle_join(member(2));
        let points: Vec<_> = group.poll_assigned(2).into_iter().map(|(_, point)| point).collect();
        assert_eq!(points, [None, Some((7, "map".into()))]);
        assert_eq!(group.poll_positions(2, 0).map(|(_, next)| *next).collect::<Vec<_>>(), [0, 7]);
    }

    #[test]
    fn only_the_owner_commits_and_only_what_fits() {
        let mut group = group_of(&[1], 1);
        group.handle_join(member(2));
        let longest = "m".repeat(MAX_METADATA_CHARS);
        group.commit(1, 0, 1, longest.clone()).unwrap();
        group.commit(1, 0, 2, longest.clone() + "m").unwrap_err();
        group.commit(1, 0, -1, String::new()).unwrap_err();
        group.commit(2, 0, 2, String::new()).unwrap_err();
        group.commit(1, 9, 2, String::new()).unwrap_err();
        assert_eq!(*group.committed(0), Some((1, longest)));
    }
}
