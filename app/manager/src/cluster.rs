//! All engines as one: who is a member, which engine a container is on, and where the next one goes.

use crate::{
    engine::{Container, Engine, Target, follow},
    hub::{Engines, Hub},
    picture::{Marker, Picture, Seen},
    placing::Reservations,
    refusal::Refusal,
};
use http::StatusCode;
use osier_dockerapi::names::{Candidate, Resolution, resolve};
use osier_nodes::Availability;
use osier_scheduler::Policy;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
};
use time::OffsetDateTime;
use tokio::task::AbortHandle;

/// Execs whose engine is remembered.
const EXECS: usize = 10_000;

/// The cluster.
pub struct Cluster {
    pub(crate) hub: Arc<Hub>,
    pub(crate) policy: Policy,
    members: RwLock<BTreeMap<Target, Member>>,
    picture: Mutex<Picture>,
    pub(crate) reservations: Reservations,
    execs: Mutex<Execs>,
    unseen: Mutex<HashMap<String, Unseen>>,
}

/// A container whose engine said that it made it, and then nothing more of it.
struct Unseen {
    engine: Weak<Engine>,
    made: OffsetDateTime,
}

impl Unseen {
    /// The engine, as long as it has not been read since.
    fn unread(&self) -> Option<Arc<Engine>> {
        self.engine.upgrade().filter(|engine| !engine.is_healthy() || engine.view().updated <= self.made)
    }
}

struct Member {
    engine: Arc<Engine>,
    following: AbortHandle,
}

#[derive(Default)]
struct Execs {
    engines: HashMap<String, Weak<Engine>>,
    order: VecDeque<String>,
}

