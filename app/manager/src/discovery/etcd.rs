//! Engines registered in etcd: one key for each below a folder, its value `host:port`, under a lease that `join` keeps
//! alive (classic Swarm's layout, which had it in etcd's v2 keys).

use osier_discovery::{Entry, EtcdUrl, KeyValues, parse_list};
use osier_engine::BoxError;
use osier_etcd::{Error, Etcd, Lease};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// Where the engines' folder lies unless `kv.path` says otherwise.
const NODES: &str = "docker/swarm/nodes";

/// The folder of one cluster's engines.
pub(crate) struct Folder {
    /// The etcd cluster that it is in.
    pub(crate) etcd: Arc<Etcd>,
    /// The key of the leading manager.
    pub(crate) leader: String,
    keys: String,
    /// The revision of the last listing.
    seen: AtomicI64,
}

impl Folder {
    pub(crate) fn new(url: &EtcdUrl, options: &KeyValues, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let keys = url.nodes(options.get("kv.path").unwrap_or(NODES));
        let etcd = Arc::new(Etcd::new(url.endpoints.clone(), tls));
        Self { etcd, leader: url.leader(), keys, seen: AtomicI64::new(0) }
    }

    pub(crate) async fn list(&self) -> Result<Vec<Entry>, BoxError> {
        let listing = self.etcd.list(&self.keys).await.map_err(chain)?;
        self.seen.store(listing.revision, Ordering::Relaxed);
        let values = listing.entries.iter().map(|entry| entry.value.as_str());
        Ok(parse_list(values).map_err(|e| format!("read the engines below {}: {e}", self.keys))?)
    }

    /// Resolves when etcd tells of a change since the last listing, and after a heartbeat in any case: a member that is cut
    /// off from the others would never tell.
    pub(crate) async fn changed(&self, heartbeat: Duration) -> Result<(), BoxError> {
        let change = self.etcd.changed(&self.keys, self.seen.load(Ordering::Relaxed));
        match tokio::time::timeout(heartbeat, change).await {
            Ok(changed) => Ok(changed.map_err(chain)?),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn registration(&self, engine: &Entry, ttl: Duration) -> EtcdRegistration {
        let value = engine.to_string();
        EtcdRegistration { etcd: self.etcd.clone(), key: format!("{}{value}", self.keys), value, ttl, lease: None }
    }
}

/// An engine's key.
pub(crate) struct EtcdRegistration {
    etcd: Arc<Etcd>,
    key: String,
    value: String,
    ttl: Duration,
    lease: Option<Lease>,
}

impl EtcdRegistration {
    pub(crate) async fn renew(&mut self) -> Result<(), BoxError> {
        let alive = match self.lease {
            Some(lease) if self.etcd.keep_alive(lease).await.map_err(chain)? => lease,
            _ => self.etcd.grant(self.ttl).await.map_err(chain)?,
        };
        self.lease = Some(alive);
        // Somebody may have removed the key, and etcd may have been set back; but a key that is there is not put again,
        // which would wake every manager that watches.
        let stands = self.etcd.get(&self.key).await.map_err(chain)?;
        if !stands.entries.iter().any(|entry| entry.is_under(alive) && entry.value == self.value) {
            self.etcd.put(&self.key, &self.value, alive).await.map_err(chain)?;
        }
        Ok(())
    }

    pub(crate) async fn remove(self) -> Result<(), BoxError> {
        match self.lease {
            Some(lease) => Ok(self.etcd.revoke(lease).await.map_err(chain)?),
            None => Ok(()),
        }
    }
}

fn chain(error: Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
