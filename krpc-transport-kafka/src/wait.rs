//! Waiting, on a thread of our own or in a task: woken by librdkafka's queues, by futures, or by a
//! shutdown, never by a short timer.
//!
//! An expired poll costs about 0.4 ms of CPU; so every loop of this crate sleeps on a [`Signal`]
//! that whoever has something for it raises, and the timeout is only a net below.

use std::{
    future::Future,
    io::{self, PipeReader, PipeWriter, Write},
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use krpc_core::error::SetupError;
use parking_lot::{Condvar, Mutex};
use tokio::{io::AsyncReadExt, net::unix::pipe};

/// The longest a loop sleeps: bounds `max.poll.interval.ms` from below and every missed wake-up.
pub(crate) const NET: Duration = Duration::from_secs(1);

/// A flag that one thread or task sleeps on and any number of threads raise. Raising before the
/// wait counts.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
    bell: Option<Bell>,
    heed: AtomicU8,
}

/// A queue that stops being empty raises the signal.
const PROMPT: u8 = 0;
/// It does not: somebody looks soon.
const PATIENT: u8 = 1;
/// It does, though somebody looks soon: that is too late for somebody else.
const HURRIED: u8 = 2;

/// What wakes a task. Through the waker of a task, a thread that is not the runtime's wakes two of
/// its workers, the second to look for more work: 30 µs of CPU for each reply. What the runtime
/// reads from a pipe wakes one.
#[derive(Debug)]
struct Bell {
    pipe: PipeWriter,
    /// Open as long as the other end, which could not be written to otherwise.
    _read: PipeReader,
}

impl Signal {
    /// A signal that a task waits for, and what it waits with.
    pub(crate) fn of_task() -> Result<(Arc<Self>, Waiter), SetupError> {
        let bell = || {
            let (read, pipe) = io::pipe()?;
            Ok((read.try_clone()?, Bell { pipe, _read: read }))
        };
        let (read, bell) = bell().map_err(|error: io::Error| {
            SetupError::Transport(format!("there is no pipe to wake a task: {error}"))
        })?;
        let signal = Arc::new(Self { bell: Some(bell), ..Self::default() });
        Ok((Arc::clone(&signal), Waiter { signal, read }))
    }

    /// Wakes the waiting thread or task, or makes its next wait return at once.
    pub(crate) fn raise(&self) {
        if std::mem::replace(&mut *self.raised.lock(), true) {
            return;
        }
        match &self.bell {
            // The pipe is empty but for what the last raise left: there is room, and the reader
            // is not gone.
            Some(bell) => drop((&bell.pipe).write(&[0])),
            None => drop(self.changed.notify_one()),
        }
    }

    /// A queue has stopped being empty.
    pub(crate) fn queued(&self) {
        if self.heed.load(Ordering::Acquire) != PATIENT {
            self.raise();
        }
    }

    /// The waiter will look soon, whether it is called or not.
    pub(crate) fn be_patient(&self) {
        self.change(PROMPT, PATIENT);
    }

    /// Somebody waits for what will be queued, until [`attended`](Self::attended). True if what is
    /// queued already was not told.
    pub(crate) fn hurry(&self) -> bool {
        self.heed.load(Ordering::Acquire) != HURRIED
            && self.heed.swap(HURRIED, Ordering::AcqRel) == PATIENT
    }

    /// Whether somebody waits.
    pub(crate) fn is_hurried(&self) -> bool {
        self.heed.load(Ordering::Acquire) == HURRIED
    }

    /// Nothing is to come that anybody could wait for.
    pub(crate) fn attended(&self) {
        self.change(HURRIED, PATIENT);
    }

