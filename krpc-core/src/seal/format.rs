//! What of a sealed packet is in the clear, and what its seal covers.
//!
//! ```text
//! sealed  = header bytes [public-key(32)] [sealed-at(8) trailer]
//! flags   = bit 0: compressed · bits 1–3: the level's number · the others 0, but if encrypted
//!           bit 4: the public key is the sender's, for answers · bit 5: it is that of who answers,
//!           and the key is derived with it
//! trailer = nonce(24) tag(16)    encrypted
//!           mac(16)              verified, or a checksum
//!           hash n(1)            custom, n bytes of hash
//! covered = "kR seal 1" topic-kind(1) partition(4) length(4) topic length(4) header
//!           [public-key(32)] sealed-at(8) bytes
//! ```
//! The trailer stands behind the bytes, so that encrypting moves nothing. Every part of what is
//! covered has a length in front of it, or one that the header tells. So no two packets cover the
//! same bytes.

use std::fmt;

use super::{error::OpenError, exchange::Public};
pub(super) use crate::sealing::NONCE_LEN;
use crate::{time::Time, transport::Topic, wire::packet::SEALED};

/// Bytes of the time before a trailer.
pub(super) const TIME_LEN: usize = 8;

/// Bytes of the public half of a key.
pub(super) const PUBLIC_LEN: usize = 32;

/// Bytes of a tag, of a MAC and of a checksum.
pub(super) const TAG_LEN: usize = 16;

/// Bytes of the hash of a user's function, at most: 512 bits.
pub const MAX_HASH_BYTES: usize = 64;

/// Where flags and key id stand in the header.
pub(super) const FLAGS_AT: usize = 3;
const KEY_AT: usize = 4;
const KEY_END: usize = 8;

/// What the covered bytes begin with, so that no other use of a key can mean the same.
const DOMAIN: &[u8] = b"kR seal 1";

const COMPRESSED: u8 = 0b0000_0001;
const LEVEL: u8 = 0b0000_1110;
const OFFER: u8 = 0b0001_0000;
const PRIVATE: u8 = 0b0010_0000;
const _: () = assert!(COMPRESSED | LEVEL | OFFER | PRIVATE == SEALED);

/// How well a packet is protected, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Not at all.
    Unsealed,
    /// Against accidents: a checksum that anybody can compute.
    Checksum,
    /// As well as a hash function of the user's own does it.
    Custom,
    /// Against changes, moves and strangers: a MAC with a key. Anybody can read it.
    Verified,
    /// As [`Level::Verified`], and only who has the key can read it.
    Encrypted,
}

impl Level {
    const fn number(self) -> u8 {
        match self {
            Self::Unsealed => 0,
            Self::Encrypted => 1,
            Self::Verified => 2,
            Self::Checksum => 3,
            Self::Custom => 4,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unsealed,
            1 => Self::Encrypted,
            2 => Self::Verified,
            3 => Self::Checksum,
            4 => Self::Custom,
            _ => return None,
        })
    }

    /// The most bytes that sealing adds to a packet. Compressing never adds any.
    pub const fn overhead(self) -> usize {
        match self {
            Self::Unsealed => 0,
            Self::Checksum | Self::Verified => TIME_LEN + TAG_LEN,
            Self::Custom => TIME_LEN + MAX_HASH_BYTES + 1,
            Self::Encrypted => PUBLIC_LEN + TIME_LEN + NONCE_LEN + TAG_LEN,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsealed => "unsealed",
            Self::Checksum => "with a checksum",
            Self::Custom => "with a custom hash",
            Self::Verified => "verified",
            Self::Encrypted => "encrypted",
        })
    }
}

/// Which key of a ring sealed a packet: a hash of the key and its service, so it tells nothing of
/// either, and there is nothing to configure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) u32);

impl KeyId {
    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a packet goes or was read: it opens only there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// Which of a service's topics, and so from whom to whom.
    pub topic: Topic,
    /// The topic's whole name.
    pub name: &'a str,
    /// Its partition.
    pub partition: u32,
}

