//! What everybody in a run shares: virtual time, the queue of events, chance, the broker.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashSet},
    rc::Rc,
    sync::Arc,
};

use krpc_core::{
    ids::PartitionId,
    sealing::Sealing,
    transport::{CommitPoint, Target, Topic},
};

use crate::{
    broker::Broker,
    bugs::Bug,
    check::Check,
    faults::{Fault, MILLI, Net, Plan, SECOND},
    group::{Group, Mail, Post},
    port::Fate,
    rng::Rng,
    seals,
};

/// The true time at which every run begins, in microseconds since the Unix epoch.
pub(crate) const BEGIN: u64 = 1_800_000_000 * SECOND;

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proc {
    Client(usize),
    Server(usize),
}

/// What happens. `life` is the process's: an event for an earlier one is void.
#[derive(Debug)]
pub(crate) enum Event {
    /// A record reaches the broker.
    Append { from: Proc, life: u32, token: u64, target: Target, payload: Rc<[u8]> },
    /// A delivery report reaches the producer.
    Report { to: Proc, life: u32, token: u64, fate: Fate },
    /// A machine's timeout may be due.
    Alarm { of: Proc, life: u32 },
    /// Records may be there.
    Fetch { of: Proc, life: u32 },
    /// A client starts some calls.
    Start { client: usize, calls: u64 },
    /// A caller gives up.
    Drop { client: usize, life: u32, call: usize },
    /// A caller that was woken looks at its call's end.
    Look { client: usize, life: u32, call: usize },
    /// A handler ends.
    Done { server: usize, life: u32, key: u64 },
    /// It is time to commit.
    CommitTick { server: usize, life: u32 },
    /// Points reach the coordinator: the last ones of a release, or those of an interval (0).
    Commit { server: usize, life: u32, member: u64, points: Vec<CommitPoint>, release: u64 },
    /// Its answer: what was committed, and what was not.
    Committed { server: usize, life: u32, results: Vec<(PartitionId, bool)>, release: u64 },
    /// A server asks to be taken in.
    Join { server: usize, life: u32 },
    /// The coordinator's word to a member.
    Mail { server: usize, member: u64, mail: Mail },
    /// A member has released partitions.
    Released { member: u64, partitions: Vec<u32> },
    /// A member leaves, or was silent for a session.
    Gone { member: u64 },
    /// A release has taken long enough.
    ReleaseOver { server: usize, life: u32, release: u64 },
    /// A server learns whether it was taken for dead.
    Recover { server: usize, life: u32 },
    /// A process starts.
    Boot(Proc),
    /// Something goes wrong.
    Fault(Fault),
    /// Nothing went wrong for long enough: from here on all is as it should be.
    Settled,
}

struct Entry {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What everybody shares: time, chance, the broker, and the checkers that see all.
pub(crate) struct Ctx {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) broker: Broker,
    pub(crate) group: Group,
    pub(crate) check: Check,
    pub(crate) bug: Option<Bug>,
    /// The seal of both sides, in some runs. Not where most bugs are planted, which may change
    /// packets as no seal lets pass.
    pub(crate) seal: Option<Arc<dyn Sealing>>,
    /// Records that somebody else wrote.
    pub(crate) forged: HashSet<(Topic, u32, i64)>,
    /// When the faults stop.
    pub(crate) quiet_at: u64,
    trace: bool,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    /// When the coordinator's last word reaches each server.
    posted: Vec<u64>,
}

impl Ctx {
    /// The beginning of a run; what follows from the seed is drawn here.
    pub(crate) fn new(seed: u64, bug: Option<Bug>, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(seed, &mut rng);
        let skew = rng.range(0, 2 * plan.skew) as i64 - plan.skew as i64;
        let (calls, replies) = (plan.partitions, plan.reply_partitions);
        Self {
            now: BEGIN,
            broker: Broker::new(skew, plan.stamps, calls, replies),
            group: Group::new(calls),
            check: Check::new(&plan),
            bug,
            seal: if plan.sealed && bug.is_none_or(Bug::is_sealed) { seals::seal() } else { None },
            forged: HashSet::new(),
            quiet_at: BEGIN + plan.active,
            trace,
            queue: BinaryHeap::new(),
            order: 0,
            posted: vec![BEGIN; plan.servers],
            rng,
            plan,
        }
    }

    /// Lets the next event happen: time goes on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse(Entry { at, event, .. }) = self.queue.pop()?;
        self.now = at;
        Some(event)
    }

    /// Whether this goes wrong now.
    pub(crate) fn unlucky(&mut self, which: impl Fn(&Net) -> u64) -> bool {
        let bad = self.rng.chance(which(&self.plan.net));
        bad && self.now < self.quiet_at
    }

    /// How long a message takes.
    pub(crate) fn latency(&mut self) -> u64 {
        if self.unlucky(|net| net.slow) {
            self.rng.doubling(10 * MILLI, SECOND)
        } else {
            self.rng.range(100, 3 * MILLI)
        }
    }

    /// How far some clock is off.
    pub(crate) fn skew(&mut self) -> i64 {
        let most = self.plan.skew;
        self.rng.range(0, 2 * most) as i64 - most as i64
    }

    /// Something will happen.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), order: self.order, event }));
    }

    /// The coordinator's words are on their way.
    pub(crate) fn post(&mut self, posts: Vec<Post>) {
        for (server, member, mail) in posts {
            let at = (self.now + self.latency()).max(self.posted[server] + 1);
            self.posted[server] = at;
            self.at(at, Event::Mail { server, member, mail });
        }
    }

    /// Says what happens, if somebody wants to know.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            let micros = self.now - BEGIN;
            println!("{:4}.{:06} {}", micros / SECOND, micros % SECOND, what());
        }
    }
}
