//! A call as it was taken from its record.
//!
//! Pure.
//!
//! from: [`super::machine`], for each request frame · to: [`super::intake`]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    askers::AskerId,
    codec::ValueCodec,
    deadline::{MAX_TIMEOUT, Receipt},
    ids::{CallId, InstanceId, Position},
    metadata::Metadata,
    policy::{ServerRetry, Then},
    server::{keys::KeyHash, service::MethodDescriptor},
    time::Time,
    transport::Topology,
    wire::{
        frame::{Request, Terms},
        packet::{Route, Routes},
    },
};

/// Where a call comes from, and its answer goes: what is kept of it while its handler runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Where it stands in the calls topic.
    pub position: Position,
    /// The client that waits.
    pub caller: InstanceId,
    /// Who asked, as its seal proves it.
    pub asker: AskerId,
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
    /// What tells the call's key from others, if it has one.
    pub key: Option<KeyHash>,
    /// Nobody wants an answer.
    pub silent: bool,
    /// It was made to be executed later.
    pub delayed: bool,
    /// Where it was listed last among the calls that have not ended: another may be there by now.
    pub listed: u32,
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
    /// `service/method`.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Known(method) => method.path,
            // Checked when it was taken from its record.
            Self::Other(path) => std::str::from_utf8(path).unwrap_or_default(),
        }
    }

    /// Whether a call of it is executed again when it fails.
    const fn retries(&self) -> bool {
        matches!(self, Self::Known(method) if method.policy.retry.is_some())
    }

    /// Whether a call of it is executed once at most.
    pub(super) const fn is_at_most_once(&self) -> bool {
        matches!(self, Self::Known(method) if method.policy.at_most_once)
    }
}

/// What is left of a call when it runs: what its handler needs, and no more, for it is moved about.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(super) method: Method,
    /// The arguments, encoded.
    pub(super) value: Bytes,
    pub(super) codec: ValueCodec,
    pub(super) fingerprint: u32,
    pub(super) idempotency_key: Option<Box<str>>,
    /// The application's own error is a result. Where it asks for another execution, or makes a
    /// dead letter that may be sent once more, it is not.
    pub(super) keeps_errors: bool,
}

impl From<Call> for Invocation {
    fn from(call: Call) -> Self {
        let keeps_errors = !(call.is_queued() && call.may_be_buried());
        let Call { method, value, codec, fingerprint, terms, .. } = call;
        let idempotency_key = terms.and_then(|terms| terms.idempotency_key);
        Self { method, value, codec, fingerprint, idempotency_key, keeps_errors }
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
    /// Its frame as it stands in the record; only of calls that may become dead letters. Behind a
    /// pointer: most calls have none, and all are moved about.
    pub frame: Option<Box<Bytes>>,
    /// Executions here that failed.
    pub failed: u32,
    /// The fence of the ownership under which it was taken.
    pub fence: u64,
    /// Executions that may have ended their servers.
    pub begins: u32,
    /// What there is to say of who makes it. Behind a pointer, as the frame is.
    pub verdict: Option<Box<Verdict>>,
}

/// What a call's seal proves of who makes it, and what follows. Most calls have none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The caller's name, if its key is its own.
    pub caller: Option<Arc<str>>,
    /// The call is not its caller's to make, who has yet to be told.
    pub denied: bool,
}

/// Of calls that nobody waits for, if their method says nothing else.
const ONCE: ServerRetry = ServerRetry {
    max: 1,
    first: Duration::from_millis(100),
    most: Duration::from_secs(10),
    then: Then::DeadLetter,
};

impl Call {
    /// Copies what it has of its record. Whoever keeps a call for long would keep the whole record
    /// in memory otherwise, with all the others that it came with.
    pub(super) fn detach(&mut self) {
        if let Method::Other(path) = &mut self.method {
            *path = Bytes::copy_from_slice(path);
        }
        self.value = Bytes::copy_from_slice(&self.value);
        if let Some(frame) = &mut self.frame {
            **frame = Bytes::copy_from_slice(frame);
        }
    }

    /// What it holds in memory, once it is detached, but for small things.
    pub(super) fn bytes(&self) -> usize {
        let path = match &self.method {
            Method::Known(_) => 0,
            Method::Other(path) => path.len(),
        };
        path + self.value.len() + self.frame.as_ref().map_or(0, |frame| frame.len())
    }

