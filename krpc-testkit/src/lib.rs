//! A real Apache Kafka for tests, benches and development; and a real Redis.
//!
//! [`Kafka::start`] runs one broker, [`Kafka::cluster`] several, each a process of its own on free
//! local ports with its data in a temporary folder. A broker can be stopped, killed, restarted and
//! paused. Java 17 or newer and Maven must be installed; Kafka's jars are fetched once into the
//! cargo target folder.
//!
//! ```no_run
//! # fn main() -> Result<(), krpc_testkit::Error> {
//! let kafka = krpc_testkit::Kafka::cluster(3)?;
//! println!("bootstrap.servers={}", kafka.bootstrap());
//! kafka.kill(0)?;
//! kafka.restart(0)?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing outlives the process that started it, however it ends: a small shell process holds the
//! other end of a pipe and kills the brokers when the pipe closes.
//!
//! With the feature `secure`, `Builder::secure` closes the brokers to strangers: TLS with
//! certificates made on the spot, SASL, and rules of who may do what.
//!
//! [`Redis`] is a `redis-server` under the same rule.
//!
//! [`Program`] runs another program under the same rule, captures its lines and signals it.

mod error;
mod guard;
mod install;
mod kafka;
mod node;
mod ports;
mod probe;
mod program;
mod redis;
#[cfg(feature = "secure")]
mod secure;
mod settings;

pub use error::Error;
pub use install::KAFKA_VERSION;
pub use kafka::{Builder, Kafka};
pub use ports::free_port;
pub use program::Program;
pub use redis::Redis;
#[cfg(feature = "secure")]
pub use secure::{Authority, Door, Identity, Validity};

/// Names a running broker to be used instead of starting one, for [`Kafka::shared`].
pub const BROKERS_VARIABLE: &str = "KRPC_TEST_BROKERS";
