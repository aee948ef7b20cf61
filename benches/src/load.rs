//! The closed loop: callers that each make a call, check its answer and make the next.
//!
//! Every caller is a task of its own, as in real programs. One task for all callers makes tarpc a
//! third faster with 128 in flight and three times slower with 8,192. Calls count if their answer
//! comes within the measured interval; those in flight at its end are still awaited and checked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::task::JoinSet;

use crate::{
    figure::Measured,
    process::Usage,
    record::{Recorder, Summary},
};

/// What is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct Load {
    /// Connections.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Clients that share each connection, in the way that the system's documentation advises.
    #[arg(long, default_value_t = 1)]
    pub(crate) clients: usize,
    /// Calls in flight of each client.
    #[arg(long, default_value_t = 1)]
    pub(crate) in_flight: usize,
    /// Bytes of a value, sent and returned; at least eight.
    #[arg(long, default_value_t = 16, value_parser = size)]
    pub(crate) size: usize,
}

fn size(text: &str) -> Result<usize> {
    let size = text.parse()?;
    ensure!(size >= 8, "a value begins with its call's number of eight bytes");
    Ok(size)
}

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct Times {
    /// Milliseconds before anything counts.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) warm_ms: u64,
    /// Milliseconds that count.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) measure_ms: u64,
}

impl Times {
    pub(crate) const fn is_nothing(self) -> bool {
        self.warm_ms + self.measure_ms == 0
    }
}

/// A client of one system. It is cloned for each caller.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    /// A value as the system gives it back.
    type Answer: AsRef<[u8]> + Send;

    /// Sends the value to a server, which sends it back.
    fn echo(&self, value: Vec<u8>) -> impl Future<Output = Result<Self::Answer>> + Send;
}

/// The value of a call: its number, and bytes that are the same for all.
#[derive(Clone, Debug)]
pub(crate) struct Values(Arc<[u8]>);

impl Values {
    pub(crate) fn new(size: usize) -> Self {
        // No two neighbours are alike, and the period is no power of two.
        Self((0..251).cycle().take(size).collect())
    }

    pub(crate) fn of(&self, number: u64) -> Vec<u8> {
        let mut value = self.0.to_vec();
        value[..8].copy_from_slice(&number.to_le_bytes());
        value
    }

    /// Looks at every byte of an answer.
    pub(crate) fn check(&self, number: u64, answer: &[u8]) -> Result<()> {
        let (first, rest) = answer.split_at_checked(8).context("an answer is too short")?;
        ensure!(first == number.to_le_bytes(), "call {number} got the answer of another");
        ensure!(*rest == self.0[8..], "call {number} got a changed value");
        Ok(())
    }
}

const WARM: u8 = 0;
const MEASURE: u8 = 1;
const END: u8 = 2;

/// Which part of the measurement it is.
#[derive(Clone, Debug)]
pub(crate) struct Phase(Arc<AtomicU8>);

impl Phase {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(WARM)))
    }

    pub(crate) fn counts(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MEASURE
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == END
    }

    /// Goes through the parts on a thread of its own, which a busy runtime cannot hold up, and
    /// notes what was used in the measured one.
    pub(crate) fn run(
        &self,
        times: Times,
        servers: &[u32],
    ) -> thread::JoinHandle<Result<Interval>> {
        let (phase, servers) = (self.clone(), servers.to_vec());
        thread::spawn(move || {
            let interval = phase.pass(times, &servers);
            phase.0.store(END, Ordering::Relaxed);
            interval
        })
    }

    fn pass(&self, times: Times, servers: &[u32]) -> Result<Interval> {
        thread::sleep(Duration::from_millis(times.warm_ms));
        let before = Usage::of_self_and(servers)?;
        self.0.store(MEASURE, Ordering::Relaxed);
        let started = Instant::now();
        thread::sleep(Duration::from_millis(times.measure_ms));
        self.0.store(END, Ordering::Relaxed);
        let elapsed = started.elapsed();
        let after = Usage::of_self_and(servers)?;
        Ok(Interval { elapsed, cpu: after.cpu - before.cpu, peak_mib: after.peak_mib })
    }
}

