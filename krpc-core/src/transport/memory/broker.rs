//! The in-process broker: topics, their partitions and their groups, behind one short lock.
//!
//! Nothing here calls back: what concerns a side is left for it to fetch, and its task is woken.
//!
//! from: `side` (records to append)
//! to: `client` and `server` (records that were read)

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    group::{Committed, Group, Member},
    log::Log,
};
use crate::{
    clock::Clock,
    error::SetupError,
    ids::PartitionId,
    time::Time,
    transport::{self, CommitPoint, Record, Topic, TransportConfig},
};

/// Partitions of a topic that is created here: above it, a typing error is more likely.
const MAX_PARTITIONS: u32 = 10_000;

/// Records handed to a side at once; a server is then asked whether it is full.
pub(super) const BATCH_RECORDS: usize = 256;

/// Topics, groups, and the clock that stamps what is appended.
#[derive(Debug)]
pub(super) struct Broker {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sides: u64,
    names: HashMap<String, usize>,
    topics: Vec<TopicState>,
}

#[derive(Debug)]
struct TopicState {
    max_packet_bytes: usize,
    logs: Vec<Log>,
    groups: Vec<Group>,
}

/// A topic, as found or created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TopicRef {
    index: usize,
    /// How many partitions it has.
    pub(super) partitions: u32,
}

/// A server's place in the group of one service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) service: u16,
    topic: usize,
    group: usize,
}

/// What a server has to do next.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) assigned: Vec<(PartitionId, Committed)>,
    pub(super) revoked: Vec<PartitionId>,
    pub(super) records: Vec<Record>,
}

impl Work {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.assigned.is_empty() && self.revoked.is_empty() && self.records.is_empty()
    }
}

impl Broker {
    /// A broker without topics.
    pub(super) fn new() -> Self {
        Self { clock: Clock::start(), state: Mutex::default() }
    }

    /// A number for a new side.
    pub(super) fn new_side(&self) -> u64 {
        let mut state = self.state.lock();
        state.sides += 1;
        state.sides
    }