    /// A term that cannot be kept to: the call is refused rather than executed. What is moved is
    /// repeated after a crash.
    pub(super) fn unkept_term(&self) -> Option<&'static str> {
        (self.origin.delayed && self.method.is_at_most_once()).then_some("due")
    }

    /// When it is to be executed, on the broker's clock, if it says so.
    pub fn due(&self) -> Option<Time> {
        Some(self.terms.as_ref()?.due?.due)
    }

    /// The name of who makes it, if its key is its own.
    pub(super) fn caller(&self) -> Option<&Arc<str>> {
        self.verdict.as_ref()?.caller.as_ref()
    }

    /// Whether it is not its caller's to make.
    pub(super) fn is_denied(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.denied)
    }

    /// The call's key.
    pub fn key(&self) -> Option<&[u8]> {
        self.terms.as_ref()?.key.as_deref()
    }

    /// Whether its caller does not wait for its answer: it is executed again when it fails.
    pub fn is_queued(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| is_queued(terms))
    }

    /// Executions that came before and failed, wherever that was.
    pub fn executions(&self) -> u32 {
        let moved = self.terms.as_ref().and_then(|terms| terms.attempt);
        moved.unwrap_or(1).saturating_sub(1).saturating_add(self.failed)
    }

    /// Which execution the next one is, as its handler is told.
    pub fn attempt(&self) -> u32 {
        self.executions().saturating_add(self.begins).saturating_add(1)
    }

    /// How often it is executed, and what follows.
    pub fn retry(&self) -> ServerRetry {
        match self.method {
            Method::Known(method) => method.policy.retry.unwrap_or(ONCE),
            Method::Other(_) => ONCE,
        }
    }

    /// Whether it becomes a dead letter once it is given up. What a caller comes back for does
    /// only if its method asks for it: its error is an answer like others.
    pub fn may_be_buried(&self) -> bool {
        self.origin.silent || self.method.retries()
    }

    /// When an execution that begins now is over time. Calls that wait in the topic have long
    /// deadlines; what the method says bounds one execution of them.
    pub fn execution_deadline(&self, now: Time) -> Time {
        match self.method {
            Method::Known(method) if self.is_queued() => {
                let bound = method.timeout.map_or(Time::MAX, |timeout| now + timeout);
                bound.min(self.origin.deadline)
            }
            _ => self.origin.deadline,
        }
    }
}

/// A record that calls are taken from: what is the same for all of them.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) payload: &'a Bytes,
    pub(super) methods: Methods,
    pub(super) topology: Topology,
    pub(super) caller: InstanceId,
    pub(super) asker: AskerId,
    pub(super) route: Option<Route>,
    pub(super) receipt: Receipt,
    /// Whether any call of it may become a dead letter: its predecessor may have died of it.
    pub(super) careful: bool,
    pub(super) fence: u64,
}

impl<'a> Arrival<'a> {
    /// The call of a request that stands here in the record, as this `frame`.
    #[inline]
    pub(super) fn call(
        &self,
        position: Position,
        request: Request<'_>,
        frame: impl FnOnce() -> &'a [u8],
    ) -> Call {
        let (budget, deadline) = (request.budget.min(MAX_TIMEOUT), request.deadline);
        let flight = deadline.map(|deadline| self.receipt.flight(deadline - budget));
        let mut origin = Origin {
            position,
            caller: self.caller,
            asker: self.asker,
            id: request.call,
            route: self.route,
            received: self.receipt.received(),
            deadline: self.receipt.deadline(budget, deadline),
            flight: flight.unwrap_or_default(),
            key: None,
            silent: false,
            delayed: false,
            listed: u32::MAX,
        };
        if let Some(terms) = &request.terms {
            self.agree(terms, &mut origin);
        }
        let method = match self.methods.iter().find(|method| method.path == request.path) {
            Some(method) => Method::Known(method),
            None => Method::Other(self.payload.slice_ref(request.path.as_bytes())),
        };
        let queued = request.terms.as_ref().is_some_and(|terms| is_queued(terms));
        let mortal = self.careful || queued || method.retries();
        Call {
            origin,
            frame: mortal.then(|| Box::new(self.payload.slice_ref(frame()))),
            method,
            value: self.payload.slice_ref(request.value),
            codec: request.codec,
            metadata: request.metadata.into_owned(),
            fingerprint: request.fingerprint,
            terms: request.terms,
            failed: 0,
            fence: self.fence,
            begins: 0,
            verdict: None,
        }
    }

    /// What a call's terms say of where it comes from and its answer goes.
    fn agree(&self, terms: &Terms, origin: &mut Origin) {
        if let Some(answer) = &terms.answer {
            origin.silent = answer.is_empty();
            // How many partitions the results have may not be known yet.
            let exists = |route: &&Route| {
                matches!(route, Route::Results(_)) || is_there(self.topology, route)
            };
            origin.route = answer.iter().find(exists).copied();
        }
        origin.delayed = terms.due.is_some();
        if let Some(from) = terms.origin {
            (origin.caller, origin.id) = (from.caller, from.call);
        }
    }
}

/// Whether nobody waits for the answer, or who does has a ticket. The answer of a call that was
/// moved goes where its caller waits: to a partition of replies.
fn is_queued(terms: &Terms) -> bool {
    let waits = |answer: &Routes| answer.iter().any(|route| matches!(route, Route::Partition(_)));
    terms.answer.as_ref().is_some_and(|answer| !waits(answer))
}

/// The first route that there is. A partition beyond the topic's would fail for ever, and hold up
/// the commit point meanwhile.
pub(super) fn way_back(topology: Topology, routes: &[Route]) -> Option<Route> {
    routes.iter().find(|route| is_there(topology, route)).copied()
}

fn is_there(topology: Topology, route: &Route) -> bool {
    matches!(route, Route::Partition(partition) if *partition < topology.reply_partitions)
}
