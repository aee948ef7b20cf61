//! From completions to the commit point and the map of what is finished beyond it.
//!
//! A partition's records are opened in ascending order and their calls finish in any order. The
//! commit point is the lowest record that is not finished; what is finished beyond it travels as
//! a [map](super::commit_map), so that a successor repeats only what was really unfinished.
//!
//! Only packets with unfinished calls are kept, a bit per call. Every other offset between the
//! commit point and the last one opened is finished, or holds nothing (a transaction marker, a
//! compacted record), which is the same here: so memory depends on the calls in progress, never
//! on how far the slowest one holds the commit point back.
//!
//! What the predecessor's map says of offsets not opened yet is kept until they are, and goes
//! into each commit before: otherwise a second takeover would repeat what the first one knew.
//!
//! A call counts as finished when its reply is *delivered*, not when its handler returns. One that
//! may be executed once at most is finished *early*, before its handler starts: for a successor it
//! is finished then, and here it counts as unfinished until its reply is delivered.
//!
//! A commit never un-says that a call was finished which may be executed once at most: its
//! execution may have begun since. Where such a call no longer fits into the map, as those before
//! it fell into more pieces, the next commit says what the one before it said, and nothing new.
//!
//! Each owner says in its commits that it is there, by a fence that grows with each one, and at the
//! end whether it let go in good order.
//!
//! from: [`inbox`](crate::inbox) opens offsets; a reply's delivery report finishes calls
//! to: the transport's commit

use std::collections::{BTreeMap, BTreeSet};

use super::commit_map::{CallBits, FinishedMap, Head, Known, MapError, MapWriter, Named};
use crate::ids::{PartitionId, Position};

/// What is finished and what is not, of all partitions that a server owns.
///
/// Families: `assign`, `open`, `finish`, `commit_failed`, `revoke`, `lose` take what happened;
/// `commit_points` says what to do; the rest are getters.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Ordered, so that commits are listed the same way in every run of a simulation.
    partitions: BTreeMap<PartitionId, Progress>,
    unfinished: usize,
}

/// What to commit for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitPoint {
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to read: the lowest unfinished.
    pub offset: i64,
    /// What this owner says of itself, and the map of what is finished from there on: ASCII, at
    /// most 4,096 characters.
    pub metadata: String,
}

/// What [`Ledger::open`] found out about a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Opened {
    /// No call of it is finished: execute all.
    Fresh,
    /// Some calls of it are finished already: execute those that
    /// [`is_finished`](Ledger::is_finished) does not name.
    Resumed,
    /// All its calls are finished, or it lies below the commit point, or it is open already: skip
    /// it.
    Finished,
    /// The partition is not ours (any more): skip it, its owner reads it.
    NotAssigned,
}

impl Ledger {
    /// Owns nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a partition; `committed` is the offset and the metadata that the group has committed
    /// for it, if any. Without one it starts at the record that is opened first.
    ///
    /// A partition that is owned already starts anew. Its fence is the predecessor's plus one, and
    /// `fence` at least. Returns what the predecessor said of itself.
    ///
    /// # Errors
    /// The metadata is not a map. The partition is taken nevertheless, with an empty map: what was
    /// finished beyond the committed offset is repeated.
    pub fn assign(
        &mut self,
        partition: PartitionId,
        committed: Option<(i64, &str)>,
        fence: u64,
    ) -> Result<Head, MapError> {
        let (next, text) = committed.unwrap_or_default();
        let read = FinishedMap::read(next.max(0), text);
        let (before, inherited) = read.clone().unwrap_or_default();
        let fence = before.fence.saturating_add(1).max(fence);
        self.lose(partition);
        let said = CommitPoint { partition, offset: next.max(0), metadata: text.to_owned() };
        self.partitions.insert(partition, Progress::new(said, inherited, before, fence));
        read.map(|(before, _)| before)
    }

    /// Whether the partition is owned.
    pub fn is_assigned(&self, partition: PartitionId) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// The fence of this server's ownership of the partition, if it owns it.
    pub fn fence(&self, partition: PartitionId) -> Option<u64> {
        self.partitions.get(&partition).map(|progress| progress.head.fence)
    }

