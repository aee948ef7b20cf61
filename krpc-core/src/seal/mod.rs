//! Sealing: packets that are compressed, verified, encrypted, and closed to strangers.
//!
//! The order is: compress if it pays, then encrypt **or** verify. Encrypting verifies too. When a
//! packet is opened its seal is checked first, and only what holds is expanded.
//!
//! The header of a sealed packet stays in the clear, so that whoever shares a partition drops what
//! is for others after 40 bytes. It is proven together with the content, and so is the place: the
//! kind of topic (who writes to whom), its name, its partition. A packet that is written to another
//! place does not open there; one that is written again to the same place does, and the windows
//! over packet sequences tell it.
//!
//! Pure: time and nonces are arguments. Only `live` is a driver, which brings them.
//!
//! from: [`crate::sealing`]: the outbox, whose packets are sealed before they are sent, and the
//! transport's records, which are opened before the inbox reads them · to: the same

mod compress;
mod config;
mod encrypt;
mod error;
mod exchange;
mod format;
mod keys;
mod live;
mod opening;
mod ring;
mod sealing;
mod verify;

use std::{fmt, sync::Arc};

use self::{compress::Contexts, format::NONCE_LEN, ring::Ring, verify::CustomHash};
pub use self::{
    config::Seal,
    error::{OpenError, SealError},
    exchange::{Exchange, Public},
    format::{KeyId, Level, MAX_HASH_BYTES, Place},
    keys::{KEY_BYTES, Key, MAX_CALLER_BYTES},
    ring::{KeyProvider, KeyRing, LiveSeal, MAX_KEYS},
};
use crate::{sealing::Asker, time::Time};

/// How the packets of one service are sealed and opened. Made by [`Seal::bind`].
pub struct ServiceSeal {
    level: Level,
    least: Level,
    hash: Option<CustomHash>,
    compression: Option<i32>,
    ring: Ring,
}

/// What is kept from packet to packet so that it need not be made anew. Whoever seals or opens has
/// one of his own.
#[derive(Debug, Default)]
pub struct Scratch {
    contexts: Contexts,
    covered: Vec<u8>,
    bytes: Vec<u8>,
    exchange: Option<Exchange>,
}

/// What a packet is sealed with beside its content.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Random bytes, new for each packet: two packets with the same ones give their content away.
    pub nonce: [u8; NONCE_LEN],
    /// The time on the broker's clock; zero if it is not known.
    pub sealed_at: Time,
    /// The key, as for the answer to a caller; otherwise the first of the ring.
    pub key: Option<KeyId>,
    /// Whether it asks for answers that nobody else can open, or is such an answer. Either needs
    /// encryption and an [`Exchange`].
    pub private: Private,
}

/// Whether a packet has to do with answers that only who asked can open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Private {
    /// Whoever has the key can open it, and the answers.
    #[default]
    No,
    /// Its answers may be for this process alone.
    Offer,
    /// It is for whoever made this offer alone.
    For(Public),
}

/// A packet that may be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opened {
    /// It is neither sealed nor compressed, and that is accepted: it is to be read as it is.
    AsItIs,
    /// It was opened.
    Sealed {
        /// The packet as it was before it was sealed.
        packet: Vec<u8>,
        /// What its seal says.
        seen: Seen,
    },
}

/// What the seal of a packet says. All of it is proven as well as its level does that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// How it was protected.
    pub level: Level,
    /// With which key, if with one.
    pub key: Option<KeyId>,
    /// Whose key that is, if one caller's.
    pub caller: Option<Arc<str>>,
    /// When it was sealed, on the broker's clock as its sender knew it.
    pub sealed_at: Option<Time>,
    /// What makes answers private, if the sender offers it.
    pub offer: Option<Public>,
    /// Whether nobody else can open it, but who sealed it.
    pub private: bool,
}

impl Scratch {
    /// With what private answers take: a client's, to ask for them and to open them; a server's,
    /// to seal them.
    pub fn with_exchange(exchange: Exchange) -> Self {
        Self { exchange: Some(exchange), ..Self::default() }
    }
}

impl ServiceSeal {
    /// How well packets are protected that are sealed with this.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The least protection of packets that open.
    pub const fn least(&self) -> Level {
        self.least
    }

    /// Whether what is sealed with this is proven to be one caller's.
    pub(crate) fn is_callers(&self) -> bool {
        !self.is_of(None)
    }

    /// Whether what is sealed with this is this caller's, or no caller's.
    pub(crate) fn is_of(&self, caller: Option<&str>) -> bool {
        self.ring.seals(None).and_then(|key| key.caller.as_deref()) == caller
    }

    /// The key for answers to a caller with a key of its own: the one that it used, or another one
    /// of its. `None` is the first.
    pub(crate) fn answers_with(&self, asker: &Asker) -> Option<KeyId> {
        let caller = asker.caller.as_ref()?;
        let used = KeyId(asker.key);
        if self.ring.seals(Some(used)).is_some() {
            return Some(used);
        }
        Some(self.ring.of_caller(caller).unwrap_or(used))
    }

    /// The ids of the keys, the one that seals first. They are no secret.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.ring.ids()
    }
}

impl fmt::Debug for ServiceSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSeal")
            .field("level", &self.level)
            .field("least", &self.least)
            .field("compression", &self.compression)
            .field("keys", &self.key_ids().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
