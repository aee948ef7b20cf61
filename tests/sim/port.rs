//! A process's producer, and its clock: the drivers' surroundings that both sides share.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use krpc_core::{
    client::machine::ClientMachine,
    outbox::Transmit,
    server::machine::ServerMachine,
    status::{Code, Status},
    time::{BrokerClock, Time, micros},
    transport::{Delivery, Rejected, Target, Topic},
};

use crate::{
    bugs::Bug,
    ctx::{Ctx, Event, Proc},
};

/// What happened to a record, as its report says.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is stored; the broker's stamp, if the topic has one.
    Stored { appended: Option<Time>, offset: i64 },
    /// It was given up.
    Failed(Status),
}

/// What a machine of either side does with packets.
pub(crate) trait Machine {
    fn poll_transmit(&mut self, now: Time) -> Option<Transmit>;
    fn handle_sent(&mut self, payload: Vec<u8>);
    fn handle_rejected(&mut self, transmit: Transmit, rejected: Rejected, now: Time);
    fn handle_delivered(&mut self, token: u64, delivery: &Delivery<'_>, now: Time);
    fn next_timeout(&self) -> Option<Time>;
    fn handle_timeout(&mut self, now: Time);
}

macro_rules! machine {
    ($name:ty, $($waiter:tt)+) => {
        impl<$($waiter)+> Machine for $name {
            fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
                Self::poll_transmit(self, now)
            }
            fn handle_sent(&mut self, payload: Vec<u8>) {
                Self::handle_sent(self, payload);
            }
            fn handle_rejected(&mut self, transmit: Transmit, rejected: Rejected, now: Time) {
                Self::handle_rejected(self, transmit, rejected, now);
            }
            fn handle_delivered(&mut self, token: u64, delivery: &Delivery<'_>, now: Time) {
                Self::handle_delivered(self, token, delivery, now);
            }
            fn next_timeout(&self) -> Option<Time> {
                Self::next_timeout(self)
            }
            fn handle_timeout(&mut self, now: Time) {
                Self::handle_timeout(self, now);
            }
        }
    };
}

machine!(ClientMachine<W>, W);
machine!(ServerMachine<K>, K: Clone);

/// A process's producer, clock and alarm.
#[derive(Debug)]
pub(crate) struct Port {
    owner: Proc,
    life: u32,
    /// How far the process's clock is ahead of the true time, in microseconds.
    skew: i64,
    /// What the machine can know of the broker's clock: fed the same reports.
    clock: BrokerClock,
    flights: BTreeMap<u64, Flight>,
    /// When the last record reaches each partition: records of one target keep their order.
    order: HashMap<Target, u64>,
    alarm: Option<u64>,
    /// When a record was refused for good last.
    pub(crate) refused: Option<u64>,
}

#[derive(Debug)]
struct Flight {
    target: Target,
    payload: Rc<[u8]>,
    sent: Time,
}

impl Port {
    pub(crate) fn new(owner: Proc, life: u32, cx: &mut Ctx) -> Self {
        let skew = cx.skew();
        let (flights, order) = (BTreeMap::new(), HashMap::new());
        let clock = BrokerClock::default();
        Self { owner, life, skew, clock, flights, order, alarm: None, refused: None }
    }

    /// Now, on the process's clock.
    pub(crate) fn now(&self, cx: &Ctx) -> Time {
        Time::from_micros(cx.now).shifted(self.skew)
    }

    /// The true time of a moment on the process's clock.
    pub(crate) fn true_time(&self, local: Time) -> u64 {
        local.shifted(-self.skew).as_micros()
    }

    /// How far off the machine's idea of the broker's clock may be; `None` if it has none.
    pub(crate) fn doubt(&self, cx: &Ctx) -> Option<u64> {
        self.clock.uncertainty(self.now(cx)).map(micros)
    }

