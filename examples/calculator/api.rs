//! What the calculator's server and client share: the trait and its types.
#![expect(unreachable_pub, reason = "written as the library that two programs would share")]

use krpc::prelude::*;
use serde::{Deserialize, Serialize};

/// Arithmetic, far away.
#[krpc::service(name = "example.Calculator", version = "1.0")]
pub trait Calculator {
    /// Adds two numbers.
    async fn add(&self, x: i64, y: i64) -> i64;

    /// Divides `x` by `y`.
    #[rpc(timeout = "2s", idempotent)]
    async fn divide(&self, cx: &Context, x: f64, y: f64) -> Result<f64, MathError>;

    /// Waits this many milliseconds, then says which server waited.
    async fn wait(&self, millis: u64) -> String;
}

/// Why there is no result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MathError {
    /// The divisor is zero.
    DivisionByZero,
}
