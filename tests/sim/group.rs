//! The model coordinator of the worker group: members, cooperative assignment, commits.
//!
//! A partition that moves stays with its owner until that has released it, as with
//! `cooperative-sticky`; a member that is not heard of for a session loses all it has.

use krpc_core::{ids::PartitionId, transport::CommitPoint, wire::MAX_MAP_CHARS};

/// What is committed for a partition: the next offset and its metadata.
pub(crate) type Committed = Option<(i64, String)>;

/// What the coordinator tells a member. Messages for one member keep their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mail {
    /// These are yours.
    Assign(Vec<u32>),
    /// Release these.
    Revoke(Vec<u32>),
}

/// The group of one service's calls topic.
#[derive(Debug)]
pub(crate) struct Group {
    members: Vec<Member>,
    next: u64,
    seats: Vec<Seat>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    id: u64,
    server: usize,
}

#[derive(Clone, Debug, Default)]
struct Seat {
    owner: Option<u64>,
    /// Its owner was asked to release it.
    moving: bool,
    committed: Committed,
}

/// For a member on this server: a message.
pub(crate) type Post = (usize, u64, Mail);

impl Group {
    /// A group without members.
    pub(crate) fn new(partitions: u32) -> Self {
        Self { members: Vec::new(), next: 1, seats: vec![Seat::default(); partitions as usize] }
    }

    /// Takes a server in; its number as a member, and what is to be said to whom.
    pub(crate) fn join(&mut self, server: usize) -> (u64, Vec<Post>) {
        let id = self.next;
        self.next += 1;
        self.members.push(Member { id, server });
        (id, self.rebalance())
    }

    /// A member is gone, by its own word or for its silence.
    pub(crate) fn remove(&mut self, member: u64) -> Vec<Post> {
        if !self.is_member(member) {
            return Vec::new();
        }
        self.members.retain(|other| other.id != member);
        for seat in self.seats.iter_mut().filter(|seat| seat.owner == Some(member)) {
            (seat.owner, seat.moving) = (None, false);
        }
        self.rebalance()
    }

    /// A member has released what it was asked to.
    pub(crate) fn released(&mut self, member: u64, partitions: &[u32]) -> Vec<Post> {
        for partition in partitions {
            let seat = &mut self.seats[*partition as usize];
            if seat.owner == Some(member) && seat.moving {
                (seat.owner, seat.moving) = (None, false);
            }
        }
        self.rebalance()
    }

    /// Commits a point if the member owns the partition and the broker takes the metadata.
    pub(crate) fn commit(&mut self, member: u64, point: &CommitPoint) -> bool {
        let PartitionId { partition, .. } = point.partition;
        let owned = self.owns(member, partition);
        let fits = point.metadata.chars().count() <= MAX_MAP_CHARS;
        if owned && fits {
            let committed = Some((point.offset, point.metadata.clone()));
            self.seats[partition as usize].committed = committed;
        }
        owned && fits
    }

    /// Whether a partition is a member's.
    pub(crate) fn owns(&self, member: u64, partition: u32) -> bool {
        self.seats[partition as usize].owner == Some(member)
    }

    /// Whether a member is (still) one.
    pub(crate) fn is_member(&self, member: u64) -> bool {
        self.members.iter().any(|other| other.id == member)
    }

    /// Whether partitions are on their way from one member to another.
    pub(crate) fn is_settling(&self) -> bool {
        self.seats.iter().any(|seat| seat.moving)
    }

    /// What is committed for a partition.
    pub(crate) fn committed(&self, partition: u32) -> &Committed {
        &self.seats[partition as usize].committed
    }

    /// Evens out who owns what: keeps what balance allows, asks for the rest, gives away what
    /// nobody has.
    fn rebalance(&mut self) -> Vec<Post> {
        if self.members.is_empty() {
            return Vec::new();
        }
        let mut posts = Vec::new();
        let (share, extra) =
            (self.seats.len() / self.members.len(), self.seats.len() % self.members.len());
        let mut members = self.members.clone();
        members.sort_by_key(|member| (usize::MAX - self.held(member.id), member.id));
        for (place, member) in members.iter().enumerate() {
            let quota = share + usize::from(place < extra);
            let held = self.numbers(|seat| seat.owner == Some(member.id) && !seat.moving);
            let revoked = held.get(quota..).unwrap_or_default().to_vec();
            revoked.iter().for_each(|number| self.seats[*number as usize].moving = true);
            if !revoked.is_empty() {
                posts.push((member.server, member.id, Mail::Revoke(revoked)));
            }
        }
        let mut given = vec![Vec::new(); members.len()];
        for number in self.numbers(|seat| seat.owner.is_none()) {
            let least = (0..members.len()).min_by_key(|place| self.held(members[*place].id));
            let place = least.expect("the group has members");
            self.seats[number as usize].owner = Some(members[place].id);
            given[place].push(number);
        }
        for (member, given) in members.iter().zip(given) {
            if !given.is_empty() {
                posts.push((member.server, member.id, Mail::Assign(given)));
            }
        }
        posts
    }

    fn held(&self, member: u64) -> usize {
        self.seats.iter().filter(|seat| seat.owner == Some(member) && !seat.moving).count()
    }

    fn numbers(&self, which: impl Fn(&Seat) -> bool) -> Vec<u32> {
        let numbered = (0..).zip(&self.seats);
        numbered.filter(|(_, seat)| which(seat)).map(|(number, _)| number).collect()
    }
}
