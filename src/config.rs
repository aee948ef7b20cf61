//! The settings of a channel or a server: from the environment, or one by one.

mod forms;
mod knobs;
mod sealing;
mod security;

use std::collections::BTreeMap;
#[cfg(feature = "seal")]
use std::sync::Arc;

use krpc_core::{
    client::channel::ClientOptions, server::options::ServerOptions, transport::TransportConfig,
};

#[cfg(feature = "seal")]
use krpc_core::{seal::Seal, sealing::SealSettings};

pub use self::knobs::{KNOBS, Knob};
use crate::SetupError;

/// All settings of a channel or a server, each with its default.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub(crate) transport: TransportConfig,
    pub(crate) client: ClientOptions,
    pub(crate) server: ServerOptions,
    #[cfg(feature = "seal")]
    sealing: sealing::Sealing,
}

/// Variables of this prefix are librdkafka's properties: `KRPC_KAFKA_SECURITY_PROTOCOL=ssl` sets
/// `security.protocol`.
const PROPERTY_PREFIX: &str = "KRPC_KAFKA_";

/// Variables that are no settings: the examples' endpoint, and what this project's tests read.
const NO_SETTINGS: [&str; 4] = ["KRPC_ENDPOINT", "KRPC_TEST_", "KRPC_SIM_", "KRPC_BLESS"];

impl Config {
    /// The defaults, changed by what the environment says. Unknown `KRPC_*` variables are warned
    /// of.
    ///
    /// # Errors
    /// A value that is not of its setting's form or range, by name.
    pub fn from_env() -> Result<Self, SetupError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("KRPC_"))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        Self::from_variables(variables.collect())
    }

    fn from_variables(variables: BTreeMap<String, String>) -> Result<Self, SetupError> {
        let mut config = Self::default();
        for (name, value) in variables {
            if let Some(property) = name.strip_prefix(PROPERTY_PREFIX) {
                let property = property.to_lowercase().replace('_', ".");
                config.transport.properties.push((property, value));
            } else if KNOBS.iter().any(|knob| knob.name == name) {
                config.set(&name, &value)?;
            } else if !NO_SETTINGS.iter().any(|other| is_other(&name, other)) {
                tracing::warn!(target: "krpc", name, "unknown setting in the environment");
            }
        }
        Ok(config)
    }

    /// Sets one setting by its name in the environment.
    ///
    /// # Errors
    /// An unknown name, or a value that is not of the setting's form or range.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SetupError> {
        let invalid = |reason: String| SetupError::InvalidConfig {
            name: name.to_owned(),
            value: security::shown(name, value),
            reason,
        };
        let knob = KNOBS.iter().find(|knob| knob.name == name);
        let knob = knob.ok_or_else(|| invalid("there is no such setting".to_owned()))?;
        (knob.apply)(self, value).map_err(invalid)
    }
}

#[cfg(feature = "seal")]
impl Config {
    /// Packets are sealed like this, whatever the environment says.
    pub(crate) fn seal(&mut self, seal: Seal) -> Result<(), SetupError> {
        seal.check().map_err(|error| SetupError::InvalidConfig {
            name: "seal".to_owned(),
            value: format!("{seal:?}"),
            reason: error.to_string(),
        })?;
        let seal: Arc<dyn SealSettings> = Arc::new(seal);
        self.client.seal = Some(Arc::clone(&seal));
        self.server.seal = Some(seal);
        Ok(())
    }

    /// Packets are sealed as the environment says, if nothing else was said.
    pub(crate) fn sealed(mut self) -> Result<Self, SetupError> {
        if self.client.seal.is_none()
            && let Some(seal) = self.sealing.seal()?
        {
            self.seal(seal)?;
        }
        Ok(self)
    }
}

#[cfg(not(feature = "seal"))]
impl Config {
    pub(crate) const fn sealed(self) -> Result<Self, SetupError> {
        Ok(self)
    }
}

/// Whether a variable is one of [`NO_SETTINGS`]: a name, or a prefix with its underscore.
fn is_other(name: &str, other: &str) -> bool {
    if other.ends_with('_') { name.starts_with(other) } else { name == other }
}

/// The settings that channels and servers share, as methods of their builders.
macro_rules! shared_settings {
    () => {
        /// Put before topic and group names, followed by a dot. Default none.
        pub fn prefix(self, prefix: &str) -> Self {
            self.set("KRPC_PREFIX", prefix)
        }

        /// How long connecting or starting may take before it fails. Default 10 s.
        pub fn connect_timeout(self, timeout: Duration) -> Self {
            self.set("KRPC_CONNECT_TIMEOUT", format!("{}us", timeout.as_micros()))
        }

        /// Wait for the broker for ever instead of failing. Default no.
        pub fn keep_trying(self, keep_trying: bool) -> Self {
            self.set("KRPC_KEEP_TRYING", keep_trying)
        }

        /// The largest packet in bytes, 16 KiB to 4 MiB, the default.
        pub fn max_packet_bytes(self, bytes: usize) -> Self {
            self.set("KRPC_MAX_PACKET_BYTES", bytes)
        }

        /// How packets are compressed, verified or encrypted, and which are taken: the same on both
        /// sides, as a rule. Goes over all of `KRPC_SEAL…` and `KRPC_COMPRESSION`. Default not at
        /// all.
        #[cfg(feature = "seal")]
        pub fn seal(mut self, seal: crate::seal::Seal) -> Self {
            if let Ok(config) = &mut self.config {
                if let Err(error) = config.seal(seal) {
                    self.config = Err(error);
                }
            }
            self
        }

        /// Any setting by its name in the environment, such as `KRPC_SESSION_TIMEOUT`. A wrong
        /// name or value is reported when the builder is used.
        pub fn set(mut self, name: &str, value: impl ToString) -> Self {
            if let Ok(config) = &mut self.config {
                if let Err(error) = config.set(name, &value.to_string()) {
                    self.config = Err(error);
                }
            }
            self
        }

        /// Any property of librdkafka, such as `security.protocol`. It goes last, so it wins over
        /// what kRPC sets.
        pub fn property(mut self, name: &str, value: &str) -> Self {
            if let Ok(config) = &mut self.config {
                config.transport.properties.push((name.to_owned(), value.to_owned()));
            }
            self
        }
    };
}
pub(crate) use security::security_settings;
pub(crate) use shared_settings;

#[cfg(test)]
mod tests;
