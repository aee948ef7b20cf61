//! Serves the calculator: `cargo run --example calculator-server -- [ENDPOINT]`, until Ctrl-C.

mod api;

use std::process;

use api::{Calculator, CalculatorServer, MathError};
use krpc::prelude::*;

struct Pocket;

impl Calculator for Pocket {
    async fn add(&self, x: i64, y: i64) -> i64 {
        x + y
    }

    async fn divide(&self, cx: &Context, x: f64, y: f64) -> Result<f64, MathError> {
        if let Some(tenant) = cx.metadata().get("tenant") {
            println!("dividing for {tenant}");
        }
        if y == 0.0 { Err(MathError::DivisionByZero) } else { Ok(x / y) }
    }

    async fn wait(&self, millis: u64) -> String {
        tokio::time::sleep(krpc::prelude::millis(millis)).await;
        process::id().to_string()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let endpoint = std::env::args().nth(1).unwrap_or("localhost:9092".to_owned());
    let builder = Server::builder(&endpoint).concurrency(128);
    let server = builder.serve(CalculatorServer::new(Pocket)).start().await?;
    println!("serving as {}", server.instance());
    server.run_until(ctrl_c()).await?;
    println!("drained");
    Ok(())
}
