//! What each call carries and what must come of it, both from the seed and the call's number.

use crate::rng::{Rng, mix};

/// More than any packet of a simulation holds.
pub(crate) const TOO_LARGE: usize = 40_000;

/// What a call's handler does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Returns a value.
    Returns,
    /// Returns an error of its own.
    Fails,
    /// Panics.
    Panics,
    /// Returns more than a packet holds.
    Overflows,
}

impl Kind {
    /// What this call's handler does.
    pub(crate) const fn of(seed: u64, call: usize) -> Self {
        match hash(seed, call, 1) % 32 {
            0..4 => Self::Fails,
            4 => Self::Panics,
            5 => Self::Overflows,
            _ => Self::Returns,
        }
    }
}

/// Whether a call is one that is executed once at most.
pub(crate) const fn is_at_most_once(seed: u64, call: usize) -> bool {
    hash(seed, call, 5).is_multiple_of(4)
}

/// The arguments of a call.
pub(crate) fn request(seed: u64, call: usize) -> Vec<u8> {
    value(seed, call, 3)
}

/// What the handler returns.
pub(crate) fn reply(seed: u64, call: usize) -> Vec<u8> {
    match Kind::of(seed, call) {
        Kind::Overflows => vec![2; TOO_LARGE],
        _ => value(seed, call, 4),
    }
}

/// 16 to 512 bytes that no other call has, mostly few.
fn value(seed: u64, call: usize, salt: u64) -> Vec<u8> {
    let mut rng = Rng::new(hash(seed, call, salt));
    let mut bytes = rng.bytes().to_vec();
    let most = if rng.chance(900) { 32 } else { 512 };
    bytes.resize(rng.range(16, most) as usize, 0x5a);
    bytes
}

const fn hash(seed: u64, call: usize, salt: u64) -> u64 {
    mix(mix(seed).wrapping_add(mix(call as u64)).wrapping_mul(31).wrapping_add(salt))
}
