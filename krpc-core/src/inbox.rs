//! Records to frames: one whole direction, for client and server alike.
//!
//! A record is opened as a whole before any of its frames takes effect: header, destination,
//! kinds and lengths of all frames, and whether it was here before. What a single frame holds is
//! checked when it is read; a bad one does not take its neighbours with it.
//!
//! from: the transport's records (`handle_record` of either machine)
//! to: [`crate::server::machine`] and [`crate::client::machine`], which take the frames

use foldhash::{HashMap, HashMapExt};

use crate::{
    ids::{InstanceId, PartitionId},
    window::{Verdict, Windows},
    wire::{
        MAX_PACKET_BYTES, MAX_PACKET_CALLS,
        coding::{Reader, WireError},
        frame::{self, Frame, FrameKind},
        packet::{Addresses, Header, SEALED},
    },
};

macro_rules! causes {
    ($($(#[$doc:meta])+ $name:ident = $label:literal;)+) => {
        /// Why a record or a frame was dropped. A counter for each, and beside each the test that
        /// provokes it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum DropCause { $($(#[$doc])+ $name,)+ }

        impl DropCause {
            /// Every cause, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The cause as a label of counters.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

causes! {
    /// A packet for another instance; usual where clients share a reply partition.
    /// Test: `a_foreign_packet_is_dropped_after_its_addresses`.
    Foreign = "foreign";
    /// A packet or a call that was here before.
    /// Test: `a_repeated_packet_is_a_duplicate_until_the_partition_is_reset`.
    Duplicate = "duplicate";
    /// A record without a value, or with an empty one. Test: `each_kind_of_garbage_has_its_cause`.
    Empty = "empty";
    /// A record that kRPC did not write. Test: `each_kind_of_garbage_has_its_cause`.
    BadMagic = "bad_magic";
    /// A packet of another version of the format. Test: `each_kind_of_garbage_has_its_cause`.
    Version = "version";
    /// A sealed packet, compressed ones included, where there is no seal: nothing was set that
    /// opens any. Test: `each_kind_of_garbage_has_its_cause`.
    Sealed = "sealed";
    /// A packet with flags that this version does not know, or a key without a seal.
    /// Test: `each_kind_of_garbage_has_its_cause`.
    Flags = "flags";
    /// A packet whose header or frames' lengths do not hold. Test: `a_cut_packet_is_refused_whole`.
    Malformed = "malformed";
    /// A packet of more bytes or frames than the limits allow.
    /// Test: `too_many_bytes_or_frames_are_refused`.
    TooLarge = "too_large";
    /// A frame whose body cannot be read. Test: `a_bad_frame_leaves_its_neighbours_alone`.
    FrameMalformed = "frame_malformed";
    /// A frame of a kind that this version does not know; counted by the machine that skips it.
    /// Test: `unknown_kinds_are_shown_and_skipped`.
    UnknownKind = "unknown_kind";
    /// A frame of a kind that has no business here, such as a reply among calls.
    /// Tests: `frames_that_are_no_clients_are_of_an_unexpected_kind`,
    /// `frames_that_are_no_servers_are_of_an_unexpected_kind`.
    UnexpectedKind = "unexpected_kind";
    /// A reply to a call that does not wait (any more).
    /// Test: `a_reply_that_nobody_waits_for_is_dropped`.
    UnknownCall = "unknown_call";
    /// A reply in a packet that is for everyone.
    /// Test: `a_reply_for_everyone_is_misrouted`.
    MisroutedReply = "misrouted_reply";
    /// A packet that is protected less well than is demanded here, such as not at all.
    /// Test: `each_way_not_to_open_has_its_cause`.
    TooWeak = "too_weak";
    /// A packet that is sealed with a key that is not known here.
    /// Test: `each_way_not_to_open_has_its_cause`.
    UnknownKey = "unknown_key";
    /// A packet with a hash of a user's own, where there is no function for it.
    /// Test: `each_way_not_to_open_has_its_cause`.
    NoHash = "no_hash";
    /// A packet with a hash of a user's own, where the function for it panics, or gives no hash.
    /// Test: `a_hash_function_that_fails_has_packets_refused_and_is_told_once`.
    HashFails = "hash_fails";
    /// A packet for one client alone, where nobody asked for such.
    /// Test: `each_way_not_to_open_has_its_cause`.
    NoExchange = "no_exchange";
    /// An answer that others could have opened, where it was asked that they cannot.
    /// Test: `an_answer_that_others_can_open_is_refused`.
    NotPrivate = "not_private";
    /// A packet whose seal does not hold: damaged, forged, or written elsewhere.
    /// Test: `each_way_not_to_open_has_its_cause`.
    BadSeal = "bad_seal";
    /// A packet that claims to be larger than one may be when it is expanded.
    /// Test: `each_way_not_to_open_has_its_cause`.
    Expansion = "expansion";
    /// A packet that cannot be expanded. Test: `each_way_not_to_open_has_its_cause`.
    BadCompression = "bad_compression";
    /// A sealed packet that was stored much later than it was sealed, or that may have been here
    /// before so many others that it cannot be told any more.
    /// Test: `a_packet_that_was_sealed_long_before_it_was_appended_is_stale`.
    Stale = "stale";
    /// A sealed packet that was here before, at another offset: written once more by its sender's
    /// producer, or copied. Test: `every_packet_that_is_written_again_is_refused`.
    Replayed = "replayed";
    /// A record of a partition that is not (or no longer) owned.
    /// Test: `records_of_a_partition_that_is_not_owned_are_dropped`.
    NotOwned = "not_owned";
}

/// How often each cause occurred, since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DropCounts {
    counts: [u64; DropCause::ALL.len()],
}

impl DropCounts {
    /// Records or frames that were dropped for this cause.
    pub const fn count(&self, cause: DropCause) -> u64 {
        self.counts[cause as usize]
    }

    /// All causes by label, also those that did not occur.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DropCause::ALL.iter().map(|cause| (cause.label(), self.count(*cause)))
    }

    /// Records and frames dropped for any cause but [`DropCause::Foreign`], which is no fault.
    pub fn faults(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.count(DropCause::Foreign)
    }
}

/// Opens records. Events: [`Inbox::open`], [`Inbox::count`]; verbs: `reset`, `forget`.
#[derive(Debug)]
pub struct Inbox {
    me: InstanceId,
    partitions: HashMap<PartitionId, Windows>,
    dropped: DropCounts,
}

impl Inbox {
    /// An inbox of the instance `me`, which has seen nothing.
    pub fn new(me: InstanceId) -> Self {
        Self { me, partitions: HashMap::new(), dropped: DropCounts::default() }
    }

    /// Forgets what a partition's senders sent: on assignment records may come again, and must.
    pub fn reset(&mut self, partition: PartitionId) {
        self.partitions.insert(partition, Windows::default());
    }

    /// Forgets a partition that was revoked.
    pub fn forget(&mut self, partition: PartitionId) {
        self.partitions.remove(&partition);
    }

    /// Opens one record of a partition. Its sequence counts as seen only if it opens.
    ///
    /// # Errors
    /// The record is to be dropped; that is counted already.
    pub fn open<'a>(
        &mut self,
        partition: PartitionId,
        payload: &'a [u8],
    ) -> Result<Packet<'a>, DropCause> {
        let opened = Packet::open(self.me, payload).and_then(|packet| {
            let windows = self.partitions.entry(partition).or_default();
            match windows.admit(packet.header.sender, packet.header.sequence) {
                Verdict::New | Verdict::Older => Ok(packet),
                Verdict::Duplicate => Err(DropCause::Duplicate),
            }
        });
        if let Err(cause) = opened {
            self.count(cause);
        }
        opened
    }

    /// Counts a frame that the machine above dropped.
    pub const fn count(&mut self, cause: DropCause) {
        self.dropped.counts[cause as usize] += 1;
    }

    /// What was dropped, by cause.
    pub const fn dropped(&self) -> &DropCounts {
        &self.dropped
    }
}

/// A packet for this instance, sound in header and structure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// The clear header.
    pub header: Header,
    /// Whether it is for whoever reads the partition, rather than for this instance alone.
    pub broadcast: bool,
    body: &'a [u8],
    calls: u32,
}

