//! Packets that one side wrote and the other cannot open, as after a mistake in the settings of
//! either. What is known of that is a hint, which anybody can forge: it changes nothing but what a
//! call ends with that got no answer in time.
//!
//! Pure. from: [`super::machine`], with records that do not open · to: the same, when calls expire

use std::{fmt, time::Duration};

use super::{machine::ClientMachine, pending::InFlight};
use crate::{
    inbox::{DropCause, Packet},
    status::{Code, Status},
    time::Time,
    transport::{Record, Topic},
    wire::{
        frame::{Frame, Refused},
        packet::Addresses,
    },
};

/// How long before a call began a hint may be that concerns it. Servers say it once a second.
const CONCERNS: Duration = Duration::from_millis(1_500);

/// What was refused, by whom, and when this was known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hint {
    refused: Refused,
    /// A server's answer was refused here, rather than a call there.
    is_ours: bool,
    at: Time,
}

impl<W> ClientMachine<W> {
    /// A record that does not open: nothing in it takes effect, unless it is a server's word that
    /// it could not open what came from here.
    pub fn handle_refused(&mut self, record: &Record, cause: DropCause, now: Time) {
        if record.topic != Topic::Replies || !self.hear(record, now) {
            self.inbox.count(cause);
            self.suspect(&record.payload, cause, now);
        }
    }

    /// A server could not open what came from here, or somebody says so.
    #[cold]
    pub(super) fn told(&mut self, refused: Refused, now: Time) {
        self.hint = Some(Hint { refused, is_ours: false, at: now });
    }

    /// A packet does not open. One for this client alone may be an answer.
    #[cold]
    pub(super) fn suspect(&mut self, packet: &[u8], cause: DropCause, now: Time) {
        let is_mine = Addresses::peek(packet).is_ok_and(|it| it.destination == self.setup.me);
        if let (true, Some(cause)) = (is_mine, Refused::number(cause)) {
            let refused = Refused { cause, key: key_of(packet) };
            self.hint = Some(Hint { refused, is_ours: true, at: now });
        }
    }

    /// Whether this is a packet for this client alone, unsealed, and of such words alone.
    fn hear(&mut self, record: &Record, now: Time) -> bool {
        let Ok(packet) = Packet::open_any(&record.payload) else { return false };
        let mut refused = None;
        for frame in packet.frames() {
            let Ok(Frame::Refused(word)) = frame else { return false };
            refused = Some(word);
        }
        let Some(refused) = refused.filter(|_| packet.header.destination == self.setup.me) else {
            return false;
        };
        self.told(refused, now);
        true
    }

    /// What a call ends with that got no answer in time. One that must not be executed twice is
    /// not said to be refused on the strength of a hint.
    pub(super) fn overdue(&self, call: InFlight) -> Status {
        let message = match call.on_stored {
            false => "the deadline passed before a reply came",
            true => "the broker did not confirm the call in time; it may have it",
        };
        let concerns = |hint: &&Hint| !call.on_stored && hint.at + CONCERNS >= call.started;
        match self.hint.as_ref().filter(concerns) {
            None => Status::new(Code::DeadlineExceeded, message),
            Some(hint) => {
                let at_most_once = call.at_most_once;
                let code =
                    if at_most_once { Code::DeadlineExceeded } else { Code::FailedPrecondition };
                Status::new(code, format!("{message}: {hint}"))
            }
        }
    }
}

/// The key id in a packet's header.
fn key_of(packet: &[u8]) -> u32 {
    packet.get(4..8).and_then(|id| id.try_into().ok()).map_or(0, u32::from_be_bytes)
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.is_ours {
            true => "a server answers, and its packets cannot be opened here: ",
            false => "a server says that it cannot open packets from here: ",
        })?;
        let Refused { cause, key } = self.refused;
        match cause {
            1 => f.write_str("they are protected less well than the reader demands"),
            2 => write!(f, "key {key:08x} is not known to the reader"),
            3 => f.write_str("they bear a custom hash, and the reader has no function for it"),
            4 => f.write_str("their seal does not hold"),
            5 => f.write_str(
                "they are sealed, and the reader opens nothing that is, or not of that kind",
            ),
            6 => {
                f.write_str("they were stored long before or after they were sealed, by the clocks")
            }
            7 => f.write_str("they are for one client alone, and the reader asked for no such"),
            8 => f.write_str("they bear a custom hash, and the reader's function for it fails"),
            9 => f.write_str("others can open them, and the reader asked that they cannot"),
            _ => write!(f, "for a reason that is not known in this version, {cause}"),
        }
    }
}
