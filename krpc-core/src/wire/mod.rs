//! The wire format, version 1: what a Kafka record's value holds.
//!
//! ```text
//! packet = header frame*
//! header = magic(2) version(1) flags(1) key-id(4) sender(16) destination(16)
//!          sequence(varint) route-count(1) { tag(1) length(varint) body }*
//! frame  = kind(1) length(varint) body
//! ```
//! Integers of fixed width are big-endian; a varint is LEB128 of a `u64`, at most 10 bytes, in
//! its shortest form. docs/WIRE.md has the picture of every frame.
//!
//! Every limit stands here, with its unit and reason, and is checked both when writing and when
//! reading: nothing a peer sends makes a reader panic, or allocate beyond these numbers.

pub mod coding;
pub mod frame;
pub mod packet;

/// The first bytes of every packet: "kR", so that a stranger's record is told apart at once.
pub const MAGIC: [u8; 2] = *b"kR";

/// The version this crate writes; a reader refuses every other.
pub const VERSION: u8 = 1;

/// Bytes of a packet, header included, when a channel or server does not set less: half of the
/// 8 MiB that brokers are commonly raised to, and four of the largest values that kRPC promises.
pub const MAX_PACKET_BYTES: usize = 4 * 1024 * 1024;

/// Frames in one packet, of whatever kind: bounds the map of finished calls of one record.
pub const MAX_PACKET_CALLS: usize = 4096;

/// Bytes of a method's path, `service/method`: a topic's name is at most 249.
pub const MAX_PATH_BYTES: usize = 512;

/// Pairs of metadata in one frame.
pub const MAX_METADATA_ENTRIES: usize = 64;

/// Bytes of metadata's keys and values together in one frame.
pub const MAX_METADATA_BYTES: usize = 8 * 1024;

/// Bytes of a status message; longer ones are cut when written, at a character's boundary.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Bytes of a status' details; longer ones are left out when written.
pub const MAX_DETAILS_BYTES: usize = 64 * 1024;

/// Partitions in one announcement: the largest calls topic that is balanced by server.
pub const MAX_ANNOUNCED_PARTITIONS: usize = 4096;

/// Levels of arrays and maps within each other in a value: decoders recurse, and 127 is where
/// `serde_json` stops by itself.
pub const MAX_VALUE_DEPTH: usize = 127;

/// Reply routes in one header.
pub const MAX_ROUTES: usize = 8;

/// Bytes of one reply route's body.
pub const MAX_ROUTE_BYTES: usize = 255;

/// Bytes of a caller's name.
pub const MAX_CALLER_BYTES: usize = 128;

/// Terms in one call: seven are defined.
pub const MAX_TERMS: usize = 8;

/// Bytes of a call's key: names and numbers, not documents.
pub const MAX_KEY_BYTES: usize = 1024;

/// Bytes of an idempotency key: a few UUIDs.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 256;

/// The most bytes a request frame needs beside its terms, path, metadata and value.
pub const REQUEST_OVERHEAD: usize = 96;

/// The bytes of a packet that a call which may be moved or buried leaves free: for another header,
/// an origin, the head of a dead letter and why it died.
pub const QUEUED_OVERHEAD: usize = 2 * 1024;

/// Characters of a commit's metadata: the broker's default `offset.metadata.max.bytes`, which
/// counts characters. Base64 keeps the text ASCII, so bytes are the same number.
pub const MAX_MAP_CHARS: usize = 4096;
