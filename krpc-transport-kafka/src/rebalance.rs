//! Rebalances: what happens when the group gives partitions to this server or takes them away.
//!
//! librdkafka calls [`WorkerHooks::rebalance`] on the poll thread and goes on when it returns;
//! heartbeats come from a thread of librdkafka's meanwhile. Every wait in here is bounded.
//!
//! - **Assigned**: the committed offsets are read, the driver learns them, then reading begins at
//!   exactly those offsets. Never at others: without an answer it asks again, until the group
//!   itself has taken the partitions away.
//! - **Revoked**: dispatch of the partitions stops, the driver finishes or gives up what runs, its
//!   last points are committed, then the partitions go.
//! - **Lost**: somebody else may own them already, so nothing is committed.

use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use krpc_core::{
    ids::PartitionId,
    transport::{CommitPoint, ServerEvents},
};
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tokio::runtime::Handle;

use crate::{
    commits,
    events::Reporter,
    queue::{self, BATCH, Entry, Queue},
    wait::{Signal, block_on},
};

/// How long one question for committed offsets may take before it is asked again.
const OFFSETS: Duration = Duration::from_secs(2);

/// Between two such questions when the answer was an error.
const PAUSE: Duration = Duration::from_millis(50);

/// What a release may take beyond its timeout: the driver's own timer comes first.
const SLACK: Duration = Duration::from_secs(1);

/// What one worker owns, and how far a change of it has come.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    owned: HashMap<i32, Owned>,
    /// A rebalance callback runs.
    rebalancing: bool,
    /// Final points that could not be committed.
    failures: Vec<String>,
}

/// A partition, as of its present assignment.
#[derive(Debug)]
struct Owned {
    phase: Phase,
    /// The offset after the last record, before the first the one where reading began.
    next: i64,
}

impl Owned {
    /// Notes a record. True if the log stands behind where it stood: within one assignment only a
    /// log that was cut or made anew does.
    fn goes_back(&mut self, offset: i64) -> bool {
        let back = offset < self.next;
        self.next = offset.saturating_add(1);
        back
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Records are dispatched.
    Active,
    /// Nothing new is dispatched; what runs may still be committed.
    Releasing,
}

impl Assignment {
    /// Takes one batch from the queue and passes on the records of active partitions. Holding the
    /// lock meanwhile means: once a partition has left here, no record of it is on its way. The
    /// flag says that the partition's log went back with this record.
    pub(crate) fn dispatch(
        &self,
        queue: &Queue,
        mut each: impl FnMut(&queue::Taken<'_>, bool),
    ) -> usize {
        let mut state = self.state.lock();
        queue.take(BATCH, |taken| match (taken.error, state.owned.get_mut(&taken.partition)) {
            (Some(_), _) => each(&taken, false),
            (None, Some(owned)) if owned.phase == Phase::Active => {
                let back = owned.goes_back(taken.offset);
                each(&taken, back);
            }
            _ => (),
        })
    }

    /// Whether points of this partition may be committed.
    pub(crate) fn owns(&self, partition: u32) -> bool {
        let key = i32::try_from(partition).unwrap_or(-1);
        self.state.lock().owned.contains_key(&key)
    }

    /// Waits until nothing is owned and no rebalance runs; false if that does not come in time.
    pub(crate) fn wait_empty(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while state.rebalancing || !state.owned.is_empty() {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
        true
    }

    /// What could not be committed at the end; once.
    pub(crate) fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().failures)
    }

    fn begin(&self) {
        self.state.lock().rebalancing = true;
    }

    fn end(&self) {
        self.state.lock().rebalancing = false;
        self.changed.notify_all();
    }

    /// Dispatches these partitions from now on, which are read from these offsets on.
    fn activate(&self, partitions: &[(i32, i64)]) {
        let mut state = self.state.lock();
        let active = |&(partition, next)| (partition, Owned { phase: Phase::Active, next });
        state.owned.extend(partitions.iter().map(active));
    }

