//! Issuing: the CA itself, and the certificates it signs.

use crate::Error;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use std::net::IpAddr;
use time::{Duration, OffsetDateTime};

/// How long the CA is valid.
const CA_LIFE: Duration = Duration::days(20 * 365);
/// How long nodes' and clients' certificates are valid; `site` renews them in passing.
const LEAF_LIFE: Duration = Duration::days(2 * 365);
/// How far back validity begins, for hosts whose clocks are behind.
const BACKDATE: Duration = Duration::days(1);

/// The cluster's certificate authority with its private key; lives on the operator's machine only.
pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
    key_pem: String,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The common name.
    pub name: String,
    /// DNS names it may serve as.
    pub dns: Vec<String>,
    /// Addresses it may serve as.
    pub addresses: Vec<IpAddr>,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key: a secret.
    pub key_pem: String,
}

impl Authority {
    /// Makes a new CA for the cluster of this name.
    pub fn create(cluster: &str, now: OffsetDateTime) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::new("make the CA's key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("osier cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (now - BACKDATE, now + CA_LIFE);
        let cert = params.self_signed(&key).map_err(Error::new("sign the CA's certificate"))?;
        Self::load(cert.pem(), key.serialize_pem())
    }

    /// Takes up a CA made earlier.
    pub fn load(cert_pem: String, key_pem: String) -> Result<Self, Error> {
        let key = KeyPair::from_pem(&key_pem).map_err(Error::new("read the CA's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).map_err(Error::new("read the CA's certificate"))?;
        Ok(Self { cert_pem, issuer, key_pem })
    }

    /// The CA's certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The CA's private key, PEM: a secret.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Issues a certificate valid from a day before `now` for two years.
    pub fn issue(&self, subject: &Subject, now: OffsetDateTime) -> Result<Issued, Error> {
        self.issue_until(subject, now, now + LEAF_LIFE)
    }

    /// The list of certificates that are valid no more, by their [`serial`] numbers, in PEM (RFC 5280 §5). It holds until the
    /// next one takes its place; a longer list counts as the newer one.
    pub fn revoke(&self, serials: &[Vec<u8>], now: OffsetDateTime) -> Result<String, Error> {
        let doing = "sign the list of revoked certificates";
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: now,
            reason_code: Some(RevocationReason::CessationOfOperation),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - BACKDATE,
            next_update: now + CA_LIFE,
            crl_number: SerialNumber::from(serials.len() as u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(Error::new(doing))
    }

    /// Issues a certificate valid until `end` (for tests of expiry, and for short-lived clients).
    pub fn issue_until(&self, subject: &Subject, now: OffsetDateTime, end: OffsetDateTime) -> Result<Issued, Error> {
        let doing = || format!("issue a certificate for '{}'", subject.name);
        let key = KeyPair::generate().map_err(Error::new(doing()))?;
        let mut params = CertificateParams::new(subject.dns.clone()).map_err(Error::new(doing()))?;
        params.subject_alt_names.extend(subject.addresses.iter().map(|a| SanType::IpAddress(*a)));
        params.distinguished_name.push(DnType::CommonName, subject.name.clone());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = ((now - BACKDATE).min(end - BACKDATE), end);
        let cert = params.signed_by(&key, &self.issuer).map_err(Error::new(doing()))?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// The serial number of a PEM certificate.
pub fn serial(cert_pem: &str) -> Result<Vec<u8>, Error> {
    let doing = "read a certificate's serial number";
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).map_err(Error::new(doing))?;
    Ok(pem.parse_x509().map_err(Error::new(doing))?.raw_serial().to_vec())
}

/// How many whole days a PEM certificate stays valid after `now`; negative once it has expired.
pub fn days_left(cert_pem: &str, now: OffsetDateTime) -> Result<i64, Error> {
    let doing = "read a certificate's end";
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).map_err(Error::new(doing))?;
    let end = pem.parse_x509().map_err(Error::new(doing))?.validity().not_after.to_datetime();
    Ok((end - now).whole_days())
}
