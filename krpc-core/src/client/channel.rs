//! Driver: a channel to an endpoint, shared by the clients of many services.
//!
//! There is no task between a call and the producer: the caller's own task registers, packs and
//! produces in one go; a delivery report releases the next packet; the reader of replies
//! wakes the caller. One timer per service ends what is overdue.
//!
//! from: [`super::call`] and the transport's events · to: [`super::machine`], the transport

#![expect(clippy::disallowed_methods, reason = "a driver: time and tasks enter here")]

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::opening::Opening;
use super::{
    attach::Readers,
    dead::reader::Reader,
    enqueue::ResultsEnd,
    events::Events,
    machine::ClientMachine,
    pending::Completion,
    retry::{Budget, RetryCounts, RetryPolicy},
};
use crate::{
    alarm::Alarm,
    clock::{Clock, fresh_instance},
    error::SetupError,
    hello::Hello,
    ids::{CallId, InstanceId},
    sealing::{Opener, SealSettings, Sealing},
    status::{Code, Status},
    time::Time,
    transport::{BoxFuture, ClientTransport, Endpoint, flush},
    wire,
};

mod opening;

/// How a channel's calls behave.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The deadline of calls that set none, and whose method sets none.
    pub timeout: Duration,
    /// How long calls live that set no timeout and end when the broker has them.
    pub queue_timeout: Duration,
    /// Calls in flight at once per service; more are refused with `ResourceExhausted`.
    pub max_in_flight: usize,
    /// How long the first packets for a service may take before its opening fails.
    pub connect_timeout: Duration,
    /// Keep trying for ever instead, as long as the channel is there.
    pub keep_trying: bool,
    /// The largest packet, in bytes.
    pub max_packet_bytes: usize,
    /// When calls of idempotent methods are sent again that say nothing else.
    pub retry: RetryPolicy,
    /// The share of such calls that may be repeated, of each service: see [`Budget`].
    pub retry_budget: f64,
    /// How packets are sealed, if they are.
    pub seal: Option<Arc<dyn SealSettings>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            queue_timeout: Duration::from_secs(7 * 24 * 60 * 60),
            max_in_flight: 65_536,
            connect_timeout: Duration::from_secs(10),
            keep_trying: false,
            max_packet_bytes: wire::MAX_PACKET_BYTES,
            retry: RetryPolicy::new(),
            retry_budget: 0.1,
            seal: None,
        }
    }
}

/// A connection to an endpoint. Cheap to clone; closed when the last clone, client and call of it
/// are gone, or by [`Channel::close`].
///
/// It works as long as the Tokio runtime in which it was first used is there and driven; over Kafka
/// that must have I/O (`enable_all`). When that runtime ends, calls from others fail with
/// `Unavailable`.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    shared: Arc<Shared>,
    pub(super) services: RwLock<Vec<Arc<ServiceChannel>>>,
    /// Why there are no calls any more, once the channel is closed or broken.
    closed: OnceLock<Status>,
    /// What must live as long as the channel does, such as a server in this process.
    attached: OnceLock<Box<dyn Send + Sync>>,
}

struct Shared {
    me: InstanceId,
    endpoint: Arc<dyn Endpoint>,
    options: ClientOptions,
    clock: Clock,
    transport: OnceLock<Arc<dyn ClientTransport>>,
}

/// A channel's part for one service.
pub(crate) struct ServiceChannel {
    shared: Arc<Shared>,
    index: u16,
    name: String,
    machine: OnceLock<Mutex<ClientMachine<Waker>>>,
    /// Whether calls may start: the broker has heard of this client, and its clock is known.
    ready: AtomicBool,
    /// Whether records are to come that must be stored once at most, and in order.
    exact: AtomicBool,
    opening: Mutex<Option<Opening>>,
    pub(super) hello: Hello,
    closed: OnceLock<Status>,
    /// Tells calls that wait to be sent again of it.
    closing: CancellationToken,
    alarm: Arc<Alarm>,
    /// What its calls may be sent again, all together.
    budget: Mutex<Budget>,
    /// Reads its dead letters, when somebody asks for them.
    pub(super) letters: Reader,
    /// Where the timers of calls run that are polled outside of any runtime.
    runtime: OnceLock<Handle>,
    /// Where the answers of calls that are enqueued will be.
    pub(super) results: ResultsEnd,
    /// Reads them, when somebody comes for them.
    pub(super) readers: Readers,
    seal: OnceLock<Arc<dyn Sealing>>,
    opener: Opener,
}

