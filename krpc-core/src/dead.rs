//! Dead letters, as a reader of their topic makes them out: letters, less those that are marked.
//!
//! Kafka cannot delete one record, so what became of a letter stands behind it. A list of letters
//! is one pass over the topic from its start, in the order of each partition.
//!
//! from: frames of the topic of dead letters · to: whoever lists, replays or drops them

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
};

use bytes::Bytes;

use crate::{
    ids::{CallId, InstanceId},
    status::Status,
    time::Time,
    wire::{
        coding::WireError,
        frame::{Dead, DeadMark, Frame, Request},
    },
};

/// Where a letter stands in the topic of dead letters. Its text is `partition-offset-index`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LetterId {
    /// The partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: i64,
    /// Its ordinal among all frames of the record's packet.
    pub index: u32,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.partition, self.offset, self.index)
    }
}

/// A text is not the name of a letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a dead letter is named `partition-offset-index`, three numbers")]
pub struct NotALetterId;

impl FromStr for LetterId {
    type Err = NotALetterId;

    fn from_str(text: &str) -> Result<Self, NotALetterId> {
        let mut parts = text.split('-');
        let id = Self {
            partition: number(parts.next())?,
            offset: number(parts.next())?,
            index: number(parts.next())?,
        };
        if parts.next().is_none() { Ok(id) } else { Err(NotALetterId) }
    }
}

/// Digits alone: a sign or a space would be a second name of the same letter.
fn number<T: FromStr>(part: Option<&str>) -> Result<T, NotALetterId> {
    let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(NotALetterId)
}

/// A letter that nobody is done with.
#[derive(Clone, PartialEq, Debug)]
pub struct Letter {
    /// Its name.
    pub id: LetterId,
    /// The client that made the call.
    pub caller: InstanceId,
    /// The call's number within that client.
    pub call: CallId,
    /// The partition of the calls topic where the call stood.
    pub partition: u32,
    /// The offset of its record there.
    pub offset: i64,
    /// Its index among the calls of that record.
    pub index: u32,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was given up, on the broker's clock.
    pub at: Time,
    /// Why.
    pub cause: Status,
    /// The call's frame as it stood there.
    pub request: Bytes,
}

impl Letter {
    fn new(id: LetterId, dead: &Dead<'_>) -> Self {
        Self {
            id,
            caller: dead.caller,
            call: dead.call,
            partition: dead.partition,
            offset: dead.offset,
            index: dead.index,
            attempts: dead.attempts,
            at: dead.at,
            cause: dead.cause.clone(),
            // A copy: a slice would keep the whole record in memory.
            request: Bytes::copy_from_slice(dead.request),
        }
    }

    /// The call as it was made.
    ///
    /// # Errors
    /// What the letter holds is not one whole request.
    pub fn to_request(&self) -> Result<Request<'_>, WireError> {
        Request::from_frame(&self.request)
    }

    /// Bytes of what it has of its own.
    fn bytes(&self) -> usize {
        self.request.len() + self.cause.message().len() + self.cause.details().len()
    }
}

/// The letters that were read and are not done with: the newest of them, by number and bytes.
#[derive(Debug)]
pub struct Letters {
    by_id: HashMap<LetterId, u64>,
    /// In the order in which they were read.
    letters: BTreeMap<u64, Letter>,
    read: u64,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    left_out: u64,
}

impl Letters {
    /// No letters yet, and at most so many later, of so many bytes of calls and causes together.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            letters: BTreeMap::new(),
            read: 0,
            bytes: 0,
            most,
            most_bytes,
            left_out: 0,
        }
    }

    /// A frame that stands here. Others than letters and marks say nothing.
    pub fn handle_frame(&mut self, at: LetterId, frame: &Frame<'_>) {
        match frame {
            Frame::Dead(dead) => self.put(Letter::new(at, dead)),
            Frame::DeadMark(mark) => self.mark(at.partition, *mark),
            _ => {}
        }
    }

    fn put(&mut self, letter: Letter) {
        let (id, bytes) = (letter.id, letter.bytes());
        // A record that is read twice is still one.
        self.remove(id);
        self.read += 1;
        self.by_id.insert(id, self.read);
        self.letters.insert(self.read, letter);
        self.bytes += bytes;
        while self.letters.len() > self.most || self.bytes > self.most_bytes {
            let Some(oldest) = self.letters.first_key_value().map(|(_, oldest)| oldest.id) else {
                break;
            };
            self.remove(oldest);
            self.left_out += 1;
        }
    }

    fn mark(&mut self, partition: u32, mark: DeadMark) {
        self.remove(LetterId { partition, offset: mark.offset, index: mark.index });
    }

    fn remove(&mut self, id: LetterId) {
        let place = self.by_id.remove(&id);
        if let Some(letter) = place.and_then(|place| self.letters.remove(&place)) {
            self.bytes -= letter.bytes();
        }
    }

    /// The letter of this name, if it is there and nobody is done with it.
    pub fn get(&self, id: LetterId) -> Option<&Letter> {
        self.letters.get(self.by_id.get(&id)?)
    }

    /// How many letters had no room; of some of them it may not be known that somebody is done
    /// with them.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The letters, newest last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Letter> {
        self.letters.values()
    }

    /// The letters, newest last.
    pub fn into_letters(self) -> Vec<Letter> {
        self.letters.into_values().collect()
    }
}

#[cfg(test)]
mod tests;
