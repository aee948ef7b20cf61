//! tonic: gRPC over HTTP/2, one TCP connection from each client to each server, with windows and
//! frames that a value of a mebibyte fits into.

use std::{net::Ipv4Addr, sync::Arc};

use ::tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use anyhow::Result;
use bytes::Bytes;
use tokio::net::TcpListener;

use super::{Drive, Ready, Serve, Work, in_turn};
use crate::load::Caller;
use generated::{
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};

#[expect(unreachable_pub, reason = "tonic writes it")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.Echo.rs"));
}

/// What a sender may have on its way in one call, and in all of a connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// The largest frame: with the default of 16 KiB, calls of a mebibyte are half as fast.
const FRAME: u32 = 1 << 20;

/// The largest message; tonic's own limit is 4 MiB.
const LARGEST: usize = 16 << 20;

/// Requests that wait for the connection's task.
const BUFFER: usize = 16_384;

/// The message of the service: `message Value { bytes value = 1; }`.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Value {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) value: Bytes,
}

struct Echoing(Work);

#[::tonic::async_trait]
impl Echo for Echoing {
    async fn echo(&self, request: Request<Value>) -> Result<Response<Value>, Status> {
        self.0.run().await;
        Ok(Response::new(request.into_inner()))
    }
}

pub(crate) async fn serve(serve: &Serve) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ready::say(listener.local_addr()?)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = EchoServer::new(Echoing(serve.work())).max_decoding_message_size(LARGEST);
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(None)
        .add_service(service)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// A connection to each server.
#[derive(Clone)]
pub(crate) struct Client(Arc<[EchoClient<Channel>]>);

impl Caller for Client {
    type Answer = Bytes;

    async fn echo(&self, value: Vec<u8>) -> Result<Bytes> {
        // A call needs the client for itself; a clone is a handle of the same connection.
        let mut client = self.0[in_turn(&value, self.0.len())].clone();
        let request = Value { value: value.into() };
        Ok(client.echo(request).await?.into_inner().value)
    }
}

pub(crate) async fn connect(drive: &Drive) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..drive.load.connections {
        let mut connections = Vec::new();
        for address in &drive.at {
            let channel = Endpoint::from_shared(format!("http://{address}"))?
                .tcp_nodelay(true)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                .buffer_size(BUFFER)
                .connect()
                .await?;
            connections.push(EchoClient::new(channel).max_decoding_message_size(LARGEST));
        }
        let client = Client(connections.into());
        clients.extend((0..drive.load.clients).map(|_| client.clone()));
    }
    Ok(clients)
}
