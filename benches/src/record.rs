//! Latencies of many callers at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

/// Callers share these, so that two threads rarely meet at one.
const SHARDS: usize = 16;

/// Histograms of nanoseconds, with three digits.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<[Mutex<Histogram<u64>>]>);

/// What the histograms say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) calls: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are supported")
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(histogram())).collect())
    }

    /// Adds a call of this caller.
    pub(crate) fn add(&self, caller: u64, latency: Duration) {
        let shard = usize::try_from(caller).unwrap_or_default() % SHARDS;
        let mut shard = self.0[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        shard.record(nanos).expect("a histogram without a maximum grows");
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut all = histogram();
        for shard in &*self.0 {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.add(&*shard).expect("a histogram without a maximum grows");
        }
        let micros = |quantile| all.value_at_quantile(quantile) as f64 / 1_000.0;
        Summary {
            calls: all.len(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_shards() {
        let recorder = Recorder::new();
        for caller in 1..=1_000 {
            recorder.add(caller, Duration::from_micros(caller));
        }
        let summary = recorder.summary();
        assert_eq!(summary.calls, 1_000);
        for (got, wanted) in
            [(summary.p50_us, 500.0), (summary.p99_us, 990.0), (summary.p999_us, 999.0)]
        {
            assert!((got / wanted - 1.0).abs() < 0.002, "{got} is not {wanted}");
        }
    }
}
