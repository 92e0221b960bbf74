//! What runs on this node's engine: names for the mesh, and addresses freed when their containers are gone.
//!
//! Level-triggered: at every (re)connect and from time to time the whole list is compared with what was published;
//! events only say that it is worth looking now. Must not be called from a plugin call.

use crate::{
    addresses,
    endpoints::Endpoints,
    facts::{NameFact, encode},
    networks::Networks,
};
use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use osier_engine::{Client, Error};
use osier_gossip::Handle;
use osier_model::{Hostname, NetworkId};
use osier_ring::Owner;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

/// How often the list is compared although no event came.
const RESYNC: Duration = Duration::from_secs(30);
/// How long the engine may take to describe one container, or to list all.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
const LIST_DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait before the engine is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Events for which one container is looked at, and those for which everything is.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%2C%22event%22%3A%5B%22start%22%2C%22die%22%2C%22destroy%22%2C%22rename%22%2C%22connect%22%2C%22disconnect%22%5D%7D";

/// How much a comparison looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Every running container: anything may have been missed.
    All,
    /// Those whose row in the list differs from what was published.
    Changed,
}

/// What is said of one container: its names on each of the cluster's networks that it is on.
type Facts = BTreeMap<NetworkId, NameFact>;

/// The engine's containers as the mesh should know them.
pub(crate) struct Containers {
    engine: Client,
    domain: Hostname,
    networks: Arc<Networks>,
    endpoints: Arc<Endpoints>,
    gossip: Handle,
    /// The networks that have been set up; with the first of them this life's endpoints have been published.
    up: watch::Receiver<BTreeSet<NetworkId>>,
    /// Container → what was said of it, by network.
    published: Mutex<BTreeMap<String, Facts>>,
    /// Creates that are on their way to the engine: an address they hold must not be taken for an orphan.
    creating: AtomicUsize,
    /// Reservations whose create had ended when the list was last compared, and whose container was not in it.
    suspects: Mutex<BTreeSet<(NetworkId, Owner)>>,
    problem: Mutex<Option<String>>,
}

impl Containers {
    pub(crate) fn new(
        engine: Client,
        domain: Hostname,
        networks: Arc<Networks>,
        endpoints: Arc<Endpoints>,
        gossip: Handle,
        up: watch::Receiver<BTreeSet<NetworkId>>,
    ) -> Self {
        let (published, suspects, problem) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self {
            engine,
            domain,
            networks,
            endpoints,
            gossip,
            up,
            published,
            creating: AtomicUsize::new(0),
            suspects,
            problem,
        }
    }