    /// Stops dispatch of those of the partitions that are owned, and returns them.
    fn stop(&self, partitions: &[i32]) -> Vec<i32> {
        let mut state = self.state.lock();
        let mut stopped = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if let Some(owned) = state.owned.get_mut(partition) {
                owned.phase = Phase::Releasing;
                stopped.push(*partition);
            }
        }
        stopped
    }

    fn remove(&self, partitions: &[i32], failures: Vec<String>) {
        let mut state = self.state.lock();
        for partition in partitions {
            state.owned.remove(partition);
        }
        state.failures.extend(failures);
        drop(state);
        self.changed.notify_all();
    }
}

/// The context of one service's group consumer.
pub(crate) struct WorkerHooks {
    /// The service's index.
    pub(crate) service: u16,
    /// Its calls topic.
    pub(crate) topic: String,
    /// The driver.
    pub(crate) events: Arc<dyn ServerEvents>,
    /// Collects this consumer's errors.
    pub(crate) reporter: Reporter,
    /// What is owned.
    pub(crate) assignment: Assignment,
    /// Where records go; weak, because the queue keeps the consumer, which keeps this.
    pub(crate) queue: OnceLock<Weak<Queue>>,
    /// Held during a commit, so that an older point never overtakes a newer one.
    pub(crate) committing: Mutex<()>,
    /// No more partitions are taken, and nothing more is dispatched.
    pub(crate) leaving: AtomicBool,
    /// The consumer is torn down: there is no time for a release any more.
    pub(crate) closing: AtomicBool,
    /// Wakes waits of the rebalance callback.
    pub(crate) signal: Arc<Signal>,
    /// What the threads run in, for timers in the driver's futures.
    pub(crate) runtime: Option<Handle>,
    /// How long a release may take.
    pub(crate) release_timeout: Duration,
}

type Worker = BaseConsumer<WorkerHooks>;

impl WorkerHooks {
    /// Commits points of partitions that are owned; the results in the order of the points.
    pub(crate) fn commit(
        &self,
        consumer: &Worker,
        points: &[CommitPoint],
    ) -> Vec<Result<(), String>> {
        let _newest_last = self.committing.lock();
        self.commit_newest(consumer, points)
    }

    /// [`WorkerHooks::commit`] for whoever holds `committing`.
    fn commit_newest(&self, consumer: &Worker, points: &[CommitPoint]) -> Vec<Result<(), String>> {
        let (mine, foreign): (Vec<_>, Vec<_>) = points
            .iter()
            .enumerate()
            .partition(|(_, point)| self.assignment.owns(point.partition.partition));
        let mut results = vec![Ok(()); points.len()];
        for (index, _) in foreign {
            results[index] = Err("the partition is not owned any more".to_owned());
        }
        let kept: Vec<_> = mine.iter().map(|(_, point)| (*point).clone()).collect();
        let committed = commits::commit(consumer.client(), &self.topic, &kept);
        for ((index, _), result) in mine.into_iter().zip(committed) {
            results[index] = result;
        }
        results
    }

