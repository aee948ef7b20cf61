//! A call as it was taken from its record.
//!
//! Pure.
//!
//! from: [`super::machine`], for each request frame · to: [`super::intake`]

use std::time::Duration;

use bytes::Bytes;

use crate::{
    codec::ValueCodec,
    deadline::{MAX_TIMEOUT, Receipt},
    ids::{CallId, InstanceId, Position},
    metadata::Metadata,
    server::service::MethodDescriptor,
    time::Time,
    wire::{
        frame::{Request, Terms},
        packet::Route,
    },
};

/// Where a call comes from, and its answer goes: what is kept of it while its handler runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Where it stands in the calls topic.
    pub position: Position,
    /// The client that waits.
    pub caller: InstanceId,
    /// The call's number within that client.
    pub id: CallId,
    /// How the reply gets there; without one nobody can be answered.
    pub route: Option<Route>,
    /// When the record was taken.
    pub received: Time,
    /// When the call is too late, on this process's time line.
    pub deadline: Time,
    /// How long it was under way, as far as the clocks tell.
    pub flight: Duration,
}

/// The methods of a service, as it describes them.
pub type Methods = &'static [&'static MethodDescriptor];

/// What a call names.
#[derive(Clone, Debug)]
pub enum Method {
    /// A method that the service describes.
    Known(&'static MethodDescriptor),
    /// Anything else: `service/method`, checked to be UTF-8.
    Other(Bytes),
}

impl Method {
    /// Whether a call of it is executed again when it fails.
    const fn retries(&self) -> bool {
        matches!(self, Self::Known(method) if method.policy.retry.is_some())
    }
}

/// A call that was taken from its record.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where it comes from.
    pub origin: Origin,
    /// What it calls.
    pub method: Method,
    /// The arguments, encoded.
    pub value: Bytes,
    /// How they are encoded.
    pub codec: ValueCodec,
    /// The caller's metadata.
    pub metadata: Metadata,
    /// The caller's fingerprint of the method's signature.
    pub fingerprint: u32,
    /// What the call asks for beside being executed; absent for most.
    pub terms: Option<Box<Terms>>,
    /// Its frame as it stands in the record; only of calls that may become dead letters.
    pub frame: Option<Bytes>,
}

impl Call {
    /// A term that this server cannot keep to yet: the call is refused rather than executed.
    pub(super) fn unkept_term(&self) -> Option<&'static str> {
        let Terms { key, idempotency_key: _, answer, due, origin, attempt } =
            self.terms.as_deref()?;
        let unkept = [
            (key.is_some(), "key"),
            (answer.is_some(), "answer"),
            (due.is_some(), "due"),
            (origin.is_some(), "origin"),
            (attempt.is_some(), "attempt"),
        ];
        unkept.into_iter().find_map(|(is_there, term)| is_there.then_some(term))
    }
}

/// A record that calls are taken from: what is the same for all of them.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) payload: &'a Bytes,
    pub(super) methods: Methods,
    pub(super) caller: InstanceId,
    pub(super) route: Option<Route>,
    pub(super) receipt: Receipt,
    /// Whether any call of it may become a dead letter: its predecessor may have died of it.
    pub(super) careful: bool,
}

impl Arrival<'_> {
    /// The call of a request that stands here in the record, as this `frame`.
    #[inline]
    pub(super) fn call(&self, position: Position, request: Request<'_>, frame: &[u8]) -> Call {
        let (budget, deadline) = (request.budget.min(MAX_TIMEOUT), request.deadline);
        let flight = deadline.map(|deadline| self.receipt.flight(deadline - budget));
        let origin = Origin {
            position,
            caller: self.caller,
            id: request.call,
            route: self.route,
            received: self.receipt.received(),
            deadline: self.receipt.deadline(budget, deadline),
            flight: flight.unwrap_or_default(),
        };
        let method = match self.methods.iter().find(|method| method.path == request.path) {
            Some(method) => Method::Known(method),
            None => Method::Other(self.payload.slice_ref(request.path.as_bytes())),
        };
        let answer = request.terms.as_ref().and_then(|terms| terms.answer.as_ref());
        let mortal = self.careful || answer.is_some() || method.retries();
        Call {
            origin,
            frame: mortal.then(|| self.payload.slice_ref(frame)),
            method,
            value: self.payload.slice_ref(request.value),
            codec: request.codec,
            metadata: request.metadata.into_owned(),
            fingerprint: request.fingerprint,
            terms: request.terms,
        }
    }
}
