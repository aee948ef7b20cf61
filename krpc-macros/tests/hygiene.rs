//! Services whose names, and whose surroundings, are those that generated code could mistake for
//! its own. Compiled under the strictest lints that a user may set, as in `expansion.rs`.

#![deny(warnings, unused, future_incompatible, rust_2018_idioms, keyword_idents)]
#![deny(missing_docs, missing_debug_implementations, unreachable_pub, unnameable_types)]
#![deny(single_use_lifetimes, unused_lifetimes, redundant_lifetimes, let_underscore_drop)]
#![deny(trivial_casts, trivial_numeric_casts, unused_qualifications, unit_bindings)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery)]
#![forbid(unsafe_code)]
// Contradicts `unreachable_pub`.
#![allow(clippy::redundant_pub_crate)]

use krpc::rt::{Service, ServiceDescriptor};

fn describe(service: &impl Service) -> &'static ServiceDescriptor {
    service.descriptor()
}

/// Names of the user's that are also names of the standard library's, or of ours.
mod shadowed {
    #[allow(dead_code)]
    mod names {
        pub(crate) struct Result;
        pub(crate) struct Option;
        pub(crate) struct String;
        pub(crate) struct Duration;
        pub(crate) struct Arc;
        pub(crate) struct Context;
        pub(crate) struct Client;
        pub(crate) struct Channel;
        pub(crate) trait Future {}
        pub(crate) trait Send {}
        pub(crate) trait Sync {}
        pub(crate) trait Clone {}
        pub(crate) trait Debug {}
        pub(crate) trait From {}
        pub(crate) trait Service {}
        pub(crate) trait Serialize {}
        pub(crate) trait Deserialize {}
    }
    #[allow(unused_imports)]
    use names::*;
    mod core {}
    mod std {}
    mod serde {}
    mod krpc {}

    #[::krpc::service]
    pub(crate) trait Hard {
        async fn f(&self, cx: &::krpc::Context, x: u8) -> ::core::result::Result<u8, u8>;
        async fn g(&self, x: Vec<u8>) -> u8;
    }

    pub(crate) struct Imp;

    impl Hard for Imp {
        async fn f(&self, _: &::krpc::Context, x: u8) -> ::core::result::Result<u8, u8> {
            Ok(x)
        }

        async fn g(&self, x: Vec<u8>) -> u8 {
            x[0]
        }
    }
}

/// Types of the user's that have the names a macro might give to its own.
mod our_names {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(crate) struct AddArgs;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct Args;
    /// The name of the server's parameter.
    #[derive(Serialize, Deserialize)]
    pub(crate) struct S;
    pub(crate) const ADD: usize = 2;
    pub(crate) const SERVICE: usize = 3;

    #[krpc::service]
    pub(crate) trait Sum {
        async fn add(&self, x: AddArgs, y: Args, z: [u8; ADD]) -> Result<S, [u8; SERVICE]>;
        async fn service(&self);
    }

    /// Shares the beginning of its name, and all of its method's.
    #[krpc::service]
    pub(crate) trait SumAdd {
        async fn args(&self);
        async fn add(&self);
    }
}

/// Methods with the names of everyone's methods, and of an operator's.
mod their_methods {
    use std::ops::Add;

    #[krpc::service]
    pub(crate) trait Busy: Add<u8, Output = u8> + Sized {
        async fn add(&self, x: u8) -> u8;
        async fn as_ref(&self) -> u8;
        async fn borrow(&self) -> u8;
        async fn type_id(&self) -> u8;
        async fn call(&self) -> u8;
        async fn inner(&self) -> u8;
        async fn dispatch(&self) -> u8;
        async fn descriptor(&self) -> u8;
        async fn fmt(&self) -> u8;
        async fn from(&self) -> u8;
    }
}

