//! Driver: opens a service at its first use, in a task of its own. Callers wait for it as long as
//! they may; a broker that is farther away than that is reached nevertheless.
//!
//! from: [`crate::client::call`], before the first call
//! to: the transport, then [`crate::hello`]

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    task::Waker,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

use super::ServiceChannel;
use crate::{
    client::machine::{ClientMachine, ClientSetup},
    clock::fresh_nonce,
    error::SetupError,
    hello::Greeter,
    inbox::DropCause,
    sealing::{Role, Sealer},
    server::service::check_service_name,
    status::{Code, Status},
    transport::{Record, Topic},
};

/// An opening, for all who wait for it.
#[derive(Debug)]
pub(super) struct Opening {
    task: AbortHandle,
    outcome: watch::Receiver<Outcome>,
}

/// Held by the alarm's task, which ends before the service only with its runtime.
struct Ending(Weak<ServiceChannel>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(service) = self.0.upgrade() {
            service.outlive();
        }
    }
}

/// `None` before it is known.
type Outcome = Option<Result<(), SetupError>>;

impl Opening {
    /// Whether it is worth waiting for.
    fn holds(&self) -> bool {
        match &*self.outcome.borrow() {
            Some(opened) => opened.is_ok(),
            None => !self.task.is_finished(),
        }
    }
}

impl ServiceChannel {
    /// Whether calls can start without waiting.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Waits until the service is open. A failure is for those who wait; the next caller has it
    /// tried again.
    pub(crate) async fn ready(self: &Arc<Self>) -> Result<(), SetupError> {
        let mut outcome = self.opening()?;
        let outcome = outcome.wait_for(Option::is_some).await;
        // Without one the task was ended: by the channel, or with its runtime.
        outcome.ok().and_then(|known| known.clone()).unwrap_or(Err(SetupError::Closed))
    }

    /// The last opening if it holds, or a new one.
    fn opening(self: &Arc<Self>) -> Result<watch::Receiver<Outcome>, SetupError> {
        let mut last = self.opening.lock();
        // Under the lock, which the one who closes takes next.
        if self.closed.get().is_some() {
            return Err(SetupError::Closed);
        }
        if let Some(opening) = last.as_ref().filter(|opening| opening.holds()) {
            return Ok(opening.outcome.clone());
        }
        let (told, outcome) = watch::channel(None);
        // It keeps this part of the channel, not the channel, whose drop ends it.
        let service = Arc::clone(self);
        let task = tokio::spawn(async move {
            let opened = service.open().await;
            told.send_replace(Some(opened));
        });
        *last = Some(Opening { task: task.abort_handle(), outcome: outcome.clone() });
        Ok(outcome)
    }

    /// Nobody is going to call any more.
    pub(super) fn end_opening(&self) {
        let last = self.opening.lock().take();
        if let Some(opening) = last {
            opening.task.abort();
        }
    }

    async fn open(self: &Arc<Self>) -> Result<(), SetupError> {
        if self.machine.get().is_none() {
            let machine = self.prepare().await?;
            self.machine.get_or_init(|| machine);
            self.runtime.get_or_init(Handle::current);
            let (alarm, clock) = (Arc::clone(&self.alarm), self.shared.clock);
            let ending = Ending(Arc::downgrade(self));
            tokio::spawn(async move {
                alarm.run(clock, Weak::clone(&ending.0), Self::ring).await;
            });
        }
        self.prepare_exact();
        let options = self.options();
        let patience = (!options.keep_trying).then_some(options.connect_timeout);
        self.hello.say(&**self, &*self.shared.endpoint, patience).await?;
        let _opening = self.opening.lock();
        // Whoever closes this from here on finds the machine, and has it refuse calls.
        if self.closed.get().is_some() {
            return Err(SetupError::Closed);
        }
        self.ready.store(true, Ordering::Release);
        // Once more, for who expected it while this was under way.
        self.prepare_exact();
        Ok(())
    }

    /// Calls would have no deadlines any more.
    fn outlive(&self) {
        let name = &self.name;
        let message = format!("the runtime in which {name} was first used has ended");
        self.close(&Status::new(Code::Unavailable, message));
    }

    async fn prepare(&self) -> Result<Mutex<ClientMachine<Waker>>, SetupError> {
        check_service_name(&self.name)?;
        let transport = self.shared.transport.get().ok_or(SetupError::Closed)?;
        let seed = self.shared.seed();
        let sealer = self.seal().await?;
        let (topology, reply_partition) = transport.open(self.index, &self.name, seed).await?;
        let setup = ClientSetup {
            me: self.shared.me,
            service: self.index,
            topology,
            reply_partition,
            max_packet_bytes: self.shared.options.max_packet_bytes,
            max_in_flight: self.shared.options.max_in_flight,
            seed,
        };
        Ok(Mutex::new(ClientMachine::new(setup).with_sealer(sealer)))
    }

    /// Makes the service's seal, and what its packets are sealed with.
    async fn seal(&self) -> Result<Option<Sealer>, SetupError> {
        let Some(settings) = &self.options().seal else { return Ok(None) };
        let seal = settings.bind(&self.name, Role::Client, &*self.shared.endpoint).await?;
        // One of before may be there, of an opening that failed.
        let seal = Arc::clone(self.seal.get_or_init(|| seal));
        Ok(Some(Sealer::new([(self.index, seal)], fresh_nonce)))
    }

    /// Opens a record, if packets are sealed.
    pub(in crate::client) fn unseal(&self, record: &mut Record) -> Result<(), DropCause> {
        let Some(seal) = self.seal.get() else { return Ok(()) };
        self.opener.open(&**seal, record)
    }
}

impl Greeter for ServiceChannel {
    const TOPIC: Topic = Topic::Calls;

    fn service_name(&self, _: usize) -> &str {
        &self.name
    }

    fn greet(&self) {
        self.with(ClientMachine::greet);
        if let Some(transport) = self.shared.transport.get() {
            transport.hurry();
        }
    }

    fn is_flushed(&self) -> bool {
        self.machine.get().is_none_or(|machine| machine.lock().is_flushed())
    }

    fn clock_uncertainty(&self) -> Option<Duration> {
        self.with(|machine, now| machine.clock_uncertainty(now)).flatten()
    }
}
