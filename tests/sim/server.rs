//! A server's process: the real machine, driven as the server's driver drives it.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
};

use krpc_core::{
    codec::ValueCodec,
    ids::{InstanceId, PartitionId},
    metadata::Metadata,
    policy::Policy,
    server::{
        incoming::{Call, Methods},
        machine::ServerMachine,
        service::MethodDescriptor,
    },
    status::{Code, Status},
    transport::{Record, Topic, Topology},
    wire::frame::Outcome,
};

use crate::{
    bugs::Bug,
    check::{self, calls},
    ctx::{Ctx, Event, Proc},
    faults::{MILLI, SECOND},
    group::Mail,
    port::{Fate, Port},
    release::Release,
    seals::Door,
};

/// Records that one fetch brings, at most.
const BATCH: u64 = 16;

/// What it serves.
const METHODS: Methods = &[
    &method("echo", "sim/echo", &Policy::PLAIN),
    &method("once", "sim/once", &Policy { at_most_once: true, ..Policy::PLAIN }),
];

const fn method(
    name: &'static str,
    path: &'static str,
    policy: &'static Policy,
) -> MethodDescriptor {
    MethodDescriptor {
        name,
        path,
        doc: "",
        args: &[],
        output: "",
        error: None,
        timeout: None,
        idempotent: false,
        policy,
        fingerprint: 0,
    }
}

/// A place where a server's process runs, again and again.
pub(crate) struct Server {
    pub(crate) index: usize,
    pub(crate) life: u32,
    pub(crate) up: Option<Up>,
    /// Until then the process stands still.
    pub(crate) paused: u64,
    /// Until then it does not reach the coordinator.
    pub(crate) cut: u64,
}

/// A running process.
pub(crate) struct Up {
    pub(crate) machine: ServerMachine<u64>,
    pub(crate) door: Door,
    pub(crate) port: Port,
    /// Its number in the group, once taken in.
    pub(crate) member: Option<u64>,
    pub(crate) asked: bool,
    /// Partitions it reads, and the next offset of each.
    pub(crate) reading: BTreeMap<u32, i64>,
    /// The checkers' number of each ownership, for partitions not yet given up.
    pub(crate) epochs: BTreeMap<u32, usize>,
    running: BTreeMap<u64, Running>,
    next_key: Cell<u64>,
    fetching: bool,
    /// The machine asked for no more records.
    full: bool,
    committing: Committing,
    /// Somebody waits for the commit that is to come.
    hurried: bool,
    /// The coordinator's words, one at a time.
    pub(crate) mail: VecDeque<Mail>,
    pub(crate) release: Option<Release>,
    pub(crate) releases: u64,
    /// It is shutting down in good order.
    pub(crate) leaving: bool,
    /// When its last word reaches the coordinator.
    told: u64,
    /// Calls in the largest batch of records.
    batch: usize,
}

struct Running {
    place: usize,
    call: usize,
    /// Its deadline ends it, or its caller.
    instead: Option<Code>,
}

#[derive(PartialEq, Eq)]
enum Committing {
    Idle,
    Waiting,
    Sent,
}

impl Server {
    pub(crate) const fn new(index: usize) -> Self {
        Self { index, life: 0, up: None, paused: 0, cut: 0 }
    }

    /// A new process: says hello, and asks to be taken in when that is delivered.
    pub(crate) fn boot(&mut self, cx: &mut Ctx) {
        self.life += 1;
        (self.paused, self.cut) = (0, 0);
        let me = InstanceId::from_bytes(cx.rng.bytes());
        let limit = cx.rng.doubling(1, 64) as usize;
        let topology = Topology {
            call_partitions: cx.plan.partitions,
            reply_partitions: cx.plan.reply_partitions,
        };
        // Servers die here for no fault of their calls, over and over.
        let machine = ServerMachine::new(me, vec![(topology, METHODS)], limit, cx.plan.max_packet)
            .with_attempts(100)
            .with_sealer(cx.sealer());
        let port = Port::new(Proc::Server(self.index), self.life, cx);
        cx.say(|| format!("server {} is {me}, limit {limit}", self.index));
        self.up = Some(Up {
            machine,
            door: Door::new(me),
            port,
            member: None,
            asked: false,
            reading: BTreeMap::new(),
            epochs: BTreeMap::new(),
            running: BTreeMap::new(),
            next_key: Cell::new(0),
            fetching: false,
            full: false,
            committing: Committing::Idle,
            hurried: false,
            mail: VecDeque::new(),
            release: None,
            releases: 0,
            leaving: false,
            told: 0,
            batch: 0,
        });
        // Not heard of for so long, the broker counts as unreachable.
        cx.at(cx.now + 5 * SECOND, Event::Recover { server: self.index, life: self.life });
        self.with(cx, |up, cx| up.machine.announce_everywhere(up.port.now(cx)));
    }

