//! The control connections of a node: which there are, what became of them, and one to send on.

use crate::connection::Connection;
use osier_model::PeerId;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::watch;

/// The control connection with one peer, for `status`.
#[derive(Debug, Clone)]
pub struct Link {
    /// The peer.
    pub peer: PeerId,
    /// The peer's end: what was dialled, or where it came from.
    pub address: SocketAddr,
    /// Whether this node dialled.
    pub outbound: bool,
    /// Whether messages flow.
    pub established: bool,
    /// Since when it has been established, or has not.
    pub since: Instant,
    /// Why it is not established, as far as known.
    pub error: Option<String>,
}

pub(crate) struct Links {
    entries: Mutex<Entries>,
    changed: watch::Sender<()>,
}

/// A link, and its connection while it is established.
type Entries = BTreeMap<PeerId, (Link, Option<Arc<Connection>>)>;

impl Links {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Lists a peer that this node is to dial.
    pub(crate) fn expect(&self, peer: PeerId, address: SocketAddr) {
        let link = Link { peer, address, outbound: true, established: false, since: Instant::now(), error: None };
        self.lock().insert(peer, (link, None));
    }

    /// Notes why dialling failed.
    pub(crate) fn failed(&self, peer: PeerId, error: String) {
        if let Some((link, None)) = self.lock().get_mut(&peer) {
            link.error = Some(error);
        }
    }

    /// Puts a new connection in the place of an older one, which is closed: its other end is gone, or it would not have
    /// connected anew.
    pub(crate) fn established(&self, peer: PeerId, address: SocketAddr, outbound: bool, connection: &Arc<Connection>) {
        let link = Link { peer, address, outbound, established: true, since: Instant::now(), error: None };
        let old = self.lock().insert(peer, (link, Some(Arc::clone(connection))));
        if let Some((_, Some(old))) = old {
            old.close();
        }
        self.changed.send_replace(());
    }

    /// Notes that a connection has ended, unless another has taken its place.
    pub(crate) fn ended(&self, peer: PeerId, connection: &Arc<Connection>, error: String) {
        let mut entries = self.lock();
        let Some((link, current)) = entries.get_mut(&peer) else { return };
        if !current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return;
        }
        if link.outbound {
            (link.established, link.since, link.error) = (false, Instant::now(), Some(error));
            *current = None;
        } else {
            entries.remove(&peer);
        }
    }

    pub(crate) fn list(&self) -> Vec<Link> {
        self.lock().values().map(|(link, _)| link.clone()).collect()
    }

    pub(crate) fn connected(&self) -> Vec<PeerId> {
        self.lock().iter().filter(|(_, (_, connection))| connection.is_some()).map(|(peer, _)| *peer).collect()
    }

    pub(crate) fn get(&self, peer: PeerId) -> Option<Arc<Connection>> {
        self.lock().get(&peer)?.1.clone()
    }

    pub(crate) fn last_error(&self, peer: PeerId) -> Option<String> {
        self.lock().get(&peer)?.0.error.clone()
    }

    /// Waits for a connection with a peer.
    pub(crate) async fn wait_for(&self, peer: PeerId) -> Arc<Connection> {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(connection) = self.get(peer) {
                return connection;
            }
            // The sender lives as long as this struct.
            let _ = changed.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
