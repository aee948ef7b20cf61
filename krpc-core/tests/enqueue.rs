//! Calls that are enqueued, over a transport that does as it is told: when the results are opened,
//! how often their end is asked, and what is left of a call that nobody wants any more.

#![allow(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "the transport of these tests has tasks")]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::Duration,
};

use krpc_core::{
    client::{
        call::{Call, Client},
        channel::{Channel, ClientOptions},
        ticket::Ticket,
    },
    error::SetupError,
    policy::Policy,
    server::service::{MethodDescriptor, ServiceDescriptor},
    status::{Code, Status},
    transport::{
        BoxFuture, ClientEvents, ClientTransport, Delivery, Endpoint, Producer, Rejected,
        ServerEvents, ServerTransport, Target, Topic, Topics, Topology,
    },
};
use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};

static ADD: MethodDescriptor = MethodDescriptor {
    name: "add",
    path: "Sum/add",
    doc: "",
    args: &[],
    output: "i64",
    error: None,
    timeout: Some(Duration::from_millis(1)),
    idempotent: false,
    policy: &Policy::PLAIN,
    fingerprint: 0,
};

static SUM: ServiceDescriptor =
    ServiceDescriptor { name: "Sum", version: "", doc: "", methods: &[&ADD] };

/// What the transport is told, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    /// Opening the results does not end.
    stuck: AtomicBool,
    /// Opening the results fails so often.
    fails: AtomicUsize,
    /// Packets are taken, and nothing is heard of them.
    silent: AtomicBool,
    end: AtomicI64,
    opened: AtomicUsize,
    asked: AtomicUsize,
    sent: AtomicUsize,
}

#[derive(Debug, Default)]
struct Scripted(Arc<Script>);

#[derive(Debug)]
struct Side {
    script: Arc<Script>,
    events: Arc<dyn ClientEvents>,
}

impl Endpoint for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn topic(&self, service: &str, topic: Topic) -> String {
        format!("{service}.{}", topic.suffix())
    }

    fn client(
        &self,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Arc<dyn ClientTransport>, SetupError> {
        Ok(Arc::new(Side { script: Arc::clone(&self.0), events }))
    }

    fn server(&self, _: Arc<dyn ServerEvents>) -> Result<Arc<dyn ServerTransport>, SetupError> {
        Err(SetupError::NoService)
    }
}

impl Producer for Side {
    fn send(&self, _: Target, _: &[u8], token: u64) -> Result<(), Rejected> {
        let offset = self.script.sent.fetch_add(1, Ordering::Relaxed);
        if !self.script.silent.load(Ordering::Relaxed) {
            let events = Arc::clone(&self.events);
            let offset = i64::try_from(offset).ok();
            tokio::spawn(async move {
                events.delivered(token, Delivery::Stored { appended: None, offset });
            });
        }
        Ok(())
    }
}

impl Topics for Side {
    fn open_topic(&self, _: u16, topic: Topic) -> BoxFuture<'_, Result<u32, SetupError>> {
        assert!(matches!(topic, Topic::Results | Topic::Cancels));
        Box::pin(async {
            let _needed = Handle::current();
            self.script.opened.fetch_add(1, Ordering::Relaxed);
            if self.script.stuck.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let fails = &self.script.fails;
            let less = |left: usize| left.checked_sub(1);
            match fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
                Ok(_) => Err(SetupError::Transport("as the test has it".to_owned())),
                Err(_) => Ok(1),
            }
        })
    }

    fn bounds(
        &self,
        _: u16,
        topic: Topic,
        partition: u32,
    ) -> BoxFuture<'_, Result<(i64, i64), Status>> {
        assert_eq!((topic, partition), (Topic::Results, 0));
        self.script.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            let _needed = Handle::current();
            Ok((0, self.script.end.load(Ordering::Relaxed)))
        })
    }
}

