//! A service in this process: real frames over an in-memory broker of its own.

use std::sync::Arc;

use krpc_core::{
    client::channel::{Channel as CoreChannel, ClientOptions},
    server::{driver::Server, options::ServerOptions, service::Service},
    transport::{TransportConfig, memory::MemoryEndpoint},
};
use tokio::sync::oneshot;

use crate::Channel;

/// A channel to `service`, which lives as long as the channel does.
///
/// # Panics
/// Outside a Tokio runtime, as `tokio::spawn` does.
pub(crate) fn channel(service: impl Service) -> Channel {
    // One partition: there is one server, and nothing to spread.
    let config =
        TransportConfig { call_partitions: 1, reply_partitions: 1, ..TransportConfig::default() };
    let endpoint = Arc::new(MemoryEndpoint::private(config));
    let channel = CoreChannel::new(Arc::clone(&endpoint) as _, ClientOptions::default())
        .expect("a broker in this process, within a Tokio runtime, cannot be out of reach");
    let (alive, gone) = oneshot::channel::<()>();
    channel.attach(Box::new(alive));
    tokio::spawn(async move {
        let services = vec![Arc::new(service) as Arc<dyn Service>];
        let server = Server::start(&*endpoint, services, ServerOptions::default()).await;
        // Calls made before the server is there wait in the broker; if it cannot start, as for a
        // name that no topic can have, the client's own opening reports the same error.
        if let Ok(server) = server {
            // Resolves with an error when the channel drops its end: that is the signal.
            let _ = gone.await;
            if let Err(error) = server.shutdown().await {
                tracing::warn!(%error, "a local service did not end in good order");
            }
        }
    });
    Channel::from_core(channel)
}
