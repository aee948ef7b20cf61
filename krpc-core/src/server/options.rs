//! How a server runs, and which services it can serve at all.
//!
//! from: the façade's builder · to: [`super::driver`]

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    gate::ATTEMPTS,
    idempotency::Idempotency,
    permits::Permits,
    service::{Service, check_service_name},
};
use crate::{error::SetupError, sealing::SealSettings, wire};

/// How a server runs.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Handlers that run at once, over all services.
    pub concurrency: usize,
    /// How long a shutdown waits for running handlers.
    pub drain_timeout: Duration,
    /// How long a rebalance waits for running handlers of partitions that are taken away.
    pub release_timeout: Duration,
    /// How often finished calls are committed, at most.
    pub commit_interval: Duration,
    /// How often a call may be begun that may be what ends its servers; 2 at least.
    pub attempts: u32,
    /// How long starting may take before it fails with the cause.
    pub connect_timeout: Duration,
    /// Keep trying for ever instead.
    pub keep_trying: bool,
    /// The largest packet, in bytes.
    pub max_packet_bytes: usize,
    /// How the promise of idempotency keys is kept.
    pub idempotency: Idempotency,
    /// Which callers may call what.
    pub permits: Permits,
    /// How packets are sealed, if they are.
    pub seal: Option<Arc<dyn SealSettings>>,
    /// How long a handler's first poll may hold the thread that begins it. When longer ones have
    /// held up others for fifty times as much, the next handlers get tasks at once. No setting of
    /// users: guards that count lift it, for a busy machine is not to decide how handlers run.
    #[doc(hidden)]
    pub first_poll: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            concurrency: 1024,
            drain_timeout: Duration::from_secs(30),
            release_timeout: Duration::from_secs(3),
            commit_interval: Duration::from_millis(100),
            attempts: ATTEMPTS,
            connect_timeout: Duration::from_secs(10),
            keep_trying: false,
            max_packet_bytes: wire::MAX_PACKET_BYTES,
            idempotency: Idempotency::default(),
            permits: Permits::default(),
            seal: None,
            first_poll: Duration::from_micros(100),
        }
    }
}

/// A list of who may call what needs callers that can be told apart.
pub(super) fn check_permits(options: &ServerOptions) -> Result<(), SetupError> {
    if options.permits.is_empty() || options.seal.as_ref().is_some_and(|seal| seal.is_keyed()) {
        return Ok(());
    }
    let reason =
        "packets must be verified or encrypted with keys, of which each caller has its own";
    let permits = &options.permits;
    Err(SetupError::InvalidConfig {
        name: "allow".to_owned(),
        value: format!("{permits:?}"),
        reason: reason.to_owned(),
    })
}

pub(super) fn check_services(services: &[Arc<dyn Service>]) -> Result<(), SetupError> {
    if services.is_empty() {
        return Err(SetupError::NoService);
    }
    let mut names = HashSet::new();
    for service in services {
        let name = service.descriptor().name;
        check_service_name(name)?;
        if !names.insert(name) {
            return Err(SetupError::DuplicateService { name: name.to_owned() });
        }
    }
    Ok(())
}
