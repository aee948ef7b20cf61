//! What travels in a commit's metadata: its owner's word, and the map of finished calls.
//!
//! Calls finish out of order, an offset commit names one offset only: the lowest unfinished. What
//! is finished beyond it is written, oldest first, into the commit's metadata, which is text:
//!
//! ```text
//! text  = base64url, no padding, of: version(1) head entry*   at most 4,096 characters
//! head  = see the module of that name: the owner's fence, how it ended, what was begun how often
//! entry = varint(n << 2 | kind) body                          begins where the last one ended
//!   kind 0  skip    n offsets of which nothing is said
//!   kind 1  run     n offsets that are finished, or hold nothing
//!   kind 2  bitmap  one offset, whose packet has n calls; body: ceil(n / 8) bytes,
//!                   call i is bit i % 8 of byte i / 8, 1 = finished, bits past n are 0
//!   kind 3  runs    one offset, whose packet has n calls; body: varint lengths of unfinished and
//!                   finished calls in turn, the unfinished first (it alone may be 0), to sum n
//! ```
//! The first entry begins at the committed offset. The empty text is the empty map of nobody. A
//! partly finished packet is written in the shorter of its two forms.
//!
//! **When it is full** the map ends after the last entry that fits: a successor then repeats what
//! was finished beyond that. 1,420 single unfinished packets between finished ones always fit, or
//! about 22,500 calls in packets half finished in the worst order.
//!
//! from: [`ledger`](super::ledger) when a commit point is taken, and the group's committed
//! metadata when a partition is taken over
//! to: the commit's metadata, and the ledger of the successor

mod call_bits;
mod head;

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub(super) use call_bits::CallBits;
pub use head::{Head, Named};

use crate::{
    delay::CLASSES,
    wire::{
        MAX_MAP_CHARS, MAX_PACKET_CALLS,
        coding::{Reader, UnexpectedEnd, WireError, put_varint},
    },
};

/// Bytes under the base64 of a full map.
const MAX_MAP_BYTES: usize = MAX_MAP_CHARS / 4 * 3;

/// Bytes of a full map that are left to the head: were they the map's, what one commit says would
/// not fit behind the head of the next.
const HEAD_ROOM: usize = 160 + 6 * CLASSES as usize;

const VERSION: u8 = 2;

const SKIP: u64 = 0;
const RUN: u64 = 1;
const BITMAP: u64 = 2;
const RUNS: u64 = 3;

/// Why a commit's metadata is not a map. The commit's offset holds nevertheless: a successor
/// goes on from there with an empty map and repeats what was finished beyond.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// More than [`MAX_MAP_CHARS`] characters.
    #[error("map of {0} characters, at most {MAX_MAP_CHARS} are possible")]
    TooLong(usize),
    /// Not base64 of the URL-safe alphabet without padding: probably somebody else's metadata.
    #[error("map is not base64")]
    NotBase64,
    /// A version this crate does not know.
    #[error("map of version {0}")]
    Version(u8),
    /// Unknown flags, too many calls that are named, or numbers beyond their range.
    #[error("the head of a map holds what cannot be")]
    BadHead,
    /// The map ends within an entry.
    #[error("map ends within an entry")]
    UnexpectedEnd,
    /// A number of more than 64 bits or not in its shortest form.
    #[error("map holds a malformed number")]
    BadNumber,
    /// An entry of no length, or beyond the largest offset.
    #[error("map holds an entry of impossible length")]
    BadLength,
    /// A packet of no calls, or of more than a packet can hold.
    #[error("map holds a packet of {0} calls, 1 to {MAX_PACKET_CALLS} are possible")]
    BadCalls(u64),
    /// Bits or run lengths beyond the packet's last call.
    #[error("map names calls beyond a packet's last")]
    BadCall,
}

impl From<UnexpectedEnd> for MapError {
    fn from(_: UnexpectedEnd) -> Self {
        Self::UnexpectedEnd
    }
}

impl From<WireError> for MapError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::UnexpectedEnd(_) => Self::UnexpectedEnd,
            _ => Self::BadNumber,
        }
    }
}

/// What is finished beyond a commit point: read from metadata, used up as offsets are opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FinishedMap {
    /// Ascending and disjoint.
    entries: VecDeque<Entry>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Offsets from `start` to before `end`, all finished.
    Run { start: i64, end: i64 },
    /// One packet, of which some calls are finished.
    Packet { offset: i64, calls: CallBits },
}

impl FinishedMap {
    /// Reads the metadata of a commit at `offset`.
    ///
    /// Allocates at most 110 bytes for each character of `text`, whatever lengths it claims, and
    /// refuses texts of more than [`MAX_MAP_CHARS`]. The error says what is wrong with it.
    pub fn decode(offset: i64, text: &str) -> Result<Self, MapError> {
        Self::read(offset, text).map(|(_, map)| map)
    }

