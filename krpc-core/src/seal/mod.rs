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
//! Pure: time and nonces are arguments.
//!
//! from: the outbox, whose packets are sealed before they are sent, and the transport's records,
//! which are opened before the inbox reads them · to: the same

mod compress;
mod config;
mod encrypt;
mod error;
mod format;
mod keys;
mod ring;
mod verify;

use std::{fmt, sync::Arc};

use self::{
    compress::Contexts,
    format::{Mark, NONCE_LEN, put_covered, take_last},
    keys::ServiceKey,
    ring::Ring,
    verify::{CHECKSUM_KEY, CustomHash, check_mac, mac},
};
pub use self::{
    config::Seal,
    error::{OpenError, SealError},
    format::{KeyId, Level, MAX_HASH_BYTES, Place},
    keys::{KEY_BYTES, Key, MAX_CALLER_BYTES},
    ring::{KeyProvider, LiveSeal, MAX_KEYS},
};
use crate::{
    time::Time,
    wire::{MAX_PACKET_BYTES, packet::Header},
};

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

    /// The ids of the keys, the one that seals first. They are no secret.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.ring.ids()
    }

    /// Seals a packet for a place. `out` then holds it, and nothing else.
    ///
    /// # Errors
    /// It is no unsealed packet, or would be too large; the hash function or the key's id is not
    /// as it must be. `out` is empty.
    pub fn seal(
        &self,
        scratch: &mut Scratch,
        place: &Place<'_>,
        stamp: &Stamp,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        out.clear();
        let sealed = self.try_seal(scratch, place, stamp, packet, out);
        if sealed.is_err() {
            out.clear();
        }
        sealed
    }

    fn try_seal(
        &self,
        scratch: &mut Scratch,
        place: &Place<'_>,
        stamp: &Stamp,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let header_len = Header::len_of(packet).map_err(|_| SealError::NoPacket)?;
        let (header, body) = packet.split_at(header_len);
        let unsealed = Mark { level: Level::Unsealed, compressed: false, key: 0 };
        if Mark::read(header) != Ok(unsealed) {
            return Err(SealError::NoPacket);
        }
        let key = self.sealing_key(stamp.key)?;
        out.reserve(packet.len() + self.level.overhead());
        out.extend_from_slice(header);
        let contexts = &mut scratch.contexts;
        let compressed = self.compression.is_some_and(|level| contexts.compress(level, body, out));
        if !compressed {
            out.extend_from_slice(body);
        }
        let mark =
            Mark { level: self.level, compressed, key: key.map_or(0, |key| key.id.number()) };
        let (header, bytes) = out.split_at_mut(header_len);
        mark.write(header);
        if self.level == Level::Unsealed {
            return within_limit(out);
        }
        let covered = &mut scratch.covered;
        covered.clear();
        put_covered(covered, place, header, stamp.sealed_at);
        let time = stamp.sealed_at.as_micros().to_be_bytes();
        match (self.level, key, &self.hash) {
            (Level::Encrypted, Some(key), _) => {
                let derived = key.encrypts(place.topic);
                let tag = encrypt::encrypt(derived, &stamp.nonce, covered, bytes);
                append(out, &[&time, &stamp.nonce, &tag]);
            }
            (Level::Verified, Some(key), _) => {
                let mac = mac(key.verifies(place.topic), covered, bytes);
                append(out, &[&time, &mac]);
            }
            (Level::Custom, _, Some(hash)) => {
                covered.extend_from_slice(bytes);
                let hash = hash.hash(covered)?;
                let len =
                    u8::try_from(hash.len()).map_err(|_| SealError::HashLength(hash.len()))?;
                append(out, &[&time, &hash, &[len]]);
            }
            (Level::Checksum, ..) => {
                let sum = mac(CHECKSUM_KEY, covered, bytes);
                append(out, &[&time, &sum]);
            }
            // Made by `Seal::bind` only, which sees to it that what the level needs is there.
            (level, ..) => return Err(SealError::NoKey(level)),
        }
        within_limit(out)
    }

    fn sealing_key(&self, id: Option<KeyId>) -> Result<Option<&ServiceKey>, SealError> {
        if !matches!(self.level, Level::Verified | Level::Encrypted) {
            return Ok(None);
        }
        match (self.ring.seals(id), id) {
            (Some(key), _) => Ok(Some(key)),
            (None, Some(id)) => Err(SealError::UnknownKey(id)),
            (None, None) => Err(SealError::NoKey(self.level)),
        }
    }

    /// Opens a packet that was read at a place. One that is not sealed and accepted all the same
    /// costs a look at its header.
    ///
    /// # Errors
    /// The packet must not be read; why.
    pub fn open(
        &self,
        scratch: &mut Scratch,
        place: &Place<'_>,
        packet: &[u8],
    ) -> Result<Opened, OpenError> {
        if packet.len() > MAX_PACKET_BYTES {
            return Err(OpenError::TooLarge { max: MAX_PACKET_BYTES });
        }
        let header_len = Header::len_of(packet)?;
        let (header, sealed) = packet.split_at(header_len);
        let mark = Mark::read(header)?;
        if mark.level < self.least {
            return Err(OpenError::TooWeak { found: mark.level, least: self.least });
        }
        if mark.level == Level::Unsealed && !mark.compressed {
            return Ok(Opened::AsItIs);
        }
        let Scratch { contexts, covered, bytes } = scratch;
        let (found, seen) = self.prove(covered, place, mark, header, sealed)?;
        let mut packet = Vec::with_capacity(packet.len());
        packet.extend_from_slice(header);
        Mark::clear(&mut packet);
        // Where the bytes go that are in the clear before they are expanded.
        let clear = if mark.compressed { &mut *bytes } else { &mut packet };
        let start = if mark.compressed { 0 } else { header_len };
        clear.truncate(start);
        clear.extend_from_slice(found.bytes);
        if let Some((key, nonce, tag)) = found.cipher {
            let key = key.encrypts(place.topic);
            encrypt::decrypt(key, &nonce, covered, &mut clear[start..], &tag)?;
        }
        if mark.compressed {
            contexts.expand(bytes, MAX_PACKET_BYTES - header_len, &mut packet)?;
        }
        Ok(Opened::Sealed { packet, seen })
    }

    /// Takes a sealed body apart, and checks its seal, unless that is done by decrypting.
    fn prove<'a>(
        &'a self,
        covered: &mut Vec<u8>,
        place: &Place<'_>,
        mark: Mark,
        header: &[u8],
        mut sealed: &'a [u8],
    ) -> Result<(Found<'a>, Seen), OpenError> {
        let rest = &mut sealed;
        let mut seen = Seen { level: mark.level, key: None, caller: None, sealed_at: None };
        if mark.level == Level::Unsealed {
            return Ok((Found { bytes: rest, cipher: None }, seen));
        }
        let key = if mark.key == 0 { None } else { Some(self.ring.opens(mark.key)?) };
        let (mut cipher, mut tag, mut hash) = (None, None, &[][..]);
        match (mark.level, key) {
            (Level::Encrypted, Some(key)) => {
                let tag = take_last(rest)?;
                cipher = Some((key, take_last(rest)?, tag));
            }
            (Level::Custom, _) => {
                let [len] = take_last(rest)?;
                let begin = rest.len().checked_sub(usize::from(len)).ok_or(OpenError::Truncated)?;
                (*rest, hash) = rest.split_at(begin);
            }
            _ => tag = Some(take_last(rest)?),
        }
        let sealed_at = Time::from_micros(u64::from_be_bytes(take_last(rest)?));
        covered.clear();
        put_covered(covered, place, header, sealed_at);
        if let Some(tag) = tag {
            let key = key.map_or(CHECKSUM_KEY, |key| key.verifies(place.topic));
            check_mac(key, covered, rest, &tag)?;
        } else if mark.level == Level::Custom {
            covered.extend_from_slice(rest);
            self.hash.as_ref().ok_or(OpenError::NoHash)?.check(covered, hash)?;
        }
        seen.key = key.map(|key| key.id);
        seen.caller = key.and_then(|key| key.caller.clone());
        seen.sealed_at = Some(sealed_at).filter(|at| *at != Time::default());
        Ok((Found { bytes: rest, cipher }, seen))
    }
}

/// The parts of a sealed body.
struct Found<'a> {
    bytes: &'a [u8],
    /// Key, nonce and tag of bytes that are encrypted.
    cipher: Option<(&'a ServiceKey, [u8; NONCE_LEN], [u8; format::TAG_LEN])>,
}

fn append(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn within_limit(out: &[u8]) -> Result<(), SealError> {
    let (len, max) = (out.len(), MAX_PACKET_BYTES);
    if len > max { Err(SealError::TooLarge { len, max }) } else { Ok(()) }
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
