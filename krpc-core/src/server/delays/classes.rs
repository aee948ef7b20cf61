//! How far the delayed calls of a service were looked through, class by class.
//!
//! Pure. Of each class only the beginning of what is not ripe yet is in memory; when that is
//! enough, the reading ends, and it begins anew where it ended when half of that is gone. A record
//! counts only if it is the next one: after a new beginning others may be left over from the
//! reading before it. One that is beyond the next is asked for again from the next on; if it comes
//! once more and none that is between, there is none: each reading hands over its records once and
//! in order, and after those of the reading before it.
//!
//! from: [`super`], for each record · to: the same, with the calls that are ripe

use std::collections::{BTreeMap, VecDeque};

use crate::{
    delay::CLASSES,
    ids::{PartitionId, Position},
    server::{commit_map::CallBits, incoming::Call},
    time::Time,
};

/// Calls of a class in memory from which no more are read, and their bytes.
const MOST: (usize, usize) = (4_096, 1024 * 1024);

/// What is to be read from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Nothing yet: whether there are delayed calls of this service at all is to be found out;
    /// [`handle_found`](crate::server::machine::ServerMachine::handle_found) says it.
    Find(u16),
    /// This class, from this offset on.
    From(u16, u32, i64),
    /// This class no more.
    End(u16, u32),
}

/// The classes of one service.
#[derive(Debug)]
pub(super) struct Classes {
    service: u16,
    classes: Vec<Class>,
    reads: VecDeque<Read>,
}

#[derive(Debug, Default)]
struct Class {
    /// The offset of the record that comes next.
    next: i64,
    reading: Reading,
    /// A record that came although another was to come next, and none between since.
    beyond: Option<i64>,
    /// The last record that came before it was said that the reading has begun, and was not taken.
    missed: Option<i64>,
    /// Records that are not ripe, with the moment when they are.
    held: VecDeque<(Time, Vec<Call>)>,
    calls: usize,
    bytes: usize,
    /// Calls that are not moved yet, by record.
    open: BTreeMap<i64, CallBits>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Reading {
    #[default]
    Ended,
    /// It was asked for, from this offset on, and has not begun.
    Asked(i64),
    Begun,
}

impl Class {
    fn miss(&mut self, offset: i64) {
        if matches!(self.reading, Reading::Asked(_)) {
            self.missed = Some(offset);
        }
    }
}

impl Classes {
    /// Looked through so far; what is not named, from the start.
    pub(super) fn new(service: u16, held: &[i64]) -> Self {
        let next = held.iter().copied().chain(std::iter::repeat(0));
        let class = |next| Class { next, ..Class::default() };
        let classes = next.take(CLASSES as usize).map(class).collect();
        Self { service, classes, reads: VecDeque::new() }
    }

    /// How far each was looked through: what is before that is moved.
    pub(super) fn held(&self) -> impl Iterator<Item = i64> + Clone {
        self.classes.iter().map(|class| class.open.first_key_value().map_or(class.next, |it| *it.0))
    }

    /// What is to be read from now on.
    pub(super) fn poll_read(&mut self) -> Option<Read> {
        self.reads.pop_front()
    }

