//! Driver: results kept in this process, for tests and for services of one server.

#![expect(clippy::disallowed_methods, reason = "a driver: time enters here")]

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::ready,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Claim, ClaimId, ResultStore, StoreError, StoreKey};
use crate::transport::BoxFuture;

/// What an entry costs beside its key and its result, in bytes.
const OVERHEAD: usize = 256;

/// A result store in this process. Clones share it, so servers of one process can.
///
/// It is bounded: when it is full, the results that would end soonest go first. A claim stays until
/// it ends; where claims alone fill the store, it refuses more.
#[derive(Clone)]
pub struct MemoryStore {
    entries: usize,
    bytes: usize,
    table: Arc<Mutex<Table>>,
}

impl MemoryStore {
    /// An empty store of at most 10,000 entries and 64 MiB.
    pub fn new() -> Self {
        Self { entries: 10_000, bytes: 64 * 1024 * 1024, table: Arc::default() }
    }

    /// How many keys it holds, at most.
    #[must_use]
    pub const fn entries(mut self, entries: usize) -> Self {
        self.entries = entries;
        self
    }

    /// How many bytes it holds, at most: of keys, results, and 256 for each entry.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Does one operation on what is there now.
    fn with<R>(&self, operation: impl FnOnce(&mut Table, Instant) -> R) -> R {
        let mut table = self.table.lock();
        let now = Instant::now();
        table.expire(now);
        operation(&mut table, now)
    }

    /// Puts an entry where one claimed by the same, or none, is.
    fn put(
        &self,
        key: &StoreKey,
        state: State,
        time: Duration,
        table: &mut Table,
        now: Instant,
    ) -> Result<(), StoreError> {
        let size = OVERHEAD + key.key.len() + state.len();
        let old = table.remove(key);
        while table.by_key.len() >= self.entries || table.bytes + size > self.bytes {
            // Nothing goes for what cannot stay either.
            if size > self.bytes || !table.evict() {
                // A claim that grew too large as a result is as it was.
                old.into_iter().for_each(|old| table.insert(key.clone(), old));
                return Err(StoreError::new("the store in memory is full"));
            }
        }
        table.number += 1;
        let ends = (now + time, table.number);
        table.insert(key.clone(), Entry { state, ends, size });
        Ok(())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
enum State {
    Claimed(ClaimId),
    Done(ClaimId, Bytes),
}

impl State {
    fn len(&self) -> usize {
        if let Self::Done(_, result) = self { result.len() } else { 0 }
    }
}

/// When an entry ends, and a number that no two entries share.
type Ends = (Instant, u64);

#[derive(Debug)]
struct Entry {
    state: State,
    ends: Ends,
    size: usize,
}

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<StoreKey, Entry>,
    claims: BTreeMap<Ends, StoreKey>,
    results: BTreeMap<Ends, StoreKey>,
    bytes: usize,
    number: u64,
}

impl Table {
    /// Whether the key is free, or claimed by this one.
    fn may(&self, key: &StoreKey, claim: ClaimId) -> bool {
        self.by_key
            .get(key)
            .is_none_or(|entry| matches!(entry.state, State::Claimed(other) if other == claim))
    }

    fn insert(&mut self, key: StoreKey, entry: Entry) {
        self.bytes += entry.size;
        self.queue(&entry.state).insert(entry.ends, key.clone());
        self.by_key.insert(key, entry);
    }

    fn remove(&mut self, key: &StoreKey) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.bytes -= entry.size;
        self.queue(&entry.state).remove(&entry.ends);
        Some(entry)
    }

