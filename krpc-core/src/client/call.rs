//! A call: a builder that sends nothing until it is awaited, and the future that it becomes.
//!
//! from: the generated client · to: [`super::channel`] and [`super::machine`]

use std::{
    borrow::Cow,
    convert::Infallible,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    attempts::Attempts,
    channel::{Channel, ServiceChannel},
    ending::{DecodeError, reply, value},
    enqueue::Enqueue,
    pending::Completion,
    request::{Callee, Delay, Request, no_time, open, start},
    retry::RetryPolicy,
};
use crate::{
    codec::ValueCodec,
    error::Error,
    ids::{CallId, InstanceId},
    key::{Key, key_of},
    metadata::Metadata,
    server::{
        builtin::{INFO, PING, ServiceInfo},
        service::{MethodDescriptor, ServiceDescriptor},
    },
    status::{Code, Status},
    transport::BoxFuture,
};

/// An untyped client of one service; the generated clients are made of it. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    /// Keeps the channel open as long as a client or a call of it lives.
    channel: Channel,
    service: Arc<ServiceChannel>,
    name: Cow<'static, str>,
}

impl Client {
    /// A client of `service` on a channel. Nothing is sent; the first call opens the service.
    pub fn new(channel: &Channel, service: &'static ServiceDescriptor) -> Self {
        let client = Self::named(channel, Cow::Borrowed(service.name));
        let exact = |method: &&MethodDescriptor| method.policy.keyed || method.policy.at_most_once;
        if service.methods.iter().any(exact) {
            client.service().expect_exact();
        }
        client
    }

    /// A client of a service that is known by name only: for [`Client::ping`] and
    /// [`Client::info`].
    pub fn named(channel: &Channel, name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        let (channel, service) = (channel.clone(), channel.service(&name));
        Self { inner: Arc::new(Inner { channel, service, name }) }
    }

    /// The channel that carries the calls.
    pub fn channel(&self) -> &Channel {
        &self.inner.channel
    }

    pub(super) fn service(&self) -> &Arc<ServiceChannel> {
        &self.inner.service
    }

    /// A call of a method that returns a bare value.
    pub fn call<A: Serialize, T>(&self, method: &'static MethodDescriptor, args: &A) -> Call<T> {
        // A server cannot answer a bare method with an application's error; if one does, the
        // bytes are kept in the status.
        let never = |_: ValueCodec, _: &[u8]| Err(None);
        self.build(Callee::Method(method), args, never)
    }

    /// A call of a method that returns a `Result`.
    pub fn try_call<A: Serialize, T, E: DeserializeOwned>(
        &self,
        method: &'static MethodDescriptor,
        args: &A,
    ) -> Call<T, E> {
        let decode = |codec: ValueCodec, bytes: &[u8]| codec.decode(bytes).map_err(Some);
        self.build(Callee::Method(method), args, decode)
    }

    /// Asks any server of the service whether it is there; yields the server's instance, in
    /// hexadecimal.
    pub fn ping(&self) -> Call<String> {
        self.builtin(PING)
    }

    /// Asks any server of the service what it serves.
    pub fn info(&self) -> Call<ServiceInfo> {
        self.builtin(INFO)
    }

    fn builtin<T>(&self, method: &str) -> Call<T> {
        let never = |_: ValueCodec, _: &[u8]| Err(None);
        let path = format!("{}/{method}", self.inner.name);
        self.build(Callee::Builtin(path.into()), &NoArgs {}, never)
    }

    fn build<A: Serialize, T, E>(
        &self,
        callee: Callee,
        args: &A,
        decode_error: DecodeError<E>,
    ) -> Call<T, E> {
        let codec = ValueCodec::MessagePack;
        let mut value = Vec::with_capacity(ARGUMENTS);
        let encoded = codec.encode(args, &mut value);
        let fault = encoded.err().map(|error| {
            let path = callee.path();
            let message = format!("the arguments of {path} cannot be encoded: {error}");
            Box::new(Status::new(Code::InvalidArgument, message))
        });
        let state = State::Built(Request::new(self.clone(), callee, (codec, value), fault));
        Call { reply: ReplyFuture { state, decode_error, types: PhantomData } }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("service", &self.inner.name)
            .field("channel", &self.inner.channel)
            .finish()
    }
}