    /// A record came: opens its `calls`, unless they are finished. A record of no calls (garbage)
    /// is finished at once.
    ///
    /// A packet of another number of calls than the inherited map says is opened as if the map
    /// did not name it.
    pub fn open(&mut self, partition: PartitionId, offset: i64, calls: u32) -> Opened {
        let Some(progress) = self.partitions.get_mut(&partition) else {
            return Opened::NotAssigned;
        };
        let before = progress.unfinished;
        let opened = progress.open(offset, calls);
        self.unfinished += progress.unfinished - before;
        opened
    }

    /// Whether this call is known to be finished; false for partitions that are not owned.
    pub fn is_finished(&self, position: Position) -> bool {
        let progress = self.partitions.get(&position.partition);
        progress.is_some_and(|progress| progress.is_finished(position))
    }

    /// A call is finished: its reply is delivered, or nobody wants one.
    ///
    /// False if it is not open here, because the partition was revoked meanwhile or the call was
    /// finished before. That is harmless; the caller counts it.
    pub fn finish(&mut self, Position { partition, offset, index }: Position) -> bool {
        self.finish_of(partition, offset, [index].into_iter()) == 1
    }

    /// The same for calls of one record; how many of them were open here. A packet of replies has
    /// many such, and the record is looked up once.
    #[inline]
    pub fn finish_of(
        &mut self,
        partition: PartitionId,
        offset: i64,
        calls: impl Iterator<Item = u32>,
    ) -> usize {
        let Some(progress) = self.partitions.get_mut(&partition) else { return 0 };
        let done = progress.finish(offset, calls);
        self.unfinished -= done;
        done
    }

    /// A call is about to be executed, once at most: from the next commit on it is finished for
    /// every successor. Here it is unfinished until [`finish`](Self::finish). False if it is not
    /// open here.
    pub fn finish_early(&mut self, position: Position) -> bool {
        let progress = self.partitions.get_mut(&position.partition);
        progress.is_some_and(|progress| progress.finish_early(position))
    }

    /// This call, and all before it, may be begun a second time when the next commit is made.
    pub fn begin_twice(&mut self, position: Position) {
        if let Some(progress) = self.partitions.get_mut(&position.partition) {
            progress.head.twice = progress.head.twice.max(position.offset.saturating_add(1));
            progress.changed = true;
        }
    }

    /// This call may be begun, the time of this number, when the next commit is made.
    pub fn begin_named(&mut self, position: Position, begins: u32) {
        let Position { offset, index, .. } = position;
        if let Some(progress) = self.partitions.get_mut(&position.partition) {
            let named = &mut progress.head.named;
            named.retain(|named| (named.offset, named.index) != (offset, index));
            named.push(Named { offset, index, begins });
            progress.changed = true;
        }
    }

    /// What [`begin_named`](Self::begin_named) said is over: so often this call was begun before.
    pub fn unname(&mut self, position: Position, begins: u32) {
        self.begin_named(position, begins);
        if let Some(progress) = self.partitions.get_mut(&position.partition) {
            // Where all calls were begun so often, none is named.
            let all = if position.offset < progress.head.twice { 2 } else { 1 };
            let head = &mut progress.head;
            head.named.pop_if(|named| named.begins == all);
        }
    }

    /// The delayed calls of the partition's service were looked through so far, by class: the next
    /// commit says so.
    pub fn hold(&mut self, partition: PartitionId, held: impl Iterator<Item = i64> + Clone) {
        if let Some(progress) = self.partitions.get_mut(&partition)
            && !held.clone().eq(progress.head.held.iter().copied())
        {
            progress.head.held = held.collect();
            progress.changed = true;
        }
    }

    /// From this record on none is in doubt: the predecessor did not begin what lies there.
    pub fn trust(&mut self, partition: PartitionId, offset: i64) {
        if let Some(progress) = self.partitions.get_mut(&partition) {
            progress.doubted = progress.doubted.min(offset);
        }
    }

    /// Whether the call is open here and not finished.
    pub fn is_unfinished(&self, Position { partition, offset, index }: Position) -> bool {
        let bits = self.partitions.get(&partition).and_then(|it| it.open.get(&offset));
        bits.is_some_and(|bits| !bits.is_set(index))
    }

    /// Whether the call was finished early, and not yet in truth.
    pub fn is_early(&self, position: Position) -> bool {
        let progress = self.partitions.get(&position.partition);
        progress.is_some_and(|it| it.early.contains(&(position.offset, position.index)))
    }

