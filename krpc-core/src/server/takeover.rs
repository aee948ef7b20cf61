//! After an owner that did not end in good order: which calls it may have died of, and how they
//! begin again.
//!
//! Nobody knows which call of a dead owner ended it, if any did. So every unfinished call that was
//! there by then counts as begun once. Each further begin is committed before it happens: that of
//! many calls at once as an offset below which all may have been begun twice, from the third on
//! each call by its name. So a call that ends its server is begun exactly as often as is allowed,
//! its neighbours are answered, and a backlog that nobody came to is not held against anybody.
//!
//! Pure.
//!
//! from: [`super::gate`], with what the predecessor said of itself · to: the same

use super::commit_map::Head;
use crate::time::Time;

/// Calls that are in doubt where records carry no time of their append.
const UNDATED: u32 = 65_536;

/// How a call begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Course {
    /// As ever: it was not begun before.
    Plain,
    /// After a commit says that it, with others, may have been begun twice.
    Careful,
    /// After a commit names it, and no other such call beside it.
    Alone,
    /// Not at all: it was begun as often as is allowed.
    Never,
}

impl Course {
    /// Of a call that may have been begun so often, where so many begins are allowed.
    pub(super) const fn after(begins: u32, allowed: u32) -> Self {
        match begins {
            0 => Self::Plain,
            _ if begins >= allowed => Self::Never,
            1 if allowed > 2 => Self::Careful,
            _ => Self::Alone,
        }
    }
}

/// What is in doubt in a partition; see the module.
#[derive(Debug)]
pub(super) struct Takeover {
    before: Head,
    /// Records that were appended later, on the broker's clock, are in no doubt.
    until: Option<Time>,
    undated: u32,
}

impl Takeover {
    /// A partition whose last owner said this of itself is taken over now, on the broker's clock;
    /// `None` if nothing of it is in doubt.
    pub(super) fn new(before: Head, until: Option<Time>) -> Option<Self> {
        (!before.released).then_some(Self { before, until, undated: UNDATED })
    }

    /// A record of so many calls comes: whether it, and anything behind it, may be in doubt.
    pub(super) fn doubts(&mut self, appended: Option<Time>, calls: u32) -> bool {
        match (self.until, appended) {
            (Some(until), Some(appended)) => appended <= until,
            _ => {
                let doubts = self.undated > 0;
                self.undated = self.undated.saturating_sub(calls);
                doubts
            }
        }
    }

    /// How often this call, of a record that is in doubt, may have been begun.
    pub(super) fn begins(&self, offset: i64, index: u32) -> u32 {
        let named = self.before.named.iter().find(|it| (it.offset, it.index) == (offset, index));
        match named {
            Some(named) => named.begins,
            None if offset < self.before.twice => 2,
            None => 1,
        }
    }
}

#[cfg(test)]
mod tests;
