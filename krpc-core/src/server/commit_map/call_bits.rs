//! Which calls of one packet are finished: a bit each, counted.

/// One bit per call of a packet. Packets of up to 64 calls need no allocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::server) struct CallBits {
    count: u32,
    finished: u32,
    words: Words,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Words {
    Few(u64),
    Many(Box<[u64]>),
}

impl CallBits {
    /// A packet of `count` calls, none of them finished.
    pub(in crate::server) fn new(count: u32) -> Self {
        let words = if count <= 64 {
            Words::Few(0)
        } else {
            Words::Many(vec![0; count.div_ceil(64) as usize].into())
        };
        Self { count, finished: 0, words }
    }

    /// A packet whose finished calls are these bits, the lowest of the first byte being call 0.
    /// `None` if there are not `ceil(count / 8)` bytes, or bits beyond the last call.
    pub(in crate::server) fn from_bytes(count: u32, bytes: &[u8]) -> Option<Self> {
        let mut bits = Self::new(count);
        for (word, eight) in bits.words_mut().iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..eight.len()].copy_from_slice(eight);
            *word = u64::from_le_bytes(padded);
        }
        let beyond = bytes.last().is_some_and(|last| {
            let used = (count - 1) % 8 + 1;
            u32::from(*last) >> used != 0
        });
        bits.finished = bits.words().iter().map(|word| word.count_ones()).sum();
        (bytes.len() == count.div_ceil(8) as usize && !beyond).then_some(bits)
    }

    /// How many calls the packet has.
    pub(in crate::server) const fn count(&self) -> u32 {
        self.count
    }

    /// How many of them are finished.
    pub(in crate::server) const fn finished(&self) -> u32 {
        self.finished
    }

    /// How many of them are not finished.
    pub(in crate::server) const fn unfinished(&self) -> u32 {
        self.count - self.finished
    }

    /// Marks a call as finished; false if it was, or does not exist.
    pub(in crate::server) fn set(&mut self, index: u32) -> bool {
        if index >= self.count || self.is_set(index) {
            return false;
        }
        self.words_mut()[(index / 64) as usize] |= 1 << (index % 64);
        self.finished += 1;
        true
    }

    /// Whether a call is finished.
    pub(in crate::server) fn is_set(&self, index: u32) -> bool {
        let word = self.words().get((index / 64) as usize);
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// The bits as `ceil(count / 8)` bytes, as [`from_bytes`](Self::from_bytes) reads them.
    pub(in crate::server) fn bytes(&self) -> impl Iterator<Item = u8> {
        let length = self.count.div_ceil(8) as usize;
        self.words().iter().flat_map(|word| word.to_le_bytes()).take(length)
    }

    /// The lengths of unfinished and finished calls in turn, the unfinished first (it may be 0).
    pub(in crate::server) fn runs(&self) -> impl Iterator<Item = u32> {
        let (mut at, mut finished) = (0, false);
        std::iter::from_fn(move || {
            (at < self.count).then(|| {
                let end = (at..self.count).find(|index| self.is_set(*index) != finished);
                let end = end.unwrap_or(self.count);
                let length = end - at;
                (at, finished) = (end, !finished);
                length
            })
        })
    }

    fn words(&self) -> &[u64] {
        match &self.words {
            Words::Few(word) => std::slice::from_ref(word),
            Words::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match &mut self.words {
            Words::Few(word) => std::slice::from_mut(word),
            Words::Many(words) => words,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sets_each_call_once() {
        for count in [1, 7, 8, 63, 64, 65, 128, 4096] {
            let mut bits = CallBits::new(count);
            assert!((0..count).rev().all(|index| bits.set(index)));
            assert!(!bits.set(0) && !bits.set(count));
            assert_eq!((bits.finished(), bits.unfinished()), (count, 0));
            assert!(!bits.is_set(count) && !bits.is_set(u32::MAX));
        }
    }

    #[test]
    fn bytes_come_back_and_refuse_what_is_beyond() {
        for count in [1, 8, 9, 64, 65, 100] {
            let mut bits = CallBits::new(count);
            (0..count).step_by(3).for_each(|index| assert!(bits.set(index)));
            let bytes = bits.bytes().collect::<Vec<_>>();
            assert_eq!(CallBits::from_bytes(count, &bytes), Some(bits));
            assert_eq!(CallBits::from_bytes(count, &bytes[1..]), None);
        }
        assert_eq!(CallBits::from_bytes(3, &[0b1000]), None);
        assert!(CallBits::from_bytes(8, &[0xff]).is_some());
    }

    #[test]
    fn runs_begin_with_the_unfinished() {
        let mut bits = CallBits::new(5);
        assert_eq!(bits.runs().collect::<Vec<_>>(), [5]);
        assert!(bits.set(0) && bits.set(3));
        assert_eq!(bits.runs().collect::<Vec<_>>(), [0, 1, 2, 1, 1]);
    }
}
