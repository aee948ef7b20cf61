//! Key–value pairs that travel with a call or a reply.

use std::fmt;

use crate::{
    status::{Code, Status},
    wire::{
        MAX_METADATA_BYTES, MAX_METADATA_ENTRIES,
        coding::{Reader, WireError, prefixed_len, put_prefixed, put_varint, varint_len},
    },
};

/// Text pairs in the order they were added; a repeated key replaces the earlier value.
///
/// At most 64 entries and 8 KiB of keys and values together. Keys are ASCII without control
/// characters or spaces, compared as they are; by convention lower case.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Absent if there are none, as with nearly every call: what has metadata is moved about.
    pairs: Option<Box<Pairs>>,
}

#[derive(Clone, PartialEq, Eq, Default)]
struct Pairs(Vec<(String, String)>);

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Metadata {
    /// No pairs; does not allocate.
    pub const fn new() -> Self {
        Self { pairs: None }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(k, v)| (k == key).then_some(v))
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The number of pairs.
    pub const fn len(&self) -> usize {
        match &self.pairs {
            Some(pairs) => pairs.0.len(),
            None => 0,
        }
    }

    /// Whether there are no pairs.
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_none()
    }

    fn pairs(&self) -> &[(String, String)] {
        self.pairs.as_ref().map_or(&[], |pairs| &pairs.0)
    }

    /// Sets a key's value.
    ///
    /// # Errors
    /// `InvalidArgument` for a key that is empty or not printable ASCII, `ResourceExhausted` when
    /// the caps would be passed; nothing is changed then.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), Status> {
        self.put(key, value).map_err(|refused| match refused {
            Refused::Key => {
                let message = format!("metadata key {key:?} is not printable ASCII without spaces");
                Status::new(Code::InvalidArgument, message)
            }
            Refused::Caps { entries, bytes } => {
                let message = format!(
                    "metadata of {entries} entries and {bytes} bytes: at most \
                     {MAX_METADATA_ENTRIES} entries and {MAX_METADATA_BYTES} bytes travel"
                );
                Status::new(Code::ResourceExhausted, message).with_retryable(false)
            }
        })
    }

    fn put(&mut self, key: &str, value: &str) -> Result<(), Refused> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refused::Key);
        }
        let found = self.pairs().iter().position(|(k, _)| k == key);
        let freed = found.map_or(0, |at| key.len() + self.pairs()[at].1.len());
        let bytes = self.bytes() - freed + key.len() + value.len();
        let entries = self.len() + usize::from(found.is_none());
        if bytes > MAX_METADATA_BYTES || entries > MAX_METADATA_ENTRIES {
            return Err(Refused::Caps { entries, bytes });
        }
        let Pairs(pairs) = &mut **self.pairs.get_or_insert_default();
        match found {
            Some(at) => value.clone_into(&mut pairs[at].1),
            None => pairs.push((key.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// How many bytes [`Metadata::encode`] appends.
    pub(crate) fn encoded_len(&self) -> usize {
        let pairs = self.iter();
        let pairs = pairs.map(|(key, value)| prefixed_len(key.len()) + prefixed_len(value.len()));
        varint_len(self.len() as u64) + pairs.sum::<usize>()
    }

    /// Appends `count { length key length value }*`; the caps hold since each pair was put in.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        for (key, value) in self.iter() {
            put_prefixed(out, key.as_bytes());
            put_prefixed(out, value.as_bytes());
        }
    }

    /// Reads what [`Metadata::encode`] writes. Of a repeated key the last value stays.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = reader.count("metadata entries", MAX_METADATA_ENTRIES)?;
        let mut metadata = Self::new();
        for _ in 0..count {
            let key = reader.str("metadata key", MAX_METADATA_BYTES)?;
            let value = reader.str("metadata value", MAX_METADATA_BYTES)?;
            metadata.put(key, value).map_err(|refused| match refused {
                Refused::Key => WireError::BadMetadataKey,
                Refused::Caps { bytes, .. } => {
                    WireError::TooLarge { what: "metadata", len: bytes, max: MAX_METADATA_BYTES }
                }
            })?;
        }
        Ok(metadata)
    }

    /// The bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

/// Why a pair is not taken in.
#[derive(Debug)]
enum Refused {
    Key,
    Caps { entries: usize, bytes: usize },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_repeated_key_replaces_in_place() {
        let mut metadata = Metadata::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            metadata.insert(key, value).unwrap();
        }
        assert_eq!(metadata.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
        assert_eq!(metadata.get("c"), None);
    }

    #[test]
    fn the_caps_hold_and_a_refusal_changes_nothing() {
        let mut metadata = Metadata::new();
        metadata.insert("k", &"v".repeat(MAX_METADATA_BYTES - 1)).unwrap();
        let full = metadata.clone();
        let refused = metadata.insert("l", "").unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(!refused.is_retryable());
        assert_eq!(metadata, full);
        // Replacing frees what was there.
        metadata.insert("k", "short").unwrap();
        for n in 1..MAX_METADATA_ENTRIES {
            metadata.insert(&n.to_string(), "").unwrap();
        }
        assert_eq!(metadata.insert("x", "").unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(metadata.len(), MAX_METADATA_ENTRIES);
        metadata.insert("k", "replaced").unwrap();
    }

    #[test]
    fn keys_are_printable_ascii() {
        for key in ["", "a b", "ä", "a\n", "\u{7f}"] {
            let refused = Metadata::new().insert(key, "v").unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{key:?}");
        }
        Metadata::new().insert("x-Trace!", "täst\n").unwrap();
    }

    #[test]
    fn what_travels_meets_the_same_checks() {
        let decode = |bytes: &[u8]| Metadata::decode(&mut Reader::new(bytes));
        let repeated = decode(&[2, 1, b'k', 1, b'1', 1, b'k', 1, b'2']).unwrap();
        assert_eq!(repeated.iter().collect::<Vec<_>>(), [("k", "2")]);
        assert_eq!(decode(&[1, 1, b' ', 0]), Err(WireError::BadMetadataKey));
        assert_eq!(decode(&[1, 0, 0]), Err(WireError::BadMetadataKey));
        assert_eq!(decode(&[1, 1, 0xff, 0]), Err(WireError::NotUtf8("metadata key")));
        assert!(matches!(decode(&[65]), Err(WireError::TooMany { .. })));
        let mut large = vec![2];
        for key in [b"a", b"b"] {
            put_prefixed(&mut large, key);
            put_prefixed(&mut large, &[b'v'; MAX_METADATA_BYTES / 2]);
        }
        assert!(matches!(decode(&large), Err(WireError::TooLarge { what: "metadata", .. })));
    }
}
