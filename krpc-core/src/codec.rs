//! Values and their bytes: MessagePack between programs of kRPC, JSON for tools.
//!
//! What a peer sends is decoded under three rules: nothing may be left over, nothing is nested
//! deeper than [`MAX_VALUE_DEPTH`], and a claimed length reserves no more than serde's 1 MiB at
//! each level (a hash table some 2 MiB) until its elements are really there. What those elements
//! become is the type's own affair: an array costs at most its elements' size in memory for each
//! byte that was sent.
//!
//! from: the generated client and server, [`crate::server::service`] · to: the bytes of a frame

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::wire::MAX_VALUE_DEPTH;

/// How a value is encoded; travels with every value.
///
/// | | MessagePack | JSON |
/// |---|---|---|
/// | struct | map by field name | object |
/// | `Vec<u8>` | array (`bin` with `serde_bytes`) | array |
/// | `i128`, `u128` | `bin` of 16 bytes, big-endian | number |
/// | map with keys that are no text | map | refused, but for integers |
/// | NaN and infinities | as they are | `null`, which no float decodes from |
/// | `Some(None)` | arrives as `None` | arrives as `None` |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum ValueCodec {
    /// MessagePack, structs as maps by field name.
    #[default]
    MessagePack,
    /// JSON text.
    Json,
}

/// Why a value did not become bytes, or bytes no value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value has something that the codec cannot express.
    #[error("cannot be encoded as {codec}: {reason}")]
    Encode {
        /// The codec.
        codec: ValueCodec,
        /// Its word.
        reason: String,
    },
    /// The bytes are not of the codec, or not of the type.
    #[error("cannot be decoded from {codec}: {reason}")]
    Decode {
        /// The codec.
        codec: ValueCodec,
        /// Its word.
        reason: String,
    },
    /// Bytes are left over after the value.
    #[error("{left} bytes are left over after the value")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The value is nested deeper than [`MAX_VALUE_DEPTH`].
    #[error("nested deeper than {MAX_VALUE_DEPTH} levels")]
    TooDeep,
}

impl ValueCodec {
    /// The codec's number on the wire, 0 to 3.
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::MessagePack => 0,
            Self::Json => 1,
        }
    }

    /// The codec of this number.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::MessagePack),
            1 => Some(Self::Json),
            _ => None,
        }
    }

    /// Appends a value's bytes.
    ///
    /// # Errors
    /// [`CodecError::Encode`] or [`CodecError::TooDeep`]; `out` is as before.
    pub fn encode<T: Serialize + ?Sized>(
        self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let start = out.len();
        let written = match self {
            Self::MessagePack => {
                let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
                value.serialize(&mut serializer).map_err(|error| error.to_string())
            }
            Self::Json => {
                serde_json::to_writer(&mut *out, value).map_err(|error| error.to_string())
            }
        };
        let written = written
            .map_err(|reason| CodecError::Encode { codec: self, reason })
            .and_then(|()| self.check_depth(&out[start..]));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Reads a value that takes all of `bytes` (JSON may have white space after it).
    ///
    /// # Errors
    /// [`CodecError::Decode`], [`CodecError::Trailing`] or [`CodecError::TooDeep`].
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        self.check_depth(bytes)?;
        match self {
            Self::MessagePack => from_msgpack(bytes),
            Self::Json => from_json(bytes),
        }
    }

    /// Decoders recurse into what is nested, and rmp-serde does not count every way of nesting
    /// (enums with data): without this a few hundred KiB would overflow the stack.
    fn check_depth(self, bytes: &[u8]) -> Result<(), CodecError> {
        // No more levels than bytes, and than bytes that look like the start of one: that settles
        // most values without a walk.
        let starts = || match self {
            Self::MessagePack => count(bytes, |byte| matches!(byte, 0x80..=0x9f | 0xdc..=0xdf)),
            Self::Json => count(bytes, |byte| matches!(byte, b'[' | b'{')),
        };
        let short = bytes.len() <= MAX_VALUE_DEPTH;
        if short || self.is_seen_through(bytes)? || starts() <= MAX_VALUE_DEPTH {
            return Ok(());
        }
        match self {
            Self::MessagePack => msgpack_len(bytes).map(|_| ()),
            Self::Json => check_json_depth(bytes),
        }
    }

    /// Whether a large value is seen at a glance not to be too deep: most are bytes or text, which
    /// a walk skips. To count them took a twentieth of the CPU of a call with a mebibyte.
    fn is_seen_through(self, bytes: &[u8]) -> Result<bool, CodecError> {
        match self {
            Self::MessagePack if bytes.len() >= LARGE => Ok(msgpack_walk(bytes, FEW)?.is_some()),
            _ => Ok(false),
        }
    }
}

/// Bytes from which a value is looked at before they are counted.
const LARGE: usize = 4096;

/// Items that are looked at then.
const FEW: usize = 32;

