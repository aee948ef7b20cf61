//! What can go wrong while running Kafka or another program.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Why Kafka, or a [`Program`](crate::Program), could not be run as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that Kafka needs is not installed.
    #[error("`{program}` is needed and was not found in PATH (`cargo xtask setup` installs it)")]
    Missing {
        /// The name of the program.
        program: String,
    },
    /// A program of a Debian package is not installed.
    #[error(
        "`{program}` is needed and was not found in PATH. As root, run: apt-get install --yes \
         --no-install-recommends {package} (`cargo xtask setup` does)"
    )]
    MissingPackage {
        /// The name of the program.
        program: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// Redis ended during its start, or did not answer in time.
    #[error("Redis was not ready after {waited:?}\n{log}")]
    Redis {
        /// How long it was waited for.
        waited: Duration,
        /// What it printed.
        log: String,
    },
    /// A one-time preparation (fetching the jars, formatting) failed or took too long.
    #[error("preparing Kafka failed: {step}\n{output}")]
    Prepare {
        /// Which step failed.
        step: &'static str,
        /// The end of what the step printed.
        output: String,
    },
    /// A broker ended by itself while it was starting.
    #[error("broker {broker} ended during its start ({status})\n{log}")]
    Ended {
        /// Number of the broker, from 0.
        broker: usize,
        /// How it ended.
        status: ExitStatus,
        /// The end of the broker's log.
        log: String,
    },
    /// A broker runs but did not answer in time.
    #[error("broker {broker} was not ready after {waited:?}\n{log}")]
    NotReady {
        /// Number of the broker, from 0.
        broker: usize,
        /// How long it was waited for.
        waited: Duration,
        /// The end of the broker's log.
        log: String,
    },
    /// The broker named by `KRPC_TEST_BROKERS` does not answer.
    #[error("no Kafka answers at `{address}`, which KRPC_TEST_BROKERS names")]
    Unreachable {
        /// The bootstrap string.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The broker was not started here, so it cannot be stopped, killed or paused here.
    #[error("the broker is an external one: it cannot be controlled from here")]
    External,
    /// The cluster has no broker of that number.
    #[error("there is no broker {broker}: the cluster has {brokers}, numbered from 0")]
    NoSuchBroker {
        /// The number asked for.
        broker: usize,
        /// How many there are.
        brokers: usize,
    },
    /// The broker does not run, so it cannot be paused or resumed.
    #[error("broker {broker} is not running")]
    NotRunning {
        /// Number of the broker, from 0.
        broker: usize,
    },
    /// The builder was given something that cannot work.
    #[error("{0}")]
    Invalid(String),
    /// The shared Kafka failed to start earlier in this process; it is not tried again.
    #[error("the shared Kafka did not start: {0}")]
    Shared(String),
    /// A program did not print the line that was waited for.
    #[error("`{program}` did not print the line waited for within {waited:?}\n{output}")]
    NoLine {
        /// The program's path.
        program: String,
        /// How long it was waited for.
        waited: Duration,
        /// The end of what the program printed.
        output: String,
    },
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether a broker ended because another process holds one of its ports.
    pub(crate) fn is_port_clash(&self) -> bool {
        matches!(self, Self::Ended { log, .. }
            if log.contains("BindException") || log.contains("Address already in use"))
    }
}

/// Names what was being done when the operating system refused it.
pub(crate) trait During<T> {
    /// Turns an I/O error into one that says what failed; `what` is built only then.
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
