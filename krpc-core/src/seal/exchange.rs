//! Answers that only who asked can open, though all clients have the service's key.
//!
//! A client that wants this adds the public half of an X25519 key to the packets of its calls, and
//! a server adds its own to the packets of the answers. Both derive one key of what the two halves
//! have in common and of the service's key, so neither who has only the latter nor who has only
//! broken the exchange reads anything. The secret halves live as long as their processes: packets
//! that were recorded cannot be opened later, even if the service's key gets known.

use std::fmt;

use foldhash::{HashMap, HashMapExt};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::{
    error::SealError,
    format::{KeyId, PUBLIC_LEN, topic_number},
    keys::{Derived, ServiceKey},
};
use crate::transport::Topic;

/// The context of the derivation; a part of the format.
const PRIVATE: &str = "kRPC seal 1: key of answers to one client";

/// Keys that are remembered, each a quarter of a kibibyte at most. When there are more all are
/// forgotten, and derived anew when they are needed: 50 µs each.
const MAX_KNOWN: usize = 4096;

/// The public half of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Public(pub(super) [u8; PUBLIC_LEN]);

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A process's own key, and what was derived with it.
pub struct Exchange {
    secret: StaticSecret,
    public: Public,
    known: HashMap<(Public, KeyId, u8), Derived>,
}

/// Which side of an exchange this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Asks,
    Answers,
}

impl Exchange {
    /// Made of random bytes, new for each process.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let secret = StaticSecret::from(bytes);
        let public = Public(PublicKey::from(&secret).to_bytes());
        Self { secret, public, known: HashMap::new() }
    }

    /// The half that others may know.
    pub const fn public(&self) -> Public {
        self.public
    }

    /// The key that this side has in common with another; `None` if the other half is one of the
    /// few with which nothing is secret.
    pub(super) fn common(
        &self,
        side: Side,
        other: Public,
        key: &ServiceKey,
        topic: Topic,
    ) -> Option<Derived> {
        if let Some(known) = self.known.get(&(other, key.id, topic_number(topic))) {
            return Some(known.clone());
        }
        let shared = self.secret.diffie_hellman(&PublicKey::from(other.0));
        if !shared.was_contributory() {
            return None;
        }
        let (asks, answers) = match side {
            Side::Asks => (self.public, other),
            Side::Answers => (other, self.public),
        };
        let parts = [&**key.encrypts(topic), shared.as_bytes(), &asks.0, &answers.0];
        let mut material = Zeroizing::new([0; 4 * 32]);
        for (room, part) in material.chunks_exact_mut(32).zip(parts) {
            room.copy_from_slice(part);
        }
        Some(Zeroizing::new(blake3::derive_key(PRIVATE, &*material)))
    }

    /// The key of answers to who made an offer, which was opened and so is no stranger's.
    pub(super) fn answer(
        &mut self,
        asks: Public,
        key: &ServiceKey,
        topic: Topic,
    ) -> Result<Derived, SealError> {
        let common = self.common(Side::Answers, asks, key, topic).ok_or(SealError::NoExchange)?;
        self.remember(asks, key.id, topic, common.clone());
        Ok(common)
    }

    /// Remembers such a key: only when it was found to be right, or strangers could fill the room.
    pub(super) fn remember(&mut self, other: Public, key: KeyId, topic: Topic, common: Derived) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert((other, key, topic_number(topic)), common);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("public", &self.public).finish_non_exhaustive()
    }
}
