//! The keys of one service together: the first seals, all open.
//!
//! So a key is changed without a stop: the new one is put behind the old one everywhere, then
//! before it, and the old one is taken away when nothing that it sealed is waited for any more.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Notify;

use super::{
    ServiceSeal,
    error::{OpenError, SealError},
    format::KeyId,
    keys::{Key, ServiceKey},
};
use crate::transport::BoxFuture;

/// Keys in a ring: some generations, and a key for each caller. Each open looks for one.
pub const MAX_KEYS: usize = 1024;

/// The derived keys of a service.
pub(super) struct Ring {
    keys: Vec<ServiceKey>,
}

impl Ring {
    /// Derives all keys for a service. Slow if there are passwords among them.
    pub(super) fn derive(keys: &[Key], service: &str) -> Result<Self, SealError> {
        if keys.len() > MAX_KEYS {
            return Err(SealError::TooManyKeys { count: keys.len(), max: MAX_KEYS });
        }
        let mut derived: Vec<ServiceKey> = Vec::with_capacity(keys.len());
        for key in keys {
            let key = key.derive(service)?;
            if derived.iter().any(|other| other.id == key.id) {
                return Err(SealError::SameKey(key.id));
            }
            derived.push(key);
        }
        Ok(Self { keys: derived })
    }

    /// The key that seals: the one that is asked for, or the first.
    pub(super) fn seals(&self, id: Option<KeyId>) -> Option<&ServiceKey> {
        match id {
            Some(id) => self.keys.iter().find(|key| key.id == id),
            None => self.keys.first(),
        }
    }

    /// The key that opens what bears this id.
    pub(super) fn opens(&self, id: u32) -> Result<&ServiceKey, OpenError> {
        let id = KeyId(id);
        self.keys.iter().find(|key| key.id == id).ok_or(OpenError::UnknownKey(id))
    }

    /// The first key of a caller.
    pub(super) fn of_caller(&self, caller: &str) -> Option<KeyId> {
        let is_its = |key: &&ServiceKey| key.caller.as_deref() == Some(caller);
        self.keys.iter().find(is_its).map(|key| key.id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|key| key.id)
    }
}

/// A service's seal that can be exchanged while it is in use: sealing and opening take what is
/// there at the time.
#[derive(Debug)]
pub struct LiveSeal(RwLock<Arc<ServiceSeal>>);

impl LiveSeal {
    /// Begins with this one.
    pub fn new(seal: ServiceSeal) -> Self {
        Self(RwLock::new(Arc::new(seal)))
    }

    /// The present one.
    pub fn current(&self) -> Arc<ServiceSeal> {
        self.0.read().clone()
    }

    /// Puts another in its place.
    pub fn replace(&self, seal: ServiceSeal) {
        *self.0.write() = Arc::new(seal);
    }
}

/// Where keys come from, if they are not settings: a key management service, a vault, files.
///
/// It is asked when a service is opened, and from then on by a task of its own: every minute
/// ([`Seal::refresh`](super::Seal::refresh)), when [`KeyProvider::changed`] says so, and when a
/// packet bears a key id that is not known. For that it is asked at once, and again 5 s after it
/// answered at the earliest, for anybody can write such packets. No packet waits for it: those that
/// come before the key are refused. If it fails later, the keys that it gave last stay.
pub trait KeyProvider: Send + Sync + 'static {
    /// The keys for a service, the one that seals first.
    ///
    /// # Errors
    /// [`SealError::Provider`]; its text is logged, so it must not hold a secret.
    fn keys<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>>;

    /// Resolves when there may be other keys than when this was called. Without it they are asked
    /// for every minute, and for packets with other keys.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// Keys that can be exchanged while they are in use, the same for all services. Clones are the same
/// ring.
///
/// A key is changed in three steps, so that nothing is lost that is sealed with the old one: the
/// new key is put behind the old one, everywhere; then it is put in front; and the old one goes
/// when nothing that it sealed is waited for any more.
#[derive(Clone, Debug)]
pub struct KeyRing(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    keys: RwLock<Vec<Key>>,
    replaced: Notify,
}

impl KeyRing {
    /// Begins with these, of which the first seals.
    pub fn new(keys: Vec<Key>) -> Self {
        Self(Arc::new(Keys { keys: RwLock::new(keys), replaced: Notify::new() }))
    }

    /// Puts others in their place, soon: keys are derived for each service that is open. If that
    /// fails, as for keys that are the same, those of before stay in use, and it is logged.
    pub fn replace(&self, keys: Vec<Key>) {
        *self.0.keys.write() = keys;
        self.0.replaced.notify_waiters();
    }
}

impl KeyProvider for KeyRing {
    fn keys<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>> {
        let keys = self.0.keys.read().clone();
        Box::pin(async move { Ok(keys) })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        // What is replaced from now on counts, though nobody has polled this.
        Box::pin(self.0.replaced.notified())
    }
}
