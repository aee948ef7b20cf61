//! Terms of a call: what whoever executes, holds or moves it must keep to. A plain call has none.
//!
//! ```text
//! terms = count(varint) { tag(1) length(varint) body }*        tags ascend
//! ```
//! Metadata may be missed, terms must not be: a tag that is not known makes the frame unreadable,
//! and its call is not executed.

use std::sync::Arc;

use crate::{
    ids::{CallId, InstanceId},
    sealing::PUBLIC_LEN,
    time::Time,
    wire::{
        MAX_CALLER_BYTES, MAX_IDEMPOTENCY_KEY_BYTES, MAX_KEY_BYTES, MAX_PACKET_BYTES, MAX_ROUTES,
        MAX_TERMS,
        coding::{Reader, WireError, prefixed_len, put_u32, put_u64, put_varint, varint_len},
        packet::{Route, Routes, put_routes, routes, routes_len},
    },
};

/// What is agreed of a call beside its method and arguments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Calls of one key run one after the other; at most 1,024 bytes.
    pub key: Option<Box<[u8]>>,
    /// Calls of one idempotency key are executed once between them; 1 to 256 bytes.
    pub idempotency_key: Option<Box<str>>,
    /// Where the answer goes, instead of where the packet's header says; no route: none is wanted.
    pub answer: Option<Routes>,
    /// When it is to be executed.
    pub due: Option<Due>,
    /// Whose call it was before it was moved; its answer and its cancellation go by this.
    pub origin: Option<MovedFrom>,
    /// Executions that came before, plus one; 2 at least.
    pub attempt: Option<u32>,
    /// Who asked, of a call that was moved, and for whom its answer is sealed.
    pub asker: Option<AskedBy>,
}

/// When a call is to be executed. Both moments are on the broker's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// When the call is to be executed.
    pub due: Time,
    /// When whoever holds it looks at it next; once it was moved to be executed, `due`.
    pub look: Time,
}

/// The caller of a call that somebody else wrote anew, and the caller's number of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovedFrom {
    /// The client that made the call.
    pub caller: InstanceId,
    /// The call's number within that client.
    pub call: CallId,
}

/// Who made a call that somebody else wrote anew, as its seal proved it then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AskedBy {
    /// The caller whose key it was, if it was not a key of all; at most 128 bytes.
    pub caller: Option<Arc<str>>,
    /// The id of that key.
    pub key: u32,
    /// The public key that makes the answer private, if that was asked for.
    pub offer: Option<[u8; PUBLIC_LEN]>,
}

mod tag {
    pub(super) const KEY: u8 = 1;
    pub(super) const IDEMPOTENCY_KEY: u8 = 2;
    pub(super) const ANSWER: u8 = 3;
    pub(super) const DUE: u8 = 4;
    pub(super) const ORIGIN: u8 = 5;
    pub(super) const ATTEMPT: u8 = 6;
    pub(super) const ASKER: u8 = 7;
}

/// One term, to be written.
#[derive(Clone, Copy, Debug)]
enum Term<'t> {
    Key(&'t [u8]),
    IdempotencyKey(&'t str),
    Answer(&'t [Route]),
    Due(Due),
    Origin(MovedFrom),
    Attempt(u32),
    Asker(&'t AskedBy),
}

impl Terms {
    /// Those that there are, by ascending tags.
    fn each(&self) -> impl Iterator<Item = Term<'_>> {
        let terms = [
            self.key.as_deref().map(Term::Key),
            self.idempotency_key.as_deref().map(Term::IdempotencyKey),
            self.answer.as_deref().map(Term::Answer),
            self.due.map(Term::Due),
            self.origin.map(Term::Origin),
            self.attempt.map(Term::Attempt),
            self.asker.as_ref().map(Term::Asker),
        ];
        terms.into_iter().flatten()
    }

    /// Whether they may be written.
    ///
    /// # Errors
    /// A term passes its limit.
    #[cold]
    pub fn check(&self) -> Result<(), WireError> {
        self.each().try_for_each(Term::check)
    }

    /// How many bytes more a request takes with them.
    #[cold]
    pub fn encoded_len(&self) -> usize {
        1 + self.each().map(|term| 1 + prefixed_len(term.len())).sum::<usize>()
    }

    /// Appends them; they are within their limits.
    #[cold]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.each().count() as u64);
        for term in self.each() {
            out.push(term.tag());
            put_varint(out, term.len() as u64);
            term.put(out);
        }
    }

    #[cold]
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut terms = Self::default();
        let mut before = 0;
        for _ in 0..reader.count("terms", MAX_TERMS)? {
            let tag = reader.u8()?;
            if tag <= before {
                return Err(WireError::NotAscending);
            }
            before = tag;
            terms.take(tag, &mut Reader::new(reader.prefixed("term", MAX_PACKET_BYTES)?))?;
        }
        Ok(terms)
    }

    fn take(&mut self, tag: u8, body: &mut Reader<'_>) -> Result<(), WireError> {
        match tag {
            tag::KEY => {
                let key = body.rest();
                Term::Key(key).check()?;
                self.key = Some(key.into());
            }
            tag::IDEMPOTENCY_KEY => {
                let key = std::str::from_utf8(body.rest());
                let key = key.map_err(|_| WireError::NotUtf8("idempotency key"))?;
                Term::IdempotencyKey(key).check()?;
                self.idempotency_key = Some(key.into());
            }
            tag::ANSWER => {
                let (count, known) = routes(body)?;
                // Without its unknown routes it would say that no answer is wanted.
                if known.is_empty() && count > 0 {
                    return Err(WireError::UnknownRoutes);
                }
                self.answer = Some(known);
            }
            tag::DUE => {
                let (due, look) = (Time::from_micros(body.u64()?), Time::from_micros(body.u64()?));
                self.due = Some(Due { due, look });
            }
            tag::ORIGIN => {
                let caller = InstanceId::from_bytes(body.array()?);
                let origin = MovedFrom { caller, call: CallId(body.varint()?) };
                Term::Origin(origin).check()?;
                self.origin = Some(origin);
            }
            tag::ATTEMPT => {
                let attempt = body.varint_u32("attempt")?;
                Term::Attempt(attempt).check()?;
                self.attempt = Some(attempt);
            }
            tag::ASKER => {
                let asker = asked_by(body)?;
                Term::Asker(&asker).check()?;
                self.asker = Some(asker);
            }
            _ => return Err(WireError::UnknownTerm(tag)),
        }
        body.end("term")
    }
}

