//! Records whose seal does not hold. Nothing in them takes effect, and nothing waits for them.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::events`], which opens records · to: [`super::ledger`], as with garbage

use bytes::Bytes;

use super::machine::ServerMachine;
use crate::{
    inbox::DropCause,
    sealing::Sealer,
    time::Time,
    transport::{Record, Topic},
};

impl<K: Clone> ServerMachine<K> {
    /// The same server, whose packets are sealed.
    #[must_use]
    pub fn with_sealer(mut self, sealer: Option<Sealer>) -> Self {
        if let Some(sealer) = sealer {
            self.outbox.seal_with(sealer);
        }
        self
    }

    /// A record that must not be read.
    pub fn handle_refused(&mut self, record: &Record, cause: DropCause, now: Time) {
        let partition = record.partition;
        match record.topic {
            Topic::Delayed => {
                if self.pass_delayed(record, now) {
                    self.inbox.count(cause);
                }
            }
            Topic::Cancels => {
                self.inbox.count(cause);
                // That it was there counts: others wait until the cancels are read.
                self.handle_cancels(&Record { payload: Bytes::new(), ..record.clone() }, now);
            }
            _ if self.fence(partition).is_none() => self.inbox.count(DropCause::NotOwned),
            _ => {
                self.inbox.count(cause);
                self.ledger.open(partition, record.offset, 0);
            }
        }
    }
}