/// What a channel's calls for one service are doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Calls that wait for an end.
    pub in_flight: usize,
    /// Entries in the table of calls: those, and ends that their callers have not looked at.
    pub occupied: usize,
    /// Packets sent since the channel's start; calls in flight at once share them.
    pub packets: u64,
    /// Calls that were sent again, or would have been.
    pub retries: RetryCounts,
    /// Records and frames that were dropped, by cause.
    pub dropped: Vec<(&'static str, u64)>,
}

impl Channel {
    /// A channel to an endpoint. Does not wait for the broker: the first call or
    /// [`Channel::open`] does.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn new(endpoint: Arc<dyn Endpoint>, options: ClientOptions) -> Result<Self, SetupError> {
        let shared = Arc::new(Shared {
            me: fresh_instance(),
            endpoint,
            options,
            clock: Clock::start(),
            transport: OnceLock::new(),
        });
        let inner = Arc::new(Inner {
            shared: Arc::clone(&shared),
            services: RwLock::default(),
            closed: OnceLock::new(),
            attached: OnceLock::new(),
        });
        let events = Arc::new(Events(Arc::downgrade(&inner)));
        let transport = shared.endpoint.client(events)?;
        shared.transport.get_or_init(|| transport);
        Ok(Self { inner })
    }

    /// Waits until the endpoint answers.
    ///
    /// # Errors
    /// Unreachable within the connect timeout.
    pub async fn reach(&self) -> Result<(), SetupError> {
        match self.inner.shared.transport.get() {
            Some(transport) => transport.reach().await,
            None => Err(SetupError::Closed),
        }
    }

    /// Makes a service usable now rather than at its first call: finds or creates its topics and
    /// fixes the place from which replies are read.
    ///
    /// # Errors
    /// Whatever keeps the broker from carrying the service, within the connect timeout.
    pub async fn open(&self, service: &str) -> Result<(), SetupError> {
        self.service(service).ready().await
    }

    /// This channel's instance, as servers see it in `cx.caller()`.
    pub fn instance(&self) -> InstanceId {
        self.inner.shared.me
    }

    /// What the calls of a service are doing; `None` if the channel never called it.
    pub fn stats(&self, service: &str) -> Option<ChannelStats> {
        let services = self.inner.services.read();
        let service = services.iter().find(|open| open.name == service)?;
        let machine = service.machine.get()?.lock();
        Some(ChannelStats {
            in_flight: machine.in_flight(),
            occupied: machine.occupied(),
            packets: machine.packets(),
            retries: service.budget().counts(),
            dropped: machine.dropped().iter().collect(),
        })
    }

    /// Ends every call in flight with `Cancelled`, gives what was sent a bounded time to leave,
    /// and disconnects. Later calls fail with `Unavailable`.
    pub async fn close(&self) {
        self.inner.close(&Status::new(Code::Cancelled, "the channel was closed"));
        if let Some(transport) = self.inner.shared.transport.get() {
            transport.close().await;
        }
    }

    /// Keeps something alive as long as the channel is.
    pub fn attach(&self, attached: Box<dyn Send + Sync>) {
        self.inner.attached.get_or_init(|| attached);
    }

    /// The channel's part for a service, made at the first asking.
    pub(crate) fn service(&self, name: &str) -> Arc<ServiceChannel> {
        let mut services = self.inner.services.write();
        if let Some(open) = services.iter().find(|open| open.name == name) {
            return Arc::clone(open);
        }
        let index = u16::try_from(services.len());
        let service = Arc::new(ServiceChannel {
            shared: Arc::clone(&self.inner.shared),
            index: index.unwrap_or(u16::MAX),
            name: name.to_owned(),
            machine: OnceLock::new(),
            ready: AtomicBool::new(false),
            exact: AtomicBool::new(false),
            opening: Mutex::default(),
            hello: Hello::default(),
            closed: OnceLock::new(),
            closing: CancellationToken::new(),
            alarm: Alarm::new(),
            budget: Mutex::new(Budget::new(self.inner.shared.options.retry_budget)),
            letters: Reader::default(),
            runtime: OnceLock::new(),
            results: ResultsEnd::default(),
            readers: Readers::default(),
            seal: OnceLock::new(),
            opener: Opener::new(self.inner.shared.me),
        });
        if let Some(status) = self.inner.closed.get() {
            service.close(status);
        }
        // Names may come from outside: the one too many is refused, and not remembered.
        match index {
            Ok(_) => services.push(Arc::clone(&service)),
            Err(_) => service.close(&Status::new(Code::ResourceExhausted, "too many services")),
        }
        service
    }
}

