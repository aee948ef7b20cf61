//! Driver: waits for the broker to have something that was put on its way, and forgets it if nobody
//! waits. Cancels are such things where a server need not be there, or the call may have been
//! moved.
//!
//! from: [`super::dead`], [`super::tickets`], futures of calls that are dropped
//! to: [`super::machine`]

use std::{
    future::poll_fn,
    task::{Poll, Waker},
};

use super::{
    call::Client, channel::ServiceChannel, machine::ClientMachine, pending::Ending, tickets::within,
};
use crate::{
    error::SetupError,
    ids::{CallId, InstanceId},
    status::{Code, Status},
    time::Time,
    transport::Topic,
    wire::frame::Cancel,
};

impl Client {
    /// Nobody waits for this call any more.
    pub(super) fn give_up(&self, id: CallId) {
        let gone = self.service().with(|machine, _| (machine.is_delayed(id), machine.cancel(id)));
        if let Some((true, _)) = gone {
            self.give_up_delayed(id);
        }
    }

    /// It may have been moved, and the cancel that follows it does not find it then.
    #[cold]
    fn give_up_delayed(&self, call: CallId) {
        let Some(runtime) = self.service().runtime() else { return };
        // The channel stays for this, but no longer than a call takes.
        let client = self.clone();
        runtime.spawn(async move {
            let (service, caller) = (client.service(), client.channel().instance());
            if let Err(status) = within(service, service.cancel_anywhere(caller, call)).await {
                tracing::debug!(target: "krpc::client", %status, "a delayed call is not cancelled");
            }
        });
    }
}

impl ServiceChannel {
    /// Puts a cancel where all servers read it.
    pub(super) async fn cancel_anywhere(
        &self,
        caller: InstanceId,
        call: CallId,
    ) -> Result<(), Status> {
        let opened = self.transport()?.open_topic(self.index(), Topic::Cancels).await;
        let partitions = opened.map_err(|error| error.to_status())?;
        let to = (Topic::Cancels, self.spread(partitions), caller);
        let (wait, frame) = (self.options().timeout, Cancel { call });
        self.stored(|machine, waiter, now| {
            machine.post(to, |out| frame.encode(out), wait, waiter, now)
        })
        .await
    }

    /// Resolves when the broker has what was started.
    pub(super) async fn stored(
        &self,
        start: impl FnOnce(&mut ClientMachine<Waker>, Waker, Time) -> Result<CallId, Status>,
    ) -> Result<(), Status> {
        let waiter = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let started = self.with(|machine, now| start(machine, waiter, now));
        let id = started.unwrap_or_else(|| Err(SetupError::Closed.to_status()))?;
        let under_way = UnderWay { service: self, id };
        let end = poll_fn(|cx| match under_way.service.poll_call(id, cx.waker()) {
            Some(completion) => Poll::Ready(completion.ending),
            None => Poll::Pending,
        });
        match end.await {
            Ending::Stored(_) => Ok(()),
            Ending::Status(status) => Err(*status),
            Ending::Ok(..) | Ending::App(..) => {
                Err(Status::new(Code::Internal, "an answer where none is possible"))
            }
        }
    }
}

/// Forgets what was started if nobody waits for its end.
struct UnderWay<'a> {
    service: &'a ServiceChannel,
    id: CallId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.service.with(|machine, _| machine.cancel(self.id));
    }
}