    /// Follows the engine for ever, reconnecting as need be; `connected` is told each time the engine answers.
    pub(crate) async fn follow(&self, connected: impl Fn()) {
        loop {
            let result = self.follow_once(&connected).await;
            let text = match &result {
                Ok(()) => "the event stream ended".to_owned(),
                Err(e) => e.chain(),
            };
            if self.problem.lock().unwrap_or_else(PoisonError::into_inner).replace(text.clone()).is_none() {
                warn!(reason = text, "lost the engine; trying again");
            }
            self.withdraw_left();
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Why the engine cannot be followed now, if it cannot.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn follow_once(&self, connected: &impl Fn()) -> Result<(), Error> {
        // The stream first, then the list: what happens in between is in the stream.
        let mut events = self.engine.call(Method::GET, EVENTS, None).await?.into_body();
        connected();
        self.resync(Depth::All).await?;
        if !self.up.borrow().is_empty() {
            // Endpoints and names have been said again: what a former life said besides is no longer so.
            self.gossip.settle();
        }
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
        info!("following the engine");
        let mut buffer = BytesMut::new();
        // A busy engine always has another event; the comparison comes all the same.
        let mut next_resync = Instant::now() + RESYNC;
        loop {
            match tokio::time::timeout_at(next_resync, events.frame()).await {
                Err(_) => {
                    connected();
                    self.resync(Depth::Changed).await?;
                    next_resync = Instant::now() + RESYNC;
                }
                Ok(None) => return Ok(()),
                Ok(Some(Err(source))) => {
                    return Err(Error::Talk { endpoint: self.engine.name(), source: source.into() });
                }
                Ok(Some(Ok(frame))) => {
                    buffer.extend_from_slice(frame.data_ref().map_or(&[], |d| d));
                    for event in take_events(&mut buffer) {
                        if event["Type"] == "network" && event["Action"] == "destroy" {
                            // Perhaps ours, swept away by a prune.
                            connected();
                        }
                        self.on_event(&event).await;
                    }
                }
            }
        }
    }

    async fn on_event(&self, event: &Value) {
        let attributes = &event["Actor"]["Attributes"];
        let id = if event["Type"] == "network" { &attributes["container"] } else { &event["Actor"]["ID"] };
        let Some(id) = id.as_str().filter(|id| !id.is_empty()) else { return };
        debug!(id, action = %event["Action"], "engine event");
        if event["Action"] == "destroy" {
            self.publish(id, Facts::new());
            for net in self.networks.all() {
                self.free(net.network.id, &addresses::container(id));
            }
            return;
        }
        self.look(id).await;
    }

    /// Takes back the names of containers whose interface the engine has taken down, while it cannot be asked.
    fn withdraw_left(&self) {
        let joined: BTreeSet<(NetworkId, Ipv4Addr)> = {
            let table = self.endpoints.read();
            let joined = table.endpoints.values().filter(|e| e.is_joined());
            joined.map(|e| (table.network(&e.network), e.address)).collect()
        };
        let published = self.published().clone();
        for (id, mut facts) in published {
            facts.retain(|network, fact| joined.contains(&(*network, fact.address)));
            self.publish(&id, facts);
        }
    }

    /// Publishes what the engine says of one container. One that it cannot say anything about is passed over, so that a
    /// single broken container does not hold up the others.
    async fn look(&self, id: &str) {
        let path = format!("/containers/{id}/json");
        let asked = self.engine.json::<Value>(Method::GET, &path, None);
        match tokio::time::timeout(LOOK_DEADLINE, asked).await {
            Ok(Ok(container)) => {
                let facts = name_facts(&container, &self.domain, |name, endpoint| self.network_of(name, endpoint));
                self.publish(id, facts);
            }
            Ok(Err(e)) if e.status() == Some(http::StatusCode::NOT_FOUND) => self.publish(id, Facts::new()),
            Ok(Err(error)) => warn!(id, error = error.chain(), "cannot inspect a container"),
            Err(_) => warn!(id, "the engine does not say what a container is"),
        }
    }

    /// Compares everything: names with the running containers, kept addresses with all that exist.
    async fn resync(&self, depth: Depth) -> Result<(), Error> {
        // Owners first: one that appears after this line belongs to a container the list may not show yet.
        let nets = self.networks.all().into_iter();
        let held: Vec<_> =
            nets.flat_map(|n| n.addresses.held().into_iter().map(move |(a, o)| (n.network.id, a, o))).collect();
        let creating = self.creating.load(Ordering::SeqCst);
        let listed = self.engine.json(Method::GET, "/containers/json?all=1", None);
        let list: Vec<Value> = match tokio::time::timeout(LIST_DEADLINE, listed).await {
            Ok(list) => list?,
            Err(_) => {
                let source = format!("no list of containers within {} s", LIST_DEADLINE.as_secs()).into();
                return Err(Error::Talk { endpoint: self.engine.name(), source });
            }
        };
        let ids: BTreeSet<&str> = list.iter().filter_map(|c| c["Id"].as_str()).collect();
        let known: Vec<String> = self.published().keys().cloned().collect();
        for gone in known.iter().filter(|id| !ids.contains(id.as_str())) {
            self.publish(gone, Facts::new());
        }
        for container in &list {
            let Some(id) = container["Id"].as_str() else { continue };
            let endpoints = self.endpoints_of(container);
            let shown: BTreeMap<NetworkId, Ipv4Addr> =
                endpoints.iter().filter_map(|(network, e)| Some((*network, address(&e["IPAddress"])?))).collect();
            let said = self.published().get(id).map(|facts| facts.iter().map(|(n, f)| (*n, f.address)).collect());
            if container["State"] != "running" || shown.is_empty() {
                self.publish(id, Facts::new());
            } else if depth == Depth::All || said != Some(shown) {
                self.look(id).await;
            }
            for (network, endpoint) in endpoints {
                self.adopt(network, endpoint, id);
            }
        }
        self.free_orphans(held, &ids, creating);
        self.endpoints.forget_idle();
        Ok(())
    }

    /// Frees what is held for containers that are gone, and what is held for nobody that could be found twice in a row.
    fn free_orphans(&self, held: Vec<(NetworkId, Ipv4Addr, Owner)>, ids: &BTreeSet<&str>, creating: usize) {
        let mut suspects = BTreeSet::new();
        for (network, address, owner) in held {
            match owner.as_str().split_once(':') {
                Some(("container", id)) if !ids.contains(id) => self.free(network, &owner),
                // An engine may still be at work on a create whose agent was killed, or between asking for an address and
                // using it, so one look is not enough.
                Some(("pending", _)) if creating == 0 => drop(suspects.insert((network, owner))),
                Some(("engine", _)) if !self.endpoints.read().uses(network, address) => {
                    suspects.insert((network, owner));
                }
                _ => {}
            }
        }
        let mut kept = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        for (network, owner) in suspects.intersection(&kept) {
            self.free(*network, owner);
        }
        *kept = suspects;
    }

    /// Takes an address that a container of this engine is pinned to, if nobody holds it: a create whose answer this
    /// agent did not live to see.
    fn adopt(&self, network: NetworkId, endpoint: &Value, id: &str) {
        let pinned = address(&endpoint["IPAMConfig"]["IPv4Address"]);
        let (Some(address), Some(net)) = (pinned, self.networks.get(network)) else { return };
        if net.has_outside(address) {
            return;
        }
        if let Err(error) = net.addresses.adopt(&addresses::container(id), address) {
            warn!(id, %address, error = crate::plugin::chain(&error), "a container's address is not this node's");
        }
    }

    /// The endpoints of a container, as a list or a description has them, on networks of the cluster.
    fn endpoints_of<'a>(&self, container: &'a Value) -> Vec<(NetworkId, &'a Value)> {
        let all = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
        all.filter_map(|(name, endpoint)| Some((self.network_of(name, endpoint)?, endpoint))).collect()
    }

    /// Which of the cluster's networks an endpoint is on. A container that never ran knows its network by name only.
    fn network_of(&self, name: &str, endpoint: &Value) -> Option<NetworkId> {
        let table = self.endpoints.read();
        match endpoint["NetworkID"].as_str().filter(|id| !id.is_empty()) {
            Some(id) if table.networks.contains_key(id) => Some(table.network(id)),
            Some(_) => None,
            None => {
                let here = |id| !table.engine_ids(id).is_empty();
                self.networks
                    .all()
                    .into_iter()
                    .map(|net| net.network.clone())
                    .find(|n| n.name == name && here(n.id))
                    .map(|n| n.id)
            }
        }
    }

    fn free(&self, network: NetworkId, owner: &Owner) {
        let Some(net) = self.networks.get(network) else { return };
        if let Err(error) = net.addresses.release(owner) {
            warn!(%owner, error = crate::plugin::chain(&error), "cannot free an address");
        }
    }

    fn published(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Facts>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says this of a container and nothing else.
    fn publish(&self, id: &str, facts: Facts) {
        let mut published = self.published();
        let before = published.remove(id).unwrap_or_default();
        for (_, fact) in before.iter().filter(|(network, _)| !facts.contains_key(network)) {
            self.gossip.set_fact(&fact.key(), None);
        }
        for (_, fact) in facts.iter().filter(|(network, fact)| before.get(network) != Some(fact)) {
            self.gossip.set_fact(&fact.key(), Some(encode(fact)));
        }
        if !facts.is_empty() {
            published.insert(id.to_owned(), facts);
        }
    }

    /// Marks a create as under way until the guard is dropped.
    pub(crate) fn creating(&self) -> Creating<'_> {
        self.creating.fetch_add(1, Ordering::SeqCst);
        Creating(self)
    }
}

/// See [`Containers::creating`].
pub(crate) struct Creating<'a>(&'a Containers);

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.0.creating.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes the complete JSON objects off the front of the buffer. (Engines put them one behind the other, with or without
/// a newline.) What is not JSON is dropped whole.
fn take_events(buffer: &mut BytesMut) -> Vec<Value> {
    let mut stream = serde_json::Deserializer::from_slice(buffer).into_iter::<Value>();
    let mut events = Vec::new();
    let mut broken = false;
    for event in &mut stream {
        match event {
            Ok(event) => events.push(event),
            Err(e) => {
                broken = !e.is_eof();
                break;
            }
        }
    }
    let used = if broken { buffer.len() } else { stream.byte_offset() };
    let _ = buffer.split_to(used);
    events
}

fn address(text: &Value) -> Option<Ipv4Addr> {
    text.as_str()?.parse().ok()
}

/// The names of a running container on each network of the cluster that it is on; `network_of` tells from an endpoint's name
/// and description which one that is.
fn name_facts(container: &Value, domain: &Hostname, network_of: impl Fn(&str, &Value) -> Option<NetworkId>) -> Facts {
    if container.pointer("/State/Running") != Some(&Value::Bool(true)) {
        return Facts::new();
    }
    let all = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let facts = all.filter_map(|(name, endpoint)| {
        let network = network_of(name, endpoint)?;
        Some((network, name_fact(container, domain, network, name, endpoint)?))
    });
    facts.collect()
}

/// A container's names on one network: its host name, its own name and its aliases there, in the cluster's domain; on
/// networks besides the cluster's own also below the network's name.
fn name_fact(
    container: &Value,
    domain: &Hostname,
    network: NetworkId,
    network_name: &str,
    endpoint: &Value,
) -> Option<NameFact> {
    let id = container["Id"].as_str()?;
    let address = address(&endpoint["IPAddress"])?;
    let config = &container["Config"];
    let host = config["Hostname"].as_str().unwrap_or_default();
    let hostname = match config["Domainname"].as_str().filter(|d| !d.is_empty()) {
        Some(own_domain) => format!("{host}.{own_domain}"),
        None => host.to_owned(),
    };
    let name = container["Name"].as_str().unwrap_or_default().trim_start_matches('/');
    let aliases = endpoint["Aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<Hostname> = Vec::new();
    for text in [hostname.as_str(), name].into_iter().chain(aliases) {
        // A dotted name outside the domain belongs to somebody else's zone.
        let Ok(parsed) = text.parse::<Hostname>() else { continue };
        if text.contains('.') && !parsed.is_in(domain) {
            continue;
        }
        let below = format!("{text}.{network_name}").parse::<Hostname>().ok();
        let below = below.filter(|_| network != NetworkId::MAIN && !text.contains('.'));
        for qualified in [Some(parsed), below].into_iter().flatten().map(|name| name.qualified(domain)) {
            if !names.contains(&qualified) {
                names.push(qualified);
            }
        }
    }
    let links = endpoint["Links"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let links = links.filter_map(|link| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        let (target, alias) = (target.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias));
        Some((alias.parse().ok()?, target.to_owned()))
    });
    Some(NameFact { container: id.to_owned(), network, address, names, links: links.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(hostname: &str, name: &str, running: bool) -> Value {
        json!({"Id": "f341653f5583", "Name": name, "State": {"Running": running}, "Config": {"Hostname": hostname},
            "NetworkSettings": {"Networks": {"osier": {"IPAddress": "10.1.1.191", "Aliases": ["f341653f5583"]}}}})
    }

    /// What is said of it on the cluster's own network, where it is on that.
    fn own(container: &Value) -> Option<NameFact> {
        let network_of = |name: &str, _: &Value| match name {
            "osier" => Some(NetworkId::MAIN),
            "back" => Some(NetworkId(7)),
            _ => None,
        };
        let mut facts = name_facts(container, &Hostname::default_domain(), network_of);
        facts.remove(&NetworkId::MAIN).or_else(|| facts.remove(&NetworkId(7)))
    }

    #[test]
    fn a_container_answers_to_its_host_name_and_its_own() {
        let fact = own(&container("a.weave.local", "/test-a", true)).unwrap();
        let names: Vec<&str> = fact.names.iter().map(Hostname::as_str).collect();
        assert_eq!(names, ["a.weave.local", "test-a.weave.local", "f341653f5583.weave.local"]);
        let elsewhere = own(&container("a.example.com", "/test-a", true)).unwrap();
        assert_eq!(elsewhere.names[0].as_str(), "test-a.weave.local");
        assert_eq!(own(&container("a", "/a", false)), None);
    }

    #[test]
    fn on_other_networks_it_answers_below_their_names_too() {
        let networks = json!({"back": {"IPAddress": "10.7.0.2", "Aliases": ["db"]}, "none": {"IPAddress": ""}});
        let mut container = container("x", "/shop-db-1", true);
        container["NetworkSettings"]["Networks"] = networks;
        let fact = own(&container).unwrap();
        let names: Vec<&str> = fact.names.iter().map(Hostname::as_str).collect();
        let below = ["x.weave.local", "x.back.weave.local", "shop-db-1.weave.local", "shop-db-1.back.weave.local"];
        assert_eq!(names[..4], below);
        assert_eq!(names[4..], ["db.weave.local", "db.back.weave.local"]);
        assert_eq!(fact.key(), "name/f341653f5583/0000000000000007");
    }

    #[test]
    fn links_are_read_however_they_are_written() {
        let mut linked = container("a", "/a", true);
        linked["NetworkSettings"]["Networks"]["osier"]["Links"] =
            json!(["db-1:db", "/queue", "/x:/a/cache", "y:not a name"]);
        let fact = own(&linked).unwrap();
        let links: Vec<_> = fact.links.iter().map(|(alias, target)| (alias.as_str(), target.as_str())).collect();
        assert_eq!(links, [("db", "db-1"), ("queue", "queue"), ("cache", "x")]);
    }

    #[test]
    fn events_come_whole_in_pieces_or_glued() {
        let mut buffer = BytesMut::from("{\"a\":1}{\"b\":2}\n{\"c\"");
        assert_eq!(take_events(&mut buffer), [json!({"a": 1}), json!({"b": 2})]);
        buffer.extend_from_slice(b":3}");
        assert_eq!(take_events(&mut buffer), [json!({"c": 3})]);
        buffer.extend_from_slice(b"]]{\"d\":4}");
        assert!(take_events(&mut buffer).is_empty() && buffer.is_empty());
    }
}
