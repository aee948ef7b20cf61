//! Time as the machines see it, and the distance to the broker's clock.
//!
//! A skewed clock must neither expire fresh calls nor keep stale ones. So every moment that
//! travels is on the *broker's* clock, and each side learns how far its own clock is from it by
//! watching its delivery reports: the broker stamped the record (`LogAppendTime`) at some moment
//! between the send and the report.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use crate::delay::MAX_DOUBT;

/// A moment: microseconds since the Unix epoch, either on this process's own time line (which
/// starts at the wall clock and then runs monotonically) or on the broker's; names say which.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The furthest moment; later sums stay here.
    pub const MAX: Self = Self(u64::MAX);

    /// A moment this many microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whether a clock that says this tells the time.
    pub(crate) fn is_real(self) -> bool {
        self >= NO_TIME
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros_since(earlier).0)
    }

    /// The same in microseconds.
    pub const fn micros_since(self, earlier: Self) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved by a signed number of microseconds, kept within range.
    pub const fn shifted(self, micros: i64) -> Self {
        Self(self.0.saturating_add_signed(micros))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// The whole microseconds of a duration, at most `u64::MAX`.
pub const fn micros(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(duration.subsec_micros() as u64)
}

/// A length of time in whole microseconds, as it travels: half as large as a [`Duration`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Micros(pub u64);

impl From<Duration> for Micros {
    fn from(duration: Duration) -> Self {
        Self(micros(duration))
    }
}

impl From<Micros> for Duration {
    fn from(Micros(micros): Micros) -> Self {
        Self::from_micros(micros)
    }
}

impl Sub for Micros {
    type Output = Self;

    /// What is left of it: nothing, if more is taken.
    fn sub(self, less: Self) -> Self {
        Self(self.0.saturating_sub(less.0))
    }
}

/// The distance from this process's clock to the broker's, learnt from delivery reports.
///
/// The broker stamped the record at some moment between the send and the report; that brackets
/// the distance. Brackets are intersected, so the quickest report decides and slow ones do no
/// harm. A bracket widens with age by [`DRIFT_PPM`] on both sides, which follows clocks that
/// drift; one that the next report contradicts is replaced by it, which follows clocks that are
/// set, and a change to a broker whose clock differs.
#[derive(Clone, Debug, Default)]
pub struct BrokerClock {
    bracket: Option<Bracket>,
}

/// How much two clocks may drift apart, in parts per million: quartz stays below 50, and a time
/// daemon that slews adds at most as much for long.
pub const DRIFT_PPM: u64 = 100;

/// A clock that says less does not tell the time.
const NO_TIME: Time = Time(1_000_000_000_000_000);

/// What the broker's stamp may be too low by: it counts whole milliseconds.
const STAMP_MICROS: i64 = 1000;

/// The distance lay between `low` and `high` at the local time `at`.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    low: i64,
    high: i64,
    at: Time,
}

impl BrokerClock {
    /// Learns from one delivery report: the record was handed to the producer at `sent` and
    /// `reported` at that moment, both on the local clock; the broker stamped it `appended`.
    ///
    /// Only for topics with `LogAppendTime`: another topic's stamp is the sender's own. A report
    /// that came before its send, or without a stamp (zero), teaches nothing.
    pub fn observe(&mut self, sent: Time, reported: Time, appended: Time) {
        if reported < sent || appended == Time::default() {
            return;
        }
        let low = signed(appended).saturating_sub(signed(reported));
        let high = signed(appended).saturating_sub(signed(sent)).saturating_add(STAMP_MICROS);
        let sample = Bracket { low, high, at: reported };
        let known = self.bracket.map(|bracket| bracket.widened(reported));
        self.bracket = Some(match known {
            Some(known) if known.low <= high && low <= known.high => Bracket {
                low: low.max(known.low),
                high: high.min(known.high),
                // Reports may come in another order than their callbacks ran.
                at: reported.max(known.at),
            },
            _ => sample,
        });
    }

