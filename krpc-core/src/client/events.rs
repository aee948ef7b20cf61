//! Driver: what the transport reports to a channel, and what it takes from its machines.
//!
//! from: the transport · to: [`super::channel`], and from there [`super::machine`]

use std::{
    fmt,
    sync::{Arc, Weak},
    task::Waker,
};

use bytes::Bytes;

use super::{
    channel::{Inner, ServiceChannel},
    machine::ClientMachine,
};
use crate::{
    outbox::Transmit,
    status::Status,
    time::Time,
    transport::{
        ClientEvents, Delivery, ProducerEvents, Record, Rejected, Topic, Transmitter, split_token,
    },
};

impl Transmitter for ClientMachine<Waker> {
    fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        Self::poll_transmit(self, now)
    }

    fn handle_sent(&mut self, payload: Vec<u8>) {
        Self::handle_sent(self, payload);
    }

    fn handle_rejected(&mut self, transmit: Transmit, rejected: Rejected, now: Time) {
        Self::handle_rejected(self, transmit, rejected, now);
    }

    fn awaits_report(&self) -> bool {
        Self::awaits_report(self)
    }
}

/// The transport's view of a channel; weak, because the channel owns its transport.
pub(super) struct Events(pub(super) Weak<Inner>);

impl Events {
    fn service(&self, index: usize) -> Option<Arc<ServiceChannel>> {
        self.0.upgrade()?.services.read().get(index).map(Arc::clone)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelEvents")
    }
}

impl ProducerEvents for Events {
    fn delivered(&self, token: u64, delivery: Delivery<'_>) {
        let (index, token) = split_token(token);
        let Some(service) = self.service(index) else { return };
        service.hello.note(index, &delivery);
        service.with(|machine, now| machine.handle_delivered(token, &delivery, now));
        service.hello.ring();
    }
}

impl ClientEvents for Events {
    fn arrived(&self, mut record: Record) {
        let Some(service) = self.service(usize::from(record.partition.service)) else { return };
        if let Err(cause) = service.unseal(&mut record) {
            service.with(|machine, now| machine.handle_refused(&record, cause, now));
            if record.topic == Topic::Replies {
                return;
            }
            // That it was there counts: others wait until the topic is read.
            record.payload = Bytes::new();
        }
        match record.topic {
            Topic::Dead => service.letters.arrived(&record),
            Topic::Results => service.readers.arrived(&record),
            _ => _ = service.with(|machine, now| machine.handle_record(&record, now)),
        }
    }

    fn broken(&self, status: Status) {
        tracing::error!(target: "krpc::client", %status, "the transport broke");
        if let Some(inner) = self.0.upgrade() {
            inner.close(&status);
        }
    }
}