/// Arguments with the names of what generated code might call its own.
mod argument_names {
    #[krpc::service]
    pub(crate) trait Names {
        #[allow(clippy::too_many_arguments)]
        async fn f(
            &self,
            self_: u8,
            service: u8,
            call: u8,
            channel: u8,
            cx: u8,
            args: u8,
            method: u8,
            inner: u8,
            client: u8,
        ) -> u8;
        async fn g(&self, cx: &krpc::Context, _args: u8, _context: u8, f: u8, r#type: u8) -> u8;
        async fn r#match(&self) -> u8;
        #[allow(non_snake_case)]
        async fn getX(&self, X: u8) -> u8;
        async fn get_x(&self) -> u8;
    }
}

/// Without the prelude nothing has a short name.
mod bare {
    #![no_implicit_prelude]

    #[::krpc::service]
    pub(crate) trait Bare {
        async fn f(&self, x: u8) -> ::core::result::Result<u8, u8>;
        async fn g(&self, x: u8) -> u8;
    }
}

/// Types come as invisible groups from a macro of the user's.
mod from_macro {
    macro_rules! service {
        (
            $(#[$attr:meta])*
            $name:ident { $($method:ident($($arg:ident: $ty:ty),*) -> $out:ty;)* }
        ) => {
            $(#[$attr])*
            #[krpc::service]
            pub(crate) trait $name {
                $(async fn $method(&self, $($arg: $ty),*) -> $out;)*
            }
        };
    }

    service! {
        /// Made by a macro.
        Made {
            plain(x: u8) -> Vec<u8>;
            fallible(cx: &krpc::Context, x: Vec<u8>) -> Result<u8, String>;
        }
    }

    pub(crate) struct Imp;

    impl Made for Imp {
        async fn plain(&self, x: u8) -> Vec<u8> {
            vec![x]
        }

        async fn fallible(&self, _: &krpc::Context, x: Vec<u8>) -> Result<u8, String> {
            x.first().copied().ok_or_else(String::new)
        }
    }
}

/// Keys of which one half, the argument or the expression, comes from a macro of the user's.
mod key_from_macro {
    macro_rules! keyed {
        ($name:ident, $arg:ident, $($method:ident: $key:expr;)*) => {
            #[krpc::service]
            pub(crate) trait $name {
                $(#[rpc(key = $key)] async fn $method(&self, $arg: String);)*
                #[rpc(key = $arg)]
                async fn name(&self, $arg: String);
                #[rpc(key = $arg.as_bytes()[0] % 4)]
                async fn part(&self, $arg: String);
                #[rpc(key = own)]
                async fn own(&self, own: u8);
                #[rpc(key = format!("{own}/{0}", $arg))]
                async fn text(&self, own: u8, $arg: String);
            }
        };
    }

    keyed! {
        Keyed, tenant,
        given: tenant;
        precedence: tenant.len() as u64 + 1;
        inline: format!("{tenant}/{}", tenant.len());
        shadowed: Some(&tenant).map(|tenant| tenant.as_str()).unwrap_or_default();
    }

    /// Arguments with the names of what makes the key, which is theirs all the same.
    #[krpc::service]
    pub(crate) trait Names {
        #[rpc(key = key)]
        async fn f(&self, key: u8, __key: u8, call: u8);
        #[rpc(key = __key)]
        async fn g(&self, __key: String, key_of: u8);
        #[rpc(key = r#type)]
        async fn h(&self, cx: &krpc::Context, r#type: u8);
    }
}

#[test]
fn a_macro_of_the_users_may_write_the_trait() {
    let server = from_macro::MadeServer::new(from_macro::Imp);
    let made = describe(&server);
    assert_eq!(made.doc, "Made by a macro.");
    let results: Vec<_> = made.methods.iter().map(|m| (m.output, m.error, m.args.len())).collect();
    assert_eq!(results, [("Vec<u8>", None, 1), ("u8", Some("String"), 1)]);
}

#[test]
fn a_trait_may_stand_in_a_function() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Local(u8);
    const N: usize = 2;

    #[krpc::service]
    trait Inside {
        async fn f(&self, x: Local, y: [u8; N]) -> Local;
    }

    struct Imp;

    impl Inside for Imp {
        async fn f(&self, x: Local, y: [u8; N]) -> Local {
            Local(x.0 + y[0])
        }
    }

    assert_eq!(describe(&InsideServer::new(Imp)).methods[0].output, "Local");
}
