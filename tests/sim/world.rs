//! The world of one run: everybody in it, and what each event does to them.

use krpc_core::transport::{CommitPoint, Target, Topic};

use crate::{
    broker::Course,
    bugs::Bug,
    check::{self, Check, Failure, Tally},
    client::Client,
    ctx::{BEGIN, Ctx, Event, Proc},
    faults::{Fault, MILLI, Net, SECOND},
    packets,
    port::Fate,
    rng::mix,
    server::Server,
};

/// Events after which a run is taken for endless: many times what the largest needs.
const MOST_EVENTS: u64 = 1_000_000;

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Report {
    pub(crate) tally: Tally,
    /// Differs whenever anything happens otherwise, or at another time.
    pub(crate) digest: u64,
}

pub(crate) struct World {
    cx: Ctx,
    clients: Vec<Client>,
    servers: Vec<Server>,
    events: u64,
    digest: u64,
    /// When something happened last that was not a void alarm.
    active: u64,
}

/// Runs one seed.
///
/// # Errors
/// What a checker found.
pub(crate) fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Result<Report, Failure> {
    let mut world = World::new(seed, bug, trace);
    while let Some(event) = world.cx.next() {
        world.events += 1;
        world.step(event);
        if world.events >= MOST_EVENTS {
            world.cx.check.endless(world.events);
        }
        if let Some(failure) = world.cx.check.failure.take() {
            world.cx.say(|| format!("FAILED {failure}"));
            return Err(failure);
        }
    }
    world.finish()
}

impl World {
    fn new(seed: u64, bug: Option<Bug>, trace: bool) -> Self {
        let cx = Ctx::new(seed, bug, trace);
        let clients = (0..cx.plan.clients).map(Client::new).collect();
        let servers = (0..cx.plan.servers).map(Server::new).collect();
        let mut world = Self { cx, clients, servers, events: 0, digest: 0, active: BEGIN };
        world.cx.say(|| format!("{:#?}", world.cx.plan));
        world.schedule();
        world
    }

    /// What happens of itself: starts, calls, faults, and their end.
    fn schedule(&mut self) {
        let cx = &mut self.cx;
        (0..cx.plan.clients).for_each(|index| cx.at(BEGIN, Event::Boot(Proc::Client(index))));
        for index in 0..cx.plan.servers {
            // Some come late, so that others begin alone and calls wait.
            let late = if cx.rng.chance(300) { cx.rng.range(0, cx.plan.active) } else { 0 };
            cx.at(BEGIN + late, Event::Boot(Proc::Server(index)));
        }
        let (active, settled) = (cx.plan.active, cx.plan.active + Check::SETTLING);
        for (calls, from, to) in
            [(cx.plan.calls, 0, active), (cx.plan.calls / 10 + 1, settled, settled + SECOND)]
        {
            let mut left = calls;
            while left > 0 {
                let burst = cx.rng.doubling(1, 16).min(left);
                left -= burst;
                let client = cx.rng.index(cx.plan.clients);
                let at = BEGIN + cx.rng.range(from, to);
                cx.at(at, Event::Start { client, calls: burst });
            }
        }
        for (at, fault) in cx.plan.faults.clone() {
            cx.at(BEGIN + at, Event::Fault(fault));
        }
        cx.at(BEGIN + settled, Event::Settled);
    }

    fn step(&mut self, event: Event) {
        if let Some(until) = self.held_up(&event) {
            return self.cx.at(until, event);
        }
        self.digest = mix(self.digest ^ self.cx.now).wrapping_add(self.cx.rng.state());
        match event {
            Event::Append { from, life, token, target, payload } => {
                self.append(from, life, token, target, &payload);
            }
            Event::Report { to: Proc::Client(index), life, token, fate } => {
                self.client(index, life, |client, cx| client.reported(token, fate, cx));
            }
            Event::Report { to: Proc::Server(index), life, token, fate } => {
                self.server(index, life, |server, cx| server.reported(token, fate, cx));
            }
            Event::Alarm { of, life } => return self.alarm(of, life),
            Event::Fetch { of: Proc::Client(index), life } => {
                self.client(index, life, Client::fetch);
            }
            Event::Fetch { of: Proc::Server(index), life } => {
                self.server(index, life, Server::fetch);
            }
            Event::Start { client, calls } => self.clients[client].start(calls, &mut self.cx),
            Event::Drop { client, life, call } => {
                self.client(client, life, |client, cx| client.drop_call(call, cx));
            }
            Event::Look { client, life, call } => {
                self.client(client, life, |client, cx| client.look(call, cx));
            }
            Event::Done { server, life, key } => {
                self.server(server, life, |server, cx| server.done(key, cx));
            }
            Event::CommitTick { server, life } => self.server(server, life, Server::commit),
            Event::Commit { server, life, member, points, release } => {
                self.commit(server, life, member, &points, release);
            }
            Event::Committed { server, life, results, release: 0 } => {
                self.server(server, life, |server, cx| server.committed(&results, cx));
            }
            Event::Committed { server, life, results, release } => {
                self.server(server, life, |server, cx| server.released(release, &results, cx));
            }
            Event::ReleaseOver { server, life, release } => {
                self.server(server, life, |server, cx| server.release_over(release, cx));
            }
            Event::Recover { server, life } => self.server(server, life, Server::recover),
            event => self.change(event),
        }
        self.active = self.cx.now;
    }

