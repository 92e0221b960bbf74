//! All engines as one: who is a member, which engine a container is on, and where the next one goes.

use crate::{
    engine::{Container, Engine, Target, follow},
    hub::{Engines, Hub},
    refusal::Refusal,
};
use http::StatusCode;
use osier_dockerapi::{
    names::{Candidate, Resolution, resolve},
    placement::Binding,
};
use osier_scheduler::{Load, Node, Policy, Request, Tie, schedule};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};
use tokio::task::AbortHandle;

/// Execs whose engine is remembered.
const EXECS: usize = 10_000;

/// The cluster.
pub struct Cluster {
    pub(crate) hub: Arc<Hub>,
    pub(crate) policy: Policy,
    members: RwLock<BTreeMap<Target, Member>>,
    reservations: Arc<Mutex<Reservations>>,
    execs: Mutex<Execs>,
}

struct Member {
    engine: Arc<Engine>,
    following: AbortHandle,
}

#[derive(Default)]
struct Reservations {
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

/// A container whose creation is under way.
struct Pending {
    name: Option<String>,
    node: String,
    load: Load,
    bindings: Vec<Binding>,
}

#[derive(Default)]
struct Execs {
    engines: HashMap<String, Weak<Engine>>,
    order: VecDeque<String>,
}

/// A place on a node, held until this is dropped.
pub(crate) struct Reservation {
    pub(crate) engine: Arc<Engine>,
    key: u64,
    reservations: Arc<Mutex<Reservations>>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reservations.lock().unwrap_or_else(PoisonError::into_inner).pending.remove(&self.key);
    }
}

/// What is to be placed.
pub(crate) struct Placing<'a> {
    /// The container's name, if it is to have a certain one.
    pub(crate) name: Option<&'a str>,
    pub(crate) load: Load,
    /// The node's ports that it takes.
    pub(crate) bindings: &'a [Binding],
    pub(crate) ties: &'a [Tie],
}

