//! A broker that is closed to strangers: several doors, each with another lock, and nobody may
//! anything that no rule allows.
//!
//! The kit's own door, without a lock, stays [`Kafka::bootstrap`](crate::Kafka::bootstrap): who
//! comes through it is the super user. All other doors ask who comes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::During;
use crate::settings::Layout;
use crate::{Error, Kafka, ports};

use rules::Rule;

pub use certificates::{Authority, Identity, Validity};

mod certificates;
mod rules;

/// The name that the broker's certificates are made out to, and the doors are advertised with.
const HOST: &str = "localhost";

/// The mechanisms of all doors that ask for a name and something that proves it.
const MECHANISMS: &str = "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER";

const PREFIX: &str = "org.apache.kafka.common.security";

/// A door of a broker that is closed to strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// SASL over TLS: the mechanisms SCRAM-SHA-512, SCRAM-SHA-256, PLAIN and OAUTHBEARER.
    SaslTls,
    /// SASL without TLS, the same mechanisms.
    Sasl,
    /// TLS with a client certificate of the broker's authority, which says who comes: its common
    /// name.
    Tls,
    /// As [`Door::SaslTls`], with a certificate of the broker's that has expired.
    Expired,
    /// As [`Door::SaslTls`], with a certificate that is made out to another host.
    Misnamed,
}

impl Door {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::SaslTls, Self::Sasl, Self::Tls, Self::Expired, Self::Misnamed];

    const fn listener(self) -> &'static str {
        match self {
            Self::SaslTls => "SASLTLS",
            Self::Sasl => "SASL",
            Self::Tls => "TLS",
            Self::Expired => "EXPIRED",
            Self::Misnamed => "MISNAMED",
        }
    }

    const fn protocol(self) -> &'static str {
        match self {
            Self::Sasl => "SASL_PLAINTEXT",
            Self::Tls => "SSL",
            Self::SaslTls | Self::Expired | Self::Misnamed => "SASL_SSL",
        }
    }

    /// What its certificate is made out to, and whether it is still valid.
    const fn certificate(self) -> Option<(&'static str, Validity)> {
        match self {
            Self::Sasl => None,
            Self::SaslTls | Self::Tls => Some((HOST, Validity::Now)),
            Self::Expired => Some((HOST, Validity::Expired)),
            Self::Misnamed => Some(("elsewhere.example", Validity::Now)),
        }
    }
}

/// What all brokers of a closed cluster share.
#[derive(Debug)]
pub(crate) struct Secure {
    authority: Authority,
    users: Vec<(String, String)>,
    folder: PathBuf,
    /// The ports of each broker's doors, in the order of [`Door::ALL`].
    ports: Vec<Vec<u16>>,
}

impl Secure {
    /// Writes the certificates into a folder and finds ports.
    pub(crate) fn prepare(
        users: &[(String, String)],
        folder: &Path,
        brokers: usize,
    ) -> Result<Self, Error> {
        for (name, password) in users {
            let plain = |text: &str| {
                !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
            };
            if !plain(name) || !plain(password) {
                let message = "users and passwords are made of letters, digits and '-'";
                return Err(Error::Invalid(message.to_owned()));
            }
        }
        let authority = Authority::new("krpc-testkit")?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).during(|| format!("could not write {}", path.display()))
        };
        write("ca.pem", authority.certificate())?;
        for door in Door::ALL {
            if let Some((host, validity)) = door.certificate() {
                let Identity { certificate, key } = authority.issue(host, validity)?;
                write(&format!("{}.pem", door.listener()), &format!("{key}{certificate}"))?;
            }
        }
        let doors = |_| Door::ALL.iter().map(|_| ports::free_port()).collect();
        let ports = (0..brokers).map(doors).collect::<Result<_, _>>()?;
        Ok(Self { authority, users: users.to_vec(), folder: folder.to_owned(), ports })
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Gives every broker its doors; what a test chose still wins.
    pub(crate) fn lock(&self, layout: &mut Layout) {
        layout.doors = self.ports.iter().map(|ports| listeners(ports)).collect();
        for (key, value) in self.settings() {
            layout.chosen.entry(key).or_insert(value);
        }
    }

    /// What `kafka-storage format` is told of the users.
    pub(crate) fn scram(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (name, password) in &self.users {
            for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256"] {
                words.push("--add-scram".to_owned());
                words.push(format!("{mechanism}=[name={name},password={password}]"));
            }
        }
        words
    }

    /// The settings of every broker, beside its listeners.
    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
        let mut protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned();
        for door in Door::ALL {
            protocols = protocols + "," + door.listener() + ":" + door.protocol();
        }
        set("listener.security.protocol.map", protocols);
        let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
        set("authorizer.class.name", authorizer.to_owned());
        // Nobody else is anonymous: every other door asks who comes.
        set("super.users", "User:ANONYMOUS".to_owned());
        set("sasl.enabled.mechanisms", MECHANISMS.to_owned());
        set("ssl.keystore.type", "PEM".to_owned());
        set("ssl.truststore.type", "PEM".to_owned());
        set("ssl.truststore.location", self.ca_file().display().to_string());
        set("ssl.principal.mapping.rules", "RULE:^.*CN=([^,]*).*$/$1/,DEFAULT".to_owned());
        set("listener.name.tls.ssl.client.auth", "required".to_owned());
        for door in Door::ALL {
            let listener = format!("listener.name.{}", door.listener().to_lowercase());
            if door.certificate().is_some() {
                let store = self.folder.join(format!("{}.pem", door.listener()));
                set(&format!("{listener}.ssl.keystore.location"), store.display().to_string());
            }
            if door.protocol().starts_with("SASL") {
                for (mechanism, module) in self.modules() {
                    set(&format!("{listener}.{mechanism}.sasl.jaas.config"), module);
                }
            }
        }
        settings
    }

    fn modules(&self) -> [(&'static str, String); 4] {
        let scram = format!("{PREFIX}.scram.ScramLoginModule required;");
        let users = self.users.iter();
        let plain = users.fold(String::new(), |text, (name, password)| {
            text + &format!(" user_{name}=\"{password}\"")
        });
        let plain = format!("{PREFIX}.plain.PlainLoginModule required{plain};");
        // Takes tokens without a signature, as tests can make them.
        let bearer = format!(
            "{PREFIX}.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"broker\";"
        );
        [
            ("scram-sha-512", scram.clone()),
            ("scram-sha-256", scram),
            ("plain", plain),
            ("oauthbearer", bearer),
        ]
    }
}