    /// Events of the group and of processes as a whole.
    fn change(&mut self, event: Event) {
        let cx = &mut self.cx;
        match event {
            Event::Join { server, life } => {
                if self.servers[server].life != life {
                    return;
                }
                let (member, posts) = cx.group.join(server);
                self.servers[server].joined(member);
                cx.post(posts);
            }
            Event::Mail { server, member, mail } => self.servers[server].mail(member, mail, cx),
            Event::Released { member, partitions } => {
                let posts = cx.group.released(member, &partitions);
                cx.post(posts);
            }
            Event::Gone { member } => {
                let posts = cx.group.remove(member);
                cx.post(posts);
            }
            Event::Boot(Proc::Client(index)) => self.clients[index].boot(cx),
            Event::Boot(Proc::Server(index)) => self.servers[index].boot(cx),
            Event::Fault(fault) => self.fault(fault),
            Event::Settled => cx.check.settled(),
            _ => {}
        }
    }

    fn client(&mut self, index: usize, life: u32, event: impl FnOnce(&mut Client, &mut Ctx)) {
        let client = &mut self.clients[index];
        if client.life == life {
            event(client, &mut self.cx);
        }
    }

    fn server(&mut self, index: usize, life: u32, event: impl FnOnce(&mut Server, &mut Ctx)) {
        let server = &mut self.servers[index];
        if server.life == life {
            event(server, &mut self.cx);
        }
    }

    fn alarm(&mut self, of: Proc, life: u32) {
        let mut due = false;
        match of {
            Proc::Client(index) => self.client(index, life, |client, cx| due = client.ring(cx)),
            Proc::Server(index) => self.server(index, life, |server, cx| due = server.ring(cx)),
        }
        if due {
            self.active = self.cx.now;
        }
    }

    /// Until when an event waits, because its process stands still or is cut off.
    fn held_up(&self, event: &Event) -> Option<u64> {
        let (server, by_cut) = match event {
            Event::Report { to: Proc::Server(server), .. }
            | Event::Alarm { of: Proc::Server(server), .. }
            | Event::Fetch { of: Proc::Server(server), .. }
            | Event::Done { server, .. }
            | Event::CommitTick { server, .. }
            | Event::ReleaseOver { server, .. } => (server, false),
            Event::Mail { server, .. } | Event::Committed { server, .. } => (server, true),
            _ => return None,
        };
        let Server { paused, cut, .. } = self.servers[*server];
        let until = if by_cut { paused.max(cut) } else { paused };
        (until > self.cx.now).then_some(until)
    }

    fn append(&mut self, from: Proc, life: u32, token: u64, target: Target, payload: &[u8]) {
        let cx = &mut self.cx;
        let lives = match from {
            Proc::Client(index) => self.clients[index].life == life,
            Proc::Server(index) => self.servers[index].life == life,
        };
        // What a process had in its queue when it died may have left, or not.
        if !lives && cx.rng.chance(500) {
            return;
        }
        let net = if cx.now < cx.quiet_at { cx.plan.net } else { Net::default() };
        let latency = cx.latency();
        let course = Course::draw(&net, &mut cx.rng, latency);
        cx.check.tally.count(course.name);
        let mut fate = course.failure.map(Fate::Failed);
        // Its producer numbers them, and the broker drops what it has already.
        let copies = if target.exact { course.copies.min(1) } else { course.copies };
        for _ in 0..copies {
            let stored = self.store(target, payload);
            fate.get_or_insert(stored);
        }
        let cx = &mut self.cx;
        if course.copies == 0 {
            let packet = cx.clear(target, payload);
            cx.check.reply_lost(&packet, course.refused);
        }
        cx.say(|| format!("{from:?} packet {token}: {} copies, {fate:?}", course.copies));
        if let Some(fate) = fate {
            cx.at(cx.now + course.reported, Event::Report { to: from, life, token, fate });
        }
    }

