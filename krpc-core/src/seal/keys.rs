//! Keys: what users have, and what is derived from them for one service.
//!
//! No key is used as it is. From the root key one is derived for each service, kind of topic and
//! purpose, by BLAKE3's `derive_key`: a packet of another service or direction does not open even
//! before its place is compared, and no key serves two algorithms.
//!
//! A password has to give both sides the same key without a word between them, so its salt cannot
//! be random. It is made of the service's name, and of a text of the user's if there is one: a
//! table of passwords is good for one service only. Whoever has recorded a packet can try passwords
//! at leisure; Argon2id makes each try dear, and a key of 32 random bytes makes it hopeless.
//!
//! All of it is erased when it is dropped, and has no `Debug` that shows it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::{
    error::SealError,
    format::{KeyId, TOPICS, slot, topic_number},
};
use crate::transport::Topic;
pub use crate::wire::MAX_CALLER_BYTES;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Argon2id for passwords, the second recommendation of RFC 9106: 64 MiB, three passes, four
/// lanes. Once for each service and process.
const PASSWORD_MEMORY_KIB: u32 = 64 * 1024;
const PASSWORD_PASSES: u32 = 3;
const PASSWORD_LANES: u32 = 4;

// Contexts of derivations. They are a part of the format and never change.
const SALT: &str = "kRPC seal 1: salt of a password";
const ID: &str = "kRPC seal 1: id of a key";
const ENCRYPT: &str = "kRPC seal 1: key that encrypts packets";
const VERIFY: &str = "kRPC seal 1: key that verifies packets";

/// The bytes of a derived key.
pub(super) type Derived = Zeroizing<[u8; KEY_BYTES]>;

/// A secret that servers and clients share, or that one caller shares with the servers.
#[derive(Clone)]
pub struct Key {
    secret: Secret,
    caller: Option<Arc<str>>,
}

#[derive(Clone)]
enum Secret {
    Bytes(Derived),
    Password(Arc<Password>),
}

struct Password {
    password: Zeroizing<String>,
    salt: String,
    /// What was derived, by service: a client and a server of one process, or a seal that is made
    /// anew, need not wait twice.
    derived: Mutex<BTreeMap<String, Once>>,
}

/// What is derived once, by whoever comes first; others wait for it, and for nothing else.
type Once = Arc<Mutex<Option<Derived>>>;

impl Key {
    /// A key of 32 random bytes.
    ///
    /// # Errors
    /// They are all zero.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, SealError> {
        if bytes == [0; KEY_BYTES] {
            return Err(SealError::ZeroKey);
        }
        Ok(Self { secret: Secret::Bytes(Zeroizing::new(bytes)), caller: None })
    }

    /// A key as it stands in a file or an environment variable: 64 hexadecimal digits, or base64
    /// of 32 bytes; white space around it is ignored.
    ///
    /// # Errors
    /// It is neither, or all zero.
    pub fn from_text(text: &str) -> Result<Self, SealError> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if text.len() == 2 * KEY_BYTES {
            let (pairs, _) = text.as_bytes().as_chunks();
            for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
                *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
            }
        } else {
            let decoded = BASE64_STANDARD.decode(text).map(Zeroizing::new);
            let decoded = decoded.map_err(|_| SealError::KeyFormat)?;
            if decoded.len() != KEY_BYTES {
                return Err(SealError::KeyFormat);
            }
            bytes.copy_from_slice(&decoded);
        }
        Self::from_bytes(*bytes)
    }

    /// A key that is derived from a password by Argon2id: 64 MiB, three passes, four lanes. That
    /// takes some tenths of a second for each service, when it is first used.
    ///
    /// # Errors
    /// The password is empty.
    pub fn from_password(password: &str) -> Result<Self, SealError> {
        Self::from_password_with_salt(password, "")
    }

    /// As [`Key::from_password`], with a text that both sides have and others need not: whoever
    /// prepares a table of passwords must know it. It is no secret.
    ///
    /// # Errors
    /// The password is empty.
    pub fn from_password_with_salt(password: &str, salt: &str) -> Result<Self, SealError> {
        if password.is_empty() {
            return Err(SealError::EmptyPassword);
        }
        let (password, salt) = (Zeroizing::new(password.to_owned()), salt.to_owned());
        let password = Arc::new(Password { password, salt, derived: Mutex::default() });
        Ok(Self { secret: Secret::Password(password), caller: None })
    }

    /// The same key as that of one caller. The name is bound into it: a packet that opens with it
    /// comes from who has the key of that name.
    ///
    /// # Errors
    /// The name is empty or longer than 128 bytes.
    pub fn of_caller(mut self, name: &str) -> Result<Self, SealError> {
        if name.is_empty() || name.len() > MAX_CALLER_BYTES {
            return Err(SealError::CallerName { max: MAX_CALLER_BYTES });
        }
        self.caller = Some(name.into());
        Ok(self)
    }

    /// Whose key it is, if it is one caller's.
    pub fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// The keys for one service. Slow if it is a password.
    pub(super) fn derive(&self, service: &str) -> Result<ServiceKey, SealError> {
        let root = match &self.secret {
            Secret::Bytes(bytes) => bytes.clone(),
            Secret::Password(password) => password.derive(service)?,
        };
        Ok(ServiceKey::derive(&root, self.caller.clone(), service))
    }
}