    /// Whether it holds no records.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.topics.iter().flat_map(|topic| &topic.logs).all(Log::is_empty)
    }

    /// Finds a service's topic, or creates it with the numbers of this configuration.
    ///
    /// # Errors
    /// Missing and not to be created, or unfit for the largest packet.
    pub(super) fn open(
        &self,
        config: &TransportConfig,
        service: &str,
        topic: Topic,
    ) -> Result<TopicRef, SetupError> {
        let name = config.topic(service, topic);
        let mut state = self.state.lock();
        let index = match state.names.get(&name) {
            Some(index) => *index,
            None => state.create(config, &name, topic)?,
        };
        let found = &state.topics[index];
        if found.max_packet_bytes < config.max_packet_bytes {
            let (has, needs) = (found.max_packet_bytes, config.max_packet_bytes);
            let reason = format!("it carries {has} bytes in a record; {needs} are needed");
            return Err(SetupError::UnfitTopic { topic: name, reason });
        }
        let partitions = u32::try_from(found.logs.len()).unwrap_or(u32::MAX);
        Ok(TopicRef { index, partitions })
    }

    /// Whether there is such a topic.
    pub(super) fn has(&self, name: &str) -> bool {
        self.state.lock().names.contains_key(name)
    }

    /// Appends a record and wakes who reads it; `None` if there is no such partition.
    pub(super) fn append(
        &self,
        topic: TopicRef,
        partition: u32,
        payload: Bytes,
    ) -> Option<(i64, Time)> {
        let partition = usize::try_from(partition).ok()?;
        let mut state = self.state.lock();
        let TopicState { logs, groups, .. } = state.topics.get_mut(topic.index)?;
        let log = logs.get_mut(partition)?;
        // Read under the lock, so that times never run backwards within a partition.
        let now = self.clock.now();
        let lost = log.dropped();
        let offset = log.append(now, payload);
        if lost == 0 && log.dropped() > 0 {
            tracing::warn!(partition, "an in-process partition is full: its oldest records go");
        }
        groups.iter().for_each(|group| group.wake_owner(partition));
        Some((offset, now))
    }

    /// How many records a topic was given so far, and how many of them retention dropped.
    pub(super) fn count(&self, name: &str) -> (u64, u64) {
        let state = self.state.lock();
        let topic = state.names.get(name).and_then(|index| state.topics.get(*index));
        let logs = topic.map_or(&[][..], |topic| &topic.logs);
        logs.iter().fold((0, 0), |(stored, dropped), log| {
            (stored + log.end().unsigned_abs(), dropped + log.dropped())
        })
    }

    /// The records that a partition holds; none if it is not there.
    pub(super) fn held(&self, name: &str, partition: u32) -> Vec<Bytes> {
        let mut state = self.state.lock();
        let topic = state.names.get(name).copied();
        topic
            .and_then(|topic| state.log(topic, partition))
            .map(|log| log.held())
            .unwrap_or_default()
    }

    /// Lets a side read a partition from an offset on, or from its end as it is now; `id` is its
    /// name for it.
    pub(super) fn follow(
        &self,
        side: u64,
        topic: TopicRef,
        id: PartitionId,
        from: Option<i64>,
        wake: Arc<Notify>,
    ) {
        if let Some(log) = self.state.lock().log(topic.index, id.partition) {
            log.follow(side, id, from, wake);
        }
    }

    /// Ends what [`Self::follow`] began.
    pub(super) fn unfollow(&self, side: u64, topic: TopicRef, id: PartitionId) {
        if let Some(log) = self.state.lock().log(topic.index, id.partition) {
            log.unfollow(side, id);
        }
    }

    /// The offsets of a partition's oldest record and of the next; `None` if it is not there.
    pub(super) fn bounds(&self, topic: TopicRef, partition: u32) -> Option<(i64, i64)> {
        self.state.lock().log(topic.index, partition).map(|log| log.bounds())
    }

    /// How far a group is in a partition; `None` if there is no such partition.
    pub(super) fn committed(
        &self,
        topic: TopicRef,
        group: &str,
        partition: u32,
    ) -> Option<transport::Committed> {
        let state = self.state.lock();
        let TopicState { logs, groups, .. } = state.topics.get(topic.index)?;
        let partition = usize::try_from(partition).ok()?;
        let end = logs.get(partition)?.end();
        let group = groups.iter().find(|known| known.name() == group);
        let committed = group.and_then(|group| group.committed(partition).clone());
        let (offset, metadata) = committed.map_or((None, String::new()), |(o, m)| (Some(o), m));
        Some(transport::Committed { offset, metadata, end })
    }

    /// Ends all reading by hand of a side.
    pub(super) fn unfollow_all(&self, side: u64) {
        let mut state = self.state.lock();
        let logs = state.topics.iter_mut().flat_map(|topic| &mut topic.logs);
        logs.for_each(|log| log.unfollow_all(side));
    }

    /// New records of these followed partitions, at most [`BATCH_RECORDS`].
    pub(super) fn read_along(
        &self,
        side: u64,
        followed: impl Iterator<Item = (TopicRef, PartitionId)>,
        out: &mut Vec<Record>,
    ) {
        let mut state = self.state.lock();
        for (topic, id) in followed {
            if let Some(log) = state.log(topic.index, id.partition) {
                log.read_along(side, BATCH_RECORDS, out);
            }
        }
    }

    /// Adds a server to a group, which comes into being with its first member.
    pub(super) fn join(&self, topic: TopicRef, group: &str, member: Member) -> Membership {
        let (index, service) = (topic.index, member.service);
        let mut state = self.state.lock();
        let topic = &mut state.topics[index];
        let known = topic.groups.iter().position(|known| known.name() == group);
        let group = known.unwrap_or_else(|| {
            topic.groups.push(Group::new(group, topic.logs.len()));
            topic.groups.len() - 1
        });
        topic.groups[group].handle_join(member);
        Membership { service, topic: index, group }
    }

    /// Adds what a server has to do; records only if `hungry`, revocations only if `free`. Reading
    /// begins at another partition each `turn`, so that a busy one does not starve the rest.
    pub(super) fn work(
        &self,
        side: u64,
        places: &[Membership],
        hungry: bool,
        free: bool,
        turn: usize,
        work: &mut Work,
    ) {
        let mut state = self.state.lock();
        for place in places {
            let group = state.group(*place);
            work.assigned.append(&mut group.poll_assigned(side));
            if free {
                work.revoked.append(&mut group.poll_revoked(side));
            }
        }
        if hungry {
            let first = turn % places.len().max(1);
            for place in places[first..].iter().chain(&places[..first]) {
                state.read(side, *place, turn, &mut work.records);
            }
        }
    }

    /// Commits points of a server; the results come in the same order.
    pub(super) fn commit(
        &self,
        side: u64,
        places: &[Membership],
        points: Vec<CommitPoint>,
    ) -> Vec<Result<(), String>> {
        let mut state = self.state.lock();
        points.into_iter().map(|point| state.commit(side, places, point)).collect()
    }

    /// A server has released these partitions: their last points are committed, with results in
    /// the same order, and whoever waits for them gets them. In one step: a point that the server
    /// has on its way meanwhile is older, and comes too late.
    pub(super) fn release(
        &self,
        side: u64,
        places: &[Membership],
        points: Vec<CommitPoint>,
        partitions: &[PartitionId],
    ) -> Vec<Result<(), String>> {
        let mut state = self.state.lock();
        let results = points.into_iter().map(|point| state.commit(side, places, point)).collect();
        for id in partitions {
            let place = places.iter().find(|place| place.service == id.service);
            if let (Some(place), Ok(partition)) = (place, usize::try_from(id.partition)) {
                state.group(*place).handle_released(side, partition);
            }
        }
        results
    }

    /// A server wants no partitions any more; it keeps those it has until it releases them.
    pub(super) fn leave(&self, side: u64, places: &[Membership]) {
        let mut state = self.state.lock();
        places.iter().for_each(|place| state.group(*place).handle_leave(side));
    }

    /// A server is gone: its partitions are free at once.
    pub(super) fn crash(&self, side: u64, places: &[Membership]) {
        let mut state = self.state.lock();
        places.iter().for_each(|place| state.group(*place).handle_crash(side));
    }

    /// Whether a server still owns a partition.
    pub(super) fn owns_any(&self, side: u64, places: &[Membership]) -> bool {
        let mut state = self.state.lock();
        places.iter().any(|place| state.group(*place).owns_any(side))
    }
}

