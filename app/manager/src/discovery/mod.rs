//! Where the engines are: the services behind classic Swarm's discovery URLs, and the mesh that the local agent belongs to.

mod etcd;
mod follow;
mod mesh;
mod token;

pub(crate) use etcd::Folder;
pub(crate) use follow::{follow, follow_mesh};

use crate::{client::Place, engine::Target};
use etcd::EtcdRegistration;
use osier_discovery::{DiscoveryUrl, Entry, KeyValues, parse_file};
use osier_engine::BoxError;
use osier_model::Token;
use osier_pki::Identity;
use osier_ui::Failure;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use token::{TokenClient, TokenRegistration};

/// Finds the cluster of a token in this machine's own records.
pub(crate) type Places<'a> = &'a dyn Fn(&Token) -> Option<Place>;

/// A discovery service. Making one opens no connection.
pub(crate) enum Backend {
    /// A fixed list.
    Nodes(Vec<Entry>),
    /// A file with one entry per line.
    File(PathBuf),
    /// A token service.
    Token(Arc<TokenClient>),
    /// A folder of etcd.
    Etcd(Folder),
}

/// An engine's registration with a discovery service.
pub(crate) enum Registration {
    Impossible,
    Token(TokenRegistration),
    Etcd(EtcdRegistration),
}

/// The service keeps no register: whoever wants to be in the list has to write it.
#[derive(Debug, thiserror::Error)]
#[error("not implemented in this discovery service")]
struct NotImplemented;

impl Backend {
    /// The service that a URL means. `tls` is how engines are spoken to, which a token service may share.
    pub(crate) fn open(
        url: &str,
        options: &KeyValues,
        tls: Option<Arc<rustls::ClientConfig>>,
        places: Places<'_>,
    ) -> Result<Self, Failure> {
        let url = url.parse::<DiscoveryUrl>().map_err(Failure::usage)?;
        let own = client_tls(options)?;
        Ok(match url {
            DiscoveryUrl::Nodes(entries) => Self::Nodes(entries),
            DiscoveryUrl::File(path) => Self::File(path),
            DiscoveryUrl::Token(url) => {
                let place = places(&url.token);
                Self::Token(Arc::new(TokenClient::new(url, own.or(tls), place)?))
            }
            DiscoveryUrl::Etcd(url) => Self::Etcd(Folder::new(&url, options, own)),
        })
    }

    /// The engines, in the order that the service tells.
    pub(crate) async fn list(&self) -> Result<Vec<Entry>, BoxError> {
        match self {
            Self::Nodes(entries) => Ok(entries.clone()),
            Self::File(path) => read_file(path),
            Self::Token(client) => client.list().await,
            Self::Etcd(folder) => folder.list().await,
        }
    }

    /// Resolves when the list may have changed since it was last asked for.
    pub(crate) async fn changed(&self, heartbeat: Duration) -> Result<(), BoxError> {
        match self {
            Self::Nodes(_) => std::future::pending().await,
            Self::File(_) | Self::Token(_) => tokio::time::sleep(heartbeat).await,
            Self::Etcd(folder) => return folder.changed(heartbeat).await,
        }
        Ok(())
    }

    /// A registration of this engine, which lasts for `ttl` after each renewal. Nothing is registered yet.
    pub(crate) fn registration(&self, engine: &Entry, ttl: Duration) -> Registration {
        match self {
            Self::Nodes(_) | Self::File(_) => Registration::Impossible,
            Self::Token(client) => Registration::Token(TokenRegistration::new(client.clone(), engine, ttl)),
            Self::Etcd(folder) => Registration::Etcd(folder.registration(engine, ttl)),
        }
    }
}

impl Registration {
    /// Registers the engine, or registers it again.
    pub(crate) async fn renew(&mut self) -> Result<(), BoxError> {
        match self {
            Self::Impossible => Err(NotImplemented.into()),
            Self::Token(registration) => registration.renew().await,
            Self::Etcd(registration) => registration.renew().await,
        }
    }

    /// Takes the engine out of the list at once.
    pub(crate) async fn remove(self) -> Result<(), BoxError> {
        match self {
            Self::Impossible => Ok(()),
            Self::Token(registration) => registration.remove().await,
            Self::Etcd(registration) => registration.remove().await,
        }
    }
}

/// The certificates for discovery services, which go by three options.
fn client_tls(options: &KeyValues) -> Result<Option<Arc<rustls::ClientConfig>>, Failure> {
    let file = |key: &str| options.get(key).map(Path::new);
    match (file("kv.cacertfile"), file("kv.certfile"), file("kv.keyfile")) {
        (None, None, None) => Ok(None),
        (Some(ca), Some(cert), Some(key)) => {
            let config = Identity::read_files(ca, cert, key).and_then(|identity| identity.client());
            let failed = |e| Failure::usage(format!("{:#}", anyhow::Error::new(e).context("set up TLS for discovery")));
            config.map(Some).map_err(failed)
        }
        _ => Err(Failure::usage("kv.cacertfile, kv.certfile and kv.keyfile are needed together")),
    }
}

/// Reads a file of entries.
fn read_file(path: &Path) -> Result<Vec<Entry>, BoxError> {
    let bytes = osier_store::read(path)?.ok_or_else(|| format!("there is no file '{}'", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|e| format!("read '{}': {e}", path.display()))?;
    Ok(parse_file(&text).map_err(|e| format!("read '{}': {e}", path.display()))?)
}

/// The engine behind an entry.
fn target(entry: &Entry) -> Target {
    let host = entry.host().to_owned();
    Target { name: None, server_name: host.clone(), host, port: entry.port() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere(_: &Token) -> Option<Place> {
        None
    }

    #[tokio::test]
    async fn lists_and_files_are_read_and_take_no_registrations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes");
        std::fs::write(&path, "# all\n b:1 # first\n10.0.0.[8:9]:2\n").unwrap();
        let open = |url: &str| Backend::open(url, &KeyValues::default(), None, &nowhere);
        let file = open(&format!("file://{}", path.display())).unwrap();
        let listed: Vec<String> = file.list().await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(listed, ["b:1", "10.0.0.8:2", "10.0.0.9:2"]);
        let mut registration = file.registration(&"a:1".parse().unwrap(), Duration::from_secs(1));
        let refused = registration.renew().await.unwrap_err().to_string();
        assert_eq!(refused, "not implemented in this discovery service");
        for broken in [&b"a\n"[..], b"\xff"] {
            std::fs::write(&path, broken).unwrap();
            assert!(file.list().await.unwrap_err().to_string().contains("nodes"), "names the file");
        }
        assert!(open("a:1").unwrap().list().await.unwrap().len() == 1);
    }

    #[test]
    fn discoverys_certificates_come_together() {
        let open = |options: &[&str]| {
            let options = KeyValues::parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>()).unwrap();
            Backend::open("etcd://h:1", &options, None, &nowhere).map(drop).map_err(|f| f.message())
        };
        assert_eq!(open(&[]), Ok(()));
        assert!(open(&["kv.cacertfile=/x"]).unwrap_err().contains("needed together"));
        let missing = open(&["kv.cacertfile=/none", "kv.certfile=/none", "kv.keyfile=/none"]).unwrap_err();
        assert!(missing.contains("'/none'"), "{missing}");
    }
}
