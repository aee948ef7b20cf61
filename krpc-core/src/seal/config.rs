//! How packets are to be sealed, as users say it.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    ServiceSeal, compress,
    error::SealError,
    format::Level,
    keys::Key,
    live::{REFRESH, Source},
    ring::{KeyProvider, Ring},
    verify::CustomHash,
};

/// How packets are sealed, and which are taken. The same on both sides, as a rule.
///
/// What is less well protected than what this side writes is refused, so nobody can talk it down;
/// what is better protected opens if there is a key for it. Compressed packets are expanded in
/// any case.
///
/// ```
/// use krpc_core::seal::{Key, Seal};
///
/// let key = Key::from_text("9f2c64d1a7b85e03f6c41d2b8a907e553c10fe86b2d4976a0158e3cb7d42af90")?;
/// let encrypted = Seal::new().compress(3).encrypt(key.clone());
/// let verified = Seal::new().verify(key);
/// let by_password = Seal::new().password("correct horse battery staple");
/// # Ok::<_, krpc_core::seal::SealError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Seal {
    level: Level,
    least: Option<Level>,
    hash: Option<CustomHash>,
    keys: Vec<Key>,
    compression: Option<i32>,
    private: bool,
    source: Option<Source>,
    /// The first mistake: told when it is used.
    fault: Option<SealError>,
}

impl Default for Seal {
    fn default() -> Self {
        Self::new()
    }
}

impl Seal {
    /// Packets are not sealed, as long as nothing else is said.
    pub const fn new() -> Self {
        Self {
            level: Level::Unsealed,
            least: None,
            hash: None,
            keys: Vec::new(),
            compression: None,
            private: false,
            source: None,
            fault: None,
        }
    }

    /// Packets are compressed with Zstandard where that makes them smaller. Level 1 is fast, 3
    /// usual, 19 the highest; below 1, down to -7, faster yet.
    pub fn compress(mut self, level: i32) -> Self {
        self.compression = Some(level);
        let checked = compress::check_level(level);
        self.note(checked.err())
    }

    /// Packets are encrypted with XChaCha20-Poly1305, and thereby verified: who lacks the key
    /// neither reads nor changes them.
    pub fn encrypt(mut self, key: Key) -> Self {
        self.keys.insert(0, key);
        self.at_level(Level::Encrypted)
    }

    /// As [`Seal::encrypt`], with a key that Argon2id derives of a password, within some tenths
    /// of a second for each service. Whoever recorded a packet can try passwords: take a long one.
    pub fn password(self, password: &str) -> Self {
        match Key::from_password(password) {
            Ok(key) => self.encrypt(key),
            Err(error) => self.note(Some(error)),
        }
    }

    /// Packets can be read by anybody and changed by nobody without the key: keyed BLAKE3.
    pub fn verify(mut self, key: Key) -> Self {
        self.keys.insert(0, key);
        self.at_level(Level::Verified)
    }

    /// Packets bear a checksum, which finds damage, and proves nothing of who wrote them.
    pub fn checksum(self) -> Self {
        self.at_level(Level::Checksum)
    }

    /// Packets bear a hash of the user's own, of 1 to 64 bytes, always as many. The function is
    /// given all that has to be proven in one piece: header, place, time and content. It is called
    /// for every packet, while others wait; it must not block. If it panics, the packet is not
    /// sent, or not taken: counted as `hash_fails`, and logged once. It is tried here: one that
    /// panics or gives no such hash keeps the service from being opened.
    pub fn verify_with(mut self, hash: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let hash = CustomHash::new(hash);
        // A function that cannot be used is told at once, not by packets that get lost.
        let fault = hash.probe().err();
        self.hash = Some(hash);
        self.at_level(Level::Custom).note(fault)
    }

    /// A further key that opens packets, and seals none: the next one or the last one while keys
    /// are changed, or a caller's.
    pub fn open_with(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// All keys at once, in the place of those before: the first seals, all open.
    pub fn keys(mut self, keys: Vec<Key>) -> Self {
        self.keys = keys;
        self
    }

    /// Packets are encrypted with keys that come from elsewhere: fetched when a service is opened,
    /// every minute, and when a packet bears another key: see [`KeyProvider`]. While they cannot be
    /// fetched those of before stay.
    pub fn encrypt_from(self, provider: impl KeyProvider) -> Self {
        self.keys_from(provider).at_level(Level::Encrypted)
    }

    /// As [`Seal::encrypt_from`], for [`Seal::verify`].
    pub fn verify_from(self, provider: impl KeyProvider) -> Self {
        self.keys_from(provider).at_level(Level::Verified)
    }

    /// How often keys are fetched that come from elsewhere, if not every minute.
    pub const fn refresh(mut self, every: Duration) -> Self {
        if let Some(source) = &mut self.source {
            source.every = every;
        }
        self
    }

    /// The least protection of packets that are taken, if it is not the one that this side writes:
    /// less while both sides are changed over, one after the other, or more.
    pub const fn accept(mut self, least: Level) -> Self {
        self.least = Some(least);
        self
    }

    /// A client's answers can be opened by this client alone, and not by others that have the same
    /// key: an X25519 key goes out with its calls, new for each start. Packets must be encrypted,
    /// here and at the servers, which need no setting for it; an answer that others could have
    /// opened is refused. What is fetched with a ticket is not private, for any client may fetch
    /// it. Servers are free to read everything.
    pub const fn private(mut self) -> Self {
        self.private = true;
        self
    }

    pub(super) const fn is_private(&self) -> bool {
        self.private
    }

    /// How well packets are protected that this side writes.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Whether it can be used, as far as that is known before there is a service.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn check(&self) -> Result<(), SealError> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None if self.private && self.least.unwrap_or(self.level) < Level::Encrypted => {
                Err(SealError::NotPrivate)
            }
            None if self.is_keyed() && self.keys.is_empty() && self.source.is_none() => {
                Err(SealError::NoKey(self.level))
            }
            None => Ok(()),
        }
    }

    const fn is_keyed(&self) -> bool {
        matches!(self.level, Level::Verified | Level::Encrypted)
    }

    /// The seal of one service: derives its keys. Slow if there are passwords, so not for a thread
    /// that must not block.
    ///
    /// # Errors
    /// What is wrong with the settings; passwords from which no key can be derived.
    pub fn bind(&self, service: &str) -> Result<ServiceSeal, SealError> {
        self.check()?;
        if self.is_keyed() && self.keys.is_empty() {
            return Err(SealError::NoKey(self.level));
        }
        Ok(ServiceSeal {
            level: self.level,
            least: self.least.unwrap_or(self.level),
            hash: self.hash.clone(),
            compression: self.compression,
            ring: Ring::derive(&self.keys, service)?,
        })
    }

    fn keys_from(mut self, provider: impl KeyProvider) -> Self {
        self.source = Some(Source { provider: Arc::new(provider), every: REFRESH });
        self
    }

    pub(super) const fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    fn at_level(mut self, level: Level) -> Self {
        let first = std::mem::replace(&mut self.level, level);
        let twice = first != Level::Unsealed && first != level;
        self.note(twice.then_some(SealError::TwoLevels { first, second: level }))
    }

    fn note(mut self, fault: Option<SealError>) -> Self {
        self.fault = self.fault.or(fault);
        self
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("level", &self.level)
            .field("least", &self.least)
            .field("keys", &self.keys.len())
            .field("compression", &self.compression)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
