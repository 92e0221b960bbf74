//! Where to ask: what `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say, read as the docker command line
//! reads them.

use osier_engine::{BoxError, Client, resolve};
use osier_pki::Identity;
use std::path::{Path, PathBuf};

/// The port that a `tcp://` host without one has.
const PORT: u16 = 2375;

/// One Docker endpoint.
#[derive(Debug, Clone)]
pub struct Host {
    url: String,
    certificates: Option<PathBuf>,
    client: Client,
}

/// The endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `unix://` nor `tcp://`.
    #[error("understand the host '{0}': it is neither unix:// nor tcp://")]
    Scheme(String),
    /// The address leads nowhere.
    #[error("find the host '{url}'")]
    Address {
        /// The host.
        url: String,
        /// Why.
        source: BoxError,
    },
    /// The TLS files are of no use.
    #[error("set up TLS for '{url}'")]
    Tls {
        /// The host.
        url: String,
        /// Why.
        source: BoxError,
    },
}

impl Host {
    /// Reads a host as `DOCKER_HOST` has it. With `certificates`, a folder of `ca.pem`, `cert.pem` and `key.pem`,
    /// connections over TCP use mutual TLS.
    pub async fn open(url: &str, certificates: Option<&Path>) -> Result<Self, OpenError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let client = match scheme {
            "unix" => Client::unix(rest),
            "tcp" => {
                let (name, port) = match rest.trim_end_matches('/').rsplit_once(':') {
                    Some((name, port)) => (name, port.parse().map_err(|_| OpenError::Scheme(url.to_owned()))?),
                    None => (rest, PORT),
                };
                let address = resolve(name, port).await;
                let address = address.map_err(|source| OpenError::Address { url: url.to_owned(), source })?;
                match certificates {
                    Some(folder) => {
                        let bad = |source: BoxError| OpenError::Tls { url: url.to_owned(), source };
                        let file = |name| folder.join(name);
                        let identity = Identity::read_files(&file("ca.pem"), &file("cert.pem"), &file("key.pem"));
                        let config = identity.and_then(|i| i.client()).map_err(|e| bad(e.into()))?;
                        Client::tls(address, name, config).map_err(|e| bad(e.into()))?
                    }
                    None => Client::tcp(address),
                }
            }
            _ => return Err(OpenError::Scheme(url.to_owned())),
        };
        Ok(Self { url: url.to_owned(), certificates: certificates.map(Path::to_path_buf), client })
    }

    /// The host as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What tells another client to ask this host. (`DOCKER_TLS_VERIFY` counts as set when it is empty for some clients,
    /// so it is there only with TLS.)
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("DOCKER_HOST", self.url.clone())];
        if let Some(folder) = &self.certificates {
            all.push(("DOCKER_TLS_VERIFY", "1".to_owned()));
            all.push(("DOCKER_CERT_PATH", folder.display().to_string()));
        }
        all
    }
}
