//! A window over packet sequences that tells the broker's duplicates.
//!
//! A producer that saw no acknowledgement sends a packet again, with the same sequence. Sequences
//! of one sender ascend in a partition, with gaps, and repeats come soon; so the newest sequence
//! and a bit for each of the last thousand or so are enough. What is older than the window cannot
//! be told, and is let through: a repeated call is better than a lost one.
//!
//! from, to: [`crate::inbox`]

use foldhash::HashMap;

use crate::ids::InstanceId;

/// Sequences that a window covers, counted back from the newest: at least this many.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;

const WORDS: usize = 16;

/// Senders that are remembered for each partition. With 160 bytes for each it is less than 1 MiB;
/// more live clients than this make the window forget, which costs repeats, never losses.
pub const MAX_SENDERS: usize = 4096;

/// What a window says of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not seen before.
    New,
    /// Seen before.
    Duplicate,
    /// Older than the window covers: it cannot be told.
    Older,
}

/// The sequences of one sender in one partition. The bits are a ring of words, and only whole
/// words are dropped (the scheme of RFC 6479).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Window {
    newest: u64,
    seen: [u64; WORDS],
}

impl Window {
    /// Takes note of a sequence and says whether it was there before.
    pub fn admit(&mut self, sequence: u64) -> Verdict {
        let (block, newest) = (sequence / 64, self.newest / 64);
        if block > newest {
            for ahead in 1..=(block - newest).min(WORDS as u64) {
                self.seen[slot(newest + ahead)] = 0;
            }
        } else if newest - block >= WORDS as u64 {
            return Verdict::Older;
        }
        self.newest = self.newest.max(sequence);
        let (word, bit) = (&mut self.seen[slot(block)], 1 << (sequence % 64));
        if *word & bit != 0 {
            return Verdict::Duplicate;
        }
        *word |= bit;
        Verdict::New
    }
}

/// The place of a block of 64 sequences in the ring.
fn slot(block: u64) -> usize {
    usize::try_from(block % WORDS as u64).unwrap_or_default()
}

/// The windows of one partition's senders, at most [`MAX_SENDERS`]: at the limit the quarter that
/// was silent longest is forgotten at once, so that strangers who flood the partition with new
/// identities cost little each.
#[derive(Debug, Default)]
pub struct Windows {
    senders: HashMap<InstanceId, Entry>,
    admitted: u64,
}

#[derive(Debug)]
struct Entry {
    window: Window,
    /// The value of `admitted` when the sender was last heard: unique to it.
    heard: u64,
}

impl Windows {
    /// Takes note of a sender's sequence and says whether it was there before.
    pub fn admit(&mut self, sender: InstanceId, sequence: u64) -> Verdict {
        self.admitted += 1;
        if let Some(entry) = self.senders.get_mut(&sender) {
            entry.heard = self.admitted;
            return entry.window.admit(sequence);
        }
        if self.senders.len() >= MAX_SENDERS {
            self.forget_silent();
        }
        let mut entry = Entry { window: Window::default(), heard: self.admitted };
        let verdict = entry.window.admit(sequence);
        self.senders.insert(sender, entry);
        verdict
    }

    /// How many senders are remembered.
    pub fn senders(&self) -> usize {
        self.senders.len()
    }

    fn forget_silent(&mut self) {
        let mut heard: Vec<_> = self.senders.values().map(|entry| entry.heard).collect();
        let (_, last, _) = heard.select_nth_unstable(MAX_SENDERS / 4 - 1);
        let last = *last;
        self.senders.retain(|_, entry| entry.heard > last);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u64) -> InstanceId {
        InstanceId::from_bytes(u128::from(n).to_be_bytes())
    }

    #[test]
    fn the_second_of_a_sequence_is_a_duplicate() {
        let mut window = Window::default();
        for sequence in [0, 1, 5, 3, 900] {
            assert_eq!(window.admit(sequence), Verdict::New);
            assert_eq!(window.admit(sequence), Verdict::Duplicate);
        }
        assert_eq!(window.admit(4), Verdict::New);
        assert_eq!(window.admit(0), Verdict::Duplicate);
    }

    #[test]
    fn what_is_older_than_the_window_is_not_taken_for_a_duplicate() {
        let mut window = Window::default();
        assert_eq!(window.admit(10), Verdict::New);
        assert_eq!(window.admit(10 + WINDOW), Verdict::New);
        assert_eq!(window.admit(10), Verdict::Duplicate);
        assert_eq!(window.admit(u64::MAX), Verdict::New);
        assert_eq!(window.admit(10), Verdict::Older);
        assert_eq!(window.admit(u64::MAX), Verdict::Duplicate);
        assert_eq!(window.admit(u64::MAX - WINDOW), Verdict::New);
    }

    /// The oldest word's place is the newest word's: one taken for the other would lose a packet.
    #[test]
    fn a_whole_turn_of_the_ring_is_older_and_no_duplicate() {
        let turn = WORDS as u64 * 64;
        let mut window = Window::default();
        assert_eq!(window.admit(turn + 1), Verdict::New);
        assert_eq!(window.admit(1), Verdict::Older);
        assert_eq!(window.admit(turn - WINDOW), Verdict::New);
    }

    #[test]
    fn the_senders_silent_longest_are_forgotten() {
        let mut windows = Windows::default();
        let limit = MAX_SENDERS as u64;
        for n in 1..=limit {
            assert_eq!(windows.admit(id(n), 0), Verdict::New);
        }
        // The oldest of all is heard again, so it outlives the others.
        assert_eq!(windows.admit(id(1), 0), Verdict::Duplicate);
        assert_eq!(windows.admit(id(limit + 1), 0), Verdict::New);
        assert_eq!(windows.senders(), MAX_SENDERS * 3 / 4 + 1);
        assert_eq!(windows.admit(id(1), 0), Verdict::Duplicate);
        assert_eq!(windows.admit(id(limit), 0), Verdict::Duplicate);
        assert_eq!(windows.admit(id(2), 0), Verdict::New);
        for n in 0..3 * limit {
            windows.admit(id(n << 32), 0);
            assert!(windows.senders() <= MAX_SENDERS);
        }
    }

    proptest! {
        /// Beside a set that remembers everything: within the window both agree.
        #[test]
        fn the_window_agrees_with_a_set(
            start in prop_oneof![Just(0), any::<u64>()],
            steps in prop::collection::vec((-1500_i64..200, 0..60_u8), 1..400),
        ) {
            let (mut window, mut seen) = (Window::default(), BTreeSet::<u64>::new());
            let mut newest = start;
            for (step, leap) in steps {
                let step = if leap == 0 { step * 40 } else { step / 8 };
                let sequence = newest.saturating_add_signed(step);
                let verdict = window.admit(sequence);
                // Before the first packet the window stands at 0.
                let newest_seen = seen.last().copied().unwrap_or(0);
                if sequence >= newest_seen.saturating_sub(WINDOW) {
                    let expected =
                        if seen.contains(&sequence) { Verdict::Duplicate } else { Verdict::New };
                    prop_assert_eq!(verdict, expected);
                } else if verdict == Verdict::Duplicate {
                    prop_assert!(seen.contains(&sequence), "a packet would be lost");
                }
                if verdict != Verdict::Older {
                    seen.insert(sequence);
                }
                newest = newest.max(sequence);
            }
        }
    }
}
