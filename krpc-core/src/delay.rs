//! Calls that are due later: when they count as due, and where they wait until then.
//!
//! Pure. They wait in a topic whose partitions are *classes*: whatever is in class `c` stays there
//! for exactly `4^c` seconds. So the records of a partition become ripe in the order of their
//! offsets, and how far a class is looked through is one number. A call that is not due by then
//! goes on into the largest class that does not hold it too long; what is left at the end, less
//! than [`NEAR`], it waits in memory.
//!
//! from: [`crate::client::placing`], [`crate::server::delays`] · to: the same

use std::time::Duration;

/// A call that is due within this waits in the memory of its server.
pub const NEAR: Duration = Duration::from_millis(1_500);

/// The partitions of the topic of delayed calls: holds of 1 s to 3 days. A cancel is found again
/// whenever a call is looked at, so the longest hold has to be well below the time for which
/// cancels are kept, 7 days.
pub const CLASSES: u32 = 10;

/// The shortest retention with which the topic can be used: as long as the last class holds, and
/// most of a day in which no server is there.
pub const LEAST_RETENTION: Duration = Duration::from_secs(4 * 24 * 60 * 60);

/// What the doubt about the broker's clock may delay a call by at most: the doubt grows with the
/// time since anything was sent, by far more than clocks that are kept in step really part.
pub const MAX_DOUBT: Duration = Duration::from_millis(10);

/// What is left for the memory at least: a record is looked at a little late.
const SPARE: Duration = Duration::from_millis(500);

/// How long a class holds what is in it.
pub const fn hold(class: u32) -> Duration {
    Duration::from_secs(1 << (2 * class))
}

/// The class for a call that is due in so long; `None` if it waits in memory.
pub fn class(left: Duration) -> Option<u32> {
    (0..CLASSES).rev().find(|class| hold(*class) + SPARE <= left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_hold_a_second_to_three_days() {
        let holds = [hold(0), hold(1), hold(CLASSES - 1)].map(|hold| hold.as_secs());
        assert_eq!(holds, [1, 4, 262_144]);
        assert!(hold(CLASSES - 1) < LEAST_RETENTION);
        let class_of = |millis| class(Duration::from_millis(millis));
        assert_eq!([class_of(0), class_of(1_499)], [None, None]);
        assert_eq!(
            [class_of(1_500), class_of(4_499), class_of(4_500)],
            [Some(0), Some(0), Some(1)]
        );
        assert_eq!(class(Duration::MAX), Some(CLASSES - 1));
    }

    proptest! {
        /// However late each look is, the call is in memory before it is due, in a bounded number
        /// of steps.
        #[test]
        fn no_call_is_held_beyond_its_moment(
            left in 0_u64..366 * 24 * 3_600_000_000,
            late in prop::collection::vec(0_u64..400_000, 160),
        ) {
            let mut left = Duration::from_micros(left);
            let mut steps = 0;
            while let Some(class) = class(left) {
                let held = hold(class) + Duration::from_micros(late[steps]);
                prop_assert!(held <= left, "held for {held:?} with {left:?} to go");
                left -= held;
                steps += 1;
            }
            prop_assert!(left < NEAR);
            prop_assert!(steps <= 3 * CLASSES as usize + 121);
        }
    }
}
