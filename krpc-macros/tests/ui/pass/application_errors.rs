//! A `Result` splits into a value and the application's own error.

use krpc::Error;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum MathError {
    DivisionByZero,
}

#[krpc::service]
trait Sum {
    async fn divide(&self, x: f64, y: f64) -> Result<f64, MathError>;
}

struct Calculator;

impl Sum for Calculator {
    async fn divide(&self, x: f64, y: f64) -> Result<f64, MathError> {
        if y == 0.0 { Err(MathError::DivisionByZero) } else { Ok(x / y) }
    }
}

#[tokio::main]
async fn main() {
    let sum = SumClient::local(Calculator);
    assert_eq!(sum.divide(1.0, 2.0).await.unwrap(), 0.5);
    let error = sum.divide(1.0, 0.0).await.unwrap_err();
    assert!(matches!(error, Error::App(MathError::DivisionByZero)));
}
