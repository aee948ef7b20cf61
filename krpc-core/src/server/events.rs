//! Driver: what the transport reports to a server.
//!
//! from: the transport · to: [`super::machine`], through [`super::driver`]

use std::sync::{Arc, Weak};

use super::driver::Shared;
use crate::{
    ids::PartitionId,
    status::Status,
    transport::{
        BoxFuture, CommitPoint, Delivery, ProducerEvents, Record, ServerEvents, Topic, split_token,
    },
};

/// The transport's view of a server; weak, because the server owns its transport.
#[derive(Debug)]
pub(super) struct Events(pub(super) Weak<Shared>);

impl ProducerEvents for Events {
    fn delivered(&self, token: u64, delivery: Delivery<'_>) {
        let Some(shared) = self.0.upgrade() else { return };
        if let Delivery::Failed { status, .. } = &delivery {
            tracing::warn!(target: "krpc::server", %status, "a packet was not delivered");
        }
        let (service, token) = split_token(token);
        shared.hello().note(service, &delivery);
        shared.with(|machine, now| machine.handle_delivered(token, &delivery, now));
        shared.hello().ring();
    }
}

impl ServerEvents for Events {
    fn assigned(&self, partitions: Vec<(PartitionId, Option<(i64, String)>)>) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.with(|machine, now| machine.handle_assigned(&partitions, now));
    }

    fn arrived(&self, mut record: Record) {
        let Some(shared) = self.0.upgrade() else { return };
        let opened = shared.open(&mut record);
        shared.with(|machine, now| match (opened, record.topic) {
            (Err(cause), _) => machine.handle_refused(&record, cause, now),
            (_, Topic::Cancels) => machine.handle_cancels(&record, now),
            (_, Topic::Delayed) => machine.handle_delayed(&record, now),
            _ => machine.handle_record(&record, now),
        });
    }

    fn full(&self) -> Option<BoxFuture<'static, ()>> {
        let shared = self.0.upgrade()?;
        // Here rather than in `arrived`, for the user's code runs in it: see the trait.
        shared.dispatch();
        if !shared.is_full() {
            return None;
        }
        // Weak here too: the transport keeps this future, and the server keeps the transport.
        let (server, room) = (Weak::clone(&self.0), Arc::clone(shared.want_room()));
        Some(Box::pin(async move {
            loop {
                let rung = room.notified();
                // Wanted before the look, so that room which comes after it is told.
                let wait = |server: Arc<Shared>| {
                    server.want_room();
                    !server.has_room()
                };
                if !server.upgrade().is_some_and(wait) {
                    return;
                }
                rung.await;
            }
        }))
    }

    fn release(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Vec<CommitPoint>> {
        let Some(shared) = self.0.upgrade() else { return Box::pin(async { Vec::new() }) };
        shared.with(|machine, now| machine.release(&partitions, now));
        shared.forget(&partitions);
        Box::pin(shared.released(partitions))
    }

    fn lost(&self, partitions: Vec<PartitionId>) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.with(|machine, now| machine.handle_lost(&partitions, now));
        shared.forget(&partitions);
    }

    fn broken(&self, status: Status) {
        tracing::error!(target: "krpc::server", %status, "the transport broke");
        if let Some(shared) = self.0.upgrade() {
            shared.broke(status);
        }
    }
}
