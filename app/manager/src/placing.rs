//! Where the next container goes. Everything that the decision needs is known already: nothing is asked of any engine
//! meanwhile, so creates do not wait for each other; and each sees the places that the others hold, so they spread.

use crate::{cluster::Cluster, engine::Engine, picture::Seen, refusal::Refusal, state::Document};
use http::StatusCode;
use osier_dockerapi::placement::Binding;
use osier_model::{Bytes, Cpus};
use osier_nodes::Availability;
use osier_scheduler::{Census, Decision, Load, Node, Request, Resident, Tie, Unplaced, schedule};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is to be placed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placing {
    /// The container's name, if it is to have a certain one.
    pub(crate) name: Option<String>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// The named volumes that it uses, whose data is on one node.
    pub(crate) volumes: Vec<String>,
    /// Everything else.
    pub(crate) request: Request,
}

/// What is known of each engine.
type Nodes = Arc<Vec<Arc<Seen>>>;

/// A container whose creation is under way.
struct Pending {
    node: String,
    placing: Placing,
}

impl Resident for Pending {
    fn id(&self) -> &str {
        ""
    }

    fn name(&self) -> &str {
        self.placing.name.as_deref().unwrap_or_default()
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.placing.labels
    }

    fn bindings(&self) -> &[Binding] {
        &self.placing.request.bindings
    }

    fn load(&self) -> Load {
        Load::one(self.placing.request.cpus, self.placing.request.memory)
    }
}

/// A name that is being given to something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Promised {
    /// To a container that has another one yet.
    Container(String),
    /// To a network.
    Network(String),
}

#[derive(Default)]
struct Held {
    next: u64,
    pending: BTreeMap<u64, Arc<Pending>>,
    promised: BTreeMap<u64, Promised>,
}

impl Held {
    fn key(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn names_container(&self, name: &str) -> bool {
        self.pending.values().any(|p| p.placing.name.as_deref() == Some(name))
            || self.promised.values().any(|p| matches!(p, Promised::Container(n) if n == name))
    }
}

/// The places and names that are held.
#[derive(Clone, Default)]
pub(crate) struct Reservations(Arc<Mutex<Held>>);

impl Reservations {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn promise(&self, held: &mut Held, name: Promised) -> HeldName {
        let key = held.key();
        held.promised.insert(key, name);
        HeldName { key, reservations: self.clone() }
    }
}

/// A name that nobody else gets until this is dropped.
pub(crate) struct HeldName {
    key: u64,
    reservations: Reservations,
}

impl Drop for HeldName {
    fn drop(&mut self) {
        self.reservations.lock().promised.remove(&self.key);
    }
}

/// A place on a node, held until this is dropped.
pub(crate) struct Reservation {
    pub(crate) engine: Arc<Engine>,
    key: u64,
    reservations: Reservations,
}

impl Reservation {
    /// Whether another container that is being created on this node uses the volume.
    pub(crate) fn shares_volume(&self, volume: &str) -> bool {
        let held = self.reservations.lock();
        let Some(own) = held.pending.get(&self.key) else { return false };
        let mut others = held.pending.iter().filter(|(key, other)| **key != self.key && other.node == own.node);
        others.any(|(_, other)| other.placing.volumes.iter().any(|v| v == volume))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reservations.lock().pending.remove(&self.key);
    }
}

impl Cluster {
    /// Holds a name for a container that is to get it, unless it is in use anywhere in the cluster.
    pub(crate) fn hold_container_name(&self, name: &str) -> Result<HeldName, Refusal> {
        let mut held = self.reservations.lock();
        self.check_name(&held, name)?;
        Ok(self.reservations.promise(&mut held, Promised::Container(name.to_owned())))
    }

    /// Refuses a container name that is in use anywhere in the cluster.
    pub(crate) fn check_container_name(&self, name: &str) -> Result<(), Refusal> {
        self.check_name(&self.reservations.lock(), name)
    }

    /// Holds a name for a network that is being made, unless another one of the name is being made.
    pub(crate) fn hold_network_name(&self, name: &str) -> Option<HeldName> {
        let mut held = self.reservations.lock();
        let name = Promised::Network(name.to_owned());
        let is_free = !held.promised.values().any(|promised| *promised == name);
        is_free.then(|| self.reservations.promise(&mut held, name))
    }

