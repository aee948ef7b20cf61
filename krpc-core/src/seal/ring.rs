//! The keys of one service together: the first seals, all open.
//!
//! So a key is changed without a stop: the new one is put behind the old one everywhere, then
//! before it, and the old one is taken away when nothing that it sealed is waited for any more.

use std::sync::Arc;

use parking_lot::RwLock;

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
/// It is asked when a service is opened, again from time to time, and when a packet bears a key id
/// that is not known; never for each packet. If it fails later, the keys that it gave last stay.
pub trait KeyProvider: Send + Sync + 'static {
    /// The keys for a service, the one that seals first.
    ///
    /// # Errors
    /// [`SealError::Provider`]; its text is logged, so it must not hold a secret.
    fn keys<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>>;
}
