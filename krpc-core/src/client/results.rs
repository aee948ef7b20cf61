//! One partition of results: what was read of it, and who waits for what.
//!
//! All who come back for answers share one reading, from the lowest offset that any of them asks
//! for on. What passes by is remembered up to a bound, whoever it is for: so a thousand tickets
//! from a file, attached one after the other, are one pass over the partition.
//!
//! Pure: the driver ([`super::attach`]) follows the partition from where [`Results::poll_follow`]
//! says, and wakes whom [`Results::take_wakes`] yields.
//!
//! from: records of the topic · to: [`super::attach`]

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use slab::Slab;

use super::pending::{Completion, Ending};
use crate::{
    ids::{CallId, InstanceId},
    inbox::Packet,
    time::Micros,
    transport::Record,
    wire::frame::{Frame, Outcome, Progress, Reply},
};

/// Bytes that are remembered.
const REMEMBERED: usize = 16 * 1024 * 1024;

/// What is counted for each thing that is remembered, beside its values.
const OVERHEAD: usize = 256;

/// What tells calls apart: who made it, and its number there.
pub(super) type CallName = (InstanceId, CallId);

/// What a partition says of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// Which execution began last.
    pub(super) attempt: Option<u32>,
    /// Its answer: the first one, should there be several.
    pub(super) answer: Option<Completion>,
}

/// Who waits for news of a call.
#[derive(Debug)]
struct Watch<W> {
    call: CallName,
    from: i64,
    seen: Seen,
    /// The reading has not been where this one's begins.
    pending: bool,
    /// It has, and where the partition begins now is still to be told.
    following: bool,
    /// Also woken when the partition was read so far.
    until: Option<i64>,
    waiter: Option<W>,
}

/// See the module. `W` wakes who waits.
#[derive(Debug)]
pub(super) struct Results<W> {
    reading: bool,
    /// Offsets from here to before `next` were read, and what they say is remembered.
    covered_from: i64,
    next: i64,
    /// After a new beginning: records from here on may be left over from the reading before it.
    stale: Option<i64>,
    /// With the offset of what was said last.
    remembered: HashMap<CallName, (i64, Seen)>,
    /// By offset, with the bytes that go with it.
    order: VecDeque<(i64, CallName, usize)>,
    bytes: usize,
    most: usize,
    watches: Slab<Watch<W>>,
    by_call: HashMap<CallName, Vec<usize>>,
    /// The oldest offset that the partition had when its reading had begun.
    low: i64,
    /// The next offset that it had by then at least.
    end: i64,
    wakes: Vec<W>,
}

impl<W> Default for Results<W> {
    fn default() -> Self {
        Self {
            reading: false,
            covered_from: 0,
            next: 0,
            stale: None,
            remembered: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            most: REMEMBERED,
            watches: Slab::new(),
            by_call: HashMap::new(),
            low: 0,
            end: 0,
            wakes: Vec::new(),
        }
    }
}

impl<W: Clone> Results<W> {
    /// Somebody wants to know of this call, of which nothing is said before `from`. True if the
    /// partition is to be read from an earlier place than it is, or at all.
    pub(super) fn watch(&mut self, call: CallName, from: i64) -> (usize, bool) {
        let pending = !self.reading || from < self.covered_from;
        let seen = if pending { Seen::default() } else { self.recall(call) };
        let watch =
            Watch { call, from, seen, pending, following: false, until: None, waiter: None };
        let id = self.watches.insert(watch);
        self.by_call.entry(call).or_default().push(id);
        (id, pending)
    }

