//! One service's worker: a member of its group, and two threads.
//!
//! The **poll** thread serves the consumer's own queue: rebalances, errors, logs. Handlers never
//! block it, so heartbeats and rebalances go on whatever the load. The **drain** thread takes
//! records in batches from a private queue, to which each owned partition is forwarded; when the
//! driver is full it waits without touching the queue, librdkafka's bounded prefetch fills up,
//! and the backlog stays in Kafka.
//!
//! from: the calls topic
//! to: `krpc_core::transport::ServerEvents::arrived`

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    status::{Code, Status},
    transport::{CommitPoint, ServerEvents, Topic},
};
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    types::RDKafkaErrorCode,
};
use tokio::runtime::Handle;

use crate::{
    commits,
    config::Settings,
    events::is_unauthorized,
    producer::Reports,
    queue::{self, Queue},
    rebalance::{Assignment, WorkerHooks},
    wait::{NET, Signal, block_on},
};

/// How long the question for the rights to the group may take.
const RIGHTS: Duration = Duration::from_secs(5);

/// What leaving may take beyond the release and the last commit.
const SLACK: Duration = Duration::from_secs(2);

/// How long a closing worker may stay a member; more than a heartbeat interval, after which the
/// others of the group come to a rebalance that keeps it.
pub(crate) const MEMBER: Duration = Duration::from_secs(3);

/// How long a worker that leaves while it joins waits to be a member first.
const JOINING: Duration = Duration::from_secs(1);

/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(2);

type GroupConsumer = BaseConsumer<WorkerHooks>;

/// A running worker.
pub(crate) struct Worker {
    group: String,
    hooks: Arc<WorkerHooks>,
    poll_signal: Arc<Signal>,
    drain_signal: Arc<Signal>,
    /// The poll thread owns it, and so is the one that drops it.
    consumer: Weak<GroupConsumer>,
    end: Arc<End>,
}

/// Told when the threads have ended and the group has been left.
#[derive(Debug, Default)]
struct End {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Worker {
    /// A consumer and its threads; not yet a member of the group.
    pub(crate) fn start(
        settings: &Settings,
        service: u16,
        name: &str,
        events: Arc<dyn ServerEvents>,
        reports: Reports,
        runtime: Option<Handle>,
    ) -> Result<Self, SetupError> {
        let hooks = WorkerHooks {
            service,
            topic: settings.config.topic(name, Topic::Calls),
            events,
            reporter: settings.reporter("worker"),
            assignment: Assignment::default(),
            queue: OnceLock::new(),
            committing: Mutex::new(()),
            leaving: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            signal: Arc::new(Signal::default()),
            runtime,
            release_timeout: settings.config.release_timeout,
        };
        let consumer: Arc<GroupConsumer> =
            Arc::new(settings.create(&settings.worker(name), hooks)?);
        let worker = Self {
            group: settings.config.group(name),
            hooks: Arc::clone(consumer.context()),
            poll_signal: Arc::default(),
            drain_signal: Arc::default(),
            consumer: Arc::downgrade(&consumer),
            end: Arc::default(),
        };
        worker.spawn(consumer, reports)?;
        Ok(worker)
    }

    fn spawn(&self, consumer: Arc<GroupConsumer>, reports: Reports) -> Result<(), SetupError> {
        let (poll_signal, drain_signal) =
            (Arc::clone(&self.poll_signal), Arc::clone(&self.drain_signal));
        let client = consumer.client();
        let own = Queue::of_consumer(client, Arc::clone(&consumer), poll_signal);
        let records = Queue::private(client, Arc::clone(&consumer), Arc::clone(&drain_signal));
        let records = Arc::new(records);
        self.hooks.queue.get_or_init(|| Arc::downgrade(&records));

        let (hooks, theirs) = (Arc::clone(&self.hooks), Arc::clone(&self.hooks));
        let member = Arc::downgrade(&consumer);
        let unread = move |status| {
            // Nobody reads here any more: others are to have the partitions.
            hooks.leaving.store(true, Ordering::Release);
            hooks.signal.raise();
            if let Some(member) = member.upgrade() {
                member.unsubscribe();
            }
            hooks.events.broken(status);
        };
        let drain = crate::spawn("krpc-drain", unread, move || {
            drain(&theirs, &records, &reports);
        })?;
        let (hooks, end) = (Arc::clone(&self.hooks), Arc::clone(&self.end));
        let theirs = Arc::clone(&self.hooks);
        let unpolled = move |status| theirs.events.broken(status);
        crate::spawn("krpc-poll", unpolled, move || {
            // The driver may start tasks and timers wherever it is called.
            let _entered = hooks.runtime.as_ref().map(Handle::enter);
            poll(&consumer, &hooks, &own);
            drain_signal.raise();
            // It reports its own panic.
            let _ = drain.join();
            leave(&consumer, &hooks);
            drop(own);
            // The last drop waits until the coordinator has answered. A process that ended before
            // would keep its partitions from the others for a session timeout.
            // It may block for ever in rare cases: whoever waits for the word does so for a time.
            drop(consumer);
            *end.ended.lock() = true;
            end.changed.notify_all();
        })?;
        Ok(())
    }

