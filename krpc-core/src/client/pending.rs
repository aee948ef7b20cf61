//! The calls in flight: registered before anything is sent, and gone when answered, expired,
//! dropped by the caller or failed with the channel.
//!
//! from: [`super::machine`] · to: [`super::call`], through the waiter of each call

use bytes::Bytes;

use crate::{
    codec::ValueCodec,
    deadline::DeadlineQueue,
    ids::{CallId, InstanceId},
    metadata::Metadata,
    status::Status,
    time::{Micros, Time},
};

/// How a call ended, with owned bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The handler's value.
    Ok(ValueCodec, Bytes),
    /// The handler's own error.
    App(ValueCodec, Bytes),
    /// Any other failure, from the server or from this side.
    Status(Box<Status>),
    /// The broker has it, which is all that this call waits for.
    Stored(Place),
}

/// Where a call lies in the calls topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// The record's offset; `None` if the transport does not know it.
    pub offset: Option<i64>,
    /// Which of the record's calls it is.
    pub index: u32,
}

/// An ended call: how, and what its reply said of the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// How it ended.
    pub ending: Ending,
    /// From registering the call to its end.
    pub elapsed: Micros,
    /// The server's part of it, as the server measured.
    pub server_elapsed: Micros,
    /// From the client's send to the server's receipt, as the server measured.
    pub flight_request: Micros,
    /// The server that answered; [`InstanceId::ANY`] if none did.
    pub server: InstanceId,
    /// The server's metadata.
    pub metadata: Metadata,
}

impl Completion {
    /// An end that came from this side.
    pub const fn local(ending: Ending, elapsed: Micros) -> Self {
        Self {
            ending,
            elapsed,
            server_elapsed: Micros(0),
            flight_request: Micros(0),
            server: InstanceId::ANY,
            metadata: Metadata::new(),
        }
    }

    /// A failure that came from this side.
    pub fn failed(status: Status, elapsed: Micros) -> Self {
        Self::local(Ending::Status(Box::new(status)), elapsed)
    }
}

/// A call in flight, as the table keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InFlight {
    /// The partition of the calls topic it went to, whose server is to answer; [`NO_SERVER`].
    pub partition: u32,
    /// When it was registered.
    pub started: Time,
    /// When it expires here.
    pub deadline: Time,
    /// It ends when the broker has it, and its caller's end is not its own.
    pub on_stored: bool,
    /// It went through the exact lane of its partition.
    pub exact: bool,
    /// It must not be executed twice, so nothing may be said of it that is not certain.
    pub at_most_once: bool,
    /// It is due later than it was sent, and may have been moved since.
    pub delayed: bool,
}

/// Instead of a partition: none of its servers is to answer.
pub const NO_SERVER: u32 = u32::MAX;

#[derive(Debug)]
enum Slot<W> {
    Free { next: Option<u32> },
    Waiting { call: InFlight, waiter: Option<W> },
    Ended { completion: Completion, batch: u64 },
}

/// The table. Ids are never used twice: an id is a slot's index and how often it was used.
///
/// `W` is whatever wakes the caller; the table only keeps and returns it.
#[derive(Debug)]
pub struct Pending<W> {
    slots: Vec<(u32, Slot<W>)>,
    free: Option<u32>,
    waiting: usize,
    /// Numbers the batches of calls that end together.
    batch: u64,
    /// Ends of the latest batch that nobody has looked at.
    unseen: usize,
    deadlines: DeadlineQueue<CallId>,
}

impl<W> Default for Pending<W> {
    fn default() -> Self {
        let deadlines = DeadlineQueue::new();
        Self { slots: Vec::new(), free: None, waiting: 0, batch: 0, unseen: 0, deadlines }
    }
}

impl<W> Pending<W> {
    /// Calls that wait for an end.
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Whether no call waits.
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Slots in use: waiting calls, and ended ones that their callers have not looked at.
    pub fn occupied(&self) -> usize {
        self.slots.iter().filter(|(_, slot)| !matches!(slot, Slot::Free { .. })).count()
    }

    /// Calls that end from here on end together.
    pub const fn begin_batch(&mut self) {
        self.batch += 1;
        self.unseen = 0;
    }

    /// Ends of the latest batch that their callers have not looked at: they are about to. An older
    /// one may lie for long, and says nothing.
    pub const fn unseen(&self) -> usize {
        self.unseen
    }