    fn check_name(&self, held: &Held, name: &str) -> Result<(), Refusal> {
        let taken = self.containers_like(name).into_iter().find(|(_, c)| c.row.names.iter().any(|n| n == name));
        let holder = match taken {
            Some((seen, container)) => format!("container \"{}\" on node {}", container.row.id, seen.name),
            None if held.names_container(name) => "a container that is being created".into(),
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

    /// Chooses a node and holds the place.
    pub(crate) fn place(&self, placing: &Placing) -> Result<Reservation, Refusal> {
        let mut held = self.reservations.lock();
        if let Some(name) = &placing.name {
            self.check_name(&held, name)?;
        }
        let (nodes, decision) = self.decide(&held, placing)?;
        let node = decision.map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?.node;
        let chosen = nodes.iter().find(|s| s.facts.is_some() && s.name == node);
        let engine = chosen.ok_or_else(|| Refusal::internal("the chosen node left the cluster"))?.engine.clone();
        let key = held.key();
        held.pending.insert(key, Arc::new(Pending { node, placing: placing.clone() }));
        Ok(Reservation { engine, key, reservations: self.reservations.clone() })
    }

    /// What [`Cluster::place`] would choose now, and why.
    pub(crate) fn explain(&self, placing: &Placing) -> Result<Result<Decision, Unplaced>, Refusal> {
        Ok(self.decide(&self.reservations.lock(), placing)?.1)
    }

    fn decide(&self, held: &Held, placing: &Placing) -> Result<(Nodes, Result<Decision, Unplaced>), Refusal> {
        let (document, seen) = (self.hub.state.read(), self.nodes());
        let mut request = placing.request.clone();
        request.ties.extend(volume_ties(&placing.volumes, &seen, held, &document)?);
        let mut pending: HashMap<&str, Census> = HashMap::new();
        for resident in held.pending.values() {
            pending.entry(&resident.node).or_default().add(resident.clone());
        }
        let nobody = Census::default();
        // Images are words only where the decision is about images.
        let by_image = request.wishes.affinities.iter().any(|wish| wish.key() == "image");
        let overcommit = self.policy.overcommit;
        let nodes = seen.iter().filter_map(|s| {
            let facts = s.facts.as_deref()?;
            Some(Node {
                name: &s.name,
                id: &facts.node.id,
                labels: &facts.node.labels,
                health: s.health,
                closed: match document.availability(&s.name) {
                    Availability::Active => None,
                    Availability::Cordoned => Some("it is cordoned"),
                    Availability::Drained => Some("it is drained"),
                },
                cpus: Cpus::whole(overcommit.of(facts.node.cpus)),
                memory: Bytes(overcommit.of(facts.node.memory)),
                census: &s.census,
                pending: pending.get(s.name.as_str()).unwrap_or(&nobody),
                images: if by_image { s.image_words() } else { &[] },
            })
        });
        let nodes: Vec<Node<'_>> = nodes.collect();
        let decision = schedule(&self.policy, &nodes, &request, rand::random());
        drop(nodes);
        Ok((seen, decision))
    }
}

/// The nodes that have the data of each of these volumes, or will have because a container that uses it is being created
/// there. A volume that is nowhere ties to nothing.
fn volume_ties(volumes: &[String], seen: &[Arc<Seen>], held: &Held, document: &Document) -> Result<Vec<Tie>, Refusal> {
    let mut ties = Vec::new();
    let known = || seen.iter().filter(|s| s.facts.is_some());
    for volume in volumes {
        let remembered = document.volumes.get(volume).map(|v| &v.nodes);
        // What an engine had when it was last seen is still there.
        let has = |s: &&Arc<Seen>| match &s.volumes {
            Some(volumes) => volumes.contains(volume),
            None => remembered.is_some_and(|nodes| nodes.contains(&s.name)),
        };
        let here = known().filter(has).map(|s| s.name.as_str());
        let coming = held.pending.values().filter(|p| p.placing.volumes.contains(volume)).map(|p| p.node.as_str());
        let unseen = |node: &&String| !known().any(|s| s.name == **node);
        let away = remembered.into_iter().flatten().filter(unseen).map(String::as_str);
        let nodes: BTreeSet<Arc<str>> = here.chain(coming).chain(away).map(Into::into).collect();
        let reachable = |node: &Arc<str>| known().any(|s| s.health > 0 && *s.name == **node);
        if !nodes.is_empty() && !nodes.iter().any(reachable) {
            let left = !known().any(|s| nodes.contains(s.name.as_str()));
            let hint = if left { format!(" ('docker volume rm -f {volume}' forgets it)") } else { String::new() };
            let nodes: Vec<&str> = nodes.iter().map(AsRef::as_ref).collect();
            let nodes = nodes.join(" and ");
            let message = format!("the data of volume '{volume}' is on node {nodes}, which does not answer{hint}");
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        if !nodes.is_empty() {
            ties.push(Tie { condition: format!("volume=={volume}"), nodes });
        }
    }
    Ok(ties)
}