    /// Asks the group to take this worker in. Blocks until the coordinator has said whether it
    /// may, or five seconds.
    pub(crate) fn join(&self, partitions: u32) -> Result<(), SetupError> {
        let Some(consumer) = self.consumer() else { return Err(SetupError::Closed) };
        let topic = self.hooks.topic.as_str();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, i32::try_from(partitions).unwrap_or(i32::MAX) - 1);
        let denied = match consumer.committed_offsets(list, RIGHTS) {
            Ok(list) => queue::entries(&list).iter().find_map(|entry| entry.error),
            Err(error) => error.rdkafka_error_code(),
        };
        // A coordinator that may not even be looked for answers nothing; the error comes aside.
        let denied = denied.filter(|code| is_unauthorized(*code));
        match denied.or_else(|| self.hooks.reporter.denied()) {
            Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => {
                Err(unauthorized("read", topic, code))
            }
            Some(code) => Err(unauthorized("join", &self.group, code)),
            // What else may be wrong passes, or shows in the group: it is asked in any case.
            None => consumer
                .subscribe(&[topic])
                .map_err(|error| SetupError::Transport(error.to_string())),
        }
    }

    /// Commits points of this service; the results in the order of the points. Blocks.
    pub(crate) fn commit(&self, points: &[CommitPoint]) -> Vec<Result<(), String>> {
        match self.consumer() {
            Some(consumer) => self.hooks.commit(&consumer, points),
            None => vec![Err("the worker has stopped".to_owned()); points.len()],
        }
    }

    /// Leaves the group: what is owned is released and committed on the poll thread, as in any
    /// other revoke. Blocks, within the release timeout and a last commit's.
    pub(crate) fn leave(&self) -> Result<(), String> {
        let Some(consumer) = self.consumer() else { return Ok(()) };
        self.hooks.leaving.store(true, Ordering::Release);
        self.drain_signal.raise();
        self.hooks.signal.raise();
        ask_to_leave(&consumer);
        let until = Instant::now() + self.hooks.release_timeout + commits::TIMEOUT + SLACK;
        let mut failures = match self.hooks.assignment.wait_empty(until) {
            true => Vec::new(),
            false => vec![format!("group {} was not left in time", self.group)],
        };
        failures.extend(self.hooks.assignment.take_failures());
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    /// Ends the threads and drops the consumer, which leaves the group. Does not wait.
    pub(crate) fn stop(&self) {
        self.hooks.leaving.store(true, Ordering::Release);
        self.hooks.closing.store(true, Ordering::Release);
        for signal in [&self.drain_signal, &self.poll_signal, &self.hooks.signal] {
            signal.raise();
        }
    }

    /// None when the worker is stopped.
    fn consumer(&self) -> Option<Arc<GroupConsumer>> {
        let stopped = self.hooks.closing.load(Ordering::Acquire);
        if stopped { None } else { self.consumer.upgrade() }
    }

    /// Waits for that after [`stop`](Self::stop).
    pub(crate) fn wait_ended(&self, until: Instant) {
        let mut ended = self.end.ended.lock();
        while !*ended && !self.end.changed.wait_until(&mut ended, until).timed_out() {}
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assignment = &self.hooks.assignment;
        f.debug_struct("Worker")
            .field("topic", &self.hooks.topic)
            .field("assignment", assignment)
            .finish_non_exhaustive()
    }
}

/// The poll thread: serves rebalances, errors and logs until the worker is stopped.
fn poll(consumer: &GroupConsumer, hooks: &WorkerHooks, own: &Queue) {
    let closing = || hooks.closing.load(Ordering::Acquire);
    let mut broken = false;
    while !closing() {
        // One event for each call; the signal comes again only after the queue was empty. Called
        // at least once for each wait, which is what `max.poll.interval.ms` wants to see.
        let mut failed = false;
        loop {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => hooks.reporter.stray(&message),
                Some(Err(_)) => failed = true,
                None => (),
            }
            if own.len() == 0 || closing() {
                break;
            }
        }
        if failed
            && !broken
            && let Some((_, why)) = consumer.client().fatal_error()
        {
            broken = true;
            let message = format!("the group consumer of {} failed: {why}", hooks.topic);
            hooks.events.broken(Status::new(Code::Unavailable, message));
        }
        own.signal().wait(NET);
    }
}

