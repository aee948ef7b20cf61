//! What `#[krpc::service]` generates against: a service's description, and one incoming call.
//!
//! from: [`super::driver`] · to: the generated `SumServer`, and from there the user's handler

use std::{
    cell::Cell,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::task::unconstrained;

use super::{
    idempotency::{Once, Stored},
    incoming::{Invocation, Method},
    responder::Responder,
};
use crate::{
    codec::ValueCodec,
    context::Context,
    error::SetupError,
    metadata::Metadata,
    policy::Policy,
    status::{Code, Status},
    store::StoreKey,
    time::Time,
    wire::frame::Outcome,
};

/// A service as its trait was written.
#[derive(Debug)]
pub struct ServiceDescriptor {
    /// The name that stands in topics and paths.
    pub name: &'static str,
    /// The version the trait states.
    pub version: &'static str,
    /// The trait's documentation.
    pub doc: &'static str,
    /// Its methods.
    pub methods: &'static [&'static MethodDescriptor],
}

/// A method as it was written.
#[derive(Debug)]
pub struct MethodDescriptor {
    /// The name on the wire.
    pub name: &'static str,
    /// `service/method`.
    pub path: &'static str,
    /// The method's documentation.
    pub doc: &'static str,
    /// Its arguments, without the context.
    pub args: &'static [ArgDescriptor],
    /// The type of its value, as written.
    pub output: &'static str,
    /// The type of its own error, as written; `None` for a bare return type.
    pub error: Option<&'static str>,
    /// The deadline of its calls, unless the caller sets one; `None` for the channel's.
    pub timeout: Option<Duration>,
    /// Whether executing it twice is as good as once.
    pub idempotent: bool,
    /// What its other options promise.
    pub policy: &'static Policy,
    /// A hash of names and types: when a peer's differs, a failure to decode is explained by it.
    pub fingerprint: u32,
}

/// An argument as it was written.
#[derive(Debug)]
pub struct ArgDescriptor {
    /// Its name, which is its field on the wire.
    pub name: &'static str,
    /// Its type.
    pub ty: &'static str,
}

/// A service that can be served. Implemented by the generated `…Server` types.
pub trait Service: Send + Sync + 'static {
    /// What the service is.
    fn descriptor(&self) -> &'static ServiceDescriptor;

    /// Runs one call. Must not block.
    fn dispatch(&self, call: Incoming);
}

/// Whether a service's name can be part of a topic's name.
///
/// # Errors
/// [`SetupError::InvalidService`].
pub fn check_service_name(name: &str) -> Result<(), SetupError> {
    const MAX: usize = 150;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = match name {
        "" => "it is empty",
        "." | ".." => "a topic cannot be called that",
        name if name.len() > MAX => "it is longer than 150 bytes",
        name if !name.bytes().all(legal) => "only letters, digits, '.', '_' and '-' are allowed",
        _ => return Ok(()),
    };
    Err(SetupError::InvalidService { name: name.to_owned(), reason: reason.to_owned() })
}

/// One call on its way to a handler. Dropping it answers `Internal`.
pub struct Incoming {
    call: Invocation,
    context: Context,
    responder: Responder,
    /// Whether the handler may be polled by the thread that hands the call out: most handlers are
    /// done at once, or wait for something, and a task for each would cost more than they do.
    here: bool,
}

impl Incoming {
    pub(crate) fn new(
        call: Invocation,
        context: Context,
        responder: Responder,
        here: bool,
    ) -> Self {
        Self { call, context, responder, here }
    }

    /// Whether it is for one of the methods that the service describes.
    pub(crate) const fn is_known(&self) -> bool {
        matches!(self.call.method, Method::Known(_))
    }

    /// `service/method`.
    pub fn path(&self) -> &str {
        match &self.call.method {
            Method::Known(method) => method.path,
            // Checked when the frame was read, so the default never shows.
            Method::Other(path) => std::str::from_utf8(path).unwrap_or_default(),
        }
    }

