//! Reading again what an engine's events say has changed, not too much at a time.

use super::{CallError, Engine};
use serde_json::Value;
use std::sync::Arc;
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::debug;

/// What is read of one engine at a time because of its events.
const PARALLEL: usize = 8;

/// Work beside an engine's event stream. Only what makes the connection worthless is an error.
pub(super) type Reads = JoinSet<Result<(), CallError>>;

/// What is read again because an event says that it changed.
enum Stale {
    Container(String),
    Images,
    Networks,
}

impl Stale {
    async fn read(&self, engine: &Engine) {
        let read = match self {
            Self::Container(id) => engine.sync_container(id).await,
            Self::Images => engine.sync_images().await,
            Self::Networks => engine.sync_networks().await,
        };
        if let Err(error) = read {
            debug!(node = engine.name(), error = error.chain(), "cannot follow an event");
        }
    }
}

/// See the module.
pub(super) struct Reader {
    engine: Arc<Engine>,
    slots: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, slots: Arc::new(Semaphore::new(PARALLEL)) }
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
            ("container", _) => self.spawn(reads, Stale::Container(id.to_owned())),
            ("network", _) => {
                self.spawn(reads, Stale::Networks);
                if let Some(container) = event["Actor"]["Attributes"]["container"].as_str() {
                    self.spawn(reads, Stale::Container(container.to_owned()));
                }
            }
            _ => {}
        }
    }

    fn spawn(&self, reads: &mut Reads, stale: Stale) {
        let (engine, slots) = (self.engine.clone(), self.slots.clone());
        reads.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire_owned().await;
            stale.read(&engine).await;
            Ok(())
        });
    }
}