/// Bytes that most arguments fit in, so that their buffer need not grow.
const ARGUMENTS: usize = 64;

#[derive(Serialize)]
struct NoArgs {}

/// A call that was not made yet: `.await` makes it and yields the value. A future that can be
/// spawned and joined as it is.
///
/// Dropping it before it is done gives the call up: its server is told, and the table of calls in
/// flight forgets it. The options have no effect once it was polled.
///
/// A call of a `#[rpc(one_way)]` method is done when the broker has it: no server need be there,
/// and dropping the future after the first poll does not call it back. It lives as long as
/// [`Call::timeout`] says, or for the queue timeout (`KRPC_QUEUE_TIMEOUT`, 7 days); its caller
/// waits for the broker no longer than for an answer.
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<T, E = Infallible> {
    reply: ReplyFuture<T, E>,
}

impl<T, E> Call<T, E> {
    /// How long to wait for the reply, from the moment the call is awaited, or is due if it is
    /// [delayed](Call::delay). Without it the method's timeout holds, and without that the
    /// channel's (10 s by default). Zero fails at once; more than a year is a year.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let State::Built(request) = &mut self.reply.state {
            request.timeout = Some(timeout);
        }
        self
    }

    /// Sends a pair of metadata along. A pair that breaks the rules of
    /// [`Metadata::insert`] makes the call fail when it is awaited, before anything is sent.
    pub fn header(mut self, key: &str, value: &str) -> Self {
        if let State::Built(request) = &mut self.reply.state
            && let Err(status) = request.metadata.insert(key, value)
        {
            request.fault.get_or_insert(Box::new(status));
        }
        self
    }

    /// Calls of a service with the same key are executed one at a time, in the order in which they
    /// were sent by this client; calls with other keys go on meanwhile. It takes the place of the
    /// key that `#[rpc(key = …)]` gives the call.
    ///
    /// The order is that of the first polls, once the service is open: the generated
    /// `SumClient::connect` and `Channel::open` open it, else the first call does, and calls that
    /// wait for that go in any order. Awaiting each call before the next is made keeps the order in
    /// any case. A call with a key is not sent again by itself, for it would come behind those that
    /// followed it: [`Call::retry`] says so, and [`Call::hedge`] is refused.
    ///
    /// A key that is empty or has more than 1,024 bytes makes the call fail with `InvalidArgument`
    /// when it is awaited, before anything is sent.
    pub fn key(mut self, key: impl Key) -> Self {
        if let State::Built(request) = &mut self.reply.state {
            request.set_key(key_of(&key));
        }
        self
    }

    /// Calls of a method with the same idempotency key are executed once between them, whoever
    /// sends them, and all of them have the result of that execution: its value, or the
    /// application's error. It is kept as long as `#[rpc(retention = …)]` says, 24 h by default. A
    /// status, such as that of a handler that panicked, is no result: the next call executes. Nor
    /// is the error of a call that is executed again for it, or becomes a dead letter.
    ///
    /// The service's servers need a result store, else the call fails with `FailedPrecondition`.
    /// Should a server die while it executes, another one executes once its claim of the key has
    /// run out (`KRPC_IDEMPOTENCY_LEASE`, 10 s). The same key with other arguments fails with
    /// `InvalidArgument`. With a key, calls of any method can be retried and hedged, and are
    /// retried as those of idempotent methods.
    ///
    /// A key that is empty or has more than 256 bytes makes the call fail with `InvalidArgument`
    /// when it is awaited, before anything is sent.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        if let State::Built(request) = &mut self.reply.state {
            request.set_idempotency_key(key.into());
        }
        self
    }

    /// When this call is sent again after a failure that may pass, instead of as its channel says.
    /// The attempts share the call's deadline, and the channel's budget bounds them together with
    /// those of all other calls of the service.
    ///
    /// For `#[rpc(idempotent)]` methods and calls with an idempotency key only: others fail with
    /// `InvalidArgument` when they are awaited, before anything is sent, unless the policy is
    /// [`RetryPolicy::none`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        if let State::Built(request) = &mut self.reply.state {
            request.set_retry(policy);
        }
        self
    }

    /// Has the call executed so long after it is awaited, or a little later: a few milliseconds,
    /// if its server has a place for it. The first delayed call of a service waits longer for its
    /// topics to be made. It waits with the broker, not in this process; awaited, it also counts
    /// among the calls in flight here. Zero is no delay; of [`Call::delay`] and [`Call::at`] the
    /// last one counts.
    ///
    /// The time that the call has begins when it is due: an awaited one fails after the delay and
    /// [`Call::timeout`], one that ends when the broker has it lives for the delay and its life
    /// (`KRPC_QUEUE_TIMEOUT`, 7 days). Its caller waits for the broker as if it were not delayed.
    /// The handler sees the time in [`Context::due`](crate::context::Context::due).
    ///
    /// It may be executed more than once, as any call may that is not at most once. Calls of a key
    /// take their place in its order when they are due. Dropping the future cancels the call
    /// wherever it waits, as long as this process reaches the broker.
    ///
    /// `InvalidArgument` when it is awaited, before anything is sent: delay and time together are
    /// more than 366 days; the method is `#[rpc(at_most_once)]`; the call is [hedged](Call::hedge);
    /// it is one that every service has, such as `ping`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use krpc_core::client::call::Call;
    ///
    /// async fn remind(call: Call<()>) -> Result<(), krpc_core::error::Error> {
    ///     let ticket = call.delay(Duration::from_secs(24 * 60 * 60)).enqueue().await?;
    ///     println!("tomorrow: {ticket}");
    ///     Ok(())
    /// }
    /// ```
    pub fn delay(self, delay: Duration) -> Self {
        self.later(Delay::After(delay))
    }

    /// Has the call executed at that time, by this machine's clock as it is when the call is
    /// awaited; at once, if it has passed. All else is as with [`Call::delay`].
    pub fn at(self, time: SystemTime) -> Self {
        self.later(Delay::At(time))
    }

    fn later(mut self, delay: Delay) -> Self {
        if let State::Built(request) = &mut self.reply.state {
            request.set_delay(delay);
        }
        self
    }

    /// Sends the call once more, to another server, if an attempt was not answered for so long.
    /// The first of the two that ends for good decides, and the other is cancelled; a failure
    /// that may pass waits for the other. A call is hedged once, beside the attempts of its policy;
    /// the channel's budget counts it.
    ///
    /// For the same calls as [`Call::retry`].
    pub fn hedge(mut self, after: Duration) -> Self {
        if let State::Built(request) = &mut self.reply.state {
            request.set_hedge(after);
        }
        self
    }

    /// Leaves the call with the broker and yields a ticket, with which its answer can be fetched
    /// later: from this process or another, before or after either was restarted. No server need be
    /// there. The ticket comes when the broker has the call.
    ///
    /// The call lives as long as [`Call::timeout`] says, or for the queue timeout
    /// (`KRPC_QUEUE_TIMEOUT`, 7 days); the wait for the broker is as long as for an answer. Its
    /// answer is kept as long as the retention of the service's results topic
    /// (`KRPC_RESULTS_RETENTION`, 7 days). It is not sent again by itself: [`Call::retry`] and
    /// [`Call::hedge`] make it fail with `InvalidArgument`, as does the call of a method that every
    /// service has, such as `ping`.
    pub fn enqueue(mut self) -> Enqueue<T, E> {
        let built = match &mut self.reply.state {
            state @ State::Built(_) => std::mem::replace(state, State::Done),
            _ => State::Done,
        };
        let State::Built(mut request) = built else { return Enqueue::new(None) };
        request.enqueue();
        Enqueue::new(Some(request))
    }

    /// Yields the value together with what is known of its way.
    pub fn reply(self) -> ReplyFuture<T, E> {
        self.reply
    }
}

