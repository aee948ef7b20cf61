//! How to speak to brokers that are closed to strangers. No secret of it is ever shown: not in
//! debug output, not in an error.

use std::{error::Error, fmt, path::PathBuf, sync::Arc, time::SystemTime};

use crate::error::SetupError;

/// TLS and SASL towards the brokers; by default neither.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Connections are encrypted, and the brokers prove who they are.
    pub tls: bool,
    /// The certificates that are trusted, as PEM; none for the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate of our own, as PEM, for brokers that ask for one.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate, as PEM.
    pub key_file: Option<PathBuf>,
    /// How we prove who we are.
    pub sasl: Option<Mechanism>,
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file that holds the password; an end of line at its end is none of it.
    pub password_file: Option<PathBuf>,
    /// Where tokens come from, for [`Mechanism::OAuthBearer`].
    pub tokens: Option<Tokens>,
}

/// How a client proves to a broker who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mechanism {
    /// Name and password as they are: only together with TLS nobody else reads them.
    Plain,
    /// SCRAM-SHA-256: the password itself does not travel.
    ScramSha256,
    /// SCRAM-SHA-512: the password itself does not travel.
    ScramSha512,
    /// A token that somebody else vouches for, from a [`TokenProvider`].
    OAuthBearer,
}

impl Mechanism {
    /// The name that Kafka gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever must have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A token for [`Mechanism::OAuthBearer`].
#[derive(Clone, Debug)]
pub struct BearerToken {
    /// What is shown to the broker.
    pub token: Secret,
    /// Whom it stands for.
    pub principal: String,
    /// Until when it is valid; the next one is asked for when most of this time is over.
    pub expires: SystemTime,
}

/// Gets tokens for [`Mechanism::OAuthBearer`]. A closure may be one.
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is valid from now on. Called on a thread of its own, so it may block; an error
    /// is shown as it is, so it must not hold secrets, and another token is asked for soon.
    ///
    /// # Errors
    /// There is no token at present.
    fn token(&self) -> Result<BearerToken, Box<dyn Error + Send + Sync>>;
}

impl<F> TokenProvider for F
where
    F: Fn() -> Result<BearerToken, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
{
    fn token(&self) -> Result<BearerToken, Box<dyn Error + Send + Sync>> {
        self()
    }
}

/// A [`TokenProvider`], shared.
#[derive(Clone)]
pub struct Tokens(Arc<dyn TokenProvider>);

impl Tokens {
    /// Shares a provider.
    pub fn new(provider: impl TokenProvider) -> Self {
        Self(Arc::new(provider))
    }

    /// The provider.
    pub fn provider(&self) -> &dyn TokenProvider {
        &*self.0
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Security {
    /// Refuses settings that do not go together, by the names that they have in the environment.
    ///
    /// # Errors
    /// [`SetupError::InvalidConfig`].
    pub fn check(&self) -> Result<(), SetupError> {
        let invalid = |name: &str, value: &str, reason: &str| {
            Err(SetupError::InvalidConfig {
                name: name.to_owned(),
                value: value.to_owned(),
                reason: reason.to_owned(),
            })
        };
        let files = [
            ("KRPC_TLS_CA_FILE", &self.ca_file),
            ("KRPC_TLS_CERT_FILE", &self.cert_file),
            ("KRPC_TLS_KEY_FILE", &self.key_file),
        ];
        for (name, file) in files {
            if let (false, Some(file)) = (self.tls, file) {
                let reason = "it has no effect without KRPC_TLS=true";
                return invalid(name, &file.display().to_string(), reason);
            }
        }
        match (&self.cert_file, &self.key_file) {
            (Some(file), None) => {
                let reason = "a certificate needs its key: KRPC_TLS_KEY_FILE";
                return invalid("KRPC_TLS_CERT_FILE", &file.display().to_string(), reason);
            }
            (None, Some(file)) => {
                let reason = "a key needs its certificate: KRPC_TLS_CERT_FILE";
                return invalid("KRPC_TLS_KEY_FILE", &file.display().to_string(), reason);
            }
            _ => {}
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        if self.password.is_some() && self.password_file.is_some() {
            let reason = "give either KRPC_SASL_PASSWORD or KRPC_SASL_PASSWORD_FILE";
            return invalid("KRPC_SASL_PASSWORD", "***", reason);
        }
        match self.sasl {
            None if has_password || !self.username.is_empty() => {
                let reason = "who has a name and a password says how they are shown: plain, \
                              scram-sha-256 or scram-sha-512";
                invalid("KRPC_SASL", "none", reason)
            }
            Some(Mechanism::OAuthBearer) if self.tokens.is_none() => {
                let reason = "the program must say where tokens come from: oauth_bearer(…) of the \
                              builder";
                invalid("KRPC_SASL", "oauthbearer", reason)
            }
            None | Some(Mechanism::OAuthBearer) => Ok(()),
            Some(_) if self.username.is_empty() => {
                invalid("KRPC_SASL_USERNAME", "", "KRPC_SASL needs a name")
            }
            Some(_) if !has_password => {
                let reason = "KRPC_SASL needs a password, here or in KRPC_SASL_PASSWORD_FILE";
                invalid("KRPC_SASL_PASSWORD", "", reason)
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn refused(security: &Security) -> String {
        match security.check().unwrap_err() {
            SetupError::InvalidConfig { name, .. } => name,
            other => panic!("{other}"),
        }
    }

    fn user() -> Security {
        Security {
            sasl: Some(Mechanism::ScramSha512),
            username: "alice".to_owned(),
            password: Some(Secret::new("wonder")),
            ..Security::default()
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        assert!(Security::default().check().is_ok() && user().check().is_ok());
        let file = Some(PathBuf::from("x.pem"));
        let tls = Security { tls: true, ..Security::default() };
        let ca = Security { ca_file: file.clone(), ..Security::default() };
        assert_eq!(refused(&ca), "KRPC_TLS_CA_FILE");
        let half = Security { cert_file: file.clone(), ..tls.clone() };
        assert_eq!(refused(&half), "KRPC_TLS_CERT_FILE");
        let half = Security { key_file: file.clone(), ..tls };
        assert_eq!(refused(&half), "KRPC_TLS_KEY_FILE");
        assert_eq!(refused(&Security { sasl: None, ..user() }), "KRPC_SASL");
        assert_eq!(refused(&Security { username: String::new(), ..user() }), "KRPC_SASL_USERNAME");
        assert_eq!(refused(&Security { password: None, ..user() }), "KRPC_SASL_PASSWORD");
        assert_eq!(refused(&Security { password_file: file, ..user() }), "KRPC_SASL_PASSWORD");
        let bearer = Security { sasl: Some(Mechanism::OAuthBearer), ..Security::default() };
        assert_eq!(refused(&bearer), "KRPC_SASL");
    }

    #[test]
    fn secrets_are_not_shown() {
        let expires = SystemTime::UNIX_EPOCH;
        let token = BearerToken { token: Secret::new("wonder"), principal: "a".into(), expires };
        let shown = format!("{:?} {:?} {token:?}", user(), Tokens::new(|| Err("wonder".into())));
        assert!(shown.contains("alice") && !shown.contains("wonder"), "{shown}");
    }
}