impl<'a> Packet<'a> {
    fn open(me: InstanceId, payload: &'a [u8]) -> Result<Self, DropCause> {
        let Addresses { destination, .. } = Addresses::peek(payload).map_err(cause)?;
        let broadcast = destination == InstanceId::ANY;
        if !broadcast && destination != me {
            return Err(DropCause::Foreign);
        }
        Self::open_any(payload)
    }

    /// Opens a packet whoever it is for.
    ///
    /// # Errors
    /// Its header or structure is not sound.
    pub(crate) fn open_any(payload: &'a [u8]) -> Result<Self, DropCause> {
        if payload.len() > MAX_PACKET_BYTES {
            return Err(DropCause::TooLarge);
        }
        let mut reader = Reader::new(payload);
        let header = Header::decode(&mut reader).map_err(cause)?;
        let body = reader.peek();
        let (mut frames, mut calls) = (0, 0);
        while !reader.is_empty() {
            let (kind, _) = frame::split(&mut reader).map_err(cause)?;
            frames += 1;
            calls += u32::from(kind.is_call());
            if frames > MAX_PACKET_CALLS {
                return Err(DropCause::TooLarge);
            }
        }
        let broadcast = header.destination == InstanceId::ANY;
        Ok(Self { header, broadcast, body, calls })
    }

    /// How many request frames there are, with terms or without, sound or not. A call's index in
    /// its record is its ordinal among them.
    pub const fn calls(&self) -> u32 {
        self.calls
    }

    /// The frames, in order.
    pub const fn frames(&self) -> Frames<'a> {
        Frames { reader: Reader::new(self.body) }
    }
}

/// What a packet that does not open is counted as.
pub(crate) const fn cause(error: WireError) -> DropCause {
    match error {
        WireError::Empty => DropCause::Empty,
        WireError::BadMagic => DropCause::BadMagic,
        WireError::UnsupportedVersion(_) => DropCause::Version,
        // Who has a seal has opened it before, or refused it.
        WireError::UnsupportedFlags(flags) if flags & !SEALED == 0 => DropCause::Sealed,
        WireError::UnsupportedFlags(_) | WireError::UnsupportedKey(_) => DropCause::Flags,
        _ => DropCause::Malformed,
    }
}

/// The frames of a packet. A frame that cannot be read is an error of its own; the next follows.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    reader: Reader<'a>,
}

impl<'a> Frames<'a> {
    /// The bytes of the frames that were not yielded yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.reader.peek()
    }
}

/// A frame that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind:?}: {error}")]
pub struct FrameError {
    /// The frame's kind.
    pub kind: FrameKind,
    /// What is wrong with its body.
    #[source]
    pub error: WireError,
}

impl FrameError {
    /// Whether it is a call, which has an index among the packet's calls all the same.
    pub const fn is_request(&self) -> bool {
        self.kind.is_call()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        // The lengths were checked when the packet was opened: it ends at its last byte.
        let (kind, body) = frame::split(&mut self.reader).ok()?;
        Some(Frame::decode_body(kind, body).map_err(|error| FrameError { kind, error }))
    }
}

#[cfg(test)]
mod tests;
