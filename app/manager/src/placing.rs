//! Where the next container goes. Everything that the decision needs is known already: nothing is asked of any engine
//! meanwhile, so creates do not wait for each other; and each sees the places that the others hold, so they spread.

use crate::{
    cluster::Cluster,
    engine::{Engine, Facts},
    refusal::Refusal,
    state::Document,
};
use http::StatusCode;
use osier_dockerapi::placement::{Binding, image_words};
use osier_model::{Bytes, Cpus};
use osier_nodes::Availability;
use osier_scheduler::{Census, Decision, Load, Node, Overcommit, Request, Resident, Tie, Unplaced, schedule};
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

    fn label(&self, key: &str) -> Option<&str> {
        self.placing.labels.get(key).map(String::as_str)
    }

    fn bindings(&self) -> &[Binding] {
        &self.placing.request.bindings
    }

    fn load(&self) -> Load {
        Load::one(self.placing.request.cpus, self.placing.request.memory)
    }
}

#[derive(Default)]
struct Held {
    next: u64,
    pending: BTreeMap<u64, Arc<Pending>>,
}

/// The places that are held.
#[derive(Clone, Default)]
pub(crate) struct Reservations(Arc<Mutex<Held>>);

impl Reservations {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// One engine at the moment of the decision.
struct Seen {
    engine: Arc<Engine>,
    facts: Arc<Facts>,
    health: u8,
    closed: Option<&'static str>,
    census: Arc<Census>,
    images: Vec<String>,
    volumes: Option<Arc<BTreeSet<String>>>,
    pending: Census,
}

impl Seen {
    fn node(&self, overcommit: Overcommit) -> Node<'_> {
        let facts = &self.facts;
        Node {
            name: &facts.owner.node,
            id: &facts.node.id,
            labels: &facts.node.labels,
            health: self.health,
            closed: self.closed,
            cpus: Cpus::whole(overcommit.of(facts.node.cpus)),
            memory: Bytes(overcommit.of(facts.node.memory)),
            census: &self.census,
            pending: &self.pending,
            images: &self.images,
        }
    }
}

impl Cluster {
    /// Refuses a container name that is in use anywhere in the cluster.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), Refusal> {
        self.check_name_with(&self.reservations.lock(), name)
    }

    fn check_name_with(&self, held: &Held, name: &str) -> Result<(), Refusal> {
        let taken = self.containers_like(name).into_iter().find(|(_, _, c)| c.row.names.iter().any(|n| n == name));
        let holder = match taken {
            Some((node, _, container)) => format!("container \"{}\" on node {node}", container.row.id),
            None if held.pending.values().any(|p| p.placing.name.as_deref() == Some(name)) => {
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

    /// Chooses a node and holds the place.
    pub(crate) fn place(&self, placing: &Placing) -> Result<Reservation, Refusal> {
        let mut held = self.reservations.lock();
        if let Some(name) = &placing.name {
            self.check_name_with(&held, name)?;
        }
        let (seen, decision) = self.decide(&held, placing)?;
        let node = decision.map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?.node;
        let chosen = seen.into_iter().find(|s| s.facts.owner.node == node);
        let engine = chosen.ok_or_else(|| Refusal::internal("the chosen node left the cluster"))?.engine;
        let key = held.next;
        held.next += 1;
        held.pending.insert(key, Arc::new(Pending { node, placing: placing.clone() }));
        Ok(Reservation { engine, key, reservations: self.reservations.clone() })
    }

    /// What [`Cluster::place`] would choose now, and why.
    pub(crate) fn explain(&self, placing: &Placing) -> Result<Result<Decision, Unplaced>, Refusal> {
        Ok(self.decide(&self.reservations.lock(), placing)?.1)
    }

    fn decide(&self, held: &Held, placing: &Placing) -> Result<(Vec<Seen>, Result<Decision, Unplaced>), Refusal> {
        let document = self.hub.state.read();
        let by_image = placing.request.wishes.affinities.iter().any(|wish| wish.key() == "image");
        let seen = self.look(held, &document, by_image);
        let mut request = placing.request.clone();
        request.ties.extend(volume_ties(&placing.volumes, &seen, held, &document)?);
        let nodes: Vec<Node<'_>> = seen.iter().map(|s| s.node(self.policy.overcommit)).collect();
        let decision = schedule(&self.policy, &nodes, &request, rand::random());
        drop(nodes);
        Ok((seen, decision))
    }

    /// All engines of which something is known; their images only where the decision is about images.
    fn look(&self, held: &Held, document: &Document, by_image: bool) -> Vec<Seen> {
        let mut pending: HashMap<&str, Census> = HashMap::new();
        for resident in held.pending.values() {
            pending.entry(&resident.node).or_default().add(resident.clone());
        }
        let mut look = |engine: Arc<Engine>| {
            let view = engine.view();
            let facts = view.facts.clone()?;
            let (health, census, volumes) = (view.standing.indicator(), view.census(), view.volumes.clone());
            let images = if by_image { image_words(view.images.iter().map(AsRef::as_ref)) } else { Vec::new() };
            drop(view);
            let closed = match document.availability(&facts.owner.node) {
                Availability::Active => None,
                Availability::Cordoned => Some("it is cordoned"),
                Availability::Drained => Some("it is drained"),
            };
            let pending = pending.remove(facts.owner.node.as_str()).unwrap_or_default();
            Some(Seen { engine, facts, health, closed, census, images, volumes, pending })
        };
        self.engines().into_iter().filter_map(&mut look).collect()
    }
}

/// The nodes that have the data of each of these volumes, or will have because a container that uses it is being created
/// there. A volume that is nowhere ties to nothing.
fn volume_ties(volumes: &[String], seen: &[Seen], held: &Held, document: &Document) -> Result<Vec<Tie>, Refusal> {
    let mut ties = Vec::new();
    for volume in volumes {
        let remembered = document.volumes.get(volume).map(|v| &v.nodes);
        // What an engine had when it was last seen is still there.
        let has = |s: &&Seen| match &s.volumes {
            Some(volumes) => volumes.contains(volume),
            None => remembered.is_some_and(|nodes| nodes.contains(&s.facts.owner.node)),
        };
        let here = seen.iter().filter(has).map(|s| s.facts.owner.node.as_str());
        let coming = held.pending.values().filter(|p| p.placing.volumes.contains(volume)).map(|p| p.node.as_str());
        let unseen = |node: &&String| !seen.iter().any(|s| s.facts.owner.node == **node);
        let away = remembered.into_iter().flatten().filter(unseen).map(String::as_str);
        let nodes: BTreeSet<Arc<str>> = here.chain(coming).chain(away).map(Into::into).collect();
        let reachable = |node: &Arc<str>| seen.iter().any(|s| s.health > 0 && *s.facts.owner.node == **node);
        if !nodes.is_empty() && !nodes.iter().any(reachable) {
            let left = !seen.iter().any(|s| nodes.contains(s.facts.owner.node.as_str()));
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
