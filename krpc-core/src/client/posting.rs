//! Waits for the broker to have something that was put on its way, and forgets it if nobody waits.
//!
//! from: [`super::dead`] and [`super::tickets`] · to: [`super::machine`]

use std::{
    future::poll_fn,
    task::{Poll, Waker},
};

use super::{channel::ServiceChannel, machine::ClientMachine, pending::Ending};
use crate::{
    error::SetupError,
    ids::CallId,
    status::{Code, Status},
    time::Time,
};

impl ServiceChannel {
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
            Ending::Status(status) => Err(status),
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
