//! Channels: how a client gets to an endpoint.

use std::time::Duration;

use krpc_core::client::channel::Channel as CoreChannel;

use crate::{
    ChannelStats, Config, DeadLetters, InstanceId, RetryPolicy, SetupError, UntypedClient, config,
    endpoint,
};

/// A connection to an endpoint, shared by the clients of many services. Cheap to clone; closed
/// when the last clone, client and call of it are gone, or by [`Channel::close`].
#[derive(Clone, Debug)]
pub struct Channel {
    core: CoreChannel,
}

impl Channel {
    /// A channel with the settings of the environment (`KRPC_*`).
    ///
    /// A service's topics are found or created at its first call, or by [`Channel::open`].
    ///
    /// # Errors
    /// An invalid endpoint or setting; an endpoint that cannot be reached within the connect
    /// timeout.
    pub async fn connect(endpoint: impl AsRef<str>) -> Result<Self, SetupError> {
        Self::builder(endpoint).connect().await
    }

    /// A channel with settings of its own.
    pub fn builder(endpoint: impl AsRef<str>) -> ChannelBuilder {
        ChannelBuilder { endpoint: endpoint.as_ref().to_owned(), config: Config::from_env() }
    }

    /// Makes a service usable now rather than at its first call.
    ///
    /// # Errors
    /// Whatever keeps the broker from carrying the service, within the connect timeout.
    pub async fn open(&self, service: &str) -> Result<(), SetupError> {
        self.core.open(service).await
    }

    /// A client of a service that is known by name only, for `ping` and `info`.
    pub fn service(&self, name: &str) -> UntypedClient {
        UntypedClient::named(&self.core, name.to_owned())
    }

    /// The dead letters of a service: calls that were given up, to be listed, shown, sent once
    /// more or dropped.
    pub fn dead_letters(&self, service: &str) -> DeadLetters {
        self.core.dead_letters(service)
    }

    /// This channel's instance, as servers see it in `cx.caller()`.
    pub fn instance(&self) -> InstanceId {
        self.core.instance()
    }

    /// What the calls of a service are doing; `None` if the channel never called it.
    pub fn stats(&self, service: &str) -> Option<ChannelStats> {
        self.core.stats(service)
    }

    /// Ends every call in flight with `Cancelled`, gives what was sent a bounded time to leave,
    /// and disconnects. Later calls fail with `Unavailable`.
    pub async fn close(&self) {
        self.core.close().await;
    }

    pub(crate) const fn from_core(core: CoreChannel) -> Self {
        Self { core }
    }

    pub(crate) const fn core(&self) -> &CoreChannel {
        &self.core
    }
}

/// Settings of a channel; what is not set here comes from `KRPC_*`, and what is not set there is
/// the default.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `.connect()`"]
pub struct ChannelBuilder {
    endpoint: String,
    config: Result<Config, SetupError>,
}

impl ChannelBuilder {
    config::shared_settings!();
    config::security_settings!();

    /// The deadline of calls that set none, and whose method sets none. Default 10 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set("KRPC_TIMEOUT", format!("{}us", timeout.as_micros()))
    }

    /// How long one-way and enqueued calls live that set no timeout. Default 7 days, the retention
    /// of the topic in which they wait.
    pub fn queue_timeout(self, timeout: Duration) -> Self {
        self.set("KRPC_QUEUE_TIMEOUT", format!("{}us", timeout.as_micros()))
    }

    /// Calls in flight at once per service, 1 to 1,000,000; more are refused with
    /// `ResourceExhausted`. Default 65,536.
    pub fn max_in_flight(self, calls: usize) -> Self {
        self.set("KRPC_MAX_IN_FLIGHT", calls)
    }

    /// When calls of `#[rpc(idempotent)]` methods are sent again that say nothing else. Default
    /// [`RetryPolicy::new`]; [`RetryPolicy::none`] switches it off.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        if let Ok(config) = &mut self.config {
            match policy.mistake() {
                None => config.client.retry = policy,
                Some(mistake) => {
                    self.config = Err(SetupError::InvalidConfig {
                        name: "retry".to_owned(),
                        value: format!("{policy:?}"),
                        reason: mistake.to_owned(),
                    });
                }
            }
        }
        self
    }

    /// Retries and hedges that each call of an idempotent method pays for, 0 to 10; of each
    /// service, and at most 10 are saved up. Default 0.1: a tenth of the calls, and 10 more. 0
    /// switches both off.
    pub fn retry_budget(self, share: f64) -> Self {
        self.set("KRPC_RETRY_BUDGET", share)
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Channel::connect`].
    pub async fn connect(self) -> Result<Channel, SetupError> {
        let config = self.config?.sealed()?;
        let endpoint = endpoint::parse(&self.endpoint, config.transport)?;
        let core = CoreChannel::new(endpoint, config.client)?;
        core.reach().await?;
        Ok(Channel { core })
    }
}
