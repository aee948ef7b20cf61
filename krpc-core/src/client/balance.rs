//! Which partition an unkeyed call goes to: it chooses a *server*, not a partition.
//!
//! Servers say which partitions they own ([`Announce`]). A call goes to the server with the
//! least outstanding work, so that one ten times slower than another gets a tenth of the calls;
//! all calls for one server use one of its partitions, its *lane*, so that packets are well
//! filled. Clients pick different lanes of a server, as their seeds differ.
//!
//! Partitions of which nothing was ever heard count as one more server, taken in rotation: a client
//! that has just come finds all servers with its first burst. Partitions that lost their owner, or
//! let a call expire, only get a call now and then: its answer shows who is there. Such a probe
//! never joins another call that waits in the same partition, so a partition that nobody serves
//! holds one call of this client, not a share of all.
//!
//! from: [`client::machine`](crate::client::machine): calls to place, answers, announcements
//! to: the same, with a partition; it goes to the [`outbox`](crate::outbox)

use crate::{ids::InstanceId, wire::frame::Announce};

/// One call in this many is a probe of a partition whose owner is not known.
pub const PROBE_EVERY: u32 = 64;

/// Unanswered calls of one server that expire in a row before it is taken for gone.
pub const SILENT_EXPIRIES: u32 = 3;

/// Partitions that a probe looks at to find one without a waiting call: bounds its cost.
const PROBE_SEARCH: usize = 16;

/// The choice of partitions of one calls topic by one client.
///
/// Families: `handle_announce`, `finished`, `abandoned` take what happened; `choose` and
/// `choose_other` decide.
#[derive(Clone, Debug)]
pub struct Balance {
    /// By partition.
    lanes: Vec<Lane>,
    /// Never more than there are partitions, for each owns at least one.
    servers: Vec<Server>,
    /// The partitions without a known owner, ascending.
    unowned: Vec<u32>,
    /// Those of them of which nothing was ever heard.
    strange: Vec<u32>,
    seed: u64,
    outstanding: usize,
    /// The server to begin with, so that equal ones take turns.
    turn: usize,
    /// The same in `unowned`.
    probe_turn: usize,
    /// Calls since the last probe.
    since_probe: u32,
}

/// One partition.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// Index into `servers`.
    owner: Option<usize>,
    outstanding: usize,
    /// It had an owner once, or let a call expire.
    known: bool,
}

/// One server that is known to be there.
#[derive(Clone, Debug)]
struct Server {
    instance: InstanceId,
    /// Ascending, never empty.
    partitions: Vec<u32>,
    /// The partition that calls for this server go to.
    lane: u32,
    /// Of all its partitions.
    outstanding: usize,
    /// Calls that expired since its last sign of life.
    silent: u32,
    queued: u32,
    running: u32,
    limit: u32,
    /// The share of `limit` in use, in 1/65,536.
    load: u64,
}

/// What is known of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerView {
    /// The server.
    pub instance: InstanceId,
    /// How many partitions it owns.
    pub partitions: usize,
    /// Calls of this client that wait in these partitions.
    pub outstanding: usize,
    /// As it last announced: calls of anyone that wait for a place.
    pub queued: u32,
    /// As it last announced: calls of anyone whose handlers run.
    pub running: u32,
    /// As it last announced: how many handlers may run at once; zero if it never did.
    pub limit: u32,
}

impl Balance {
    /// For a topic of this many partitions, at least one; `seed` differs from client to client.
    pub fn new(partitions: u32, seed: u64) -> Self {
        let count = partitions.max(1);
        Self {
            lanes: (0..count).map(|_| Lane::default()).collect(),
            servers: Vec::new(),
            unowned: (0..count).collect(),
            strange: (0..count).collect(),
            seed,
            outstanding: 0,
            turn: 0,
            probe_turn: usize::try_from(seed % u64::from(count)).unwrap_or(0),
            since_probe: 0,
        }
    }

    /// The partition for the next call, which counts as outstanding there until
    /// [`finished`](Self::finished) or [`abandoned`](Self::abandoned) is told about it.
    pub fn choose(&mut self) -> u32 {
        let partition = if self.servers.is_empty() {
            self.next_unowned()
        } else {
            self.probe().unwrap_or_else(|| self.least())
        };
        self.take(partition);
        partition
    }

