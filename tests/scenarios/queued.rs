//! Calls that end when the broker has them: one way, or enqueued for their answer to be fetched.

use std::thread;

use futures_util::future::join_all;
use krpc::{Ticket, prelude::*};

use crate::support::{Place, block_on, eventually, place::PARTITIONS, scenario};

#[krpc::service]
trait Post {
    /// Nobody waits for it.
    #[rpc(one_way)]
    async fn send(&self, letter: u64);
    /// Asks for another attempt by its error.
    #[rpc(one_way)]
    async fn hand(&self, letter: u64) -> Result<(), String>;
    #[rpc(one_way, key = letter)]
    async fn sort(&self, letter: u64);
    async fn weigh(&self, letter: u64) -> u64;
    #[rpc(idempotent)]
    async fn look(&self, letter: u64) -> Result<u64, String>;
}

async fn client(place: &Place) -> (Channel, PostClient) {
    let channel = place.connect().await;
    let post = PostClient::new(&channel);
    (channel, post)
}

/// Nothing of the calls that were made is left in the client.
fn is_idle(channel: &Channel) -> bool {
    let stats = channel.stats("Post").unwrap();
    (stats.in_flight, stats.occupied) == (0, 0)
}

#[test]
fn one_way_calls_are_done_without_a_server() {
    scenario(async |place| {
        let (channel, post) = client(&place).await;
        assert_eq!(post.send(1).await, Ok(()));
        assert_eq!(post.hand(2).await, Ok(()));
        assert_eq!(post.sort(3).await, Ok(()));
        let many = join_all((0..100).map(|letter| post.send(letter))).await;
        assert_eq!(many, vec![Ok(()); 100]);
        let keyed = join_all((0..100).map(|letter| post.send(letter).key("one"))).await;
        assert_eq!(keyed, vec![Ok(()); 100]);
        let reply = post.send(4).reply().await.unwrap();
        assert_eq!((reply.server_elapsed, reply.flight_response), (millis(0), millis(0)));
        assert_eq!((reply.elapsed, reply.attempts), (reply.flight_request, 1));
        assert!(is_idle(&channel));
    });
}

#[test]
fn a_ticket_comes_without_a_server_and_survives_text() {
    scenario(async |place| {
        let (channel, post) = client(&place).await;
        let ticket: Ticket<u64> = post.weigh(1).enqueue().await.unwrap();
        assert_eq!((ticket.service(), ticket.method()), ("Post", "weigh"));
        let text = serde_json::to_string(&ticket).unwrap();
        assert_eq!(serde_json::from_str::<Ticket<u64>>(&text).unwrap(), ticket);
        let fails: Ticket<u64, String> = post.look(1).enqueue().await.unwrap();
        let none: Ticket<()> = post.send(1).enqueue().await.unwrap();
        assert_eq!((fails.method(), none.method()), ("look", "send"));
        assert!(is_idle(&channel));
    });
}

#[test]
fn a_ticket_comes_outside_of_any_runtime() {
    scenario(async |place| {
        let (channel, post) = client(&place).await;
        channel.open("Post").await.unwrap();
        let polled = thread::spawn(move || block_on(post.weigh(1).enqueue()));
        eventually("it is done", || polled.is_finished()).await;
        assert!(polled.join().unwrap().is_ok());
    });
}

#[test]
fn each_ticket_says_where_its_call_lies() {
    scenario(async |place| {
        let (_channel, post) = client(&place).await;
        let tickets = join_all((0..200).map(|letter| post.weigh(letter).key("k").enqueue())).await;
        let mut places: Vec<_> = tickets.into_iter().map(|ticket| at(&ticket.unwrap())).collect();
        let partition = places[0].0;
        assert!(partition < u64::from(PARTITIONS));
        assert!(places.iter().all(|place| place.0 == partition), "one key, one partition");
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 200, "no two calls in one place");
        let last: Ticket<u64> = post.weigh(0).key("k").enqueue().await.unwrap();
        let (_, offset, index) = at(&last);
        assert!(offset > places[199].1, "{offset}, behind {:?}", places[199]);
        assert_eq!(index, 0);
    });
}

/// Partition, offset and index.
fn at(ticket: &Ticket<u64>) -> (u64, u64, u64) {
    let json = serde_json::to_value(ticket).unwrap();
    let number = |name: &str| json[name].as_u64().unwrap();
    (number("partition"), number("offset"), number("index"))
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    scenario(async |place| {
        let (channel, post) = client(&place).await;
        let refused = |error: krpc::Error| {
            assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
            error.to_string()
        };
        let error = refused(post.weigh(1).key("").await.unwrap_err());
        assert!(error.contains(" 0 bytes"), "{error}");
        let error = refused(post.weigh(1).key("k".repeat(1_025)).await.unwrap_err());
        assert!(error.contains("1025 bytes"), "{error}");
        let untyped = channel.service("Post");
        refused(untyped.ping().key("k").await.unwrap_err());
        let error = refused(untyped.ping().enqueue().await.unwrap_err());
        assert!(error.contains("no ticket"), "{error}");
        let error = refused(post.look(1).hedge(millis(1)).enqueue().await.unwrap_err());
        assert!(error.contains("repeated by its server"), "{error}");
        let error = post.look(1).hedge(millis(1)).key("k").await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
        let error = post.weigh(1).timeout(millis(0)).enqueue().await.unwrap_err();
        assert_eq!(error.code(), Some(Code::DeadlineExceeded), "{error}");
        assert!(channel.stats("Post").is_none(), "it was not even opened");
        // A key of the call takes the place of one that would not do.
        assert_eq!(post.sort(1).key("").key("k").await, Ok(()));
    });
}

#[test]
fn dropping_a_one_way_call_that_was_sent_calls_nothing_back() {
    scenario(async |place| {
        let (channel, post) = client(&place).await;
        channel.open("Post").await.unwrap();
        let packets = channel.stats("Post").unwrap().packets;
        // Polled once, and dropped.
        let polled = tokio::time::timeout(millis(0), post.send(1)).await;
        drop(polled);
        assert!(is_idle(&channel));
        assert_eq!(post.send(2).await, Ok(()));
        assert_eq!(channel.stats("Post").unwrap().packets, packets + 2, "no cancel between them");
    });
}
