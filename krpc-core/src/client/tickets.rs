//! What can be done with a ticket: fetch the answer, ask how far the call is, cancel it.
//!
//! Nothing of the process that made the call is needed, and nothing that a server keeps in memory:
//! the answer stands in the results topic, how far the group is in its commits.
//!
//! from: the generated client · to: `attach`, which reads, and the transport

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;

use super::{
    attach::Watching,
    call::{Client, Reply},
    channel::ServiceChannel,
    ending::{DecodeError, reply},
    pending::{Completion, Ending},
    ticket::{Stub, Ticket},
};
use crate::{
    codec::{CodecError, ValueCodec},
    deadline::MAX_TIMEOUT,
    error::Error,
    server::commit_map::FinishedMap,
    status::{Code, Status},
    time::{Micros, Time},
    transport::{BoxFuture, Committed, Topic},
};

/// Of a call whose deadline passed.
const UNANSWERED: &str = "the call was not answered before its deadline";

/// How far a call is that was enqueued.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TicketStatus {
    /// It waits for a server, or for its time.
    #[non_exhaustive]
    Queued {
        /// How many records at most are before it in its partition, of which each may hold several
        /// calls; `None` where that is not known, as of calls that were delayed.
        ahead: Option<u64>,
        /// When it is to be executed, by this machine's clock, if it was delayed.
        due: Option<SystemTime>,
    },
    /// Its handler was begun, for the so-manieth time. Should its server be gone, a call that is
    /// executed once at most seems to run until its deadline, and is unknown from then on.
    Running {
        /// 1 is the first time.
        attempt: u32,
    },
    /// It was answered, with a value or an error: `attach` yields it.
    Done,
    /// It was cancelled, and not executed to its end.
    Cancelled,
    /// Its deadline passed before it was executed.
    Expired,
    /// Nothing is known of it: its answer or the call itself is kept no longer, or the topics were
    /// made anew.
    Unknown,
}

/// An error that can be read from an answer: of any type that serde reads, or none at all.
///
/// `M` only tells the two apart, and is inferred.
pub trait TicketError<M>: Sized {
    /// Reads it; `Err(None)` if the method has none.
    ///
    /// # Errors
    /// It is of another type.
    fn read(codec: ValueCodec, bytes: &[u8]) -> Result<Self, Option<CodecError>>;
}

/// See [`TicketError`]: of a method that returns a bare value.
#[derive(Debug)]
pub enum Bare {}

/// See [`TicketError`]: of a method that returns a `Result`.
#[derive(Debug)]
pub enum Fallible {}

impl TicketError<Bare> for Infallible {
    fn read(_: ValueCodec, _: &[u8]) -> Result<Self, Option<CodecError>> {
        Err(None)
    }
}

impl<E: DeserializeOwned> TicketError<Fallible> for E {
    fn read(codec: ValueCodec, bytes: &[u8]) -> Result<Self, Option<CodecError>> {
        codec.decode(bytes).map_err(Some)
    }
}

/// The answer of an enqueued call, once it is awaited: the value, or the call's error. It waits as
/// long as the call may live, unless [`Attach::timeout`] says otherwise.
///
/// Dropping it changes nothing for the call, which can be attached to as often as one likes.
#[must_use = "an answer is fetched when this is awaited"]
pub struct Attach<T, E = Infallible> {
    reply: AttachReply<T, E>,
}

impl<T, E> Attach<T, E> {
    /// How long to wait, from the moment this is awaited. Then it fails with `DeadlineExceeded`,
    /// and the call goes on. No effect once it was polled.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let State::Built(plan) = &mut self.reply.state {
            plan.timeout = Some(timeout.min(MAX_TIMEOUT));
        }
        self
    }

    /// Yields the value together with what is known of its way: the server's time, and which server
    /// it was. How long the answer itself was under way is not known.
    pub fn reply(self) -> AttachReply<T, E> {
        self.reply
    }
}

impl<T: DeserializeOwned, E> Future for Attach<T, E> {
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply).poll(cx).map_ok(|reply| reply.value)
    }
}

impl<T, E> fmt::Debug for Attach<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attach")
    }
}

/// The future of [`Attach::reply`].
#[must_use = "an answer is fetched when this is awaited"]
pub struct AttachReply<T, E = Infallible> {
    state: State,
    decode_error: DecodeError<E>,
    types: PhantomData<fn() -> T>,
}

enum State {
    Built(Box<Plan>),
    Waiting(BoxFuture<'static, Result<Completion, Status>>),
}

struct Plan {
    client: Client,
    stub: Stub,
    timeout: Option<Duration>,
}

impl<T: DeserializeOwned, E> Future for AttachReply<T, E> {
    type Output = Result<Reply<T>, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let decode_error = self.decode_error;
        loop {
            match &mut self.state {
                State::Waiting(answer) => {
                    return answer.as_mut().poll(cx).map(|answer| reply(answer?, 1, decode_error));
                }
                State::Built(plan) => {
                    let Plan { client, stub, timeout } = &**plan;
                    let (client, stub, timeout) = (client.clone(), stub.clone(), *timeout);
                    let answer = async move {
                        let service = client.service();
                        service.inside(answer(service, &stub, timeout)).await
                    };
                    self.state = State::Waiting(Box::pin(answer));
                }
            }
        }
    }
}