    /// Microseconds to add to a local time to get the broker's; `None` before the first report.
    pub fn distance(&self) -> Option<i64> {
        self.bracket
            .map(|Bracket { low, high, .. }| low.saturating_add(high.saturating_sub(low) / 2))
    }

    /// A local moment on the broker's clock; `None` before the first report.
    pub fn to_broker(&self, local: Time) -> Option<Time> {
        self.distance().map(|distance| local.shifted(distance))
    }

    /// A local moment as people are to read it: on the broker's clock, if that is known and tells
    /// the time (librdkafka's mock cluster stamps every record just after 1970).
    pub fn stamp(&self, local: Time) -> Time {
        self.to_broker(local).filter(|at| at.is_real()).unwrap_or(local)
    }

    /// That moment as early as it may be on the broker's clock, but for a doubt of more than
    /// [`MAX_DOUBT`]: whatever waits for a moment of the broker's goes by this.
    pub fn earliest(&self, local: Time) -> Time {
        self.stamp(local) - self.small_doubt(local)
    }

    /// The same, as late as it may be, as known at the local time `now`.
    pub fn latest(&self, local: Time, now: Time) -> Time {
        self.stamp(local) + self.small_doubt(now)
    }

    /// The local moment of a stamp, as known at the local time `now`.
    pub fn unstamp(&self, stamp: Time, now: Time) -> Time {
        now.shifted(signed(stamp).saturating_sub(signed(self.stamp(now))))
    }

    fn small_doubt(&self, now: Time) -> Duration {
        let known = self.to_broker(now).is_some_and(Time::is_real);
        self.uncertainty(now).filter(|_| known).unwrap_or_default().min(MAX_DOUBT)
    }

    /// How far off [`distance`](Self::distance) may be, either way, at the local time `now`: half
    /// the quickest report's time at best, and more the longer ago it was.
    pub fn uncertainty(&self, now: Time) -> Option<Duration> {
        let bracket = self.bracket?.widened(now);
        let width = bracket.high.saturating_sub(bracket.low).unsigned_abs();
        Some(Duration::from_micros(width.div_ceil(2)))
    }
}

impl Bracket {
    /// What is still certain at the local time `now`.
    fn widened(self, now: Time) -> Self {
        let age = micros(now.saturating_since(self.at));
        let drift = i64::try_from(age / (1_000_000 / DRIFT_PPM)).unwrap_or(i64::MAX);
        Self {
            low: self.low.saturating_sub(drift),
            high: self.high.saturating_add(drift),
            at: self.at.max(now),
        }
    }
}

