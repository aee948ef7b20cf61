// What tests/golden/input/sum.rs becomes.

/// Arithmetic, for everyone.
#[allow(dead_code)]
pub trait Sum {
    /// Adds two numbers.
    fn add(
        &self,
        x: i64,
        y: i64,
    ) -> impl ::core::future::Future<Output = i64> + ::core::marker::Send;
    /// Divides `x` by `y`.
    fn divide(
        &self,
        cx: &Context,
        x: f64,
        y: f64,
    ) -> impl ::core::future::Future<
        Output = Result<f64, MathError>,
    > + ::core::marker::Send;
}
/// A client of [`Sum`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct SumClient {
    inner: ::krpc::rt::Client,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl SumClient {
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
        let inner = ::krpc::rt::Client::connect(endpoint, &__krpc_sum::SERVICE).await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    pub fn new(channel: &::krpc::Channel) -> Self {
        Self {
            inner: ::krpc::rt::Client::new(channel, &__krpc_sum::SERVICE),
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
        S: Sum + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::krpc::rt::Client::local(SumServer::new(service)),
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
    /// Adds two numbers.
    pub fn add(&self, x: i64, y: i64) -> ::krpc::Call<i64> {
        self.inner.call(&__krpc_sum::ADD, &__Sum_AddArgs { x, y })
    }
    /// Divides `x` by `y`.
    pub fn divide(&self, x: f64, y: f64) -> ::krpc::Call<f64, MathError> {
        self.inner.try_call(&__krpc_sum::DIVIDE, &__Sum_DivideArgs { x, y })
    }
}
/// Serves an implementation of [`Sum`]: `Server::builder(..).serve(..)`.
#[allow(dead_code)]
pub struct SumServer<S> {
    service: ::std::sync::Arc<S>,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S: Sum + ::core::marker::Send + ::core::marker::Sync + 'static> SumServer<S> {
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
    S: Sum + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<S>> for SumServer<S> {
    fn from(service: ::std::sync::Arc<S>) -> Self {
        Self { service }
    }
}
#[allow(deprecated)]
impl<S> ::core::clone::Clone for SumServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[allow(deprecated)]
impl<S> ::core::fmt::Debug for SumServer<S> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("SumServer").finish_non_exhaustive()
    }
}
#[allow(deprecated)]
impl<S: Sum + ::core::marker::Send + ::core::marker::Sync + 'static> ::krpc::rt::Service
for SumServer<S> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        &__krpc_sum::SERVICE
    }
    fn dispatch(&self, call: ::krpc::rt::Incoming) {
        match call.method() {
            "add" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_sum::ADD,
                    move |_cx, args: __Sum_AddArgs| async move {
                        <S as Sum>::add(&service, args.x, args.y).await
                    },
                );
            }
            "divide" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.try_run(
                    &__krpc_sum::DIVIDE,
                    move |cx, args: __Sum_DivideArgs| async move {
                        <S as Sum>::divide(&service, &cx, args.x, args.y).await
                    },
                );
            }
            _ => call.unimplemented(),
        }
    }
}
/// The arguments of `Sum::add`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Sum_AddArgs {
    x: i64,
    y: i64,
}
/// The arguments of `Sum::divide`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Sum_DivideArgs {
    x: f64,
    y: f64,
}
/// What `Sum` is, as data.
#[doc(hidden)]
mod __krpc_sum {
    pub(super) static SERVICE: ::krpc::rt::ServiceDescriptor = ::krpc::rt::ServiceDescriptor {
        name: "Sum",
        version: "1.0",
        doc: "Arithmetic, for everyone.",
        methods: &[&ADD, &DIVIDE],
    };
    pub(super) static ADD: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "add",
        path: "Sum/add",
        doc: "Adds two numbers.",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "x",
                ty: "i64",
            },
            ::krpc::rt::ArgDescriptor {
                name: "y",
                ty: "i64",
            },
        ],
        output: "i64",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 2536001786u32,
    };
    pub(super) static DIVIDE: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "divide",
        path: "Sum/divide",
        doc: "Divides `x` by `y`.",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "x",
                ty: "f64",
            },
            ::krpc::rt::ArgDescriptor {
                name: "y",
                ty: "f64",
            },
        ],
        output: "f64",
        error: ::core::option::Option::Some("MathError"),
        timeout: ::core::option::Option::Some(::core::time::Duration::from_secs(2u64)),
        idempotent: true,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 2600642248u32,
    };
}
