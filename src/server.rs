//! Servers: how services get onto an endpoint.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use krpc_core::server::{driver::Server as CoreServer, service::Service};

use crate::{
    Config, InstanceId, ServerStats, SetupError, ShutdownError, Status, config, endpoint,
    store::{ResultStore, StoreFailure},
};

/// A running server. Dropping it ends it as a crash would: other servers repeat what was
/// unfinished. [`Server::shutdown`] ends it in good order.
#[derive(Debug)]
pub struct Server {
    core: CoreServer,
}

/// Why [`ServerBuilder::run_until`] or [`Server::run_until`] failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The server did not start.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The server started, and did not end in good order.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
}

impl Server {
    /// A server on an endpoint, with the settings of the environment (`KRPC_*`).
    pub fn builder(endpoint: impl AsRef<str>) -> ServerBuilder {
        let endpoint = endpoint.as_ref().to_owned();
        ServerBuilder { endpoint, config: Config::from_env(), services: Vec::new() }
    }

    /// This server's instance, as clients see it in `Reply::server_id`.
    pub fn instance(&self) -> InstanceId {
        self.core.instance()
    }

    /// What it did and does.
    pub fn stats(&self) -> ServerStats {
        self.core.stats()
    }

    /// Ends in good order: takes no more calls, finishes and answers what runs, commits, leaves
    /// the group. Calls that wait in memory are left to the next server, unexecuted.
    ///
    /// # Errors
    /// Handlers ran longer than the drain timeout, the last commit failed or the transport broke:
    /// then calls may be executed again.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        self.core.shutdown().await
    }

    /// Resolves when the transport is beyond repair, with the cause: nothing will be served any
    /// more. Lost connections are not that; they are made again.
    pub async fn broken(&self) -> Status {
        self.core.broken().await
    }

    /// Serves until `end` resolves or the transport is beyond repair, then shuts down.
    ///
    /// # Errors
    /// As [`Server::shutdown`].
    pub async fn run_until(self, end: impl Future) -> Result<(), ShutdownError> {
        tokio::select! {
            _ = end => {}
            // The shutdown says what it was.
            _ = self.core.broken() => {}
        }
        self.shutdown().await
    }
}

/// Settings and services of a server; what is not set here comes from `KRPC_*`, and what is not
/// set there is the default.
#[derive(Clone)]
#[must_use = "a builder does nothing until `.start()` or `.run_until(…)`"]
pub struct ServerBuilder {
    endpoint: String,
    config: Result<Config, SetupError>,
    services: Vec<Arc<dyn Service>>,
}

impl ServerBuilder {
    config::shared_settings!();
    config::security_settings!();

    /// Adds a service: `.serve(SumServer::new(Calculator))`. Repeat it for several.
    pub fn serve(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// Handlers that run at once, over all services, 1 to 1,000,000. Default 1,024. What is more
    /// waits in Kafka.
    pub fn concurrency(self, handlers: usize) -> Self {
        self.set("KRPC_CONCURRENCY", handlers)
    }

    /// How long a shutdown waits for running handlers. Default 30 s.
    pub fn drain_timeout(self, timeout: Duration) -> Self {
        self.set("KRPC_DRAIN_TIMEOUT", format!("{}us", timeout.as_micros()))
    }

    /// Where results of calls with an idempotency key are kept, so that calls with the same key are
    /// executed once between them. All servers of a service need the same store. Without one, calls
    /// with a key are refused with `FAILED_PRECONDITION`.
    pub fn result_store(mut self, store: impl ResultStore) -> Self {
        if let Ok(config) = &mut self.config {
            config.server.idempotency.store = Some(Arc::new(store));
        }
        self
    }

    /// Lets a caller call these methods: `Service/method`, `Service/*` or `*`. With the first rule
    /// all others are closed: a caller with a key of its own, [`Key::of_caller`], may call what its
    /// rules name; who has no key at all, nothing. Who has a key that is no caller's may call
    /// everything, as the servers themselves do: give it to nobody else. What is not allowed ends
    /// with `PERMISSION_DENIED` and is counted, [`ServerStats::counts`]. The built-in methods are
    /// methods too, `Service/$ping` and `Service/$info`. Needs a seal with keys, and the same list
    /// at all servers of a service; with one, delayed calls that were written without a key are
    /// dropped, so it comes when all sides seal.
    ///
    /// ```
    /// use krpc::{Server, seal::{Key, Seal}};
    ///
    /// # fn keys() -> Result<[Key; 2], krpc::seal::SealError> {
    /// #     Ok([Key::from_bytes([1; 32])?, Key::from_bytes([2; 32])?])
    /// # }
    /// let [own, billing] = keys()?;
    /// let seal = Seal::new().encrypt(own).open_with(billing.of_caller("billing")?);
    /// let server = Server::builder("memory:").seal(seal).allow("billing", ["Sum/add", "Echo/*"]);
    /// # Ok::<_, krpc::seal::SealError>(())
    /// ```
    ///
    /// [`Key::of_caller`]: crate::seal::Key::of_caller
    #[cfg(feature = "seal")]
    pub fn allow<'a>(mut self, caller: &str, methods: impl IntoIterator<Item = &'a str>) -> Self {
        if let Ok(config) = &mut self.config
            && let Err(error) = config.server.permits.allow(caller, methods)
        {
            self.config = Err(error);
        }
        self
    }

    /// What becomes of calls with an idempotency key while the store does not work. Default
    /// [`StoreFailure::Refuse`].
    pub fn when_store_fails(mut self, failure: StoreFailure) -> Self {
        if let Ok(config) = &mut self.config {
            config.server.idempotency.when_store_fails = failure;
        }
        self
    }

    /// How long a server that died holds an idempotency key, and how slow one may be before it
    /// loses it. Default 10 s.
    pub fn idempotency_lease(self, lease: Duration) -> Self {
        self.set("KRPC_IDEMPOTENCY_LEASE", format!("{}us", lease.as_micros()))
    }

    /// Starts to serve, and returns when the topics are there and the group was asked.
    ///
    /// # Errors
    /// Invalid settings or services, and whatever keeps the broker from carrying them, within the
    /// connect timeout (10 s by default).
    pub async fn start(self) -> Result<Server, SetupError> {
        let config = self.config?.sealed()?;
        let endpoint = endpoint::parse(&self.endpoint, config.transport)?;
        let core = CoreServer::start(&*endpoint, self.services, config.server).await?;
        Ok(Server { core })
    }

    /// Serves until `end` resolves, then shuts down: `.run_until(krpc::ctrl_c())`.
    ///
    /// # Errors
    /// As [`ServerBuilder::start`] and [`Server::shutdown`].
    pub async fn run_until(self, end: impl Future) -> Result<(), ServeError> {
        let server = self.start().await?;
        Ok(server.run_until(end).await?)
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.services.iter().map(|s| s.descriptor().name).collect();
        f.debug_struct("ServerBuilder")
            .field("endpoint", &self.endpoint)
            .field("config", &self.config)
            .field("services", &services)
            .finish()
    }
}

/// Resolves at Ctrl-C, and at the `SIGTERM` that a supervisor sends.
///
/// # Panics
/// Outside a Tokio runtime, and where the system refuses a signal handler.
pub async fn ctrl_c() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate =
            signal(SignalKind::terminate()).expect("the system lets a program handle SIGTERM");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
}
