// What tests/golden/input/conditional.rs becomes.

/// Only with the feature.
#[cfg(feature = "billing")]
#[deprecated = "use `Invoices`"]
#[allow(dead_code)]
pub trait Billing {
    /// Charges an account.
    #[cfg(feature = "charge")]
    fn charge(
        &self,
        account: String,
        cents: u64,
    ) -> impl ::core::future::Future<
        Output = Result<(), BillingError>,
    > + ::core::marker::Send;
    /// The balance, in cents.
    #[deprecated(since = "1.1", note = "use `statement`")]
    #[must_use = "a balance is asked for to be read"]
    fn balance(
        &self,
        account: String,
    ) -> impl ::core::future::Future<Output = i64> + ::core::marker::Send;
}
/// A client of [`Billing`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[cfg(feature = "billing")]
#[deprecated = "use `Invoices`"]
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct BillingClient {
    inner: ::krpc::rt::Client,
}
#[cfg(feature = "billing")]
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl BillingClient {
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
        let inner = ::krpc::rt::Client::connect(endpoint, &__krpc_billing::SERVICE)
            .await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    pub fn new(channel: &::krpc::Channel) -> Self {
        Self {
            inner: ::krpc::rt::Client::new(channel, &__krpc_billing::SERVICE),
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
        S: Billing + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::krpc::rt::Client::local(BillingServer::new(service)),
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
    /// Charges an account.
    #[cfg(feature = "charge")]
    pub fn charge(&self, account: String, cents: u64) -> ::krpc::Call<(), BillingError> {
        self.inner
            .try_call(
                &__krpc_billing::CHARGE,
                &__Billing_ChargeArgs {
                    account,
                    cents,
                },
            )
    }
    /// The balance, in cents.
    #[deprecated(since = "1.1", note = "use `statement`")]
    #[must_use = "a balance is asked for to be read"]
    pub fn balance(&self, account: String) -> ::krpc::Call<i64> {
        self.inner.call(&__krpc_billing::BALANCE, &__Billing_BalanceArgs { account })
    }
}
/// Serves an implementation of [`Billing`]: `Server::builder(..).serve(..)`.
#[cfg(feature = "billing")]
#[deprecated = "use `Invoices`"]
#[allow(dead_code)]
pub struct BillingServer<S> {
    service: ::std::sync::Arc<S>,
}
#[cfg(feature = "billing")]
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<
    S: Billing + ::core::marker::Send + ::core::marker::Sync + 'static,
> BillingServer<S> {
    /// Serves `service`.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self {
            service: ::std::sync::Arc::new(service),
        }
    }
}
#[cfg(feature = "billing")]
#[allow(deprecated)]
impl<
    S: Billing + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<S>> for BillingServer<S> {
    fn from(service: ::std::sync::Arc<S>) -> Self {
        Self { service }
    }
}
#[cfg(feature = "billing")]
#[allow(deprecated)]
impl<S> ::core::clone::Clone for BillingServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[cfg(feature = "billing")]
#[allow(deprecated)]
impl<S> ::core::fmt::Debug for BillingServer<S> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("BillingServer").finish_non_exhaustive()
    }
}
#[cfg(feature = "billing")]
#[allow(deprecated)]
impl<
    S: Billing + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::krpc::rt::Service for BillingServer<S> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        &__krpc_billing::SERVICE
    }
    fn dispatch(&self, call: ::krpc::rt::Incoming) {
        match call.method() {
            #[cfg(feature = "charge")]
            "charge" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.try_run(
                    &__krpc_billing::CHARGE,
                    move |_cx, args: __Billing_ChargeArgs| async move {
                        <S as Billing>::charge(&service, args.account, args.cents).await
                    },
                );
            }
            "balance" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_billing::BALANCE,
                    move |_cx, args: __Billing_BalanceArgs| async move {
                        <S as Billing>::balance(&service, args.account).await
                    },
                );
            }
            _ => call.unimplemented(),
        }
    }
}
#[cfg(feature = "billing")]
#[cfg(feature = "charge")]
/// The arguments of `Billing::charge`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Billing_ChargeArgs {
    account: String,
    cents: u64,
}
#[cfg(feature = "billing")]
/// The arguments of `Billing::balance`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Billing_BalanceArgs {
    account: String,
}
#[cfg(feature = "billing")]
/// What `Billing` is, as data.
#[doc(hidden)]
mod __krpc_billing {
    pub(super) static SERVICE: ::krpc::rt::ServiceDescriptor = ::krpc::rt::ServiceDescriptor {
        name: "Billing",
        version: "1.0",
        doc: "Only with the feature.",
        methods: &[#[cfg(feature = "charge")] &CHARGE, &BALANCE],
    };
    #[cfg(feature = "charge")]
    pub(super) static CHARGE: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "charge",
        path: "Billing/charge",
        doc: "Charges an account.",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "account",
                ty: "String",
            },
            ::krpc::rt::ArgDescriptor {
                name: "cents",
                ty: "u64",
            },
        ],
        output: "()",
        error: ::core::option::Option::Some("BillingError"),
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 449772365u32,
    };
    pub(super) static BALANCE: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "balance",
        path: "Billing/balance",
        doc: "The balance, in cents.",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "account",
                ty: "String",
            },
        ],
        output: "i64",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy::PLAIN,
        fingerprint: 475251445u32,
    };
}