impl<T, E> fmt::Debug for AttachReply<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttachReply")
    }
}

impl Client {
    /// The answer of an enqueued call, from whatever process.
    ///
    /// It fails with `InvalidArgument` if the ticket is of another service, with `NotFound` if the
    /// answer is kept no longer, and with what the call itself failed with.
    pub fn attach<T, E, M>(&self, ticket: &Ticket<T, E>) -> Attach<T, E>
    where
        E: TicketError<M>,
    {
        let (client, stub) = (self.clone(), ticket.stub.clone());
        let state = State::Built(Box::new(Plan { client, stub, timeout: None }));
        Attach { reply: AttachReply { state, decode_error: E::read, types: PhantomData } }
    }

    /// How far an enqueued call is.
    ///
    /// # Errors
    /// `InvalidArgument` if the ticket is of another service, and whatever keeps the broker from
    /// answering within the channel's timeout.
    pub async fn status<T, E>(&self, ticket: &Ticket<T, E>) -> Result<TicketStatus, Error> {
        let service = self.service();
        Ok(within(service, status(service, &ticket.stub)).await?)
    }

    /// Cancels an enqueued call: it is not executed if it has not begun, its handler's future is
    /// dropped if it has, and who attaches gets `Cancelled`. One that was answered stays answered.
    /// Returns once the broker has the cancel, which needs no server to be there.
    ///
    /// # Errors
    /// `InvalidArgument` if the ticket is of another service, and whatever keeps the broker from
    /// taking the cancel within the channel's timeout.
    pub async fn cancel<T, E>(&self, ticket: &Ticket<T, E>) -> Result<(), Error> {
        let service = self.service();
        Ok(within(service, cancel(service, &ticket.stub)).await?)
    }
}

/// At most as long as a call takes.
pub(super) async fn within<R>(
    service: &ServiceChannel,
    what: impl Future<Output = Result<R, Status>>,
) -> Result<R, Status> {
    let until = service.clock().now() + service.options().timeout;
    service.inside(before(service, until, "the broker did not answer", what)).await
}

/// Until then, or until the channel is closed.
async fn before<R>(
    service: &ServiceChannel,
    until: Time,
    late: &str,
    what: impl Future<Output = Result<R, Status>>,
) -> Result<R, Status> {
    tokio::select! {
        biased;
        done = what => done,
        () = service.wait_until(until) => Err(out_of_time(service, late)),
    }
}

fn out_of_time(service: &ServiceChannel, message: &str) -> Status {
    let closed = service.closed().cloned();
    closed.unwrap_or_else(|| Status::new(Code::DeadlineExceeded, message))
}

async fn answer(
    service: &Arc<ServiceChannel>,
    stub: &Stub,
    timeout: Option<Duration>,
) -> Result<Completion, Status> {
    let began = service.clock().now();
    let completion = if let Some(timeout) = timeout {
        let late = "there was no answer yet; attach again";
        before(service, began + timeout, late, find(service, stub, false)).await?
    } else {
        // Whatever the broker does, at most as long as the call lives and a question takes. The
        // broker's time is known once the service is open.
        let last = || local(service, stub.deadline) + service.options().timeout;
        before(service, last(), UNANSWERED, open(service, stub)).await?;
        before(service, last(), UNANSWERED, find(service, stub, true)).await?
    };
    let elapsed = service.clock().now().micros_since(began);
    // It may have been there long before anybody asked.
    let server_elapsed = completion.server_elapsed.min(elapsed);
    Ok(Completion { elapsed, server_elapsed, flight_request: Micros(0), ..completion })
}

/// The answer, or that there is none; `in_time`, also that there was none by the call's deadline.
async fn find(
    service: &Arc<ServiceChannel>,
    stub: &Stub,
    in_time: bool,
) -> Result<Completion, Status> {
    let watching = watch(service, stub).await?.ok_or_else(gone)?;
    if watching.is_cut().await {
        let (low, end) = service.results_bounds(stub.results_partition).await?;
        let seen = watching.read_to(end).await;
        // A partition that was made anew is not read from where its answers are.
        let anew = stub.results_from > end;
        let lost = async || {
            let cut = stub.results_from < low;
            Ok::<_, Status>(cut && status(service, stub).await? == TicketStatus::Unknown)
        };
        if seen.answer.is_none() && (anew || lost().await?) {
            return Err(gone());
        }
    }
    if !in_time {
        return Ok(watching.answered().await);
    }
    tokio::select! {
        biased;
        answer = watching.answered() => return Ok(answer),
        () = service.wait_until(local(service, stub.deadline)) => {}
    }
    // It may stand there nevertheless.
    let (_, end) = service.results_bounds(stub.results_partition).await?;
    watching.read_to(end).await.answer.ok_or_else(|| out_of_time(service, UNANSWERED))
}

