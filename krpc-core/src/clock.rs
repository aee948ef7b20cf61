//! Driver: the process's own time line and its entropy.

#![expect(clippy::disallowed_methods, reason = "a driver: time and entropy enter here")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::{
    ids::InstanceId,
    sealing::Nonce,
    store::ClaimId,
    time::{Time, micros},
};

/// Reads the wall clock once and the monotonic clock from then on, so that time never jumps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Time,
    started: Instant,
}

impl Clock {
    /// A time line that starts now.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base: Time::from_micros(micros(since_epoch)), started: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        self.base + self.started.elapsed()
    }

    /// The moment at which the wall clock is going to show this, as far as can be foreseen.
    pub fn moment(&self, wall: SystemTime) -> Time {
        let (wall_now, now) = (SystemTime::now(), self.now());
        match wall.duration_since(wall_now) {
            Ok(ahead) => now + ahead,
            Err(past) => now - past.duration(),
        }
    }

    /// What the wall clock shows at that moment; `None` if it cannot show it.
    pub fn wall(&self, at: Time) -> Option<SystemTime> {
        let (wall_now, now) = (SystemTime::now(), self.now());
        match at >= now {
            true => wall_now.checked_add(at.saturating_since(now)),
            false => wall_now.checked_sub(now.saturating_since(at)),
        }
    }

    /// The monotonic instant of a moment on this time line, for timers.
    pub fn instant(&self, at: Time) -> Instant {
        self.started + at.saturating_since(self.base)
    }
}

/// A fresh random identity for a client or server.
///
/// # Panics
/// If the operating system has no entropy to give, which leaves nothing sensible to do.
pub fn fresh_instance() -> InstanceId {
    InstanceId::from_bytes(random())
}

/// A fresh random claimant of a key in a result store.
///
/// # Panics
/// As [`fresh_instance`].
pub(crate) fn fresh_claim() -> ClaimId {
    ClaimId::from_bytes(random())
}

/// Random bytes for sealing one packet.
///
/// # Panics
/// As [`fresh_instance`].
pub fn fresh_nonce() -> Nonce {
    random()
}

/// Random bytes for a secret of this process.
///
/// # Panics
/// As [`fresh_instance`].
#[cfg(feature = "seal")]
pub(crate) fn fresh_secret() -> [u8; 32] {
    random()
}

/// A number that nobody can foresee.
///
/// # Panics
/// As [`fresh_instance`].
pub fn entropy() -> u64 {
    u64::from_ne_bytes(random())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system supplies entropy");
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn the_wall_clock_and_the_time_line_tell_the_same() {
        let clock = Clock::start();
        let near = |a: Time, b: Time| {
            let apart = a.saturating_since(b).max(b.saturating_since(a));
            assert!(apart < Duration::from_secs(60), "{apart:?}");
        };
        let hour = Duration::from_secs(3_600);
        for at in [clock.now() - hour, clock.now(), clock.now() + hour] {
            near(clock.moment(clock.wall(at).unwrap()), at);
        }
        let since_epoch = clock.moment(UNIX_EPOCH);
        assert!(since_epoch <= clock.now() - hour);
    }
}
