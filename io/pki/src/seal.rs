//! Statements that the cluster's CA signs: made on the operator's machine, checked on every node by the CA's certificate.

use crate::{Authority, Error, load::provider};
use rcgen::{KeyPair, SigningKey};
use rustls::SignatureScheme;
use std::path::Path;

/// What the CA signs with (its key is ECDSA P-256).
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

impl Authority {
    /// The CA's signature of these bytes. Whoever signs must see to it that they cannot be taken for anything else that
    /// this key signs, such as a certificate.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let key = KeyPair::from_pem(self.key_pem()).map_err(Error::new("read the CA's key"))?;
        key.sign(bytes).map_err(Error::new("sign with the CA's key"))
    }
}

/// The public key of a CA.
pub struct Verifier {
    key: Vec<u8>,
}

impl Verifier {
    /// The first certificate of a PEM file.
    pub fn read(ca: &Path) -> Result<Self, Error> {
        Self::from_pem(&crate::load::file(ca)?)
    }

    /// The first certificate of a PEM text.
    pub fn from_pem(ca: &[u8]) -> Result<Self, Error> {
        let doing = "read the CA's public key";
        let (_, pem) = x509_parser::pem::parse_x509_pem(ca).map_err(Error::new(doing))?;
        let certificate = pem.parse_x509().map_err(Error::new(doing))?;
        Ok(Self { key: certificate.public_key().subject_public_key.data.to_vec() })
    }

    /// Whether the CA signed these bytes.
    pub fn is_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let provider = provider();
        let known = provider.signature_verification_algorithms.mapping.iter().find(|(scheme, _)| *scheme == SCHEME);
        let mut algorithms = known.into_iter().flat_map(|(_, algorithms)| algorithms.iter());
        algorithms.any(|algorithm| algorithm.verify_signature(&self.key, bytes, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    #[test]
    fn what_the_ca_signed_is_known_from_what_it_did_not() {
        let now = OffsetDateTime::now_utc();
        let (ours, other) = (Authority::create("a", now).unwrap(), Authority::create("a", now).unwrap());
        let verifier = Verifier::from_pem(ours.cert_pem().as_bytes()).unwrap();
        let signature = ours.sign(b"node 1 belongs").unwrap();
        assert!(verifier.is_signed(b"node 1 belongs", &signature));
        assert!(!verifier.is_signed(b"node 2 belongs", &signature));
        assert!(!verifier.is_signed(b"node 1 belongs", &other.sign(b"node 1 belongs").unwrap()));
        assert!(!verifier.is_signed(b"node 1 belongs", &signature[1..]) && !verifier.is_signed(b"", b""));
        // A CA that was read again from its files signs the same.
        let again = Authority::load(ours.cert_pem().to_owned(), ours.key_pem().to_owned()).unwrap();
        assert!(verifier.is_signed(b"x", &again.sign(b"x").unwrap()));
        assert!(Verifier::from_pem(b"-----BEGIN CERTIFICATE-----\n").is_err());
    }
}