    fn assigned(&self, consumer: &Worker, list: &TopicPartitionList) -> KafkaResult<()> {
        let partitions: Vec<_> = queue::entries(list).iter().map(|entry| entry.partition).collect();
        let queue = self.queue.get().and_then(Weak::upgrade);
        let offsets = match &queue {
            Some(_) if !partitions.is_empty() => self.committed(consumer, list),
            _ => None,
        };
        let (Some(queue), Some(offsets)) = (&queue, offsets) else {
            // Nothing to do, or given up: acknowledged, but read by nobody until it is revoked.
            let Some(queue) = queue else { return accept(consumer, list) };
            let mut unread = TopicPartitionList::with_capacity(partitions.len());
            for partition in partitions.into_iter().filter(|it| self.forward(consumer, &queue, *it))
            {
                unread.add_partition(&self.topic, partition);
            }
            return accept(consumer, &unread);
        };
        let mut start = TopicPartitionList::with_capacity(offsets.len());
        let mut news = Vec::with_capacity(offsets.len());
        let mut active = Vec::with_capacity(offsets.len());
        for entry in offsets {
            let Ok(partition) = u32::try_from(entry.partition) else { continue };
            let id = PartitionId { service: self.service, partition };
            let committed = (entry.offset >= 0).then_some((entry.offset, entry.metadata));
            let offset = match &committed {
                Some((offset, _)) => Offset::Offset(*offset),
                // Nobody ever committed: calls may have waited from the first record on.
                None => Offset::Beginning,
            };
            if !self.forward(consumer, queue, entry.partition) {
                continue;
            }
            start.add_partition_offset(&self.topic, entry.partition, offset)?;
            active.push((entry.partition, committed.as_ref().map_or(0, |(offset, _)| *offset)));
            news.push((id, committed));
        }
        // Owned from here on, as the driver may commit at once; records come only after `accept`.
        self.assignment.activate(&active);
        self.events.assigned(news);
        let accepted = accept(consumer, &start);
        if accepted.is_err() {
            self.lose(&self.assignment.stop(&partitions));
        }
        accepted
    }

    /// Sends a partition's records to our queue. Where that cannot be, the partition is given up:
    /// its records would come to the consumer's own queue, where nobody takes them.
    fn forward(&self, consumer: &Worker, queue: &Queue, partition: i32) -> bool {
        let forwarded = queue.receive(consumer.client(), &self.topic, partition);
        if !forwarded {
            let message = format!("{} [{partition}] cannot be forwarded: not read", self.topic);
            self.reporter.warn("FORWARD", &message);
        }
        forwarded
    }

    /// The log of a partition went back to this record: what the driver knows of it is of a log
    /// that is gone, and would make new calls count as finished.
    pub(crate) fn restarted(&self, partition: PartitionId, offset: i64) {
        let number = partition.partition;
        let message = format!(
            "{} [{number}] was cut or made anew: read again from {offset} on, as if nothing had \
             been committed",
            self.topic
        );
        self.reporter.warn("RESTART", &message);
        self.events.lost(vec![partition]);
        self.events.assigned(vec![(partition, None)]);
    }

