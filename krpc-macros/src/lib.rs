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
/// | `timeout` | the channel's | a whole number and `ms`, `s`, `m`, `h` or `d`; 1 ms to 366 days |
/// | `idempotent` | no | twice is as good as once: its calls may be retried and hedged |
/// | `name` | the method's name | on the wire: 1 to 150 of `A-Z a-z 0-9 . _ -` |
/// | [`key = ..`](#key) | none | calls of one key are executed one at a time, in order |
/// | [`one_way`](#one_way) | no | a call ends once the broker has it |
/// | [`at_most_once`](#at_most_once) | no | a call is never executed twice |
/// | [`retry(..)`](#retry) | none | the server goes on after failures that nobody waits for |
/// | [`retention`](#retention) | `"24h"` | how long results of idempotency keys are kept |
///
/// # Delivery
///
/// Without any of these options a call is executed *at least once*, by any server, beside all
/// others, and whoever made it waits for its result.
///
/// ## `key`
///
/// An argument, or an expression of arguments. Calls of the service with the same key, whichever
/// methods they are of, are executed one at a time, in the order in which a client started them;
/// those of other keys go on meanwhile, however slow one key is. After a crash the last calls of a
/// key may be executed again, in the same order.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[krpc::service]
/// pub trait Bank {
///     #[rpc(key = account)]
///     async fn deposit(&self, account: u64, amount: u64) -> u64;
///
///     #[rpc(key = format!("{tenant}/{}", order.id))]
///     async fn place(&self, tenant: String, order: Order) -> bool;
/// }
/// # #[derive(Serialize, Deserialize)]
/// # pub struct Order {
/// #     id: u64,
/// # }
/// # struct Imp;
/// # impl Bank for Imp {
/// #     async fn deposit(&self, _: u64, amount: u64) -> u64 {
/// #         amount
/// #     }
/// #     async fn place(&self, _: String, order: Order) -> bool {
/// #         order.id > 0
/// #     }
/// # }
/// # #[tokio::main]
/// # async fn main() {
/// # let bank = BankClient::local(Imp);
///
/// assert_eq!(bank.deposit(7, 100).await.unwrap(), 100);
/// // Another key than the method's, for this call:
/// assert_eq!(bank.deposit(7, 100).key("audit").await.unwrap(), 100);
/// # }
/// ```
///
/// - A key is text, bytes, an integer of a fixed width, a `bool` or a `char`: what implements
///   `krpc::Key`. Anything else does not compile.
/// - It is made by the client when its method is called, of arguments that are not moved by it: it
///   knows neither `self` nor the context, and does not `.await`. In parentheses it may have commas
///   of its own.
/// - A call whose key is empty, or longer than 1,024 bytes, fails with `InvalidArgument` before
///   anything is sent.
/// - The order holds as long as the service's topic has as many partitions as it had.
///
/// ## `one_way`
///
/// A call ends with `Ok(())` once the broker has stored it, whether or not a server runs; it is
/// executed at least once afterwards. `timeout` bounds one execution. The method returns nothing,
/// or `Result<(), E>`, whose `Err` is a failure as a panic is: it comes to the server's `retry`,
/// and never to the caller.
///
/// ```
/// #[krpc::service]
/// pub trait Mail {
///     #[rpc(one_way, retry(max = 5))]
///     async fn send(&self, to: String, text: String) -> Result<(), String>;
/// }
/// # struct Imp;
/// # impl Mail for Imp {
/// #     async fn send(&self, _: String, _: String) -> Result<(), String> {
/// #         Ok(())
/// #     }
/// # }
/// # #[tokio::main]
/// # async fn main() {
/// # let mail = MailClient::local(Imp);
///
/// mail.send("ada@example.com".to_owned(), "Hello".to_owned()).await.unwrap();
/// # }
/// ```
///
/// ## `at_most_once`
///
/// The server commits a call before it executes it. What crashes after that is not executed again:
/// the caller is told that its outcome is unknown, or meets its deadline. It excludes `idempotent`,
/// `retry` and `retention`, which are about executing again.
///
/// ```
/// #[krpc::service]
/// pub trait Pad {
///     #[rpc(at_most_once, timeout = "30s")]
///     async fn launch(&self, rocket: u32) -> bool;
/// }
/// # struct Imp;
/// # impl Pad for Imp {
/// #     async fn launch(&self, rocket: u32) -> bool {
/// #         rocket == 7
/// #     }
/// # }
/// # #[tokio::main]
/// # async fn main() {
/// # let pad = PadClient::local(Imp);
///
/// assert!(pad.launch(7).await.unwrap());
/// # }
/// ```
///
/// ## `retry`
///
/// What a server does when a one-way call fails, by an `Err`, a panic or its `timeout`. On other
/// methods it is for those of their calls that are enqueued; who waits for a result is told of the
/// failure, and decides.
///
/// | in `retry(..)` | default | |
/// |---|---|---|
/// | `max` | must be given | executions in all, 1 to 100 |
/// | `backoff` | `"100ms..10s"` | the first pause, which doubles each time, and the longest |
/// | `then` | `dead_letter` | after the last failure: `dead_letter` keeps it, `drop` counts it |
///
/// ```
/// #[krpc::service]
/// pub trait Index {
///     #[rpc(one_way, key = document, retry(max = 20, backoff = "1s..5m", then = drop))]
///     async fn refresh(&self, document: u64) -> Result<(), String>;
/// }
/// # fn main() {}
/// ```
///
/// ## `retention`
///
/// How long a server's result store keeps the result of a call with an idempotency key. Written as
/// `timeout` is.
///
/// ```
/// #[krpc::service]
/// pub trait Payments {
///     #[rpc(retention = "7d")]
///     async fn pay(&self, account: u64, amount: u64) -> bool;
/// }
/// # fn main() {}
/// ```
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
/// - A client has methods of its own, whose names no method may have: `attach`, `cancel`, `clone`,
///   `connect`, `local`, `new`, `status`. On the wire they are free: `#[rpc(name = "status")]`.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::service(options.into(), item.into()).into()
}
