//! The open loop: calls at a fixed rate, whatever has become of the earlier ones.
//!
//! A closed loop stops calling while it waits, so one slow second counts as one slow call. Here
//! each call has a moment at which it is due, at even distances, and its latency counts from there
//! and not from when it was sent: whatever holds it up before it is sent is waiting too. A thread
//! that does nothing else sends what is due, at most every [`TICK`]. When [`MOST`] calls are not
//! answered, further ones are sent late, and counted; their latency still counts from when they
//! were due.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow, ensure};
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    figure::Measured,
    load::{Caller, Interval, Phase, Times, Values},
    record::Recorder,
};

/// How often calls are sent that became due: the wait counts in their latency. With a tenth of it
/// the sender alone took a sixth of the client's CPU, at 120,000 calls/s of kRPC.
const TICK: Duration = Duration::from_millis(1);

/// Calls that are not answered at a time: what tarpc and tonic are set to take. Even at the bound,
/// an overload stays far from the deadline of any system.
const MOST: u64 = 16_384;

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// When calls are due: the n-th, from 0, n intervals after the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Calls per second; more than zero.
    rate: u64,
    times: Times,
}

impl Schedule {
    pub(crate) const fn new(rate: u64, times: Times) -> Self {
        Self { rate, times }
    }

    fn due(&self, number: u64) -> Duration {
        let (seconds, rest) = (number / self.rate, number % self.rate);
        Duration::from_secs(seconds) + Duration::from_nanos(rest * 1_000_000_000 / self.rate)
    }

    /// How many calls are due until then, those of that moment included.
    fn due_by(&self, elapsed: Duration) -> u64 {
        let elapsed = elapsed.min(self.end());
        let whole = elapsed.as_secs() * self.rate;
        let part = u64::from(elapsed.subsec_nanos()) * self.rate / 1_000_000_000;
        (whole + part + 1).min(self.calls())
    }

    /// All of them.
    fn calls(&self) -> u64 {
        (self.times.warm_ms + self.times.measure_ms) * self.rate / 1_000
    }

    fn end(&self) -> Duration {
        Duration::from_millis(self.times.warm_ms + self.times.measure_ms)
    }

    /// Whether a moment lies in the part that counts.
    fn is_measured(&self, moment: Duration) -> bool {
        moment >= Duration::from_millis(self.times.warm_ms) && moment < self.end()
    }
}

/// Which calls are sent when.
#[derive(Debug)]
struct Pacer {
    schedule: Schedule,
    /// The next to send.
    next: u64,
    /// Calls from here on were never held up.
    seen: u64,
    held: u64,
}

impl Pacer {
    const fn new(schedule: Schedule) -> Self {
        Self { schedule, next: 0, seen: 0, held: 0 }
    }

    /// The calls to send now, as that many are not answered.
    fn take(&mut self, elapsed: Duration, outstanding: u64) -> Range<u64> {
        let due = self.schedule.due_by(elapsed);
        let end = due.min(self.next + MOST.saturating_sub(outstanding));
        self.held += due.saturating_sub(self.seen.max(end));
        self.seen = self.seen.max(due);
        let start = std::mem::replace(&mut self.next, end);
        start..end
    }

    /// How long after the start to look again; none if everything was sent.
    fn wake(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.next < self.schedule.calls();
        left.then(|| self.schedule.due(self.next).max(elapsed + TICK))
    }
}