/// The listeners of a broker whose doors have these ports, as `listeners` takes them.
fn listeners(ports: &[u16]) -> String {
    let doors = Door::ALL.iter().zip(ports);
    doors.fold(String::new(), |text, (door, port)| {
        text + "," + door.listener() + "://" + HOST + ":" + &port.to_string()
    })
}

/// What a cluster has that was started with [`Builder::secure`](crate::Builder::secure). Of any
/// other, all of these give [`Error::Invalid`].
impl Kafka {
    /// What clients connect to that come through this door: `localhost:p1,localhost:p2`.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn door(&self, door: Door) -> Result<String, Error> {
        let of_all = self.secure()?.ports.iter();
        let own = of_all.filter_map(|ports| {
            let (_, port) = Door::ALL.iter().zip(ports).find(|(other, _)| **other == door)?;
            Some(format!("{HOST}:{port}"))
        });
        Ok(own.collect::<Vec<_>>().join(","))
    }

    /// The file with the certificate of the brokers' authority, for clients to trust.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn ca_file(&self) -> Result<PathBuf, Error> {
        Ok(self.secure()?.ca_file())
    }

    /// Makes certificates that the brokers trust.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn authority(&self) -> Result<&Authority, Error> {
        Ok(&self.secure()?.authority)
    }

    /// Adds rules, each a command line of `kafka-acls.sh` with `--add`, `--allow-principal`, one
    /// `--operation` and one of `--topic`, `--group` and `--cluster`. They reach the brokers soon,
    /// those that were added first not later than others.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another line, or one that the broker refuses; [`Error::Io`].
    pub fn add_rules(&self, lines: &str) -> Result<(), Error> {
        self.secure()?;
        let rules = lines.lines().map(Rule::parse).collect::<Result<Vec<_>, _>>()?;
        rules::add(&rules, self.any_address())
    }

    /// Takes a rule away that [`add_rules`](Self::add_rules) made of the same line.
    ///
    /// # Errors
    /// As [`add_rules`](Self::add_rules), and [`Error::Invalid`] if there is no such rule.
    pub fn take_rule(&self, line: &str) -> Result<(), Error> {
        self.secure()?;
        Rule::parse(line)?.take(self.any_address())
    }

    fn any_address(&self) -> &str {
        self.bootstrap().split(',').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_door_has_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let users = [("alice".to_owned(), "wonder".to_owned())];
        let secure = Secure::prepare(&users, folder.path(), 1).unwrap();
        let settings = secure.settings();
        assert!(settings["listener.name.sasl.plain.sasl.jaas.config"].contains("user_alice"));
        assert!(!settings.contains_key("listener.name.sasl.ssl.keystore.location"));
        assert!(!settings.contains_key("listener.name.tls.plain.sasl.jaas.config"));
        let listeners = listeners(&[1, 2, 3, 4, 5]);
        assert!(listeners.starts_with(",SASLTLS://localhost:1,SASL://localhost:2"), "{listeners}");
        assert!(secure.scram()[1].ends_with("=[name=alice,password=wonder]"));
        let odd = [("alice".to_owned(), "w\"".to_owned())];
        assert!(matches!(Secure::prepare(&odd, folder.path(), 1), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_closed_broker_starts_and_takes_rules() {
        let kafka = Kafka::builder().secure(&[("alice", "wonder")]).start().unwrap();
        assert!(kafka.door(Door::SaslTls).unwrap().starts_with("localhost:"));
        assert!(kafka.ca_file().unwrap().is_file());
        let rule = "kafka-acls.sh --add --allow-principal User:alice --operation Read --topic x";
        kafka.add_rules(rule).unwrap();
        kafka.take_rule(rule).unwrap();
        assert!(matches!(kafka.take_rule(rule), Err(Error::Invalid(_))));
    }
}