impl Cluster {
    /// An empty cluster, whose engines are reached and followed like this.
    pub fn new(engines: impl Into<Engines>, policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            hub: Arc::new(Hub::new(engines.into())),
            policy,
            members: RwLock::default(),
            picture: Mutex::default(),
            reservations: Reservations::default(),
            execs: Mutex::default(),
            unseen: Mutex::default(),
        })
    }

    /// Takes the whole list of engines: new ones are followed, those no longer listed are let go.
    pub fn set_members(&self, targets: BTreeSet<Target>) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.retain(|target, member| {
            let stays = targets.contains(target);
            if !stays {
                member.following.abort();
                self.hub.release(&member.engine);
                self.hub.announce(&member.engine, "engine_disconnect");
            }
            stays
        });
        for target in targets {
            members.entry(target).or_insert_with_key(|target| {
                let marker = Marker::new(&self.hub.changes);
                let engine = Engine::new(target.clone(), self.hub.refresh, self.policy.cpu_shares_as_cpus, marker);
                let following = tokio::spawn(follow(engine.clone(), self.hub.clone())).abort_handle();
                Member { engine, following }
            });
        }
        let engines: Vec<Arc<Engine>> = members.values().map(|m| m.engine.clone()).collect();
        self.picture.lock().unwrap_or_else(PoisonError::into_inner).set_members(&engines);
    }

    /// What is known of all engines now.
    pub(crate) fn picture(&self) -> MutexGuard<'_, Picture> {
        let mut picture = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        picture.refresh(&self.hub.changes);
        picture
    }

    /// What is known of each engine now, in the order of their addresses.
    pub(crate) fn nodes(&self) -> Arc<Vec<Arc<Seen>>> {
        self.picture().nodes()
    }

    /// The members that answer.
    pub(crate) fn answering(&self) -> BTreeSet<Target> {
        self.engines().iter().filter(|e| e.is_healthy()).map(|e| e.target.clone()).collect()
    }

    /// Marks those that discovery no longer lists, and nobody else.
    pub(crate) fn set_leaving(&self, leaving: &BTreeSet<Target>) {
        self.engines().iter().for_each(|e| e.set_leaving(leaving.contains(&e.target)));
    }

    /// Ends what clients have open and what would not end: events, logs that are followed, statistics.
    pub fn end_streams(&self) {
        self.hub.close();
    }

    /// Has the engine of this node looked at now, because something else says that its state changed.
    pub fn suspect(&self, node: &str) {
        self.engines().iter().filter(|e| e.name() == node).for_each(|e| e.suspect());
    }

    /// All engines, in the order of their addresses.
    pub(crate) fn engines(&self) -> Vec<Arc<Engine>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.values().map(|m| m.engine.clone()).collect()
    }

    /// The engines that answer, in the order of their names.
    pub(crate) fn healthy(&self) -> Vec<Arc<Engine>> {
        let nodes = self.nodes();
        let mut healthy: Vec<&Arc<Seen>> = nodes.iter().filter(|s| s.healthy).collect();
        healthy.sort_by(|a, b| a.name.cmp(&b.name));
        healthy.into_iter().map(|s| s.engine.clone()).collect()
    }

    /// Any engine that answers, one that takes work if there is one; always the same while it does.
    pub(crate) fn any_healthy(&self) -> Result<Arc<Engine>, Refusal> {
        let none = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "No healthy node available in the cluster");
        let (said, nodes) = (self.hub.state.read(), self.nodes());
        let healthy = nodes.iter().filter(|s| s.healthy);
        let best = healthy.min_by(|a, b| {
            let order = |s: &Seen| said.availability(&s.name);
            order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name))
        });
        best.map(|s| s.engine.clone()).ok_or_else(none)
    }

    /// The engines that get what every node is to have, in the order of their names: those that answer and are not
    /// drained. A cordoned node is kept as it is to be when it is active again.
    pub(crate) fn supplied(&self) -> Result<Vec<Arc<Engine>>, Refusal> {
        self.any_healthy()?;
        let said = self.hub.state.read();
        let mut engines = self.healthy();
        engines.retain(|e| said.availability(&e.name()) != Availability::Drained);
        let none = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "All healthy nodes are drained");
        if engines.is_empty() { Err(none()) } else { Ok(engines) }
    }

    /// The engine of this node.
    pub(crate) fn node(&self, name: &str) -> Option<Arc<Engine>> {
        self.nodes().iter().find(|s| s.name == name).map(|s| s.engine.clone())
    }

    /// Whether a node has this name.
    pub(crate) fn is_node(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// The container that a word means, and its engine.
    pub(crate) fn container(&self, word: &str) -> Result<(Arc<Engine>, Arc<Container>), Refusal> {
        let hits = self.containers_like(word);
        let candidates = hits.iter().map(|(seen, container)| Candidate {
            key: (&seen.engine, container),
            node: &seen.name,
            id: &container.row.id,
            names: &container.row.names,
        });
        match resolve(word, candidates) {
            Resolution::Found((engine, container)) => Ok((engine.clone(), container.clone())),
            Resolution::Missing => Err(self.unseen(word)),
            Resolution::Ambiguous(all) => {
                Err(Refusal::bad_request(format!("'{word}' is ambiguous, it may be {}", all.join(" or "))))
            }
        }
    }

    /// Why there is no container of this id.
    fn unseen(&self, id: &str) -> Refusal {
        let unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner).get(id).and_then(Unseen::unread);
        let Some(engine) = unseen else { return Refusal::not_found(format!("No such container: {id}")) };
        let message = format!("Container {id} was made on node {}, which was lost then", engine.name());
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Remembers that this engine made a container and could not be asked about it.
    pub(crate) fn remember_unseen(&self, id: &str, engine: &Arc<Engine>) {
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.retain(|_, other| other.unread().is_some());
        unseen.insert(id.to_owned(), Unseen { engine: Arc::downgrade(engine), made: OffsetDateTime::now_utc() });
    }

    /// The container that a word means, on an engine that answers. One that was lost a moment ago is waited for.
    pub(crate) async fn reachable(&self, word: &str) -> Result<(Arc<Engine>, Arc<Container>), Refusal> {
        let (engine, container) = self.container(word)?;
        if engine.is_back().await {
            return Ok((engine, container));
        }
        let why = engine.view().error();
        let message = format!("Container {word} running on unhealthy node {}: {why}", engine.name());
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
    }

    /// The containers that a word may mean, with their nodes.
    pub(crate) fn containers_like(&self, word: &str) -> Vec<(Arc<Seen>, Arc<Container>)> {
        self.picture().like(word.strip_prefix('/').unwrap_or(word))
    }

    /// Remembers which engine has an exec.
    pub(crate) fn remember_exec(&self, id: &str, engine: &Arc<Engine>) {
        let mut execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        if execs.engines.insert(id.to_owned(), Arc::downgrade(engine)).is_none() {
            execs.order.push_back(id.to_owned());
        }
        while execs.order.len() > EXECS {
            if let Some(oldest) = execs.order.pop_front() {
                execs.engines.remove(&oldest);
            }
        }
    }

    /// The engine that has an exec, if it was made here.
    pub(crate) fn exec(&self, id: &str) -> Option<Arc<Engine>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner).engines.get(id)?.upgrade()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let members = self.members.get_mut().unwrap_or_else(PoisonError::into_inner);
        members.values().for_each(|m| m.following.abort());
    }
}