/// How many bytes are such. In runs that a byte can count, so that the compiler vectorizes.
fn count(bytes: &[u8], such: impl Fn(u8) -> bool) -> usize {
    let runs = bytes.chunks(128);
    runs.map(|run| usize::from(run.iter().map(|byte| u8::from(such(*byte))).sum::<u8>())).sum()
}

impl fmt::Display for ValueCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessagePack => "MessagePack",
            Self::Json => "JSON",
        })
    }
}

fn from_msgpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let decode_error = |error: rmp_serde::decode::Error| CodecError::Decode {
        codec: ValueCodec::MessagePack,
        reason: error.to_string(),
    };
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    let value = T::deserialize(&mut deserializer).map_err(decode_error)?;
    // The deserializer does not say where it stands; only at the end there is no marker to read.
    match bool::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(CodecError::Trailing { left: bytes.len() - msgpack_len(bytes)? }),
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(&mut deserializer).map_err(|error| CodecError::Decode {
        codec: ValueCodec::Json,
        reason: error.to_string(),
    })?;
    match deserializer.end() {
        Ok(()) => Ok(value),
        Err(error) => {
            // Lines count from 1; columns are bytes within the line, from 1.
            let lines = bytes.split_inclusive(|byte| *byte == b'\n').take(error.line() - 1);
            let before = lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1);
            Err(CodecError::Trailing { left: bytes.len().saturating_sub(before) })
        }
    }
}

/// The length of the MessagePack value at the front of `bytes`, or the whole length if it ends
/// early (which the decoder then reports). Does not recurse and does not allocate.
fn msgpack_len(bytes: &[u8]) -> Result<usize, CodecError> {
    Ok(msgpack_walk(bytes, usize::MAX)?.unwrap_or(bytes.len()))
}

/// The same; `None` if the value has more than so many items.
fn msgpack_walk(bytes: &[u8], most: usize) -> Result<Option<usize>, CodecError> {
    // How many values each open level still expects.
    let mut open = [0_u64; MAX_VALUE_DEPTH];
    let mut depth = 0;
    let mut at = 0;
    for _ in 0..most {
        let Some((head, skip, values)) = msgpack_item(&bytes[at..]) else {
            return Ok(Some(bytes.len()));
        };
        at = head.saturating_add(skip).saturating_add(at);
        if at > bytes.len() {
            return Ok(Some(bytes.len()));
        }
        if let Some(values) = values {
            *open.get_mut(depth).ok_or(CodecError::TooDeep)? = values;
            if values > 0 {
                depth += 1;
                continue;
            }
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Of the item at the front: the bytes of marker and length, the bytes of data, and of an array or
/// a map how many values follow as its parts, by
/// <https://github.com/msgpack/msgpack/blob/master/spec.md>.
fn msgpack_item(bytes: &[u8]) -> Option<(usize, usize, Option<u64>)> {
    let (marker, rest) = bytes.split_first()?;
    let length = |width: usize| {
        let number = rest.get(..width)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        Some((1 + width, number))
    };
    let data = |width: usize, extra: usize| {
        let (head, len) = length(width)?;
        Some((head, usize::try_from(len).ok()?.saturating_add(extra), None))
    };
    let parts = |width: usize, each: u64| {
        let (head, len) = length(width)?;
        Some((head, 0, Some(len * each)))
    };
    match *marker {
        0x80..=0x8f => Some((1, 0, Some(u64::from(marker & 0x0f) * 2))),
        0x90..=0x9f => Some((1, 0, Some(u64::from(marker & 0x0f)))),
        0xa0..=0xbf => Some((1, usize::from(marker & 0x1f), None)),
        0xc4 | 0xd9 => data(1, 0),
        0xc5 | 0xda => data(2, 0),
        0xc6 | 0xdb => data(4, 0),
        0xc7 => data(1, 1),
        0xc8 => data(2, 1),
        0xc9 => data(4, 1),
        0xcc | 0xd0 => Some((1, 1, None)),
        0xcd | 0xd1 => Some((1, 2, None)),
        0xca | 0xce | 0xd2 => Some((1, 4, None)),
        0xcb | 0xcf | 0xd3 => Some((1, 8, None)),
        0xd4 => Some((1, 2, None)),
        0xd5 => Some((1, 3, None)),
        0xd6 => Some((1, 5, None)),
        0xd7 => Some((1, 9, None)),
        0xd8 => Some((1, 17, None)),
        0xdc => parts(2, 1),
        0xdd => parts(4, 1),
        0xde => parts(2, 2),
        0xdf => parts(4, 2),
        // Small integers, nil, booleans, and the one marker that is never used.
        0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => Some((1, 0, None)),
    }
}

fn check_json_depth(bytes: &[u8]) -> Result<(), CodecError> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_VALUE_DEPTH {
            return Err(CodecError::TooDeep);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
