// What tests/golden/input/no_methods.rs becomes.

#[allow(dead_code)]
pub trait Empty {}
/// A client of [`Empty`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct EmptyClient {
    inner: ::krpc::rt::Client,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl EmptyClient {
    /// Connects to `endpoint`: Kafka's bootstrap servers, or `memory:` or `embedded:`.
    ///
    /// For several services over one connection, use `new`.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be reached, or does not fit the service; the error says why.
    pub async fn connect(
        endpoint: impl ::core::convert::AsRef<str>,
    ) -> ::core::result::Result<Self, ::krpc::SetupError> {
        let endpoint = ::core::convert::AsRef::as_ref(&endpoint);
        let inner = ::krpc::rt::Client::connect(endpoint, &__krpc_empty::SERVICE).await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    pub fn new(channel: &::krpc::Channel) -> Self {
        Self {
            inner: ::krpc::rt::Client::new(channel, &__krpc_empty::SERVICE),
        }
    }
    /// A client of `service` in this process, without a network.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, which runs the service.
    #[must_use]
    pub fn local<S>(service: S) -> Self
    where
        S: Empty + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::krpc::rt::Client::local(EmptyServer::new(service)),
        }
    }
    /// The answer of a call that was made with `enqueue`, by this client or in another process.
    ///
    /// A ticket that was read from somewhere has the types that the reader says.
    pub fn attach<T, E, M>(&self, ticket: &::krpc::Ticket<T, E>) -> ::krpc::Attach<T, E>
    where
        E: ::krpc::rt::TicketError<M>,
    {
        self.inner.attach(ticket)
    }
    /// How far a call is that was made with `enqueue`.
    ///
    /// # Errors
    ///
    /// When the ticket is of another service, or the broker does not answer.
    pub async fn status<T, E>(
        &self,
        ticket: &::krpc::Ticket<T, E>,
    ) -> ::core::result::Result<::krpc::TicketStatus, ::krpc::Error> {
        self.inner.status(ticket).await
    }
    /// Cancels a call that was made with `enqueue`; returns once the broker has the cancel.
    ///
    /// # Errors
    ///
    /// When the ticket is of another service, or the broker does not take it.
    pub async fn cancel<T, E>(
        &self,
        ticket: &::krpc::Ticket<T, E>,
    ) -> ::core::result::Result<(), ::krpc::Error> {
        self.inner.cancel(ticket).await
    }
}
/// Serves an implementation of [`Empty`]: `Server::builder(..).serve(..)`.
#[allow(dead_code)]
pub struct EmptyServer<S> {
    service: ::std::sync::Arc<S>,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S: Empty + ::core::marker::Send + ::core::marker::Sync + 'static> EmptyServer<S> {
    /// Serves `service`.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self {
            service: ::std::sync::Arc::new(service),
        }
    }
}
#[allow(deprecated)]
impl<
    S: Empty + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<S>> for EmptyServer<S> {
    fn from(service: ::std::sync::Arc<S>) -> Self {
        Self { service }
    }
}
#[allow(deprecated)]
impl<S> ::core::clone::Clone for EmptyServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[allow(deprecated)]
impl<S> ::core::fmt::Debug for EmptyServer<S> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("EmptyServer").finish_non_exhaustive()
    }
}
#[allow(deprecated)]
impl<
    S: Empty + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::krpc::rt::Service for EmptyServer<S> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        &__krpc_empty::SERVICE
    }
    fn dispatch(&self, call: ::krpc::rt::Incoming) {
        match call.method() {
            _ => call.unimplemented(),
        }
    }
}
/// What `Empty` is, as data.
#[doc(hidden)]
mod __krpc_empty {
    pub(super) static SERVICE: ::krpc::rt::ServiceDescriptor = ::krpc::rt::ServiceDescriptor {
        name: "Empty",
        version: "1.0",
        doc: "",
        methods: &[],
    };
}
