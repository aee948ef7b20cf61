//! What keeps a channel or a server from starting.

use krpc::{Channel, RetryPolicy, Server, SetupError, prelude::*};

use crate::support::{
    scenario,
    services::{Adder, EchoServer, Parrot, SumClient, SumServer},
};

#[test]
fn two_services_of_one_name_are_refused() {
    mod twin {
        #[krpc::service(name = "Sum")]
        pub(super) trait Total {
            async fn total(&self) -> u32;
        }
        impl Total for super::Adder {
            async fn total(&self) -> u32 {
                0
            }
        }
    }

    scenario(async |place| {
        let builder =
            place.server().serve(SumServer::new(Adder)).serve(EchoServer::new(Parrot("")));
        let error = builder.serve(twin::TotalServer::new(Adder)).start().await.unwrap_err();
        let SetupError::DuplicateService { name } = error else { panic!("{error}") };
        assert_eq!(name, "Sum");
    });
}

#[test]
fn a_server_without_a_service_is_refused() {
    scenario(async |place| {
        let error = place.server().start().await.unwrap_err();
        assert!(matches!(error, SetupError::NoService), "{error}");
    });
}

#[test]
fn names_that_no_topic_can_have_are_refused() {
    scenario(async |place| {
        let channel = place.connect().await;
        let long = "x".repeat(151);
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0b", &long] {
            let error = channel.open(name).await.unwrap_err();
            assert!(matches!(error, SetupError::InvalidService { .. }), "{name:?}: {error}");
            let error = channel.service(name).ping().await.unwrap_err();
            assert_eq!(error.code(), Some(Code::FailedPrecondition), "{name:?}");
        }
        channel.open("a.B_c-9").await.unwrap();
    });
}

#[test]
fn settings_outside_their_range_are_refused_by_name() {
    const WRONG: &[(&str, &str)] = &[
        ("KRPC_TIMEOUT", ""),
        ("KRPC_TIMEOUT", "5"),
        ("KRPC_TIMEOUT", "s"),
        ("KRPC_TIMEOUT", "0s"),
        ("KRPC_TIMEOUT", "-1s"),
        ("KRPC_TIMEOUT", "1.5s"),
        ("KRPC_TIMEOUT", "1 s"),
        ("KRPC_TIMEOUT", "1y"),
        ("KRPC_TIMEOUT", "367d"),
        ("KRPC_TIMEOUT", "99999999999999999999s"),
        ("KRPC_TIMEOUT", "18446744073709551615d"),
        ("KRPC_MAX_IN_FLIGHT", "0"),
        ("KRPC_MAX_IN_FLIGHT", "1000001"),
        ("KRPC_RETRY_ATTEMPTS", "0"),
        ("KRPC_RETRY_ATTEMPTS", "101"),
        ("KRPC_RETRY_BACKOFF", "50ms"),
        ("KRPC_RETRY_BACKOFF", "0ms..1s"),
        ("KRPC_RETRY_BACKOFF", "2s..1s"),
        ("KRPC_RETRY_BACKOFF", "50ms..1s..2s"),
        ("KRPC_RETRY_BUDGET", "-0.1"),
        ("KRPC_RETRY_BUDGET", "10.1"),
        ("KRPC_RETRY_BUDGET", "NaN"),
        ("KRPC_RETRY_BUDGET", "10%"),
        ("KRPC_CONCURRENCY", "0"),
        ("KRPC_CONCURRENCY", "-1"),
        ("KRPC_CONCURRENCY", "many"),
        ("KRPC_CONNECT_TIMEOUT", "never"),
        ("KRPC_DRAIN_TIMEOUT", "0ms"),
        ("KRPC_RELEASE_TIMEOUT", "3"),
        ("KRPC_COMMIT_INTERVAL", ""),
        ("KRPC_KEEP_TRYING", "yes"),
        ("KRPC_CREATE_TOPICS", "1"),
        ("KRPC_PREFIX", "a b"),
        ("KRPC_PREFIX", "a/b"),
        ("KRPC_PREFIX", "ä"),
        ("KRPC_GROUP_PROTOCOL", "Classic"),
        ("KRPC_SESSION_TIMEOUT", "6"),
        ("KRPC_HEARTBEAT_INTERVAL", "0s"),
        ("KRPC_CALL_PARTITIONS", "0"),
        ("KRPC_CALL_PARTITIONS", "4097"),
        ("KRPC_REPLY_PARTITIONS", "0"),
        ("KRPC_CALLS_RETENTION", "-7d"),
        ("KRPC_REPLIES_RETENTION", "1w"),
        ("KRPC_REPLICATION", "0"),
        ("KRPC_MAX_PACKET_BYTES", "16383"),
        ("KRPC_MAX_PACKET_BYTES", "4194305"),
        ("KRPC_NOPE", "1"),
        ("", "1"),
    ];

    scenario(async |place| {
        for (name, value) in WRONG {
            let channel = place.channel().set(name, value).connect().await.unwrap_err();
            let server = place.server().set(name, value).serve(SumServer::new(Adder));
            for error in [channel, server.start().await.unwrap_err()] {
                let SetupError::InvalidConfig { name: named, value: given, .. } = &error else {
                    panic!("{name}={value}: {error}")
                };
                assert_eq!((named.as_str(), given.as_str()), (*name, *value));
            }
        }
        // The first mistake is the one that is told.
        let error = place.server().concurrency(0).prefix("a b").start().await.unwrap_err();
        let SetupError::InvalidConfig { name, .. } = error else { panic!("{error}") };
        assert_eq!(name, "KRPC_CONCURRENCY");
    });
}

