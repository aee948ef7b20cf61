//! One string says where to: a Kafka bootstrap list, `memory:` or `embedded:`.

use std::sync::Arc;

use krpc_core::transport::{Endpoint, TransportConfig, memory::MemoryEndpoint};

use crate::SetupError;

/// The transport that an endpoint names.
pub(crate) fn parse(
    endpoint: &str,
    config: TransportConfig,
) -> Result<Arc<dyn Endpoint>, SetupError> {
    if let Some(name) = endpoint.strip_prefix("memory:") {
        return Ok(Arc::new(MemoryEndpoint::new(name, config)));
    }
    kafka(endpoint, config)
}

#[cfg(feature = "kafka")]
fn kafka(endpoint: &str, config: TransportConfig) -> Result<Arc<dyn Endpoint>, SetupError> {
    match endpoint.strip_prefix("embedded:") {
        Some(name) => Ok(Arc::new(krpc_transport_kafka::embedded(name, config)?)),
        None => Ok(Arc::new(krpc_transport_kafka::KafkaEndpoint::new(endpoint, config)?)),
    }
}

#[cfg(not(feature = "kafka"))]
fn kafka(endpoint: &str, _: TransportConfig) -> Result<Arc<dyn Endpoint>, SetupError> {
    Err(SetupError::InvalidEndpoint {
        endpoint: endpoint.to_owned(),
        reason: "this program was built without the feature `kafka`: only `memory:` is there"
            .to_owned(),
    })
}
