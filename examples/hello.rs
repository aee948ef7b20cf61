//! A service and a client in one program: `cargo run --example hello`. It needs no broker; with
//! `KRPC_ENDPOINT=localhost:9092` the same program speaks through Apache Kafka.
use krpc::prelude::*;

#[krpc::service]
trait Greeter {
    async fn hello(&self, name: String) -> String;
}

struct English;
impl Greeter for English {
    async fn hello(&self, name: String) -> String {
        format!("Hello, {name}!")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::var("KRPC_ENDPOINT").unwrap_or("embedded:".to_owned());
    let server = Server::builder(&endpoint).serve(GreeterServer::new(English)).start().await?;
    let greeter = GreeterClient::connect(&endpoint).await?;
    println!("{}", greeter.hello("Kafka".to_owned()).await?);
    Ok(server.shutdown().await?)
}