    /// Below which offset the point of this partition that was named last says all that is
    /// finished: a map may be full.
    pub fn covered(&self, partition: PartitionId) -> i64 {
        self.partitions.get(&partition).map_or(i64::MIN, |progress| progress.covered)
    }

    /// How many calls of the partition are open and not finished.
    pub fn unfinished(&self, partition: PartitionId) -> usize {
        self.partitions.get(&partition).map_or(0, |progress| progress.unfinished)
    }

    /// How many calls are open and not finished.
    pub const fn total_unfinished(&self) -> usize {
        self.unfinished
    }

    /// Whether [`commit_points`](Self::commit_points) would return anything.
    pub fn has_changes(&self) -> bool {
        self.partitions.values().any(|progress| progress.changed)
    }

    /// What to commit: the partitions that changed since this last named them.
    pub fn commit_points(&mut self) -> Vec<CommitPoint> {
        let changed = self.partitions.iter_mut().filter(|(_, progress)| progress.changed);
        changed
            .map(|(partition, progress)| {
                progress.changed = false;
                progress.commit_point(*partition)
            })
            .collect()
    }

    /// A commit of this partition failed: the next [`commit_points`](Self::commit_points) names it
    /// again. Nothing if it is not owned any more.
    pub fn commit_failed(&mut self, partition: PartitionId) {
        if let Some(progress) = self.partitions.get_mut(&partition) {
            progress.changed = true;
        }
    }

    /// The partition is taken away in order: what is to be committed last, even if it was named
    /// before: a commit that is under way may fail, and nobody would name it again. Its state is
    /// dropped; calls that still run finish unnoticed.
    pub fn revoke(&mut self, partition: PartitionId) -> Option<CommitPoint> {
        let mut progress = self.partitions.remove(&partition)?;
        self.unfinished -= progress.unfinished;
        progress.head = progress.last_word();
        Some(progress.commit_point(partition))
    }

    /// The partition is lost, perhaps long ago, and somebody else may have committed since: its
    /// state is dropped, nothing may be committed.
    pub fn lose(&mut self, partition: PartitionId) {
        if let Some(progress) = self.partitions.remove(&partition) {
            self.unfinished -= progress.unfinished;
        }
    }
}

/// One partition.
#[derive(Debug)]
struct Progress {
    /// Packets with unfinished calls, by offset.
    open: BTreeMap<i64, CallBits>,
    /// Calls open and not finished, early ones included.
    unfinished: usize,
    /// Calls that are finished for successors only.
    early: BTreeSet<(i64, u32)>,
    /// One past the last offset opened; before the first, where to start.
    next: i64,
    /// Whether the commit point or its map changed since it was last named.
    changed: bool,
    /// What this owner says of itself.
    head: Head,
    /// What the predecessor said of itself.
    before: Head,
    /// Below this offset the predecessor may have died of what is unfinished.
    doubted: i64,
    /// Below which offset the point that was named last says all.
    covered: i64,
    /// The point that was named last; before the first, the predecessor's.
    said: CommitPoint,
    /// One past what that says of calls that may be executed once at most. Of the predecessor's
    /// calls nobody knows which are.
    guard: i64,
    /// What the predecessor finished at `next` and beyond.
    inherited: FinishedMap,
}

impl Progress {
    /// A partition from the predecessor's point on. That it is owned is to be committed at once.
    fn new(said: CommitPoint, inherited: FinishedMap, before: Head, fence: u64) -> Self {
        Self {
            open: BTreeMap::new(),
            unfinished: 0,
            early: BTreeSet::new(),
            next: said.offset,
            changed: true,
            head: Head { fence, released: false, ..before.clone() },
            doubted: if before.released { i64::MIN } else { i64::MAX },
            before,
            covered: i64::MIN,
            said,
            guard: inherited.end(),
            inherited,
        }
    }

