//! What a call is before it is sent: the encoded arguments, the options, and its deadline.
//!
//! from: [`super::call`] · to: [`super::channel`] and [`super::machine`]

use std::{borrow::Cow, sync::Arc, task::Context as TaskContext, time::Duration};

use super::{call::Client, channel::ServiceChannel, machine::StartCall, retry::RetryPolicy};
use crate::{
    codec::ValueCodec,
    deadline::MAX_TIMEOUT,
    error::SetupError,
    ids::CallId,
    metadata::Metadata,
    status::{Code, Status},
    time::Time,
};

pub(super) struct Request {
    pub(super) client: Client,
    pub(super) path: Cow<'static, str>,
    pub(super) fingerprint: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Time>,
    pub(super) metadata: Metadata,
    pub(super) codec: ValueCodec,
    pub(super) value: Vec<u8>,
    /// The first mistake made in building the call; reported when it is awaited.
    pub(super) fault: Option<Box<Status>>,
    /// Whether executing it twice is as good as once.
    pub(super) idempotent: bool,
    /// What the caller wants of its repeats; absent in nearly every call, and small then.
    pub(super) repeats: Option<Box<Repeats>>,
}

/// What the caller of one call wants instead of what the channel does.
#[derive(Default)]
pub(super) struct Repeats {
    policy: Option<RetryPolicy>,
    hedge: Option<Duration>,
}

impl Request {
    pub(super) fn set_retry(&mut self, policy: RetryPolicy) {
        if let Some(mistake) = policy.mistake() {
            return self.refuse(mistake.to_owned());
        }
        if policy.repeats() && !self.idempotent {
            return self.refuse(self.once("retried"));
        }
        self.repeats.get_or_insert_default().policy = Some(policy);
    }

    pub(super) fn set_hedge(&mut self, after: Duration) {
        if !self.idempotent {
            return self.refuse(self.once("hedged"));
        }
        self.repeats.get_or_insert_default().hedge = Some(after);
    }

    /// Whether it may be sent more than once: then it is kept until it ends.
    pub(super) fn may_repeat(&self) -> bool {
        self.idempotent && (self.policy().repeats() || self.hedge().is_some())
    }

    /// Its own policy, or the channel's.
    pub(super) fn policy(&self) -> RetryPolicy {
        let own = self.repeats.as_ref().and_then(|repeats| repeats.policy);
        own.unwrap_or_else(|| self.client.service().options().retry)
    }

    /// After how long without an answer it is sent once more.
    pub(super) fn hedge(&self) -> Option<Duration> {
        self.repeats.as_ref().and_then(|repeats| repeats.hedge)
    }

    fn once(&self, what: &str) -> String {
        format!("{} is not `#[rpc(idempotent)]`, so its calls cannot be {what}", self.path)
    }

    fn refuse(&mut self, message: String) {
        self.fault.get_or_insert_with(|| Box::new(Status::new(Code::InvalidArgument, message)));
    }

    /// As it was fixed when the call was first polled, for opening the service counts; else from
    /// now on.
    pub(super) fn deadline(&self, now: Time) -> Time {
        self.deadline.unwrap_or_else(|| {
            let options = self.client.service().options();
            now + self.timeout.unwrap_or(options.timeout).min(MAX_TIMEOUT)
        })
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
        let timeout = request.deadline(now).saturating_since(now);
        if timeout.is_zero() {
            return Err(no_time());
        }
        let call = StartCall {
            path: &request.path,
            fingerprint: request.fingerprint,
            codec: request.codec,
            metadata: &request.metadata,
            value: &request.value,
            timeout,
        };
        match beside {
            None => machine.start(call, cx.waker().clone(), now),
            Some(first) => machine.start_beside(first, call, cx.waker().clone(), now),
        }
    });
    started.unwrap_or_else(|| Err(SetupError::Closed.to_status()))
}
