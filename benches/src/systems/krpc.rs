//! kRPC as users have it: acks=all, commits after the reply, no promise switched off. Only the
//! number of handlers that run at once is raised, as the other systems do not bound it.

use std::time::Duration;

use ::krpc::prelude::*;
use anyhow::{Context as _, Result};
use serde_bytes::ByteBuf;

use super::{Drive, Ready, Serve, System, Work};
use crate::load::Caller;

/// How long a server may wait for its partitions.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// What the service is called, for its topics.
pub(crate) const SERVICE: &str = "bench.Echo";

#[::krpc::service(name = "bench.Echo")]
trait Echo {
    async fn echo(&self, value: ByteBuf) -> ByteBuf;
    #[rpc(at_most_once)]
    async fn echo_once(&self, value: ByteBuf) -> ByteBuf;
}

struct Echoing(Work);

impl Echo for Echoing {
    async fn echo(&self, value: ByteBuf) -> ByteBuf {
        self.0.run().await;
        value
    }

    async fn echo_once(&self, value: ByteBuf) -> ByteBuf {
        self.echo(value).await
    }
}

pub(crate) async fn serve(serve: &Serve) -> Result<()> {
    let service = EchoServer::new(Echoing(serve.work()));
    let mut builder = Server::builder(&serve.brokers).concurrency(serve.concurrency);
    if serve.replication > 0 {
        builder = builder.set("KRPC_REPLICATION", serve.replication);
    }
    if let Some(seal) = serve.sealing.seal()? {
        builder = builder.seal(seal);
    }
    let server = builder.serve(service).start().await?;
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
pub(crate) struct Client {
    echo: EchoClient,
    at_most_once: bool,
}

impl Client {
    pub(crate) fn new(channel: &Channel) -> Self {
        Self { echo: EchoClient::new(channel), at_most_once: false }
    }
}

impl Caller for Client {
    type Answer = ByteBuf;

    async fn echo(&self, value: Vec<u8>) -> Result<ByteBuf> {
        let value = ByteBuf::from(value);
        Ok(match self.at_most_once {
            true => self.echo.echo_once(value).await?,
            false => self.echo.echo(value).await?,
        })
    }
}

pub(crate) async fn connect(drive: &Drive) -> Result<Vec<Client>> {
    let (mut clients, seal) = (Vec::new(), drive.sealing.seal()?);
    for _ in 0..drive.load.connections {
        let mut builder = Channel::builder(drive.brokers());
        if let Some(seal) = &seal {
            builder = builder.seal(seal.clone());
        }
        let channel = builder.connect().await?;
        let at_most_once = drive.system == System::KrpcOnce;
        let client = |_| Client { at_most_once, ..Client::new(&channel) };
        clients.extend((0..drive.load.clients).map(client));
    }
    Ok(clients)
}