    /// The process dies, or ends.
    pub(crate) fn die(&mut self, cx: &mut Ctx) -> Option<u64> {
        let up = self.up.take()?;
        up.count(cx);
        let (running, waiting, _) = up.machine.load();
        cx.say(|| format!("server {} ends, {running} running, {waiting} waiting", self.index));
        self.life += 1;
        up.member
    }

    /// It could not start: the next try comes soon.
    pub(crate) fn start_again(&mut self, cx: &mut Ctx) {
        cx.check.tally.count("server did not start");
        self.die(cx);
        cx.at(cx.now + SECOND, Event::Boot(Proc::Server(self.index)));
    }

    /// Drives the machine: `event`, then whatever follows from it.
    pub(crate) fn with(&mut self, cx: &mut Ctx, event: impl FnOnce(&mut Up, &mut Ctx)) {
        let Some(up) = &mut self.up else { return };
        event(up, cx);
        while let Some((service, topic)) = up.machine.poll_open() {
            up.machine.handle_opened(service, topic, &Ok(1), up.port.now(cx));
        }
        up.port.flush(&mut up.machine, cx);
        while let Some(key) = up.machine.poll_cancel() {
            if let Some(running) = up.running.get_mut(&key) {
                running.instead = Some(Code::Cancelled);
                cx.at(cx.now, Event::Done { server: self.index, life: self.life, key });
            }
        }
        up.want_commit(self.index, self.life, cx);
        if up.full && up.machine.has_room() {
            up.full = false;
            self.want_records(cx);
        }
        self.check_memory(cx);
        self.check_release(cx);
    }

    fn check_memory(&self, cx: &mut Ctx) {
        let Some(up) = &self.up else { return };
        let (running, waiting, limit) = up.machine.load();
        let waiting = waiting - up.machine.in_turn();
        let most = limit + up.batch;
        cx.check.require(running <= limit && waiting <= most, check::BOUNDED, || {
            let name = self.index;
            format!(
                "server {name} of limit {limit}: {running} running, {waiting} of {most} waiting"
            )
        });
    }

    /// A record came to a calls partition.
    pub(crate) fn notice(&mut self, partition: u32, cx: &mut Ctx) {
        if self.up.as_ref().is_some_and(|up| up.reading.contains_key(&partition)) {
            self.want_records(cx);
        }
    }

    pub(crate) fn want_records(&mut self, cx: &mut Ctx) {
        let (of, life) = (Proc::Server(self.index), self.life);
        let Some(up) = self.up.as_mut().filter(|up| !up.fetching && !up.full) else { return };
        let ahead = |(partition, at): (&u32, &i64)| *at < cx.broker.end(Topic::Calls, *partition);
        if up.reading.iter().any(ahead) {
            up.fetching = true;
            let at = cx.now + cx.latency();
            cx.at(at, Event::Fetch { of, life });
        }
    }

    /// Takes some records, unless the machine has enough.
    pub(crate) fn fetch(&mut self, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        up.fetching = false;
        if up.full {
            return;
        }
        let batch = up.take(cx);
        up.batch = up.batch.max(batch.iter().map(|record| cx.check.calls_in(record)).sum());
        for mut record in batch {
            cx.say(|| {
                let (name, PartitionId { partition, .. }) = (self.index, record.partition);
                format!("server {name} takes {partition}/{}", record.offset)
            });
            self.with(cx, |up, cx| match cx.open(&mut up.door, &mut record) {
                Ok(()) => up.machine.handle_record(&record, up.port.now(cx)),
                Err(cause) => up.machine.handle_refused(&record, cause, up.port.now(cx)),
            });
            self.dispatch(cx);
        }
        let Some(up) = &mut self.up else { return };
        up.full = up.machine.is_full();
        self.want_records(cx);
    }

