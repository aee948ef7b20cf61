//! A client's process: the real machine, driven as the channel drives it.

use std::{collections::BTreeMap, time::Duration};

use krpc_core::{
    client::{
        machine::{ClientMachine, ClientSetup},
        placing::StartCall,
    },
    codec::ValueCodec,
    ids::{CallId, InstanceId},
    metadata::Metadata,
    time::Time,
    transport::{Record, Topic, Topology},
};

use crate::{
    bugs::Bug,
    check::{self, calls},
    ctx::{Ctx, Event, Proc},
    faults::MILLI,
    port::{Fate, Port},
    seals::Door,
};

/// Records that one fetch brings, at most.
const BATCH: u64 = 32;

/// How long a caller that was woken takes to look, at most.
const LOOK: u64 = 5 * MILLI;

/// How many of a thousand callers call again then.
const AGAIN: u64 = 300;

/// How long requests wait for others.
const GATHER: Duration = Duration::from_millis(2);

/// A place where a client's process runs, again and again.
pub(crate) struct Client {
    index: usize,
    pub(crate) life: u32,
    up: Option<Up>,
}

/// A running process.
struct Up {
    me: InstanceId,
    machine: ClientMachine<usize>,
    door: Door,
    port: Port,
    partition: u32,
    position: i64,
    fetching: bool,
    /// Calls whose futures live.
    waiting: BTreeMap<usize, CallId>,
    /// Those of them that were woken: when, and whether a record was refused then.
    woken: BTreeMap<usize, (u64, bool)>,
}

impl Client {
    pub(crate) const fn new(index: usize) -> Self {
        Self { index, life: 0, up: None }
    }

    /// A new process, with a new identity; it reads replies from the partition's present end.
    pub(crate) fn boot(&mut self, cx: &mut Ctx) {
        self.life += 1;
        let me = InstanceId::from_bytes(cx.rng.bytes());
        let seed = cx.rng.next();
        let partition = (seed % u64::from(cx.plan.reply_partitions)) as u32;
        let machine = ClientMachine::new(ClientSetup {
            me,
            service: 0,
            topology: Topology {
                call_partitions: cx.plan.partitions,
                reply_partitions: cx.plan.reply_partitions,
            },
            reply_partition: partition,
            max_packet_bytes: cx.plan.max_packet,
            max_in_flight: cx.plan.max_in_flight,
            seed,
        })
        .with_sealer(cx.sealer());
        let door = Door::new(me);
        let port = Port::new(Proc::Client(self.index), self.life, cx);
        let position = cx.broker.end(Topic::Replies, partition);
        let (fetching, waiting, woken) = (false, BTreeMap::new(), BTreeMap::new());
        self.up =
            Some(Up { me, machine, door, port, partition, position, fetching, waiting, woken });
        cx.say(|| format!("client {} is {me}, reads replies {partition}", self.index));
        self.with(cx, |up, now| up.machine.greet(now));
    }

    /// The process dies; its calls go on without it.
    pub(crate) fn crash(&mut self, cx: &mut Ctx) -> bool {
        let Some(up) = self.up.take() else { return false };
        cx.say(|| format!("client {} dies with {} calls", self.index, up.waiting.len()));
        up.waiting.keys().for_each(|call| cx.check.orphaned(*call));
        up.count(cx);
        self.life += 1;
        true
    }

    /// Starts some calls at once.
    pub(crate) fn start(&mut self, calls: u64, cx: &mut Ctx) {
        let (index, life) = (self.index, self.life);
        let Some(up) = &mut self.up else { return };
        for _ in 0..calls {
            let call = cx.check.next_call();
            let mut value = calls::request(cx.plan.seed, call);
            if cx.rng.chance(10) {
                value.resize(calls::TOO_LARGE, 0);
            }
            let (timeout, drop_after) = cx.check.patience(&cx.plan, &mut cx.rng);
            let at_most_once = calls::is_at_most_once(cx.plan.seed, call);
            let start = StartCall {
                path: if at_most_once { "sim/once" } else { "sim/echo" },
                fingerprint: 0,
                codec: ValueCodec::MessagePack,
                metadata: &Metadata::new(),
                value: &value,
                terms: None,
                timeout,
                receipt: None,
                at_most_once,
            };
            let full = up.machine.in_flight() >= cx.plan.max_in_flight;
            match up.machine.start(start, call, up.port.now(cx)) {
                Ok(id) => {
                    let doubt = up.port.doubt(cx);
                    cx.check.accepted(up.me, id, cx.now, timeout, doubt);
                    cx.say(|| format!("client {index} starts call {call} as {id:?}, {timeout:?}"));
                    up.waiting.insert(call, id);
                    if let Some(after) = drop_after {
                        cx.at(cx.now + after, Event::Drop { client: index, life, call });
                    }
                }
                Err(status) => cx.check.refused(call, &status, full, value.len()),
            }
        }
        self.after(cx);
    }

    /// A caller drops its call's future.
    pub(crate) fn drop_call(&mut self, call: usize, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        let Some(id) = up.waiting.remove(&call) else { return };
        up.woken.remove(&call);
        cx.say(|| format!("client {} drops call {call}", self.index));
        cx.check.dropped(call);
        if cx.bug != Some(Bug::PendingLeaked) {
            up.machine.cancel(id);
        }
        self.after(cx);
    }

