//! Using: an identity read from its three files, and the rustls configurations made of it.

use crate::{Error, Issued};
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{path::Path, sync::Arc};

/// One party's certificate and key with the CA that its peers must come from.
pub struct Identity {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` of a folder (Docker's own file names).
    pub fn read(folder: &Path) -> Result<Self, Error> {
        Self::read_files(&folder.join("ca.pem"), &folder.join("cert.pem"), &folder.join("key.pem"))
    }

    /// Reads the three files wherever they are.
    pub fn read_files(ca: &Path, cert: &Path, key: &Path) -> Result<Self, Error> {
        Self::from_pem(&file(ca)?, &file(cert)?, &file(key)?)
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
        Ok(Self { roots: Arc::new(roots), chain: certificates(cert, "the certificate")?, key: self::key(key)? })
    }

    /// A server that speaks only to clients with a certificate of this CA.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let doing = "set up mutual TLS as a server";
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider());
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
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider());
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
    use crate::{Authority, Identity, Subject, days_left};
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
