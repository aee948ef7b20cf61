//! Packets: the clear header before the frames.
//!
//! ```text
//!  0      2 magic "kR"         24     16 destination (zeroes: whoever reads this)
//!  2      1 version            40   1–10 sequence, varint
//!  3      1 flags, zero         …      1 number of routes
//!  4      4 key id, zero        …        { tag(1) length(varint) body } for each
//!  8     16 sender
//! ```
//! Destination and sender stand at fixed places, so that a packet for somebody else is told by
//! [`Addresses::peek`] without reading further.

use smallvec::SmallVec;

use super::{
    MAGIC, MAX_ROUTE_BYTES, MAX_ROUTES, VERSION,
    coding::{Reader, WireError, put_u32, put_varint, varint_len},
};
use crate::ids::InstanceId;

/// The clear header of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Which instance wrote the packet.
    pub sender: InstanceId,
    /// Which instance it is for; [`InstanceId::ANY`] for whoever reads the partition.
    pub destination: InstanceId,
    /// The packet's number, by one counter of its sender for all its lanes: within a lane it
    /// ascends with gaps. For dropping duplicates.
    pub sequence: u64,
    /// Where replies to this packet's calls may be sent, best first; empty in replies.
    pub reply_to: Routes,
}

/// Ways back. As a rule there is one, which needs no list.
pub type Routes = SmallVec<[Route; 1]>;

/// A way by which a reply reaches a client. Unknown ways are skipped by readers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Route {
    /// A partition of the service's replies topic (tag 1, a varint).
    Partition(u32),
    /// A partition of the service's results topic (tag 2, a varint).
    Results(u32),
}

/// The tag of [`Route::Partition`].
const TAG_PARTITION: u8 = 1;

/// The tag of [`Route::Results`].
const TAG_RESULTS: u8 = 2;

/// No flag has a meaning in this version.
const FLAGS: u8 = 0;

/// The flags that sealed packets bear, which `seal` knows. Without it they only tell what it is
/// that cannot be read.
pub(crate) const SEALED: u8 = 0b0011_1111;

/// The key of a packet that is not sealed, as all are in this version.
const NO_KEY: u32 = 0;

/// Bytes before the sequence.
const FIXED: usize = 40;

impl Header {
    /// The most bytes that [`Header::encode`] writes.
    pub const fn max_len() -> usize {
        const PARTITION: usize = 2 + varint_len(u32::MAX as u64);
        FIXED + varint_len(u64::MAX) + 1 + MAX_ROUTES * PARTITION
    }

    /// Appends the header. Routes beyond the limit, the least preferred, are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(Self::max_len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, FLAGS]);
        put_u32(out, NO_KEY);
        out.extend_from_slice(self.sender.as_bytes());
        out.extend_from_slice(self.destination.as_bytes());
        put_varint(out, self.sequence);
        put_routes(out, &self.reply_to[..self.reply_to.len().min(MAX_ROUTES)]);
    }

    /// How many bytes of a packet its header is, whatever its flags, key and routes are.
    ///
    /// # Errors
    /// Anything but the header of a packet of this version.
    pub fn len_of(packet: &[u8]) -> Result<usize, WireError> {
        Addresses::peek(packet)?;
        let mut reader = Reader::new(packet);
        reader.bytes(FIXED)?;
        reader.varint()?;
        routes(&mut reader)?;
        Ok(packet.len() - reader.peek().len())
    }

    /// Reads a header; the reader then stands at the first frame.
    ///
    /// # Errors
    /// Anything but a clear header of this version from a sender with an identity.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let Addresses { sender, destination } = Addresses::peek(reader.peek())?;
        // Passed over by the addresses already: magic and version.
        reader.bytes(3)?;
        let flags = reader.u8()?;
        if flags != FLAGS {
            return Err(WireError::UnsupportedFlags(flags));
        }
        let key = reader.u32()?;
        if key != NO_KEY {
            return Err(WireError::UnsupportedKey(key));
        }
        reader.bytes(FIXED - 8)?;
        if sender == InstanceId::ANY {
            return Err(WireError::NoSender);
        }
        let sequence = reader.varint()?;
        let (_, reply_to) = routes(reader)?;
        Ok(Self { sender, destination, sequence, reply_to })
    }
}

impl Route {
    /// The tag, and the number that is the body.
    const fn parts(self) -> (u8, u32) {
        match self {
            Self::Partition(partition) => (TAG_PARTITION, partition),
            Self::Results(partition) => (TAG_RESULTS, partition),
        }
    }
}

/// How many bytes [`put_routes`] appends.
pub(super) fn routes_len(routes: &[Route]) -> usize {
    let body = |route: &Route| varint_len(u64::from(route.parts().1));
    1 + routes.iter().map(|route| 2 + body(route)).sum::<usize>()
}

/// Appends `count(1) { tag(1) length(varint) body }*`. There are at most [`MAX_ROUTES`].
pub(super) fn put_routes(out: &mut Vec<u8>, routes: &[Route]) {
    put_varint(out, routes.len() as u64);
    for route in routes {
        let (tag, partition) = route.parts();
        let partition = u64::from(partition);
        out.push(tag);
        put_varint(out, varint_len(partition) as u64);
        put_varint(out, partition);
    }
}

/// Reads what [`put_routes`] writes: how many routes there are, and those of known tags.
pub(super) fn routes(reader: &mut Reader<'_>) -> Result<(usize, Routes), WireError> {
    let count = usize::from(reader.u8()?);
    if count > MAX_ROUTES {
        return Err(WireError::TooMany { what: "routes", count, max: MAX_ROUTES });
    }
    let mut routes = Routes::new();
    for _ in 0..count {
        let tag = reader.u8()?;
        let mut body = Reader::new(reader.prefixed("route", MAX_ROUTE_BYTES)?);
        routes.push(match tag {
            TAG_PARTITION => Route::Partition(body.varint_u32("reply partition")?),
            TAG_RESULTS => Route::Results(body.varint_u32("results partition")?),
            _ => continue,
        });
        body.end("route")?;
    }
    Ok((count, routes))
}

/// From whom a packet is, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Which instance wrote the packet.
    pub sender: InstanceId,
    /// Which instance it is for.
    pub destination: InstanceId,
}

impl Addresses {
    /// Looks at the addresses of a packet alone: cheap, for packets that are somebody else's.
    ///
    /// # Errors
    /// The bytes are none of kRPC's, of another version, or end before the addresses do.
    pub fn peek(payload: &[u8]) -> Result<Self, WireError> {
        if payload.is_empty() {
            return Err(WireError::Empty);
        }
        let seen = payload.len().min(MAGIC.len());
        if payload[..seen] != MAGIC[..seen] {
            return Err(WireError::BadMagic);
        }
        let mut reader = Reader::new(payload);
        reader.bytes(MAGIC.len())?;
        let version = reader.u8()?;
        if version != VERSION {
            return Err(WireError::UnsupportedVersion(version));
        }
        reader.bytes(5)?;
        let sender = InstanceId::from_bytes(reader.array()?);
        let destination = InstanceId::from_bytes(reader.array()?);
        Ok(Self { sender, destination })
    }
}

#[cfg(test)]
mod tests;