    pub(super) fn has_reads(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Reads on wherever there is room.
    pub(super) fn read_on(&mut self) {
        for (number, class) in (0..).zip(&mut self.classes) {
            let (calls, bytes) = (class.calls, class.bytes);
            let room = calls <= MOST.0 / 2 && bytes <= MOST.1 / 2;
            if class.reading == Reading::Ended && room {
                class.reading = Reading::Asked(class.next);
                self.reads.push_back(Read::From(self.service, number, class.next));
            }
        }
    }

    /// Reads no more, and forgets what is not on its way: these are for somebody else to look
    /// through.
    pub(super) fn end(&mut self) {
        for (number, class) in (0..).zip(&mut self.classes) {
            if class.reading != Reading::Ended {
                class.reading = Reading::Ended;
                self.reads.push_back(Read::End(self.service, number));
            }
            class.held.clear();
        }
    }

    /// A class is read now, and has records from `low` to before `end`; or it cannot be, and is to
    /// be asked for again. True if what was looked through has changed by that.
    pub(super) fn begun(&mut self, number: u32, bounds: Option<(i64, i64)>) -> bool {
        let Some(class) = self.classes.get_mut(number as usize) else { return false };
        match (class.reading, bounds) {
            (Reading::Asked(from), Some((low, end))) => {
                class.reading = Reading::Begun;
                // Older ones are gone; a log that ends before was made anew. Unless records of the
                // reading before came meanwhile, which this one's bounds know nothing of.
                let elsewhere = class.next == from && (from < low || from > end);
                if elsewhere {
                    (class.next, class.beyond) = (low, None);
                }
                // It would not come again by itself.
                match class.missed.take() {
                    Some(_) if elsewhere => {
                        class.reading = Reading::Asked(class.next);
                        self.reads.push_back(Read::From(self.service, number, class.next));
                    }
                    // Unless it was asked for because of such records.
                    Some(missed) if missed >= class.next && class.beyond.is_none() => {
                        class.reading = Reading::Ended;
                    }
                    _ => {}
                }
                return elsewhere;
            }
            (Reading::Asked(_), None) => (class.reading, class.missed) = (Reading::Ended, None),
            (Reading::Ended, Some(_)) => self.reads.push_back(Read::End(self.service, number)),
            (Reading::Ended, None) | (Reading::Begun, _) => {}
        }
        false
    }

    /// Whether a class is to be asked for again, by [`read_on`](Self::read_on).
    pub(super) fn is_ended(&self, number: u32) -> bool {
        let class = self.classes.get(number as usize);
        class.is_some_and(|class| class.reading == Reading::Ended)
    }

    /// Whether a record is the next one, and wanted: then [`take`](Self::take) it.
    pub(super) fn accepts(&mut self, number: u32, offset: i64) -> bool {
        let Some(class) = self.classes.get_mut(number as usize) else { return false };
        if offset < class.next {
            // Perhaps of a log that was made anew.
            class.miss(offset);
            return false;
        }
        if class.beyond.is_some_and(|beyond| offset < beyond) {
            // There is something between.
            class.beyond = None;
        }
        if class.reading == Reading::Ended {
            return false;
        }
        if class.calls >= MOST.0 || class.bytes >= MOST.1 {
            (class.reading, class.beyond) = (Reading::Ended, None);
            self.reads.push_back(Read::End(self.service, number));
            return false;
        }
        // These are that, whichever reading they are of.
        if offset == class.next || class.beyond == Some(offset) {
            return true;
        }
        if class.reading == Reading::Begun {
            class.beyond.get_or_insert(offset);
            class.reading = Reading::Asked(class.next);
            self.reads.push_back(Read::From(self.service, number, class.next));
        } else {
            class.miss(offset);
        }
        false
    }

    /// The record of so many calls, of which these are to be looked at then.
    pub(super) fn take(&mut self, number: u32, offset: i64, count: u32, calls: Vec<Call>) {
        let Some(class) = self.classes.get_mut(number as usize) else { return };
        class.next = offset.saturating_add(1);
        class.beyond = None;
        let looks = calls.iter().filter_map(|call| Some(call.terms.as_ref()?.due?.look));
        let Some(look) = looks.min() else { return };
        let mut bits = CallBits::new(count);
        let mut open = calls.iter().map(|call| call.origin.position.index).peekable();
        for index in 0..count {
            if open.next_if_eq(&index).is_none() {
                bits.set(index);
            }
        }
        class.open.insert(offset, bits);
        class.calls += calls.len();
        class.bytes += calls.iter().map(Call::bytes).sum::<usize>();
        class.held.push_back((look, calls));
    }

    /// Calls that are ripe by then.
    pub(super) fn poll_ripe(&mut self, now: Time) -> Option<Vec<Call>> {
        let ripe = |class: &Class| class.held.front().is_some_and(|(look, _)| *look <= now);
        let class = self.classes.iter_mut().find(|class| ripe(class))?;
        let (_, calls) = class.held.pop_front()?;
        class.calls -= calls.len();
        class.bytes -= calls.iter().map(Call::bytes).sum::<usize>();
        Some(calls)
    }

    /// When the next ones are.
    pub(super) fn next_ripe(&self) -> Option<Time> {
        self.classes.iter().filter_map(|class| class.held.front()).map(|(look, _)| *look).min()
    }

    /// A call is moved, or ended otherwise.
    pub(super) fn finish(&mut self, number: u32, Position { offset, index, .. }: Position) {
        let Some(class) = self.classes.get_mut(number as usize) else { return };
        let Some(bits) = class.open.get_mut(&offset) else { return };
        bits.set(index);
        if bits.unfinished() == 0 {
            class.open.remove(&offset);
        }
    }

    /// The partitions of the classes.
    pub(super) fn partitions(service: u16) -> impl Iterator<Item = PartitionId> {
        (0..CLASSES).map(move |class| PartitionId::held(service, class))
    }
}

#[cfg(test)]
mod tests;
