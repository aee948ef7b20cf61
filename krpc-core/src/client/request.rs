//! What a call is before it is sent: the encoded arguments, the options, and its deadline.
//!
//! from: [`super::call`] · to: [`super::channel`] and [`super::machine`]

use std::{
    sync::Arc,
    task::{Context as TaskContext, Waker},
    time::{Duration, SystemTime},
};

use super::{
    call::Client, channel::ServiceChannel, machine::ClientMachine, placing::StartCall,
    retry::RetryPolicy,
};
use crate::{
    codec::ValueCodec,
    deadline::MAX_TIMEOUT,
    error::SetupError,
    ids::CallId,
    metadata::Metadata,
    policy::Policy,
    server::service::MethodDescriptor,
    status::{Code, Status},
    time::Time,
    wire::{MAX_IDEMPOTENCY_KEY_BYTES, MAX_KEY_BYTES, frame::Terms, packet::Routes},
};

pub(super) struct Request {
    pub(super) client: Client,
    pub(super) callee: Callee,
    /// What the caller set.
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Time>,
    pub(super) metadata: Metadata,
    pub(super) codec: ValueCodec,
    pub(super) value: Vec<u8>,
    /// The first mistake made in building the call; reported when it is awaited.
    pub(super) fault: Option<Box<Status>>,
    /// Whether it ends when the broker has it.
    pub(super) queued: bool,
    /// What its server is to keep to; absent in nearly every call, and small then.
    pub(super) terms: Option<Box<Terms>>,
    /// When the caller wants it sent again, or executed; as rare.
    pub(super) wishes: Option<Box<Wishes>>,
}

/// What is called.
pub(super) enum Callee {
    Method(&'static MethodDescriptor),
    /// What every service answers by itself, by its path.
    Builtin(Box<str>),
}

/// What the caller of one call wants instead of what is usual.
#[derive(Default)]
pub(super) struct Wishes {
    policy: Option<RetryPolicy>,
    hedge: Option<Duration>,
    delay: Option<Delay>,
}

/// When a call is to be executed.
#[derive(Clone, Copy)]
pub(super) enum Delay {
    /// So long after it is awaited.
    After(Duration),
    /// When the wall clock shows this.
    At(SystemTime),
    /// As it was fixed when it was awaited: at this moment, which was still to come.
    Due(Time),
}

/// Clocks count whole microseconds, and differences of two readings are off by as much as this.
const TICKS: Duration = Duration::from_micros(2);

impl Callee {
    #[inline]
    const fn method(&self) -> Option<&'static MethodDescriptor> {
        match self {
            Self::Method(method) => Some(method),
            Self::Builtin(_) => None,
        }
    }

    #[inline]
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Method(method) => method.path,
            Self::Builtin(path) => path,
        }
    }
}

impl Request {
    #[inline]
    pub(super) fn new(
        client: Client,
        callee: Callee,
        (codec, value): (ValueCodec, Vec<u8>),
        fault: Option<Box<Status>>,
    ) -> Self {
        let queued = callee.method().is_some_and(|method| method.policy.one_way);
        // No route: no answer is wanted.
        let no_answer = || Terms { answer: Some(Routes::new()), ..Terms::default() };
        Self {
            client,
            callee,
            timeout: None,
            deadline: None,
            metadata: Metadata::new(),
            codec,
            value,
            fault,
            queued,
            terms: queued.then(|| Box::new(no_answer())),
            wishes: None,
        }
    }

