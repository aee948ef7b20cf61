//! Zstandard, when it pays, and never more out of it than a packet may be.
//!
//! ```text
//! compressed = length(varint) frame of Zstandard
//! ```
//! The length is compared with the limit before anything is reserved. The library then writes into
//! that room; what does not fill it exactly is refused. So a packet of a few bytes costs
//! its reader the limit at most, for a moment, and only after its seal was found to hold.

use std::{fmt, io::Cursor};

use zstd::bulk::{Compressor, Decompressor};

use super::error::{OpenError, SealError};
use crate::wire::coding::{Reader, put_varint};

/// Bodies below this are not worth the time.
const LEAST: usize = 128;

/// What compressing must save: this part of the body.
const GAIN: usize = 16;

/// The highest level: above it windows grow beyond a packet, and memory with them.
const MAX_LEVEL: i32 = 19;

/// The lowest level: faster and worse than 1, as far as it makes a difference.
const MIN_LEVEL: i32 = -7;

/// What the library keeps between packets, made when it is first needed: about a mebibyte for
/// compressing at usual levels, a tenth of it for expanding.
#[derive(Default)]
pub(super) struct Contexts {
    compressor: Option<(i32, Compressor<'static>)>,
    decompressor: Option<Decompressor<'static>>,
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts").finish_non_exhaustive()
    }
}

/// Whether there is such a level of compression.
pub(super) fn check_level(level: i32) -> Result<(), SealError> {
    if (MIN_LEVEL..=MAX_LEVEL).contains(&level) {
        return Ok(());
    }
    Err(SealError::CompressionLevel { level, least: MIN_LEVEL, most: MAX_LEVEL })
}

impl Contexts {
    /// Appends the body, compressed, if that makes it smaller by a sixteenth; whether it did.
    pub(super) fn compress(&mut self, level: i32, body: &[u8], out: &mut Vec<u8>) -> bool {
        if body.len() < LEAST {
            return false;
        }
        let start = out.len();
        put_varint(out, body.len() as u64);
        let written = self.write(level, body, out, start + body.len() - body.len() / GAIN);
        if written.is_none() {
            out.truncate(start);
        }
        written.is_some()
    }

    /// Appends a frame that ends before `end`.
    fn write(&mut self, level: i32, body: &[u8], out: &mut Vec<u8>, end: usize) -> Option<()> {
        let compressor = match &mut self.compressor {
            Some((made_for, compressor)) if *made_for == level => compressor,
            slot => &mut slot.insert((level, Compressor::new(level).ok()?)).1,
        };
        let begin = out.len();
        // Without room for more than pays, the library itself says that it does not pay.
        out.resize(end, 0);
        let len = compressor.compress_to_buffer(body, &mut out[begin..]).ok()?;
        out.truncate(begin + len);
        Some(())
    }

    /// Appends what was compressed, `max` bytes at most.
    pub(super) fn expand(
        &mut self,
        compressed: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let mut reader = Reader::new(compressed);
        let claimed = reader.varint().map_err(|_| OpenError::Compression)?;
        let fits = usize::try_from(claimed).ok().filter(|len| *len <= max);
        let len = fits.ok_or(OpenError::Expands { claimed, max })?;
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            slot => slot.insert(Decompressor::new().map_err(|_| OpenError::Compression)?),
        };
        let start = out.len();
        out.reserve_exact(len);
        // Behind what is there, into room that nothing was written to before. There may be more of
        // it than was claimed.
        let mut room = Cursor::new(&mut *out);
        room.set_position(start as u64);
        match decompressor.decompress_to_buffer(reader.peek(), &mut room) {
            Ok(written) if written == len => Ok(()),
            _ => {
                out.truncate(start);
                Err(OpenError::Compression)
            }
        }
    }
}
