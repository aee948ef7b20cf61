//! What calls are kept in order by: the bytes of a key, for this and any other language.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

/// A value that can be the key of a call: calls of one service with the same key go to the same
/// partition, and are executed one at a time, in their order.
///
/// Two keys are the same if their bytes are:
///
/// | type | bytes |
/// |---|---|
/// | `str`, `String`, `char` | UTF-8 |
/// | `[u8]`, `[u8; N]`, `Vec<u8>`, `Bytes` | as they are |
/// | integers but `usize` and `isize` | all of them, the highest first |
/// | `bool` | one, 0 or 1 |
/// | `&T`, `Box<T>`, `Arc<T>`, `Cow<T>` | those of `T` |
///
/// These are the bytes that Java's serializers write, and the partition is found as Java's
/// producer does it, so a key means the same to both. `1_i32` and `1_i64` are different keys.
///
/// Floats are no keys, since equal ones may differ in their bytes; nor are tuples, whose parts
/// could run together: write the text that is meant, `format!("{tenant}/{account}")`.
///
/// A type of one's own is a key by way of one of these:
///
/// ```
/// use krpc_core::key::Key;
///
/// struct AccountId(u64);
///
/// impl Key for AccountId {
///     fn put(&self, out: &mut Vec<u8>) {
///         self.0.put(out);
///     }
/// }
///
/// let mut bytes = Vec::new();
/// AccountId(0x0102).put(&mut bytes);
/// assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key",
    label = "cannot be a key",
    note = "keys are text, bytes, integers of a fixed width, `bool` and `char`; of anything else, \
            as a float or several values, make a text: `format!(\"{{tenant}}/{{account}}\")`; a \
            type of your own may implement `krpc::Key`"
)]
pub trait Key {
    /// Appends its bytes to `out`.
    fn put(&self, out: &mut Vec<u8>);
}

/// The bytes of a key.
pub fn key_of<K: Key + ?Sized>(key: &K) -> Vec<u8> {
    let mut out = Vec::new();
    key.put(&mut out);
    out
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Key for $integer {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

impl Key for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Key for char {
    fn put(&self, out: &mut Vec<u8>) {
        self.encode_utf8(&mut [0; 4]).put(out);
    }
}

impl Key for str {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_bytes().put(out);
    }
}

impl Key for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_bytes().put(out);
    }
}

impl Key for [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Key for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_slice().put(out);
    }
}

impl Key for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_slice().put(out);
    }
}

impl Key for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_ref().put(out);
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<K: Key + ?Sized> Key for Box<K> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<K: Key + ?Sized> Key for Arc<K> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<K: Key + ToOwned + ?Sized> Key for Cow<'_, K> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_all_their_bytes_as_javas_serializers_write_them() {
        // LongSerializer and IntegerSerializer: big-endian, two's complement.
        assert_eq!(key_of(&1_i64), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(key_of(&-2_i32), [0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(key_of(&0x0102_u16), [1, 2]);
        assert_eq!(key_of(&7_u8), [7]);
        assert_eq!(key_of(&1_u128).len(), 16);
        assert_ne!(key_of(&1_i32), key_of(&1_i64));
    }

    #[test]
    fn text_is_utf_8_and_bytes_are_themselves() {
        for text in ["", "a", "Größe", "日本"] {
            assert_eq!(key_of(text), text.as_bytes());
            assert_eq!(key_of(&text.to_owned()), text.as_bytes());
        }
        assert_eq!(key_of(&'ö'), "ö".as_bytes());
        assert_eq!(key_of(&[1_u8, 2]), [1, 2]);
        assert_eq!(key_of(&vec![1_u8, 2]), [1, 2]);
        assert_eq!(key_of(&Bytes::from_static(&[1, 2])), [1, 2]);
        assert_eq!((key_of(&true), key_of(&false)), (vec![1], vec![0]));
    }

    #[test]
    fn what_points_to_a_key_is_that_key() {
        let key = "acme";
        assert_eq!(key_of(&&key), key.as_bytes());
        assert_eq!(key_of(&Box::<str>::from(key)), key.as_bytes());
        assert_eq!(key_of(&Arc::<str>::from(key)), key.as_bytes());
        assert_eq!(key_of(&Cow::Borrowed(key)), key.as_bytes());
        assert_eq!(key_of(&Cow::<str>::Owned(key.to_owned())), key.as_bytes());
        assert_eq!(key_of(&Box::new(3_u16)), [0, 3]);
    }

    #[test]
    fn a_key_is_appended() {
        let mut out = vec![9];
        "a".put(&mut out);
        1_u8.put(&mut out);
        assert_eq!(out, [9, b'a', 1]);
    }
}
