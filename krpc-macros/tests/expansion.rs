//! Services of every shape, compiled under the strictest lints that a user may set: an expansion
//! that warned would fail here, under `cargo test` or under `cargo clippy`.

#![deny(warnings, unused, future_incompatible, rust_2018_idioms, keyword_idents)]
#![deny(missing_docs, missing_debug_implementations, unreachable_pub, unnameable_types)]
#![deny(single_use_lifetimes, unused_lifetimes, redundant_lifetimes, let_underscore_drop)]
#![deny(trivial_casts, trivial_numeric_casts, unused_qualifications, unit_bindings)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery)]
#![forbid(unsafe_code)]
// Contradicts `unreachable_pub`.
#![allow(clippy::redundant_pub_crate)]

use std::time::Duration;

use krpc::rt::{Service, ServiceDescriptor};

fn describe(service: &impl Service) -> &'static ServiceDescriptor {
    service.descriptor()
}

mod described {
    use krpc::Context;

    /// Arithmetic.
    ///
    /// For everyone.
    #[krpc::service(name = "acme.Sum", version = "1.2")]
    pub(crate) trait Sum {
        /// Adds.
        async fn add(&self, x: i64, y: i64) -> i64;
        /// Divides.
        #[rpc(timeout = "1500ms", idempotent, name = "quotient")]
        async fn divide(
            &self,
            cx: &Context,
            #[serde(rename = "dividend")] x: f64,
            y: f64,
        ) -> Result<f64, String>;
    }

    pub(crate) struct Calculator;

    impl Sum for Calculator {
        async fn add(&self, x: i64, y: i64) -> i64 {
            x + y
        }

        async fn divide(&self, _: &Context, x: f64, y: f64) -> Result<f64, String> {
            if y == 0.0 { Err("by zero".to_owned()) } else { Ok(x / y) }
        }
    }

    pub(crate) async fn ask(sum: &SumClient) -> (i64, f64) {
        let three = sum.add(1, 2).await.expect("a number");
        (three, sum.divide(1.0, 2.0).await.expect("a number"))
    }
}

#[test]
fn a_service_is_described_as_it_was_written() {
    let server = described::SumServer::new(described::Calculator);
    let sum = describe(&server);
    assert_eq!((sum.name, sum.version), ("acme.Sum", "1.2"));
    assert_eq!(sum.doc, "Arithmetic.\n\nFor everyone.");
    let [add, divide] = sum.methods else { panic!("two methods") };
    assert_eq!((add.name, add.path, add.doc), ("add", "acme.Sum/add", "Adds."));
    assert_eq!((add.output, add.error), ("i64", None));
    assert_eq!((add.timeout, add.idempotent), (None, false));
    let args: Vec<_> = divide.args.iter().map(|arg| (arg.name, arg.ty)).collect();
    assert_eq!(args, [("dividend", "f64"), ("y", "f64")]);
    assert_eq!((divide.name, divide.path), ("quotient", "acme.Sum/quotient"));
    assert_eq!((divide.output, divide.error), ("f64", Some("String")));
    assert_eq!((divide.timeout, divide.idempotent), (Some(Duration::from_millis(1500)), true));
    assert_ne!(add.fingerprint, divide.fingerprint);
    // By hand, of "x: i64, y: i64, -> i64": programs built apart must agree on it.
    assert_eq!(add.fingerprint, FINGERPRINT);
    // The golden shows the same number: the compiler's tokens give the same text as proc-macro2's.
    let golden = include_str!("golden/sum.rs");
    assert!(golden.contains(&format!("fingerprint: {FINGERPRINT}u32")));
}

/// Promises of delivery, under the same lints.
mod delivered {
    #[krpc::service]
    pub(crate) trait Bank {
        /// Puts money into an account.
        ///
        /// # Errors
        /// Without the account.
        #[rpc(key = account, at_most_once)]
        async fn deposit(&self, cx: &krpc::Context, account: String) -> Result<u64, String>;
        #[rpc(key = format!("{tenant}/{}", accounts[0] % 16), one_way)]
        #[rpc(retry(max = 5, backoff = "1s..1m", then = drop), retention = "7d")]
        async fn settle(&self, tenant: String, accounts: Vec<u64>) -> Result<(), String>;
    }

    pub(crate) struct Imp;

    impl Bank for Imp {
        async fn deposit(&self, _: &krpc::Context, account: String) -> Result<u64, String> {
            account.parse().map_err(|_| account)
        }

        async fn settle(&self, _: String, _: Vec<u64>) -> Result<(), String> {
            Ok(())
        }
    }
}

#[test]
fn promises_of_delivery_are_described() {
    use krpc::rt::{Policy, ServerRetry, Then};

    let server = delivered::BankServer::new(delivered::Imp);
    let [deposit, settle] = describe(&server).methods else { panic!("two methods") };
    assert_eq!(*deposit.policy, Policy { keyed: true, at_most_once: true, ..Policy::PLAIN });
    let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
    let retry = Some(ServerRetry { max: 5, first, most, then: Then::Drop });
    let retention = Some(Duration::from_secs(7 * 86_400));
    let expected = Policy { keyed: true, one_way: true, retry, retention, ..Policy::PLAIN };
    assert_eq!(*settle.policy, expected);
}

const FINGERPRINT: u32 = 2_536_001_786;

