//! One pass over the topic of dead letters, and what it finds.
//!
//! Pure.
//!
//! from: records of the topic, [`super::reader`] · to: [`super::DeadLetters`]

use std::collections::{BTreeMap, HashSet};

use crate::{
    dead::{Letter, LetterId, Letters},
    ids::{CallId, InstanceId, PartitionId},
    inbox::Inbox,
    time::Time,
    transport::Record,
    wire::frame::{Fate, Frame},
};

/// Letters that are kept until the end is reached, at least: it may turn out there that somebody
/// is done with the newest of them.
const KEPT: usize = 65_536;

/// Bytes of letters that are kept.
const KEPT_BYTES: usize = 64 * 1024 * 1024;

/// What tells calls apart, wherever their letters stand. After a crash a call may have two.
type Call = (InstanceId, CallId, u32, i64, u32);

const fn call(letter: &Letter) -> Call {
    (letter.caller, letter.call, letter.partition, letter.offset, letter.index)
}

/// What a pass looks for, and what it has found of that.
#[derive(Debug)]
pub(super) struct Fold {
    wanted: Option<LetterId>,
    since: Time,
    letters: Letters,
    done: HashSet<Call>,
    /// What became of the letter that is wanted, and when.
    pub(super) fate: Option<(Fate, Time)>,
}

impl Fold {
    /// Every letter that was written since, at most so many.
    pub(super) fn list(since: Time, most: usize) -> Self {
        let letters = Letters::new(most.max(KEPT), KEPT_BYTES);
        Self { wanted: None, since, letters, done: HashSet::new(), fate: None }
    }

    /// This letter, and what became of it.
    pub(super) fn one(id: LetterId) -> Self {
        let letters = Letters::new(1, usize::MAX);
        let (since, done) = (Time::default(), HashSet::new());
        Self { wanted: Some(id), since, letters, done, fate: None }
    }

    fn handle_frame(&mut self, at: LetterId, frame: &Frame<'_>) {
        match (frame, self.wanted) {
            (Frame::Dead(dead), None) if dead.at >= self.since => {
                self.letters.handle_frame(at, frame);
            }
            (Frame::DeadMark(mark), None) => {
                let id = LetterId { offset: mark.offset, index: mark.index, ..at };
                self.done.extend(self.letters.get(id).map(call));
                self.letters.handle_frame(at, frame);
            }
            (Frame::Dead(_), Some(wanted)) if at == wanted => self.letters.handle_frame(at, frame),
            (Frame::DeadMark(mark), Some(wanted)) => {
                let id = LetterId { offset: mark.offset, index: mark.index, ..at };
                if id == wanted {
                    // The first one counts: whoever wrote the next did not know of it.
                    self.fate.get_or_insert((mark.fate, mark.at));
                }
            }
            _ => {}
        }
    }

    /// The newest letters, at most so many, in the order of their time; a call once.
    pub(super) fn into_letters(self, most: usize) -> Vec<Letter> {
        let mut done = self.done;
        let mut letters = self.letters.into_letters();
        letters.retain(|letter| done.insert(call(letter)));
        letters.sort_by_key(|letter| (letter.at, letter.id));
        letters.split_off(letters.len().saturating_sub(most))
    }
}

/// A part of a partition that is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// The next offset.
    pub(super) next: i64,
    /// Where the partition ended when the pass began.
    pub(super) end: i64,
}

/// From an offset of each partition to its end.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) fold: Fold,
    spans: BTreeMap<u32, Span>,
    /// How far the last pass came: records from there on may still be on their way from it, and
    /// must not be taken for this pass's.
    stale: BTreeMap<u32, i64>,
    inbox: Inbox,
    taken: u64,
}

impl Pass {
    pub(super) fn new(fold: Fold, spans: BTreeMap<u32, Span>, stale: BTreeMap<u32, i64>) -> Self {
        Self { fold, spans, stale, inbox: Inbox::new(InstanceId::ANY), taken: 0 }
    }

    pub(super) fn handle_record(&mut self, record: &Record) {
        let PartitionId { partition, .. } = record.partition;
        let Some(span) = self.spans.get_mut(&partition) else { return };
        let stale = self.stale.get(&partition).copied().unwrap_or(i64::MAX);
        let leftover = span.next < stale && record.offset >= stale && record.offset != span.next;
        if record.offset < span.next || span.next >= span.end || leftover {
            return;
        }
        span.next = record.offset + 1;
        self.taken += 1;
        if record.offset >= span.end {
            return;
        }
        // What is no letter of ours says nothing; a packet that was sent twice says it once.
        let Ok(packet) = self.inbox.open(record.partition, &record.payload) else { return };
        for (index, frame) in (0..).zip(packet.frames()) {
            let at = LetterId { partition, offset: record.offset, index };
            if let Ok(frame) = frame {
                self.fold.handle_frame(at, &frame);
            }
        }
    }

    /// Whether the end is reached.
    pub(super) fn is_done(&self) -> bool {
        self.spans.values().all(|span| span.next >= span.end)
    }

    /// Records taken so far.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// How far it came, for the next pass.
    pub(super) fn reached(&self) -> BTreeMap<u32, i64> {
        self.spans.iter().map(|(partition, span)| (*partition, span.next)).collect()
    }
}

#[cfg(test)]
mod tests;
