//! Why a seal cannot be made, and why a packet does not open. None of it holds a secret.

use super::format::{KeyId, Level, MAX_HASH_BYTES};
use crate::{
    inbox::{self, DropCause},
    wire::coding::WireError,
};

/// Why a packet does not open. Nothing of such a packet may take effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The clear header is none.
    #[error(transparent)]
    Header(#[from] WireError),
    /// Header flags that this version does not know.
    #[error("unsupported flags {0:#010b}")]
    UnknownFlags(u8),
    /// It ends before its seal does.
    #[error("the packet ends before its seal does")]
    Truncated,
    /// It has more bytes than a packet may have.
    #[error("more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// It is protected less well than is demanded.
    #[error("the packet is {found}; {least} is the least")]
    TooWeak {
        /// How it is protected.
        found: Level,
        /// What is demanded.
        least: Level,
    },
    /// It is sealed with a key that is not in the ring.
    #[error("the packet is sealed with key {0}, which is not known here")]
    UnknownKey(KeyId),
    /// It bears a custom hash, and there is no function for it.
    #[error("the packet bears a custom hash, for which there is no function here")]
    NoHash,
    /// It bears a custom hash, and the function for it panics, or gives nothing or too much.
    #[error("the packet bears a custom hash, and the function for it fails")]
    HashFails,
    /// It is for one client alone, and this is none that asked for that.
    #[error("the packet is for one client alone, and nothing here asked for such")]
    NoExchange,
    /// The seal does not hold: damaged, forged, or from another topic, partition or service.
    #[error("the seal does not hold: damaged, forged, or moved here")]
    Broken,
    /// It claims to be larger than a packet may be when it is expanded.
    #[error("{claimed} bytes when expanded: at most {max}")]
    Expands {
        /// The claim.
        claimed: u64,
        /// The limit.
        max: usize,
    },
    /// What is compressed cannot be expanded to what it claims.
    #[error("the packet cannot be expanded")]
    Compression,
}

impl OpenError {
    /// What such a packet is counted as.
    pub const fn cause(&self) -> DropCause {
        match self {
            Self::Header(error) => inbox::cause(*error),
            Self::UnknownFlags(_) => DropCause::Flags,
            Self::Truncated => DropCause::Malformed,
            Self::TooLarge { .. } => DropCause::TooLarge,
            Self::TooWeak { .. } => DropCause::TooWeak,
            Self::UnknownKey(_) => DropCause::UnknownKey,
            Self::NoHash => DropCause::NoHash,
            Self::HashFails => DropCause::HashFails,
            Self::NoExchange => DropCause::NoExchange,
            Self::Broken => DropCause::BadSeal,
            Self::Expands { .. } => DropCause::Expansion,
            Self::Compression => DropCause::BadCompression,
        }
    }
}

/// Why sealing cannot be set up, or a packet not be sealed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A key is not 32 bytes.
    #[error("a key is 32 bytes, as 64 hexadecimal digits or in base64")]
    KeyFormat,
    /// A key of zeroes alone, which nobody draws by chance.
    #[error("a key of zeroes is no key")]
    ZeroKey,
    /// A password without characters.
    #[error("the password is empty")]
    EmptyPassword,
    /// A caller's name is empty or too long.
    #[error("a caller's name has 1 to {max} bytes")]
    CallerName {
        /// The limit.
        max: usize,
    },
    /// More keys than a ring holds.
    #[error("{count} keys: at most {max}")]
    TooManyKeys {
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Two keys of a ring have one id: they are the same key.
    #[error("two keys of the ring are the same, {0}")]
    SameKey(KeyId),
    /// Verifying or encrypting without a key.
    #[error("packets are to be {0}, and there is no key")]
    NoKey(Level),
    /// Two of checksum, custom hash, verifying and encrypting were asked for.
    #[error("packets cannot be {first} and {second}: encrypting verifies too, so choose one")]
    TwoLevels {
        /// What was asked for first.
        first: Level,
        /// What was asked for after it.
        second: Level,
    },
    /// A level of compression that there is not.
    #[error("compression of level {level}: from {least} to {most}")]
    CompressionLevel {
        /// What was asked for.
        level: i32,
        /// The lowest that there is.
        least: i32,
        /// The highest that is taken.
        most: i32,
    },
    /// The user's hash function gives nothing, or too much.
    #[error("the hash function gives {0} bytes: from 1 to {MAX_HASH_BYTES}")]
    HashLength(usize),
    /// The user's hash function panics.
    #[error("the hash function panics")]
    HashPanics,
    /// The key that was asked for is not in the ring.
    #[error("key {0} is not in the ring")]
    UnknownKey(KeyId),
    /// It would have more bytes than a packet may have.
    #[error("sealed, the packet has {len} bytes: at most {max}")]
    TooLarge {
        /// How many it would have.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// An answer for one client alone cannot be sealed: there is no [`Exchange`](super::Exchange),
    /// packets are not encrypted, or what the client offered is no key.
    #[error("an answer cannot be sealed for one client alone")]
    NoExchange,
    /// A server seals with a caller's key: what it writes would be that caller's.
    #[error("a server's first key is its own, and no caller's")]
    CallersKey,
    /// Answers for this process alone were asked for, and packets need not be encrypted.
    #[error("private answers need encryption: say .encrypt(…), and accept nothing less")]
    NotPrivate,
    /// What is to be sealed is no packet, or one that is sealed already.
    #[error("only an unsealed packet can be sealed")]
    NoPacket,
    /// The password's derivation failed, as for want of memory.
    #[error("a key cannot be derived from the password: {0}")]
    Derivation(String),
    /// A [`KeyProvider`](super::KeyProvider) gave no keys; its own words.
    #[error("the keys cannot be had: {0}")]
    Provider(String),
}
