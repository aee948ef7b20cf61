//! Driver: a call that is left with the broker, whose answer is fetched later with a ticket.
//!
//! Its answer goes to the service's results topic, which is found or created at the first such
//! call. A ticket says from where on the answer can be: behind the end of the partition as it was
//! before the call was sent. That end is asked once, and again at most once a second.
//!
//! from: [`super::call`] · to: [`super::channel`] and [`super::ticket`]

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use smallvec::smallvec;
use tokio::sync::OnceCell;

use super::{
    call::Client,
    channel::ServiceChannel,
    machine::ClientMachine,
    pending::{Completion, Ending},
    request::{Request, no_time, open, start},
    ticket::{Stub, Ticket},
};
use crate::{
    error::Error,
    ids::CallId,
    status::{Code, Status},
    time::Time,
    transport::{BoxFuture, Topic},
    wire::packet::Route,
};

/// How old the known end of the results may be before it is asked anew. The older, the more a
/// reader passes over before it finds the answer.
const FRESH: Duration = Duration::from_secs(1);

/// The future of [`Call::enqueue`](super::call::Call::enqueue): the call is sent when it is first
/// polled, and the ticket is there when the broker has the call.
///
/// Dropped after that poll, the call may be executed all the same, and nobody holds a ticket.
#[must_use = "a call is not enqueued until this is awaited"]
pub struct Enqueue<T, E = Infallible> {
    sending: BoxFuture<'static, Result<Stub, Status>>,
    types: PhantomData<fn() -> (T, E)>,
}

impl<T, E> Enqueue<T, E> {
    /// `None` for a call that was sent already.
    pub(super) fn new(request: Option<Request>) -> Self {
        let sending = async {
            let late =
                || Status::new(Code::InvalidArgument, "the call was sent before it was enqueued");
            enqueue(request.ok_or_else(late)?).await
        };
        Self { sending: Box::pin(sending), types: PhantomData }
    }
}

impl<T, E> Future for Enqueue<T, E> {
    type Output = Result<Ticket<T, E>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.sending.as_mut().poll(cx).map_ok(Ticket::new).map_err(Error::from)
    }
}

impl<T, E> fmt::Debug for Enqueue<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Enqueue")
    }
}

async fn enqueue(mut request: Request) -> Result<Stub, Status> {
    if let Some(status) = request.mistake() {
        return Err(status);
    }
    let service = Arc::clone(request.client.service());
    let now = service.clock().now();
    let deadline = request.deadline(now);
    request.deadline = Some(deadline);
    if deadline <= now {
        return Err(no_time());
    }
    if !service.is_ready() {
        open(Arc::clone(&service), deadline).await?;
    }
    let results = match service.known_results() {
        Some(results) => results,
        None => service.results_before(deadline).await?,
    };
    request.queue(smallvec![Route::Results(results.partition)]);
    let (expires, due) = (request.expires(now), request.due());
    let call = poll_fn(|cx| Poll::Ready(start(&request, None, cx))).await?;
    let Request { client, callee, .. } = request;
    let caller = client.channel().instance();
    let completion = Sent { call, client }.await;
    let place = match completion.ending {
        Ending::Stored(place) => place,
        Ending::Status(status) => return Err(*status),
        Ending::Ok(..) | Ending::App(..) => {
            return Err(Status::new(Code::Internal, "a queued call was answered here"));
        }
    };
    let moments = |machine: &mut ClientMachine<Waker>, now| {
        (machine.broker_time(expires), due.map(|at| machine.due(at, now).due))
    };
    let (deadline, due) = service.with(moments).unwrap_or((expires, due));
    Ok(Stub {
        path: callee.path().to_owned(),
        caller,
        call,
        partition: place.partition,
        offset: place.offset,
        index: place.index,
        results_partition: results.partition,
        results_from: results.from,
        deadline,
        due,
    })
}

/// A call that is on its way to the broker.
struct Sent {
    call: CallId,
    client: Client,
}

impl Future for Sent {
    type Output = Completion;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Completion> {
        let ended = self.client.service().poll_call(self.call, cx.waker());
        ended.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Sent {
    /// Nobody looks at its end any more.
    fn drop(&mut self) {
        self.client.service().with(|machine, _| machine.cancel(self.call));
    }
}

/// Where the answers to calls that are sent now will be: in this partition, not before `from`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Results {
    partition: u32,
    from: i64,
}

/// What a channel knows of a service's results.
#[derive(Debug, Default)]
pub(super) struct ResultsEnd(OnceCell<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    results: Results,
    asked: Time,
    /// Whether the answer to the latest question is still to come.
    asking: bool,
}

impl ServiceChannel {
    /// What is known, however old; if it is too old, it is asked anew for the calls to come.
    fn known_results(self: &Arc<Self>) -> Option<Results> {
        let mut known = self.results.0.get()?.lock();
        let now = self.clock().now();
        let old = !known.asking && now >= known.asked + FRESH;
        if let Some(runtime) = self.runtime().filter(|_| old) {
            known.asking = true;
            // Weak: a channel does not stay for this.
            let service = Arc::downgrade(self);
            runtime.spawn(async move {
                if let Some(service) = service.upgrade() {
                    service.ask_results_end().await;
                }
            });
        }
        Some(known.results)
    }

    async fn ask_results_end(&self) {
        let Some(cell) = self.results.0.get() else { return };
        let partition = cell.lock().results.partition;
        let end = self.results_end(partition).await;
        let mut known = cell.lock();
        (known.asked, known.asking) = (self.clock().now(), false);
        match end {
            Ok(end) => known.results.from = end,
            // The end of before is true as well: a reader only passes over more.
            Err(status) => {
                tracing::debug!(target: "krpc::client", %status, "the results' end is not known");
            }
        }
    }

    /// Finds or creates the results, at most until then.
    async fn results_before(&self, deadline: Time) -> Result<Results, Status> {
        let opening = async {
            tokio::select! {
                opened = self.results.0.get_or_try_init(|| self.open_results()) => {
                    opened.map(|known| known.lock().results)
                }
                () = self.wait_until(deadline) => Err(self.closed().cloned().unwrap_or_else(|| {
                    let message = "the results could not be opened before the call's deadline";
                    Status::new(Code::Unavailable, message)
                })),
            }
        };
        self.inside(opening).await
    }

    async fn open_results(&self) -> Result<Mutex<Known>, Status> {
        let opened = self.transport()?.open_topic(self.index(), Topic::Results).await;
        let partitions = opened.map_err(|error| error.to_status())?;
        let partition = self.spread(partitions);
        let asked = self.clock().now();
        let results = Results { partition, from: self.results_end(partition).await? };
        Ok(Mutex::new(Known { results, asked, asking: false }))
    }

    async fn results_end(&self, partition: u32) -> Result<i64, Status> {
        let bounds = self.transport()?.bounds(self.index(), Topic::Results, partition).await;
        bounds.map(|(_, end)| end)
    }
}
