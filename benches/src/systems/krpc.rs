//! kRPC as users have it: acks=all, commits after the reply, no promise switched off. Only the
//! number of handlers that run at once is raised, as the other systems do not bound it.

use std::time::Duration;

use ::krpc::prelude::*;
use anyhow::{Context as _, Result, ensure};
use serde_bytes::ByteBuf;

use super::{Drive, Ready, Serve, Work};
use crate::load::Caller;

/// How long a server may wait for its partitions.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

#[::krpc::service(name = "bench.Echo")]
trait Echo {
    async fn echo(&self, value: ByteBuf) -> ByteBuf;
}

struct Echoing(Work);

impl Echo for Echoing {
    async fn echo(&self, value: ByteBuf) -> ByteBuf {
        self.0.run().await;
        value
    }
}

pub(crate) async fn serve(serve: &Serve) -> Result<()> {
    let service = EchoServer::new(Echoing(serve.work()));
    let builder = Server::builder(&serve.brokers).concurrency(serve.concurrency).serve(service);
    let server = builder.start().await?;
    let owns = async {
        while server.stats().partitions.iter().all(Vec::is_empty) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(JOIN_LIMIT, owns).await.context("the server got no partition")?;
    Ready::say(&serve.brokers)?;
    // A member that vanished would keep its partitions from the next case's server for seconds.
    Ok(server.run_until(ctrl_c()).await?)
}

#[derive(Clone)]
pub(crate) struct Client(EchoClient);

impl Caller for Client {
    type Answer = ByteBuf;

    async fn echo(&self, value: Vec<u8>) -> Result<ByteBuf> {
        Ok(self.0.echo(ByteBuf::from(value)).await?)
    }
}

pub(crate) async fn connect(drive: &Drive) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..drive.load.clients {
        let channel = Channel::connect(drive.brokers()).await?;
        let echo = EchoClient::new(&channel);
        let value = ByteBuf::from(*b"first");
        let answer = echo.echo(value.clone()).timeout(secs(30)).await?;
        ensure!(answer == value, "the first answer is wrong");
        clients.push(Client(echo));
    }
    Ok(clients)
}