    /// The same for a call that waits in this partition already: the least of the other servers,
    /// or where one may be of which nothing was heard; if there is neither, as
    /// [`choose`](Self::choose) says.
    pub fn choose_other(&mut self, partition: u32) -> u32 {
        let owner = self.lanes.get(partition as usize).and_then(|lane| lane.owner);
        let others = (0..).zip(&self.servers).filter(|(index, _)| Some(*index) != owner);
        let least = others.min_by_key(|(_, server)| server.work());
        let other = match least.map(|(_, server)| server.lane) {
            Some(lane) => lane,
            None if self.strange.iter().any(|strange| *strange != partition) => {
                let next = self.next_strange();
                if next == partition { self.next_strange() } else { next }
            }
            None => return self.choose(),
        };
        self.take(other);
        other
    }

    /// The answer to a call of this partition came, from this server if that is known.
    pub fn finished(&mut self, partition: u32, answered_by: Option<InstanceId>) {
        let Some(owner) = self.settle(partition) else { return };
        match (owner, answered_by) {
            (Some(owner), None) => self.servers[owner].silent = 0,
            (Some(owner), Some(by)) if self.servers[owner].instance == by => {
                self.servers[owner].silent = 0;
            }
            // A former owner's late answer says nothing, unless the present one seems gone.
            (Some(owner), Some(by)) if self.servers[owner].silent == 0 => self.is_alive(by),
            (_, Some(by)) => {
                self.is_alive(by);
                self.learn(partition, by);
            }
            (None, None) => {}
        }
    }

    /// A call of this partition ended without an answer: its deadline passed (`expired`), or the
    /// caller or this client gave it up.
    pub fn abandoned(&mut self, partition: u32, expired: bool) {
        let Some(owner) = self.settle(partition) else { return };
        let Some(owner) = owner else {
            if expired {
                self.lanes[partition as usize].known = true;
                self.strange.retain(|strange| *strange != partition);
            }
            return;
        };
        let server = &mut self.servers[owner];
        server.silent += u32::from(expired);
        if server.silent >= SILENT_EXPIRIES {
            server.partitions.clear();
            self.arrange();
        }
    }

    /// A server says what it owns, which replaces what it said before and takes these partitions
    /// from whoever had them. Partitions that do not exist are ignored; a server that owns none
    /// is forgotten.
    pub fn handle_announce(&mut self, server: InstanceId, announce: &Announce) {
        let known = self.servers.iter().position(|known| known.instance == server);
        if known.is_none_or(|known| self.servers[known].partitions != announce.partitions) {
            let count = self.lanes.len();
            let mut partitions = announce.partitions.clone();
            partitions.retain(|partition| (*partition as usize) < count);
            partitions.sort_unstable();
            partitions.dedup();
            self.give(server, partitions);
        }
        if let Some(known) = self.servers.iter_mut().find(|known| known.instance == server) {
            known.silent = 0;
            (known.queued, known.running) = (announce.queued, announce.running);
            known.limit = announce.limit;
            let busy = u64::from(announce.queued) + u64::from(announce.running);
            known.load = (busy << 16) / u64::from(announce.limit.max(1));
        }
    }

    /// Calls that wait for an answer.
    pub const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The servers that are known, in no particular order.
    pub fn servers(&self) -> impl Iterator<Item = ServerView> {
        self.servers.iter().map(|server| ServerView {
            instance: server.instance,
            partitions: server.partitions.len(),
            outstanding: server.outstanding,
            queued: server.queued,
            running: server.running,
            limit: server.limit,
        })
    }

    /// The lane of the server with the least outstanding work, then the least load, then the one
    /// whose turn it is. There is a server.
    fn least(&mut self) -> u32 {
        let count = self.servers.len();
        let first = if self.turn < count { self.turn } else { 0 };
        let (mut best, mut least) = (first, self.servers[first].work());
        for index in (first + 1..count).chain(0..first) {
            let work = self.servers[index].work();
            if work < least {
                (best, least) = (index, work);
            }
        }
        if self.strange_work() < least.0 {
            return self.next_strange();
        }
        self.turn = best + 1;
        self.servers[best].lane
    }

    /// Calls outstanding where nothing was ever heard; the most if there is no such partition.
    fn strange_work(&self) -> usize {
        let outstanding = |partition: &u32| self.lanes[*partition as usize].outstanding;
        match self.strange.is_empty() {
            true => usize::MAX,
            false => self.strange.iter().map(outstanding).sum(),
        }
    }

    /// The next partition of which nothing was ever heard; there is one.
    fn next_strange(&mut self) -> u32 {
        self.strange.rotate_left(1);
        self.strange[0]
    }

