//! Driver: opens a topic that the machine asks for, in a task of its own.
//!
//! from: [`super`] · to: the transport, and back to [`crate::server::machine`]

use std::sync::Arc;

use super::Shared;
use crate::transport::Topic;

impl Shared {
    pub(super) fn open_topic(&self, service: u16, topic: Topic) {
        let (Some(shared), Some(transport)) = (self.batch.shared(), self.transport.get()) else {
            return;
        };
        let (server, transport) = (Arc::downgrade(&shared), Arc::clone(transport));
        self.runtime.spawn(async move {
            let opened = transport.open_topic(service, topic).await;
            drop(transport);
            let Some(shared) = server.upgrade() else { return };
            if let Err(error) = &opened {
                let name = shared.service(usize::from(service)).map(|it| it.descriptor().name);
                let topic = topic.suffix();
                tracing::warn!(target: "krpc::server", name, topic, %error, "no such topic to use");
            }
            shared.with(|machine, now| machine.handle_opened(service, topic, opened, now));
        });
    }
}
