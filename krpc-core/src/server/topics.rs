//! Topics that are opened when they are first needed, and which of them are open.
//!
//! Pure.
//!
//! from: [`super::burial`] and [`super::cancels`], which need them
//! to: [`super::driver`], which opens them

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{error::SetupError, time::Time, transport::Topic};

/// How soon a topic is tried again that could not be opened.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The topics that were asked for, by service.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: HashMap<(u16, Topic), State>,
    opens: VecDeque<(u16, Topic)>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Opening,
    /// So many partitions.
    Open(u32),
    /// It could not be opened; whether because the broker refuses.
    Failed {
        again: Time,
        refused: bool,
    },
}

impl Topics {
    /// The partitions of the topic if it is open; has it opened if it is not. An error says
    /// whether the broker refused it when that was tried last.
    pub(super) fn open(&mut self, service: u16, topic: Topic, now: Time) -> Result<u32, bool> {
        match self.known.get(&(service, topic)) {
            Some(State::Open(partitions)) => Ok(*partitions),
            Some(State::Opening) => Err(false),
            Some(State::Failed { again, refused }) if now < *again => Err(*refused),
            last => {
                let refused = matches!(last, Some(State::Failed { refused: true, .. }));
                self.known.insert((service, topic), State::Opening);
                self.opens.push_back((service, topic));
                Err(refused)
            }
        }
    }

    /// Whether the topic is open and has this partition.
    pub(super) fn has(&self, service: u16, topic: Topic, partition: u32) -> bool {
        let known = self.known.get(&(service, topic));
        matches!(known, Some(State::Open(partitions)) if partition < *partitions)
    }

    /// The next topic to open.
    pub(super) fn poll_open(&mut self) -> Option<(u16, Topic)> {
        self.opens.pop_front()
    }

    /// How that went.
    pub(super) fn opened(
        &mut self,
        service: u16,
        topic: Topic,
        opened: &Result<u32, SetupError>,
        now: Time,
    ) {
        let state = match opened {
            Ok(partitions) => State::Open((*partitions).max(1)),
            Err(error) => {
                let refused = !matches!(error, SetupError::Unreachable { .. });
                State::Failed { again: now + RETRY, refused }
            }
        };
        self.known.insert((service, topic), state);
    }
}