    /// The committed offsets of the list's partitions, asked for until they are known; `None` if
    /// the partitions are gone again.
    fn committed(&self, consumer: &Worker, list: &TopicPartitionList) -> Option<Vec<Entry>> {
        loop {
            if self.leaving.load(Ordering::Acquire) || consumer.assignment_lost() {
                return None;
            }
            let cause = match consumer.committed_offsets(list.clone(), OFFSETS) {
                Ok(offsets) => {
                    let offsets = queue::entries(&offsets);
                    match offsets.iter().find_map(|entry| entry.error) {
                        None => return Some(offsets),
                        Some(code) => code.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            let message = format!("committed offsets of {} are not known yet: {cause}", self.topic);
            self.reporter.warn("COMMITTED", &message);
            self.signal.wait(PAUSE);
        }
    }

    fn revoked(&self, consumer: &Worker, list: &TopicPartitionList) -> KafkaResult<()> {
        let partitions: Vec<_> = queue::entries(list).iter().map(|entry| entry.partition).collect();
        let owned = self.assignment.stop(&partitions);
        if consumer.assignment_lost() || self.closing.load(Ordering::Acquire) {
            self.lose(&owned);
        } else if !owned.is_empty() {
            self.release(consumer, &owned);
        }
        give_up(consumer, &self.topic, list)
    }

    /// Lets the driver finish, commits its last points and gives the partitions away. The last two
    /// are one step: a point that was on its way here meanwhile is older, and comes too late.
    fn release(&self, consumer: &Worker, owned: &[i32]) {
        match self.last_points(consumer, owned) {
            Ok(points) => {
                let _newest_last = self.committing.lock();
                let failures = self.commit_last(consumer, &points);
                self.assignment.remove(owned, failures);
            }
            Err(message) => self.assignment.remove(owned, vec![message]),
        }
    }

    /// What the driver wants to have committed last, or why nothing will be.
    fn last_points(&self, consumer: &Worker, owned: &[i32]) -> Result<Vec<CommitPoint>, String> {
        let future = self.events.release(self.ids(owned));
        let deadline = Instant::now() + self.release_timeout + SLACK;
        let gone = || consumer.assignment_lost();
        let points = block_on(future, &self.signal, Some(deadline), gone);
        if consumer.assignment_lost() {
            self.events.lost(self.ids(owned));
            return Err(format!("partitions {owned:?} of {} were lost", self.topic));
        }
        let Some(points) = points else {
            let message =
                format!("partitions {owned:?} of {} were not released in time", self.topic);
            self.reporter.warn("RELEASE", &message);
            self.events.lost(self.ids(owned));
            return Err(message);
        };
        Ok(points)
    }

    /// Commits last points, held by `committing`; returns what went wrong.
    fn commit_last(&self, consumer: &Worker, points: &[CommitPoint]) -> Vec<String> {
        let results = self.commit_newest(consumer, points);
        let failed = points.iter().zip(results).filter_map(|(point, result)| {
            let partition = point.partition.partition;
            let offset = point.offset;
            let error = result.err()?;
            Some(format!("{} [{partition}] at {offset}: {error}", self.topic))
        });
        let failed: Vec<_> = failed.collect();
        for failure in &failed {
            self.reporter.warn("COMMIT", &format!("a last commit failed: {failure}"));
        }
        failed
    }

    fn lose(&self, owned: &[i32]) {
        self.assignment.remove(owned, Vec::new());
        if !owned.is_empty() {
            self.events.lost(self.ids(owned));
        }
    }

    fn ids(&self, partitions: &[i32]) -> Vec<PartitionId> {
        let id = |partition| PartitionId { service: self.service, partition };
        partitions.iter().filter_map(|number| u32::try_from(*number).ok()).map(id).collect()
    }
}

fn accept(consumer: &Worker, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        // Only if a property asks for an eager strategy.
        _ => consumer.assign(list),
    }
}

/// Gives back what of the list was accepted.
fn give_up(consumer: &Worker, topic: &str, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => {
            // What was not accepted cannot be given back, and would keep the others here too.
            let present = consumer.assignment()?;
            let mut accepted = TopicPartitionList::with_capacity(list.count());
            for entry in queue::entries(list) {
                if present.find_partition(topic, entry.partition).is_some() {
                    accepted.add_partition(topic, entry.partition);
                }
            }
            consumer.incremental_unassign(&accepted)
        }
        _ => consumer.unassign(),
    }
}

impl ClientContext for WorkerHooks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporter.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.reporter.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporter.error(error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.reporter.token()
    }
}

impl ConsumerContext for WorkerHooks {
    fn rebalance(&self, consumer: &Worker, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.assignment.begin();
        let (name, result) = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                ("assign", self.assigned(consumer, list))
            }
            _ => ("revoke", self.revoked(consumer, list)),
        };
        if let Err(error) = result {
            self.reporter.warn("REBALANCE", &format!("could not {name}: {error}"));
        }
        self.assignment.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_back_only_where_an_offset_is_not_beyond_the_last() {
        // Of a compacted log, or after retention, offsets may be left out.
        let mut owned = Owned { phase: Phase::Active, next: 5 };
        let back: Vec<_> = [5, 6, 9, 9, 10, 0, 1].map(|offset| owned.goes_back(offset)).into();
        assert_eq!(back, [false, false, false, true, false, true, false]);
        // Made anew while nobody read it: behind what is committed.
        assert!(Owned { phase: Phase::Active, next: 5 }.goes_back(4));
    }
}
