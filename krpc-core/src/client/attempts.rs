//! A call that may be sent more than once: after a failure that may pass, or beside an attempt
//! that is not answered. It keeps the request until it ends; calls that are sent once do not.
//!
//! from: [`super::call`] · to: [`super::retry`] for what to do, [`super::channel`] to do it

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use smallvec::SmallVec;

use super::{
    channel::ServiceChannel,
    pending::{Completion, Ending},
    request::{Request, start},
    retry::{Due, Plan},
};
use crate::{
    clock::entropy,
    ids::CallId,
    time::{Micros, Time},
    transport::BoxFuture,
};

pub(super) struct Attempts {
    request: Request,
    plan: Plan,
    /// Those in flight: an attempt, and perhaps its hedge.
    flying: SmallVec<[CallId; 2]>,
    /// How often it was sent.
    sent: u32,
    timer: Option<(Time, BoxFuture<'static, ()>)>,
}

impl Attempts {
    /// Nothing is sent before the first poll.
    pub(super) fn new(mut request: Request) -> Self {
        let deadline = request.deadline(request.client.service().clock().now());
        request.deadline = Some(deadline);
        let plan = Plan::new(request.policy(), request.hedge(), deadline);
        Self { request, plan, flying: SmallVec::new(), sent: 0, timer: None }
    }

    /// How often it was sent so far.
    pub(super) const fn sent(&self) -> u32 {
        self.sent
    }

    pub(super) fn path(&self) -> &str {
        self.request.path()
    }

    /// The end of the call, once.
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Completion> {
        let service = Arc::clone(self.request.client.service());
        loop {
            if let Some(completion) = self.poll_ends(&service, cx) {
                return Poll::Ready(completion);
            }
            let Some(at) = self.plan.next_timeout() else { return Poll::Pending };
            let now = service.clock().now();
            if now < at {
                let timer = self.timer.take().filter(|(set, _)| *set == at);
                let timer = timer.unwrap_or_else(|| (at, service.wait_until(at)));
                let timer = &mut self.timer.insert(timer).1;
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.timer = None;
                // As calls in flight end then.
                if let Some(status) = service.closed() {
                    return Poll::Ready(Completion::failed(status.clone(), Micros(0)));
                }
            }
            // `now` was before the timer rang.
            let due = self.plan.poll_due(now.max(at), &mut service.budget());
            if let Some(completion) = due.and_then(|due| self.send(due, &service, cx)) {
                return Poll::Ready(completion);
            }
        }
    }

    /// The end of the call, if one of those in flight brought it.
    fn poll_ends(&mut self, service: &ServiceChannel, cx: &TaskContext<'_>) -> Option<Completion> {
        let mut index = 0;
        while let Some(id) = self.flying.get(index) {
            match service.poll_call(*id, cx.waker()) {
                None => index += 1,
                Some(completion) => {
                    self.flying.remove(index);
                    if let Some(completion) = self.ended(completion, service) {
                        return Some(completion);
                    }
                }
            }
        }
        None
    }

    /// Sends it. The end of the call, if that fails for good.
    fn send(
        &mut self,
        due: Due,
        service: &ServiceChannel,
        cx: &TaskContext<'_>,
    ) -> Option<Completion> {
        let beside = self.flying.first().copied().filter(|_| due == Due::Hedge);
        match start(&self.request, beside, cx) {
            Ok(id) => {
                self.flying.push(id);
                self.sent += 1;
                self.plan.handle_sent(due, service.clock().now());
                None
            }
            // The attempt beside it is as it was.
            Err(_) if due == Due::Hedge => None,
            Err(status) => self.ended(Completion::failed(status, Micros(0)), service),
        }
    }

    /// The end of an attempt, which is that of the call unless it is to be sent again.
    fn ended(&mut self, completion: Completion, service: &ServiceChannel) -> Option<Completion> {
        let Ending::Status(status) = &completion.ending else { return Some(completion) };
        let now = service.clock().now();
        let over = service.closed().is_some()
            || self.plan.handle_failed(status, entropy, now, &mut service.budget());
        over.then_some(completion)
    }
}

impl Drop for Attempts {
    /// The caller is gone, or one of two was quicker: the servers of the others are told.
    fn drop(&mut self) {
        for id in self.flying.drain(..) {
            self.request.client.give_up(id);
        }
    }
}
