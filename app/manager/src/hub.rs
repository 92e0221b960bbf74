//! What all engines of a cluster share: how they are dialled, who has which name, and the stream of everybody's events.

use crate::engine::{Engine, Facts};
use bytes::Bytes;
use osier_dockerapi::event;
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use time::OffsetDateTime;
use tokio::sync::broadcast;

/// Events that a subscriber may be behind before it is cut off.
const EVENTS: usize = 10_000;

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

/// See the module.
pub(crate) struct Hub {
    /// How engines are dialled; without TLS where this is absent.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    events: broadcast::Sender<Arc<Event>>,
    /// Node names and engine ids in use, with the address of their engine.
    claims: Mutex<BTreeMap<Claim, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Name(String),
    Id(String),
}

impl Hub {
    pub(crate) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self { tls, events: broadcast::Sender::new(EVENTS), claims: Mutex::default() }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.events.receiver_count()
    }

    /// Hands an engine's event to everybody who listens.
    pub(crate) fn publish(&self, engine: &Engine, mut event: Value) {
        if self.subscribers() == 0 {
            return;
        }
        if let Some(facts) = engine.facts() {
            event::decorate(&mut event, &facts.owner, &facts.node);
        }
        // Nobody listening any more is no error.
        let _ = self.events.send(Arc::new(Event::new(event)));
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

    /// Lets an engine have its name and id, unless another one has them: two engines of one name could not be addressed,
    /// and one engine under two addresses would count twice.
    pub(crate) fn claim(&self, engine: &Engine, facts: &Facts) -> Result<(), String> {
        let address = engine.target.address();
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, id) = (Claim::Name(facts.owner.node.clone()), Claim::Id(facts.node.id.clone()));
        if let Some(other) = claims.get(&name).filter(|other| **other != address) {
            return Err(format!("the engine at {other} is called '{}' already", facts.owner.node));
        }
        if let Some(other) = claims.get(&id).filter(|other| **other != address && !facts.node.id.is_empty()) {
            return Err(format!("the engine at {other} has the same id {}", facts.node.id));
        }
        claims.retain(|_, holder| *holder != address);
        claims.extend([(name, address.clone()), (id, address)]);
        Ok(())
    }

    /// Frees what an engine that left had claimed.
    pub(crate) fn release(&self, engine: &Engine) {
        let address = engine.target.address();
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, holder| *holder != address);
    }
}