impl Shared {
    /// Spreads clients over partitions.
    fn seed(&self) -> u64 {
        let id = self.me.as_bytes();
        u64::from_le_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]])
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("endpoint", &self.inner.shared.endpoint.name())
            .field("instance", &self.inner.shared.me)
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn close(&self, status: &Status) {
        // Before the services are gone through: one that is added meanwhile sees it.
        self.closed.get_or_init(|| status.clone());
        for service in &*self.services.read() {
            service.close(status);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for service in self.services.get_mut() {
            service.end_opening();
        }
    }
}

impl ServiceChannel {
    pub(crate) fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    pub(crate) fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Drives the machine: `event`, then whatever follows from it. `None` before it is ready.
    pub(crate) fn with<R>(
        &self,
        event: impl FnOnce(&mut ClientMachine<Waker>, Time) -> R,
    ) -> Option<R> {
        let transport = self.shared.transport.get()?;
        let mut machine = self.machine.get()?.lock();
        let now = self.shared.clock.now();
        let result = event(&mut machine, now);
        let refused = flush(&mut *machine, &**transport, now);
        self.alarm.set(machine.next_timeout());
        // Woken outside the lock: a waker may run anything.
        let wakers = machine.take_wakes();
        drop(machine);
        wakers.into_iter().for_each(Waker::wake);
        if let Some((service, status)) = refused {
            self.hello.refused(service, status);
        }
        Some(result)
    }

    /// The end of a call, once. A look at the table, after which nothing is to be done.
    pub(crate) fn poll_call(&self, id: CallId, waiter: &Waker) -> Option<Completion> {
        self.machine.get()?.lock().poll_call(id, waiter)
    }

    /// Why no call can start any more: what those in flight were told.
    pub(crate) fn closed(&self) -> Option<&Status> {
        self.closed.get()
    }

    /// What calls may be sent again. Never held over anything that may wait.
    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock()
    }

    /// Until then, or until the channel is closed. Only calls that may be sent again wait so.
    pub(crate) fn wait_until(&self, at: Time) -> BoxFuture<'static, ()> {
        // Whoever polls the call need not be within a runtime.
        let runtime = Handle::try_current().ok().or_else(|| self.runtime().cloned());
        let _inside = runtime.as_ref().map(Handle::enter);
        let sleep = tokio::time::sleep_until(self.shared.clock.instant(at).into());
        let closed = self.closing.clone().cancelled_owned();
        Box::pin(async move {
            tokio::select! {
                () = sleep => {}
                () = closed => {}
            }
        })
    }

    /// Once the service was opened, the runtime in which it was.
    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// Polls this within that runtime: whoever polls a call need not be within any, and the
    /// transport may need one.
    pub(super) async fn inside<R>(&self, what: impl Future<Output = R>) -> R {
        let mut what = pin!(what);
        poll_fn(|cx| {
            let _inside = self.runtime().map(Handle::enter);
            what.as_mut().poll(cx)
        })
        .await
    }

    /// The service's index within its channel.
    pub(super) const fn index(&self) -> u16 {
        self.index
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn transport(&self) -> Result<&dyn ClientTransport, Status> {
        let transport = self.shared.transport.get().map(|transport| &**transport);
        transport.ok_or_else(|| SetupError::Closed.to_status())
    }

    /// One of so many, for this client: others have others.
    pub(super) fn spread(&self, partitions: u32) -> u32 {
        u32::try_from(self.shared.seed() % u64::from(partitions.max(1))).unwrap_or_default()
    }

    /// Calls with a key are to come, or such as must not be executed twice. Said before the service
    /// opens, their first one does not wait for what they need.
    pub(crate) fn expect_exact(&self) {
        if !self.exact.swap(true, Ordering::AcqRel) && self.is_ready() {
            self.prepare_exact();
        }
    }

    fn prepare_exact(&self) {
        if self.exact.load(Ordering::Acquire)
            && let Ok(transport) = self.transport()
        {
            transport.prepare_exact();
        }
    }

    fn ring(&self) {
        self.with(ClientMachine::handle_timeout);
    }

    fn close(&self, status: &Status) {
        let later = Status::new(Code::Unavailable, status.message());
        self.closed.get_or_init(|| status.clone());
        self.end_opening();
        self.with(|machine, now| {
            machine.close(status, now);
            machine.refuse(later);
        });
        self.closing.cancel();
    }
}

impl Drop for ServiceChannel {
    fn drop(&mut self) {
        self.alarm.stop();
    }
}

impl fmt::Debug for ServiceChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceChannel").field("name", &self.name).finish_non_exhaustive()
    }
}
