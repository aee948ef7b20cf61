//! Peers that were built from other versions of a trait.

use krpc::{
    Error,
    prelude::*,
    rt::{Client, MethodDescriptor, Policy, ServiceDescriptor},
};
use serde::{Deserialize, Serialize};

use crate::support::scenario;

/// What an older server has.
#[krpc::service]
trait Twin {
    async fn measure(&self, size: u32) -> u32;
    async fn area(&self, width: u32, #[serde(default)] height: u32) -> (u32, u32);
    async fn name(&self) -> String;
    async fn fail(&self) -> Result<u32, Fault>;
    async fn endless(&self) -> Unwritable;
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Fault {
    Broken { part: u32 },
}

/// A value that no codec can write.
#[derive(Debug, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it cannot be written"))
    }
}

struct Old;

impl Twin for Old {
    async fn measure(&self, size: u32) -> u32 {
        size
    }

    async fn area(&self, width: u32, height: u32) -> (u32, u32) {
        (width, height)
    }

    async fn name(&self) -> String {
        "old".to_owned()
    }

    async fn fail(&self) -> Result<u32, Fault> {
        Err(Fault::Broken { part: 7 })
    }

    async fn endless(&self) -> Unwritable {
        Unwritable
    }
}

/// What a client was built from.
mod other {
    #[krpc::service]
    pub(super) trait Twin {
        async fn measure(&self, size: String) -> u32;
        async fn area(&self, width: u32) -> (u32, u32);
        async fn name(&self) -> u64;
        async fn fail(&self) -> Result<u32, Vec<String>>;
        async fn missing(&self) -> u32;
    }
}

/// What another one was built from.
mod third {
    use super::Unwritable;

    #[krpc::service(name = "Twin")]
    pub(super) trait Twin {
        async fn measure(&self, size: u32, unit: String) -> u32;
        async fn area(&self, height: u32) -> (u32, u32);
        async fn fail(&self) -> u32;
        #[rpc(name = "name")]
        async fn named(&self, unwritable: Unwritable) -> String;
    }
}

use other::TwinClient as Other;
use third::TwinClient as Third;

/// The words of the status when signatures differ.
const HINT: &str = "another signature";

#[track_caller]
fn status<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<T, Error<E>>,
    code: Code,
) -> Status {
    let error = result.unwrap_err();
    let status = error.status().expect("a status, not the application's error").clone();
    assert_eq!(status.code(), code, "{status}");
    status
}

#[test]
fn an_unknown_method_is_unimplemented() {
    scenario(async |place| {
        let _server = place.serve(TwinServer::new(Old)).await;
        let channel = place.connect().await;
        let unknown = status(Other::new(&channel).missing().await, Code::Unimplemented);
        assert!(!unknown.is_retryable());
        assert_eq!(TwinClient::new(&channel).measure(1).await, Ok(1));
    });
}

#[test]
fn a_path_of_another_service_is_unimplemented() {
    static SERVICE: ServiceDescriptor =
        ServiceDescriptor { name: "Twin", version: "1.0", doc: "", methods: &[] };
    const fn method(path: &'static str) -> MethodDescriptor {
        MethodDescriptor {
            name: "measure",
            path,
            doc: "",
            args: &[],
            output: "u32",
            error: None,
            timeout: None,
            idempotent: false,
            policy: &Policy::PLAIN,
            fingerprint: 0,
        }
    }
    static METHODS: [MethodDescriptor; 6] = [
        method("Sum/measure"),
        method("twin/measure"),
        method("Twin/Twin/measure"),
        method("measure"),
        method("Twin/"),
        method(""),
    ];
    #[derive(Serialize)]
    struct Args {
        size: u32,
    }

    scenario(async |place| {
        let server = place.serve(TwinServer::new(Old)).await;
        let client = Client::new(&place.connect().await, &SERVICE);
        for method in &METHODS {
            let call = client.call::<_, u32>(method, &Args { size: 1 });
            status(call.await, Code::Unimplemented);
        }
        let path = format!("Twin/{}", "x".repeat(600));
        let long: &'static MethodDescriptor = Box::leak(Box::new(method(path.leak())));
        let taken = server.stats().counts.executed;
        status(client.call::<_, u32>(long, &Args { size: 1 }).await, Code::InvalidArgument);
        static GOOD: MethodDescriptor = method("Twin/measure");
        assert_eq!(client.call::<_, u32>(&GOOD, &Args { size: 1 }).await, Ok(1));
        assert_eq!(server.stats().counts.executed, taken + 1, "the long path was not sent");
    });
}