fn signed(time: Time) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// A record sent at the local time `at`, on the way for `there` and its report for `back`.
    fn report(clock: &mut BrokerClock, at: u64, there: u64, back: u64, distance: i64) {
        let sent = Time::from_micros(at);
        let stamp = Time::from_micros(at + there).shifted(distance).as_micros() / 1000 * 1000;
        clock.observe(sent, Time::from_micros(at + there + back), Time::from_micros(stamp));
    }

    fn error(clock: &BrokerClock, distance: i64) -> u64 {
        clock.distance().unwrap().abs_diff(distance)
    }

    const START: u64 = 1_800_000_000_000_000;

    #[test]
    fn nothing_is_known_before_the_first_report() {
        let mut clock = BrokerClock::default();
        let now = Time::from_micros(START);
        assert_eq!((clock.distance(), clock.uncertainty(now)), (None, None));
        assert_eq!(clock.to_broker(now), None);
        clock.observe(now, now - Duration::from_secs(1), now);
        clock.observe(now, now, Time::default());
        assert_eq!(clock.distance(), None, "neither teaches anything");
    }

    /// A way there or back.
    const MICROS: std::ops::Range<u64> = 0..50_000;

    proptest! {
        #[test]
        fn the_truth_is_within_the_uncertainty(
            distance in -30 * HOUR..30 * HOUR,
            ppm in -50_i64..50,
            reports in prop::collection::vec((MICROS, MICROS, 0_u64..600_000_000), 1..50),
        ) {
            let mut clock = BrokerClock::default();
            let mut at = START;
            let mut quickest = u64::MAX;
            let mut truth = distance;
            for (there, back, idle) in reports {
                report(&mut clock, at, there, back, truth);
                quickest = quickest.min(there + back);
                let now = Time::from_micros(at + there + back);
                let doubt = micros(clock.uncertainty(now).unwrap());
                prop_assert!(error(&clock, truth) <= doubt + 10);
                prop_assert!(doubt <= (there + back + 1000) / 2 + 1);
                at += there + back + idle;
                let age = i64::try_from(at - START).unwrap();
                truth = distance + age * ppm / 1_000_000;
            }
        }
    }

    #[test]
    fn the_quickest_report_decides() {
        let mut clock = BrokerClock::default();
        report(&mut clock, START, 400_000, 1_000, HOUR);
        assert!(error(&clock, HOUR) > 100_000);
        report(&mut clock, START + 1_000_000, 300, 300, HOUR);
        assert!(error(&clock, HOUR) < 1_000);
        report(&mut clock, START + 2_000_000, 1_000, 900_000, HOUR);
        assert!(error(&clock, HOUR) < 1_000, "the slow one does no harm");
    }

    #[test]
    fn a_clock_that_is_set_is_followed_at_once() {
        let mut clock = BrokerClock::default();
        for (second, distance) in [(0, 0), (1, 0), (2, 3 * HOUR), (3, 3 * HOUR), (4, -50_000)] {
            report(&mut clock, START + second * 1_000_000, 500, 500, distance);
            assert!(error(&clock, distance) < 1_500, "after {second} s");
        }
    }

    #[test]
    fn a_stamp_is_the_local_moment_it_was_made_of() {
        let mut clock = BrokerClock::default();
        let (now, later) = (Time::from_micros(START), Time::from_micros(START + 5));
        assert_eq!(clock.unstamp(clock.stamp(later), now), later);
        for distance in [3 * HOUR, -3 * HOUR, 1_000_000 - START.cast_signed()] {
            report(&mut clock, START, 500, 500, distance);
            assert_eq!(clock.unstamp(clock.stamp(later), now), later, "{distance}");
        }
        assert!(clock.unstamp(Time::MAX, now) > now);
        assert_eq!(clock.unstamp(Time::default(), now), Time::default());
    }

    /// A clock that runs away faster than any drift we allow for.
    #[test]
    fn a_slewed_clock_is_followed() {
        let mut clock = BrokerClock::default();
        for second in 0..600 {
            let distance = 500 * i64::try_from(second).unwrap();
            report(&mut clock, START + second * 1_000_000, 500, 1_500, distance);
            assert!(error(&clock, distance) < 3_000, "after {second} s");
        }
    }

    #[test]
    fn uncertainty_grows_with_age() {
        let mut clock = BrokerClock::default();
        report(&mut clock, START, 500, 500, 0);
        let after = |seconds: u64| {
            let now = Time::from_micros(START + 1_000 + seconds * 1_000_000);
            micros(clock.uncertainty(now).unwrap())
        };
        assert_eq!((after(0), after(10), after(3_600)), (1_000, 2_000, 361_000));
    }

    #[test]
    fn extreme_times_stay_in_range() {
        let mut clock = BrokerClock::default();
        let ends = [Time::from_micros(1), Time::from_micros(START), Time::MAX];
        for sent in ends {
            for appended in ends {
                clock.observe(sent, Time::MAX, appended);
                clock.observe(sent, sent, appended);
                ends.iter().for_each(|at| _ = clock.to_broker(*at));
                assert!(clock.uncertainty(Time::MAX).is_some());
            }
        }
    }
}