impl<T: DeserializeOwned, E> Future for Call<T, E> {
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let reply = &mut self.reply;
        let (completion, _) = ready!(reply.state.poll(cx))?;
        Poll::Ready(value(completion.ending, reply.decode_error))
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.reply.state {
            State::Built(request) => request.path(),
            State::Repeated(attempts) => attempts.path(),
            _ => "in flight",
        };
        f.debug_struct("Call").field("path", &path).finish_non_exhaustive()
    }
}

/// A value and what is known of its way here.
///
/// `elapsed` = `flight_request` + `server_elapsed` + `flight_response`. The flights are measured
/// against the broker's clock, so they are good to about a millisecond; `flight_request` is zero
/// as long as one side does not know that clock, which is at most its first call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply<T> {
    /// The handler's value.
    pub value: T,
    /// From awaiting the call to its end; of a call that was sent more than once, from the sending
    /// that was answered.
    pub elapsed: Duration,
    /// From the server's taking the call's record to its writing the reply, waiting included.
    pub server_elapsed: Duration,
    /// From this client's send to the server's receipt.
    pub flight_request: Duration,
    /// From the server's reply to its arrival here.
    pub flight_response: Duration,
    /// The instance of the server that answered.
    pub server_id: InstanceId,
    /// How often the call was sent, for retries and hedges.
    pub attempts: u32,
    /// What the server sent along.
    pub metadata: Metadata,
}