    /// The method's name on the wire.
    pub fn method(&self) -> &str {
        match &self.call.method {
            Method::Known(method) => method.name,
            Method::Other(_) => self.path().rsplit_once('/').map_or("", |(_, method)| method),
        }
    }

    /// Runs a handler whose method returns a bare value.
    pub fn run<A, T, H, F>(self, method: &'static MethodDescriptor, handler: H)
    where
        A: DeserializeOwned,
        T: Serialize + 'static,
        H: FnOnce(Context, A) -> F,
        F: Future<Output = T> + Send + 'static,
    {
        self.start(method, handler, |value: &T, codec, out| {
            codec.encode(value, out).map(|()| true).map_err(|error| error.to_string())
        });
    }

    /// Runs a handler whose method returns a `Result`.
    pub fn try_run<A, T, E, H, F>(self, method: &'static MethodDescriptor, handler: H)
    where
        A: DeserializeOwned,
        T: Serialize + 'static,
        E: Serialize + 'static,
        H: FnOnce(Context, A) -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.start(method, handler, |result: &Result<T, E>, codec, out| {
            let encoded = match result {
                Ok(value) => codec.encode(value, out).map(|()| true),
                Err(error) => codec.encode(error, out).map(|()| false),
            };
            encoded.map_err(|error| error.to_string())
        });
    }

    /// Answers that the service has no such method.
    pub fn unimplemented(self) {
        let message = format!("no method {:?}", self.path());
        self.refuse(Status::new(Code::Unimplemented, message));
    }

    /// Answers with a status.
    pub fn refuse(self, status: Status) {
        self.responder.finish(Outcome::Status(status), Metadata::new());
    }

    fn start<A, R, H, F>(mut self, method: &'static MethodDescriptor, handler: H, encode: Encode<R>)
    where
        A: DeserializeOwned,
        H: FnOnce(Context, A) -> F,
        F: Future<Output = R> + Send + 'static,
        R: 'static,
    {
        if let Some(key) = self.call.idempotency_key.take() {
            return self.share(key, method, handler, encode);
        }
        let Self { call, context, responder, here } = self;
        // The arguments' and the handler's code is the user's: a panic ends the call, and not the
        // thread that begins it.
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let args = arguments::<A>(method, &call)?;
            let mut future = Box::pin(handler(context.clone(), args));
            let mut task = TaskContext::from_waker(Waker::noop());
            // It may be polled in a task that another began, whose budget is not for it.
            let mut whole = pin!(unconstrained(future.as_mut()));
            let polled = if here { whole.as_mut().poll(&mut task) } else { Poll::Pending };
            Ok((future, polled))
        }));
        let run = Run { method, encode, codec: call.codec, context, responder };
        match begun {
            Ok(Ok((_, Poll::Ready(value)))) => run.respond(Ok(value)),
            Ok(Ok((future, Poll::Pending))) => run.spawn(future),
            Ok(Err(status)) => run.respond(Err(status)),
            Err(_) => run.respond(Err(panicked())),
        }
    }

    /// Runs a handler whose result is that of all calls with its idempotency key.
    fn share<A, R, H, F>(
        self,
        key: Box<str>,
        method: &'static MethodDescriptor,
        handler: H,
        encode: Encode<R>,
    ) where
        A: DeserializeOwned,
        H: FnOnce(Context, A) -> F,
        F: Future<Output = R> + Send + 'static,
        R: 'static,
    {
        let Self { call, context, mut responder, .. } = self;
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let caller = context.proven_caller().cloned();
            let key = StoreKey::new(method.path, key).of_caller(caller);
            let once = Once::new(responder.idempotency(), key, method.policy.retention, &call)?;
            let args = arguments::<A>(method, &call)?;
            Ok((once, handler(context.clone(), args)))
        }));
        let (once, future) = match begun.unwrap_or_else(|_| Err(panicked())) {
            Ok(begun) => begun,
            Err(status) => return responder.finish(Outcome::Status(status), Metadata::new()),
        };
        let codec = call.codec;
        let execution = Box::pin(async move {
            let result = future.await;
            let mut value = Vec::new();
            match encode(&result, codec, &mut value) {
                Ok(ok) => Ok(Stored { ok, codec, value: value.into() }),
                Err(error) => Err(unencodable(method, &error)),
            }
        });
        // Without a server there is nobody to answer.
        let Some(runtime) = responder.detach() else { return };
        runtime.spawn(once.answer(execution, context, responder));
    }
}