    /// As [`decode`](Self::decode), with what the owner said of itself.
    ///
    /// # Errors
    /// The same.
    pub fn read(offset: i64, text: &str) -> Result<(Head, Self), MapError> {
        if text.is_empty() {
            return Ok((Head::default(), Self::default()));
        }
        if text.len() > MAX_MAP_CHARS {
            return Err(MapError::TooLong(text.len()));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MapError::NotBase64)?;
        let mut rest = Reader::new(&bytes);
        let version = rest.u8()?;
        if version != VERSION {
            return Err(MapError::Version(version));
        }
        let head = Head::read(&mut rest, offset)?;
        let mut entries = VecDeque::new();
        let mut cursor = offset;
        while !rest.is_empty() {
            cursor = read_entry(&mut rest, cursor, &mut entries)?;
        }
        Ok((head, Self { entries }))
    }

    /// Whether the map names this call, of the packet at this offset, as finished.
    pub fn is_finished(&self, offset: i64, index: u32) -> bool {
        let after = self.entries.partition_point(|entry| entry.start() <= offset);
        match after.checked_sub(1).map(|last| &self.entries[last]) {
            Some(Entry::Run { end, .. }) => offset < *end,
            Some(Entry::Packet { offset: at, calls }) => *at == offset && calls.is_set(index),
            None => false,
        }
    }

    /// Forgets what lies below `offset`, and says and forgets what is known of `offset` itself.
    pub(super) fn take(&mut self, offset: i64) -> Known {
        while self.entries.front().is_some_and(|entry| entry.end() <= offset) {
            self.entries.pop_front();
        }
        match self.entries.front_mut() {
            Some(Entry::Run { start, .. }) if *start <= offset => Known::Finished,
            Some(Entry::Packet { offset: at, .. }) if *at == offset => {
                match self.entries.pop_front() {
                    Some(Entry::Packet { calls, .. }) => Known::Partly(calls),
                    _ => Known::Nothing,
                }
            }
            _ => Known::Nothing,
        }
    }

    /// One past the last offset of which it says anything.
    pub(super) fn end(&self) -> i64 {
        self.entries.back().map_or(i64::MIN, Entry::end)
    }

    /// The end of the run that covers `offset`, or `offset`: nothing is unfinished between.
    pub(super) fn finished_until(&self, offset: i64) -> i64 {
        match self.entries.front() {
            Some(Entry::Run { start, end }) if *start <= offset => offset.max(*end),
            _ => offset,
        }
    }

    /// The entries, ascending.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// What a map says of one offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// These calls of it are finished.
    Partly(CallBits),
    /// It is finished.
    Finished,
}

impl Entry {
    const fn start(&self) -> i64 {
        match self {
            Self::Run { start, .. } => *start,
            Self::Packet { offset, .. } => *offset,
        }
    }

    const fn end(&self) -> i64 {
        match self {
            Self::Run { end, .. } => *end,
            Self::Packet { offset, .. } => offset.saturating_add(1),
        }
    }
}

/// Reads one entry that begins at `cursor`; returns where the next one begins.
fn read_entry(
    rest: &mut Reader<'_>,
    cursor: i64,
    entries: &mut VecDeque<Entry>,
) -> Result<i64, MapError> {
    let head = rest.varint()?;
    let (length, kind) = (head >> 2, head & 3);
    let offsets = if kind == SKIP || kind == RUN { length } else { 1 };
    let end = (offsets > 0)
        .then(|| cursor.checked_add_unsigned(offsets))
        .flatten()
        .ok_or(MapError::BadLength)?;
    if kind == RUN {
        entries.push_back(Entry::Run { start: cursor, end });
    } else if kind != SKIP {
        let count = u32::try_from(length)
            .ok()
            .filter(|calls| (1..=MAX_PACKET_CALLS).contains(&(*calls as usize)))
            .ok_or(MapError::BadCalls(length))?;
        let calls = if kind == BITMAP { read_bitmap(rest, count) } else { read_runs(rest, count) }?;
        entries.push_back(Entry::Packet { offset: cursor, calls });
    }
    Ok(end)
}

fn read_bitmap(rest: &mut Reader<'_>, count: u32) -> Result<CallBits, MapError> {
    let bytes = rest.bytes(count.div_ceil(8) as usize)?;
    CallBits::from_bytes(count, bytes).ok_or(MapError::BadCall)
}

fn read_runs(rest: &mut Reader<'_>, count: u32) -> Result<CallBits, MapError> {
    let mut calls = CallBits::new(count);
    let (mut at, mut finished) = (0, false);
    while at < count {
        let length = rest.varint()?;
        if length == 0 && (finished || at > 0) {
            return Err(MapError::BadLength);
        }
        let end = u32::try_from(length)
            .ok()
            .and_then(|length| at.checked_add(length))
            .filter(|end| *end <= count)
            .ok_or(MapError::BadCall)?;
        if finished {
            (at..end).for_each(|index| _ = calls.set(index));
        }
        (at, finished) = (end, !finished);
    }
    Ok(calls)
}