    fn method(&self) -> Option<&'static MethodDescriptor> {
        self.callee.method()
    }

    /// `service/method`.
    pub(super) fn path(&self) -> &str {
        self.callee.path()
    }

    /// What the method's options promise.
    fn promises(&self) -> &'static Policy {
        self.method().map_or(&Policy::PLAIN, |method| method.policy)
    }

    /// Whether sending it twice is as good as once.
    fn idempotent(&self) -> bool {
        let has_key = || self.terms.as_ref().is_some_and(|it| it.idempotency_key.is_some());
        self.method().is_none_or(|method| method.idempotent) || has_key()
    }

    /// From here on it ends when the broker has it, and its answer goes this way.
    pub(super) fn queue(&mut self, answer: Routes) {
        self.queued = true;
        self.terms.get_or_insert_default().answer = Some(answer);
    }

    /// The same, for its answer to be fetched; the way is known when it is sent.
    pub(super) fn enqueue(&mut self) {
        if self.method().is_none() {
            return self
                .refuse(format!("{} is answered at once, so it has no ticket", self.path()));
        }
        self.queue(Routes::new());
    }

    pub(super) fn set_key(&mut self, key: Vec<u8>) {
        if self.method().is_none() {
            return self
                .refuse(format!("{} keeps no order, so its calls have no key", self.path()));
        }
        self.terms.get_or_insert_default().key = Some(key.into());
    }

    pub(super) fn set_idempotency_key(&mut self, key: String) {
        if self.promises().at_most_once {
            let path = self.path();
            return self.refuse(format!("{path} is executed once at most, with or without a key"));
        }
        self.terms.get_or_insert_default().idempotency_key = Some(key.into());
    }

    pub(super) fn set_retry(&mut self, policy: RetryPolicy) {
        if let Some(mistake) = policy.mistake() {
            return self.refuse(mistake.to_owned());
        }
        self.wishes.get_or_insert_default().policy = Some(policy);
    }

    pub(super) fn set_hedge(&mut self, after: Duration) {
        self.wishes.get_or_insert_default().hedge = Some(after);
    }

    pub(super) fn set_delay(&mut self, delay: Delay) {
        let path = self.path();
        if self.method().is_none() {
            return self.refuse(format!("{path} is answered at once, so it cannot be delayed"));
        }
        if self.promises().at_most_once {
            return self.refuse(format!(
                "{path} is executed once at most, so it cannot be delayed: on its way from where \
                 it waits it may be written twice"
            ));
        }
        self.wishes.get_or_insert_default().delay = Some(delay);
    }

    /// What keeps it from being sent, whatever the state of things.
    #[inline]
    pub(super) fn mistake(&mut self) -> Option<Status> {
        let plain = self.terms.is_none() && self.wishes.is_none() && self.fault.is_none();
        if plain { None } else { self.find_mistake() }
    }

    #[cold]
    fn find_mistake(&mut self) -> Option<Status> {
        let mistake = self.repeats_mistake().or_else(|| self.keys_mistake());
        if let Some(message) = mistake.or_else(|| self.fix_due()) {
            self.refuse(message);
        }
        self.fault.take().map(|status| *status)
    }

    /// Why the call cannot be repeated as its caller wants.
    fn repeats_mistake(&self) -> Option<String> {
        let wishes = self.wishes.as_ref()?;
        let hedged = wishes.hedge.is_some();
        let retried = wishes.policy.is_some_and(|policy| policy.repeats());
        let has_key = self.terms.as_ref().is_some_and(|terms| terms.key.is_some());
        let what = if hedged { "hedged" } else { "retried" };
        let message = match () {
            () if !hedged && !retried => return None,
            () if self.promises().at_most_once => {
                return Some(format!(
                    "{} is executed once at most, so it cannot be {what}",
                    self.path()
                ));
            }
            () if !self.idempotent() => {
                return Some(format!(
                    "{} is not `#[rpc(idempotent)]` and the call has no idempotency key, so it \
                     cannot be {what}",
                    self.path()
                ));
            }
            () if self.queued => {
                "a call that ends when the broker has it is repeated by its server, if at all"
            }
            () if hedged && wishes.delay.is_some() => {
                "a call that is delayed waits where no server answers it, so it cannot be hedged"
            }
            () if hedged && has_key => "a call with a key has one server, so it cannot be hedged",
            () => return None,
        };
        Some(message.to_owned())
    }

    fn keys_mistake(&self) -> Option<String> {
        let terms = self.terms.as_ref()?;
        let key = terms.key.as_ref().map(|key| ("key", key.len(), MAX_KEY_BYTES));
        let once = terms.idempotency_key.as_ref();
        let once = once.map(|key| ("idempotency key", key.len(), MAX_IDEMPOTENCY_KEY_BYTES));
        let wrong = |(_, len, max): &(&str, usize, usize)| !(1..=*max).contains(len);
        let (what, len, max) = key.into_iter().chain(once).find(wrong)?;
        Some(format!("the {what} of a call has {len} bytes; 1 to {max} travel"))
    }

    /// Fixes when it is due, and so its deadline, if it is delayed and this was not done before.
    /// Why that cannot be, if so.
    fn fix_due(&mut self) -> Option<String> {
        let delay = self.wishes.as_ref()?.delay?;
        let clock = self.client.service().clock();
        let now = clock.now();
        let due = match delay {
            Delay::Due(_) => return None,
            Delay::After(after) => now + after,
            Delay::At(wall) => clock.moment(wall),
        };
        let (wait, left) = (self.wait(), due.saturating_since(now));
        // What is due by now is not delayed.
        let fixed = (!left.is_zero()).then_some(due + TICKS);
        self.wishes.as_mut()?.delay = fixed.map(Delay::Due);
        let due = fixed?;
        self.terms.get_or_insert_default();
        let lives = if self.queued { self.life() } else { wait };
        if left.saturating_add(lives) > MAX_TIMEOUT {
            let (days, path) = (MAX_TIMEOUT.as_secs() / (24 * 60 * 60), self.path());
            return Some(format!(
                "{path} is delayed by {left:?} and may take {lives:?} then; together this can be \
                 {days} days"
            ));
        }
        if !self.queued {
            // Without any time it fails at once, as calls do that are not delayed.
            self.deadline = Some(if wait.is_zero() { now } else { due + wait });
        }
        None
    }

    /// When it is to be executed, if it is delayed: on this process's time line.
    pub(super) fn due(&self) -> Option<Time> {
        match self.wishes.as_ref()?.delay? {
            Delay::Due(at) => Some(at),
            Delay::After(_) | Delay::At(_) => None,
        }
    }

    /// The terms as they are sent now.
    fn terms(&self, machine: &ClientMachine<Waker>, now: Time) -> Option<Box<Terms>> {
        let mut terms = self.terms.clone()?;
        terms.due = self.due().map(|at| machine.due(at, now));
        Some(terms)
    }

    /// Whether it may be sent more than once: then it is kept until it ends.
    pub(super) fn may_repeat(&self) -> bool {
        self.idempotent() && (self.policy().repeats() || self.hedge().is_some())
    }

    /// Its own policy, or the channel's. A call with a key is not repeated unless its caller says
    /// so, for it would come behind those that followed it; one that is queued never.
    pub(super) fn policy(&self) -> RetryPolicy {
        let own = self.wishes.as_ref().and_then(|wishes| wishes.policy);
        own.unwrap_or_else(|| match self.terms.as_ref() {
            Some(terms) if self.queued || terms.key.is_some() => RetryPolicy::none(),
            _ => self.client.service().options().retry,
        })
    }

    /// After how long without an answer it is sent once more.
    pub(super) fn hedge(&self) -> Option<Duration> {
        self.wishes.as_ref().and_then(|wishes| wishes.hedge)
    }

    fn refuse(&mut self, message: String) {
        self.fault.get_or_insert_with(|| Box::new(Status::new(Code::InvalidArgument, message)));
    }

    /// Until when its caller waits. As it was fixed when the call was first polled, for opening the
    /// service counts, or it is delayed; else from now on.
    #[inline]
    pub(super) fn deadline(&self, now: Time) -> Time {
        self.deadline.unwrap_or_else(|| now + self.wait())
    }

    /// When it is too late to execute it, if it is queued: as much later as it lives longer, from
    /// when it is due.
    pub(super) fn expires(&self, now: Time) -> Time {
        match self.due() {
            Some(due) => due + self.life(),
            None => self.deadline(now) + (self.life() - self.wait()),
        }
    }

    #[inline]
    fn wait(&self) -> Duration {
        let options = self.client.service().options();
        if self.queued {
            return self.life().min(options.timeout);
        }
        let usual = self.timeout.or_else(|| self.method().and_then(|method| method.timeout));
        usual.unwrap_or(options.timeout).min(MAX_TIMEOUT)
    }

    /// How long a queued call lives. Its method's timeout bounds an execution, which is its
    /// server's business.
    fn life(&self) -> Duration {
        let queue_timeout = self.client.service().options().queue_timeout;
        self.timeout.unwrap_or(queue_timeout).min(MAX_TIMEOUT)
    }
}

