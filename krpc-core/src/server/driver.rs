//! Driver: a running server. Owns the lock around the machine, the clock and the tasks.
//!
//! from: the transport's events · to: [`super::service`] (calls to run), the transport (packets,
//! commits)

#![expect(clippy::disallowed_methods, reason = "a driver: time and tasks enter here")]

mod opening;
mod run;

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    batch::Batch,
    commits::{Commits, commit_loop},
    events::Events,
    machine::ServerMachine,
    options::{ServerOptions, check_permits, check_services},
    responder::Pace,
    service::Service,
    stats::ServerStats,
};
use crate::{
    alarm::Alarm,
    clock::{Clock, fresh_instance},
    context::Context,
    error::{SetupError, ShutdownError},
    hello::Hello,
    ids::{InstanceId, PartitionId},
    sealing::{Opener, Sealing},
    status::{Code, Status},
    time::Time,
    transport::{CommitPoint, Endpoint, ServerTransport, flush},
};

/// How long handlers that are cut off may take to end: a thread that computes is not waited for.
const CUT_OFF: Duration = Duration::from_millis(500);

/// How long the last answers may take to be stored when a server ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running server. Dropping it ends it as a crash would: nothing is answered any more, and
/// other servers repeat what was unfinished. [`Server::shutdown`] ends it in good order.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    me: InstanceId,
    options: ServerOptions,
    clock: Clock,
    runtime: Handle,
    pub(super) services: Vec<Arc<dyn Service>>,
    machine: OnceLock<Mutex<ServerMachine<Context>>>,
    transport: OnceLock<Arc<dyn ServerTransport>>,
    alarm: Arc<Alarm>,
    /// Rung when calls finish: whoever waits for room, quiet or commits looks again.
    room: Arc<Notify>,
    room_wanted: AtomicBool,
    /// Whether a task begins and ends to read classes of delayed calls.
    reading: AtomicBool,
    quiet: Notify,
    commits: Arc<Commits>,
    /// Where the next calls are put: empty, and kept for its room.
    calls: Mutex<Vec<run::Work>>,
    batch: Arc<Batch>,
    pace: Pace,
    hello: Hello,
    /// Of each service, if packets are sealed.
    seals: OnceLock<Vec<Arc<dyn Sealing>>>,
    opener: Opener,
    /// Why the transport is beyond repair, if it is; `over` is cancelled then.
    broken: OnceLock<Status>,
    over: CancellationToken,
}

impl Server {
    /// Starts to serve: topics are there, the first word is delivered, the group is joined.
    ///
    /// # Errors
    /// Invalid services or settings, and whatever keeps the broker from carrying them; within the
    /// connect timeout unless the endpoint is told to keep trying.
    pub async fn start(
        endpoint: &dyn Endpoint,
        services: Vec<Arc<dyn Service>>,
        options: ServerOptions,
    ) -> Result<Self, SetupError> {
        check_services(&services)?;
        check_permits(&options)?;
        let shared = Arc::new_cyclic(|shared| Shared::new(shared.clone(), services, options));
        let events = Arc::new(Events(Arc::downgrade(&shared)));
        let transport = endpoint.server(events)?;
        let transport = shared.transport.get_or_init(|| transport);
        let mut topics = Vec::new();
        for (index, service) in (0..).zip(&shared.services) {
            let descriptor = service.descriptor();
            topics.push((transport.open(index, descriptor.name).await?, descriptor.methods));
        }
        let (limit, max_packet) = (shared.options.concurrency, shared.options.max_packet_bytes);
        let machine = ServerMachine::new(shared.me, topics, limit, max_packet)
            .with_attempts(shared.options.attempts)
            .with_permits(shared.options.permits.clone())
            .with_sealer(shared.seal(endpoint).await?);
        shared.machine.get_or_init(|| Mutex::new(machine));
        let patience = &shared.options;
        let patience = (!patience.keep_trying).then_some(patience.connect_timeout);
        shared.hello.say(&*shared, endpoint, patience).await?;
        transport.join().await?;
        let alarm = Arc::clone(&shared.alarm);
        tokio::spawn(alarm.run(shared.clock, Arc::downgrade(&shared), Shared::ring));
        tokio::spawn(commit_loop(Arc::downgrade(&shared), Arc::clone(&shared.commits)));
        Ok(Self { shared })
    }

    /// This server's instance.
    pub fn instance(&self) -> InstanceId {
        self.shared.me
    }

    /// What it did and does.
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }

    /// Resolves when the transport is beyond repair, with the cause: nothing will be served any
    /// more. Lost connections are not that; they are made again.
    pub async fn broken(&self) -> Status {
        self.shared.over.cancelled().await;
        let unknown = || Status::new(Code::Unavailable, "the transport broke");
        self.shared.broken.get().cloned().unwrap_or_else(unknown)
    }

    /// Ends in good order: takes no more calls, finishes and answers what runs, commits, leaves
    /// the group. Calls that wait in memory are left to the next server; they were not executed.
    ///
    /// # Errors
    /// Handlers ran longer than the drain time, or the last commit failed.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        let Some(transport) = self.shared.transport.get() else { return Ok(()) };
        let waited = self.shared.options.drain_timeout;
        let owned = self.shared.with(ServerMachine::retire).unwrap_or_default();
        self.shared.quiet(&owned, waited).await;
        let running = self.shared.stats().running;
        self.shared.with(ServerMachine::abandon);
        let left = transport.leave().await;
        if self.shared.broken.get().is_none() {
            // Answers may gather behind others; a transport that closes would not take them.
            self.shared.until(LAST_WORDS, ServerMachine::is_flushed).await;
        }
        transport.close().await;
        match left {
            _ if self.shared.broken.get().is_some() => {
                Err(ShutdownError::Broken(self.broken().await))
            }
            _ if running > 0 => Err(ShutdownError::DrainTimeout { unfinished: running, waited }),
            Err(cause) => Err(ShutdownError::Commit(cause)),
            Ok(()) => Ok(()),
        }
    }
}

