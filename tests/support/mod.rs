//! What every scenario needs: a place to run at, services to call, and patience with an end.
#![allow(dead_code, reason = "each test target uses a part of it")]

pub(crate) mod place;
pub(crate) mod seals;
pub(crate) mod services;
pub(crate) mod stranger;

use std::{
    fmt::Debug,
    io::Write,
    panic,
    pin::pin,
    sync::{Arc, Mutex, Once, mpsc},
    task::{Context as TaskContext, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

pub(crate) use place::{Backend, Place, start};

/// How long a scenario may take: far more than any of them needs, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a scenario that was given up, or its runtime, may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long [`eventually`] waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a panic says that a scenario makes on purpose.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// Panics outside of the tests' own code, which nothing that happens here may cause.
static FAULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs a scenario at a place of its own, for each seal. It fails when it takes too long, even if
/// it blocks its thread, and when anything but the test itself panicked meanwhile.
pub(crate) fn scenario(body: impl AsyncFn(Place)) {
    watch_panics();
    for seal in seals::seals() {
        // Before the time runs: the first one may start a broker.
        let place = Place::new(seal);
        if let Some(seal) = seal {
            println!("sealed: {seal}");
        }
        run(place, &body);
    }
}

fn run(place: Place, body: &impl AsyncFn(Place)) {
    let _watchdog = Watchdog::start();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, body(place)).await });
    runtime.shutdown_timeout(GRACE / 2);
    assert!(ended.is_ok(), "not done after {LIMIT:?}");
    let faults = std::mem::take(&mut *FAULTS.lock().unwrap());
    assert!(faults.is_empty(), "panics meanwhile, in this scenario or beside it: {faults:#?}");
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_ok(|| if condition() { Ok(()) } else { Err(what.to_owned()) }).await;
}

/// Waits until nothing is missing; the error says what.
pub(crate) async fn eventually_ok(mut missing: impl FnMut() -> Result<(), String>) {
    let until = Instant::now() + PATIENCE;
    while let Err(what) = missing() {
        assert!(Instant::now() < until, "not after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Asks until the answer is such.
pub(crate) async fn eventually_is<T: Debug>(
    mut ask: impl AsyncFnMut() -> T,
    is: impl Fn(&T) -> bool,
) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if is(&answer) {
            return;
        }
        assert!(Instant::now() < until, "after {PATIENCE:?} still {answer:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Polls on a thread of its own, which is in no runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// How often a cause was counted.
pub(crate) fn count(dropped: &[(&'static str, u64)], cause: &str) -> u64 {
    dropped.iter().find(|(label, _)| *label == cause).expect("a cause that is counted").1
}

/// All causes together.
pub(crate) fn total(dropped: &[(&'static str, u64)]) -> u64 {
    dropped.iter().map(|(_, count)| count).sum()
}

fn watch_panics() {
    static ONCE: Once = Once::new();

    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            if text.is_some_and(|text| text.contains(ON_PURPOSE)) {
                return;
            }
            if !info.location().is_some_and(|location| location.file().starts_with("tests/")) {
                FAULTS.lock().unwrap().push(info.to_string());
            }
            print(info);
        }));
    });
}

/// Ends the process when a scenario blocks its thread; dropped in time, it does nothing.
struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn start() -> Self {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let (alive, ended) = mpsc::channel();
        thread::spawn(move || {
            let timeout = ended.recv_timeout(LIMIT + GRACE);
            if timeout == Err(mpsc::RecvTimeoutError::Timeout) {
                // Past the harness, which would keep the text until the end that never comes.
                let _ = writeln!(std::io::stderr(), "\n{test} hangs: its thread is blocked");
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}
