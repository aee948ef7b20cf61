//! Driver: the first packets of a client or a server, before anything depends on them.
//!
//! Their delivery proves the right to write, and teaches the distance to the broker's clock
//! before any call's deadline is stated or judged by it.
//!
//! from: [`crate::client::channel`], [`crate::server::driver`] when they start
//! to: their machines, whose delivery reports come back to [`Hello::heard`]

#![expect(clippy::disallowed_methods, reason = "a driver: time enters here")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    error::SetupError,
    status::{Code, Status},
};

/// Packets at the start, at most, to learn the distance to the broker's clock.
const HELLOS: usize = 10;

/// How well the broker's clock is to be known before the first call.
const CLOCK_UNCERTAINTY: Duration = Duration::from_millis(10);

/// Waits for the reports of the first packets.
#[derive(Debug, Default)]
pub(crate) struct Hello {
    heard: Notify,
    fault: Mutex<Option<Status>>,
    over: AtomicBool,
}

/// The machine that says hello, as seen from here.
pub(crate) trait Greeter {
    /// What it writes to, for messages.
    const TOPIC: &str;

    /// Puts the first packet, or the next, on its way.
    fn greet(&self);

    /// Whether every packet was reported.
    fn is_flushed(&self) -> bool;

    /// How well the broker's clock is known; `None` if not at all.
    fn clock_uncertainty(&self) -> Option<Duration>;
}

impl Hello {
    /// The broker answered for a packet, or never will: a start that waits for it goes on.
    pub(crate) fn heard(&self, fault: Option<Status>) {
        if !self.over.load(Ordering::Acquire) {
            if fault.is_some() {
                *self.fault.lock() = fault;
            }
            self.heard.notify_one();
        }
    }

    /// Says hello until the broker has it and its clock is known well. The first packet's report
    /// is late, for connections are made meanwhile; so a few may follow.
    pub(crate) async fn say<G: Greeter>(
        &self,
        greeter: &G,
        endpoint: &str,
        waited: Duration,
    ) -> Result<(), SetupError> {
        let until = Instant::now() + waited;
        for _ in 0..HELLOS {
            greeter.greet();
            let delivered = async {
                while self.fault.lock().is_none() && !greeter.is_flushed() {
                    self.heard.notified().await;
                }
            };
            if tokio::time::timeout_at(until, delivered).await.is_err() {
                let cause = format!("the first packet to {} was not delivered", G::TOPIC);
                let endpoint = endpoint.to_owned();
                return Err(SetupError::Unreachable { endpoint, waited, cause });
            }
            if let Some(status) = self.fault.lock().take() {
                return Err(unheard::<G>(&status));
            }
            // A topic that keeps the senders' times teaches nothing, however often it is asked.
            if greeter.clock_uncertainty().is_none_or(|doubt| doubt <= CLOCK_UNCERTAINTY) {
                break;
            }
        }
        self.over.store(true, Ordering::Release);
        Ok(())
    }
}

/// Why the first packet was not taken.
fn unheard<G: Greeter>(status: &Status) -> SetupError {
    if status.code() == Code::PermissionDenied {
        return SetupError::Unauthorized {
            action: "write".to_owned(),
            resource: G::TOPIC.to_owned(),
            cause: status.message().to_owned(),
        };
    }
    SetupError::Transport(status.to_string())
}