impl Password {
    fn derive(&self, service: &str) -> Result<Derived, SealError> {
        let derived = Arc::clone(self.derived.lock().entry(service.to_owned()).or_default());
        let mut derived = derived.lock();
        if let Some(root) = &*derived {
            return Ok(root.clone());
        }
        let params = (PASSWORD_MEMORY_KIB, PASSWORD_PASSES, PASSWORD_LANES);
        let root = from_password(&self.password, &self.salt, service, params)?;
        *derived = Some(root.clone());
        Ok(root)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("caller", &self.caller).finish_non_exhaustive()
    }
}

fn hex_digit(digit: u8) -> Result<u8, SealError> {
    let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    value.ok_or(SealError::KeyFormat)
}

/// Argon2id, with (KiB, passes, lanes).
pub(super) fn from_password(
    password: &str,
    extra: &str,
    service: &str,
    (memory, passes, lanes): (u32, u32, u32),
) -> Result<Derived, SealError> {
    use argon2::{Algorithm, Argon2, Params, Version};

    let mut material = Vec::new();
    put_text(&mut material, extra);
    material.extend_from_slice(service.as_bytes());
    let salt = blake3::derive_key(SALT, &material);
    let mut root = Zeroizing::new([0; KEY_BYTES]);
    Params::new(memory, passes, lanes, Some(KEY_BYTES))
        .and_then(|params| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
                password.as_bytes(),
                &salt[..16],
                &mut *root,
            )
        })
        .map_err(|error| SealError::Derivation(error.to_string()))?;
    Ok(root)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// What was derived of one key for one service.
pub(super) struct ServiceKey {
    pub(super) id: KeyId,
    pub(super) caller: Option<Arc<str>>,
    encrypt: [Derived; TOPICS.len()],
    verify: [Derived; TOPICS.len()],
}

impl ServiceKey {
    fn derive(root: &[u8; KEY_BYTES], caller: Option<Arc<str>>, service: &str) -> Self {
        let derive = |context: &str, topic: u8| {
            let caller = caller.as_deref().unwrap_or_default();
            // Room for all of it: a vector that grows leaves a copy of the key behind.
            let len = KEY_BYTES + 1 + 8 + caller.len() + service.len();
            let mut material = Zeroizing::new(Vec::with_capacity(len));
            material.extend_from_slice(root);
            material.push(topic);
            put_text(&mut material, caller);
            material.extend_from_slice(service.as_bytes());
            Zeroizing::new(blake3::derive_key(context, &material))
        };
        let [a, b, c, d, ..] = *derive(ID, 0);
        // Zero says that there is no key.
        let id = KeyId(u32::from_be_bytes([a, b, c, d]).max(1));
        let encrypt = TOPICS.map(|topic| derive(ENCRYPT, topic_number(topic)));
        let verify = TOPICS.map(|topic| derive(VERIFY, topic_number(topic)));
        Self { id, caller, encrypt, verify }
    }

    pub(super) fn encrypts(&self, topic: Topic) -> &Derived {
        &self.encrypt[slot(topic)]
    }

    pub(super) fn verifies(&self, topic: Topic) -> &Derived {
        &self.verify[slot(topic)]
    }
}