impl Shared {
    fn new(shared: Weak<Self>, services: Vec<Arc<dyn Service>>, options: ServerOptions) -> Self {
        let me = fresh_instance();
        Self {
            calls: Mutex::default(),
            batch: Batch::new(shared),
            me,
            opener: Opener::new(me),
            pace: Pace::new(options.first_poll),
            options,
            clock: Clock::start(),
            runtime: Handle::current(),
            services,
            machine: OnceLock::new(),
            transport: OnceLock::new(),
            alarm: Alarm::new(),
            room: Arc::default(),
            room_wanted: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            quiet: Notify::new(),
            commits: Arc::default(),
            hello: Hello::default(),
            seals: OnceLock::new(),
            broken: OnceLock::new(),
            over: CancellationToken::new(),
        }
    }

    pub(super) const fn hello(&self) -> &Hello {
        &self.hello
    }

    pub(super) const fn me(&self) -> InstanceId {
        self.me
    }

    pub(super) fn service(&self, index: usize) -> Option<&Arc<dyn Service>> {
        self.services.get(index)
    }

    /// Drives the machine: `event`, then whatever follows from it. `None` before the machine is.
    pub(super) fn with<R>(
        &self,
        event: impl FnOnce(&mut ServerMachine<Context>, Time) -> R,
    ) -> Option<R> {
        let transport = self.transport.get()?;
        let mut machine = self.machine.get()?.lock();
        let now = self.clock.now();
        let result = event(&mut machine, now);
        let refused = flush(&mut *machine, &**transport, now);
        self.alarm.set(machine.next_timeout());
        self.commits.look(&machine);
        let room = self.room_wanted.load(Ordering::Acquire)
            && machine.has_room()
            && self.room_wanted.swap(false, Ordering::AcqRel);
        let ending = machine.is_ending();
        // The next one follows when this one is open or is not.
        let open = machine.poll_open();
        let reads = machine.has_reads() && !self.reading.swap(true, Ordering::AcqRel);
        let ripe = machine.take_ripe();
        let cancels: Vec<_> = std::iter::from_fn(|| machine.poll_cancel()).collect();
        drop(machine);
        cancels.iter().for_each(Context::cancel);
        if let Some((service, topic)) = open {
            self.open_topic(service, topic);
        }
        if reads {
            self.read();
        }
        if let Some((service, status)) = refused {
            self.hello.refused(service, status);
        }
        if room {
            self.room.notify_waiters();
        }
        if ending {
            self.quiet.notify_waiters();
        }
        if ripe {
            self.run_soon();
        }
        Some(result)
    }

    /// Runs calls that may run now. As a task: this may be a delivery report's thread, inside of a
    /// run, or a thread of the user's. When the runtime is shutting down this does nothing.
    pub(super) fn run_soon(&self) {
        // A server that is dropped meanwhile is gone: one turn after the other must not keep it.
        let batch = Arc::clone(&self.batch);
        self.runtime.spawn(async move {
            if let Some(shared) = batch.shared() {
                shared.step(|_, _| {});
            }
        });
    }

    fn ring(&self) {
        self.with(|machine, now| {
            self.batch.fetch(machine, now);
            machine.handle_timeout(now);
        });
    }

    /// The transport is beyond repair.
    pub(super) fn broke(&self, status: Status) {
        self.broken.get_or_init(|| status.clone());
        self.over.cancel();
        self.hello.close(status);
    }

    /// Rung once when there is room for more calls, and when there is no server any more.
    pub(super) fn want_room(&self) -> &Arc<Notify> {
        self.room_wanted.store(true, Ordering::Release);
        &self.room
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) const fn options(&self) -> &ServerOptions {
        &self.options
    }

    pub(super) fn transport(&self) -> Option<&Arc<dyn ServerTransport>> {
        self.transport.get()
    }

    pub(super) fn is_full(&self) -> bool {
        self.machine.get().is_some_and(|machine| machine.lock().is_full())
    }

    pub(super) fn has_room(&self) -> bool {
        self.machine.get().is_none_or(|machine| machine.lock().has_room())
    }

    /// Waits until nothing of these partitions runs or has its reply under way, at most so long.
    async fn quiet(&self, partitions: &[PartitionId], patience: Duration) {
        self.until(patience, |machine| machine.is_released(partitions)).await;
    }

    /// Waits until what is on its way out has come so far, at most so long.
    async fn until(&self, patience: Duration, so_far: impl Fn(&ServerMachine<Context>) -> bool) {
        let until = Instant::now() + patience;
        loop {
            let progress = self.quiet.notified();
            let done = self.machine.get().is_none_or(|machine| so_far(&machine.lock()));
            if done || tokio::time::timeout_at(until, progress).await.is_err() {
                return;
            }
        }
    }

    pub(super) async fn released(
        self: Arc<Self>,
        partitions: Vec<PartitionId>,
    ) -> Vec<CommitPoint> {
        self.quiet(&partitions, self.options.release_timeout).await;
        self.with(|machine, now| machine.cut_off(&partitions, now));
        // A server that ends may have cut them off before.
        self.until(CUT_OFF, |machine| machine.is_cut_off(&partitions)).await;
        self.with(|machine, now| machine.take_released(&partitions, now)).unwrap_or_default()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("instance", &self.me).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody would hear their answers.
        if let Some(machine) = self.machine.get_mut() {
            machine.get_mut().cancels().for_each(Context::cancel);
        }
        self.alarm.stop();
        self.commits.stop();
        self.room.notify_waiters();
    }
}
