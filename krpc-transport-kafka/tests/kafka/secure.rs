//! A Kafka with TLS, SASL and rules: who belongs there comes in, and who does not is told why, in
//! time.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use krpc_core::{
    error::{SetupError, TlsFault},
    transport::{BearerToken, Endpoint, Mechanism, Secret, Security, Tokens, TransportConfig},
};
use krpc_testkit::{Authority, Door, Identity, Kafka, Validity};
use krpc_transport_kafka::{KafkaEndpoint, acl};

use crate::support::{Driver, answerer, caller, config, service};

/// Who is there, by the same word as name and password.
const USERS: [&str; 4] = ["caller", "answerer", "somebody", "stranger"];

/// No failure takes longer to be told; the connect timeout is not waited for.
const SOON: Duration = Duration::from_secs(15);

/// A closed Kafka, for all tests that need one.
pub(crate) fn kafka() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| {
        let users = USERS.map(|name| (name, name));
        Kafka::builder().secure(&users).start().unwrap()
    })
}

/// Comes as this user, over TLS.
pub(crate) fn as_user(name: &str) -> Security {
    Security {
        sasl: Some(Mechanism::ScramSha512),
        username: name.to_owned(),
        password: Some(Secret::new(name)),
        ..tls()
    }
}

fn tls() -> Security {
    Security { tls: true, ca_file: Some(kafka().ca_file().unwrap()), ..Security::default() }
}

/// An endpoint behind a door, with small topics and a minute to connect.
pub(crate) fn endpoint(door: Door, security: Security) -> Result<KafkaEndpoint, SetupError> {
    let connect_timeout = Duration::from_secs(60);
    let config = TransportConfig { security, connect_timeout, ..config() };
    KafkaEndpoint::new(&kafka().door(door).unwrap(), config)
}

/// Allows all that a client and a server of this service need, to one user.
fn allow_all(service: &str, user: &str) {
    let config = config();
    for rules in [acl::client(&config, service, user), acl::server(&config, service, user)] {
        kafka().add_rules(&rules.to_string()).unwrap();
    }
}

/// Comes in, as a client and as a server, and a call arrives.
async fn comes_in(endpoint: &KafkaEndpoint, user: &str) {
    let name = service("secure");
    allow_all(&name, user);
    let client = caller(endpoint, &name).await;
    let server = answerer(endpoint, &name).await;
    client.call(0, "x", 1);
    server.driver.until("arrived", |seen| seen.texts() == ["x"]).await;
    client.transport.close().await;
    server.transport.close().await;
}

/// What a client is told that tries to come in, which must be soon.
async fn told(endpoint: Result<KafkaEndpoint, SetupError>) -> SetupError {
    let started = Instant::now();
    let told = async {
        let client = endpoint?.client(Arc::new(Driver::default()))?;
        let reached = client.reach().await;
        client.close().await;
        reached
    };
    let error = told.await.unwrap_err();
    assert!(started.elapsed() < SOON, "{:?}: {error}", started.elapsed());
    error
}

fn fault(error: SetupError) -> TlsFault {
    match error {
        SetupError::Tls { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

fn is_not_believed(error: &SetupError) {
    assert!(matches!(error, SetupError::Authentication { .. }), "{error}");
    assert!(!error.to_string().contains("wrong-one"), "{error}");
}

/// Certificate and key as files, which go with the folder.
fn files(identity: &Identity) -> (tempfile::TempDir, Security) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> Option<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    let cert_file = write("cert.pem", &identity.certificate);
    let key_file = write("key.pem", &identity.key);
    (folder, Security { cert_file, key_file, ..tls() })
}

#[tokio::test]
async fn users_come_in_by_scram_and_by_password() {
    for door in [Door::SaslTls, Door::Sasl] {
        for mechanism in [Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::Plain] {
            let user = Security { sasl: Some(mechanism), ..as_user("somebody") };
            let user = match door {
                Door::Sasl => Security { tls: false, ca_file: None, ..user },
                _ => user,
            };
            comes_in(&endpoint(door, user).unwrap(), "somebody").await;
        }
    }
}

#[tokio::test]
async fn a_client_certificate_opens() {
    let identity = kafka().authority().unwrap().issue("certified", Validity::Now).unwrap();
    let (_folder, security) = files(&identity);
    comes_in(&endpoint(Door::Tls, security).unwrap(), "certified").await;
}

#[tokio::test]
async fn a_password_may_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "somebody\n").unwrap();
    let password_file = Some(file.path().to_owned());
    let user = Security { password: None, password_file, ..as_user("somebody") };
    comes_in(&endpoint(Door::SaslTls, user).unwrap(), "somebody").await;
}

