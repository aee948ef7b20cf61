//! Calls that go well.

use std::collections::BTreeMap;

use krpc::{Channel, Error, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::support::{
    scenario,
    services::{
        Adder, EchoClient, EchoServer, MathError, Parrot, SumClient, SumServer, WorkClient,
        WorkServer, Worker,
    },
    start,
};

#[test]
fn a_call_is_answered() {
    scenario(async |place| {
        let _server = place.serve(SumServer::new(Adder)).await;
        let sum = SumClient::new(&place.connect().await);
        assert_eq!(sum.add(1, 2).await.unwrap(), 3);
        assert_eq!(sum.add(-1, i64::MIN + 1).await.unwrap(), i64::MIN);
    });
}

#[test]
fn a_client_connects_by_its_endpoint_alone() {
    #[krpc::service(name = "krpc.test.Connect")]
    trait Connect {
        async fn here(&self) -> bool;
    }
    struct Here;
    impl Connect for Here {
        async fn here(&self) -> bool {
            true
        }
    }

    scenario(async |place| {
        let server = Server::builder(&place.endpoint).set("KRPC_REPLICATION", 1);
        let server = server.serve(ConnectServer::new(Here)).start().await.unwrap();
        let client = ConnectClient::connect(&place.endpoint).await.unwrap();
        assert!(client.here().await.unwrap());
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_server_has_several_services() {
    scenario(async |place| {
        let builder = place.server().serve(SumServer::new(Adder));
        let _server = start(builder.serve(EchoServer::new(Parrot("a ")))).await;
        let channel = place.connect().await;
        assert_eq!(SumClient::new(&channel).add(1, 2).await.unwrap(), 3);
        assert_eq!(EchoClient::new(&channel).echo("b".to_owned()).await.unwrap(), "a b");
    });
}

#[test]
fn a_channel_carries_services_of_several_servers() {
    scenario(async |place| {
        let _sums = place.serve(SumServer::new(Adder)).await;
        let _echoes = place.serve(EchoServer::new(Parrot(""))).await;
        let channel = place.connect().await;
        let (sum, echo) = (SumClient::new(&channel), EchoClient::new(&channel));
        for n in 0..20 {
            let both = tokio::join!(sum.add(n, 1), echo.echo(n.to_string()));
            assert_eq!(both, (Ok(n + 1), Ok(n.to_string())));
        }
        for service in ["Sum", "Echo"] {
            assert_eq!(channel.stats(service).unwrap().occupied, 0, "{service}");
        }
    });
}

#[test]
fn a_thousand_calls_at_once_get_their_own_answers() {
    scenario(async |place| {
        let server = place.serve(SumServer::new(Adder)).await;
        let channel = place.connect().await;
        let sum = SumClient::new(&channel);
        let mut calls = JoinSet::new();
        for n in 0..1_000 {
            let call = sum.add(n, n * 1_000);
            calls.spawn(async move { (n, call.await) });
        }
        let answers: BTreeMap<_, _> = calls.join_all().await.into_iter().collect();
        assert_eq!(answers.len(), 1_000);
        assert!(answers.iter().all(|(n, answer)| *answer == Ok(n * 1_001)));
        assert_eq!(server.stats().counts.executed, 1_000);
        let stats = channel.stats("Sum").unwrap();
        assert_eq!((stats.in_flight, stats.occupied), (0, 0));
    });
}

#[test]
fn many_channels_share_the_topics() {
    scenario(async |place| {
        let _server = place.serve(SumServer::new(Adder)).await;
        let mut calls = JoinSet::new();
        for client in 0..10 {
            let sum = SumClient::new(&place.connect().await);
            for n in 0..20 {
                let (x, call) = (client * 1_000 + n, sum.add(client * 1_000 + n, 0));
                calls.spawn(async move { (call.await, x) });
            }
        }
        for (sum, right) in calls.join_all().await {
            assert_eq!(sum, Ok(right));
        }
    });
}

#[test]
fn an_application_error_arrives_as_it_was() {
    scenario(async |place| {
        let _server = place.serve(SumServer::new(Adder)).await;
        let sum = SumClient::new(&place.connect().await);
        assert_eq!(sum.divide(7, 2).await.unwrap(), 3);
        let error = sum.divide(7, 0).await.unwrap_err();
        assert_eq!(error, Error::App(MathError::DivisionByZero { dividend: 7 }));
        assert_eq!((error.code(), error.is_retryable()), (None, false));
    });
}

#[test]
fn a_bare_return_fails_with_a_status_only() {
    scenario(async |place| {
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker)).await;
        let work = WorkClient::new(&place.connect().await);
        // The error's type is written out: `Infallible` is the default of `krpc::Error`.
        let value: Result<u64, Error> = work.quick(7).await;
        assert_eq!(value, Ok(7));
        match work.panics(false).await {
            Err(Error::Status(status)) => assert_eq!(status.code(), Code::Internal),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn nothing_goes_in_and_nothing_comes_out() {
    scenario(async |place| {
        let _server = place.serve(SumServer::new(Adder)).await;
        let sum = SumClient::new(&place.connect().await);
        sum.nothing().await.unwrap();
    });
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Order {
    id: u128,
    lines: Vec<Line>,
    notes: BTreeMap<String, Option<String>>,
    total: f64,
    nested: Option<Box<Order>>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Line {
    Empty,
    Text(String),
    Item { sku: [u8; 4], count: u32 },
    Pair(i8, char),
}

#[krpc::service]
trait Shop {
    async fn order(&self, order: Order, copies: usize) -> Vec<Order>;
    async fn unit(&self, unit: ()) -> ((), Option<()>);
}

struct Till;

impl Shop for Till {
    async fn order(&self, order: Order, copies: usize) -> Vec<Order> {
        vec![order; copies]
    }

    async fn unit(&self, unit: ()) -> ((), Option<()>) {
        (unit, None)
    }
}

#[test]
fn rich_values_arrive_as_they_were() {
    scenario(async |place| {
        let _server = place.serve(ShopServer::new(Till)).await;
        let shop = ShopClient::new(&place.connect().await);
        let mut order = Order {
            id: u128::MAX,
            lines: vec![
                Line::Empty,
                Line::Text("ä€😀\0".repeat(1_000)),
                Line::Item { sku: [0, 1, 254, 255], count: u32::MAX },
                Line::Pair(-128, '\u{10ffff}'),
            ],
            notes: [("a".to_owned(), None), (String::new(), Some("b".to_owned()))].into(),
            total: -0.1,
            nested: None,
        };
        order.nested = Some(Box::new(order.clone()));
        assert_eq!(shop.order(order.clone(), 3).await.unwrap(), vec![order.clone(); 3]);
        assert_eq!(shop.order(order, 0).await.unwrap(), []);
        assert_eq!(shop.unit(()).await.unwrap(), ((), None));
    });
}

#[test]
fn every_server_answers_ping_and_info() {
    scenario(async |place| {
        let server = place.serve(SumServer::new(Adder)).await;
        let channel: Channel = place.connect().await;
        let sum = channel.service("Sum");
        assert_eq!(sum.ping().await.unwrap(), server.instance().to_string());
        SumClient::new(&channel).nothing().await.unwrap();
        let info = sum.info().await.unwrap();
        assert_eq!((info.name.as_str(), info.version.as_str()), ("Sum", "2.1"));
        assert_eq!(
            (info.doc.as_str(), info.server),
            ("Arithmetic.", server.instance().to_string())
        );
        assert_eq!(info.partitions, server.stats().partitions[0]);
        assert!(info.executed >= 2, "{}", info.executed);
        let methods: Vec<_> = info.methods.iter().map(|method| method.name.as_str()).collect();
        assert_eq!(methods, ["add", "divide", "nothing"]);
        let divide = &info.methods[1];
        assert_eq!((divide.timeout_ms, divide.idempotent), (Some(20_000), true));
        assert_eq!((divide.output.as_str(), divide.error.as_deref()), ("i64", Some("MathError")));
        assert_eq!(divide.args[0], ("x".to_owned(), "i64".to_owned()));
    });
}