    /// Enters a call.
    ///
    /// # Panics
    /// With 2³² calls in flight, which the channel's limit excludes.
    pub fn register(&mut self, call: InFlight, waiter: Option<W>) -> CallId {
        let index = self.free.unwrap_or_else(|| {
            let index =
                u32::try_from(self.slots.len()).expect("the channel limits calls in flight");
            self.slots.push((0, Slot::Free { next: None }));
            index
        });
        let (uses, slot) = &mut self.slots[index as usize];
        if let Slot::Free { next } = std::mem::replace(slot, Slot::Waiting { call, waiter }) {
            self.free = next;
        }
        let id = id(index, *uses);
        self.waiting += 1;
        let waits = |id| {
            let (index, uses) = split(id);
            let slot = self.slots.get(index as usize);
            matches!(slot, Some((current, Slot::Waiting { .. })) if *current == uses)
        };
        self.deadlines.insert(call.deadline, id, self.waiting, waits);
        id
    }

    /// The end of a call, once; until then the waiter is kept in place of the earlier one.
    pub fn poll(&mut self, id: CallId, waiter: &W) -> Option<Completion>
    where
        W: Clone,
    {
        match self.slot(id)? {
            Slot::Waiting { waiter: kept, .. } => {
                match kept {
                    // Nearly always the same one, which is neither cloned nor dropped then.
                    Some(kept) => kept.clone_from(waiter),
                    None => *kept = Some(waiter.clone()),
                }
                None
            }
            Slot::Ended { .. } => match self.release(id)? {
                Slot::Ended { completion, batch } => {
                    self.seen(batch);
                    Some(completion)
                }
                Slot::Free { .. } | Slot::Waiting { .. } => None,
            },
            Slot::Free { .. } => None,
        }
    }

    /// A waiting call, if it is one.
    pub fn get(&mut self, id: CallId) -> Option<InFlight> {
        match self.slot(id)? {
            Slot::Waiting { call, .. } => Some(*call),
            Slot::Free { .. } | Slot::Ended { .. } => None,
        }
    }

    /// Ends a waiting call, if `end` says how, and returns what it was and whom to wake; `None` if
    /// it does not wait.
    #[inline]
    pub fn complete(
        &mut self,
        id: CallId,
        end: impl FnOnce(InFlight) -> Option<Completion>,
    ) -> Option<(InFlight, Option<W>)> {
        let batch = self.batch;
        let slot = self.slot(id)?;
        let Slot::Waiting { call, .. } = slot else { return None };
        let completion = end(*call)?;
        match std::mem::replace(slot, Slot::Ended { completion, batch }) {
            Slot::Waiting { call, waiter } => {
                self.unseen += 1;
                self.one_less();
                Some((call, waiter))
            }
            Slot::Free { .. } | Slot::Ended { .. } => None,
        }
    }

    /// The caller is gone: forgets the call, and returns it and its waiter if it still waited.
    pub fn remove(&mut self, id: CallId) -> Option<(InFlight, Option<W>)> {
        match self.release(id)? {
            Slot::Waiting { call, waiter } => {
                self.one_less();
                Some((call, waiter))
            }
            Slot::Ended { batch, .. } => {
                self.seen(batch);
                None
            }
            Slot::Free { .. } => None,
        }
    }

    /// The next waiting call whose deadline has passed, no longer due: end it with
    /// [`Pending::complete`].
    pub fn poll_expired(&mut self, now: Time) -> Option<CallId> {
        loop {
            let (_, id) = self.deadlines.pop_expired(now)?;
            if self.get(id).is_some() {
                return Some(id);
            }
        }
    }

    /// When to ask for expired calls: not after the next one expires.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.next()
    }

    /// The ids of all waiting calls.
    pub fn waiting(&self) -> Vec<CallId> {
        let waiting = self.slots.iter().enumerate().filter_map(|(index, (uses, slot))| {
            let index = u32::try_from(index).ok()?;
            matches!(slot, Slot::Waiting { .. }).then(|| id(index, *uses))
        });
        waiting.collect()
    }

    const fn seen(&mut self, batch: u64) {
        if batch == self.batch {
            self.unseen -= 1;
        }
    }

    fn one_less(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.deadlines.clear();
        }
    }

    fn slot(&mut self, id: CallId) -> Option<&mut Slot<W>> {
        let (index, uses) = split(id);
        self.slots.get_mut(index as usize).filter(|slot| slot.0 == uses).map(|(_, slot)| slot)
    }

    #[inline]
    fn release(&mut self, call: CallId) -> Option<Slot<W>> {
        let free = self.free;
        let slot = self.slot(call)?;
        if matches!(slot, Slot::Free { .. }) {
            return None;
        }
        let taken = std::mem::replace(slot, Slot::Free { next: free });
        let (index, uses) = split(call);
        // A slot whose uses are exhausted stays out of the list rather than repeat an id.
        if let Some(next) = uses.checked_add(1) {
            self.slots[index as usize].0 = next;
            self.free = Some(index);
        }
        Some(taken)
    }
}

