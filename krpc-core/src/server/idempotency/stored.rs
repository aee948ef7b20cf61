//! Results as a store keeps them.

use bytes::Bytes;

use crate::{codec::ValueCodec, wire::frame::Outcome};

/// The first byte: how the others are to be read.
const VERSION: u8 = 1;

/// Version, kind, codec, fingerprint.
const HEAD: usize = 11;

/// What a handler ended with: its value, or the application's own error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::server) struct Stored {
    pub(in crate::server) ok: bool,
    pub(in crate::server) codec: ValueCodec,
    pub(in crate::server) value: Bytes,
}

impl Stored {
    /// The bytes for the store.
    pub(super) fn to_bytes(&self, fingerprint: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(HEAD + self.value.len());
        bytes.extend([VERSION, u8::from(self.ok), self.codec.as_u8()]);
        bytes.extend(fingerprint.to_be_bytes());
        bytes.extend_from_slice(&self.value);
        bytes.into()
    }

    /// From the bytes of a store: the fingerprint, and the rest.
    pub(super) fn from_bytes(bytes: Bytes) -> Option<(u64, Self)> {
        let (head, _) = bytes.split_first_chunk::<HEAD>()?;
        let [VERSION, kind @ 0..=1, codec, fingerprint @ ..] = *head else { return None };
        let codec = ValueCodec::from_u8(codec)?;
        let stored = Self { ok: kind == 1, codec, value: bytes.slice(HEAD..) };
        Some((u64::from_be_bytes(fingerprint), stored))
    }

    /// What the caller is answered.
    pub(in crate::server) fn outcome(&self) -> Outcome<'_> {
        let (codec, value) = (self.codec, &self.value[..]);
        if self.ok { Outcome::Ok { codec, value } } else { Outcome::App { codec, value } }
    }
}

/// Tells arguments apart, the same in every version: FNV-1a of 64 bits over codec and value.
pub(in crate::server) fn fingerprint(codec: ValueCodec, value: &[u8]) -> u64 {
    let bytes = [codec.as_u8()].into_iter().chain(value.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fingerprints_stay_as_they_are() {
        // FNV-1a of "\0foobar" and "\x01", by its definition.
        assert_eq!(fingerprint(ValueCodec::MessagePack, b"foobar"), 0x50a6_d3b7_24a7_74a6);
        assert_eq!(fingerprint(ValueCodec::Json, b""), 0xaf63_bc4c_8601_b62c);
    }

    proptest! {
        #[test]
        fn results_are_read_as_they_were_written(
            ok: bool, json: bool, value: Vec<u8>, fingerprint: u64,
        ) {
            let codec = if json { ValueCodec::Json } else { ValueCodec::MessagePack };
            let stored = Stored { ok, codec, value: value.into() };
            let bytes = stored.to_bytes(fingerprint);
            prop_assert_eq!(Stored::from_bytes(bytes), Some((fingerprint, stored)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some((fingerprint, stored)) = Stored::from_bytes(bytes.clone().into()) {
                prop_assert_eq!(&stored.to_bytes(fingerprint)[..], &bytes[..]);
            }
        }
    }
}
