//! What a call is before it is sent: the encoded arguments, the options, and its deadline.
//!
//! from: [`super::call`] · to: [`super::channel`] and [`super::machine`]

use std::{borrow::Cow, sync::Arc, task::Context as TaskContext, time::Duration};

use super::{call::Client, channel::ServiceChannel, machine::StartCall};
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
}

impl Request {
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

pub(super) fn start(request: &Request, cx: &TaskContext<'_>) -> Result<CallId, Status> {
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
        machine.start(call, cx.waker().clone(), now)
    });
    started.unwrap_or_else(|| Err(SetupError::Closed.to_status()))
}