    /// The waiter will not look unless it is called. False if somebody waits; if true, what is
    /// queued already was not told.
    pub(crate) fn be_prompt(&self) -> bool {
        self.change(PATIENT, PROMPT)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        // A look first, for there is seldom anything to change.
        self.heed.load(Ordering::Acquire) == from
            && self.heed.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Sleeps until raised, at most this long; lowers the flag.
    pub(crate) fn wait(&self, timeout: Duration) {
        let mut raised = self.raised.lock();
        if !*raised {
            self.changed.wait_for(&mut raised, timeout);
        }
        *raised = false;
    }
}

/// Waits for a signal in a task, once it is [`listening`](Self::listen).
#[derive(Debug)]
pub(crate) struct Waiter {
    signal: Arc<Signal>,
    read: PipeReader,
}

/// Waits for a signal in a task.
#[derive(Debug)]
pub(crate) struct Listener {
    signal: Arc<Signal>,
    pipe: pipe::Receiver,
}

impl Waiter {
    /// Lets the present runtime watch the signal.
    pub(crate) fn listen(&self) -> Result<Listener, SetupError> {
        let (signal, read) = (Arc::clone(&self.signal), self.read.try_clone().map_err(unheard)?);
        // It panics in a runtime that was built without I/O.
        let listening =
            catch_unwind(AssertUnwindSafe(|| pipe::Receiver::from_owned_fd(OwnedFd::from(read))));
        match listening {
            Ok(Ok(pipe)) => Ok(Listener { signal, pipe }),
            Ok(Err(error)) => Err(unheard(error)),
            Err(_) => {
                let message = "kRPC over Kafka needs a runtime with I/O: call enable_all() on its \
                               builder";
                Err(SetupError::Transport(message.to_owned()))
            }
        }
    }
}

fn unheard(error: io::Error) -> SetupError {
    SetupError::Transport(format!("a pipe cannot wake a task: {error}"))
}

impl Listener {
    /// Sleeps until the signal is raised; lowers it. Nothing is lost if this is dropped.
    pub(crate) async fn raised(&mut self) {
        // A pipe of our own does not fail; if it did, the reader would look all the time.
        let _ = self.pipe.read(&mut [0; 8]).await;
        *self.signal.raised.lock() = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

/// Drives a future on this thread until it is ready, `deadline` has passed or `stop` says so;
/// `stop` is asked whenever `signal` is raised.
pub(crate) fn block_on<T>(
    mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>,
    signal: &Arc<Signal>,
    deadline: Option<Instant>,
    stop: impl Fn() -> bool,
) -> Option<T> {
    let waker = Waker::from(Arc::clone(signal));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        let left = deadline.map_or(NET, |at| at.saturating_duration_since(Instant::now()));
        if left.is_zero() || stop() {
            return None;
        }
        signal.wait(left.min(NET));
    }
}

/// Says that nobody waits for the result any more.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    cancelled: AtomicBool,
    signal: Signal,
}

impl Cancel {
    /// Ends the work at its next look.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.signal.raise();
    }

    /// Whether to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// A pause between two tries, cut short by a cancel.
    pub(crate) fn pause(&self, length: Duration) {
        if !self.is_cancelled() {
            self.signal.wait(length);
        }
    }
}

/// Runs blocking work off the async threads; dropping the returned future cancels it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&Cancel) -> T + Send + 'static,
) -> Result<T, SetupError> {
    struct OnDrop(Arc<Cancel>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }

    let cancel = Arc::new(Cancel::default());
    let guard = OnDrop(Arc::clone(&cancel));
    let result = tokio::task::spawn_blocking(move || work(&cancel)).await;
    drop(guard);
    result.map_err(|error| match error.is_panic() {
        true => SetupError::Transport(format!("a blocking task of the transport failed: {error}")),
        false => SetupError::Closed,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_signal_raised_before_the_wait_counts() {
        let signal = Signal::default();
        signal.raise();
        let start = Instant::now();
        signal.wait(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    fn is_raised(signal: &Signal) -> bool {
        std::mem::take(&mut *signal.raised.lock())
    }

    #[test]
    fn who_looks_soon_is_called_only_in_a_hurry() {
        let signal = Signal::default();
        signal.queued();
        assert!(is_raised(&signal), "nobody looks otherwise");
        signal.be_patient();
        signal.queued();
        assert!(!is_raised(&signal));
        assert!(signal.hurry(), "what is queued was not told");
        assert!(!signal.hurry() && !signal.be_prompt(), "somebody waits");
        signal.queued();
        assert!(is_raised(&signal));
        signal.be_patient();
        signal.queued();
        assert!(is_raised(&signal), "a look does not end the hurry");
        signal.attended();
        signal.queued();
        assert!(!is_raised(&signal));
        assert!(signal.be_prompt(), "what is queued was not told");
        signal.attended();
        assert!(!signal.hurry() && signal.is_hurried(), "all was told");
        signal.be_patient();
        signal.queued();
        assert!(is_raised(&signal));
    }

    #[tokio::test]
    async fn a_task_is_woken_by_a_signal_raised_before_or_while_it_waits() {
        let (signal, waiter) = Signal::of_task().unwrap();
        signal.raise();
        signal.raise();
        let mut listener = waiter.listen().unwrap();
        listener.raised().await;
        for _ in 0..100 {
            let raised = Arc::clone(&signal);
            let thread = std::thread::spawn(move || raised.raise());
            listener.raised().await;
            thread.join().unwrap();
        }
        assert!(!*signal.raised.lock());
    }

    #[test]
    fn a_future_is_driven_to_its_end_or_given_up() {
        let signal = Arc::new(Signal::default());
        let (send, receive) = tokio::sync::oneshot::channel::<u32>();
        std::thread::spawn(move || send.send(7));
        let ready = block_on(Box::pin(receive), &signal, None, || false);
        assert_eq!(ready.map(Result::ok), Some(Some(7)));

        let soon = Some(Instant::now() + Duration::from_millis(10));
        let never = Box::pin(std::future::pending::<()>());
        assert_eq!(block_on(never, &signal, soon, || false), None);
        let never = Box::pin(std::future::pending::<()>());
        assert_eq!(block_on(never, &signal, None, || true), None);
    }
}
