//! An Apache Kafka endpoint: the bootstrap list, checked, and what is made from it.

use std::sync::Arc;

use krpc_core::{
    error::SetupError,
    transport::{
        ClientEvents, ClientTransport, Endpoint, ServerEvents, ServerTransport, Topic,
        TransportConfig,
    },
};

use crate::{client::KafkaClient, config::Settings, server::KafkaServer};

/// An Apache Kafka cluster, named by some of its brokers.
#[derive(Clone, Debug)]
pub struct KafkaEndpoint {
    settings: Settings,
}

impl KafkaEndpoint {
    /// An endpoint from a list of `host:port`, separated by commas; IPv6 addresses in brackets.
    /// Nothing is contacted yet.
    ///
    /// # Errors
    /// [`SetupError::InvalidEndpoint`] for a list that is none, [`SetupError::InvalidConfig`] for
    /// a setting out of range or a property that librdkafka refuses, by its name.
    pub fn new(bootstrap: &str, config: TransportConfig) -> Result<Self, SetupError> {
        let brokers = parse(bootstrap).map_err(|reason| SetupError::InvalidEndpoint {
            endpoint: bootstrap.to_owned(),
            reason,
        })?;
        Ok(Self { settings: Settings::new(brokers, config, false)? })
    }
}

impl Endpoint for KafkaEndpoint {
    fn name(&self) -> &str {
        &self.settings.bootstrap
    }

    fn topic(&self, service: &str, topic: Topic) -> String {
        self.settings.config.topic(service, topic)
    }

    fn client(
        &self,
        events: Arc<dyn ClientEvents>,
    ) -> Result<Arc<dyn ClientTransport>, SetupError> {
        Ok(Arc::new(KafkaClient::new(self.name(), &self.settings, None, events)?))
    }

    fn server(
        &self,
        events: Arc<dyn ServerEvents>,
    ) -> Result<Arc<dyn ServerTransport>, SetupError> {
        Ok(Arc::new(KafkaServer::new(self.name(), &self.settings, None, events)?))
    }
}

/// The list without blanks around its parts, or what is wrong with it.
fn parse(bootstrap: &str) -> Result<String, String> {
    let brokers: Vec<_> = bootstrap.split(',').map(str::trim).collect();
    for broker in &brokers {
        if broker.is_empty() {
            return Err("a broker is missing: write host:port, separated by commas".to_owned());
        }
        if broker.contains("://") {
            return Err(format!("{broker:?} has a scheme: write host:port"));
        }
        let Some((host, port)) = broker.rsplit_once(':') else {
            return Err(format!("{broker:?} has no port: write host:port"));
        };
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(format!("{port:?} is no port: 1 to 65535"));
        }
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                !host.is_empty() && host.bytes().all(allowed)
            }
        };
        if !good {
            return Err(format!("{host:?} is no host name or address; IPv6 needs brackets"));
        }
    }
    Ok(brokers.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lists_of_host_and_port() {
        assert_eq!(parse("localhost:9092").unwrap(), "localhost:9092");
        assert_eq!(parse(" a.b:1 , 10.0.0.1:65535 ").unwrap(), "a.b:1,10.0.0.1:65535");
        assert_eq!(parse("[::1]:9092").unwrap(), "[::1]:9092");
    }

    #[test]
    fn anything_else_is_refused_with_its_kind() {
        for bad in [
            "",
            ",",
            "a:1,",
            "localhost",
            "localhost:",
            ":9092",
            "a:0",
            "a:65536",
            "a:x",
            "http://a:1",
            "::1:9092",
            "[::1:9092",
            "[x]:1",
            "a b:1",
            "a:1;b:2",
            "a\0:1",
        ] {
            let error = KafkaEndpoint::new(bad, TransportConfig::default()).unwrap_err();
            assert!(matches!(error, SetupError::InvalidEndpoint { .. }), "{bad:?}: {error}");
        }
    }
}
