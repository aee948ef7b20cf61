// What tests/golden/input/delivery.rs becomes.

#[allow(dead_code)]
pub trait Bank {
    /// Puts money into an account.
    fn deposit(
        &self,
        account: u64,
        key: String,
    ) -> impl ::core::future::Future<
        Output = Result<i64, BankError>,
    > + ::core::marker::Send;
    fn charge(
        &self,
        order: Order,
    ) -> impl ::core::future::Future<Output = Receipt> + ::core::marker::Send;
    fn log(
        &self,
        line: String,
    ) -> impl ::core::future::Future<Output = Result<(), String>> + ::core::marker::Send;
    fn adjust(
        &self,
        position: i32,
    ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send;
}
/// A client of [`Bank`]: its methods are calls, which travel once they are awaited.
///
/// Cheap to clone; clones share their connection.
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct BankClient {
    inner: ::krpc::rt::Client,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl BankClient {
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
        let inner = ::krpc::rt::Client::connect(endpoint, &__krpc_bank::SERVICE).await?;
        ::core::result::Result::Ok(Self { inner })
    }
    /// A client over `channel`, which other clients may use as well.
    #[must_use]
    pub fn new(channel: &::krpc::Channel) -> Self {
        Self {
            inner: ::krpc::rt::Client::new(channel, &__krpc_bank::SERVICE),
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
        S: Bank + ::core::marker::Send + ::core::marker::Sync + 'static,
    {
        Self {
            inner: ::krpc::rt::Client::local(BankServer::new(service)),
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
    /// Puts money into an account.
    ///
    /// # Delivery
    ///
    /// By key, `account`: its calls are executed one at a time, in order.
    pub fn deposit(&self, account: u64, key: String) -> ::krpc::Call<i64, BankError> {
        let __key = ::krpc::rt::key_of(&(account));
        self.inner
            .try_call(&__krpc_bank::DEPOSIT, &__Bank_DepositArgs { account, key })
            .key(__key)
    }
    /// Calls `Bank/charge`.
    ///
    /// # Delivery
    ///
    /// By key, `format!("{}/{}", order.tenant, order.id)`: its calls are executed one at a time, in order.
    ///
    /// At most once: it is never executed again, so its outcome may stay unknown.
    pub fn charge(&self, order: Order) -> ::krpc::Call<Receipt> {
        let __key = ::krpc::rt::key_of(&(format!("{}/{}", order.tenant, order.id)));
        self.inner.call(&__krpc_bank::CHARGE, &__Bank_ChargeArgs { order }).key(__key)
    }
    /// Calls `Bank/log`.
    ///
    /// # Delivery
    ///
    /// One way: it ends once the broker has the call; nobody waits for its result.
    pub fn log(&self, line: String) -> ::krpc::Call<(), String> {
        self.inner.try_call(&__krpc_bank::LOG, &__Bank_LogArgs { line })
    }
    /// Calls `Bank/adjust`.
    ///
    /// # Delivery
    ///
    /// By key, `-position`: its calls are executed one at a time, in order.
    ///
    /// One way: it ends once the broker has the call; nobody waits for its result.
    pub fn adjust(&self, position: i32) -> ::krpc::Call<()> {
        let __key = ::krpc::rt::key_of(&(-position));
        self.inner.call(&__krpc_bank::ADJUST, &__Bank_AdjustArgs { position }).key(__key)
    }
}
/// Serves an implementation of [`Bank`]: `Server::builder(..).serve(..)`.
#[allow(dead_code)]
pub struct BankServer<S> {
    service: ::std::sync::Arc<S>,
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S: Bank + ::core::marker::Send + ::core::marker::Sync + 'static> BankServer<S> {
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
    S: Bank + ::core::marker::Send + ::core::marker::Sync + 'static,
> ::core::convert::From<::std::sync::Arc<S>> for BankServer<S> {
    fn from(service: ::std::sync::Arc<S>) -> Self {
        Self { service }
    }
}
#[allow(deprecated)]
impl<S> ::core::clone::Clone for BankServer<S> {
    fn clone(&self) -> Self {
        Self {
            service: ::core::clone::Clone::clone(&self.service),
        }
    }
}
#[allow(deprecated)]
impl<S> ::core::fmt::Debug for BankServer<S> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("BankServer").finish_non_exhaustive()
    }
}
#[allow(deprecated)]
impl<S: Bank + ::core::marker::Send + ::core::marker::Sync + 'static> ::krpc::rt::Service
for BankServer<S> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        &__krpc_bank::SERVICE
    }
    fn dispatch(&self, call: ::krpc::rt::Incoming) {
        match call.method() {
            "deposit" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.try_run(
                    &__krpc_bank::DEPOSIT,
                    move |_cx, args: __Bank_DepositArgs| async move {
                        <S as Bank>::deposit(&service, args.account, args.key).await
                    },
                );
            }
            "charge" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_bank::CHARGE,
                    move |_cx, args: __Bank_ChargeArgs| async move {
                        <S as Bank>::charge(&service, args.order).await
                    },
                );
            }
            "log" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.try_run(
                    &__krpc_bank::LOG,
                    move |_cx, args: __Bank_LogArgs| async move {
                        <S as Bank>::log(&service, args.line).await
                    },
                );
            }
            "adjust" => {
                let service = ::core::clone::Clone::clone(&self.service);
                call.run(
                    &__krpc_bank::ADJUST,
                    move |_cx, args: __Bank_AdjustArgs| async move {
                        <S as Bank>::adjust(&service, args.position).await
                    },
                );
            }
            _ => call.unimplemented(),
        }
    }
}
/// The arguments of `Bank::deposit`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Bank_DepositArgs {
    account: u64,
    key: String,
}
/// The arguments of `Bank::charge`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Bank_ChargeArgs {
    order: Order,
}
/// The arguments of `Bank::log`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Bank_LogArgs {
    line: String,
}
/// The arguments of `Bank::adjust`.
#[doc(hidden)]
#[allow(non_camel_case_types, non_snake_case)]
#[derive(::krpc::rt::serde::Serialize, ::krpc::rt::serde::Deserialize)]
#[serde(crate = "::krpc::rt::serde")]
struct __Bank_AdjustArgs {
    position: i32,
}
/// What `Bank` is, as data.
#[doc(hidden)]
mod __krpc_bank {
    pub(super) static SERVICE: ::krpc::rt::ServiceDescriptor = ::krpc::rt::ServiceDescriptor {
        name: "Bank",
        version: "1.0",
        doc: "",
        methods: &[&DEPOSIT, &CHARGE, &LOG, &ADJUST],
    };
    pub(super) static DEPOSIT: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "deposit",
        path: "Bank/deposit",
        doc: "Puts money into an account.",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "account",
                ty: "u64",
            },
            ::krpc::rt::ArgDescriptor {
                name: "key",
                ty: "String",
            },
        ],
        output: "i64",
        error: ::core::option::Option::Some("BankError"),
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy {
            keyed: true,
            ..::krpc::rt::Policy::PLAIN
        },
        fingerprint: 3393200544u32,
    };
    pub(super) static CHARGE: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "charge",
        path: "Bank/charge",
        doc: "",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "order",
                ty: "Order",
            },
        ],
        output: "Receipt",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy {
            keyed: true,
            at_most_once: true,
            ..::krpc::rt::Policy::PLAIN
        },
        fingerprint: 753713176u32,
    };
    pub(super) static LOG: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "log",
        path: "Bank/log",
        doc: "",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "line",
                ty: "String",
            },
        ],
        output: "()",
        error: ::core::option::Option::Some("String"),
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy {
            one_way: true,
            retry: ::core::option::Option::Some(::krpc::rt::ServerRetry {
                max: 5u32,
                first: ::core::time::Duration::from_secs(1u64),
                most: ::core::time::Duration::from_secs(60u64),
                then: ::krpc::rt::Then::Drop,
            }),
            ..::krpc::rt::Policy::PLAIN
        },
        fingerprint: 761987146u32,
    };
    pub(super) static ADJUST: ::krpc::rt::MethodDescriptor = ::krpc::rt::MethodDescriptor {
        name: "adjust",
        path: "Bank/adjust",
        doc: "",
        args: &[
            ::krpc::rt::ArgDescriptor {
                name: "position",
                ty: "i32",
            },
        ],
        output: "()",
        error: ::core::option::Option::None,
        timeout: ::core::option::Option::None,
        idempotent: false,
        policy: &::krpc::rt::Policy {
            keyed: true,
            one_way: true,
            retry: ::core::option::Option::Some(::krpc::rt::ServerRetry {
                max: 2u32,
                first: ::core::time::Duration::from_millis(100u64),
                most: ::core::time::Duration::from_secs(10u64),
                then: ::krpc::rt::Then::DeadLetter,
            }),
            retention: ::core::option::Option::Some(
                ::core::time::Duration::from_secs(604800u64),
            ),
            ..::krpc::rt::Policy::PLAIN
        },
        fingerprint: 1036453504u32,
    };
}