/// The number of a topic's kind; part of the format.
pub(super) const fn topic_number(topic: Topic) -> u8 {
    match topic {
        Topic::Calls => 1,
        Topic::Replies => 2,
        Topic::Results => 3,
        Topic::Dead => 4,
        Topic::Cancels => 5,
        Topic::Delayed => 6,
    }
}

/// Every kind of topic, by its number. Each has keys of its own.
pub(super) const TOPICS: [Topic; 6] =
    [Topic::Calls, Topic::Replies, Topic::Results, Topic::Dead, Topic::Cancels, Topic::Delayed];

/// The place of a topic among them.
pub(super) fn slot(topic: Topic) -> usize {
    usize::from(topic_number(topic) - 1)
}

/// What the clear header says of the seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) level: Level,
    pub(super) compressed: bool,
    /// Zero where there is no key.
    pub(super) key: u32,
    pub(super) exchange: Exchanging,
}

/// What the public key of a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exchanging {
    /// There is none.
    No,
    /// Answers may be for whoever has its other half alone.
    Offer,
    /// It is half of what the packet is encrypted with.
    Private,
}

impl Mark {
    pub(super) fn read(header: &[u8]) -> Result<Self, OpenError> {
        let fixed = header.get(KEY_AT..KEY_END).and_then(|bytes| bytes.try_into().ok());
        let (Some(&flags), Some(key)) = (header.get(FLAGS_AT), fixed) else {
            return Err(OpenError::Truncated);
        };
        let key = u32::from_be_bytes(key);
        let unknown = || OpenError::UnknownFlags(flags);
        let level = Level::of((flags & LEVEL) >> 1).ok_or_else(unknown)?;
        let exchange = match (flags & !(COMPRESSED | LEVEL), level) {
            (0, _) => Exchanging::No,
            (OFFER, Level::Encrypted) => Exchanging::Offer,
            (PRIVATE, Level::Encrypted) => Exchanging::Private,
            _ => return Err(unknown()),
        };
        let keyed = matches!(level, Level::Verified | Level::Encrypted);
        if keyed != (key != 0) {
            return Err(OpenError::UnknownKey(KeyId(key)));
        }
        Ok(Self { level, compressed: flags & COMPRESSED != 0, key, exchange })
    }

    /// Writes it into a header.
    pub(super) fn write(self, header: &mut [u8]) {
        let compressed = if self.compressed { COMPRESSED } else { 0 };
        let exchange = match self.exchange {
            Exchanging::No => 0,
            Exchanging::Offer => OFFER,
            Exchanging::Private => PRIVATE,
        };
        header[FLAGS_AT] = self.level.number() << 1 | compressed | exchange;
        header[KEY_AT..KEY_END].copy_from_slice(&self.key.to_be_bytes());
    }

    /// Makes a header that of an unsealed packet.
    pub(super) fn clear(header: &mut [u8]) {
        header[FLAGS_AT..KEY_END].fill(0);
    }
}

/// Appends what the seal covers, up to the bytes themselves.
pub(super) fn put_covered(
    out: &mut Vec<u8>,
    place: &Place<'_>,
    header: &[u8],
    public: Option<Public>,
    sealed_at: Time,
) {
    // Kafka's topics have at most 249 characters, and a header has a bound of its own.
    let [topic, header_len] = [place.name.len(), header.len()]
        .map(|len| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(DOMAIN);
    out.push(topic_number(place.topic));
    out.extend_from_slice(&place.partition.to_be_bytes());
    out.extend_from_slice(&topic);
    out.extend_from_slice(place.name.as_bytes());
    out.extend_from_slice(&header_len);
    out.extend_from_slice(header);
    if let Some(public) = public {
        out.extend_from_slice(&public.0);
    }
    out.extend_from_slice(&sealed_at.as_micros().to_be_bytes());
}

/// Takes the last `N` bytes off.
pub(super) fn take_last<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], OpenError> {
    let (rest, last) = bytes.split_last_chunk().ok_or(OpenError::Truncated)?;
    *bytes = rest;
    Ok(*last)
}
