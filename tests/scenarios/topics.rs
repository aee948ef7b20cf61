//! Kafka's own: topics that others made, and brokers that are not there.

use std::time::{Duration, Instant};

use krpc::{Channel, Server, SetupError, prelude::*};
use krpc_core::transport::Topic;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

use crate::support::{
    Place, scenario,
    services::{Adder, SumClient, SumServer},
};

/// Makes a topic of [`Sum`](crate::support::services::Sum) as somebody else would.
async fn make(place: &Place, topic: Topic, partitions: i32, settings: &[(&str, &str)]) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &place.endpoint);
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let name = place.config().topic("Sum", topic);
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    let results = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Both sides refuse the topic, and its name stands in the error.
async fn is_unfit(place: &Place, topic: Topic) {
    let name = place.config().topic("Sum", topic);
    let channel = place.connect().await;
    let at_client = channel.open("Sum").await.unwrap_err();
    let at_server = place.server().serve(SumServer::new(Adder)).start().await.unwrap_err();
    for error in [at_client, at_server] {
        let SetupError::UnfitTopic { topic, .. } = &error else { panic!("{error}") };
        assert_eq!(*topic, name);
    }
    let failed = SumClient::new(&channel).add(1, 2).await.unwrap_err();
    assert_eq!(failed.code(), Some(Code::FailedPrecondition));
}

#[test]
fn a_calls_topic_of_too_few_partitions_is_unfit() {
    scenario(async |place| {
        make(&place, Topic::Calls, 1, &[]).await;
        is_unfit(&place, Topic::Calls).await;
    });
}

#[test]
fn a_compacted_topic_is_unfit() {
    scenario(async |place| {
        make(&place, Topic::Replies, 2, &[("cleanup.policy", "compact")]).await;
        is_unfit(&place, Topic::Replies).await;
    });
}

#[test]
fn a_topic_of_too_small_messages_is_unfit() {
    scenario(async |place| {
        make(&place, Topic::Calls, 4, &[("max.message.bytes", "100000")]).await;
        is_unfit(&place, Topic::Calls).await;
    });
}

#[test]
fn a_topic_that_fits_is_adopted() {
    scenario(async |place| {
        // More partitions than asked for, and the senders' times: that is only warned of.
        let settings = [("max.message.bytes", "8388608"), ("message.timestamp.type", "CreateTime")];
        make(&place, Topic::Calls, 7, &settings).await;
        let server = place.server().serve(SumServer::new(Adder)).start().await.unwrap();
        let sum = SumClient::new(&place.connect().await);
        assert_eq!(sum.add(1, 2).timeout(secs(50)).await, Ok(3));
        crate::support::eventually("all seven are served", || {
            server.stats().partitions[0].len() == 7
        })
        .await;
    });
}

#[test]
fn a_broker_that_is_not_there_is_told_within_the_connect_timeout() {
    scenario(async |place| {
        let nowhere = format!("127.0.0.1:{}", krpc_testkit::free_port().unwrap());
        let is_unreachable = |error: SetupError, took: Duration| {
            let SetupError::Unreachable { endpoint, cause, .. } = &error else { panic!("{error}") };
            assert_eq!(*endpoint, nowhere);
            assert!(!cause.is_empty());
            assert!((millis(900)..secs(4)).contains(&took), "{took:?} instead of 1 s");
        };
        let began = Instant::now();
        let channel = Channel::builder(&nowhere).prefix(&place.prefix).connect_timeout(secs(1));
        is_unreachable(channel.connect().await.unwrap_err(), began.elapsed());
        let began = Instant::now();
        let server = Server::builder(&nowhere).prefix(&place.prefix).connect_timeout(secs(1));
        let started = server.serve(SumServer::new(Adder)).start().await;
        is_unreachable(started.unwrap_err(), began.elapsed());
    });
}

#[test]
fn who_is_told_to_keep_trying_does() {
    scenario(async |place| {
        let nowhere = format!("127.0.0.1:{}", krpc_testkit::free_port().unwrap());
        let builder = Channel::builder(&nowhere).prefix(&place.prefix);
        let builder = builder.connect_timeout(millis(200)).keep_trying(true);
        let connecting = tokio::time::timeout(secs(2), builder.connect()).await;
        assert!(connecting.is_err(), "{connecting:?} though there is no broker");
    });
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_told_by_name() {
    scenario(async |place| {
        for (name, value) in [("no.such.property", "1"), ("queue.buffering.max.kbytes", "many")] {
            let error = place.channel().property(name, value).connect().await.unwrap_err();
            let SetupError::InvalidConfig { name: told, .. } = &error else { panic!("{error}") };
            assert_eq!(told, name);
        }
    });
}
