// What tests/golden/input/generic_types.rs becomes.

#[allow(dead_code)]
pub trait Index {
    fn search(
        &self,
        terms: HashMap<String, Vec<(u32, Option<f32>)>>,
        shape: [u8; LIMIT * 2],
        page: Page<Row>,
    ) -> impl ::core::future::Future<
        Output = Result<Page<Row>, Failure<Row>>,
    > + ::core::marker::Send;
    fn empty(&self) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
}
/// A client of [`Index`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct IndexClient {
    inner: ::krpc::rt::Client,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl IndexClient {
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
        let inner = ::krpc::rt::Client::connect(endpoint, &__krpc_index::SERVICE).await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    pub fn new(channel: &::krpc::Channel) -> Self {
        Self {
            inner: ::krpc::rt::Client::new(channel, &__krpc_index::SERVICE),
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
        S: Index + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::krpc::rt::Client::local(IndexServer::new(service)),
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
    /// Calls `Index/search`.
    pub fn search(
        &self,
        terms: HashMap<String, Vec<(u32, Option<f32>)>>,
        shape: [u8; LIMIT * 2],
        page: Page<Row>,
    ) -> ::krpc::Call<Page<Row>, Failure<Row>> {
        self.inner
            .try_call(
                &__krpc_index::SEARCH,
                &__Index_SearchArgs {
                    terms,
                    shape,
                    page,
                },
            )
    }
    /// Calls `Index/empty`.
    pub fn empty(&self) -> ::krpc::Call<()> {
        self.inner.call(&__krpc_index::EMPTY, &__Index_EmptyArgs {})
    }
}
/// Serves an implementation of [`Index`]: `Server::builder(..).serve(..)`.
#[allow(dead_code)]
pub struct IndexServer<S> {
    service: ::std::sync::Arc<S>,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S: Index + ::core::marker::Send + ::core::marker::Sync + 'static> IndexServer<S> {
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
    S: Index + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<S>> for IndexServer<S> {
    fn from(service: ::std::sync::Arc<S>) -> Self {
        Self { service }
    }
}
#[allow(deprecated)]
impl<S> ::core::clone::Clone for IndexServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[allow(deprecated)]
impl<S> ::core::fmt::Debug for IndexServer<S> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("IndexServer").finish_non_exhaustive()
    }
}
#[allow(deprecated)]
impl<
    S: Index + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::krpc::rt::Service for IndexServer<S> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        &__krpc_index::SERVICE
    }
    fn dispatch(&self, call: ::krpc::rt::Incoming) {
        match call.method() {
            "search" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.try_run(
                    &__krpc_index::SEARCH,
                    move |_cx, args: __Index_SearchArgs| async move {
                        <S as Index>::search(&service, args.terms, args.shape, args.page)
                            .await
                    },
                );
            }
            "empty" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_index::EMPTY,
                    move |_cx, _args: __Index_EmptyArgs| async move {
                        <S as Index>::empty(&service).await
                    },
                );
            }
            _ => call.unimplemented(),
        }
    }
}
/// The arguments of `Index::search`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Index_SearchArgs {
    terms: HashMap<String, Vec<(u32, Option<f32>)>>,
    shape: [u8; LIMIT * 2],
    page: Page<Row>,
}
/// The arguments of `Index::empty`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Index_EmptyArgs {}
/// What `Index` is, as data.
#[doc(hidden)]
mod __krpc_index {
    pub(super) static SERVICE: ::krpc::rt::ServiceDescriptor = ::krpc::rt::ServiceDescriptor {
        name: "Index",
        version: "1.0",
        doc: "",
        methods: &[&SEARCH, &EMPTY],
    };
    pub(super) static SEARCH: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "search",
        path: "Index/search",
        doc: "",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "terms",
                ty: "HashMap<String, Vec<(u32, Option<f32>)>>",
            },
            ::krpc::rt::ArgDescriptor {
                name: "shape",
                ty: "[u8; LIMIT*2]",
            },
            ::krpc::rt::ArgDescriptor {
                name: "page",
                ty: "Page<Row>",
            },
        ],
        output: "Page<Row>",
        error: ::core::option::Option::Some("Failure<Row>"),
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 2367558867u32,
    };
    pub(super) static EMPTY: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "empty",
        path: "Index/empty",
        doc: "",
        args: &[],
        output: "()",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 1054354633u32,
    };
}
