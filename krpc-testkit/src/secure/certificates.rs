//! Certificates, made on the spot: an authority of one's own, and what it vouches for.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::Error;

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now, and for long.
    Now,
    /// Not any more.
    Expired,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Somebody who makes certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, which vouches for itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there can be no such certificate.
    pub fn new(name: &str) -> Result<Self, Error> {
        let make = || {
            let mut params = params(name, Validity::Now, Vec::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?.pem();
            Ok(Self { certificate, issuer: Issuer::new(params, key) })
        };
        make().map_err(refused)
    }

    /// Its own certificate, as PEM: what those trust who trust it.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a host or a client of this name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be in a certificate.
    pub fn issue(&self, name: &str, validity: Validity) -> Result<Identity, Error> {
        let make = || {
            let mut params = params(name, validity, vec![name.to_owned()])?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?.pem();
            Ok(Identity { certificate, key: key.serialize_pem() })
        };
        make().map_err(refused)
    }
}

fn params(
    name: &str,
    validity: Validity,
    hosts: Vec<String>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = match validity {
        Validity::Now => date_time_ymd(2100, 1, 1),
        Validity::Expired => date_time_ymd(2001, 1, 1),
    };
    Ok(params)
}

fn refused(error: rcgen::Error) -> Error {
    Error::Invalid(format!("there can be no such certificate: {error}"))
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