    /// Runs every call that may run now.
    fn dispatch(&mut self, cx: &mut Ctx) {
        let (server, life) = (self.index, self.life);
        loop {
            let mut next = None;
            self.with(cx, |up, cx| {
                let key = |_: &mut Call| up.next_key.replace(up.next_key.get() + 1);
                next = up.machine.poll_dispatch(up.port.now(cx), key);
            });
            let (Some(up), Some(dispatch)) = (&mut self.up, next) else { return };
            let epoch = up.epochs.get(&dispatch.call.origin.position.partition.partition).copied();
            let doubt = up.port.doubt(cx);
            let call = cx.check.executed(server, epoch, &dispatch.call, doubt, cx.now);
            let ends = cx.now + cx.plan.handler_time(&mut cx.rng);
            let deadline = up.port.true_time(dispatch.call.origin.deadline);
            let instead = (deadline <= ends).then_some(Code::DeadlineExceeded);
            let (key, place) = (dispatch.cancel, dispatch.place);
            up.running.insert(key, Running { place, call, instead });
            cx.at(ends.min(deadline), Event::Done { server, life, key });
        }
    }

    /// A handler ends.
    pub(crate) fn done(&mut self, key: u64, cx: &mut Ctx) {
        let Some(running) = self.up.as_mut().and_then(|up| up.running.remove(&key)) else { return };
        let Running { place, call, instead } = running;
        cx.say(|| format!("server {} ends call {call}, {instead:?}", self.index));
        let value = calls::reply(cx.plan.seed, call);
        let codec = ValueCodec::MessagePack;
        let outcome = match (instead, calls::Kind::of(cx.plan.seed, call)) {
            (Some(code), _) => Outcome::Status(Status::new(code, "the handler was ended")),
            (_, calls::Kind::Panics) => Outcome::Status(Status::new(Code::Internal, "panicked")),
            (_, calls::Kind::Fails) => Outcome::App { codec, value: &value },
            _ => Outcome::Ok { codec, value: &value },
        };
        self.with(cx, |up, cx| {
            up.machine.finish(place, outcome, &Metadata::new(), up.port.now(cx));
        });
        self.dispatch(cx);
    }

    /// A delivery report. The first decides whether the server starts.
    pub(crate) fn reported(&mut self, token: u64, fate: Fate, cx: &mut Ctx) {
        let (server, life) = (self.index, self.life);
        let Some(up) = &mut self.up else { return };
        if !up.asked {
            up.asked = true;
            match fate {
                Fate::Stored { .. } => self.tell(Event::Join { server, life }, cx),
                Fate::Failed(_) => return self.start_again(cx),
            }
        }
        self.with(cx, |up, cx| {
            up.port.reported(&mut up.machine, token, fate, cx);
        });
        self.dispatch(cx);
    }

    /// The alarm rings; false if for nothing.
    pub(crate) fn ring(&mut self, cx: &mut Ctx) -> bool {
        let mut due = false;
        self.with(cx, |up, cx| due = up.port.ring(&mut up.machine, cx));
        due
    }

    /// Sends something to the coordinator; what is sent keeps its order.
    pub(crate) fn tell(&mut self, event: Event, cx: &mut Ctx) {
        let latency = cx.latency();
        let Some(up) = &mut self.up else { return };
        up.told = (cx.now.max(self.cut) + latency).max(up.told + 1);
        cx.at(up.told, event);
    }

