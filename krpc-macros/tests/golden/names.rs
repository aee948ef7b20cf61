// What tests/golden/input/names.rs becomes.

#[allow(dead_code)]
trait S {
    fn r#type(
        &self,
        r#match: u8,
        self_: u8,
        service: u8,
        call: u8,
        cx: u8,
    ) -> impl ::core::future::Future<Output = r#struct> + ::core::marker::Send;
    fn get_x(
        &self,
        args: u8,
        _args: u8,
        inner: u8,
        method: u8,
    ) -> impl ::core::future::Future<Output = u8> + ::core::marker::Send;
    #[allow(non_snake_case)]
    fn getX(&self) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
    fn service(&self) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
}
/// A client of [`S`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct SClient {
    inner: ::krpc::rt::Client,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl SClient {
    /// Connects to `endpoint`: Kafka's bootstrap servers, or `memory:` or `embedded:`.
    ///
    /// For several services over one connection, use `new`.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be reached, or does not fit the service; the error says why.
    async fn connect(
        endpoint: impl ::core::convert::AsRef<str>,
    ) -> ::core::result::Result<Self, ::krpc::SetupError> {
        let endpoint = ::core::convert::AsRef::as_ref(&endpoint);
        let inner = ::krpc::rt::Client::connect(endpoint, &__krpc_s::SERVICE).await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    fn new(channel: &::krpc::Channel) -> Self {
        Self {
            inner: ::krpc::rt::Client::new(channel, &__krpc_s::SERVICE),
        }
    }
    /// A client of `service` in this process, without a network.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime, which runs the service.
    #[must_use]
    fn local<T>(service: T) -> Self
    where
        T: S + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::krpc::rt::Client::local(SServer::new(service)),
        }
    }
    /// The answer of a call that was made with `enqueue`, by this client or in another process.
    ///
    /// A ticket that was read from somewhere has the types that the reader says.
    fn attach<T, E, M>(&self, ticket: &::krpc::Ticket<T, E>) -> ::krpc::Attach<T, E>
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
    async fn status<T, E>(
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
    async fn cancel<T, E>(
        &self,
        ticket: &::krpc::Ticket<T, E>,
    ) -> ::core::result::Result<(), ::krpc::Error> {
        self.inner.cancel(ticket).await
    }
    /// Calls `S/type`.
    fn r#type(
        &self,
        r#match: u8,
        self_: u8,
        service: u8,
        call: u8,
        cx: u8,
    ) -> ::krpc::Call<r#struct> {
        self.inner
            .call(
                &__krpc_s::TYPE,
                &__S_TypeArgs {
                    r#match,
                    self_,
                    service,
                    call,
                    cx,
                },
            )
    }
    /// Calls `S/get_x`.
    fn get_x(&self, args: u8, _args: u8, inner: u8, method: u8) -> ::krpc::Call<u8> {
        self.inner
            .call(
                &__krpc_s::GET_X,
                &__S_GetXArgs {
                    args,
                    _args,
                    inner,
                    method,
                },
            )
    }
    /// Calls `S/getX`.
    fn getX(&self) -> ::krpc::Call<()> {
        self.inner.call(&__krpc_s::GETX, &__S_GetXArgs_2 {})
    }
    /// Calls `S/service`.
    fn service(&self) -> ::krpc::Call<()> {
        self.inner.call(&__krpc_s::SERVICE_2, &__S_ServiceArgs {})
    }
}
/// Serves an implementation of [`S`]: `Server::builder(..).serve(..)`.
#[allow(dead_code)]
struct SServer<T> {
    service: ::std::sync::Arc<T>,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<T: S + ::core::marker::Send + ::core::marker::Sync + 'static> SServer<T> {
    /// Serves `service`.
    #[must_use]
    fn new(service: T) -> Self {
        Self {
            service: ::std::sync::Arc::new(service),
        }
    }
}
#[allow(deprecated)]
impl<
    T: S + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<T>> for SServer<T> {
    fn from(service: ::std::sync::Arc<T>) -> Self {
        Self { service }
    }
}
#[allow(deprecated)]
impl<T> ::core::clone::Clone for SServer<T> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[allow(deprecated)]
impl<T> ::core::fmt::Debug for SServer<T> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("SServer").finish_non_exhaustive()
    }
}
#[allow(deprecated)]
impl<T: S + ::core::marker::Send + ::core::marker::Sync + 'static> ::krpc::rt::Service
for SServer<T> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        &__krpc_s::SERVICE
    }
    fn dispatch(&self, call: ::krpc::rt::Incoming) {
        match call.method() {
            "type" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_s::TYPE,
                    move |_cx, args: __S_TypeArgs| async move {
                        <T as S>::r#type(
                                &service,
                                args.r#match,
                                args.self_,
                                args.service,
                                args.call,
                                args.cx,
                            )
                            .await
                    },
                );
            }
            "get_x" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_s::GET_X,
                    move |_cx, args: __S_GetXArgs| async move {
                        <T as S>::get_x(
                                &service,
                                args.args,
                                args._args,
                                args.inner,
                                args.method,
                            )
                            .await
                    },
                );
            }
            "getX" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_s::GETX,
                    move |_cx, _args: __S_GetXArgs_2| async move {
                        <T as S>::getX(&service).await
                    },
                );
            }
            "service" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_s::SERVICE_2,
                    move |_cx, _args: __S_ServiceArgs| async move {
                        <T as S>::service(&service).await
                    },
                );
            }
            _ => call.unimplemented(),
        }
    }
}
/// The arguments of `S::r#type`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __S_TypeArgs {
    r#match: u8,
    self_: u8,
    service: u8,
    call: u8,
    cx: u8,
}
/// The arguments of `S::get_x`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __S_GetXArgs {
    args: u8,
    _args: u8,
    inner: u8,
    method: u8,
}
/// The arguments of `S::getX`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __S_GetXArgs_2 {}
/// The arguments of `S::service`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __S_ServiceArgs {}
/// What `S` is, as data.
#[doc(hidden)]
mod __krpc_s {
    pub(super) static SERVICE: ::krpc::rt::ServiceDescriptor = ::krpc::rt::ServiceDescriptor {
        name: "S",
        version: "1.0",
        doc: "",
        methods: &[&TYPE, &GET_X, &GETX, &SERVICE_2],
    };
    pub(super) static TYPE: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "type",
        path: "S/type",
        doc: "",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "match",
                ty: "u8",
            },
            ::krpc::rt::ArgDescriptor {
                name: "self_",
                ty: "u8",
            },
            ::krpc::rt::ArgDescriptor {
                name: "service",
                ty: "u8",
            },
            ::krpc::rt::ArgDescriptor {
                name: "call",
                ty: "u8",
            },
            ::krpc::rt::ArgDescriptor {
                name: "cx",
                ty: "u8",
            },
        ],
        output: "r#struct",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 2671596313u32,
    };
    pub(super) static GET_X: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "get_x",
        path: "S/get_x",
        doc: "",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "args",
                ty: "u8",
            },
            ::krpc::rt::ArgDescriptor {
                name: "_args",
                ty: "u8",
            },
            ::krpc::rt::ArgDescriptor {
                name: "inner",
                ty: "u8",
            },
            ::krpc::rt::ArgDescriptor {
                name: "method",
                ty: "u8",
            },
        ],
        output: "u8",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 1363341953u32,
    };
    pub(super) static GETX: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "getX",
        path: "S/getX",
        doc: "",
        args: &[],
        output: "()",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 1054354633u32,
    };
    pub(super) static SERVICE_2: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "service",
        path: "S/service",
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
