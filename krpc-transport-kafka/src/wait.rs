//! Waiting on a thread of our own: woken by librdkafka's queues, by futures, or by a shutdown,
//! never by a short timer.
//!
//! An expired poll costs about 0.4 ms of CPU; so every loop of this crate sleeps on a [`Signal`]
//! that whoever has something for it raises, and the timeout is only a net below.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use krpc_core::error::SetupError;
use parking_lot::{Condvar, Mutex};

/// The longest a loop sleeps: bounds `max.poll.interval.ms` from below and every missed wake-up.
pub(crate) const NET: Duration = Duration::from_secs(1);

/// A flag that one thread sleeps on and any number of threads raise. Raising before the wait
/// counts.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Wakes the waiting thread, or makes its next wait return at once.
    pub(crate) fn raise(&self) {
        *self.raised.lock() = true;
        self.changed.notify_one();
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
    use super::*;

    #[test]
    fn a_signal_raised_before_the_wait_counts() {
        let signal = Signal::default();
        signal.raise();
        let start = Instant::now();
        signal.wait(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
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