impl ClientTransport for Side {
    fn open<'a>(
        &'a self,
        _: u16,
        _: &'a str,
        _: u64,
    ) -> BoxFuture<'a, Result<(Topology, u32), SetupError>> {
        Box::pin(async { Ok((Topology { call_partitions: 1, reply_partitions: 1 }, 0)) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn setup() -> (Arc<Script>, Channel, Client) {
    let endpoint = Scripted::default();
    let script = Arc::clone(&endpoint.0);
    let channel = Channel::new(Arc::new(endpoint), ClientOptions::default()).unwrap();
    let client = Client::new(&channel, &SUM);
    (script, channel, client)
}

fn add(client: &Client) -> Call<i64> {
    client.call(&ADD, &[1, 2])
}

fn results_from(ticket: &Ticket<i64>) -> i64 {
    serde_json::to_value(ticket).unwrap()["results_from"].as_i64().unwrap()
}

#[tokio::test]
async fn the_end_of_the_results_is_asked_once_for_many_calls_and_anew_after_a_while() {
    let (script, _channel, client) = setup();
    script.end.store(17, Ordering::Relaxed);
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(add(&client).enqueue())).collect();
    for call in calls {
        assert_eq!(results_from(&call.await.unwrap().unwrap()), 17);
    }
    assert_eq!(script.opened.load(Ordering::Relaxed), 1);
    assert_eq!(script.asked.load(Ordering::Relaxed), 1);

    script.end.store(50, Ordering::Relaxed);
    let later = async { while results_from(&add(&client).enqueue().await.unwrap()) < 50 {} };
    timeout(Duration::from_secs(30), later).await.unwrap();
    assert!(script.asked.load(Ordering::Relaxed) < 30, "not for each call");
    assert_eq!(script.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn results_that_cannot_be_opened_fail_the_call_unsent_and_are_tried_again() {
    let (script, channel, client) = setup();
    channel.open("Sum").await.unwrap();
    script.fails.store(1, Ordering::Relaxed);
    let sent = script.sent.load(Ordering::Relaxed);
    let error = add(&client).enqueue().await.unwrap_err();
    assert!(error.to_string().contains("as the test has it"), "{error}");
    assert_eq!(script.sent.load(Ordering::Relaxed), sent);
    assert!(add(&client).enqueue().await.is_ok());
    assert_eq!(script.sent.load(Ordering::Relaxed), sent + 1);
}

#[tokio::test]
async fn results_that_take_too_long_fail_the_call_at_its_deadline() {
    let (script, _channel, client) = setup();
    script.stuck.store(true, Ordering::Relaxed);
    let error = add(&client).timeout(Duration::from_millis(50)).enqueue().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable), "{error}");
    script.stuck.store(false, Ordering::Relaxed);
    assert!(add(&client).enqueue().await.is_ok());
}

#[tokio::test]
async fn a_channel_that_is_closed_ends_what_waits_for_the_results() {
    let (script, channel, client) = setup();
    channel.open("Sum").await.unwrap();
    script.stuck.store(true, Ordering::Relaxed);
    let waiting = tokio::spawn(add(&client).enqueue());
    while script.opened.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    channel.close().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::Cancelled), "{error}");
}

/// This transport cannot follow a topic, so that whoever attaches waits for that.
#[tokio::test]
async fn a_channel_that_is_closed_ends_what_is_attached() {
    let (script, channel, client) = setup();
    let ticket = add(&client).enqueue().await.unwrap();
    let asked = script.asked.load(Ordering::Relaxed);
    let waiting = tokio::spawn(client.attach(&ticket));
    while script.asked.load(Ordering::Relaxed) == asked {
        tokio::task::yield_now().await;
    }
    channel.close().await;
    let ended = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().code(), Some(Code::Cancelled));
    let error = client.attach(&ticket).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable), "{error}");
}

#[test]
fn a_ticket_is_of_use_outside_of_any_runtime() {
    let (_script, channel, client) = setup();
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let ticket = runtime.block_on(add(&client).enqueue()).unwrap();
    let attached = client.attach(&ticket).timeout(Duration::from_millis(20));
    let error = block_on(attached).unwrap_err();
    assert_eq!(error.code(), Some(Code::DeadlineExceeded), "{error}");
    let error = block_on(client.status(&ticket)).unwrap_err();
    assert_eq!(error.code(), Some(Code::Unimplemented), "{error}");
    block_on(client.cancel(&ticket)).unwrap();
    drop(channel);
}

#[test]
fn results_are_read_on_when_the_runtime_of_whoever_came_first_has_ended() {
    let (script, _channel, client) = setup();
    let runtime = |mut of: Builder| of.enable_all().build().unwrap();
    let channels = runtime(Builder::new_multi_thread());
    let ticket = channels.block_on(add(&client).enqueue()).unwrap();
    let first = runtime(Builder::new_current_thread());
    let attached = client.attach(&ticket).timeout(Duration::from_millis(20));
    first.block_on(async { attached.await.unwrap_err() });
    drop(first);
    channels.block_on(async {
        let asked = script.asked.load(Ordering::Relaxed);
        let again = async {
            while script.asked.load(Ordering::Relaxed) == asked {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = client.attach(&ticket) => panic!("{answer:?}"),
            read = timeout(Duration::from_secs(10), again) => read.unwrap(),
        }
    });
}

/// Polls it on this thread, which has no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Its method's timeout of a millisecond bounds an execution, not the wait for the broker.
#[tokio::test]
async fn a_call_that_is_dropped_on_its_way_leaves_nothing() {
    let (script, channel, client) = setup();
    add(&client).enqueue().await.unwrap();
    script.silent.store(true, Ordering::Relaxed);
    let sent = script.sent.load(Ordering::Relaxed);
    {
        let mut call = pin!(add(&client).enqueue());
        let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "{polled:?}");
        let stats = channel.stats("Sum").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (1, 1));
    }
    let stats = channel.stats("Sum").unwrap();
    assert_eq!((stats.in_flight, stats.occupied), (0, 0));
    assert_eq!(script.sent.load(Ordering::Relaxed), sent + 1, "sent at its first poll");
}

#[tokio::test]
async fn a_call_is_not_enqueued_after_it_was_sent() {
    let (_script, channel, client) = setup();
    channel.open("Sum").await.unwrap();
    let mut call = add(&client).timeout(Duration::from_secs(50));
    let polled = poll_fn(|cx| Poll::Ready(pin!(&mut call).poll(cx))).await;
    assert!(polled.is_pending());
    let error = call.enqueue().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
    assert_eq!(channel.stats("Sum").unwrap().occupied, 0, "the call was given up");
}
