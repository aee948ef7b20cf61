//! What proves bytes that are not encrypted: keyed BLAKE3, a checksum, a user's own hash.
//!
//! The checksum is the MAC under a key that everybody knows: it costs the same, and finds damage
//! as surely. It proves nothing of who wrote the bytes.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use constant_time_eq::{constant_time_eq, constant_time_eq_16};

use super::{
    error::{OpenError, SealError},
    format::{MAX_HASH_BYTES, TAG_LEN},
    keys::KEY_BYTES,
};

/// The key of checksums, no secret.
pub(super) const CHECKSUM_KEY: &[u8; KEY_BYTES] = b"kRPC seal 1: checksum, no secret";

/// A hash function of the user's own. It is given all that the seal covers, in one piece, and
/// yields 1 to 64 bytes, always as many.
#[derive(Clone)]
pub(super) struct CustomHash(Arc<Hash>);

struct Hash<F: ?Sized = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync> {
    /// Whether it was told that the function fails.
    told: AtomicBool,
    function: F,
}

impl CustomHash {
    pub(super) fn new(hash: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Hash { told: AtomicBool::new(false), function: hash }))
    }

    /// Whether the function can be used at all.
    pub(super) fn probe(&self) -> Result<(), SealError> {
        self.call(&[]).map(drop)
    }

    /// The hash, of a length that fits the format. That there is none is told once, not for every
    /// packet.
    pub(super) fn hash(&self, covered: &[u8]) -> Result<Vec<u8>, SealError> {
        self.call(covered).inspect_err(|error| {
            if !self.0.told.swap(true, Ordering::Relaxed) {
                let message = "packets are refused for want of their hash; this is told once";
                tracing::warn!(target: "krpc::seal", %error, "{message}");
            }
        })
    }

    fn call(&self, covered: &[u8]) -> Result<Vec<u8>, SealError> {
        // Nothing here can be left half changed: the function sees bytes that it cannot write, and
        // a hash that it did not finish is not there. What it shares with itself is its own affair.
        let hash = catch_unwind(AssertUnwindSafe(|| (self.0.function)(covered)));
        let hash = hash.map_err(|_| SealError::HashPanics)?;
        let fits = (1..=MAX_HASH_BYTES).contains(&hash.len());
        if fits { Ok(hash) } else { Err(SealError::HashLength(hash.len())) }
    }

    pub(super) fn check(&self, covered: &[u8], hash: &[u8]) -> Result<(), OpenError> {
        let expected = self.hash(covered).map_err(|_| OpenError::HashFails)?;
        if constant_time_eq(&expected, hash) { Ok(()) } else { Err(OpenError::Broken) }
    }
}

impl fmt::Debug for CustomHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomHash").finish_non_exhaustive()
    }
}

/// The first 128 bits of keyed BLAKE3 over both: a forgery succeeds by chance as seldom as one of
/// Poly1305, and takes no more bytes.
pub(super) fn mac(key: &[u8; KEY_BYTES], covered: &[u8], bytes: &[u8]) -> [u8; TAG_LEN] {
    let hash = *blake3::Hasher::new_keyed(key).update(covered).update(bytes).finalize().as_bytes();
    let mut mac = [0; TAG_LEN];
    mac.copy_from_slice(&hash[..TAG_LEN]);
    mac
}

/// Whether a MAC is that of both, told in the same time whatever it is.
pub(super) fn check_mac(
    key: &[u8; KEY_BYTES],
    covered: &[u8],
    bytes: &[u8],
    found: &[u8; TAG_LEN],
) -> Result<(), OpenError> {
    let holds = constant_time_eq_16(&mac(key, covered, bytes), found);
    if holds { Ok(()) } else { Err(OpenError::Broken) }
}