    fn open(&mut self, offset: i64, calls: u32) -> Opened {
        if offset < self.next {
            return Opened::Finished;
        }
        self.next = offset.saturating_add(1);
        let bits = match self.inherited.take(offset) {
            Known::Finished => {
                // With nothing open the commit point is `next`, which moved just now.
                self.changed |= self.open.is_empty();
                return Opened::Finished;
            }
            Known::Partly(bits) if bits.count() == calls => bits,
            Known::Partly(_) | Known::Nothing => CallBits::new(calls),
        };
        if bits.unfinished() == 0 {
            self.changed = true;
            return Opened::Finished;
        }
        let opened = if bits.finished() == 0 { Opened::Fresh } else { Opened::Resumed };
        self.unfinished += bits.unfinished() as usize;
        self.open.insert(offset, bits);
        opened
    }

    fn is_finished(&self, Position { offset, index, .. }: Position) -> bool {
        self.knows(offset, index)
    }

    fn knows(&self, offset: i64, index: u32) -> bool {
        match self.open.get(&offset) {
            Some(bits) => bits.is_set(index),
            None => offset < self.next || self.inherited.is_finished(offset, index),
        }
    }

    fn finish(&mut self, offset: i64, calls: impl Iterator<Item = u32>) -> usize {
        let done = if self.early.is_empty() {
            self.set(offset, calls)
        } else {
            let of_one = |index| match self.early.remove(&(offset, index)) {
                true => 1,
                false => self.set(offset, [index].into_iter()),
            };
            calls.map(of_one).sum()
        };
        self.unfinished -= done;
        done
    }

    fn finish_early(&mut self, Position { offset, index, .. }: Position) -> bool {
        let done = self.set(offset, [index].into_iter()) == 1;
        if done {
            self.early.insert((offset, index));
        }
        done
    }

    /// Sets the bits of these calls; how many were not set.
    fn set(&mut self, offset: i64, calls: impl Iterator<Item = u32>) -> usize {
        let Some(bits) = self.open.get_mut(&offset) else { return 0 };
        let set = calls.filter(|index| bits.set(*index)).count();
        if bits.unfinished() == 0 {
            self.open.remove(&offset);
        }
        self.changed |= set > 0;
        set
    }

    fn lowest(&self) -> i64 {
        match self.open.first_key_value() {
            Some((offset, _)) => *offset,
            None => self.inherited.finished_until(self.next),
        }
    }

    /// What this owner says last, in good order: nothing ended it. What its predecessors may have
    /// died of is in doubt as it was when they did.
    fn last_word(&self) -> Head {
        let (fence, released) = (self.head.fence, self.lowest() >= self.doubted);
        let held = self.head.held.clone();
        if released {
            Head { fence, held, ..Head::default() }
        } else {
            Head { fence, held, ..self.before.clone() }
        }
    }

    fn commit_point(&mut self, partition: PartitionId) -> CommitPoint {
        let offset = self.lowest();
        let mut named = std::mem::take(&mut self.head.named);
        named.retain(|named| !self.knows(named.offset, named.index));
        self.head.named = named;
        let mut map = MapWriter::new(offset, &self.head);
        let mut cursor = offset;
        for (offset, bits) in &self.open {
            if map.is_full() {
                break;
            }
            map.run(cursor, *offset);
            map.packet(*offset, bits);
            cursor = offset.saturating_add(1);
        }
        map.run(cursor, self.next);
        for entry in self.inherited.entries() {
            if map.is_full() {
                break;
            }
            map.known(entry);
        }
        let (metadata, covered) = map.finish();
        let point = CommitPoint { partition, offset, metadata };
        if offset < self.guard && covered < self.guard {
            self.say_again(point)
        } else {
            self.say(point, covered)
        }
    }

    fn say(&mut self, point: CommitPoint, covered: i64) -> CommitPoint {
        self.covered = covered;
        if let Some((last, _)) = self.early.range(..(covered, 0)).next_back() {
            self.guard = self.guard.max(last.saturating_add(1));
        }
        self.said.clone_from(&point);
        point
    }

    /// What the last point said, which holds still, from the new one's offset on.
    fn say_again(&mut self, point: CommitPoint) -> CommitPoint {
        // Written here, or read when the partition was taken: there is nothing to fail.
        let before = FinishedMap::decode(self.said.offset, &self.said.metadata).unwrap_or_default();
        let metadata = MapWriter::new(point.offset, &self.head).again(&before);
        // It may lack any call that was finished since.
        self.covered = i64::MIN;
        self.said = CommitPoint { metadata, ..point };
        self.said.clone()
    }
}

#[cfg(test)]
mod tests;
