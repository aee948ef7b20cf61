//! Driver: dead letters, as people handle them: listed, shown, sent once more, dropped.
//!
//! Every look is a pass over the topic: nothing is kept between two of them, so what others did
//! meanwhile is seen. Who sends a letter once more marks it when the broker has the call; a crash
//! between leaves the letter listed, and it may be sent twice.
//!
//! from: [`super::channel`] · to: `reader`, which reads; [`super::placing`], which writes

use std::{
    fmt,
    future::IntoFuture,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use self::pass::Fold;
use super::{
    channel::{Channel, ServiceChannel},
    placing::StartCall,
};
use crate::{
    codec::{CodecError, ValueCodec},
    dead::{Letter, LetterId},
    error::SetupError,
    ids::InstanceId,
    metadata::Metadata,
    status::Status,
    time::{Time, micros},
    transport::{BoxFuture, Topic},
    wire::{
        coding::WireError,
        frame::{DeadMark, Fate, MovedFrom, Request, Terms},
    },
};

mod pass;
pub(super) mod reader;

/// Letters that a list has, unless it is told otherwise.
const LIMIT: usize = 1_000;

/// The dead letters of one service: calls that were given up, kept as they were made.
///
/// Cheap to clone; keeps its channel open.
#[derive(Clone)]
pub struct DeadLetters {
    _channel: Channel,
    service: Arc<ServiceChannel>,
    name: String,
}

/// A call that was given up.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The letter's name, for [`DeadLetters::show`] and the like. Its text is
    /// `partition-offset-index`, and can be parsed.
    pub id: LetterId,
    /// `service/method`.
    pub method: String,
    /// The client that made the call.
    pub caller: InstanceId,
    /// The call's key, if it had one.
    pub key: Option<Vec<u8>>,
    /// The caller's metadata.
    pub metadata: Metadata,
    /// The arguments, as they were sent.
    pub arguments: Arguments,
    /// Why the call was given up; what its caller was told.
    pub cause: Status,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was given up, on the broker's clock.
    pub at: SystemTime,
    /// Where it stood in the calls topic.
    pub position: CallPosition,
}

/// Where a call stood in its service's calls topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CallPosition {
    /// The partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: i64,
    /// Which of the record's calls it was.
    pub index: u32,
}

/// The encoded arguments of a call: a struct whose fields are the method's arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arguments {
    codec: ValueCodec,
    bytes: Bytes,
}

impl Arguments {
    /// How they are encoded.
    pub const fn codec(&self) -> ValueCodec {
        self.codec
    }

    /// The bytes as they were sent.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The arguments as a type of yours.
    ///
    /// # Errors
    /// They are of another type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        self.codec.decode(&self.bytes)
    }

    /// The arguments as JSON, to be looked at.
    ///
    /// # Errors
    /// They hold something that JSON does not have, such as keys that are no text.
    pub fn json(&self) -> Result<serde_json::Value, CodecError> {
        self.decode()
    }
}