    /// It is time to commit what is finished.
    pub(crate) fn commit(&mut self, cx: &mut Ctx) {
        let (server, life) = (self.index, self.life);
        // It may have been made in a hurry.
        let waits = |up: &&mut Up| up.committing == Committing::Waiting;
        let Some(up) = self.up.as_mut().filter(waits) else { return };
        up.hurried = false;
        let points = up.machine.poll_commit();
        if cx.bug == Some(Bug::GateBeforeAck) {
            let made: Vec<_> = points.iter().map(|point| (point.partition, true)).collect();
            up.machine.handle_committed(&made, up.port.now(cx));
        }
        up.committing = if points.is_empty() { Committing::Idle } else { Committing::Sent };
        if points.is_empty() {
            return self.with(cx, |_, _| {});
        }
        match up.member {
            Some(member) => {
                self.tell(Event::Commit { server, life, member, points, release: 0 }, cx);
            }
            None => {
                let results = points.into_iter().map(|point| (point.partition, false)).collect();
                let at = cx.now + MILLI;
                cx.at(at, Event::Committed { server, life, results, release: 0 });
            }
        }
    }

    /// What was committed, and what was not.
    pub(crate) fn committed(&mut self, results: &[(PartitionId, bool)], cx: &mut Ctx) {
        self.with(cx, |up, cx| {
            up.committing = Committing::Idle;
            up.machine.handle_committed(results, up.port.now(cx));
        });
        self.dispatch(cx);
    }

    /// What must hold when nothing happens any more.
    pub(crate) fn finish(&self, cx: &mut Ctx) {
        let Some(up) = &self.up else { return };
        up.count(cx);
        let name = format!("server {}", self.index);
        let (running, waiting, _) = up.machine.load();
        for (what, count) in [
            ("calls unfinished", up.machine.unfinished()),
            ("handlers running", running),
            ("calls waiting", waiting),
        ] {
            cx.check.require(count == 0, check::BOUNDED, || format!("{name}: {count} {what}"));
        }
        let quiet = up.port.is_idle() && up.machine.next_timeout().is_none();
        cx.check.require(quiet, check::QUIET, || format!("{name} still has packets"));
        let done = !up.machine.has_commits() && up.release.is_none() && up.mail.is_empty();
        cx.check.require(done, check::QUIET, || format!("{name} has commits or a release to do"));
    }
}

impl Up {
    /// Commits after an interval, or at once where somebody waits for it.
    fn want_commit(&mut self, server: usize, life: u32, cx: &mut Ctx) {
        if self.committing == Committing::Sent || !self.machine.has_commits() {
            return;
        }
        let hurry = self.machine.awaits_commit() && !self.hurried;
        if self.committing == Committing::Idle || hurry {
            let pause = if hurry { 0 } else { cx.plan.commit_interval };
            (self.committing, self.hurried) = (Committing::Waiting, hurry);
            cx.at(cx.now + pause, Event::CommitTick { server, life });
        }
    }

    /// Adds what the machine counted.
    fn count(&self, cx: &mut Ctx) {
        let counts = self.machine.counts();
        for (what, times) in [
            ("server: expired", counts.expired),
            ("server: cancelled", counts.cancelled),
            ("server: skipped as finished", counts.skipped),
            ("server: reply given up", counts.undeliverable),
            ("server: doomed", counts.aborted),
            ("server: buried", counts.dead_lettered),
            ("server: letter given up", counts.dead_letters_failed),
        ] {
            cx.check.tally.add(what, times);
        }
        for (cause, times) in self.machine.dropped().iter() {
            cx.check.tally.add(&format!("server dropped: {cause}"), times);
        }
        let maps = counts.unreadable_maps;
        cx.check.require(maps == 0, check::COMMITTED, || format!("{maps} maps are unreadable"));
    }

    /// The next records of the partitions it reads, in a turn that begins anywhere.
    fn take(&mut self, cx: &mut Ctx) -> Vec<Record> {
        let mut most = cx.rng.range(1, BATCH) as usize;
        let mut batch = Vec::new();
        if self.reading.is_empty() {
            return batch;
        }
        let begin = cx.rng.index(self.reading.len());
        let order: Vec<u32> = self.reading.keys().copied().collect();
        for partition in order[begin..].iter().chain(&order[..begin]) {
            let at = self.reading.get_mut(partition).expect("it is one of the keys");
            let log = cx.broker.log(Topic::Calls, *partition).get(*at as usize..);
            let taken = log.unwrap_or_default().iter().take(most);
            batch.extend(taken.cloned());
            let count = batch.iter().filter(|r| r.partition.partition == *partition).count();
            *at += count as i64;
            most -= count;
        }
        batch
    }
}