    fn queue(&mut self, state: &State) -> &mut BTreeMap<Ends, StoreKey> {
        match state {
            State::Claimed(_) => &mut self.claims,
            State::Done(..) => &mut self.results,
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(key) = self.first_ended(now) {
            self.remove(&key);
        }
    }

    fn first_ended(&self, now: Instant) -> Option<StoreKey> {
        let firsts = [self.claims.first_key_value(), self.results.first_key_value()];
        let ended = firsts.into_iter().flatten().find(|((ends, _), _)| *ends <= now);
        ended.map(|(_, key)| key.clone())
    }

    /// Lets the result go that would end first; false if there is none.
    fn evict(&mut self) -> bool {
        let first = self.results.first_key_value().map(|(_, key)| key.clone());
        first.is_some_and(|key| self.remove(&key).is_some())
    }
}

impl ResultStore for MemoryStore {
    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        let claimed = self.with(|table, now| match table.by_key.get(key) {
            Some(Entry { state: State::Done(_, result), .. }) => Ok(Claim::Done(result.clone())),
            Some(Entry { state: State::Claimed(other), ends, .. }) if *other != claim => {
                Ok(Claim::Held { left: ends.0 - now })
            }
            _ => self.put(key, State::Claimed(claim), lease, table, now).map(|()| Claim::Mine),
        });
        Box::pin(ready(claimed))
    }

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let renewed = self.with(|table, now| {
            let may = table.may(key, claim);
            if may {
                self.put(key, State::Claimed(claim), lease, table, now)?;
            }
            Ok(may)
        });
        Box::pin(ready(renewed))
    }

    fn finish<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        result: Bytes,
        retention: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let finished = self.with(|table, now| {
            if table.may(key, claim) {
                self.put(key, State::Done(claim, result), retention, table, now)?;
            }
            let entry = table.by_key.get(key).map(|entry| &entry.state);
            Ok(matches!(entry, Some(State::Done(by, _)) if *by == claim))
        });
        Box::pin(ready(finished))
    }

    fn release<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let released = self.with(|table, _| {
            let may = table.may(key, claim);
            if may {
                table.remove(key);
            }
            may
        });
        Box::pin(ready(Ok(released)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn key(number: u32) -> StoreKey {
        StoreKey::new("Shop/buy", number.to_string())
    }

    fn claim(number: u8) -> ClaimId {
        ClaimId::from_bytes([number; 16])
    }

    async fn done(store: &MemoryStore, number: u32, size: usize) -> bool {
        let (key, result) = (key(number), Bytes::from(vec![1; size]));
        assert_eq!(store.claim(&key, claim(1), LONG).await.unwrap(), Claim::Mine);
        store.finish(&key, claim(1), result, LONG).await.is_ok_and(|finished| finished)
    }

    async fn is_done(store: &MemoryStore, number: u32) -> bool {
        let key = key(number);
        match store.claim(&key, claim(2), LONG).await.unwrap() {
            Claim::Done(_) => true,
            _ => !store.release(&key, claim(2)).await.unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_store_lets_the_oldest_results_go_and_no_claim() {
        let store = MemoryStore::new().entries(3);
        assert_eq!(store.claim(&key(0), claim(0), LONG).await.unwrap(), Claim::Mine);
        for number in 1..=3 {
            assert!(done(&store, number, 10).await);
        }
        assert_eq!(
            [1, 2, 3].map(|number| store.table.lock().by_key.contains_key(&key(number))),
            [false, true, true]
        );
        assert!(store.renew(&key(0), claim(0), LONG).await.unwrap());
        // Claims alone fill it: another one is an error, and lets no claim go.
        for number in 4..=5 {
            assert_eq!(store.claim(&key(number), claim(0), LONG).await.unwrap(), Claim::Mine);
        }
        assert!(store.claim(&key(6), claim(0), LONG).await.is_err());
        tokio::time::advance(LONG).await;
        assert_eq!(store.claim(&key(6), claim(0), LONG).await.unwrap(), Claim::Mine);
        assert_eq!(store.table.lock().by_key.len(), 1, "what has ended is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_is_bounded_in_bytes() {
        let store = MemoryStore::new().bytes(2_000);
        assert!(done(&store, 1, 600).await);
        assert!(done(&store, 2, 600).await);
        assert!(is_done(&store, 1).await);
        assert!(done(&store, 3, 600).await);
        assert!(!is_done(&store, 1).await);
        assert!(is_done(&store, 2).await);
        assert!(store.table.lock().bytes <= 2_000);
        // What never fits is refused, and its claim stays.
        assert!(!done(&store, 4, 2_000).await);
        let held = store.claim(&key(4), claim(2), LONG).await.unwrap();
        assert_eq!(held, Claim::Held { left: LONG });
        tokio::time::advance(LONG).await;
        assert!(!is_done(&store, 2).await);
        assert_eq!(store.table.lock().bytes, 0);
    }
}