    /// Stores a record and lets its readers know.
    fn store(&mut self, target: Target, payload: &[u8]) -> Fate {
        let (cx, partition) = (&mut self.cx, target.partition);
        let (offset, fate) = cx.broker.append(target, payload, cx.now);
        cx.say(|| format!("stored {:?} {partition}/{offset}", target.topic));
        let packet = cx.clear(target, payload);
        match target.topic {
            Topic::Calls => {
                cx.check.requested(partition, offset, &packet, cx.now);
                self.servers.iter_mut().for_each(|server| server.notice(partition, cx));
            }
            Topic::Replies => {
                cx.check.replied(&packet);
                self.clients.iter_mut().for_each(|client| client.notice(partition, cx));
            }
            Topic::Results | Topic::Dead | Topic::Cancels | Topic::Delayed => {}
        }
        fate
    }

    fn commit(
        &mut self,
        server: usize,
        life: u32,
        member: u64,
        points: &[CommitPoint],
        release: u64,
    ) {
        let cx = &mut self.cx;
        let mut results = Vec::new();
        for point in points {
            // A group that settles refuses many; and an answer may be lost.
            let refused = cx.unlucky(|net| if net.commit_fails > 0 { 400 } else { 0 });
            let refused = refused && cx.group.is_settling() && release == 0;
            let lost = cx.unlucky(|net| net.commit_fails);
            let made = !refused && cx.group.commit(member, point);
            if made {
                cx.check.committed(server, point, cx.now);
            }
            cx.say(|| format!("server {server} commits {point:?}: {made}, answer lost: {lost}"));
            if !made || lost {
                cx.check.tally.count("commit reported as failed");
            }
            results.push((point.partition, made && !lost));
        }
        let at = cx.now + cx.latency();
        cx.at(at, Event::Committed { server, life, results, release });
    }

    fn fault(&mut self, fault: Fault) {
        let cx = &mut self.cx;
        let client = cx.rng.index(self.clients.len());
        let server = cx.rng.index(self.servers.len());
        let session = cx.now + cx.plan.session_timeout;
        cx.say(|| format!("FAULT {fault:?}"));
        cx.check.tally.count(&format!("fault: {fault:?}"));
        match fault {
            Fault::Garbage => {
                let (target, payload) = packets::garbage(&cx.broker, &mut cx.rng);
                let offset = cx.broker.end(target.topic, target.partition);
                cx.check.garbled = true;
                cx.forged.insert((target.topic, target.partition, offset));
                self.store(target, &payload);
            }
            Fault::ClientCrash => {
                if self.clients[client].crash(cx) {
                    let at = cx.now + cx.rng.doubling(MILLI, SECOND);
                    cx.at(at, Event::Boot(Proc::Client(client)));
                }
            }
            Fault::ServerCrash => {
                if self.servers[server].up.is_some() {
                    if let Some(member) = self.servers[server].die(cx) {
                        cx.at(session, Event::Gone { member });
                    }
                    let at = cx.now + cx.rng.doubling(MILLI, 4 * SECOND);
                    cx.at(at, Event::Boot(Proc::Server(server)));
                }
            }
            Fault::Restart => _ = self.servers[server].shut_down(cx),
            Fault::Pause | Fault::CutOff => {
                let lasts = cx.rng.doubling(10 * MILLI, 8 * SECOND);
                let server = &mut self.servers[server];
                // One at a time: what is held up must keep its order.
                let busy = server.paused.max(server.cut) > cx.now;
                let Some(up) = server.up.as_ref().filter(|_| !busy) else { return };
                if let Some(member) = up.member.filter(|_| cx.now + lasts >= session) {
                    cx.at(session, Event::Gone { member });
                }
                let until =
                    if fault == Fault::Pause { &mut server.paused } else { &mut server.cut };
                *until = cx.now + lasts;
                let at = *until + cx.rng.range(0, 500 * MILLI);
                cx.at(at, Event::Recover { server: server.index, life: server.life });
            }
        }
    }

    fn finish(mut self) -> Result<Report, Failure> {
        let cx = &mut self.cx;
        cx.check.finish();
        self.clients.iter().for_each(|client| client.finish(cx));
        self.servers.iter().for_each(|server| server.finish(cx));
        cx.check.finish_commits(&cx.broker, &cx.group);
        // The last calls start when all is settled, and slow ones may queue up before them.
        let settled = cx.quiet_at + Check::SETTLING;
        let most = cx.check.last_deadline().max(settled) + 3 * Check::SETTLING;
        let late = self.active.saturating_sub(most);
        cx.check
            .require(late == 0, check::QUIET, || format!("something happened {late} us too late"));
        cx.check.tally.add("event", self.events);
        match cx.check.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(Report { tally: cx.check.tally.clone(), digest: self.digest }),
        }
    }
}
