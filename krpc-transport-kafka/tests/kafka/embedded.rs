//! The broker inside the process.

use krpc_core::transport::Endpoint;
use krpc_transport_kafka::embedded;

use crate::{
    sending::echo,
    support::{answerer, caller, config, service},
};

#[tokio::test]
async fn calls_wait_for_a_server_and_are_answered() {
    let endpoint = embedded("waiting", config()).unwrap();
    let service = service("embedded");
    let client = caller(&endpoint, &service).await;
    client.call(2, "waiting", 77);
    client.driver.until("stored", |seen| seen.stored.contains_key(&77)).await;
    let server = answerer(&endpoint, &service).await;
    server.driver.until("the call that waited", |seen| seen.texts() == ["waiting"]).await;
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn an_echo_inside_the_process() {
    let endpoint = embedded("echo", config()).unwrap();
    let service = service("embedded");
    let server = answerer(&endpoint, &service).await;
    let client = caller(&endpoint, &service).await;
    echo(&client, &server, false).await;
    server.transport.leave().await.unwrap();
    server.transport.close().await;
    client.transport.close().await;
}

#[tokio::test]
async fn one_broker_for_each_name() {
    let one = embedded("one", config()).unwrap();
    let same = embedded("one", config()).unwrap();
    let other = embedded("other", config()).unwrap();
    assert_eq!(one.bootstrap(), same.bootstrap());
    assert_ne!(one.bootstrap(), other.bootstrap());
    assert_eq!(Endpoint::name(&one), "embedded:one");
}