/// The future of a call, yielding its whole [`Reply`].
#[must_use = "a call does nothing until it is awaited"]
pub struct ReplyFuture<T, E = Infallible> {
    state: State,
    decode_error: DecodeError<E>,
    types: PhantomData<fn() -> T>,
}

enum State {
    Built(Request),
    /// Nearly no call finds its service closed, and a state is moved about: so it is boxed.
    Opening(Box<(BoxFuture<'static, Result<(), Status>>, Request)>),
    InFlight(CallId, Client),
    /// A call that may be sent more than once.
    Repeated(Box<Attempts>),
    Done,
}

impl State {
    /// The end of the call, once, and how often the call was sent.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(Completion, u32), Status>> {
        loop {
            match self {
                Self::InFlight(id, client) => {
                    let ended = client.service().poll_call(*id, cx.waker());
                    let Some(completion) = ended else { return Poll::Pending };
                    *self = Self::Done;
                    return Poll::Ready(Ok((completion, 1)));
                }
                Self::Repeated(attempts) => {
                    let completion = ready!(attempts.poll(cx));
                    let sent = attempts.sent();
                    *self = Self::Done;
                    return Poll::Ready(Ok((completion, sent)));
                }
                Self::Opening(opening) => {
                    let opened = ready!(opening.0.as_mut().poll(cx));
                    if let Err(status) = opened {
                        *self = Self::Done;
                        return Poll::Ready(Err(status));
                    }
                }
                Self::Built(_) | Self::Done => {}
            }
            let mut request = match std::mem::replace(self, Self::Done) {
                Self::Built(request) => request,
                Self::Opening(opening) => opening.1,
                _ => panic!("a call was polled after it ended"),
            };
            if let Some(status) = request.mistake() {
                return Poll::Ready(Err(status));
            }
            // Asked once: it may become so in between.
            if !request.client.service().is_ready() {
                *self = Self::opening(request)?;
            } else if request.may_repeat() {
                *self = Self::Repeated(Box::new(Attempts::new(request)));
            } else {
                *self = Self::InFlight(start(&request, None, cx)?, request.client);
                return Poll::Pending;
            }
        }
    }

    /// A call whose service is not open yet.
    #[cold]
    fn opening(mut request: Request) -> Result<Self, Status> {
        let service = Arc::clone(request.client.service());
        let now = service.clock().now();
        let deadline = request.deadline(now);
        request.deadline = Some(deadline);
        match deadline <= now {
            true => Err(no_time()),
            false => Ok(Self::Opening(Box::new((Box::pin(open(service, deadline)), request)))),
        }
    }
}

impl<T: DeserializeOwned, E> Future for ReplyFuture<T, E> {
    type Output = Result<Reply<T>, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let (completion, sent) = ready!(self.state.poll(cx))?;
        Poll::Ready(reply(completion, sent, self.decode_error))
    }
}

impl<T, E> Drop for ReplyFuture<T, E> {
    fn drop(&mut self) {
        if let State::InFlight(id, client) = &self.state {
            client.give_up(*id);
        }
    }
}

impl<T, E> fmt::Debug for ReplyFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyFuture")
    }
}
