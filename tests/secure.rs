//! A Kafka with TLS, SCRAM and rules, where a client and a server may do exactly what
//! `krpc::acl` prints; and the passwords stay unseen, also in the closest log.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

#[path = "support/log.rs"]
mod log;

use std::time::{Duration, Instant};

use krpc::{Config, Mechanism, Server, SetupError, acl, prelude::*};
use krpc_testkit::{Door, Kafka};
const PATIENCE: Duration = Duration::from_secs(60);
const SERVICE: &str = "secure.Sums";
const CLIENT: (&str, &str) = ("web", "hush-of-web");
const SERVER: (&str, &str) = ("sums", "hush-of-sums");

#[krpc::service(name = "secure.Sums")]
trait Sums {
    async fn add(&self, x: i64, y: i64) -> i64;
    #[rpc(one_way, retry(max = 1))]
    async fn fail(&self) -> Result<(), String>;
    #[rpc(at_most_once)]
    async fn once(&self, x: i64) -> i64;
}

struct Adder;

impl Sums for Adder {
    async fn add(&self, x: i64, y: i64) -> i64 {
        x + y
    }

    async fn fail(&self) -> Result<(), String> {
        Err("on purpose".to_owned())
    }

    async fn once(&self, x: i64) -> i64 {
        x
    }
}

/// Starts when the rules have reached the broker.
async fn server(kafka: &Kafka) -> Server {
    let begin = Instant::now();
    loop {
        let builder = Server::builder(kafka.door(Door::SaslTls).unwrap())
            .tls_ca_file(kafka.ca_file().unwrap())
            .sasl(Mechanism::ScramSha512, SERVER.0, SERVER.1)
            .property("debug", "security,conf,broker")
            .serve(SumsServer::new(Adder));
        assert!(!format!("{builder:?}").contains("hush"));
        match builder.start().await {
            Ok(server) => return server,
            Err(SetupError::Unauthorized { .. }) if begin.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn channel(kafka: &Kafka, password: &str) -> Result<Channel, SetupError> {
    Channel::builder(kafka.door(Door::SaslTls).unwrap())
        .tls_ca_file(kafka.ca_file().unwrap())
        .sasl(Mechanism::ScramSha512, CLIENT.0, password)
        .property("debug", "security,conf,broker")
        .connect()
        .await
}

/// Two calls that are due too late to wait in a server's memory, of which one is given up.
async fn delayed(kafka: &Kafka, sums: &SumsClient, server: &Server) {
    let value = sums.add(5, 6).delay(Duration::from_secs(4)).await;
    assert_eq!(value.unwrap(), 11);
    let counts = || server.stats().counts;
    assert!(counts().moved >= 2, "to where it waited, and to the calls");
    let begun = counts().cancelled;
    let given_up = sums.add(7, 8).delay(Duration::from_secs(8));
    tokio::time::timeout(Duration::from_secs(1), given_up).await.unwrap_err();
    let begin = Instant::now();
    while counts().cancelled == begun {
        assert!(begin.elapsed() < PATIENCE, "{}", kafka.logs(0));
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_and_a_server_do_everything_with_the_printed_rules() {
    log::keep();
    let kafka = Kafka::builder().secure(&[CLIENT, SERVER]).start().unwrap();
    let config = Config::default();
    let rules = acl::client(&config, SERVICE, CLIENT.0).tickets().delays().dead_letters();
    kafka.add_rules(&rules.to_string()).unwrap();
    let rules = acl::server(&config, SERVICE, SERVER.0).tickets().delays();
    kafka.add_rules(&rules.to_string()).unwrap();

    let server = server(&kafka).await;
    let channel_of_client = channel(&kafka, CLIENT.1).await.unwrap();
    let sums = SumsClient::new(&channel_of_client);
    assert_eq!(sums.add(1, 2).await.unwrap(), 3);
    assert_eq!(sums.once(4).await.unwrap(), 4);
    let ticket = sums.add(3, 4).enqueue().await.unwrap();
    sums.status(&ticket).await.unwrap();
    assert_eq!(sums.attach(&ticket).await.unwrap(), 7);
    sums.cancel(&ticket).await.unwrap();

    delayed(&kafka, &sums, &server).await;

    sums.fail().await.unwrap();
    let letters = channel_of_client.dead_letters(SERVICE);
    let begin = Instant::now();
    let letter = loop {
        match letters.list().await.unwrap().pop() {
            Some(letter) => break letter,
            None => assert!(begin.elapsed() < PATIENCE),
        }
    };
    letters.replay(&letter.id).await.unwrap();

    let error = channel(&kafka, "hush-hush").await.unwrap_err();
    assert!(matches!(error, SetupError::Authentication { .. }), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
    channel_of_client.close().await;
    server.shutdown().await.unwrap();
    let log = log::text();
    // It was close enough to see the settings, without what they hide.
    assert!(log.contains("sasl.password"), "nothing of the settings was logged");
    for line in log.lines() {
        assert!(!line.contains("hush"), "{line}");
    }
}
