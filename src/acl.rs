//! What a client and a server of a service must be allowed to do, for brokers that allow nothing
//! else.
//!
//! ```
//! # fn main() -> Result<(), krpc::SetupError> {
//! let config = krpc::Config::from_env()?;
//! print!("{}", krpc::acl::client(&config, "acme.Sum", "User:web").tickets().delays());
//! print!("{}", krpc::acl::server(&config, "acme.Sum", "User:sums").tickets().delays());
//! # Ok(())
//! # }
//! ```
//! Each line is a command of Kafka's own tool, such as
//! ```text
//! kafka-acls.sh --bootstrap-server "$KRPC_ENDPOINT" --add --allow-principal 'User:web' \
//!   --operation Write --topic 'krpc.acme.Sum.calls'
//! ```
//! [`Rules::list`] gives the same as data. Without any one of them, connecting, starting or calling
//! fails with the right and the resource that are missing. Only logged is the lack of
//! `DescribeConfigs`, where topics that others made are used unchecked, and of `Read` where `Write`
//! shows the topic: for dead letters, for delayed calls, and for a server's calls with delays.

pub use krpc_transport_kafka::acl::{Operation, Resource, Rule, Rules};

use crate::Config;

/// What a client needs, of these settings: prefix, group, and whether topics are created. A
/// principal without a kind is a `User:`.
pub fn client(config: &Config, service: &str, principal: &str) -> Rules {
    krpc_transport_kafka::acl::client(&config.transport, service, principal)
}

/// What a server needs; as [`client`].
pub fn server(config: &Config, service: &str, principal: &str) -> Rules {
    krpc_transport_kafka::acl::server(&config.transport, service, principal)
}
