//! What all engines of a cluster share: how they are dialled, who has which name, and the stream of everybody's events.

use crate::{engine::Engine, picture::Changes, replication::Role, state::State};
use bytes::Bytes;
use osier_dockerapi::event;
use osier_nodes::{Claims, Conflict, Identity, Refresh};
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, watch};

/// Events that a subscriber may be behind before it is cut off.
const EVENTS: usize = 10_000;
/// The last events, which are kept for whoever asks for the past: engines remember theirs, but by their own clocks, which
/// leave in doubt what happened just now.
const RECENT: usize = 1_000;

/// Engines that are read whole at the same time. A thousand at once would be no faster and take the memory of thousands
/// of connections.
const TURNS: usize = 64;
/// How long an engine waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// One event, as the cluster tells it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) value: Value,
    /// The same as JSON with a line end.
    pub(crate) bytes: Bytes,
}

impl Event {
    pub(crate) fn new(value: Value) -> Self {
        let bytes = format!("{value}\n").into();
        Self { value, bytes }
    }
}

/// How a cluster's engines are reached and followed, and where is kept what is known of them beside that.
pub struct Engines {
    /// How they are dialled; without TLS where this is absent.
    pub tls: Option<Arc<ClientConfig>>,
    /// How often they are looked at, and when one counts as lost.
    pub refresh: Refresh,
    /// What must outlive the manager.
    pub state: State,
}

impl From<Option<Arc<ClientConfig>>> for Engines {
    /// Engines that are followed as classic Swarm does by default, with a state that ends with the process.
    fn from(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls, refresh: Refresh::default(), state: State::in_memory() }
    }
}

/// See the module.
pub(crate) struct Hub {
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) refresh: Refresh,
    pub(crate) state: State,
    events: broadcast::Sender<Arc<Event>>,
    recent: Mutex<VecDeque<Arc<Event>>>,
    /// Which engines have changed since they were last looked at.
    pub(crate) changes: Arc<Changes>,
    claims: Mutex<Claims>,
    freed: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    turns: Semaphore,
    /// What this manager is to others, where there are others.
    role: OnceLock<watch::Receiver<Role>>,
}

impl Hub {
    pub(crate) fn new(engines: Engines) -> Self {
        let Engines { tls, refresh, state } = engines;
        Self {
            tls,
            refresh,
            state,
            events: broadcast::Sender::new(EVENTS),
            recent: Mutex::default(),
            changes: Arc::default(),
            claims: Mutex::default(),
            freed: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            turns: Semaphore::new(TURNS),
            role: OnceLock::new(),
        }
    }

    /// Whether this manager may change nodes of its own accord: of several, only the leader may.
    pub(crate) fn leads(&self) -> bool {
        self.role.get().is_none_or(|role| role.borrow().leads(Instant::now()))
    }

    /// Has this manager act only while it leads. To be said once, before any engine is followed.
    pub(crate) fn stand_behind(&self, role: watch::Receiver<Role>) {
        // A second role would be a second election, which nobody begins.
        let _ = self.role.set(role);
    }

    /// A turn to read all of an engine. Who waits too long goes without: engines that hang must not hold up the others.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(PATIENCE, self.turns.acquire()).await.ok()?.ok()
    }

    /// The last events, and all that come after them.
    pub(crate) fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), self.events.subscribe())
    }

    /// Ends every stream that has no end of its own, now and from now on.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Resolves when streams are to end.
    pub(crate) async fn closed(&self) {
        // An error would mean that the sender is gone, which `self` owns.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.events.receiver_count()
    }

    /// Hands an engine's event to everybody who listens.
    pub(crate) fn publish(&self, engine: &Engine, mut event: Value) {
        if let Some(facts) = engine.facts() {
            event::decorate(&mut event, &facts.owner, &facts.node);
        }
        let event = Arc::new(Event::new(event));
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // Under the same lock, so that a new subscriber gets each event either way and none both ways. Nobody listening
        // is no error.
        let _ = self.events.send(event);
    }

    /// Tells of a change of the cluster itself.
    pub(crate) fn announce(&self, engine: &Engine, action: &str) {
        let now = OffsetDateTime::now_utc();
        let nanos = i64::try_from(now.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        let event = json!({
            "status": action, "from": "swarm", "Type": "swarm", "Action": action, "Actor": {"ID": "", "Attributes": {}},
            "scope": "swarm", "time": now.unix_timestamp(), "timeNano": nanos,
        });
        self.publish(engine, event);
    }

    /// Lets a member be what it says it is, unless another one is. Gives back what it was before, if that was anything
    /// else. One that left is nothing any more: what it says comes too late.
    pub(crate) fn claim(&self, engine: &Engine, identity: Identity) -> Result<Option<Identity>, Conflict> {
        let former = {
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            if engine.has_left() {
                return Ok(None);
            }
            claims.claim(&engine.target.address(), identity)?
        };
        if former.is_some() {
            self.freed.send_modify(|n| *n += 1);
        }
        Ok(former)
    }

    /// Takes leave of an engine, whose name and id are free from now on.
    pub(crate) fn release(&self, engine: &Engine) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a claim that is under way comes before, and is released, or after, and is none.
        engine.leave();
        claims.release(&engine.target.address());
        drop(claims);
        self.freed.send_modify(|n| *n += 1);
    }

    /// Changes whenever a name or an id became free.
    pub(crate) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Target, picture::Marker};

    #[test]
    fn who_left_claims_nothing_any_more() {
        let hub = Hub::new(None.into());
        let engine = |host: &str| {
            let target = Target { name: None, host: host.into(), port: 1, server_name: host.into() };
            Engine::new(target, hub.refresh, false, Marker::new(&hub.changes))
        };
        let identity = || Identity { id: "id".into(), host: "n1".into(), name: "n1".into() };
        let [before, after] = [engine("10.0.0.1"), engine("n1")];
        assert_eq!(hub.claim(&before, identity()), Ok(None));
        assert!(hub.claim(&after, identity()).is_err(), "one engine is one member");
        hub.release(&before);
        // Its follower was reading who the engine is when it was let go.
        assert_eq!(hub.claim(&before, identity()), Ok(None));
        assert_eq!(hub.claim(&after, identity()), Ok(None));
    }
}