#[test]
fn futures_of_calls_can_be_moved_between_threads() {
    fn movable<T: Send>(_: impl FnOnce(&'static described::SumClient) -> T) {}
    movable(described::ask);
}

/// What is deprecated warns those who call it, and no one else.
mod deprecated {
    #[krpc::service]
    pub(crate) trait Old {
        #[deprecated = "use `g`"]
        #[must_use = "it does nothing else"]
        async fn f(&self, x: u8) -> u8;
    }

    #[krpc::service]
    #[deprecated]
    pub(crate) trait Older {
        async fn f(&self);
    }

    #[test]
    fn a_client_passes_the_notice_on() {
        #[expect(deprecated)]
        let _: fn(&OldClient, u8) -> krpc::Call<u8> = OldClient::f;
        #[expect(deprecated)]
        drop(None::<OlderClient>);
    }
}

/// What `cfg` takes away is gone everywhere, even if its types do not exist.
mod conditional {
    #[krpc::service]
    pub(crate) trait Some {
        #[cfg(any())]
        async fn absent(&self, x: Missing) -> Result<Missing, Missing>;
        #[cfg(not(any()))]
        async fn present(&self, x: u8) -> u8;
        #[cfg(any())]
        async fn either(&self, x: Missing) -> u8;
        #[cfg(not(any()))]
        async fn either(&self, x: u8) -> u8;
        #[cfg_attr(not(any()), doc = "Documented.")]
        async fn documented(&self);
    }

    /// Bears what only a trait can bear, and what is passed on.
    #[krpc::service]
    #[cfg_attr(not(any()), diagnostic::on_unimplemented(message = "write it first"))]
    #[cfg_attr(not(any()), deprecated)]
    pub(crate) trait Attributed {
        async fn f(&self);
    }

    #[krpc::service]
    #[cfg(any())]
    pub(crate) trait None {
        async fn absent(&self, x: Missing) -> Missing;
    }

    pub(crate) struct Imp;

    impl Some for Imp {
        async fn present(&self, x: u8) -> u8 {
            x
        }

        async fn either(&self, x: u8) -> u8 {
            x
        }

        async fn documented(&self) {}
    }
}

#[test]
fn what_cfg_attr_says_to_callers_is_passed_on() {
    #[expect(deprecated)]
    drop(None::<conditional::AttributedClient>);
}

#[test]
fn what_cfg_takes_away_is_not_described() {
    let server = conditional::SomeServer::new(conditional::Imp);
    let names: Vec<_> = describe(&server).methods.iter().map(|method| method.name).collect();
    assert_eq!(names, ["present", "either", "documented"]);
}

/// Each visibility, with types that are as visible as the trait.
mod visible {
    mod inner {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Private;

        #[krpc::service]
        trait Hidden {
            async fn f(&self, x: Private) -> Private;
        }

        #[krpc::service]
        pub(super) trait Outside {
            async fn f(&self);
        }

        #[krpc::service]
        pub(in crate::visible) trait Within {
            async fn f(&self);
        }
    }

    fn shown(outside: &inner::OutsideClient, within: &inner::WithinServer<u8>) -> String {
        format!("{outside:?} {within:?}")
    }

    #[test]
    fn a_client_is_as_visible_as_its_trait() {
        let _: fn(&inner::OutsideClient, &inner::WithinServer<u8>) -> String = shown;
    }
}

/// Types with parameters, paths that are relative, and what serde is told of an argument.
#[allow(unused_qualifications)]
mod types {
    use std::collections::HashMap;

    const WIDTH: usize = 4;

    const fn ten() -> u32 {
        10
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct Page<T> {
        rows: Vec<T>,
    }

    type Outcome<T, E> = Result<T, E>;

    #[krpc::service]
    pub(crate) trait Types {
        #[allow(clippy::type_complexity)]
        async fn generic(&self, x: HashMap<String, Vec<(u8, Option<Page<i8>>)>>) -> Page<Page<u8>>;
        async fn relative(&self, x: self::Page<u8>, y: super::types::Page<u8>) -> [u8; WIDTH * 2];
        async fn alias(&self) -> Outcome<u8, u8>;
        async fn renamed(&self) -> std::result::Result<(), (u8, u8)>;
        async fn serde(&self, #[serde(default = "ten")] x: u32, #[serde(default)] y: Option<u8>);
        async fn wide(&self, x: (u8, (u8, [u8; 2])), y: ()) -> (u8,);
    }
}

/// Where krpc is, when it is not `::krpc`.
mod elsewhere {
    pub(crate) mod reexport {
        pub(crate) use ::krpc as rpc;
    }

    #[krpc::service(crate = "crate::elsewhere::reexport::rpc")]
    pub(crate) trait Text {
        async fn f(&self, x: u8) -> u8;
    }

    #[krpc::service(crate = crate::elsewhere::reexport::rpc)]
    pub(crate) trait Path {
        async fn f(&self, x: u8) -> u8;
    }

    #[krpc::service(crate = krpc)]
    pub(crate) trait Name {
        async fn f(&self, x: u8) -> u8;
    }
}

#[test]
fn a_server_is_cloned_and_shown_without_help_of_the_implementation() {
    use std::sync::Arc;

    let shared = Arc::new(described::Calculator);
    let server = described::SumServer::from(Arc::clone(&shared));
    let copy = server.clone();
    assert_eq!(Arc::strong_count(&shared), 3);
    assert!(format!("{server:?}").starts_with("SumServer"));
    drop((copy, server));
}