/// The measured part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_mib: f64,
}

impl Interval {
    /// With what was answered within it.
    pub(crate) fn measured(&self, answered: u64, latency: Summary) -> Result<Measured> {
        ensure!(answered > 0, "no call was answered");
        let calls = answered as f64;
        Ok(Measured {
            calls: answered,
            held: 0,
            calls_per_s: calls / self.elapsed.as_secs_f64(),
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
            p999_us: latency.p999_us,
            cpu_us_per_call: self.cpu.as_secs_f64() * 1e6 / calls,
            rss_mib: self.peak_mib,
        })
    }
}

/// One call of each client, so that nothing has to be opened later.
pub(crate) async fn greet<C: Caller>(clients: &[C]) -> Result<()> {
    let values = Values::new(8);
    for (number, client) in (0..).zip(clients) {
        let answer = client.echo(values.of(number)).await.context("the first call failed")?;
        values.check(number, answer.as_ref())?;
    }
    Ok(())
}

/// Keeps `load.in_flight` calls of each client in flight.
pub(crate) async fn closed<C: Caller>(
    clients: Vec<C>,
    load: Load,
    times: Times,
    servers: &[u32],
) -> Result<Measured> {
    let (phase, recorder, values) = (Phase::new(), Recorder::new(), Values::new(load.size));
    let mut callers = JoinSet::new();
    let all = clients.iter().flat_map(|client| (0..load.in_flight).map(move |_| client));
    for (index, client) in (0_u64..).zip(all) {
        let (client, phase, recorder) = (client.clone(), phase.clone(), recorder.clone());
        let values = values.clone();
        callers.spawn(async move {
            // Callers have numbers of their own, so that no answer fits two calls.
            for number in index << 32.. {
                if phase.is_over() {
                    break;
                }
                let value = values.of(number);
                let started = Instant::now();
                let answer = client.echo(value).await?;
                let elapsed = started.elapsed();
                values.check(number, answer.as_ref())?;
                if phase.counts() {
                    recorder.add(index, elapsed);
                }
            }
            anyhow::Ok(())
        });
    }
    let interval = phase.run(times, servers);
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller panicked")??;
    }
    let interval = interval.join().map_err(|_| anyhow::anyhow!("the clock panicked"))??;
    let latency = recorder.summary();
    interval.measured(latency.calls, latency)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Clone)]
    struct Here {
        wrong: bool,
    }

    impl Caller for Here {
        type Answer = Vec<u8>;

        async fn echo(&self, mut value: Vec<u8>) -> Result<Vec<u8>> {
            tokio::task::yield_now().await;
            if self.wrong {
                value[8] ^= 1;
            }
            Ok(value)
        }
    }

    const LOAD: Load = Load { connections: 1, clients: 1, in_flight: 3, size: 16 };
    const TIMES: Times = Times { warm_ms: 1, measure_ms: 20 };

    #[tokio::test]
    async fn calls_are_counted_and_answers_checked() {
        greet(&[Here { wrong: false }]).await.unwrap();
        let measured = closed(vec![Here { wrong: false }], LOAD, TIMES, &[]).await.unwrap();
        assert!(measured.calls > 0 && measured.calls_per_s > 0.0 && measured.rss_mib > 0.0);
        assert!(measured.p50_us <= measured.p99_us && measured.p99_us <= measured.p999_us);
        let wrong = closed(vec![Here { wrong: true }], LOAD, TIMES, &[]).await;
        assert!(wrong.unwrap_err().to_string().contains("changed value"));
    }

    #[test]
    fn only_the_own_value_is_right() {
        let values = Values::new(16);
        let value = values.of(7);
        assert_eq!(value.len(), 16);
        assert!(values.check(7, &value).is_ok());
        assert!(values.check(8, &value).is_err());
        assert!(values.check(7, &value[..15]).is_err());
        assert!(values.check(7, &value[..4]).is_err());
        assert!(values.check(7, &[&value[..], &[0]].concat()).is_err());
    }
}
