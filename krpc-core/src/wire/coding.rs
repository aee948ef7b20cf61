//! The primitives: fixed integers, varints, length-prefixed bytes, and the errors of reading them.
//!
//! A [`Reader`] walks over a borrowed slice and never allocates; writers append to a `Vec<u8>`.
//! A length that a peer claims is checked against its limit first and against the bytes that are
//! there second, and only then used.

/// The input ends before the value does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the input ends too early")]
pub struct UnexpectedEnd;

/// Why bytes are not what docs/WIRE.md says, or why something cannot be written that way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The input ends before the value does.
    #[error(transparent)]
    UnexpectedEnd(#[from] UnexpectedEnd),
    /// There are no bytes at all.
    #[error("the record is empty")]
    Empty,
    /// A varint does not end within 10 bytes or 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintTooLong,
    /// A varint is not in its shortest form.
    #[error("a varint is not in its shortest form")]
    NonCanonical,
    /// The packet does not begin with kRPC's magic.
    #[error("not a packet of kRPC")]
    BadMagic,
    /// The packet's version is not the one this crate reads.
    #[error("version {0} of the wire format is not supported")]
    UnsupportedVersion(u8),
    /// Flag bits are set whose meaning this version does not know and must not ignore.
    #[error("unsupported flags {0:#010b}")]
    UnsupportedFlags(u8),
    /// The packet is sealed with a key; this version reads clear packets only.
    #[error("the packet is sealed with key {0}, which is not supported")]
    UnsupportedKey(u32),
    /// The sender is all zeroes, which is nobody's identity.
    #[error("the packet names no sender")]
    NoSender,
    /// Something is longer than its limit.
    #[error("{what} of {len} bytes: at most {max}")]
    TooLarge {
        /// What is too long.
        what: &'static str,
        /// Its length in bytes, as claimed.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// There are more of something than its limit allows.
    #[error("{count} {what}: at most {max}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many, as claimed.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A number does not fit its field.
    #[error("{what} {value} is out of range")]
    OutOfRange {
        /// The field.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A text is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A value's codec is of a number that this version does not know.
    #[error("unknown codec {0}")]
    BadCodec(u8),
    /// A metadata key is empty or not printable ASCII without spaces.
    #[error("a metadata key is not printable ASCII without spaces")]
    BadMetadataKey,
    /// Announced partitions or tags of terms do not ascend.
    #[error("numbers that must ascend do not")]
    NotAscending,
    /// Bytes are left over after the last field.
    #[error("{left} bytes are left over after {what}")]
    LeftOver {
        /// What ended before its bytes did.
        what: &'static str,
        /// How many bytes are left.
        left: usize,
    },
    /// A text has no characters, and must have some.
    #[error("the {0} is empty")]
    NoText(&'static str),
    /// A call has a term of a tag that this version does not know and must not ignore.
    #[error("unknown term {0}")]
    UnknownTerm(u8),
    /// No route of a call's answer is of a tag that this version knows.
    #[error("none of the routes of the answer is known")]
    UnknownRoutes,
    /// A frame that was kept is no request.
    #[error("the frame is no request")]
    NoRequest,
    /// A frame of this kind cannot be written by this version.
    #[error("frames of kind {0:#04x} cannot be written")]
    UnknownKind(u8),
}

impl WireError {
    /// A short label for counters: lower case, no values in it.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::UnexpectedEnd(_) => "unexpected_end",
            Self::Empty => "empty",
            Self::VarintTooLong => "varint_too_long",
            Self::NonCanonical => "non_canonical",
            Self::BadMagic => "bad_magic",
            Self::UnsupportedVersion(_) => "version",
            Self::UnsupportedFlags(_) => "flags",
            Self::UnsupportedKey(_) => "key",
            Self::NoSender => "no_sender",
            Self::TooLarge { .. } => "too_large",
            Self::TooMany { .. } => "too_many",
            Self::OutOfRange { .. } => "out_of_range",
            Self::NotUtf8(_) => "not_utf8",
            Self::BadCodec(_) => "bad_codec",
            Self::BadMetadataKey => "bad_metadata_key",
            Self::NotAscending => "not_ascending",
            Self::LeftOver { .. } => "left_over",
            Self::NoText(_) => "no_text",
            Self::UnknownTerm(_) => "unknown_term",
            Self::UnknownRoutes => "unknown_routes",
            Self::NoRequest => "no_request",
            Self::UnknownKind(_) => "unknown_kind",
        }
    }
}

/// Bytes of the longest varint.
const MAX_VARINT: usize = 10;

/// Reads from the front of a slice. After an error its position is unspecified, but it never
/// moves backwards and never past the end.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Whether no bytes are left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that are left, without taking them.
    pub const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes all bytes that are left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Takes `n` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    #[inline]
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], UnexpectedEnd> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes `N` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], UnexpectedEnd> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(UnexpectedEnd)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes a byte.
    ///
    /// # Errors
    /// None is left.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, UnexpectedEnd> {
        let (first, rest) = self.rest.split_first().ok_or(UnexpectedEnd)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Takes a big-endian integer of 4 bytes.
    ///
    /// # Errors
    /// Fewer bytes are left.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, UnexpectedEnd> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a big-endian integer of 8 bytes.
    ///
    /// # Errors
    /// Fewer bytes are left.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, UnexpectedEnd> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes a varint: LEB128, at most 10 bytes, in its shortest form.
    ///
    /// # Errors
    /// The input ends, the number passes 64 bits, or a shorter form exists.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let first = self.u8()?;
        if first < 0x80 { Ok(u64::from(first)) } else { self.varint_rest(first) }
    }

    #[inline]
    fn varint_rest(&mut self, first: u8) -> Result<u64, WireError> {
        let mut value = u64::from(first & 0x7f);
        let mut shift = 0;
        for (index, byte) in self.rest.iter().take(MAX_VARINT - 1).enumerate() {
            shift += 7;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return match byte {
                    0 => Err(WireError::NonCanonical),
                    // The tenth byte holds the 64th bit alone.
                    2.. if shift == 63 => Err(WireError::VarintTooLong),
                    _ => Ok(value),
                };
            }
        }
        let ends = self.rest.len() < MAX_VARINT - 1;
        Err(if ends { UnexpectedEnd.into() } else { WireError::VarintTooLong })
    }

    /// Takes a varint that must fit 32 bits.
    ///
    /// # Errors
    /// As [`Reader::varint`], or the number is larger.
    #[inline]
    pub fn varint_u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| WireError::OutOfRange { what, value })
    }

    /// Takes a varint that counts things of which `max` are allowed.
    ///
    /// # Errors
    /// As [`Reader::varint`], or the count is larger.
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, WireError> {
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if count > max { Err(WireError::TooMany { what, count, max }) } else { Ok(count) }
    }

    /// Takes a varint length of at most `max`, and that many bytes.
    ///
    /// # Errors
    /// The length is larger than `max`, or fewer bytes are left.
    #[inline]
    pub fn prefixed(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if len > max {
            return Err(WireError::TooLarge { what, len, max });
        }
        Ok(self.bytes(len)?)
    }

    /// Takes a varint length of at most `max`, and a text of that many bytes.
    ///
    /// # Errors
    /// As [`Reader::prefixed`], or the bytes are not UTF-8.
    #[inline]
    pub fn str(&mut self, what: &'static str, max: usize) -> Result<&'a str, WireError> {
        let bytes = self.prefixed(what, max)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8(what))
    }

    /// Ends the reading of `what`.
    ///
    /// # Errors
    /// Bytes are left.
    pub const fn end(&self, what: &'static str) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::LeftOver { what, left }),
        }
    }
}

/// How many bytes a varint takes: 1 to 10.
pub const fn varint_len(value: u64) -> usize {
    // ceil(bits / 7) for 1 to 64 bits, without a division.
    let bits = u64::BITS - (value | 1).leading_zeros();
    (bits as usize * 9 + 64) / 64
}

/// How many bytes a length-prefixed field of this length takes.
pub const fn prefixed_len(len: usize) -> usize {
    varint_len(len as u64) + len
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a big-endian integer of 4 bytes.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a big-endian integer of 8 bytes.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a varint length and the bytes.
#[inline]
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