/// Waits for news of the call; `None` if its partition of results is not there (any more).
async fn watch(service: &Arc<ServiceChannel>, stub: &Stub) -> Result<Option<Watching>, Status> {
    open(service, stub).await?;
    let opened = service.transport()?.open_topic(service.index(), Topic::Results).await;
    if stub.results_partition >= opened.map_err(|error| error.to_status())? {
        return Ok(None);
    }
    let call = (stub.caller, stub.call);
    service.watch(stub.results_partition, call, stub.results_from).map(Some)
}

async fn status(service: &Arc<ServiceChannel>, stub: &Stub) -> Result<TicketStatus, Status> {
    let Some(watching) = watch(service, stub).await? else { return Ok(TicketStatus::Unknown) };
    // Before the results, which have the answer of whatever is finished by then. One that was
    // delayed is not where it was: there is only what the results say.
    let delayed = stub.due.is_some();
    let place = if delayed { Standing::Waits(None) } else { place(service, stub).await? };
    let (low, end) = service.results_bounds(stub.results_partition).await?;
    let seen = watching.read_to(end).await;
    let expired = stub.deadline <= broker_time(service);
    // Its answer may have been there, or the topic was made anew.
    let lost = stub.results_from > end || expired && stub.results_from < low;
    let place = if delayed && lost { Standing::Gone } else { place };
    if let Some(answer) = seen.answer {
        let code = match &answer.ending {
            Ending::Status(status) => Some(status.code()),
            _ => None,
        };
        return Ok(match code {
            Some(Code::Cancelled) => TicketStatus::Cancelled,
            // Else it is an execution that took too long.
            Some(Code::DeadlineExceeded) if expired => TicketStatus::Expired,
            _ => TicketStatus::Done,
        });
    }
    Ok(match (place, seen.attempt) {
        // One that is executed once at most is finished for the group before it begins. None runs
        // longer than to its deadline.
        (Standing::Gone, Some(attempt)) if !expired => TicketStatus::Running { attempt },
        (Standing::Gone, _) => TicketStatus::Unknown,
        (_, Some(attempt)) => TicketStatus::Running { attempt },
        _ if expired => TicketStatus::Expired,
        (Standing::Waits(ahead), None) => TicketStatus::Queued { ahead, due: due(service, stub) },
    })
}

/// When a call is due that was delayed.
fn due(service: &ServiceChannel, stub: &Stub) -> Option<SystemTime> {
    let local = service.with(|machine, now| Some(machine.local_time(stub.due?, now)))??;
    service.clock().wall(local)
}

/// Where a call stands in its topic.
enum Standing {
    /// It is not finished, with at most so many records before it.
    Waits(Option<u64>),
    /// It is finished, or not there.
    Gone,
}

async fn place(service: &ServiceChannel, stub: &Stub) -> Result<Standing, Status> {
    let Some(offset) = stub.offset else { return Ok(Standing::Waits(None)) };
    let (transport, index) = (service.transport()?, service.index());
    let committed = transport.committed(index, stub.partition).await;
    let Committed { offset: next, metadata, end } = match committed {
        Err(status) if status.code() == Code::OutOfRange => return Ok(Standing::Gone),
        committed => committed?,
    };
    let (low, _) = transport.bounds(index, Topic::Calls, stub.partition).await?;
    let next = next.unwrap_or(low).max(low);
    if offset < next || offset >= end {
        return Ok(Standing::Gone);
    }
    // A map that cannot be read says nothing.
    let map = FinishedMap::decode(next, &metadata).unwrap_or_default();
    Ok(match map.is_finished(offset, stub.index) {
        true => Standing::Gone,
        false => Standing::Waits(u64::try_from(offset - next).ok()),
    })
}

async fn cancel(service: &Arc<ServiceChannel>, stub: &Stub) -> Result<(), Status> {
    open(service, stub).await?;
    service.cancel_anywhere(stub.caller, stub.call).await
}

/// Opens the service that the ticket is of.
async fn open(service: &Arc<ServiceChannel>, stub: &Stub) -> Result<(), Status> {
    let theirs = stub.path.rsplit_once('/').map_or("", |(service, _)| service);
    if theirs != service.name() {
        let message =
            format!("the ticket is of {theirs}, and this is a client of {}", service.name());
        return Err(Status::new(Code::InvalidArgument, message));
    }
    service.ready().await.map_err(|error| error.to_status())
}

fn gone() -> Status {
    Status::new(Code::NotFound, "the call's answer is not there, or is kept no longer")
}

fn broker_time(service: &ServiceChannel) -> Time {
    let now = service.clock().now();
    service.with(|machine, now| machine.broker_time(now)).unwrap_or(now)
}

/// A moment of the broker's clock on this process's time line.
fn local(service: &ServiceChannel, at: Time) -> Time {
    service.clock().now() + at.saturating_since(broker_time(service))
}