impl Cluster {
    /// An empty cluster, whose engines are reached and followed like this.
    pub fn new(engines: impl Into<Engines>, policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            hub: Arc::new(Hub::new(engines.into())),
            policy,
            members: RwLock::default(),
            reservations: Arc::default(),
            execs: Mutex::default(),
        })
    }

    /// Takes the whole list of engines: new ones are followed, those no longer listed are let go.
    pub fn set_members(&self, targets: BTreeSet<Target>) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.retain(|target, member| {
            let stays = targets.contains(target);
            if !stays {
                member.following.abort();
                member.engine.leave();
                self.hub.announce(&member.engine, "engine_disconnect");
                self.hub.release(&member.engine);
            }
            stays
        });
        for target in targets {
            members.entry(target).or_insert_with_key(|target| {
                let engine = Engine::new(target.clone(), self.hub.refresh);
                let following = tokio::spawn(follow(engine.clone(), self.hub.clone())).abort_handle();
                Member { engine, following }
            });
        }
    }

    /// The members that answer.
    pub(crate) fn answering(&self) -> BTreeSet<Target> {
        self.engines().iter().filter(|e| e.is_healthy()).map(|e| e.target.clone()).collect()
    }

    /// Marks those that discovery no longer lists, and nobody else.
    pub(crate) fn set_leaving(&self, leaving: &BTreeSet<Target>) {
        self.engines().iter().for_each(|e| e.set_leaving(leaving.contains(&e.target)));
    }

    /// Ends the streams of events that clients have open.
    pub(crate) fn end_streams(&self) {
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
        let mut engines: Vec<_> = self.engines().into_iter().filter(|e| e.is_healthy()).collect();
        engines.sort_by_cached_key(|e| e.name());
        engines
    }

    /// Any engine that answers, always the same one while it does.
    pub(crate) fn any_healthy(&self) -> Result<Arc<Engine>, Refusal> {
        let none = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "No healthy node available in the cluster");
        self.healthy().into_iter().next().ok_or_else(none)
    }

    /// The engine of this node.
    pub(crate) fn node(&self, name: &str) -> Option<Arc<Engine>> {
        self.engines().into_iter().find(|e| e.name() == name)
    }

    /// Whether a node has this name.
    pub(crate) fn is_node(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// The container that a word means, and its engine.
    pub(crate) fn container(&self, word: &str) -> Result<(Arc<Engine>, Arc<Container>), Refusal> {
        let hits = self.containers_like(word);
        let candidates = hits.iter().map(|(node, engine, container)| Candidate {
            key: (engine, container),
            node,
            id: &container.row.id,
            names: &container.row.names,
        });
        match resolve(word, candidates) {
            Resolution::Found((engine, container)) => Ok((engine.clone(), container.clone())),
            Resolution::Missing => Err(Refusal::not_found(format!("No such container: {word}"))),
            Resolution::Ambiguous(all) => {
                Err(Refusal::bad_request(format!("'{word}' is ambiguous, it may be {}", all.join(" or "))))
            }
        }
    }

    /// The container that a word means, on an engine that answers.
    pub(crate) fn reachable(&self, word: &str) -> Result<(Arc<Engine>, Arc<Container>), Refusal> {
        let (engine, container) = self.container(word)?;
        if engine.is_healthy() {
            return Ok((engine, container));
        }
        let why = engine.view().error();
        let message = format!("Container {word} running on unhealthy node {}: {why}", engine.name());
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
    }

    fn containers_like(&self, word: &str) -> Vec<(String, Arc<Engine>, Arc<Container>)> {
        let mut hits = Vec::new();
        for engine in self.engines() {
            let node = engine.name();
            let view = engine.view();
            let may_be =
                |c: &Container| Candidate { key: (), node: &node, id: &c.row.id, names: &c.row.names }.may_be(word);
            hits.extend(view.containers().filter(|c| may_be(c)).map(|c| (node.clone(), engine.clone(), c.clone())));
        }
        hits
    }

    /// Refuses a container name that is in use anywhere in the cluster.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), Refusal> {
        let reservations = self.reservations.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_name_with(&reservations, name)
    }

    fn check_name_with(&self, reservations: &Reservations, name: &str) -> Result<(), Refusal> {
        let taken = self.containers_like(name).into_iter().find(|(_, _, c)| c.row.names.iter().any(|n| n == name));
        let holder = match taken {
            Some((node, _, container)) => format!("container \"{}\" on node {node}", container.row.id),
            None if reservations.pending.values().any(|p| p.name.as_deref() == Some(name)) => {
                "a container that is being created".into()
            }
            None => return Ok(()),
        };
        Err(Refusal::new(
            StatusCode::CONFLICT,
            format!(
                "Conflict. The container name \"/{name}\" is already in use by {holder}. \
                 You have to remove (or rename) that container to be able to reuse that name."
            ),
        ))
    }

    /// Chooses a node and holds the place. Nothing is asked of any engine while the choice is made, so creates do not
    /// wait for each other; and each sees the places that the others hold, so they spread.
    pub(crate) fn place(&self, placing: &Placing<'_>) -> Result<Reservation, Refusal> {
        let mut reservations = self.reservations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = placing.name {
            self.check_name_with(&reservations, name)?;
        }
        let engines = self.engines();
        let nodes: Vec<Node> = engines.iter().filter_map(|e| node(e, &reservations)).collect();
        let Load { cpus, memory, .. } = placing.load;
        let free = placing.bindings.iter().map(|binding| free_port(binding, &engines, &reservations));
        let request = Request { cpus, memory, ties: free.chain(placing.ties.iter().cloned()).collect() };
        let decision = schedule(self.policy.strategy, &nodes, &request)
            .map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
        let chosen = engines.into_iter().find(|e| e.name() == *decision.node);
        let engine = chosen.ok_or_else(|| Refusal::internal("the chosen node left the cluster"))?;
        let key = reservations.next;
        reservations.next += 1;
        let name = placing.name.map(str::to_owned);
        let (load, bindings) = (placing.load, placing.bindings.to_vec());
        reservations.pending.insert(key, Pending { name, node: decision.node.to_string(), load, bindings });
        Ok(Reservation { engine, key, reservations: self.reservations.clone() })
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

/// The engine as the scheduler sees it; `None` while nothing is known of it.
fn node(engine: &Engine, reservations: &Reservations) -> Option<Node> {
    let view = engine.view();
    let facts = view.facts.as_ref()?;
    let pending = reservations.pending.values().filter(|p| p.node == facts.owner.node).map(|p| p.load);
    Some(Node {
        name: facts.owner.node.as_str().into(),
        health: view.standing.indicator(),
        cpus: osier_model::Cpus::whole(facts.node.cpus),
        memory: osier_model::Bytes(facts.node.memory),
        load: view.load() + pending.sum(),
    })
}

/// The nodes that can give this port.
fn free_port(binding: &Binding, engines: &[Arc<Engine>], reservations: &Reservations) -> Tie {
    let clash = |taken: &[Binding]| taken.iter().any(|b| b.clashes(binding));
    let free = engines.iter().filter(|engine| {
        let name = engine.name();
        !engine.view().containers().any(|c| clash(&c.bindings))
            && !reservations.pending.values().any(|p| p.node == name && clash(&p.bindings))
    });
    Tie { condition: format!("port {}", binding.port), nodes: free.map(|e| e.name().as_str().into()).collect() }
}
