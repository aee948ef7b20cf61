//! TLS and SASL towards the brokers: from kRPC's settings to librdkafka's properties, and from
//! librdkafka's words for a failure to a typed one.
//!
//! librdkafka goes on trying whatever the failure is. Of a wrong password or a certificate that
//! nobody vouches for, no further try makes a right one: whoever waits is told at once, unless he
//! wants to wait for ever.

use std::{fs, path::Path, sync::Arc};

use krpc_core::{
    error::{SetupError, TlsFault},
    transport::{Mechanism, Security},
};
use rdkafka::{ClientConfig, types::RDKafkaErrorCode};

pub(crate) use self::tokens::Keeper;
use crate::validate::invalid;

#[cfg(feature = "tls")]
mod tls;
mod tokens;

/// Whether librdkafka is built with OpenSSL: without, it can neither do TLS nor SCRAM.
const HAS_TLS: bool = cfg!(feature = "tls");

const SECURITY_PROTOCOL: &str = "security.protocol";
const CA_LOCATION: &str = "ssl.ca.location";
const CERTIFICATE_LOCATION: &str = "ssl.certificate.location";
const KEY_LOCATION: &str = "ssl.key.location";

/// What librdkafka's properties are called as settings.
const NAMES: [(&str, &str); 5] = [
    (CA_LOCATION, "KRPC_TLS_CA_FILE"),
    (CERTIFICATE_LOCATION, "KRPC_TLS_CERT_FILE"),
    (KEY_LOCATION, "KRPC_TLS_KEY_FILE"),
    ("sasl.username", "KRPC_SASL_USERNAME"),
    ("sasl.mechanism", "KRPC_SASL"),
];

/// Checked settings for TLS and SASL.
#[derive(Clone, Default)]
pub(crate) struct Secured {
    properties: Vec<(&'static str, String)>,
    /// Keeps the tokens of all clients of an endpoint.
    pub(crate) tokens: Option<Arc<Keeper>>,
}

/// What kept a client from speaking to a broker, that no further try will mend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The broker does not believe who we are.
    Authentication(String),
    /// No encrypted connection.
    Tls(String),
}

impl Secured {
    /// Checks what can be checked without a broker, and reads the files.
    pub(crate) fn new(bootstrap: &str, security: &Security) -> Result<Self, SetupError> {
        security.check()?;
        built_in(security, HAS_TLS)?;
        let files = [
            (CA_LOCATION, "KRPC_TLS_CA_FILE", &security.ca_file),
            (CERTIFICATE_LOCATION, "KRPC_TLS_CERT_FILE", &security.cert_file),
            (KEY_LOCATION, "KRPC_TLS_KEY_FILE", &security.key_file),
        ];
        let protocol = match (security.tls, security.sasl.is_some()) {
            (false, false) => return Ok(Self::default()),
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        let mut properties = vec![(SECURITY_PROTOCOL, protocol.to_owned())];
        for (property, name, file) in files {
            if let Some(file) = file {
                read(name, file)?;
                properties.push((property, file.display().to_string()));
            }
        }
        if let Some(file) = &security.cert_file {
            check_own(bootstrap, file)?;
        }
        if let Some(mechanism) = security.sasl {
            properties.push(("sasl.mechanism", mechanism.name().to_owned()));
            if mechanism != Mechanism::OAuthBearer {
                properties.push(("sasl.username", security.username.clone()));
                properties.push(("sasl.password", password(security)?));
            }
        }
        let tokens =
            security.tokens.clone().filter(|_| security.sasl == Some(Mechanism::OAuthBearer));
        let tokens = tokens.map(|tokens| Arc::new(Keeper::new(tokens)));
        Ok(Self { properties, tokens })
    }

    /// Sets what librdkafka is to know.
    pub(crate) fn apply(&self, client: &mut ClientConfig) {
        for (name, value) in &self.properties {
            client.set(*name, value);
        }
    }

    /// Which setting librdkafka means when it could not make a client, and its value.
    pub(crate) fn named(&self, reason: &str) -> Option<(&'static str, &str)> {
        let (property, value) = self.properties.iter().find(|(name, _)| reason.contains(name))?;
        let (_, name) = NAMES.iter().find(|(known, _)| known == property)?;
        Some((name, value))
    }
}

impl Fault {
    /// Which one an error of librdkafka's is, if any.
    pub(crate) fn of(code: Option<RDKafkaErrorCode>, reason: &str) -> Option<Self> {
        match code? {
            RDKafkaErrorCode::Authentication => Some(Self::Authentication(reason.to_owned())),
            RDKafkaErrorCode::SSL => Some(Self::Tls(reason.to_owned())),
            // A broker that refuses our certificate says so after the handshake (TLS 1.3).
            RDKafkaErrorCode::BrokerTransportFailure if is_alert(reason) => {
                Some(Self::Tls(reason.to_owned()))
            }
            _ => None,
        }
    }