    /// Nobody waits there any more.
    pub(super) fn unwatch(&mut self, id: usize) -> Option<W> {
        let watch = self.watches.try_remove(id)?;
        if let Some(ids) = self.by_call.get_mut(&watch.call) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_call.remove(&watch.call);
            }
        }
        watch.waiter
    }

    /// What is known, if it is an answer, or all that the partition says before `until`; else the
    /// waiter is woken when that is so.
    pub(super) fn poll(&mut self, id: usize, until: Option<i64>, waiter: &W) -> Option<Seen> {
        let (reading, next) = (self.reading, self.next);
        let watch = self.watches.get_mut(id)?;
        let reached = reading && !watch.pending && until.is_some_and(|until| until <= next);
        if watch.seen.answer.is_some() || reached {
            return Some(watch.seen.clone());
        }
        watch.until = until;
        watch.waiter = Some(waiter.clone());
        None
    }

    /// Whether the partition may have had an answer that is kept no longer: it begins later than
    /// that could have been, or perhaps ends earlier, since it was made anew. Known once it is read
    /// for this one.
    pub(super) fn poll_cut(&mut self, id: usize, waiter: &W) -> Option<bool> {
        let watch = self.watches.get_mut(id)?;
        if (watch.pending || watch.following) && watch.seen.answer.is_none() {
            watch.waiter = Some(waiter.clone());
            return None;
        }
        Some(watch.from < self.low || watch.from > self.end)
    }

    /// Where to begin to read, for those who wait for that.
    pub(super) fn wants(&self) -> Option<i64> {
        let pending = self.watches.iter().filter(|(_, watch)| watch.pending);
        pending.map(|(_, watch)| watch.from).min()
    }

    /// The partition, whose oldest record is at `low`, is followed from the yielded offset on. Then
    /// [`Results::followed`] says more.
    pub(super) fn poll_follow(&mut self, low: i64) -> Option<i64> {
        let from = self.wants()?.max(low);
        self.forget();
        self.stale = Some(self.next);
        (self.covered_from, self.next, self.low, self.reading) = (from, from, low, true);
        for (_, watch) in &mut self.watches {
            watch.following |= std::mem::take(&mut watch.pending);
        }
        Some(from)
    }

    /// Following it failed: it is to be tried again.
    pub(super) fn failed(&mut self) {
        self.reading = false;
        for (_, watch) in &mut self.watches {
            watch.pending = true;
        }
    }

    /// If nobody waits, the partition is not followed any more: whoever comes from here on wants it
    /// read anew.
    pub(super) fn stop_if_idle(&mut self) -> bool {
        let idle = self.is_idle();
        if idle {
            self.reading = false;
            self.forget();
        }
        idle
    }

    /// Whether nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.watches.is_empty()
    }

    /// What the partition had by the time that it was followed: nothing is left of it before
    /// `low`, and what was removed meanwhile does not come any more.
    pub(super) fn followed(&mut self, (low, end): (i64, i64)) {
        (self.low, self.end) = (self.low.max(low), end);
        for (_, watch) in &mut self.watches {
            if std::mem::take(&mut watch.following) {
                self.wakes.extend(watch.waiter.take());
            }
        }
        if low > self.next {
            self.next = low;
            self.covered_from = low;
            self.reached();
        }
    }

    /// A record of the partition.
    pub(super) fn handle_record(&mut self, record: &Record) {
        if !self.reading || record.offset < self.next {
            return;
        }
        if let Some(stale) = self.stale {
            let left_over = record.offset >= stale && record.offset != self.next;
            if left_over && self.next < stale {
                return;
            }
            self.stale = None;
        }
        self.next = record.offset.saturating_add(1);
        self.end = self.end.max(self.next);
        // What is no answer of ours says nothing. That a packet came before does not matter here.
        if let Ok(packet) = Packet::open_any(&record.payload) {
            let (caller, server) = (packet.header.destination, packet.header.sender);
            for frame in packet.frames() {
                match frame {
                    Ok(Frame::Reply(reply)) => {
                        let call = (caller, reply.call);
                        let answer = completion(reply, server);
                        let bytes = OVERHEAD + len(&answer);
                        self.note(call, record.offset, bytes, |seen| {
                            seen.answer.get_or_insert(answer);
                        });
                    }
                    Ok(Frame::Progress(progress)) => {
                        let attempt = attempt(&progress);
                        self.note((caller, progress.call), record.offset, OVERHEAD, |seen| {
                            seen.attempt = Some(attempt);
                        });
                    }
                    _ => {}
                }
            }
        }
        self.reached();
    }

    /// Whom to wake.
    pub(super) fn take_wakes(&mut self) -> Vec<W> {
        std::mem::take(&mut self.wakes)
    }

    fn recall(&self, call: CallName) -> Seen {
        self.remembered.get(&call).map(|(_, seen)| seen.clone()).unwrap_or_default()
    }

    fn note(&mut self, call: CallName, offset: i64, bytes: usize, note: impl FnOnce(&mut Seen)) {
        let (last, seen) = self.remembered.entry(call).or_default();
        *last = offset;
        note(seen);
        for id in self.by_call.get(&call).map_or(&[][..], Vec::as_slice) {
            if let Some(watch) = self.watches.get_mut(*id) {
                watch.seen.attempt = seen.attempt.or(watch.seen.attempt);
                if watch.seen.answer.is_none() {
                    watch.seen.answer.clone_from(&seen.answer);
                }
                if watch.seen.answer.is_some() {
                    self.wakes.extend(watch.waiter.take());
                }
            }
        }
        self.order.push_back((offset, call, bytes));
        self.bytes += bytes;
        while self.bytes > self.most {
            let Some((offset, call, bytes)) = self.order.pop_front() else { break };
            self.bytes -= bytes;
            if self.remembered.get(&call).is_some_and(|(last, _)| *last <= offset) {
                self.remembered.remove(&call);
            }
            self.covered_from = offset.saturating_add(1);
        }
    }

    /// The partition was read so far: who waits for that gets on.
    fn reached(&mut self) {
        for (_, watch) in &mut self.watches {
            if watch.until.is_some_and(|until| until <= self.next) && !watch.pending {
                watch.until = None;
                self.wakes.extend(watch.waiter.take());
            }
        }
    }

    fn forget(&mut self) {
        self.remembered.clear();
        self.order.clear();
        self.bytes = 0;
    }
}

fn completion(reply: Reply<'_>, server: InstanceId) -> Completion {
    // Copies: what is remembered is not to keep whole records in memory, of which but one small
    // value is counted.
    let ending = match reply.outcome {
        Outcome::Ok { codec, value } => Ending::Ok(codec, Bytes::copy_from_slice(value)),
        Outcome::App { codec, value } => Ending::App(codec, Bytes::copy_from_slice(value)),
        Outcome::Status(status) => Ending::Status(Box::new(status)),
    };
    Completion {
        server_elapsed: reply.server_elapsed,
        flight_request: reply.flight_request,
        server,
        metadata: reply.metadata.into_owned(),
        ..Completion::local(ending, Micros(0))
    }
}

fn len(answer: &Completion) -> usize {
    let value = match &answer.ending {
        Ending::Ok(_, value) | Ending::App(_, value) => value.len(),
        Ending::Status(status) => status.message().len() + status.details().len(),
        Ending::Stored(_) => 0,
    };
    value + answer.metadata.bytes()
}

/// Which execution began; the first, if that cannot be read.
fn attempt(progress: &Progress<'_>) -> u32 {
    let number = progress.metadata.get(Progress::ATTEMPT);
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests;
