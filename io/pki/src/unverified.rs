//! TLS with less than mutual trust: classic Swarm's `--tls`, which encrypts and verifies nobody, and services on the
//! internet, which are verified but ask for no certificate.

use crate::{Error, load};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::{path::Path, sync::Arc};

/// A certificate with its key, and nobody to trust.
pub struct KeyPair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl KeyPair {
    /// Reads the two files.
    pub fn read_files(cert: &Path, key: &Path) -> Result<Self, Error> {
        let chain = load::certificates(&load::file(cert)?, "the certificate")?;
        Ok(Self { chain, key: load::key(&load::file(key)?)? })
    }

    /// A server that asks its clients for no certificate.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let doing = "set up TLS as a server";
        let config = ServerConfig::builder_with_provider(load::provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::new(doing))?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(Error::new(doing))?;
        Ok(Arc::new(config))
    }

    /// A client that shows its certificate and speaks to anybody.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let doing = "set up TLS as a client";
        let config = ClientConfig::builder_with_provider(load::provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::new(doing))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(load::provider())))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(Error::new(doing))?;
        Ok(Arc::new(config))
    }
}

/// A client that shows no certificate and speaks to servers of the CAs in this file (PEM, any number of them).
pub fn public_client(bundle: &Path) -> Result<Arc<ClientConfig>, Error> {
    let doing = "set up TLS as a client";
    let mut roots = RootCertStore::empty();
    // Old bundles hold certificates that no current library takes; the others are enough.
    let (added, _) = roots.add_parsable_certificates(load::certificates(&load::file(bundle)?, "the trusted CAs")?);
    if added == 0 {
        return Err(Error::new(doing)(format!("there is no certificate in '{}'", bundle.display())));
    }
    let config = ClientConfig::builder_with_provider(load::provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::new(doing))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes every certificate, but still wants proof that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Subject};
    use rustls::{ClientConnection, ServerConnection};
    use time::OffsetDateTime;

    fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        let mut client = ClientConnection::new(client, ServerName::try_from("node").unwrap()).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            server.read_tls(&mut there.as_slice()).unwrap();
            server.process_new_packets()?;
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            client.read_tls(&mut back.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_key_pair_meets_anybody_and_a_public_client_only_who_its_cas_vouch_for() {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let pair = |ca: &Authority, name: &str| {
            let subject = Subject { name: name.into(), dns: vec![name.into()], addresses: Vec::new() };
            let issued = ca.issue(&subject, now).unwrap();
            let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
            std::fs::write(&cert, issued.cert_pem).unwrap();
            std::fs::write(&key, issued.key_pem).unwrap();
            KeyPair::read_files(&cert, &key).unwrap()
        };
        let (ours, other) = (Authority::create("ours", now).unwrap(), Authority::create("other", now).unwrap());
        let bundle = folder.path().join("bundle");
        std::fs::write(&bundle, format!("{}\n{}", ours.cert_pem(), other.cert_pem())).unwrap();
        let node = pair(&ours, "node");
        assert!(handshake(pair(&other, "elsewhere").client().unwrap(), node.server().unwrap()).is_ok());
        assert!(handshake(public_client(&bundle).unwrap(), node.server().unwrap()).is_ok());
        let elsewhere = pair(&ours, "elsewhere");
        assert!(handshake(public_client(&bundle).unwrap(), elsewhere.server().unwrap()).is_err(), "wrong name");
        std::fs::write(&bundle, other.cert_pem()).unwrap();
        assert!(handshake(public_client(&bundle).unwrap(), node.server().unwrap()).is_err(), "not its CA");
        std::fs::write(&bundle, "").unwrap();
        assert!(public_client(&bundle).is_err());
    }
}