#[test]
fn builder_methods_check_as_settings_do() {
    scenario(async |place| {
        let name_of = |error: SetupError| match error {
            SetupError::InvalidConfig { name, .. } => name,
            other => panic!("{other}"),
        };
        let long = "p".repeat(81);
        let channels = [
            (place.channel().timeout(secs(0)), "KRPC_TIMEOUT"),
            (place.channel().max_in_flight(0), "KRPC_MAX_IN_FLIGHT"),
            (place.channel().retry(RetryPolicy::new().attempts(0)), "retry"),
            (place.channel().retry_budget(11.0), "KRPC_RETRY_BUDGET"),
            (place.channel().connect_timeout(secs(0)), "KRPC_CONNECT_TIMEOUT"),
            (place.channel().max_packet_bytes(1), "KRPC_MAX_PACKET_BYTES"),
            (place.channel().prefix(&long), "KRPC_PREFIX"),
        ];
        for (builder, name) in channels {
            assert_eq!(name_of(builder.connect().await.unwrap_err()), name);
        }
        let servers = [
            (place.server().concurrency(0), "KRPC_CONCURRENCY"),
            (place.server().drain_timeout(secs(0)), "KRPC_DRAIN_TIMEOUT"),
            (place.server().connect_timeout(secs(0)), "KRPC_CONNECT_TIMEOUT"),
            (place.server().max_packet_bytes(1 << 30), "KRPC_MAX_PACKET_BYTES"),
        ];
        for (builder, name) in servers {
            let builder = builder.serve(SumServer::new(Adder));
            assert_eq!(name_of(builder.start().await.unwrap_err()), name);
        }
    });
}

#[test]
fn endpoints_that_are_none_are_refused() {
    scenario(async |_| {
        for endpoint in ["", " ", "localhost", ":9092", "localhost:0", "a:1,,b:2", "http://a:1"] {
            let channel = Channel::connect(endpoint).await.unwrap_err();
            let server = Server::builder(endpoint).serve(SumServer::new(Adder)).start().await;
            for error in [channel, server.unwrap_err()] {
                let SetupError::InvalidEndpoint { endpoint: named, .. } = &error else {
                    panic!("{endpoint:?}: {error}")
                };
                assert_eq!(named, endpoint);
            }
        }
    });
}

#[test]
fn a_missing_topic_is_an_error_if_none_may_be_created() {
    scenario(async |place| {
        let channel = place.channel().set("KRPC_CREATE_TOPICS", false).connect().await.unwrap();
        let error = channel.open("Sum").await.unwrap_err();
        let SetupError::MissingTopic { topic, .. } = &error else { panic!("{error}") };
        assert!(topic.starts_with(&format!("{}.krpc.Sum.", place.prefix)), "{topic}");
        let failed = SumClient::new(&channel).add(1, 2).await.unwrap_err();
        assert_eq!(failed.code(), Some(Code::FailedPrecondition));
        let builder = place.server().set("KRPC_CREATE_TOPICS", false).serve(SumServer::new(Adder));
        let error = builder.start().await.unwrap_err();
        assert!(matches!(error, SetupError::MissingTopic { .. }), "{error}");
        // Once somebody has made them, they are adopted.
        let _server = place.serve(SumServer::new(Adder)).await;
        assert_eq!(SumClient::new(&channel).add(1, 2).await, Ok(3));
    });
}

#[test]
fn a_topic_that_carries_too_little_is_unfit() {
    scenario(async |place| {
        let small = place.channel().max_packet_bytes(64 * 1024).connect().await.unwrap();
        small.open("Sum").await.unwrap();
        let large = place.connect().await;
        let error = large.open("Sum").await.unwrap_err();
        let SetupError::UnfitTopic { topic, .. } = &error else { panic!("{error}") };
        assert!(topic.starts_with(&format!("{}.krpc.Sum.", place.prefix)), "{topic}");
        let failed = SumClient::new(&large).add(1, 2).await.unwrap_err();
        assert_eq!(failed.code(), Some(Code::FailedPrecondition));
        let error = place.server().serve(SumServer::new(Adder)).start().await.unwrap_err();
        assert!(matches!(error, SetupError::UnfitTopic { .. }), "{error}");
    });
}
