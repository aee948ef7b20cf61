//! Driver: makes the services' seals, and opens a topic that the machine asks for, in a task of its
//! own. One of cancels is then read from its start, one of delayed calls as the machine says.
//!
//! from: [`super`] · to: the transport, and back to [`crate::server::machine`]

use std::sync::{Arc, atomic::Ordering};

use super::Shared;
use crate::{
    clock::fresh_nonce,
    error::SetupError,
    ids::PartitionId,
    inbox::DropCause,
    sealing::{Role, Sealer},
    server::delays::Read,
    status::Status,
    transport::{Endpoint, Record, ServerTransport, Topic},
};

impl Shared {
    /// Makes the seal of each service, and what packets are sealed with.
    pub(super) async fn seal(&self, endpoint: &dyn Endpoint) -> Result<Option<Sealer>, SetupError> {
        let Some(settings) = &self.options.seal else { return Ok(None) };
        let mut seals = Vec::new();
        for service in &self.services {
            seals.push(settings.bind(service.descriptor().name, Role::Server, endpoint).await?);
        }
        let seals = self.seals.get_or_init(|| seals);
        Ok(Some(Sealer::new((0..).zip(seals.iter().map(Arc::clone)), fresh_nonce)))
    }

    /// Opens a record, if packets are sealed.
    pub(in crate::server) fn open(&self, record: &mut Record) -> Result<(), DropCause> {
        let Some(seals) = self.seals.get() else { return Ok(()) };
        match seals.get(usize::from(record.partition.service)) {
            Some(seal) => self.opener.open(&**seal, record),
            None => Ok(()),
        }
    }

    /// Partitions whose records are not taken any more.
    pub(in crate::server) fn forget(&self, partitions: &[PartitionId]) {
        if self.seals.get().is_some() {
            self.opener.forget(partitions);
        }
    }

    pub(super) fn open_topic(&self, service: u16, topic: Topic) {
        let (Some(shared), Some(transport)) = (self.batch.shared(), self.transport.get()) else {
            return;
        };
        let (server, transport) = (Arc::downgrade(&shared), Arc::clone(transport));
        self.runtime.spawn(async move {
            let mut opened = transport.open_topic(service, topic).await;
            let mut ends = None;
            if let (Ok(partitions), Topic::Cancels) = (&opened, topic) {
                match follow(&*transport, service, *partitions).await {
                    Ok(reached) => ends = Some(reached),
                    Err(status) => opened = Err(SetupError::Transport(status.to_string())),
                }
            }
            drop(transport);
            let Some(shared) = server.upgrade() else { return };
            if let Err(error) = &opened {
                let name = shared.service(usize::from(service)).map(|it| it.descriptor().name);
                let topic = topic.suffix();
                tracing::warn!(target: "krpc::server", name, topic, %error, "no such topic to use");
            }
            shared.with(|machine, now| {
                machine.handle_opened(service, topic, &opened, now);
                if let Some(ends) = ends {
                    machine.handle_followed(service, ends, now);
                }
            });
        });
    }
}

impl Shared {
    /// Begins and ends to read classes of delayed calls, in the order in which the machine says so:
    /// the end of a reading must not come after the beginning of the next one.
    pub(super) fn read(&self) {
        let (Some(shared), Some(transport)) = (self.batch.shared(), self.transport.get()) else {
            return;
        };
        let (server, transport) = (Arc::downgrade(&shared), Arc::clone(transport));
        self.runtime.spawn(async move {
            while let Some(read) = server.upgrade().and_then(|shared| shared.next_read()) {
                match read {
                    Read::From(service, class, from) => {
                        let bounds = read_class(&*transport, service, class, from).await;
                        if let Err(status) = &bounds {
                            let message = "delayed calls unread";
                            tracing::warn!(target: "krpc::server", class, %status, "{message}");
                        }
                        let Some(shared) = server.upgrade() else { return };
                        let bounds = bounds.ok();
                        shared.with(|it, now| it.handle_reading(service, class, bounds, now));
                    }
                    Read::Find(service) => {
                        let found = transport.has_topic(service, Topic::Delayed).await.ok();
                        let Some(shared) = server.upgrade() else { return };
                        shared.with(|machine, now| machine.handle_found(service, found, now));
                    }
                    Read::End(service, class) => {
                        transport.unfollow(service, Topic::Delayed, class);
                    }
                }
            }
        });
    }

    /// What is to be read next. If there is nothing, the next task finds it.
    fn next_read(&self) -> Option<Read> {
        let mut machine = self.machine.get()?.lock();
        let read = machine.poll_read();
        if read.is_none() {
            self.reading.store(false, Ordering::Release);
        }
        read
    }
}

/// Reads a class from there on, or the nearest that it has; yields its bounds.
async fn read_class(
    transport: &dyn ServerTransport,
    service: u16,
    class: u32,
    from: i64,
) -> Result<(i64, i64), Status> {
    let (low, end) = transport.bounds(service, Topic::Delayed, class).await?;
    let from = if from > end { low } else { from.max(low) };
    transport.follow(service, Topic::Delayed, class, from).await?;
    Ok((low, end))
}

/// Reads the cancels from their start; yields where each partition ends.
async fn follow(
    transport: &dyn ServerTransport,
    service: u16,
    partitions: u32,
) -> Result<Vec<(u32, i64)>, Status> {
    let mut ends = Vec::new();
    for partition in 0..partitions {
        let (low, end) = transport.bounds(service, Topic::Cancels, partition).await?;
        transport.follow(service, Topic::Cancels, partition, low).await?;
        // Of an empty one nothing will come.
        ends.extend((low < end).then_some((partition, end)));
    }
    Ok(ends)
}
