//! Saying hello, in virtual time, to brokers that are far away, late, unwilling or gone.

#![allow(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "the broker of these tests lives in time")]

use std::{collections::VecDeque, sync::Arc};

use tokio::time::{Instant, timeout};

use super::*;
use crate::transport::{TransportConfig, memory::MemoryEndpoint};

const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a hello.
#[derive(Clone, Copy)]
enum Fate {
    /// Stored after this many milliseconds, which leave half of them in doubt.
    Stored(u64),
    /// Stored after so long in a topic that keeps the senders' times.
    Unstamped(u64),
    /// Given up after so long.
    Failed(u64, Code),
    /// Not taken by the producer.
    Refused(Code),
}
use Fate::{Failed, Refused, Stored, Unstamped};

/// A machine, its producer and its broker. The last fate repeats.
#[derive(Clone)]
struct Fake {
    hello: Arc<Hello>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    fates: VecDeque<Fate>,
    greeted: usize,
    under_way: usize,
    doubt: Option<Duration>,
}

impl Fake {
    fn new(fates: &[Fate]) -> Self {
        let fates = fates.iter().copied().collect();
        let inner = Inner { fates, greeted: 0, under_way: 0, doubt: None };
        Self { hello: Arc::default(), inner: Arc::new(Mutex::new(inner)) }
    }

    async fn say(&self) -> Result<(), SetupError> {
        self.hello.say(self, &endpoint(), Some(PATIENCE)).await
    }

    fn greeted(&self) -> usize {
        self.inner.lock().greeted
    }

    async fn answer(self, fate: Fate) {
        let (Stored(millis) | Unstamped(millis) | Failed(millis, _)) = fate else { return };
        tokio::time::sleep(ms(millis)).await;
        let status = if let Failed(_, code) = fate { code } else { Code::Internal };
        let status = Status::new(status, "as the test has it");
        match fate {
            Failed(..) => self.hello.note(7, &Delivery::Failed { status, payload: &[] }),
            _ => self.hello.note(7, &Delivery::Stored { appended: None, offset: None }),
        }
        let mut inner = self.inner.lock();
        inner.under_way -= 1;
        if let Stored(millis) = fate {
            let half = ms(millis) / 2;
            inner.doubt = Some(inner.doubt.map_or(half, |doubt| doubt.min(half)));
        }
        drop(inner);
        self.hello.ring();
    }
}

impl Greeter for Fake {
    const TOPIC: Topic = Topic::Replies;

    fn service_name(&self, index: usize) -> &str {
        ["", "", "", "", "", "", "", "Sum"][index]
    }

    fn greet(&self) {
        let mut inner = self.inner.lock();
        inner.greeted += 1;
        let last = inner.fates.len() == 1;
        let fate = if last { inner.fates[0] } else { inner.fates.pop_front().unwrap() };
        if let Refused(code) = fate {
            drop(inner);
            self.hello.refused(7, Status::new(code, "as the test has it"));
            return;
        }
        inner.under_way += 1;
        assert_eq!(inner.under_way, 1, "one at a time");
        drop(inner);
        tokio::spawn(self.clone().answer(fate));
    }

    fn is_flushed(&self) -> bool {
        self.inner.lock().under_way == 0
    }

    fn clock_uncertainty(&self) -> Option<Duration> {
        self.inner.lock().doubt
    }
}

/// Only asked for names.
fn endpoint() -> MemoryEndpoint {
    MemoryEndpoint::private(TransportConfig::default())
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn another_hello_is_said_only_while_it_helps() {
    for (fates, hellos) in [
        (&[Stored(2)][..], 1),
        (&[Stored(400), Stored(2)], 2),
        // As well as it gets, however often it is asked.
        (&[Stored(30)], 2),
        (&[Stored(400), Stored(60), Stored(61)], 3),
        (&[Stored(400), Stored(200), Stored(100), Stored(50), Stored(3)], 5),
        (&[Unstamped(30)], 1),
    ] {
        let fake = Fake::new(fates);
        fake.say().await.unwrap();
        assert_eq!(fake.greeted(), hellos);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_outlasts_a_start_counts_for_the_next() {
    let fake = Fake::new(&[Stored(12_000), Stored(300)]);
    let began = Instant::now();
    assert!(fake.say().await.is_err(), "not delivered in time");
    fake.say().await.unwrap();
    assert_eq!((fake.greeted(), began.elapsed()), (3, ms(12_000 + 300 + 300)));
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_passes_fails_no_start() {
    let failed = Failed(3, Code::Unavailable);
    let fake = Fake::new(&[Refused(Code::Unavailable), failed, failed, Stored(2)]);
    let began = Instant::now();
    fake.say().await.unwrap();
    assert_eq!((fake.greeted(), began.elapsed()), (4, PAUSE * 3 + ms(3 + 3 + 2)));
}

#[tokio::test(start_paused = true)]
async fn a_start_ends_in_time_and_says_what_it_met() {
    let fake = Fake::new(&[Failed(700, Code::Unavailable)]);
    let began = Instant::now();
    let SetupError::Unreachable { cause, .. } = fake.say().await.unwrap_err() else { panic!() };
    assert_eq!(began.elapsed(), PATIENCE);
    assert!(cause.contains("as the test has it"), "{cause}");
}

/// As long as librdkafka tries a record, and again.
#[tokio::test(start_paused = true)]
async fn who_is_told_to_keep_trying_outlasts_the_connect_timeout() {
    let fake = Fake::new(&[Failed(30_000, Code::Unavailable), Stored(30_000), Stored(2)]);
    fake.hello.say(&fake, &endpoint(), None).await.unwrap();
    assert_eq!(fake.greeted(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_ends_a_start_at_once() {
    for fate in [Failed(3, Code::PermissionDenied), Refused(Code::PermissionDenied)] {
        let fake = Fake::new(&[fate]);
        let error = fake.say().await.unwrap_err();
        let SetupError::Unauthorized { resource, .. } = error else { panic!("{error}") };
        assert_eq!(resource, "krpc.Sum.replies");
        let error = Fake::new(&[Refused(Code::InvalidArgument)]).say().await.unwrap_err();
        assert!(matches!(error, SetupError::Transport(_)), "{error}");
        assert_eq!(fake.greeted(), 1);
    }
}

/// Whoever comes later starts afresh, and one that still waits counts what is under way.
#[tokio::test(start_paused = true)]
async fn what_an_abandoned_hello_met_fails_no_later_start() {
    for code in [Code::Unavailable, Code::NotFound] {
        let fake = Fake::new(&[Failed(30_000, code), Stored(2)]);
        assert!(fake.say().await.is_err(), "not delivered in time");
        let met = timeout(ms(30_000), async {
            while !fake.is_flushed() {
                fake.hello.news.notified().await;
            }
        });
        met.await.unwrap();
        fake.say().await.unwrap();
        assert_eq!(fake.greeted(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_closed_waits_for_nothing() {
    let fake = Fake::new(&[Stored(9_000)]);
    let closes = async {
        fake.hello.close(Status::new(Code::Unavailable, "closed"));
    };
    let began = Instant::now();
    let (said, ()) = tokio::join!(fake.say(), closes);
    assert!(matches!(said, Err(SetupError::Transport(_))), "{said:?}");
    assert!(fake.say().await.is_err(), "it stays closed");
    assert_eq!((fake.greeted(), began.elapsed()), (1, Duration::ZERO));
}
