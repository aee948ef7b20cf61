//! tarpc over TCP, with bincode, the fastest of the codecs that it brings.

use std::{net::Ipv4Addr, sync::Arc};

use ::tarpc::{
    client, context, serde_transport,
    server::{self, Channel as _},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use anyhow::Result;
use futures_util::StreamExt as _;
use serde_bytes::ByteBuf;
use tokio::net::{TcpListener, TcpStream};

use super::{Drive, Ready, Serve, Work, in_turn};
use crate::load::Caller;

/// Calls in flight on one connection: the defaults, 100 and 1,000, would hold callers up.
const BUFFER: usize = 16_384;

#[::tarpc::service]
trait Echo {
    async fn echo(value: ByteBuf) -> ByteBuf;
}

#[derive(Clone)]
struct Echoing(Work);

impl Echo for Echoing {
    async fn echo(self, _: context::Context, value: ByteBuf) -> ByteBuf {
        self.0.run().await;
        value
    }
}

pub(crate) async fn serve(serve: &Serve) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ready::say(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let framed = LengthDelimitedCodec::builder().new_framed(stream);
        let transport = serde_transport::new(framed, Bincode::default());
        let config = server::Config { pending_response_buffer: BUFFER };
        let calls = config.channel(transport).execute(Echoing(serve.work()).serve());
        // As its documentation does. Polled in place of that, calls of one connection starve each
        // other: 60,000 calls/s rather than 150,000 with 8,192 in flight.
        tokio::spawn(calls.for_each(async |call| {
            tokio::spawn(call);
        }));
    }
}

/// A connection to each server.
#[derive(Clone)]
pub(crate) struct Client(Arc<[EchoClient]>);

impl Caller for Client {
    type Answer = ByteBuf;

    async fn echo(&self, value: Vec<u8>) -> Result<ByteBuf> {
        let client = &self.0[in_turn(&value, self.0.len())];
        Ok(client.echo(context::current(), ByteBuf::from(value)).await?)
    }
}

pub(crate) async fn connect(drive: &Drive) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..drive.load.connections {
        let mut connections = Vec::new();
        for address in &drive.at {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let framed = LengthDelimitedCodec::builder().new_framed(stream);
            let transport = serde_transport::new(framed, Bincode::default());
            let mut config = client::Config::default();
            config.max_in_flight_requests = BUFFER;
            config.pending_request_buffer = BUFFER;
            connections.push(EchoClient::new(config, transport).spawn());
        }
        let client = Client(connections.into());
        clients.extend((0..drive.load.clients).map(|_| client.clone()));
    }
    Ok(clients)
}
