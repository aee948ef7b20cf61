//! A look of our own at certificates. Of a broker's that is no good, librdkafka says only that it
//! could not be verified; here the verification is made once more, for the reason.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use krpc_core::error::TlsFault;
use openssl::{
    asn1::Asn1Time,
    ssl::{HandshakeError, SslConnector, SslMethod},
    x509::X509,
};
use rdkafka::ClientConfig;

use super::CA_LOCATION;

/// How long each step of a look may take.
const LIMIT: Duration = Duration::from_secs(1);

// Reasons of OpenSSL's, as its manual of `X509_STORE_CTX_get_error` numbers them.
const NO_ISSUER: [i32; 6] = [2, 18, 19, 20, 21, 27];
const NOT_YET_VALID: i32 = 9;
const EXPIRED: i32 = 10;
const HOST_MISMATCH: i32 = 62;
const ADDRESS_MISMATCH: i32 = 64;

/// When a certificate is valid, if that is not now.
pub(super) fn validity(pem: &[u8]) -> Option<String> {
    // What is no certificate is left for librdkafka to refuse.
    let certificate = X509::from_pem(pem).ok()?;
    let now = Asn1Time::days_from_now(0).ok()?;
    let (from, to) = (certificate.not_before(), certificate.not_after());
    let is_good = from <= now && now <= to;
    (!is_good).then(|| format!("from {from} to {to}"))
}

/// What is wrong with the certificate of the first broker that shows one which is no good.
pub(super) fn look(client: &ClientConfig) -> TlsFault {
    let brokers = client.get("bootstrap.servers").unwrap_or_default();
    brokers.split(',').find_map(|broker| look_at(client, broker)).unwrap_or(TlsFault::Other)
}

fn look_at(client: &ClientConfig, broker: &str) -> Option<TlsFault> {
    let (host, _) = broker.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let connect = |address| TcpStream::connect_timeout(&address, LIMIT).ok();
    let stream = broker.to_socket_addrs().ok()?.find_map(connect)?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    match (client.get(CA_LOCATION), client.get("ssl.ca.pem")) {
        (Some("probe"), _) | (None, None) => connector.set_default_verify_paths().ok()?,
        (Some(file), _) => connector.set_ca_file(file).ok()?,
        (None, Some(pem)) => {
            for certificate in X509::stack_from_pem(pem.as_bytes()).ok()? {
                connector.cert_store_mut().add_cert(certificate).ok()?;
            }
        }
    }
    let checks_host = client.get("ssl.endpoint.identification.algorithm") != Some("none");
    let connection = connector.build().configure().ok()?.verify_hostname(checks_host);
    match connection.connect(host, stream) {
        Err(HandshakeError::Failure(broken)) => fault(broken.ssl().verify_result().as_raw()),
        _ => None,
    }
}

fn fault(reason: i32) -> Option<TlsFault> {
    match reason {
        0 => None,
        EXPIRED | NOT_YET_VALID => Some(TlsFault::Expired),
        HOST_MISMATCH | ADDRESS_MISMATCH => Some(TlsFault::WrongHost),
        reason if NO_ISSUER.contains(&reason) => Some(TlsFault::UnknownAuthority),
        _ => Some(TlsFault::Other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use krpc_testkit::{Authority, Validity};

    use super::validity;

    #[test]
    fn a_certificate_that_has_expired_is_told_from_one_that_has_not() {
        let authority = Authority::new("here").unwrap();
        let of = |validity| authority.issue("alice", validity).unwrap().certificate;
        assert_eq!(validity(of(Validity::Now).as_bytes()), None);
        let told = validity(of(Validity::Expired).as_bytes()).unwrap();
        assert!(told.contains("2001"), "{told}");
        assert_eq!(validity(b"no certificate"), None);
    }
}