impl Term<'_> {
    const fn tag(self) -> u8 {
        match self {
            Self::Key(_) => tag::KEY,
            Self::IdempotencyKey(_) => tag::IDEMPOTENCY_KEY,
            Self::Answer(_) => tag::ANSWER,
            Self::Due(_) => tag::DUE,
            Self::Origin(_) => tag::ORIGIN,
            Self::Attempt(_) => tag::ATTEMPT,
            Self::Asker(_) => tag::ASKER,
        }
    }

    fn check(self) -> Result<(), WireError> {
        let at_most = |what, len, max| {
            if len > max { Err(WireError::TooLarge { what, len, max }) } else { Ok(()) }
        };
        match self {
            Self::Key(key) => at_most("key", key.len(), MAX_KEY_BYTES),
            Self::IdempotencyKey("") => Err(WireError::NoText("idempotency key")),
            Self::IdempotencyKey(key) => {
                at_most("idempotency key", key.len(), MAX_IDEMPOTENCY_KEY_BYTES)
            }
            Self::Answer(routes) if routes.len() > MAX_ROUTES => {
                let count = routes.len();
                Err(WireError::TooMany { what: "routes", count, max: MAX_ROUTES })
            }
            Self::Origin(origin) if origin.caller == InstanceId::ANY => Err(WireError::NoSender),
            Self::Attempt(attempt @ 0..=1) => {
                Err(WireError::OutOfRange { what: "attempt", value: u64::from(attempt) })
            }
            Self::Asker(AskedBy { caller: Some(caller), .. }) if !caller.is_empty() => {
                at_most("caller", caller.len(), MAX_CALLER_BYTES)
            }
            Self::Asker(AskedBy { caller: Some(_), .. } | AskedBy { offer: None, .. }) => {
                Err(WireError::NoText("caller"))
            }
            _ => Ok(()),
        }
    }

    /// The length of its body.
    fn len(self) -> usize {
        match self {
            Self::Key(key) => key.len(),
            Self::IdempotencyKey(key) => key.len(),
            Self::Answer(routes) => routes_len(routes),
            Self::Due(_) => 16,
            Self::Origin(origin) => 16 + varint_len(origin.call.0),
            Self::Attempt(attempt) => varint_len(u64::from(attempt)),
            Self::Asker(AskedBy { caller, offer, .. }) => {
                let caller = caller.as_ref().map_or(0, |caller| caller.len());
                5 + offer.map_or(0, |offer| offer.len()) + caller
            }
        }
    }

    /// Appends its body.
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Key(key) => out.extend_from_slice(key),
            Self::IdempotencyKey(key) => out.extend_from_slice(key.as_bytes()),
            Self::Answer(routes) => put_routes(out, routes),
            Self::Due(Due { due, look }) => {
                put_u64(out, due.as_micros());
                put_u64(out, look.as_micros());
            }
            Self::Origin(MovedFrom { caller, call }) => {
                out.extend_from_slice(caller.as_bytes());
                put_varint(out, call.0);
            }
            Self::Attempt(attempt) => put_varint(out, u64::from(attempt)),
            Self::Asker(AskedBy { caller, key, offer }) => {
                put_u32(out, *key);
                out.push(u8::from(offer.is_some()));
                out.extend(offer.iter().flatten());
                out.extend_from_slice(caller.as_deref().unwrap_or_default().as_bytes());
            }
        }
    }
}

fn asked_by(body: &mut Reader<'_>) -> Result<AskedBy, WireError> {
    let key = body.u32()?;
    let offer = match body.u8()? {
        0 => None,
        1 => Some(body.array()?),
        other => {
            return Err(WireError::OutOfRange { what: "asker", value: u64::from(other) });
        }
    };
    let caller = std::str::from_utf8(body.rest()).map_err(|_| WireError::NotUtf8("caller"))?;
    Ok(AskedBy { caller: (!caller.is_empty()).then(|| caller.into()), key, offer })
}

#[cfg(test)]
pub(super) mod tests;
