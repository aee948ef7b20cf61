//! Calls the calculator: `cargo run --example calculator-client -- [ENDPOINT]`.

mod api;

use std::{collections::BTreeMap, time::Instant};

use api::{CalculatorClient, MathError};
use krpc::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let endpoint = std::env::args().nth(1).unwrap_or("localhost:9092".to_owned());
    let calculator = CalculatorClient::connect(&endpoint).await?;

    println!("1 + 2 = {}", calculator.add(1, 2).await?);
    let reply = calculator.divide(1.0, 4.0).header("tenant", "a").timeout(secs(5)).reply().await?;
    println!("1 / 4 = {} from {} in {:?}", reply.value, reply.server_id, reply.elapsed);
    match calculator.divide(1.0, 0.0).await {
        Err(krpc::Error::App(MathError::DivisionByZero)) => println!("1 / 0: there is no result"),
        other => println!("1 / 0: {other:?}"),
    }

    // 128 handlers that each wait 100 ms, all at once; a server runs 128 of them side by side.
    let started = Instant::now();
    let calls: Vec<_> = (0..128).map(|_| tokio::spawn(calculator.wait(100))).collect();
    let mut servers = BTreeMap::new();
    for call in calls {
        *servers.entry(call.await??).or_insert(0) += 1;
    }
    println!("128 waits of 100 ms took {} ms", started.elapsed().as_millis());
    println!("by server process: {servers:?}");
    Ok(())
}
