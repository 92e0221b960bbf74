//! The table of endpoints and its file, so that a restarted agent knows which ports belong to containers that are still
//! running.

use osier_endpoints::{Idle, Table};
use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use tracing::{info, warn};

/// The table and its file.
pub(crate) struct Endpoints {
    path: PathBuf,
    table: Mutex<Table>,
    /// By the time since they were read.
    idle: Mutex<Idle>,
    began: Instant,
}

impl Endpoints {
    /// Reads the table; one that is damaged is an error, since starting empty would cut running containers off.
    pub(crate) fn open(path: PathBuf) -> Result<Self, osier_store::Error> {
        let table = osier_store::read_state(&path)?.unwrap_or_default();
        Ok(Self { path, table: Mutex::new(table), idle: Mutex::default(), began: Instant::now() })
    }

    /// The table as it is now.
    pub(crate) fn read(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table and writes it before anybody can act on the change. On a failed write nothing has changed.
    pub(crate) fn change<T>(&self, edit: impl FnOnce(&mut Table) -> T) -> Result<T, osier_store::Error> {
        let mut table = self.read();
        let mut next = table.clone();
        let result = edit(&mut next);
        if next != *table {
            tokio::task::block_in_place(|| osier_store::write_state(&self.path, &next, osier_store::PUBLIC))?;
            *table = next;
        }
        Ok(result)
    }

    /// Forgets what has been in no container for longer than a start takes.
    pub(crate) fn forget_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let left = idle.look(&self.read(), self.began.elapsed());
        if left.is_empty() {
            return;
        }
        info!(?left, "forgetting endpoints that are in no container");
        if let Err(error) = self.change(|table| table.forget(&left)) {
            warn!(error = crate::plugin::chain(&error), "cannot forget endpoints that are in no container");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_endpoints::{Endpoint, mac_of};
    use std::net::Ipv4Addr;

    #[test]
    fn the_table_survives_a_restart_and_a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.json");
        let endpoints = Endpoints::open(path.clone()).unwrap();
        let address = Ipv4Addr::new(10, 1, 1, 3);
        let endpoint = Endpoint { network: "n".into(), address, mac: mac_of(address), sandbox: Some("/s".into()) };
        endpoints.change(|t| t.endpoints.insert("e".into(), endpoint.clone())).unwrap();
        assert_eq!(Endpoints::open(path.clone()).unwrap().read().endpoints["e"], endpoint);
        std::fs::write(&path, "{").unwrap();
        assert!(Endpoints::open(path).is_err());
    }
}