thread_local! {
    /// Where values are written before they are copied into packets, for no lock may be held while
    /// the user's code writes them.
    static VALUE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of a buffer that is kept for the next value.
const KEPT: usize = 64 * 1024;

/// Writes what a handler returned; true for a value, false for the application's own error.
type Encode<R> = fn(&R, ValueCodec, &mut Vec<u8>) -> Result<bool, String>;

/// A handler that was begun, and what its answer needs.
struct Run<R> {
    method: &'static MethodDescriptor,
    encode: Encode<R>,
    codec: ValueCodec,
    context: Context,
    responder: Responder,
}

impl<R: 'static> Run<R> {
    /// Goes on in a task of its own, until the handler is done, unwanted or overdue.
    fn spawn<F>(mut self, future: Pin<Box<F>>)
    where
        F: Future<Output = R> + Send + 'static,
    {
        // Without a server there is nobody to answer.
        let Some(runtime) = self.responder.detach() else { return };
        runtime.spawn(async move {
            // It may have waited for a thread.
            let ended = match unwanted(&self.context, self.context.now()) {
                Some(status) => {
                    drop(future);
                    Err(status)
                }
                None => tokio::select! {
                    biased;
                    value = future => Ok(value),
                    () = self.context.cancelled() => Err(cancelled()),
                    () = tokio::time::sleep_until(self.context.deadline().into()) => Err(overdue()),
                },
            };
            self.respond(ended);
        });
    }

    fn respond(self, ended: Result<R, Status>) {
        let Self { method, encode, codec, context, responder, .. } = self;
        // For what the handler spawned: its call is over, one way or another.
        context.cancel();
        let mut value = VALUE.take();
        value.clear();
        let outcome = match ended.map(|result| encode(&result, codec, &mut value)) {
            Ok(Ok(true)) => Outcome::Ok { codec, value: &value },
            Ok(Ok(false)) => Outcome::App { codec, value: &value },
            Ok(Err(error)) => Outcome::Status(unencodable(method, &error)),
            Err(status) => Outcome::Status(status),
        };
        responder.finish(outcome, context.take_reply_metadata());
        if value.capacity() <= KEPT {
            VALUE.set(value);
        }
    }
}

fn arguments<A: DeserializeOwned>(
    method: &MethodDescriptor,
    call: &Invocation,
) -> Result<A, Status> {
    call.codec.decode::<A>(&call.value).map_err(|error| {
        let hint = match call.fingerprint {
            0 => "",
            theirs if theirs == method.fingerprint => "",
            _ => "; the caller was built with another signature of this method",
        };
        let message = format!("arguments of {}: {error}{hint}", method.path);
        Status::new(Code::InvalidArgument, message)
    })
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Why a call need not be executed any more.
pub(super) fn unwanted(context: &Context, now: Time) -> Option<Status> {
    match () {
        () if context.is_cancelled() => Some(cancelled()),
        () if context.is_late(now) => Some(overdue()),
        () => None,
    }
}

pub(super) fn cancelled() -> Status {
    Status::new(Code::Cancelled, "the caller gave up")
}

pub(super) fn overdue() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed before the handler was done")
}

pub(super) fn panicked() -> Status {
    Status::new(Code::Internal, "the handler panicked")
}

fn unencodable(method: &MethodDescriptor, error: &str) -> Status {
    Status::new(Code::Internal, format!("the value of {} cannot be encoded: {error}", method.path))
}

/// A service behind a shared pointer serves as the service does.
impl<S: Service + ?Sized> Service for Arc<S> {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        (**self).descriptor()
    }

    fn dispatch(&self, call: Incoming) {
        (**self).dispatch(call);
    }
}