    /// Whether every report came.
    pub(crate) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// What the drivers do after each event: sends what is due, and sets the alarm.
    pub(crate) fn flush(&mut self, machine: &mut impl Machine, cx: &mut Ctx) {
        let now = self.now(cx);
        while let Some(transmit) = machine.poll_transmit(now) {
            let (token, topic) = (transmit.token, transmit.target.topic);
            match self.send(&transmit, now, cx) {
                Ok(()) => machine.handle_sent(transmit.payload),
                Err(rejected) => machine.handle_rejected(transmit, rejected, now),
            }
            if cx.bug == Some(Bug::CommitBeforeReply) && topic == Topic::Replies {
                let appended = cx.broker.stamp(cx.now);
                machine.handle_delivered(token, &Delivery::Stored { appended, offset: None }, now);
            }
        }
        self.set_alarm(machine, cx);
    }

    fn send(&mut self, transmit: &Transmit, now: Time, cx: &mut Ctx) -> Result<(), Rejected> {
        if cx.unlucky(|net| net.full) {
            cx.check.tally.count("packet: queue full");
            return Err(Rejected::Full);
        }
        if cx.unlucky(|net| net.refused) {
            self.refused = Some(cx.now);
            let packet = cx.clear(transmit.target, &transmit.payload);
            cx.check.reply_lost(&packet, true);
            let status = Status::new(Code::PermissionDenied, "simulated");
            return Err(Rejected::Failed(status));
        }
        let payload: Rc<[u8]> = transmit.payload.as_slice().into();
        let Transmit { token, target, .. } = *transmit;
        self.flights.insert(token, Flight { target, payload: Rc::clone(&payload), sent: now });
        let last = self.order.entry(transmit.target).or_default();
        let at = (cx.now + cx.latency()).max(*last + 1);
        *last = at;
        let (from, life) = (self.owner, self.life);
        cx.at(at, Event::Append { from, life, token, target, payload });
        Ok(())
    }

    /// A delivery report: hands it to the machine. Returns the packet if it was refused for good.
    pub(crate) fn reported(
        &mut self,
        machine: &mut impl Machine,
        token: u64,
        fate: Fate,
        cx: &mut Ctx,
    ) -> Option<Vec<u8>> {
        let now = self.now(cx);
        let Flight { target, payload, sent } = self.flights.remove(&token)?;
        match fate {
            Fate::Stored { appended, offset } => {
                if let Some(appended) = appended {
                    self.clock.observe(sent, now, appended);
                }
                let stored = Delivery::Stored { appended, offset: Some(offset) };
                machine.handle_delivered(token, &stored, now);
                None
            }
            Fate::Failed(status) => {
                let refused = status.code() == Code::PermissionDenied;
                let delivery = Delivery::Failed { status, payload: &payload };
                machine.handle_delivered(token, &delivery, now);
                if refused {
                    self.refused = Some(cx.now);
                }
                refused.then(|| cx.clear(target, &payload))
            }
        }
    }

    /// An alarm rings; false if there was nothing to do.
    pub(crate) fn ring(&mut self, machine: &mut impl Machine, cx: &mut Ctx) -> bool {
        // It may ring late, after a pause, but not for an alarm that was moved to a later time.
        if self.alarm.is_none_or(|at| at > cx.now) {
            return false;
        }
        self.alarm = None;
        let now = self.now(cx);
        let due = machine.next_timeout().is_some_and(|at| at <= now);
        if due {
            machine.handle_timeout(now);
        }
        self.set_alarm(machine, cx);
        due
    }

    fn set_alarm(&mut self, machine: &impl Machine, cx: &mut Ctx) {
        let Some(next) = machine.next_timeout() else { return };
        let at = self.true_time(next).max(cx.now);
        // An alarm that rings too early sets the next; so one that is set stays.
        if self.alarm.is_none_or(|set| at < set) {
            self.alarm = Some(at);
            cx.at(at, Event::Alarm { of: self.owner, life: self.life });
        }
    }
}