    /// Now and then, a partition that nobody is known to serve and where no call waits.
    fn probe(&mut self) -> Option<u32> {
        if self.unowned.is_empty() {
            return None;
        }
        self.since_probe += 1;
        if self.since_probe < PROBE_EVERY {
            return None;
        }
        self.since_probe = 0;
        let tries = self.unowned.len().min(PROBE_SEARCH);
        for _ in 0..tries {
            let partition = self.next_unowned();
            if self.lanes[partition as usize].outstanding == 0 {
                return Some(partition);
            }
        }
        None
    }

    /// The next partition without an owner; there is one.
    fn next_unowned(&mut self) -> u32 {
        let index = if self.probe_turn < self.unowned.len() { self.probe_turn } else { 0 };
        self.probe_turn = index + 1;
        self.unowned[index]
    }

    /// One call more in a partition that somebody else chose: that of a key.
    pub fn take(&mut self, partition: u32) {
        let Some(lane) = self.lanes.get_mut(partition as usize) else { return };
        lane.outstanding += 1;
        self.outstanding += 1;
        if let Some(owner) = lane.owner {
            self.servers[owner].outstanding += 1;
        }
    }

    /// One call less; the partition's owner, or `None` if no call was outstanding there.
    fn settle(&mut self, partition: u32) -> Option<Option<usize>> {
        let lane = self.lanes.get_mut(partition as usize)?;
        lane.outstanding = lane.outstanding.checked_sub(1)?;
        self.outstanding -= 1;
        if let Some(owner) = lane.owner {
            self.servers[owner].outstanding -= 1;
        }
        Some(lane.owner)
    }

    fn is_alive(&mut self, server: InstanceId) {
        if let Some(known) = self.servers.iter_mut().find(|known| known.instance == server) {
            known.silent = 0;
        }
    }

    /// An answer shows that this server serves this partition.
    fn learn(&mut self, partition: u32, server: InstanceId) {
        let known = self.servers.iter().find(|known| known.instance == server);
        let mut partitions = known.map_or_else(Vec::new, |known| known.partitions.clone());
        if let Err(place) = partitions.binary_search(&partition) {
            partitions.insert(place, partition);
            self.give(server, partitions);
        }
    }

    /// Makes this server the owner of these partitions (ascending) and of no others.
    fn give(&mut self, server: InstanceId, partitions: Vec<u32>) {
        for other in &mut self.servers {
            other.partitions.retain(|partition| partitions.binary_search(partition).is_err());
        }
        match self.servers.iter_mut().find(|known| known.instance == server) {
            Some(known) => known.partitions = partitions,
            None => self.servers.push(Server::new(server, partitions)),
        }
        self.arrange();
    }

    /// Ownership changed: forgets servers that own nothing and derives the rest anew.
    fn arrange(&mut self) {
        self.servers.retain(|server| !server.partitions.is_empty());
        self.lanes.iter_mut().for_each(|lane| lane.owner = None);
        for (index, server) in self.servers.iter_mut().enumerate() {
            server.outstanding = 0;
            for partition in &server.partitions {
                let lane = &mut self.lanes[*partition as usize];
                lane.owner = Some(index);
                lane.known = true;
                server.outstanding += lane.outstanding;
            }
            server.lane = pick(&server.partitions, self.seed);
        }
        self.unowned.clear();
        let free = (0..).zip(&self.lanes).filter(|(_, lane)| lane.owner.is_none());
        self.unowned.extend(free.map(|(partition, _)| partition));
        self.strange.retain(|partition| !self.lanes[*partition as usize].known);
    }
}

impl Server {
    const fn new(instance: InstanceId, partitions: Vec<u32>) -> Self {
        Self {
            instance,
            partitions,
            lane: 0,
            outstanding: 0,
            silent: 0,
            queued: 0,
            running: 0,
            limit: 0,
            load: 0,
        }
    }

    const fn work(&self) -> (usize, u64) {
        (self.outstanding, self.load)
    }
}

/// One of these partitions: the one of the highest hash, which stays as long as it is among them
/// and differs from seed to seed.
fn pick(partitions: &[u32], seed: u64) -> u32 {
    let hash = |partition: u32| mix(seed ^ mix(u64::from(partition)));
    partitions.iter().copied().max_by_key(|partition| hash(*partition)).unwrap_or(0)
}

/// The finisher of SplitMix64: every bit of the input changes half of the output's.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