/// Asks the coordinator to let the consumer go, once: again would be a new wish, in the middle of
/// the first.
fn ask_to_leave(consumer: &GroupConsumer) {
    if !consumer.subscription().is_ok_and(|topics| topics.count() > 0) {
        return;
    }
    // librdkafka throws away the answer to a join that is not wanted any more. It says under which
    // name the coordinator goes on waiting, for a session timeout, for a member that never comes.
    let until = Instant::now() + JOINING;
    while !queue::is_member(consumer.client()) && Instant::now() < until {
        thread::sleep(LOOK);
    }
    consumer.unsubscribe();
}

/// Serves the consumer until it is no member any more.
///
/// Only then may it be closed. While partitions are still being stopped, or a rebalance is under
/// way, librdkafka (2.12, classic protocol) takes a close as a reason not to send `LeaveGroup` any
/// more: `rd_kafka_cgrp_incr_unassign_done` drops the wish to leave if the group terminates.
fn leave(consumer: &GroupConsumer, hooks: &WorkerHooks) {
    ask_to_leave(consumer);
    let until = Instant::now() + MEMBER;
    while queue::is_member(consumer.client()) {
        if Instant::now() > until {
            let message = format!("{} is closed but still in its group", hooks.topic);
            return hooks.reporter.warn("LEAVE", &message);
        }
        drop(consumer.poll(LOOK));
    }
}

/// The drain thread: passes records on while the driver takes more.
fn drain(hooks: &WorkerHooks, records: &Queue, reports: &Reports) {
    let _entered = hooks.runtime.as_ref().map(Handle::enter);
    let stopped = || hooks.leaving.load(Ordering::Acquire);
    while !stopped() {
        if let Some(room) = hooks.events.full() {
            // Calls may run that nobody else gets to.
            block_on(room, records.signal(), Some(Instant::now() + NET), stopped);
            continue;
        }
        let taken = hooks.assignment.dispatch(records, |taken, back| match taken.error {
            None => {
                if let Some(record) = crate::record(hooks.service, Topic::Calls, taken) {
                    if back {
                        hooks.restarted(record.partition, record.offset);
                    }
                    hooks.events.arrived(record);
                }
            }
            Some(code) => {
                // Whoever may write to the topic sees it, and so comes this far.
                let text = match is_unauthorized(code) {
                    true => format!("not authorized to read {}", hooks.topic).into(),
                    false => String::from_utf8_lossy(taken.payload),
                };
                let message = format!("{} [{}]: {text}", hooks.topic, taken.partition);
                hooks.reporter.warn(&code.to_string(), &message);
            }
        });
        match taken {
            0 => records.signal().wait(NET),
            // Earlier replies were delivered meanwhile: their reports need not wake anybody.
            _ => reports.serve(),
        }
    }
}

fn unauthorized(action: &str, resource: &str, code: RDKafkaErrorCode) -> SetupError {
    SetupError::Unauthorized {
        action: action.to_owned(),
        resource: resource.to_owned(),
        cause: code.to_string(),
    }
}