#[test]
fn arguments_of_another_type_are_refused_with_a_hint() {
    static METHOD: MethodDescriptor = MethodDescriptor {
        name: "measure",
        path: "Twin/measure",
        doc: "",
        args: &[],
        output: "u32",
        error: None,
        timeout: None,
        idempotent: false,
        policy: &Policy::PLAIN,
        fingerprint: 0,
    };
    static SERVICE: ServiceDescriptor =
        ServiceDescriptor { name: "Twin", version: "1.0", doc: "", methods: &[] };

    scenario(async |place| {
        let _server = place.serve(TwinServer::new(Old)).await;
        let channel = place.connect().await;
        let call = Other::new(&channel).measure("7".to_owned());
        let refused = status(call.await, Code::InvalidArgument);
        assert!(refused.message().contains(HINT), "{refused}");
        assert!(!refused.is_retryable());
        // Who says nothing of a signature is told nothing of it.
        let client = Client::new(&channel, &SERVICE);
        for value in ["text", ""] {
            let call = client.call::<_, u32>(&METHOD, &value);
            let refused = status(call.await, Code::InvalidArgument);
            assert!(!refused.message().contains(HINT), "{refused}");
        }
    });
}

#[test]
fn fields_may_be_added_and_missing_ones_need_a_default() {
    scenario(async |place| {
        let _server = place.serve(TwinServer::new(Old)).await;
        let channel = place.connect().await;
        // One more than the server knows.
        assert_eq!(Third::new(&channel).measure(3, "m".to_owned()).await, Ok(3));
        // One less, which has a default.
        assert_eq!(Other::new(&channel).area(4).await, Ok((4, 0)));
        // One less, which has none.
        let refused = status(Third::new(&channel).area(5).await, Code::InvalidArgument);
        assert!(refused.message().contains(HINT), "{refused}");
    });
}

#[test]
fn a_reply_of_another_type_is_internal_and_keeps_the_bytes() {
    scenario(async |place| {
        let _server = place.serve(TwinServer::new(Old)).await;
        let other = Other::new(&place.connect().await);
        let wrong = status(other.name().await, Code::Internal);
        assert_eq!(&wrong.details()[..], b"\xa3old");
        let wrong = status(other.name().reply().await, Code::Internal);
        assert_eq!(&wrong.details()[..], b"\xa3old");
    });
}

#[test]
fn an_application_error_of_another_type_is_unknown_and_keeps_the_bytes() {
    scenario(async |place| {
        let _server = place.serve(TwinServer::new(Old)).await;
        let channel = place.connect().await;
        let known = TwinClient::new(&channel).fail().await;
        assert_eq!(known, Err(Error::App(Fault::Broken { part: 7 })));
        let bytes = b"\x81\xa6Broken\x81\xa4part\x07";
        let unknown = status(Other::new(&channel).fail().await, Code::Unknown);
        assert_eq!(&unknown.details()[..], bytes);
        // And from a method that has no error of its own here.
        let unknown = status(Third::new(&channel).fail().await, Code::Unknown);
        assert_eq!(&unknown.details()[..], bytes);
    });
}

#[test]
fn values_that_cannot_be_written_are_refused() {
    scenario(async |place| {
        let server = place.serve(TwinServer::new(Old)).await;
        let channel = place.connect().await;
        status(TwinClient::new(&channel).endless().await, Code::Internal);
        assert_eq!(server.stats().counts.executed, 1);
        status(Third::new(&channel).named(Unwritable).await, Code::InvalidArgument);
        assert_eq!(TwinClient::new(&channel).measure(1).await, Ok(1));
        assert_eq!(server.stats().counts.executed, 2, "the arguments were not sent");
    });
}