fn id(index: u32, uses: u32) -> CallId {
    CallId((u64::from(uses) << 32) | u64::from(index))
}

/// The index and the uses that [`id`] put together.
#[expect(clippy::cast_possible_truncation, reason = "the two halves, each of 32 bits")]
const fn split(CallId(id): CallId) -> (u32, u32) {
    (id as u32, (id >> 32) as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        sync::Arc,
        task::{Wake, Waker},
    };

    use super::*;
    use crate::status::Code;

    fn call(deadline: u64) -> InFlight {
        let deadline = Time::from_micros(deadline);
        InFlight {
            partition: 0,
            started: Time::default(),
            deadline,
            on_stored: false,
            exact: false,
            at_most_once: false,
            delayed: false,
        }
    }

    fn end(_: InFlight) -> Option<Completion> {
        Some(Completion::failed(Status::new(Code::Unavailable, "test"), Micros(0)))
    }

    #[test]
    fn a_call_ends_once() {
        let mut pending = Pending::default();
        let id = pending.register(call(10), Some("waiter"));
        assert_eq!(pending.poll(id, &"waiter 2"), None);
        assert_eq!(pending.complete(id, |_| None), None, "it waits as before");
        assert_eq!(pending.complete(id, end).unwrap().1, Some("waiter 2"));
        assert_eq!(pending.complete(id, end), None, "a second reply is not a reply");
        assert_eq!(pending.poll(id, &"waiter"), end(call(10)));
        assert_eq!(pending.poll(id, &"waiter"), None);
        assert_eq!((pending.len(), pending.occupied()), (0, 0));
        assert_eq!(pending.next_deadline(), None);
    }

    #[test]
    fn a_slot_is_used_again_but_an_id_never() {
        let mut pending = Pending::<()>::default();
        let first = pending.register(call(10), None);
        assert!(pending.remove(first).is_some());
        let second = pending.register(call(10), None);
        assert_ne!(first, second);
        assert_eq!(pending.slots.len(), 1);
        assert_eq!(pending.complete(first, end), None, "a late reply meets nobody");
        assert!(pending.get(second).is_some());
    }

    #[test]
    fn an_id_says_its_slot_and_how_often_that_was_used() {
        for index in [0, 1, 0xffff, 0x1_0000, 0x1234_5678, u32::MAX] {
            for uses in [0, 1, 0xffff, 0x1_0000, 0x8765_4321, u32::MAX] {
                assert_eq!(split(id(index, uses)), (index, uses));
            }
        }
    }

    #[test]
    fn a_dropped_call_leaves_nothing() {
        let mut pending = Pending::<()>::default();
        let ids: Vec<_> = (0..100).map(|at| pending.register(call(at), None)).collect();
        for id in &ids {
            assert!(pending.remove(*id).is_some());
            assert!(pending.remove(*id).is_none());
        }
        assert_eq!((pending.len(), pending.occupied()), (0, 0));
        assert_eq!(pending.next_deadline(), None);
    }

    /// What a waiter's clones and drops run is not for the table's lock.
    #[test]
    fn a_waiter_that_polls_again_is_not_cloned_and_one_that_goes_is_given_back() {
        let mut pending = Pending::default();
        let waker = Arc::new(Nobody);
        let waiter = Waker::from(Arc::clone(&waker));
        let id = pending.register(call(10), Some(waiter.clone()));
        let clones = Arc::strong_count(&waker);
        assert_eq!(pending.poll(id, &waiter), None);
        assert_eq!(Arc::strong_count(&waker), clones);
        let (_, kept) = pending.remove(id).unwrap();
        assert!(kept.unwrap().will_wake(&waiter));
    }

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn an_ended_call_whose_caller_is_gone_leaves_nothing() {
        let mut pending = Pending::<()>::default();
        let id = pending.register(call(10), None);
        pending.complete(id, end).unwrap();
        assert_eq!(pending.remove(id), None);
        assert_eq!(pending.occupied(), 0);
    }

    #[test]
    fn expiry_is_in_order_and_only_of_what_waits() {
        let mut pending = Pending::<()>::default();
        let late = pending.register(call(20), None);
        let soon = pending.register(call(10), None);
        let done = pending.register(call(5), None);
        pending.complete(done, end).unwrap();
        assert!(pending.next_deadline() <= Some(Time::from_micros(10)));
        assert_eq!(pending.poll_expired(Time::from_micros(15)), Some(soon));
        assert_eq!(pending.poll_expired(Time::from_micros(15)), None);
        assert_eq!(pending.poll_expired(Time::from_micros(20)), Some(late));
    }
}
