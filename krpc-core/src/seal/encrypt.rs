//! XChaCha20-Poly1305. Its nonces are long enough to be drawn at random, so no counter has to
//! survive a restart, and none is shared between processes that have one key.

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, aead::AeadInOut};

use super::{
    error::OpenError,
    format::{NONCE_LEN, TAG_LEN},
    keys::KEY_BYTES,
};

/// Encrypts bytes where they are, and yields what proves them and `covered`.
pub(super) fn encrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_LEN],
    covered: &[u8],
    bytes: &mut [u8],
) -> [u8; TAG_LEN] {
    XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(nonce.into(), covered, bytes.into())
        .expect("a packet is far below the cipher's 256 GiB")
        .into()
}

/// Decrypts bytes where they are, if they and `covered` are as they were.
pub(super) fn decrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_LEN],
    covered: &[u8],
    bytes: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), OpenError> {
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(nonce.into(), covered, bytes.into(), tag.into())
        .map_err(|_| OpenError::Broken)
}
