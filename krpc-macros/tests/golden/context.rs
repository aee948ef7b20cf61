// What tests/golden/input/context.rs becomes.

#[allow(dead_code)]
pub trait Audit {
    fn plain(
        &self,
        cx: &Context,
    ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
    fn by_path(
        &self,
        context: &krpc::Context,
        line: String,
    ) -> impl ::core::future::Future<Output = bool> + ::core::marker::Send;
    fn anonymous(
        &self,
        cx: &'_ ::krpc::Context,
    ) -> impl ::core::future::Future<
        Output = std::result::Result<u8, String>,
    > + ::core::marker::Send;
}
/// A client of [`Audit`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct AuditClient {
    inner: ::krpc::rt::Client,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl AuditClient {
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
        let inner = ::krpc::rt::Client::connect(endpoint, &__krpc_audit::SERVICE).await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    pub fn new(channel: &::krpc::Channel) -> Self {
        Self {
            inner: ::krpc::rt::Client::new(channel, &__krpc_audit::SERVICE),
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
        S: Audit + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::krpc::rt::Client::local(AuditServer::new(service)),
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
    /// Calls `Audit/plain`.
    pub fn plain(&self) -> ::krpc::Call<()> {
        self.inner.call(&__krpc_audit::PLAIN, &__Audit_PlainArgs {})
    }
    /// Calls `Audit/by_path`.
    pub fn by_path(&self, line: String) -> ::krpc::Call<bool> {
        self.inner.call(&__krpc_audit::BY_PATH, &__Audit_ByPathArgs { line })
    }
    /// Calls `Audit/anonymous`.
    pub fn anonymous(&self) -> ::krpc::Call<u8, String> {
        self.inner.try_call(&__krpc_audit::ANONYMOUS, &__Audit_AnonymousArgs {})
    }
}
/// Serves an implementation of [`Audit`]: `Server::builder(..).serve(..)`.
#[allow(dead_code)]
pub struct AuditServer<S> {
    service: ::std::sync::Arc<S>,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S: Audit + ::core::marker::Send + ::core::marker::Sync + 'static> AuditServer<S> {
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
    S: Audit + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<S>> for AuditServer<S> {
    fn from(service: ::std::sync::Arc<S>) -> Self {
        Self { service }
    }
}
#[allow(deprecated)]
impl<S> ::core::clone::Clone for AuditServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[allow(deprecated)]
impl<S> ::core::fmt::Debug for AuditServer<S> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("AuditServer").finish_non_exhaustive()
    }
}
#[allow(deprecated)]
impl<
    S: Audit + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::krpc::rt::Service for AuditServer<S> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        &__krpc_audit::SERVICE
    }
    fn dispatch(&self, call: ::krpc::rt::Incoming) {
        match call.method() {
            "plain" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_audit::PLAIN,
                    move |cx, _args: __Audit_PlainArgs| async move {
                        <S as Audit>::plain(&service, &cx).await
                    },
                );
            }
            "by_path" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_audit::BY_PATH,
                    move |cx, args: __Audit_ByPathArgs| async move {
                        <S as Audit>::by_path(&service, &cx, args.line).await
                    },
                );
            }
            "anonymous" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.try_run(
                    &__krpc_audit::ANONYMOUS,
                    move |cx, _args: __Audit_AnonymousArgs| async move {
                        <S as Audit>::anonymous(&service, &cx).await
                    },
                );
            }
            _ => call.unimplemented(),
        }
    }
}
/// The arguments of `Audit::plain`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Audit_PlainArgs {}
/// The arguments of `Audit::by_path`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Audit_ByPathArgs {
    line: String,
}
/// The arguments of `Audit::anonymous`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Audit_AnonymousArgs {}
/// What `Audit` is, as data.
#[doc(hidden)]
mod __krpc_audit {
    pub(super) static SERVICE: ::krpc::rt::ServiceDescriptor = ::krpc::rt::ServiceDescriptor {
        name: "Audit",
        version: "1.0",
        doc: "",
        methods: &[&PLAIN, &BY_PATH, &ANONYMOUS],
    };
    pub(super) static PLAIN: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "plain",
        path: "Audit/plain",
        doc: "",
        args: &[],
        output: "()",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 1054354633u32,
    };
    pub(super) static BY_PATH: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "by_path",
        path: "Audit/by_path",
        doc: "",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "line",
                ty: "String",
            },
        ],
        output: "bool",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 137095989u32,
    };
    pub(super) static ANONYMOUS: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "anonymous",
        path: "Audit/anonymous",
        doc: "",
        args: &[],
        output: "u8",
        error: ::core::option::Option::Some("String"),
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 3433004977u32,
    };
}