    /// The error that it is, after a look of our own at what the brokers show.
    pub(crate) fn into_error(self, endpoint: &str, client: &ClientConfig) -> SetupError {
        let endpoint = endpoint.to_owned();
        match self {
            Self::Authentication(cause) => SetupError::Authentication { endpoint, cause },
            Self::Tls(cause) => {
                let fault = match is_alert(&cause) {
                    true => TlsFault::OwnRefused,
                    false => look(client),
                };
                SetupError::Tls { endpoint, fault, cause }
            }
        }
    }
}

/// Whether the other side has broken off for our certificate.
fn is_alert(reason: &str) -> bool {
    reason.contains("alert") && (reason.contains("certificate") || reason.contains("unknown ca"))
}

/// Refuses what librdkafka was built without.
fn built_in(security: &Security, has_tls: bool) -> Result<(), SetupError> {
    let reason = "this program was built without the feature `tls` of krpc (system OpenSSL) or \
                  `tls-vendored` (one that is built along)";
    match security.sasl {
        _ if has_tls => Ok(()),
        _ if security.tls => Err(invalid("KRPC_TLS", "true", reason)),
        None | Some(Mechanism::Plain) => Ok(()),
        Some(other) => Err(invalid("KRPC_SASL", &other.name().to_lowercase(), reason)),
    }
}

fn read(name: &str, file: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(file).map_err(|error| SetupError::InvalidConfig {
        name: name.to_owned(),
        // The file's name, whatever the setting's is.
        value: file.display().to_string(),
        reason: format!("it cannot be read: {error}"),
    })
}

fn password(security: &Security) -> Result<String, SetupError> {
    const FILE: &str = "KRPC_SASL_PASSWORD_FILE";
    let Some(file) = &security.password_file else {
        return Ok(security.password.as_ref().map_or("", |secret| secret.reveal()).to_owned());
    };
    let text = String::from_utf8(read(FILE, file)?).ok();
    let text = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    text.filter(|text| !text.is_empty()).ok_or_else(|| SetupError::InvalidConfig {
        name: FILE.to_owned(),
        value: file.display().to_string(),
        reason: "it holds no password: one line of UTF-8".to_owned(),
    })
}

/// Refuses a certificate of our own that has expired: brokers say only that they do not want it.
#[cfg(feature = "tls")]
fn check_own(bootstrap: &str, file: &Path) -> Result<(), SetupError> {
    let pem = read("KRPC_TLS_CERT_FILE", file)?;
    match tls::validity(&pem) {
        None => Ok(()),
        Some(times) => Err(SetupError::Tls {
            endpoint: bootstrap.to_owned(),
            fault: TlsFault::OwnExpired,
            cause: format!("{} is valid {times}", file.display()),
        }),
    }
}

#[cfg(not(feature = "tls"))]
fn check_own(_: &str, _: &Path) -> Result<(), SetupError> {
    Ok(())
}

/// What is wrong with the certificates that the brokers show.
#[cfg(feature = "tls")]
fn look(client: &ClientConfig) -> TlsFault {
    tls::look(client)
}

#[cfg(not(feature = "tls"))]
fn look(_: &ClientConfig) -> TlsFault {
    TlsFault::Other
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::path::PathBuf;

    use krpc_core::transport::Secret;

    use super::*;

    fn user(mechanism: Mechanism) -> Security {
        Security {
            sasl: Some(mechanism),
            username: "alice".to_owned(),
            password: Some(Secret::new("wonder")),
            ..Security::default()
        }
    }

    fn refused<T>(result: Result<T, SetupError>) -> (String, String, String) {
        match result.err().unwrap() {
            SetupError::InvalidConfig { name, value, reason } => (name, value, reason),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_needs_the_feature_names_it() {
        let tls = Security { tls: true, ..Security::default() };
        let cases = [
            (tls, "KRPC_TLS", "true"),
            (user(Mechanism::ScramSha512), "KRPC_SASL", "scram-sha-512"),
            (user(Mechanism::OAuthBearer), "KRPC_SASL", "oauthbearer"),
        ];
        for (security, setting, given) in cases {
            let (name, value, reason) = refused(built_in(&security, false));
            assert_eq!((name.as_str(), value.as_str()), (setting, given));
            assert!(reason.contains("`tls`") && reason.contains("`tls-vendored`"), "{reason}");
            assert!(built_in(&security, true).is_ok());
        }
        assert!(built_in(&user(Mechanism::Plain), false).is_ok());
    }

    #[test]
    fn a_name_and_a_password_need_no_feature() {
        let mut client = ClientConfig::new();
        Secured::new("b:1", &user(Mechanism::Plain)).unwrap().apply(&mut client);
        let expected = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "alice"),
            ("sasl.password", "wonder"),
        ];
        for (name, value) in expected {
            assert_eq!(client.get(name), Some(value));
        }
        assert!(client.create_native_config().is_ok());
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let file = PathBuf::from("no/such/file");
        let security = Security {
            password: None,
            password_file: Some(file.clone()),
            ..user(Mechanism::Plain)
        };
        let (name, value, _) = refused(Secured::new("b:1", &security).map(drop));
        assert_eq!((name.as_str(), value.as_str()), ("KRPC_SASL_PASSWORD_FILE", "no/such/file"));
    }

    #[test]
    fn only_what_no_try_mends_is_a_fault() {
        let of = Fault::of;
        assert!(of(Some(RDKafkaErrorCode::Authentication), "x").is_some());
        assert!(of(Some(RDKafkaErrorCode::SSL), "x").is_some());
        let transport = Some(RDKafkaErrorCode::BrokerTransportFailure);
        assert!(of(transport, "connection refused").is_none());
        assert!(of(transport, "ssl/tls alert certificate unknown").is_some());
        assert!(of(None, "x").is_none());
    }
}