/// A run of the open loop.
#[derive(Debug)]
pub(crate) struct Open {
    schedule: Schedule,
    started: Instant,
    recorder: Recorder,
    outstanding: AtomicU64,
    /// Calls whose answers came in the part that counts.
    answered: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Open {
    /// Starts now.
    pub(crate) fn start(schedule: Schedule) -> Self {
        Self {
            schedule,
            started: Instant::now(),
            recorder: Recorder::new(),
            outstanding: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            over: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Sends calls when they are due and waits for the last answer; how many were held up.
    pub(crate) fn pace(&self, send: impl FnMut(Range<u64>) -> Result<()>) -> Result<u64> {
        let held = self.send(send).and_then(|held| self.wait().map(|()| held));
        self.over.store(true, Relaxed);
        held
    }

    fn send(&self, mut send: impl FnMut(Range<u64>) -> Result<()>) -> Result<u64> {
        let mut pacer = Pacer::new(self.schedule);
        loop {
            self.check()?;
            let calls = pacer.take(self.started.elapsed(), self.outstanding.load(Relaxed));
            if !calls.is_empty() {
                self.outstanding.fetch_add(calls.end - calls.start, Relaxed);
                send(calls)?;
            }
            let elapsed = self.started.elapsed();
            match pacer.wake(elapsed) {
                Some(wake) => thread::sleep(wake - elapsed),
                None => return Ok(pacer.held),
            }
        }
    }

    fn wait(&self) -> Result<()> {
        let started = Instant::now();
        while self.outstanding.load(Relaxed) > 0 {
            self.check()?;
            let left = self.outstanding.load(Relaxed);
            ensure!(started.elapsed() < PATIENCE, "{left} calls got no answer");
            thread::sleep(Duration::from_millis(1));
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().map_or(Ok(()), Err)
    }

    /// The checked answer to a call came.
    pub(crate) fn answered(&self, number: u64) {
        let (elapsed, due) = (self.started.elapsed(), self.schedule.due(number));
        if self.schedule.is_measured(due) {
            self.recorder.add(number, elapsed.saturating_sub(due));
        }
        if self.schedule.is_measured(elapsed) {
            self.answered.fetch_add(1, Relaxed);
        }
        self.outstanding.fetch_sub(1, Relaxed);
    }

    /// A call failed, and with it the run.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// The rate is that of the answers; latencies are of the calls that were due in the interval.
    pub(crate) fn measured(&self, interval: &Interval, held: u64) -> Result<Measured> {
        let answered = self.answered.load(Relaxed);
        Ok(Measured { held, ..interval.measured(answered, self.recorder.summary())? })
    }
}

/// One client, each call a task of its own.
pub(crate) async fn open<C: Caller>(
    client: C,
    size: usize,
    schedule: Schedule,
    servers: &[u32],
) -> Result<Measured> {
    let interval = Phase::new().run(schedule.times, servers);
    let open = Arc::new(Open::start(schedule));
    let (all, runtime) =
        (Arc::new((client, Values::new(size), Arc::clone(&open))), Handle::current());
    let paced = spawn_blocking(move || {
        open.pace(|calls| {
            let all = Arc::clone(&all);
            // One task from outside for all that are due, as the runtime's own are cheaper.
            runtime.spawn(async move {
                for number in calls {
                    tokio::spawn(call(Arc::clone(&all), number));
                }
            });
            Ok(())
        })
        .map(|held| (held, open))
    });
    let (held, open) = paced.await.context("the pacing thread panicked")??;
    let interval = interval.join().map_err(|_| anyhow!("the clock panicked"))??;
    open.measured(&interval, held)
}

async fn call<C: Caller>(all: Arc<(C, Values, Arc<Open>)>, number: u64) {
    let (client, values, open) = &*all;
    let answer = client.echo(values.of(number)).await;
    match answer.and_then(|answer| values.check(number, answer.as_ref())) {
        Ok(()) => open.answered(number),
        Err(error) => open.fail(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    const fn schedule(rate: u64, warm_ms: u64, measure_ms: u64) -> Schedule {
        Schedule::new(rate, Times { warm_ms, measure_ms })
    }

    #[test]
    fn calls_are_due_at_even_distances() {
        let schedule = schedule(300, 1_000, 2_000);
        assert_eq!(schedule.calls(), 900);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_nanos(3_333_333));
        assert_eq!(schedule.due(300), Duration::from_secs(1));
        assert_eq!(schedule.due(899), Duration::from_nanos(2_996_666_666));
        assert_eq!(schedule.due_by(Duration::ZERO), 1);
        assert_eq!(schedule.due_by(MS * 3), 1);
        assert_eq!(schedule.due_by(MS * 10), 4);
        assert_eq!(schedule.due_by(Duration::from_secs(3)), 900);
        assert_eq!(schedule.due_by(Duration::from_secs(9)), 900);
    }

    /// A look at the moment of a call, at the latest a nanosecond later, finds it due.
    #[test]
    fn a_call_is_due_when_it_is() {
        for rate in [1, 7, 300, 99_991, 1_000_003] {
            let schedule = schedule(rate, 1_000, 9_000);
            for number in (0..schedule.calls()).step_by(997) {
                let due = schedule.due(number);
                assert!(schedule.due_by(due + Duration::from_nanos(1)) > number, "{rate}");
                let before = due.checked_sub(Duration::from_nanos(1));
                assert!(before.is_none_or(|it| schedule.due_by(it) <= number), "{rate}");
            }
        }
    }

    #[test]
    fn what_is_due_in_the_interval_counts() {
        let schedule = schedule(1_000, 10, 20);
        let measured = |moment| schedule.is_measured(moment);
        assert!(!measured(MS * 9) && measured(MS * 10) && measured(MS * 29) && !measured(MS * 30));
        let counted = (0..schedule.calls()).filter(|it| measured(schedule.due(*it)));
        assert_eq!(counted.count(), 20);
    }

    #[test]
    fn each_call_is_sent_once_and_none_early() {
        let mut pacer = Pacer::new(schedule(1_000, 0, 10));
        assert_eq!(pacer.take(Duration::ZERO, 0), 0..1);
        assert_eq!(pacer.wake(Duration::ZERO), Some(MS));
        assert_eq!(pacer.take(MS / 2, 1), 1..1);
        assert_eq!(pacer.take(MS * 7 / 2, 1), 1..4);
        assert_eq!(pacer.wake(MS * 4 - TICK / 2), Some(MS * 4 + TICK / 2), "not before a tick");
        assert_eq!(pacer.take(MS * 50, 4), 4..10);
        assert_eq!(pacer.wake(MS * 50), None);
        assert_eq!(pacer.held, 0);
    }

    #[test]
    fn calls_beyond_the_bound_are_held_and_counted_once() {
        let mut pacer = Pacer::new(schedule(1_000_000, 0, 100));
        assert_eq!(pacer.take(MS, 0), 0..1_001);
        assert_eq!(pacer.take(MS * 20, 1_001), 1_001..MOST);
        let held = 20_001 - MOST;
        assert_eq!(pacer.held, held);
        assert_eq!(pacer.take(MS * 20, MOST), MOST..MOST);
        assert_eq!(pacer.held, held, "they were counted");
        assert_eq!(pacer.take(MS * 21, MOST - 10), MOST..MOST + 10);
        assert_eq!(pacer.held, held + 1_000);
        assert_eq!(pacer.take(MS * 21, 0), MOST + 10..21_001);
        assert_eq!(pacer.held, held + 1_000);
    }

    /// Answers nothing before a moment.
    #[derive(Clone)]
    struct Late {
        until: Instant,
        wrong: bool,
    }

    impl Caller for Late {
        type Answer = Vec<u8>;

        async fn echo(&self, mut value: Vec<u8>) -> Result<Vec<u8>> {
            tokio::time::sleep_until(self.until.into()).await;
            value[0] ^= u8::from(self.wrong);
            Ok(value)
        }
    }

    #[tokio::test]
    async fn waiting_is_not_hidden_and_answers_are_checked() {
        let late = Late { until: Instant::now() + MS * 400, wrong: false };
        let measured = open(late.clone(), 16, schedule(1_000, 0, 800), &[]).await.unwrap();
        assert!(measured.p99_us > 300_000.0, "the first call waited: {measured:?}");
        assert!(measured.p50_us < 300_000.0, "the last ones did not: {measured:?}");
        assert_eq!(measured.held, 0);
        let wrong = Late { wrong: true, ..late };
        let failed = open(wrong, 16, schedule(1_000, 0, 800), &[]).await.unwrap_err();
        assert!(failed.to_string().contains("answer of another"), "{failed}");
    }
}
