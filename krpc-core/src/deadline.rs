//! When a call is too late, and which call is next to be.
//!
//! from: [`server::machine`](crate::server::machine) with a request taken from a record,
//! [`client::pending`](crate::client::pending) with a registered call
//! to: the same, with what has expired

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::time::{BrokerClock, Time};

/// The longest time a call can have: a year. Clients cut longer ones to it, and servers too.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// All deadlines of one machine in one queue, so that one waker serves them and no call needs a
/// timer of its own.
///
/// Nearly every call ends long before its deadline, so nothing is taken out when it does: that
/// would cost more than the rest of its bookkeeping. What has ended is swept out when it is most
/// of the queue, or passed over when its moment comes.
#[derive(Clone, Debug)]
pub struct DeadlineQueue<K> {
    entries: BinaryHeap<Reverse<(Time, K)>>,
}

/// Entries of ended calls that may stay for each call that waits, and beside them.
const ENDED: (usize, usize) = (3, 64);

impl<K: Copy + Ord> DeadlineQueue<K> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { entries: BinaryHeap::new() }
    }

    /// Adds a deadline. `waiting` is how many keys still wait, this one included, and `waits` says
    /// which: the others may be forgotten.
    pub fn insert(&mut self, at: Time, key: K, waiting: usize, waits: impl Fn(K) -> bool) {
        self.entries.push(Reverse((at, key)));
        let (each, beside) = ENDED;
        if self.entries.len() > waiting.saturating_mul(each + 1) + beside {
            self.entries.retain(|Reverse((_, key))| waits(*key));
        }
    }

    /// When to look again: not after the earliest deadline of what waits.
    pub fn next(&self) -> Option<Time> {
        self.entries.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out the earliest deadline that is not after `now`, if there is one; its key may have
    /// ended.
    pub fn pop_expired(&mut self, now: Time) -> Option<(Time, K)> {
        self.next().filter(|at| *at <= now)?;
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// Forgets all, as nothing waits.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

impl<K: Copy + Ord> Default for DeadlineQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// A record's receipt, by which the deadlines of its calls are judged.
///
/// In doubt a call lives, for a fresh one must not expire because of a skewed clock: each moment
/// of the broker's clock is later here by as much as that clock is
/// [uncertain](BrokerClock::uncertainty). But a record was not appended after it was received, so
/// no call lives longer than its budget from then, however wrong the clocks are. While the
/// broker's clock is unknown it is taken to be the receiver's.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    /// From the receiver's clock to the broker's, in microseconds, if that is known.
    distance: Option<i64>,
    doubt: Duration,
    /// From when budgets count.
    start: Time,
    /// When the record was taken, on the receiver's clock.
    received: Time,
}

impl Receipt {
    /// Of a record that was `appended` by the broker's clock and is `received` now by the
    /// receiver's. `appended` is absent where the topic does not stamp appends; budgets count from
    /// `received` then.
    pub fn new(appended: Option<Time>, received: Time, clock: &BrokerClock) -> Self {
        let doubt = clock.uncertainty(received).unwrap_or(Duration::ZERO);
        let mut receipt = Self { distance: clock.distance(), doubt, start: received, received };
        if let Some(appended) = appended {
            receipt.start = receipt.latest(appended).min(received);
        }
        receipt
    }

    /// When a call is too late, on the receiver's clock: the tighter of its budget, which counts
    /// from the record's append, and its absolute deadline on the broker's clock.
    pub fn deadline(&self, budget: Duration, deadline: Option<Time>) -> Time {
        (self.start + budget).min(deadline.map_or(Time::MAX, |at| self.latest(at)))
    }

    /// When the record was taken, on the receiver's clock.
    pub const fn received(&self) -> Time {
        self.received
    }

    /// How long the way here was of what was `sent` at this moment of the broker's clock; zero if
    /// that clock is not known.
    pub fn flight(&self, sent: Time) -> Duration {
        let received = self.distance.map(|distance| self.received.shifted(distance));
        received.map_or(Duration::ZERO, |received| received.saturating_since(sent))
    }

    /// The latest that this moment of the broker's clock may be on the receiver's.
    fn latest(&self, at: Time) -> Time {
        at.shifted(self.distance.unwrap_or(0).saturating_neg()) + self.doubt
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const NOON: Time = Time::from_micros(1_800_000_000_000_000);
    const BUDGET: Duration = Duration::from_secs(10);

    fn local_deadline(
        budget: Duration,
        deadline: Option<Time>,
        appended: Option<Time>,
        received: Time,
        clock: &BrokerClock,
    ) -> Time {
        Receipt::new(appended, received, clock).deadline(budget, deadline)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn expired_come_in_order_and_others_stay() {
        let mut queue = DeadlineQueue::new();
        assert_eq!((queue.next(), queue.pop_expired(Time::MAX)), (None, None));
        [(3, 'c'), (1, 'a'), (2, 'b'), (2, 'a')]
            .into_iter()
            .for_each(|(at, key)| queue.insert(Time::from_micros(at), key, 4, |_| true));
        assert_eq!((queue.next(), queue.entries.len()), (Some(Time::from_micros(1)), 4));
        let now = Time::from_micros(2);
        assert_eq!(queue.pop_expired(now), Some((Time::from_micros(1), 'a')));
        assert_eq!(queue.pop_expired(now), Some((Time::from_micros(2), 'a')));
        assert_eq!(queue.pop_expired(now), Some((Time::from_micros(2), 'b')));
        assert_eq!(queue.pop_expired(now), None);
        assert!(!queue.entries.is_empty());
        queue.clear();
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn what_has_ended_is_swept_out_and_what_waits_stays() {
        let mut queue = DeadlineQueue::new();
        let waits = |key: u64| key.is_multiple_of(100);
        for key in 0..100_000 {
            let waiting = usize::try_from(key / 100 + 1).unwrap();
            queue.insert(Time::from_micros(key ^ 0x5a5a), key, waiting, waits);
            assert!(queue.entries.len() <= waiting * 4 + 64);
        }
        let expired = std::iter::from_fn(|| queue.pop_expired(Time::MAX));
        let kept: Vec<_> = expired.filter(|(_, key)| waits(*key)).collect();
        assert_eq!(kept.len(), 1000);
        assert!(kept.is_sorted());
    }

    /// A receiver whose wall clock is off by `skew`, with a broker clock learnt from one report
    /// that took `report` to come.
    fn skewed(skew: i64, report: Duration) -> (impl Fn(Time) -> Time, BrokerClock) {
        let local = move |broker: Time| broker.shifted(skew);
        let mut clock = BrokerClock::default();
        let sent = NOON - secs(1);
        let appended = Time::from_micros((sent + report / 2).as_micros() / 1000 * 1000);
        clock.observe(local(sent), local(sent + report), appended);
        (local, clock)
    }

    proptest! {
        /// The same deadline, true within the uncertainty, whatever either wall clock says.
        #[test]
        fn skew_neither_expires_the_fresh_nor_keeps_the_stale(
            skew in -30 * HOUR..30 * HOUR,
            report in 100_u64..800_000,
            flight in 0_u64..2_000_000,
            age in 20_u64..800_000,
            absolute: bool,
        ) {
            let (local, clock) = skewed(skew, Duration::from_micros(report));
            let doubt = clock.uncertainty(local(NOON)).unwrap();
            prop_assert!(doubt <= Duration::from_micros(report / 2 + 1500));
            let appended = Time::from_micros(NOON.as_micros() / 1000 * 1000);
            let received = local(NOON + Duration::from_micros(flight));
            let deadline = absolute.then_some(NOON + BUDGET);

            let fresh = local_deadline(BUDGET, deadline, Some(appended), received, &clock);
            prop_assert!(fresh >= local(NOON) + BUDGET - Duration::from_millis(1));
            prop_assert!(fresh <= local(NOON) + BUDGET + doubt * 2);
            prop_assert!(fresh <= received + BUDGET);

            let stale = local_deadline(
                BUDGET,
                deadline.map(|at| at - secs(age)),
                Some(appended - secs(age)),
                received,
                &clock,
            );
            prop_assert!(stale < received, "a record of {age} s ago");
        }
    }

    #[test]
    fn the_tighter_one_counts() {
        let (local, clock) = skewed(5 * HOUR, Duration::from_millis(2));
        let near = |at: Time, expected: Time| {
            at.saturating_since(expected).max(expected.saturating_since(at)).as_millis() < 5
        };
        let now = local(NOON);
        let by_budget = local_deadline(BUDGET, Some(NOON + secs(60)), Some(NOON), now, &clock);
        assert!(near(by_budget, now + BUDGET));
        let absolute = local_deadline(BUDGET, Some(NOON + secs(3)), Some(NOON), now, &clock);
        assert!(near(absolute, now + secs(3)));
    }

    /// The first record after a start, before any delivery report.
    #[test]
    fn an_unknown_clock_is_taken_to_be_ours() {
        let clock = BrokerClock::default();
        let now = NOON + secs(2);
        assert_eq!(local_deadline(BUDGET, None, Some(NOON), now, &clock), NOON + BUDGET);
        assert_eq!(local_deadline(BUDGET, Some(now), Some(NOON), now, &clock), now);
        let ahead = Some(NOON + secs(7200));
        assert_eq!(local_deadline(BUDGET, None, ahead, now, &clock), now + BUDGET);
    }

    #[test]
    fn without_append_time_the_budget_counts_from_receipt() {
        let (local, clock) = skewed(-HOUR, Duration::from_millis(2));
        let now = local(NOON);
        assert_eq!(local_deadline(BUDGET, None, None, now, &clock), now + BUDGET);
        assert_eq!(local_deadline(BUDGET, None, None, now, &BrokerClock::default()), now + BUDGET);
        assert!(local_deadline(BUDGET, Some(NOON - secs(9)), None, now, &clock) < now);
    }

    #[test]
    fn extreme_values_stay_in_range() {
        for at in [Time::from_micros(0), NOON, Time::MAX] {
            for skew in [-HOUR, 0, HOUR] {
                let (_, clock) = skewed(skew, Duration::from_millis(2));
                let end = local_deadline(Duration::MAX, Some(Time::MAX), Some(at), NOON, &clock);
                assert!(end > NOON);
                _ = local_deadline(Duration::ZERO, Some(at), Some(at), at, &clock);
            }
        }
    }

    /// A server that was idle for a week answers its first call though its clock has drifted.
    #[test]
    fn drift_of_an_idle_week_does_not_expire_a_fresh_call() {
        let (local, clock) = skewed(HOUR, Duration::from_millis(2));
        let week = secs(7 * 24 * 3600);
        let drift = 30_000_000; // 50 ppm
        let received = local(NOON + week).shifted(drift);
        assert!(local_deadline(BUDGET, None, Some(NOON + week), received, &clock) > received);
        let old = NOON + week - secs(600);
        assert!(local_deadline(BUDGET, None, Some(old), received, &clock) < received);
    }
}