/// Writes a map, oldest first, and stops where it is full.
#[derive(Debug)]
pub(super) struct MapWriter {
    bytes: Vec<u8>,
    /// How many they may be.
    most: usize,
    /// Where the next entry would begin.
    cursor: i64,
    /// A run that may still grow.
    run: Option<(i64, i64)>,
    full: bool,
    /// The lowest offset of which something was left out.
    covered: i64,
}

impl MapWriter {
    /// An empty map of a commit at `offset`, by an owner who says this of itself.
    pub(super) fn new(offset: i64, head: &Head) -> Self {
        let mut bytes = vec![VERSION];
        head.put(offset, &mut bytes);
        let most = MAX_MAP_BYTES - HEAD_ROOM.saturating_sub(bytes.len());
        Self { bytes, most, cursor: offset, run: None, full: false, covered: i64::MAX }
    }

    /// Names what a map says that was written before, of an offset not beyond this one's, and
    /// nothing else. With the room of the head: all of it fits.
    pub(super) fn again(mut self, before: &FinishedMap) -> String {
        self.most = MAX_MAP_BYTES;
        before.entries().for_each(|entry| self.known(entry));
        self.finish().0
    }

    /// Names what another map does.
    pub(super) fn known(&mut self, entry: &Entry) {
        match entry {
            Entry::Run { start, end } => self.run(*start, *end),
            Entry::Packet { offset, .. } if *offset < self.cursor => {}
            Entry::Packet { offset, calls } => self.packet(*offset, calls),
        }
    }

    /// Whether further entries would be lost.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Names everything from `start` to before `end` as finished.
    pub(super) fn run(&mut self, start: i64, end: i64) {
        match &mut self.run {
            Some((_, last)) if *last >= start => *last = end.max(*last),
            _ => {
                self.flush();
                let start = start.max(self.cursor);
                self.run = (start < end).then_some((start, end));
            }
        }
    }

    /// Names the finished calls of the packet at `offset`, if there are any.
    pub(super) fn packet(&mut self, offset: i64, calls: &CallBits) {
        self.flush();
        if calls.finished() == 0 {
            return;
        }
        if calls.count() as usize > MAX_PACKET_CALLS {
            self.covered = self.covered.min(offset);
            return;
        }
        self.entry(offset, offset.saturating_add(1), |bytes| write_packet(bytes, calls));
    }

    /// The metadata: ASCII, at most [`MAX_MAP_CHARS`]; and below which offset it says all.
    pub(super) fn finish(mut self) -> (String, i64) {
        self.flush();
        (URL_SAFE_NO_PAD.encode(self.bytes), self.covered)
    }

    fn flush(&mut self) {
        if let Some((start, end)) = self.run.take() {
            let length = end.abs_diff(start);
            self.entry(start, end, |bytes| write_head(bytes, RUN, length));
        }
    }

    /// Appends what `write` writes, and what is skipped before it, if all of that fits.
    fn entry(&mut self, start: i64, end: i64, write: impl FnOnce(&mut Vec<u8>)) {
        let skipped = start.abs_diff(self.cursor);
        // Lengths are below 2^62; offsets so far apart do not occur.
        if self.full || start < self.cursor || (end.abs_diff(self.cursor) >> 62) > 0 {
            self.leave_out(start);
            return;
        }
        let before = self.bytes.len();
        if skipped > 0 {
            write_head(&mut self.bytes, SKIP, skipped);
        }
        write(&mut self.bytes);
        if self.bytes.len() > self.most {
            self.bytes.truncate(before);
            self.leave_out(start);
        } else {
            self.cursor = end;
        }
    }

    fn leave_out(&mut self, start: i64) {
        self.full = true;
        self.covered = self.covered.min(start).min(self.cursor);
    }
}

fn write_packet(bytes: &mut Vec<u8>, calls: &CallBits) {
    let before = bytes.len();
    let count = u64::from(calls.count());
    let most = calls.count().div_ceil(8) as usize;
    write_head(bytes, RUNS, count);
    let body = bytes.len();
    for length in calls.runs() {
        put_varint(bytes, u64::from(length));
        if bytes.len() - body > most {
            bytes.truncate(before);
            write_head(bytes, BITMAP, count);
            bytes.extend(calls.bytes());
            return;
        }
    }
}

fn write_head(bytes: &mut Vec<u8>, kind: u64, length: u64) {
    put_varint(bytes, length << 2 | kind);
}

#[cfg(test)]
mod tests;
