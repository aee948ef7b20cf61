//! Driver: the first packets of a client or a server, before anything depends on them.
//!
//! Their delivery proves the right to write, and teaches the distance to the broker's clock
//! before any call's deadline is stated or judged by it.
//!
//! from: [`crate::client::channel`], [`crate::server::driver`] when they start
//! to: their machines, whose delivery reports come back to [`Hello::note`]

#![expect(clippy::disallowed_methods, reason = "a driver: time enters here")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    error::SetupError,
    status::{Code, Status},
    transport::{Delivery, Endpoint, Topic},
};

/// Packets at the start, at most, to learn the distance to the broker's clock.
const HELLOS: usize = 10;

/// How well the broker's clock is to be known before the first call.
const CLOCK_UNCERTAINTY: Duration = Duration::from_millis(10);

/// What is left of the doubt, in percent, if another packet was worth its round trip.
const WORTH_IT: u32 = 75;

/// How long after a packet that failed the next one leaves.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for the reports of the first packets. One that is still under way when a start is given up
/// counts for the next start.
#[derive(Debug, Default)]
pub(crate) struct Hello {
    news: Notify,
    heard: Mutex<Heard>,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct Heard {
    /// Whether the broker has a packet of the last hello.
    stored: bool,
    /// What became of a packet of the last hello, and of which service it was.
    fault: Option<(usize, Status)>,
    /// The same of an earlier one, for the message when time is up.
    setback: Option<Status>,
    /// Why there will be no report any more.
    closed: Option<Status>,
}

/// Why the broker did not hear a hello.
enum Unheard {
    Closed(Status),
    /// What became of a packet of this service.
    Fault(usize, Status),
}

/// The machine that says hello, as seen from here.
pub(crate) trait Greeter {
    /// What it writes to.
    const TOPIC: Topic;

    /// The name of a service, by its index.
    fn service_name(&self, index: usize) -> &str;

    /// Puts the first packet, or the next, on its way.
    fn greet(&self);

    /// Whether every packet was reported.
    fn is_flushed(&self) -> bool;

    /// How well the broker's clock is known; `None` if not at all.
    fn clock_uncertainty(&self) -> Option<Duration>;
}

impl Hello {
    /// The fate of a service's packet. To be said before the machine hears of it, so that whoever
    /// finds the machine flushed knows of every fault; [`Hello::ring`] afterwards.
    pub(crate) fn note(&self, service: usize, delivery: &Delivery<'_>) {
        if self.is_over() {
            return;
        }
        let mut heard = self.heard.lock();
        match delivery {
            Delivery::Stored { .. } => heard.stored = true,
            Delivery::Failed { status, .. } => heard.fail(service, status.clone()),
        }
    }

    /// The machine knows what was noted: a start that waits for it looks again.
    pub(crate) fn ring(&self) {
        if !self.is_over() {
            self.news.notify_one();
        }
    }

    /// A service's packet was never sent, so no report of it will come.
    pub(crate) fn refused(&self, service: usize, status: Status) {
        if !self.is_over() {
            self.heard.lock().fail(service, status);
            self.ring();
        }
    }

    /// There will be no more reports: a start that waits for one ends.
    pub(crate) fn close(&self, status: Status) {
        self.heard.lock().closed = Some(status);
        self.ring();
    }

    /// Says hello until the broker has it and its clock is known well. The first packet's report
    /// is late, for connections are made meanwhile; so a few may follow, as long as they help.
    /// One at a time. Without `patience` it tries for ever.
    pub(crate) async fn say<G: Greeter>(
        &self,
        greeter: &G,
        endpoint: &dyn Endpoint,
        patience: Option<Duration>,
    ) -> Result<(), SetupError> {
        let saying = self.until_known(greeter);
        let said = match patience {
            None => saying.await,
            Some(waited) => match tokio::time::timeout(waited, saying).await {
                Ok(said) => said,
                Err(_) => {
                    let endpoint = endpoint.name().to_owned();
                    return Err(SetupError::Unreachable { endpoint, waited, cause: self.cause() });
                }
            },
        };
        said.map_err(|unheard| match unheard {
            Unheard::Closed(status) => SetupError::Transport(status.to_string()),
            Unheard::Fault(service, status) => {
                not_taken(endpoint.topic(greeter.service_name(service), G::TOPIC), &status)
            }
        })
    }

    async fn until_known<G: Greeter>(&self, greeter: &G) -> Result<(), Unheard> {
        self.heard.lock().begin();
        let (mut hellos, mut doubt, mut greeted) = (0, None, false);
        loop {
            while !greeter.is_flushed() && !self.heard.lock().is_final() {
                self.news.notified().await;
            }
            if self.heard.lock().end()? {
                hellos += 1;
                let before = std::mem::replace(&mut doubt, greeter.clock_uncertainty());
                if hellos >= HELLOS || !is_worth_another(before, doubt) {
                    break;
                }
            } else if greeted {
                tokio::time::sleep(PAUSE).await;
            }
            greeter.greet();
            greeted = true;
        }
        self.over.store(true, Ordering::Release);
        Ok(())
    }

    /// Why nothing was delivered, as far as it is known.
    fn cause(&self) -> String {
        let setback = self.heard.lock().setback.take();
        let setback = setback.map(|status| format!(": {status}"));
        format!("the first packet was not delivered{}", setback.unwrap_or_default())
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Heard {
    /// A start waits from now on. What became of a hello before is no answer to it.
    fn begin(&mut self) {
        self.fault = None;
        self.setback = None;
    }

    fn fail(&mut self, service: usize, status: Status) {
        if !self.is_final() {
            self.fault = Some((service, status));
        }
    }

    /// Whether no further report can change anything.
    fn is_final(&self) -> bool {
        self.closed.is_some() || self.fault.as_ref().is_some_and(|(_, it)| !it.is_retryable())
    }

    /// Whether the broker has the last hello, now that it was reported; it has none if that failed
    /// in a way that may pass, or before the first.
    fn end(&mut self) -> Result<bool, Unheard> {
        if let Some(status) = &self.closed {
            return Err(Unheard::Closed(status.clone()));
        }
        let stored = std::mem::take(&mut self.stored);
        match self.fault.take() {
            None => Ok(stored),
            Some((service, status)) if !status.is_retryable() => {
                Err(Unheard::Fault(service, status))
            }
            Some((_, status)) => {
                self.setback = Some(status);
                Ok(false)
            }
        }
    }
}

/// Whether another hello is worth its round trip, by how well the clock was known before the last
/// one and is by now.
fn is_worth_another(before: Option<Duration>, doubt: Option<Duration>) -> bool {
    // A topic that keeps the senders' times teaches nothing, however often it is asked.
    let Some(doubt) = doubt else { return false };
    let helped = before.is_none_or(|before| doubt * 100 <= before * WORTH_IT);
    helped && doubt > CLOCK_UNCERTAINTY
}

/// Why the first packet to a topic was not taken.
fn not_taken(topic: String, status: &Status) -> SetupError {
    match status.code() {
        Code::PermissionDenied => SetupError::Unauthorized {
            action: "write".to_owned(),
            resource: topic,
            cause: status.message().to_owned(),
        },
        _ => SetupError::Transport(format!("the first packet to {topic}: {status}")),
    }
}

#[cfg(test)]
mod tests;