impl State {
    fn create(
        &mut self,
        config: &TransportConfig,
        name: &str,
        topic: Topic,
    ) -> Result<usize, SetupError> {
        if !config.create_topics {
            let reason = "creating topics is switched off".to_owned();
            return Err(SetupError::MissingTopic { topic: name.to_owned(), reason });
        }
        let partitions = config.partitions(topic);
        let setting = if topic == Topic::Calls { "call_partitions" } else { "reply_partitions" };
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(SetupError::InvalidConfig {
                name: setting.to_owned(),
                value: partitions.to_string(),
                reason: format!("1 to {MAX_PARTITIONS} partitions"),
            });
        }
        self.topics.push(TopicState {
            max_packet_bytes: config.max_packet_bytes,
            logs: (0..partitions).map(|_| Log::new(topic)).collect(),
            groups: Vec::new(),
        });
        self.names.insert(name.to_owned(), self.topics.len() - 1);
        Ok(self.topics.len() - 1)
    }

    fn log(&mut self, topic: usize, partition: u32) -> Option<&mut Log> {
        self.topics.get_mut(topic)?.logs.get_mut(usize::try_from(partition).ok()?)
    }

    /// The group of a membership; topics and groups are only ever added.
    fn group(&mut self, place: Membership) -> &mut Group {
        &mut self.topics[place.topic].groups[place.group]
    }

    fn read(&mut self, side: u64, place: Membership, turn: usize, out: &mut Vec<Record>) {
        let TopicState { logs, groups, .. } = &mut self.topics[place.topic];
        for (id, next) in groups[place.group].poll_positions(side, turn) {
            let partition = usize::try_from(id.partition).unwrap_or(usize::MAX);
            if let Some(log) = logs.get(partition) {
                log.read(id, next, BATCH_RECORDS, out);
            }
        }
    }

    fn commit(
        &mut self,
        side: u64,
        places: &[Membership],
        point: CommitPoint,
    ) -> Result<(), String> {
        let CommitPoint { partition: id, offset, metadata } = point;
        let place = places.iter().find(|place| place.service == id.service);
        let place = place.ok_or_else(|| format!("service {} is in no group", id.service))?;
        let partition = usize::try_from(id.partition).map_err(|error| error.to_string())?;
        let TopicState { logs, groups, .. } = &mut self.topics[place.topic];
        groups[place.group].commit(side, partition, offset, metadata)?;
        let points = groups.iter().map(|group| group.committed(partition));
        let consumed = points.map(|point| point.as_ref().map_or(0, |(offset, _)| *offset)).min();
        if let (Some(log), Some(consumed)) = (logs.get_mut(partition), consumed) {
            log.forget(consumed);
        }
        Ok(())
    }
}