/// Waits for the service to open, at most as long as the call may take.
pub(super) async fn open(service: Arc<ServiceChannel>, deadline: Time) -> Result<(), Status> {
    let left = deadline.saturating_since(service.clock().now());
    match tokio::time::timeout(left, service.ready()).await {
        Ok(opened) => opened.map_err(|error| error.to_status()),
        Err(_) => {
            let message = "the service could not be opened before the call's deadline";
            Err(Status::new(Code::Unavailable, message))
        }
    }
}

pub(super) fn no_time() -> Status {
    Status::new(Code::DeadlineExceeded, "no time was left to send the call")
}

/// Sends it; `beside` the one that was sent before and waits, to another server then.
pub(super) fn start(
    request: &Request,
    beside: Option<CallId>,
    cx: &TaskContext<'_>,
) -> Result<CallId, Status> {
    let started = request.client.service().with(|machine, now| {
        let wait = request.deadline(now).saturating_since(now);
        if wait.is_zero() {
            return Err(no_time());
        }
        let (timeout, receipt) = match request.queued {
            false => (wait, None),
            true => (request.expires(now).saturating_since(now), Some(wait)),
        };
        let call = StartCall {
            path: request.path(),
            fingerprint: request.method().map_or(0, |method| method.fingerprint),
            codec: request.codec,
            metadata: &request.metadata,
            value: &request.value,
            terms: request.terms(machine, now),
            timeout,
            receipt,
            at_most_once: request.promises().at_most_once,
        };
        match beside {
            None => machine.start(call, cx.waker().clone(), now),
            Some(first) => machine.start_beside(first, call, cx.waker().clone(), now),
        }
    });
    started.unwrap_or_else(|| Err(SetupError::Closed.to_status()))
}

#[cfg(test)]
mod tests;
