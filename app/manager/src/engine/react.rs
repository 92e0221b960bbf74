//! Reading again what an engine's events say has changed, not too much at a time. Events come in bursts, a start alone
//! brings three, and one reading asked for after the last of them shows what all of them did.

use super::{CallError, Engine};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::debug;

/// What is read of one engine at a time because of its events.
const PARALLEL: usize = 8;
/// How long a reading waits for the rest of a burst.
const BURST: Duration = Duration::from_millis(5);

/// Work beside an engine's event stream. Only what makes the connection worthless is an error.
pub(super) type Reads = JoinSet<Result<(), CallError>>;

/// What is read again because an event says that it changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Container(String),
    Images,
    Networks,
    Volumes,
}

impl Stale {
    /// Reads it, unless somebody asked the engine after `changed`.
    async fn read(&self, engine: &Engine, changed: Instant) {
        let read = match self {
            Self::Container(id) if engine.view().asked(id).is_some_and(|asked| asked > changed) => return,
            Self::Container(id) => engine.sync_container(id).await,
            Self::Images => engine.sync_images().await,
            Self::Networks => engine.sync_networks().await,
            Self::Volumes => engine.sync_volumes().await,
        };
        if let Err(error) = read {
            debug!(node = engine.name(), error = error.chain(), "cannot follow an event");
        }
    }
}

/// Readings that are due, and since when.
#[derive(Debug, Default)]
struct Backlog(Mutex<BTreeMap<Stale, Instant>>);

impl Backlog {
    /// Notes a change seen at `now`; false where a reading is due already.
    fn add(&self, stale: Stale, now: Instant) -> bool {
        self.due().insert(stale, now).is_none()
    }

    /// Takes a reading off, for whoever is about to do it; the moment of the last change it has to show.
    fn take(&self, stale: &Stale) -> Option<Instant> {
        self.due().remove(stale)
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<Stale, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(super) struct Reader {
    engine: Arc<Engine>,
    backlog: Arc<Backlog>,
    slots: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, backlog: Arc::default(), slots: Arc::new(Semaphore::new(PARALLEL)) }
    }

    pub(super) fn react(&self, event: &Value, reads: &mut Reads) {
        let action = event["Action"].as_str().unwrap_or_default();
        let action = action.split(':').next().unwrap_or_default();
        let id = event["Actor"]["ID"].as_str().unwrap_or_default();
        match (event["Type"].as_str().unwrap_or_default(), action) {
            ("container", "destroy") => self.engine.forget_container(id),
            (
                "container",
                "top" | "resize" | "attach" | "detach" | "export" | "copy" | "archive-path" | "extract-to-dir"
                | "exec_create" | "exec_start" | "exec_detach" | "exec_die",
            ) => {}
            ("container", "commit") | ("image" | "builder", _) => self.spawn(reads, Stale::Images),
            ("volume", "create" | "destroy" | "prune") => self.spawn(reads, Stale::Volumes),
            ("container", _) => self.spawn(reads, Stale::Container(id.to_owned())),
            ("network", "connect" | "disconnect") => {
                if let Some(container) = event["Actor"]["Attributes"]["container"].as_str() {
                    self.spawn(reads, Stale::Container(container.to_owned()));
                }
            }
            ("network", _) => self.spawn(reads, Stale::Networks),
            _ => {}
        }
    }

    fn spawn(&self, reads: &mut Reads, stale: Stale) {
        if !self.backlog.add(stale.clone(), Instant::now()) {
            return;
        }
        let (engine, backlog, slots) = (self.engine.clone(), self.backlog.clone(), self.slots.clone());
        reads.spawn(async move {
            tokio::time::sleep(BURST).await;
            // The semaphore is never closed.
            let _slot = slots.acquire_owned().await;
            if let Some(changed) = backlog.take(&stale) {
                stale.read(&engine, changed).await;
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_one_reading_that_shows_its_last_change() {
        let (backlog, stale) = (Backlog::default(), Stale::Container("a".into()));
        let (first, last) = (Instant::now(), Instant::now() + Duration::from_millis(1));
        assert!(backlog.add(stale.clone(), first) && !backlog.add(stale.clone(), last));
        assert!(backlog.add(Stale::Images, first), "another thing is another reading");
        assert_eq!((backlog.take(&stale), backlog.take(&stale)), (Some(last), None));
        assert!(backlog.add(stale, last), "a change after a reading began is due again");
    }
}
