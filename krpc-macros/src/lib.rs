//! The attribute `#[krpc::service]` of kRPC: a trait becomes a typed client and a server.
//!
//! Use it through the crate `krpc`, where it is documented. How it works, for who changes it:
//!
//! ```text
//! attr ─► parse ─► model ─► validate ─┬► expand    no mistake
//!                                     └► fallback  every mistake at once, and quiet shells
//! ```
//!
//! Read `tests/golden/*.rs` to see what it writes, rather than the `quote!`s here; each stands
//! beside its input in `tests/golden/input`.

mod attr;
mod expand;
mod fallback;
mod model;
mod parse;
mod problems;
mod text;
mod types;
mod validate;

#[cfg(test)]
#[path = "../tests/golden.rs"]
mod golden;

use proc_macro::TokenStream;

/// Makes a service of a trait: calls through a typed client, answered by an implementation.
///
/// ```
/// use krpc::Context;
/// use serde::{Deserialize, Serialize};
///
/// #[krpc::service]
/// pub trait Sum {
///     /// Adds two numbers.
///     async fn add(&self, x: i64, y: i64) -> i64;
///
///     #[rpc(timeout = "2s", idempotent)]
///     async fn divide(&self, cx: &Context, x: f64, y: f64) -> Result<f64, MathError>;
/// }
///
/// #[derive(Debug, Serialize, Deserialize)]
/// pub enum MathError {
///     DivisionByZero,
/// }
///
/// struct Calculator;
///
/// impl Sum for Calculator {
///     async fn add(&self, x: i64, y: i64) -> i64 {
///         x + y
///     }
///
///     async fn divide(&self, _: &Context, x: f64, y: f64) -> Result<f64, MathError> {
///         if y == 0.0 { Err(MathError::DivisionByZero) } else { Ok(x / y) }
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() {
/// let sum = SumClient::local(Calculator);
/// assert_eq!(sum.add(1, 2).await.unwrap(), 3);
/// assert_eq!(sum.divide(1.0, 2.0).await.unwrap(), 0.5);
/// # }
/// ```
///
/// The trait stays as it is written: its visibility, attributes and documentation, and no method
/// is added. Only `async fn f() -> T` becomes `fn f() -> impl Future<Output = T> + Send`, which
/// is still implemented with `async fn`. Beside it appear:
///
/// - `SumClient`, cheap to clone, with a method for each of the trait's, which returns a call:
///   a builder that travels once it is awaited. `connect(endpoint)` opens a connection,
///   `new(&channel)` shares one, `local(implementation)` needs none.
/// - `SumServer<S>`, with `new(implementation)`, for `Server::builder(..).serve(..)`.
///
/// # Options
///
/// `#[krpc::service(name = "acme.Sum", version = "1.2", crate = "renamed_krpc")]`
///
/// | option | default | |
/// |---|---|---|
/// | `name` | the trait's name | in topics: 1 to 150 of `A-Z a-z 0-9 . _ -` |
/// | `version` | `"1.0"` | one to three whole numbers; told to who asks, never a gate |
/// | `crate` | `krpc` | where krpc is: a crate's name, a path from one, or `crate::..` |
///
/// `#[rpc(timeout = "2s", idempotent, name = "wire_name")]` on a method; may be repeated.
///
/// | option | default | |
/// |---|---|---|
/// | `timeout` | the channel's | a whole number and `ms`, `s`, `m` or `h`; 1 ms to 366 days |
/// | `idempotent` | no | twice is as good as once: its calls may be retried and hedged |
/// | `name` | the method's name | on the wire: 1 to 150 of `A-Z a-z 0-9 . _ -` |
///
/// # Signatures
///
/// - `&self` comes first. `cx: &Context` may follow: it is known by its place and by a type that
///   ends in `Context`, and the client's method does not have it.
/// - Arguments are plain names of owned types, at most 64. They are decoded with serde and may bear
///   `#[serde(default)]` and its like. Generic types are welcome (`Vec<T>`, `HashMap<K, V>`);
///   generic methods, `impl Trait` and references are not.
/// - A return type that is written `Result<T, E>` makes `E` the error of the application; it
///   travels too. Anything else is a value, whose calls fail with a status only.
/// - `#[cfg]` on a method takes it from the client and the server too; documentation,
///   `#[deprecated]` and `#[must_use]` are passed on to the client.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::service(options.into(), item.into()).into()
}
