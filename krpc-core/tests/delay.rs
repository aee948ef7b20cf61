//! Delayed calls as far as the client goes: no server is there. Their tickets, and what becomes of
//! a call whose caller is gone.

#![allow(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "calls are due by the wall clock")]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use krpc_core::{
    client::{
        call::{Call, Client},
        channel::{Channel, ClientOptions},
        ticket::Ticket,
        tickets::TicketStatus,
    },
    policy::Policy,
    server::service::{MethodDescriptor, ServiceDescriptor},
    status::{Code, Status},
    transport::{
        ClientEvents, ClientTransport, Delivery, Endpoint, ProducerEvents, Record, Topic,
        TransportConfig, memory::MemoryEndpoint,
    },
};
use tokio::time::timeout;

const HOUR: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(500);

static ADD: MethodDescriptor = method(false);
static AGAIN: MethodDescriptor = method(true);
static SUM: ServiceDescriptor =
    ServiceDescriptor { name: "Sum", version: "", doc: "", methods: &[&ADD] };

const fn method(idempotent: bool) -> MethodDescriptor {
    MethodDescriptor {
        name: "add",
        path: "Sum/add",
        doc: "",
        args: &[],
        output: "i64",
        error: None,
        timeout: None,
        idempotent,
        policy: &Policy::PLAIN,
        fingerprint: 0,
    }
}

/// Looks at the topics, and takes part in nothing.
#[derive(Debug)]
struct Nothing;

impl ProducerEvents for Nothing {
    fn delivered(&self, _: u64, _: Delivery<'_>) {}
}

impl ClientEvents for Nothing {
    fn arrived(&self, _: Record) {}

    fn broken(&self, _: Status) {}
}

struct Place {
    channel: Channel,
    client: Client,
    look: Arc<dyn ClientTransport>,
}

async fn place(name: &str) -> Place {
    let endpoint = Arc::new(MemoryEndpoint::new(name, TransportConfig::default()));
    let look = endpoint.client(Arc::new(Nothing)).unwrap();
    look.open(0, "Sum", 0).await.unwrap();
    let channel = Channel::new(endpoint, ClientOptions::default()).unwrap();
    channel.open("Sum").await.unwrap();
    let client = Client::new(&channel, &SUM);
    Place { channel, client, look }
}

impl Place {
    /// How many cancels there are that all servers read.
    async fn cancels(&self) -> i64 {
        let mut count = 0;
        for partition in 0..self.look.open_topic(0, Topic::Cancels).await.unwrap() {
            count += self.look.bounds(0, Topic::Cancels, partition).await.unwrap().1;
        }
        count
    }

    /// Waits until there are so many, and nothing is on its way.
    async fn until_cancels(&self, count: i64) {
        let there = async {
            while self.cancels().await != count || self.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), there).await.unwrap();
    }

    fn in_flight(&self) -> usize {
        self.channel.stats("Sum").unwrap().in_flight
    }
}

/// Sends the call, and drops it.
async fn give_up(call: Call<i64>) {
    let mut call = pin!(call);
    let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    assert!(polled.is_pending(), "{polled:?}");
}

#[tokio::test]
async fn the_cancel_of_a_delayed_call_is_left_where_all_servers_read_it() {
    let place = place("memory:delay-cancels").await;
    give_up(place.client.call(&ADD, &[1, 2])).await;
    give_up(place.client.call(&ADD, &[1, 2]).delay(Duration::ZERO)).await;
    for (count, method, delay) in [(1, &ADD, HOUR), (2, &ADD, SOON), (3, &AGAIN, HOUR)] {
        give_up(place.client.call(method, &[1, 2]).delay(delay)).await;
        place.until_cancels(count).await;
    }
}

#[tokio::test]
async fn a_delayed_call_that_has_ended_is_not_cancelled() {
    let place = place("memory:delay-ended").await;
    let call = place.client.call::<_, i64>(&ADD, &[1, 2]);
    call.delay(Duration::from_millis(10)).timeout(Duration::from_millis(10)).await.unwrap_err();
    give_up(place.client.call(&ADD, &[1, 2]).delay(HOUR)).await;
    place.until_cancels(1).await;
}

#[tokio::test]
async fn a_ticket_says_when_its_call_is_due_and_is_cancelled_as_others_are() {
    let place = place("memory:delay-tickets").await;
    let call = place.client.call::<_, i64>(&ADD, &[1, 2]);
    let ticket = call.at(SystemTime::now() + HOUR).enqueue().await.unwrap();
    let json = serde_json::to_string(&ticket).unwrap();
    let ticket: Ticket<i64> = serde_json::from_str(&json).unwrap();
    match place.client.status(&ticket).await {
        Ok(TicketStatus::Queued { ahead: None, due: Some(due), .. }) => {
            let left = due.duration_since(SystemTime::now()).unwrap();
            assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
        }
        other => panic!("{other:?}"),
    }
    let usual = place.client.call::<_, i64>(&ADD, &[1, 2]).enqueue().await.unwrap();
    let status = place.client.status(&usual).await;
    assert!(matches!(status, Ok(TicketStatus::Queued { ahead: Some(_), due: None, .. })));
    place.client.cancel(&ticket).await.unwrap();
    assert_eq!(place.cancels().await, 1);
}

#[tokio::test]
async fn a_delayed_call_that_nobody_executed_is_expired_after_its_time() {
    let place = place("memory:delay-expired").await;
    let call = place.client.call::<_, i64>(&ADD, &[1, 2]);
    let ticket = call.delay(SOON).timeout(SOON).enqueue().await.unwrap();
    let error = place.client.attach(&ticket).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::DeadlineExceeded), "{error}");
    assert_eq!(place.client.status(&ticket).await, Ok(TicketStatus::Expired));
}