/// Why dead letters could not be handled.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// There is no such letter: there never was, or the topic keeps it no longer.
    #[error("no dead letter {id} of {service:?}")]
    NotFound {
        /// The letter.
        id: LetterId,
        /// Its service.
        service: String,
    },
    /// The call was sent once more already.
    #[error("the dead letter {id} was replayed already")]
    Replayed {
        /// The letter.
        id: LetterId,
        /// When, on the broker's clock.
        at: SystemTime,
    },
    /// The letter was dropped already.
    #[error("the dead letter {id} was dropped already")]
    Dropped {
        /// The letter.
        id: LetterId,
        /// When, on the broker's clock.
        at: SystemTime,
    },
    /// The letter does not hold a call that this version can read.
    #[error("the dead letter {id} cannot be read: {cause}")]
    Unreadable {
        /// The letter.
        id: LetterId,
        /// What is wrong with it.
        cause: String,
    },
    /// The service or its topic of dead letters cannot be used: the topic is missing and may not
    /// be created, a right is missing, the broker is not reached.
    #[error("the dead letters cannot be reached: {0}")]
    Setup(#[from] SetupError),
    /// Reading or writing failed.
    #[error("{0}")]
    Status(#[from] Status),
}

impl Channel {
    /// The dead letters of a service.
    pub fn dead_letters(&self, service: &str) -> DeadLetters {
        let (channel, name) = (self.clone(), service.to_owned());
        DeadLetters { service: self.service(service), _channel: channel, name }
    }
}

impl DeadLetters {
    /// The letters that were neither replayed nor dropped, oldest first; the newest 1,000 unless
    /// told otherwise. A letter that cannot be read is left out.
    pub fn list(&self) -> ListDeadLetters {
        ListDeadLetters { letters: self.clone(), since: UNIX_EPOCH, limit: LIMIT }
    }

    /// One letter.
    ///
    /// # Errors
    /// There is no such letter, or it was replayed or dropped.
    pub async fn show(&self, id: &LetterId) -> Result<DeadLetter, DeadLetterError> {
        let (letter, fate) = self.find(*id).await?;
        match fate {
            Some((fate, at)) => Err(done(*id, fate, at)),
            None => DeadLetter::read(&letter).map_err(|error| unreadable(*id, &error)),
        }
    }

    /// Sends the call once more, as it was made, and marks the letter when the broker has it.
    ///
    /// It has the time of a call that nobody waits for. Its caller was told that it failed, and is
    /// told nothing more. If it fails again it becomes another letter. Nothing happens if the
    /// letter was replayed before.
    ///
    /// The broker gets the call once at most, since nobody knows here whether its method may be
    /// executed twice. Where nobody can tell whether the broker has it, the letter is not marked.
    ///
    /// # Errors
    /// There is no such letter, or it was dropped; the call could not be sent, or its outcome is
    /// unknown ([`Status::is_outcome_unknown`], or `DeadlineExceeded`).
    pub async fn replay(&self, id: &LetterId) -> Result<(), DeadLetterError> {
        self.service.expect_exact();
        let (letter, fate) = self.find(*id).await?;
        match fate {
            Some((Fate::Replayed, _)) => return Ok(()),
            Some((fate, at)) => return Err(done(*id, fate, at)),
            None => {}
        }
        let request = letter.to_request().map_err(|error| unreadable(*id, &error))?;
        self.send(&letter, request).await?;
        self.mark(*id, Fate::Replayed).await
    }

    /// Marks the letter as not wanted. Nothing happens if it was dropped before.
    ///
    /// # Errors
    /// There is no such letter, or it was replayed; the mark could not be written.
    pub async fn drop(&self, id: &LetterId) -> Result<(), DeadLetterError> {
        match self.find(*id).await?.1 {
            Some((Fate::Dropped, _)) => Ok(()),
            Some((fate, at)) => Err(done(*id, fate, at)),
            None => self.mark(*id, Fate::Dropped).await,
        }
    }

    async fn find(&self, id: LetterId) -> Result<Found, DeadLetterError> {
        let fold = reader::read(&self.service, Fold::one(id), Some(id)).await?;
        let fate = fold.fate;
        match fold.into_letters(1).pop() {
            Some(letter) => Ok((letter, fate)),
            None => Err(DeadLetterError::NotFound { id, service: self.name.clone() }),
        }
    }

    async fn send(&self, letter: &Letter, request: Request<'_>) -> Result<(), Status> {
        let options = self.service.options();
        let (timeout, receipt) = (options.queue_timeout, options.timeout);
        let terms = request.terms.map(|terms| *terms).unwrap_or_default();
        let origin = MovedFrom { caller: letter.caller, call: letter.call };
        let terms = Terms {
            // Who waited for a reply has had it.
            answer: Some(terms.answer.unwrap_or_default()),
            origin: Some(terms.origin.unwrap_or(origin)),
            due: None,
            attempt: None,
            // Who sends it once more asks for it.
            asker: None,
            ..terms
        };
        let call = StartCall {
            path: request.path,
            fingerprint: request.fingerprint,
            codec: request.codec,
            metadata: &request.metadata,
            value: request.value,
            terms: Some(Box::new(terms)),
            timeout,
            receipt: Some(receipt.min(timeout)),
            at_most_once: true,
        };
        self.service.stored(|machine, waiter, now| machine.start(call, waiter, now)).await
    }

    async fn mark(&self, id: LetterId, fate: Fate) -> Result<(), DeadLetterError> {
        let wait = self.service.options().timeout;
        let marked = self.service.stored(|machine, waiter, now| {
            let LetterId { partition, offset, index } = id;
            let mark = DeadMark { offset, index, fate, at: machine.clock.stamp(now) };
            let lane = (Topic::Dead, partition, InstanceId::ANY);
            machine.post(lane, |out| mark.encode(out), wait, waiter, now)
        });
        Ok(marked.await?)
    }
}

/// A letter, and what became of it.
type Found = (Letter, Option<(Fate, Time)>);

/// A list of dead letters; awaited, it is read.
#[derive(Clone, Debug)]
#[must_use = "a list is read when it is awaited"]
pub struct ListDeadLetters {
    letters: DeadLetters,
    since: SystemTime,
    limit: usize,
}

impl ListDeadLetters {
    /// Only calls that were given up since then, on the broker's clock.
    pub const fn since(mut self, since: SystemTime) -> Self {
        self.since = since;
        self
    }

    /// At most so many, the newest. A list holds at most 64 MiB of letters.
    pub const fn limit(mut self, letters: usize) -> Self {
        self.limit = letters;
        self
    }
}

impl IntoFuture for ListDeadLetters {
    type Output = Result<Vec<DeadLetter>, DeadLetterError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { letters, since, limit } = self;
        Box::pin(async move {
            let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
            let fold = Fold::list(Time::from_micros(micros(since)), limit);
            let found = reader::read(&letters.service, fold, None).await?.into_letters(limit);
            Ok(found.iter().filter_map(|letter| DeadLetter::read(letter).ok()).collect())
        })
    }
}

impl DeadLetter {
    fn read(letter: &Letter) -> Result<Self, WireError> {
        let request = letter.to_request()?;
        let terms = request.terms.unwrap_or_default();
        Ok(Self {
            id: letter.id,
            method: request.path.to_owned(),
            caller: letter.caller,
            key: terms.key.map(Vec::from),
            metadata: request.metadata.into_owned(),
            arguments: Arguments {
                codec: request.codec,
                bytes: letter.request.slice_ref(request.value),
            },
            cause: letter.cause.clone(),
            attempts: letter.attempts,
            at: wall(letter.at),
            position: CallPosition {
                partition: letter.partition,
                offset: letter.offset,
                index: letter.index,
            },
        })
    }
}

fn wall(at: Time) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(at.as_micros())).unwrap_or(UNIX_EPOCH)
}

fn done(id: LetterId, fate: Fate, at: Time) -> DeadLetterError {
    let at = wall(at);
    match fate {
        Fate::Replayed => DeadLetterError::Replayed { id, at },
        Fate::Dropped => DeadLetterError::Dropped { id, at },
    }
}

fn unreadable(id: LetterId, error: &WireError) -> DeadLetterError {
    DeadLetterError::Unreadable { id, cause: error.to_string() }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("service", &self.name).finish_non_exhaustive()
    }
}