/// A token without a signature, as the broker takes them here.
fn unsigned(principal: &str) -> BearerToken {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let expires = now + 600;
    let claims = format!(r#"{{"sub":"{principal}","iat":{now},"exp":{expires}}}"#);
    let token = format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(claims.as_bytes()));
    BearerToken {
        token: Secret::new(token),
        principal: principal.to_owned(),
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(expires),
    }
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| word << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..=chunk.len() {
            text.push(char::from(DIGITS[word >> (18 - 6 * at) & 63]));
        }
    }
    text
}

fn bearer(tokens: Tokens) -> Security {
    Security { sasl: Some(Mechanism::OAuthBearer), tokens: Some(tokens), ..tls() }
}

#[tokio::test]
async fn a_token_opens() {
    let security = bearer(Tokens::new(|| Ok(unsigned("tokened"))));
    comes_in(&endpoint(Door::SaslTls, security).unwrap(), "tokened").await;
}

#[tokio::test]
async fn a_provider_without_a_token_is_told() {
    let security = bearer(Tokens::new(|| Err("the issuer is on holiday".into())));
    let error = told(endpoint(Door::SaslTls, security)).await;
    is_not_believed(&error);
    assert!(error.to_string().contains("on holiday"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    for mechanism in [Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::Plain] {
        let password = Some(Secret::new("wrong-one"));
        let user = Security { sasl: Some(mechanism), password, ..as_user("somebody") };
        is_not_believed(&told(endpoint(Door::SaslTls, user)).await);
    }
}

#[tokio::test]
async fn a_broker_whose_certificate_is_no_good_is_told_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.pem");
    fs::write(&other, Authority::new("elsewhere").unwrap().certificate()).unwrap();
    let wrong = Security { ca_file: Some(other), ..as_user("somebody") };
    let error = told(endpoint(Door::SaslTls, wrong)).await;
    assert_eq!(fault(error), TlsFault::UnknownAuthority);
    let error = told(endpoint(Door::Expired, as_user("somebody"))).await;
    assert_eq!(fault(error), TlsFault::Expired);
    let error = told(endpoint(Door::Misnamed, as_user("somebody"))).await;
    assert_eq!(fault(error), TlsFault::WrongHost);
}

#[tokio::test]
async fn a_certificate_of_ours_that_is_no_good_is_told() {
    let expired = kafka().authority().unwrap().issue("certified", Validity::Expired).unwrap();
    let (_folder, security) = files(&expired);
    assert_eq!(fault(endpoint(Door::Tls, security).unwrap_err()), TlsFault::OwnExpired);
    let foreign = Authority::new("elsewhere").unwrap().issue("certified", Validity::Now).unwrap();
    let (_folder, security) = files(&foreign);
    assert_eq!(fault(told(endpoint(Door::Tls, security)).await), TlsFault::OwnRefused);
    assert_eq!(fault(told(endpoint(Door::Tls, tls())).await), TlsFault::OwnRefused);
}

#[tokio::test]
async fn a_stranger_gets_nowhere() {
    let name = service("stranger");
    let endpoint = endpoint(Door::SaslTls, as_user("stranger")).unwrap();
    let started = Instant::now();
    let client = endpoint.client(Arc::new(Driver::default())).unwrap();
    let told = client.open(0, &name, 0).await.map(drop);
    assert!(matches!(told, Err(SetupError::Unauthorized { .. })), "{told:?}");
    client.close().await;
    let server = endpoint.server(Arc::new(Driver::default())).unwrap();
    let told = server.open(0, &name).await.map(drop);
    assert!(matches!(told, Err(SetupError::Unauthorized { .. })), "{told:?}");
    server.close().await;
    assert!(started.elapsed() < SOON * 2);
    // Nor who does not say who it is.
    let config = TransportConfig { connect_timeout: Duration::from_secs(2), ..config() };
    let nobody = KafkaEndpoint::new(&kafka().door(Door::SaslTls).unwrap(), config).unwrap();
    let client = nobody.client(Arc::new(Driver::default())).unwrap();
    let reached = client.reach().await;
    assert!(matches!(reached, Err(SetupError::Unreachable { .. })), "{reached:?}");
    client.close().await;
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "no certificate").unwrap();
    let ca_file = Some(file.path().to_owned());
    let endpoint = endpoint(Door::SaslTls, Security { ca_file, ..as_user("somebody") }).unwrap();
    let error = endpoint.client(Arc::new(Driver::default())).map(drop).unwrap_err();
    let SetupError::InvalidConfig { name, .. } = &error else { panic!("{error}") };
    assert_eq!(name, "KRPC_TLS_CA_FILE");
}
