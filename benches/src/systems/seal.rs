//! How packets of kRPC are sealed: the settings that are measured beside each other.

use std::hash::{DefaultHasher, Hasher};

use ::krpc::seal::{Key, Seal};
use anyhow::Result;
use clap::ValueEnum;

/// Of what is measured only.
const KEY: &str = "9f2c64d1a7b85e03f6c41d2b8a907e553c10fe86b2d4976a0158e3cb7d42af90";
const PASSWORD: &str = "correct horse battery staple";

/// The level of Zstandard that is usual.
const LEVEL: i32 = 3;

/// How packets are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sealing {
    /// Not at all.
    None,
    /// Compressed, with nothing that proves them.
    Zstd,
    /// With a checksum.
    Checksum,
    /// Verified with a key.
    Verify,
    /// Verified with a hash of the user's own: a cheap one, without a key.
    Custom,
    /// Encrypted with a key.
    Encrypt,
    /// Encrypted with a key that is derived of a password.
    Password,
    /// Compressed, and encrypted with a key.
    ZstdEncrypt,
}

/// In the order of a case.
pub(crate) const ALL: [Sealing; 8] = [
    Sealing::None,
    Sealing::Zstd,
    Sealing::Checksum,
    Sealing::Verify,
    Sealing::Custom,
    Sealing::Encrypt,
    Sealing::Password,
    Sealing::ZstdEncrypt,
];

impl Sealing {
    /// As it is written on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Checksum => "checksum",
            Self::Verify => "verify",
            Self::Custom => "custom",
            Self::Encrypt => "encrypt",
            Self::Password => "password",
            Self::ZstdEncrypt => "zstd-encrypt",
        }
    }

    /// What kRPC is to be given.
    pub(crate) fn seal(self) -> Result<Option<Seal>> {
        let key = || Key::from_text(KEY);
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Zstd => Seal::new().compress(LEVEL),
            Self::Checksum => Seal::new().checksum(),
            Self::Verify => Seal::new().verify(key()?),
            Self::Custom => Seal::new().verify_with(siphash),
            Self::Encrypt => Seal::new().encrypt(key()?),
            Self::Password => Seal::new().password(PASSWORD),
            Self::ZstdEncrypt => Seal::new().compress(LEVEL).encrypt(key()?),
        }))
    }
}

/// The hash of the standard library's maps, which is the same in each process of one program.
fn siphash(bytes: &[u8]) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn words_are_those_of_the_command_line_and_each_can_be_used() {
        for sealing in Sealing::value_variants() {
            assert_eq!(Sealing::from_str(sealing.word(), false), Ok(*sealing));
            assert!(ALL.contains(sealing));
            let seal = sealing.seal().unwrap();
            assert!(seal.is_none_or(|seal| seal.check().is_ok()));
        }
    }
}