    /// A record came to a reply partition.
    pub(crate) fn notice(&mut self, partition: u32, cx: &mut Ctx) {
        let (of, life) = (Proc::Client(self.index), self.life);
        let Some(up) = self.up.as_mut().filter(|up| up.partition == partition) else { return };
        if !up.fetching {
            up.fetching = true;
            let at = cx.now + cx.latency();
            cx.at(at, Event::Fetch { of, life });
        }
    }

    /// Takes some records.
    pub(crate) fn fetch(&mut self, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        up.fetching = false;
        let (me, most) = (up.me, cx.rng.range(1, BATCH));
        let log = cx.broker.log(Topic::Replies, up.partition);
        let batch: Vec<Record> =
            log[up.position as usize..].iter().take(most as usize).cloned().collect();
        up.position += batch.len() as i64;
        for mut record in batch {
            if cx.bug == Some(Bug::WrongInstance) {
                take_for_own(&mut record, me);
            }
            let Some(up) = &mut self.up else { return };
            let opened = cx.open(&mut up.door, &mut record);
            self.with(cx, |up, now| match opened {
                Ok(()) => up.machine.handle_record(&record, now),
                Err(cause) => up.machine.handle_refused(&record, cause, now),
            });
        }
        let Some(up) = &self.up else { return };
        if up.position < cx.broker.end(Topic::Replies, up.partition) {
            self.notice(up.partition, cx);
        }
    }

    /// A delivery report.
    pub(crate) fn reported(&mut self, token: u64, fate: Fate, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        let refused = up.port.reported(&mut up.machine, token, fate, cx);
        self.after(cx);
        if let Some(payload) = refused {
            cx.check.request_refused(&payload);
        }
    }

    /// The alarm rings; false if for nothing.
    pub(crate) fn ring(&mut self, cx: &mut Ctx) -> bool {
        let Some(up) = &mut self.up else { return false };
        let due = up.port.ring(&mut up.machine, cx);
        self.after(cx);
        due
    }

    /// What must hold when nothing happens any more.
    pub(crate) fn finish(&self, cx: &mut Ctx) {
        let Some(up) = &self.up else { return };
        up.count(cx);
        let name = format!("client {}", self.index);
        let left = [
            ("calls in flight", up.machine.in_flight()),
            ("entries in the table of calls", up.machine.occupied()),
            ("calls counted by the balance", up.machine.balance().outstanding()),
        ];
        for (what, count) in left {
            cx.check.require(count == 0, check::BOUNDED, || format!("{name}: {count} {what}"));
        }
        let quiet = up.machine.is_flushed() && up.port.is_idle();
        cx.check.require(quiet, check::QUIET, || format!("{name} still has packets"));
        let timeout = up.machine.next_timeout();
        let idle = timeout.is_none();
        cx.check.require(idle, check::QUIET, || format!("{name} waits for {timeout:?}"));
    }

    /// A caller that was woken looks at its call's end, and perhaps calls again.
    pub(crate) fn look(&mut self, call: usize, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        let Some((woken, refused)) = up.woken.remove(&call) else { return };
        let Some(id) = up.waiting.remove(&call) else { return };
        let ended = up.machine.poll_call(id, &call);
        cx.say(|| {
            let end = ended.as_ref().map(|end| check::brief(&end.ending));
            format!("client {} call {call} ended: {end:?}", self.index)
        });
        cx.check.ended(call, ended, refused, woken);
        if cx.rng.chance(AGAIN) {
            self.start(1, cx);
        }
    }

    fn with(&mut self, cx: &mut Ctx, event: impl FnOnce(&mut Up, Time)) {
        if let Some(up) = &mut self.up {
            let now = up.port.now(cx);
            event(up, now);
            self.after(cx);
        }
    }

    /// What the channel does after each event.
    fn after(&mut self, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        up.port.flush(&mut up.machine, cx);
        for call in up.machine.take_wakes() {
            // Only a bug leaves a waiter behind that nobody looks after.
            if up.waiting.contains_key(&call) {
                up.woken.insert(call, (cx.now, up.port.refused == Some(cx.now)));
                cx.check.woken(call);
                let at = cx.now + cx.rng.doubling(1, LOOK);
                cx.at(at, Event::Look { client: self.index, life: self.life, call });
            }
        }
        if up.machine.next_timeout() == Some(up.port.now(cx) + GATHER) {
            cx.check.tally.count("requests wait for others");
        }
        let (kept, waiting) = (up.machine.in_flight(), up.waiting.len() - up.woken.len());
        let name = self.index;
        cx.check.require(kept == waiting, check::BOUNDED, || {
            format!("client {name} keeps {kept} calls for {waiting} callers")
        });
    }
}

impl Up {
    /// Adds what the machine counted.
    fn count(&self, cx: &mut Ctx) {
        for (cause, times) in self.machine.dropped().iter() {
            cx.check.tally.add(&format!("client dropped: {cause}"), times);
        }
    }
}

/// Puts a client's identity over a packet's destination.
fn take_for_own(record: &mut Record, me: InstanceId) {
    let mut bytes = record.payload.to_vec();
    if bytes.len() >= 40 && bytes[24..40] != [0; 16] {
        bytes[24..40].copy_from_slice(me.as_bytes());
        record.payload = bytes.into();
    }
}
