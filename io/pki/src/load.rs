//! Using: an identity read from its three files, and the rustls configurations made of it.

use crate::{Error, Issued};
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};
use std::{path::Path, sync::Arc};

/// The list of certificates that the CA has revoked lies beside its certificate, under this name.
const REVOKED: &str = "crl.pem";

/// One party's certificate and key with the CA that its peers must come from.
pub struct Identity {
    roots: Arc<RootCertStore>,
    /// What the CA has revoked; peers' certificates are not looked up where there is no list.
    revoked: Vec<CertificateRevocationListDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` of a folder (Docker's own file names), and `crl.pem` where there is one.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        Self::read_files(&folder.join("ca.pem"), &folder.join("cert.pem"), &folder.join("key.pem"))
    }

    /// Reads the three files wherever they are, and `crl.pem` beside the CA's certificate where there is one.
    pub fn read_files(ca: &Path, cert: &Path, key: &Path) -> Result<Self, Error> {
        let identity = Self::from_pem(&file(ca)?, &file(cert)?, &file(key)?)?;
        let doing = "read the list of revoked certificates";
        let list = osier_store::read(&ca.with_file_name(REVOKED)).map_err(Error::new(doing))?;
        match list {
            Some(list) => identity.refusing(&list),
            None => Ok(identity),
        }
    }

    /// Refuses the certificates that a list of the CA names, in PEM (RFC 5280 §5).
    pub fn refusing(mut self, list: &[u8]) -> Result<Self, Error> {
        let lists = CertificateRevocationListDer::pem_slice_iter(list).collect::<Result<_, _>>();
        self.revoked = lists.map_err(|e| Error::new("read the list of revoked certificates")(format!("{e:?}")))?;
        Ok(self)
    }

    /// Takes an identity just issued.
    pub fn from_issued(ca_pem: &str, issued: &Issued) -> Result<Self, Error> {
        Self::from_pem(ca_pem.as_bytes(), issued.cert_pem.as_bytes(), issued.key_pem.as_bytes())
    }

    fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, "the CA's certificate")? {
            roots.add(root).map_err(Error::new("trust the CA's certificate"))?;
        }
        let (chain, key) = (certificates(cert, "the certificate")?, self::key(key)?);
        Ok(Self { roots: Arc::new(roots), revoked: Vec::new(), chain, key })
    }

    /// A server that speaks only to clients with a certificate of this CA.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let doing = "set up mutual TLS as a server";
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .with_crls(self.revoked.clone())
            .only_check_end_entity_revocation();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::new(doing))?
            .with_client_cert_verifier(verifier.build().map_err(Error::new(doing))?)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(Error::new(doing))?;
        Ok(Arc::new(config))
    }

    /// A client that shows its certificate and speaks only to servers of this CA.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let doing = "set up mutual TLS as a client";
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider())
            .with_crls(self.revoked.clone())
            .only_check_end_entity_revocation();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::new(doing))?
            .with_webpki_verifier(verifier.build().map_err(Error::new(doing))?)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(Error::new(doing))?;
        Ok(Arc::new(config))
    }
}

/// The contents of a file that must be there.
pub(crate) fn file(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = osier_store::read(path).map_err(|e| Error::new("read the TLS files")(Box::new(e)))?;
    bytes.ok_or_else(|| Error::new("read the TLS files")(format!("there is no '{}'", path.display())))
}

/// All certificates of a PEM file; `what` they are is for messages.
pub(crate) fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let list = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    list.map_err(|e| Error::new(format!("read {what}"))(format!("{e:?}")))
}

/// The private key of a PEM file.
pub(crate) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| Error::new("read the key")(format!("{e:?}")))
}

/// AES with 128 bits first, as Go has it: it is what every TLS 1.3 must speak (RFC 8446 §9.1), and images pass through two
/// of these connections.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use crate::{Authority, Identity, Issued, Subject, days_left, serial};
    use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};
    use std::sync::Arc;
    use time::{Duration, OffsetDateTime};

    fn subject(name: &str) -> Subject {
        Subject { name: name.into(), dns: vec![name.into()], addresses: vec![[127, 0, 0, 1].into()] }
    }

    /// Runs a handshake in memory.
    fn handshake(client: &Identity, server: &Identity) -> Result<(), rustls::Error> {
        let name = ServerName::try_from("node").unwrap();
        let mut c = ClientConnection::new(client.client().unwrap(), name).unwrap();
        let mut s = ServerConnection::new(Arc::clone(&server.server().unwrap())).unwrap();
        while c.is_handshaking() || s.is_handshaking() {
            let mut wire = Vec::new();
            while c.wants_write() {
                c.write_tls(&mut wire).unwrap();
            }
            s.read_tls(&mut wire.as_slice()).unwrap();
            s.process_new_packets()?;
            let mut wire = Vec::new();
            while s.wants_write() {
                s.write_tls(&mut wire).unwrap();
            }
            c.read_tls(&mut wire.as_slice()).unwrap();
            c.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_revoked_certificate_is_refused_by_whoever_has_the_list() {
        let now = OffsetDateTime::now_utc();
        let ours = Authority::create("ours", now).unwrap();
        let (left, stays) = (ours.issue(&subject("node"), now).unwrap(), ours.issue(&subject("node"), now).unwrap());
        let identity = |issued: &Issued| Identity::from_issued(ours.cert_pem(), issued).unwrap();
        let list = ours.revoke(&[serial(&left.cert_pem).unwrap()], now).unwrap();
        let informed = || identity(&stays).refusing(list.as_bytes()).unwrap();
        assert!(handshake(&identity(&left), &identity(&stays)).is_ok(), "nobody has told it");
        assert!(handshake(&identity(&left), &informed()).is_err(), "as a client");
        assert!(handshake(&informed(), &identity(&left)).is_err(), "as a server");
        assert!(handshake(&identity(&stays), &informed()).is_ok() && handshake(&informed(), &identity(&stays)).is_ok());
        // The list of another CA says nothing about ours, so nobody can be let in by it.
        let other = Authority::create("other", now).unwrap().revoke(&[], now).unwrap();
        let misled = identity(&stays).refusing(other.as_bytes()).unwrap();
        assert!(handshake(&identity(&stays), &misled).is_err());
        assert!(identity(&stays).refusing(b"-----BEGIN X509 CRL-----\n!\n").is_err());
    }

    #[test]
    fn only_valid_certificates_of_the_same_ca_meet() {
        let now = OffsetDateTime::now_utc();
        let ours = Authority::create("ours", now).unwrap();
        let other = Authority::create("other", now).unwrap();
        let identity = |ca: &Authority, name| {
            Identity::from_issued(ca.cert_pem(), &ca.issue(&subject(name), now).unwrap()).unwrap()
        };
        let node = identity(&ours, "node");
        assert!(handshake(&identity(&ours, "client"), &node).is_ok());
        assert!(handshake(&identity(&other, "client"), &node).is_err());
        let stale = ours.issue_until(&subject("client"), now, now - Duration::hours(1)).unwrap();
        assert!(handshake(&Identity::from_issued(ours.cert_pem(), &stale).unwrap(), &node).is_err());
        assert!(handshake(&identity(&ours, "client"), &identity(&ours, "elsewhere")).is_err(), "wrong server name");
    }

    #[test]
    fn a_ca_survives_its_files_and_says_when_leaves_end() {
        let now = OffsetDateTime::now_utc();
        let made = Authority::create("c", now).unwrap();
        let again = Authority::load(made.cert_pem().into(), made.key_pem().into()).unwrap();
        let issued = again.issue(&subject("node"), now).unwrap();
        assert!((729..=730).contains(&days_left(&issued.cert_pem, now).unwrap()));
        assert!(Authority::load("nonsense".into(), made.key_pem().into()).is_err());
    }
}
