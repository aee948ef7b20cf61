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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::{
        ids::CallId,
        inbox::DropCause,
        server::machine::tests::{
            HERE, NOW, commits, deliver, drops, finish, owner, record, request, run, server,
        },
    };

    #[test]
    fn a_record_that_is_refused_is_finished() {
        let mut machine = owner(1);
        machine.handle_refused(&record(HERE, 0, &[request(1)]), DropCause::BadSeal, NOW);
        assert_eq!(run(&mut machine), None);
        assert_eq!(drops(&machine, DropCause::BadSeal), 1);
        assert_eq!(commits(&mut machine), [1]);
        // It was not seen: the real one, should it come, is no duplicate.
        machine.handle_record(&record(HERE, 1, &[request(1)]), NOW);
        let place = run(&mut machine).unwrap();
        finish(&mut machine, place);
        assert_eq!(deliver(&mut machine), [(CallId(1), None)]);
        assert_eq!(commits(&mut machine), [2]);
    }

    #[test]
    fn nothing_is_finished_where_nothing_is_owned() {
        let mut machine = server(1, 1);
        machine.handle_refused(&record(HERE, 0, &[request(1)]), DropCause::BadSeal, NOW);
        assert_eq!((drops(&machine, DropCause::NotOwned), commits(&mut machine).len()), (1, 0));
    }
}
