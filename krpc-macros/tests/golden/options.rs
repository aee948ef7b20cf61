// What tests/golden/input/options.rs becomes.

#[allow(dead_code)]
pub(crate) trait Store: Send + Sync {
    fn get(
        &self,
        key: String,
    ) -> impl ::core::future::Future<Output = Option<Vec<u8>>> + ::core::marker::Send;
    fn put(
        &self,
        key: String,
        value: Vec<u8>,
    ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
}
/// A client of [`Store`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub(crate) struct StoreClient {
    inner: ::rpc::rt::Client,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl StoreClient {
    /// Connects to `endpoint`: Kafka's bootstrap servers, or `memory:` or `embedded:`.
    ///
    /// For several services over one connection, use `new`.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be reached, or does not fit the service; the error says why.
    pub(crate) async fn connect(
        endpoint: impl ::core::convert::AsRef<str>,
    ) -> ::core::result::Result<Self, ::rpc::SetupError> {
        let endpoint = ::core::convert::AsRef::as_ref(&endpoint);
        let inner = ::rpc::rt::Client::connect(endpoint, &__krpc_store::SERVICE).await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    pub(crate) fn new(channel: &::rpc::Channel) -> Self {
        Self {
            inner: ::rpc::rt::Client::new(channel, &__krpc_store::SERVICE),
        }
    }
    /// A client of `service` in this process, without a network.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, which runs the service.
    #[must_use]
    pub(crate) fn local<S>(service: S) -> Self
    where
        S: Store + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::rpc::rt::Client::local(StoreServer::new(service)),
        }
    }
    /// The answer of a call that was made with `enqueue`, by this client or in another process.
    ///
    /// A ticket that was read from somewhere has the types that the reader says.
    pub(crate) fn attach<T, E, M>(
        &self,
        ticket: &::rpc::Ticket<T, E>,
    ) -> ::rpc::Attach<T, E>
    where
        E: ::rpc::rt::TicketError<M>,
    {
        self.inner.attach(ticket)
    }
    /// How far a call is that was made with `enqueue`.
    ///
    /// # Errors
    ///
    /// When the ticket is of another service, or the broker does not answer.
    pub(crate) async fn status<T, E>(
        &self,
        ticket: &::rpc::Ticket<T, E>,
    ) -> ::core::result::Result<::rpc::TicketStatus, ::rpc::Error> {
        self.inner.status(ticket).await
    }
    /// Cancels a call that was made with `enqueue`; returns once the broker has the cancel.
    ///
    /// # Errors
    ///
    /// When the ticket is of another service, or the broker does not take it.
    pub(crate) async fn cancel<T, E>(
        &self,
        ticket: &::rpc::Ticket<T, E>,
    ) -> ::core::result::Result<(), ::rpc::Error> {
        self.inner.cancel(ticket).await
    }
    /// Calls `acme.Store/get-v2`.
    pub(crate) fn get(&self, key: String) -> ::rpc::Call<Option<Vec<u8>>> {
        self.inner.call(&__krpc_store::GET, &__Store_GetArgs { key })
    }
    /// Calls `acme.Store/put`.
    pub(crate) fn put(&self, key: String, value: Vec<u8>) -> ::rpc::Call<()> {
        self.inner.call(&__krpc_store::PUT, &__Store_PutArgs { key, value })
    }
}
/// Serves an implementation of [`Store`]: `Server::builder(..).serve(..)`.
#[allow(dead_code)]
pub(crate) struct StoreServer<S> {
    service: ::std::sync::Arc<S>,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S: Store + ::core::marker::Send + ::core::marker::Sync + 'static> StoreServer<S> {
    /// Serves `service`.
    #[must_use]
    pub(crate) fn new(service: S) -> Self {
        Self {
            service: ::std::sync::Arc::new(service),
        }
    }
}
#[allow(deprecated)]
impl<
    S: Store + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<S>> for StoreServer<S> {
    fn from(service: ::std::sync::Arc<S>) -> Self {
        Self { service }
    }
}
#[allow(deprecated)]
impl<S> ::core::clone::Clone for StoreServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[allow(deprecated)]
impl<S> ::core::fmt::Debug for StoreServer<S> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("StoreServer").finish_non_exhaustive()
    }
}
#[allow(deprecated)]
impl<S: Store + ::core::marker::Send + ::core::marker::Sync + 'static> ::rpc::rt::Service
for StoreServer<S> {
    fn descriptor(&self) -> &'static ::rpc::rt::ServiceDescriptor {
        &__krpc_store::SERVICE
    }
    fn dispatch(&self, call: ::rpc::rt::Incoming) {
        match call.method() {
            "get-v2" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_store::GET,
                    move |_cx, args: __Store_GetArgs| async move {
                        <S as Store>::get(&service, args.key).await
                    },
                );
            }
            "put" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_store::PUT,
                    move |_cx, args: __Store_PutArgs| async move {
                        <S as Store>::put(&service, args.key, args.value).await
                    },
                );
            }
            _ => call.unimplemented(),
        }
    }
}
/// The arguments of `Store::get`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::rpc::rt::serde::Serialize, ::rpc::rt::serde::Deserialize)]
#[serde(crate = "::rpc::rt::serde")]
struct __Store_GetArgs {
    key: String,
}
/// The arguments of `Store::put`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::rpc::rt::serde::Serialize, ::rpc::rt::serde::Deserialize)]
#[serde(crate = "::rpc::rt::serde")]
struct __Store_PutArgs {
    #[serde(rename = "k")]
    key: String,
    #[serde(default)]
    value: Vec<u8>,
}
/// What `Store` is, as data.
#[doc(hidden)]
mod __krpc_store {
    pub(super) static SERVICE: ::rpc::rt::ServiceDescriptor = ::rpc::rt::ServiceDescriptor {
        name: "acme.Store",
        version: "2.1",
        doc: "",
        methods: &[&GET, &PUT],
    };
    pub(super) static GET: ::rpc::rt::MethodDescriptor = ::rpc::rt::MethodDescriptor {
        name: "get-v2",
        path: "acme.Store/get-v2",
        doc: "",
        args: &[
            ::rpc::rt::ArgDescriptor {
                name: "key",
                ty: "String",
            },
        ],
        output: "Option<Vec<u8>>",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::Some(
            ::core::time::Duration::from_millis(1500u64),
        ),
        idempotent: true,
        policy: &::rpc::rt::Policy::PLAIN,
        fingerprint: 2856681240u32,
    };
    pub(super) static PUT: ::rpc::rt::MethodDescriptor = ::rpc::rt::MethodDescriptor {
        name: "put",
        path: "acme.Store/put",
        doc: "",
        args: &[
            ::rpc::rt::ArgDescriptor {
                name: "k",
                ty: "String",
            },
            ::rpc::rt::ArgDescriptor {
                name: "value",
                ty: "Vec<u8>",
            },
        ],
        output: "()",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::rpc::rt::Policy::PLAIN,
        fingerprint: 927059195u32,
    };
}
