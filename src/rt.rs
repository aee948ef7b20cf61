//! What the expansion of `#[krpc::service]` names. Not for users: it changes with the macro.
#![doc(hidden)]

use krpc_core::client::call::Client as CoreClient;
pub use krpc_core::{
    client::tickets::TicketError,
    key::key_of,
    policy::{Policy, ServerRetry, Then},
    server::service::{ArgDescriptor, Incoming, MethodDescriptor, Service, ServiceDescriptor},
};
pub use serde;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Attach, Call, Channel, Error, SetupError, Ticket, TicketStatus, local};

/// What a generated client is made of.
#[derive(Clone, Debug)]
pub struct Client {
    inner: CoreClient,
}

impl Client {
    /// A client on a channel.
    pub fn new(channel: &Channel, service: &'static ServiceDescriptor) -> Self {
        Self { inner: CoreClient::new(channel.core(), service) }
    }

    /// A client on a channel of its own, with the service opened.
    ///
    /// # Errors
    /// As [`Channel::connect`] and [`Channel::open`].
    pub async fn connect(
        endpoint: &str,
        service: &'static ServiceDescriptor,
    ) -> Result<Self, SetupError> {
        let channel = Channel::connect(endpoint).await?;
        // First, so that the opening knows what calls are to come.
        let client = Self::new(&channel, service);
        channel.open(service.name).await?;
        Ok(client)
    }

    /// A client of a service in this process.
    pub fn local(service: impl Service) -> Self {
        let descriptor = service.descriptor();
        Self::new(&local::channel(service), descriptor)
    }

    /// A call of a method that returns a bare value.
    pub fn call<A: Serialize, T>(&self, method: &'static MethodDescriptor, args: &A) -> Call<T> {
        self.inner.call(method, args)
    }

    /// A call of a method that returns a `Result`.
    pub fn try_call<A: Serialize, T, E: DeserializeOwned>(
        &self,
        method: &'static MethodDescriptor,
        args: &A,
    ) -> Call<T, E> {
        self.inner.try_call(method, args)
    }

    /// The answer of an enqueued call.
    pub fn attach<T, E: TicketError<M>, M>(&self, ticket: &Ticket<T, E>) -> Attach<T, E> {
        self.inner.attach(ticket)
    }

    /// How far an enqueued call is.
    ///
    /// # Errors
    /// A ticket of another service; a broker that does not answer.
    pub async fn status<T, E>(&self, ticket: &Ticket<T, E>) -> Result<TicketStatus, Error> {
        self.inner.status(ticket).await
    }

    /// Cancels an enqueued call.
    ///
    /// # Errors
    /// A ticket of another service; a broker that does not take the cancel.
    pub async fn cancel<T, E>(&self, ticket: &Ticket<T, E>) -> Result<(), Error> {
        self.inner.cancel(ticket).await
    }
}
