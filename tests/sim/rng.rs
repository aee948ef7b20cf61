//! Randomness from one seed: SplitMix64, which is small, fast and good enough for choices.

/// A stream of choices.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream of this seed.
    pub(crate) const fn new(seed: u64) -> Self {
        // Seeds are small numbers; the first choice should differ all the same.
        Self(mix(seed ^ 0x6b52_5043))
    }

    /// Any number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Where the stream is.
    pub(crate) const fn state(&self) -> u64 {
        self.0
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high - low) + 1;
        low + ((u128::from(self.next()) * span) >> 64) as u64
    }

    /// A number from `low` (at least 1) to `high`, each doubling as likely as the next.
    pub(crate) fn doubling(&mut self, low: u64, high: u64) -> u64 {
        let doublings = u64::from((high / low).ilog2());
        let floor = low << self.range(0, doublings);
        self.range(floor, high.min(2 * floor))
    }

    /// An index below `len`, which is not zero.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.range(0, len as u64 - 1) as usize
    }

    /// True in this many of a thousand cases.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        // Drawn even for zero, so that switching a fault off changes as little as possible.
        self.range(0, 999) < permille
    }

    /// Sixteen bytes: an identity.
    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}

/// A number that looks unlike its neighbours.
pub(crate) const fn mix(number: u64) -> u64 {
    let z = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
