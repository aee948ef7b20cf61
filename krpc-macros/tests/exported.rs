//! Services that a library exports: what is public must be documented, reachable and nameable.
//! Built as an example, since tests are programs and export nothing.

#![deny(warnings, unused, future_incompatible, rust_2018_idioms, keyword_idents)]
#![deny(missing_docs, missing_debug_implementations, missing_copy_implementations)]
#![deny(unreachable_pub, unnameable_types, private_bounds, private_interfaces)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery, clippy::missing_docs_in_private_items)]
#![forbid(unsafe_code)]

use std::fmt::Debug;

/// What cannot be had.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Failure;

/// Exported.
#[krpc::service(name = "acme.Exported")]
pub trait Exported: Send + Sync + Debug {
    /// Has documentation.
    async fn documented(&self, name: String, values: Vec<u64>) -> Result<u64, Failure>;

    /// # Errors
    /// When it is not there.
    #[must_use = "it has no other use"]
    async fn with_context(&self, cx: &krpc::Context, _unused: bool) -> Result<bool, Failure>;

    /// Has many arguments.
    #[allow(clippy::too_many_arguments, clippy::many_single_char_names)]
    async fn many(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8);

    /// Is called by key.
    ///
    /// # Errors
    /// When it is not there.
    #[rpc(key = format!("{tenant}/{}", values.len()), one_way, retry(max = 2))]
    async fn keyed(&self, tenant: String, values: Vec<u64>) -> Result<(), Failure>;

    /// Is not to be called any more.
    #[deprecated]
    async fn old(&self);
}

/// Not exported.
#[krpc::service]
trait Internal {
    /// Is called here only.
    async fn f(&self, x: u8) -> u8;
}

/// Calls what is not exported.
///
/// # Errors
/// Whatever the call meets.
pub async fn ask(endpoint: &str) -> Option<u8> {
    InternalClient::connect(endpoint).await.ok()?.f(1).await.ok()
}

/// Writes a service.
macro_rules! service {
    ($name:ident, $method:ident, $arg:ident) => {
        /// Written by a macro.
        #[krpc::service]
        pub trait $name {
            /// Echoes.
            async fn $method(&self, cx: &krpc::Context, $arg: u8) -> u8;

            /// Fails.
            ///
            /// # Errors
            /// Always.
            async fn fail(&self) -> Result<u8, u8>;
        }
    };
}

service!(Written, echo, value);
