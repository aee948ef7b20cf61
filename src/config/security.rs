//! TLS and SASL towards the brokers, from text and from code.

use std::path::PathBuf;

use krpc_core::transport::{Mechanism, Secret};

use super::{KNOBS, sealing};

/// A file's name; an empty one is none.
#[expect(clippy::unnecessary_wraps, reason = "every setting is read by such a function")]
pub(super) fn file(value: &str) -> Result<Option<PathBuf>, String> {
    Ok((!value.is_empty()).then(|| PathBuf::from(value)))
}

/// How brokers are shown who comes.
pub(super) fn mechanism(value: &str) -> Result<Option<Mechanism>, String> {
    match value {
        "none" => Ok(None),
        "plain" => Ok(Some(Mechanism::Plain)),
        "scram-sha-256" => Ok(Some(Mechanism::ScramSha256)),
        "scram-sha-512" => Ok(Some(Mechanism::ScramSha512)),
        "oauthbearer" => Ok(Some(Mechanism::OAuthBearer)),
        _ => Err("none, plain, scram-sha-256, scram-sha-512 or oauthbearer".to_owned()),
    }
}

/// A text that is not shown.
pub(super) fn secret(value: &str) -> Result<Secret, String> {
    match value.is_empty() {
        true => Err("at least one character".to_owned()),
        false => Ok(Secret::new(value)),
    }
}

/// A value as errors may show it, of any name: that of no setting may be a misspelt password's, and
/// a key may stand where a file of keys should.
pub(super) fn shown(name: &str, value: &str) -> String {
    let is_secret = match KNOBS.iter().any(|knob| knob.name == name) {
        true => name.ends_with("_PASSWORD") || name.starts_with(sealing::SEAL),
        false => ["PAS", "SECRET", "KEY", "TOKEN"].iter().any(|word| name.contains(word)),
    };
    if is_secret { "***".to_owned() } else { value.to_owned() }
}

/// TLS and SASL, as methods of the builders of channels and servers.
macro_rules! security_settings {
    () => {
        /// Encrypts the connections to the brokers, which must show a certificate that somebody
        /// vouches for whom the system trusts. Default no; needs the feature `tls` or
        /// `tls-vendored`. `memory:` and `embedded:` have nothing to protect.
        pub fn tls(self) -> Self {
            self.secure(|security| security.tls = true)
        }

        /// As [`tls`](Self::tls), with the certificates of a PEM file in place of the system's.
        pub fn tls_ca_file(self, file: impl Into<std::path::PathBuf>) -> Self {
            self.tls().secure(|security| security.ca_file = Some(file.into()))
        }

        /// As [`tls`](Self::tls), and shows the brokers a certificate of our own: two PEM files.
        pub fn tls_identity(
            self,
            certificate: impl Into<std::path::PathBuf>,
            key: impl Into<std::path::PathBuf>,
        ) -> Self {
            self.tls().secure(|security| {
                security.cert_file = Some(certificate.into());
                security.key_file = Some(key.into());
            })
        }

        /// Shows the brokers who comes, by name and password. SCRAM needs the feature `tls` or
        /// `tls-vendored`, for its arithmetic, with and without [`tls`](Self::tls).
        pub fn sasl(self, mechanism: crate::Mechanism, username: &str, password: &str) -> Self {
            self.secure(|security| {
                security.sasl = Some(mechanism);
                username.clone_into(&mut security.username);
                security.password = Some(crate::Secret::new(password));
                security.password_file = None;
            })
        }

        /// Shows the brokers who comes, by tokens of somebody else's. They are fetched on a thread
        /// of their own, in time before the last one expires. Needs the feature `tls` or
        /// `tls-vendored`.
        pub fn oauth_bearer(self, tokens: impl crate::TokenProvider) -> Self {
            self.secure(|security| {
                security.sasl = Some(crate::Mechanism::OAuthBearer);
                security.tokens = Some(krpc_core::transport::Tokens::new(tokens));
            })
        }

        fn secure(mut self, change: impl FnOnce(&mut krpc_core::transport::Security)) -> Self {
            if let Ok(config) = &mut self.config {
                change(&mut config.transport.security);
            }
            self
        }
    };
}
pub(crate) use security_settings;
