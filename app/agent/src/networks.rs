//! The networks of the cluster on this node: which there are, kept on disk and told to the mesh, and each one's addresses.
//!
//! What a network is and which of them count is decided in `osier_networks`; the engine is told in `setup`. A network is on
//! disk before anybody hears of it.

use crate::{
    addresses::{AddressError, Addresses, Start},
    config::Config,
    endpoints::Endpoints,
    facts::{EndpointFact, decode, encode, prefix},
    host,
    plugin::BRIDGE,
    segment,
};
use ipnet::Ipv4Net;
use osier_gossip::{Handle, Snapshot};
use osier_model::{NETWORK, NetworkId, PeerId};
use osier_networks::{Book, Draft, DraftError, Network, Taken, overlap};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tracing::{error, info, warn};

/// The longest record of a network, in bytes: what a fact of the mesh can hold.
const RECORD_LIMIT: usize = osier_mesh::MAX_VALUE;
/// How long a removed network is remembered at least: others may have heard of it and not said it yet.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How long news of another node may take: what an engine answered is told to the others a moment later.
const NEWS: Duration = Duration::from_secs(2);
/// Subnets that no network can have: what is no unicast address, or never leaves its link or host (RFC 6890).
const UNFIT: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// A network cannot be made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error("the network's labels and options have {0} bytes, more than {RECORD_LIMIT}")]
    TooLong(usize),
    #[error("error while removing network: network {0} has active endpoints ({1} of them, on {2})")]
    InUse(String, usize, String),
    #[error("keep the networks")]
    Store(#[source] osier_store::Error),
    #[error("set up the network's addresses")]
    Addresses(#[source] AddressError),
}

/// One network of the cluster on this node.
pub(crate) struct Net {
    pub(crate) network: Network,
    /// Its bridge in the overlay's namespace.
    pub(crate) bridge: String,
    pub(crate) addresses: Addresses,
}

impl Net {
    /// Whether a container may be given this address although it is not given out by itself.
    pub(crate) fn has_outside(&self, address: Ipv4Addr) -> bool {
        let Network { subnet, .. } = self.network;
        subnet.contains(&address) && !self.network.pool().contains(&address) && !self.network.kept().contains(&address)
    }
}

/// All networks of the cluster on this node.
pub(crate) struct Networks {
    folder: PathBuf,
    config: Config,
    endpoints: Arc<Endpoints>,
    inner: Mutex<Inner>,
    gossip: OnceLock<Handle>,
    /// Told when there is a network more or less.
    pub(crate) changed: Notify,
    /// The same, for who tells the engine.
    pub(crate) wanted: Notify,
    /// Held by whoever looks what networks the engine has and makes or removes some: of two at once an engine would make both.
    pub(crate) engine: tokio::sync::Mutex<()>,
    /// What cannot be mended without the operator.
    pub(crate) problems: Mutex<Vec<String>>,
}

struct Inner {
    book: Book,
    /// Those of the book, and removed ones for as long as containers of this node are on them.
    nets: BTreeMap<NetworkId, Arc<Net>>,
    /// When a network was last removed, as far as this life of the agent knows.
    removed: Instant,
}

impl Networks {
    /// Takes up the networks of an earlier run, the cluster's own among them; that one is founded if `found`.
    pub(crate) fn open(
        folder: &Path,
        config: Config,
        endpoints: Arc<Endpoints>,
        found: bool,
    ) -> Result<Self, NetworkError> {
        let book: Book =
            osier_store::read_state(&folder.join("networks.json")).map_err(NetworkError::Store)?.unwrap_or_default();
        let main = own(&config);
        let this = Self {
            folder: folder.to_owned(),
            inner: Mutex::new(Inner { book, nets: BTreeMap::new(), removed: Instant::now() }),
            config,
            endpoints,
            gossip: OnceLock::new(),
            changed: Notify::new(),
            wanted: Notify::new(),
            engine: tokio::sync::Mutex::new(()),
            problems: Mutex::default(),
        };
        let start = if found { Start::Found } else { Start::Join };
        {
            let mut inner = this.lock();
            let known: Vec<Network> = inner.book.networks().cloned().collect();
            inner.nets.insert(NetworkId::MAIN, this.open_net(main, "ring.json", BRIDGE, start)?);
            for network in known {
                // Its ring was written before the book. A file that was lost since must not found the ring anew.
                let net = this.open_other(network, false)?;
                inner.nets.insert(net.network.id, net);
            }
        }
        Ok(this)
    }

    fn open_other(&self, network: Network, new: bool) -> Result<Arc<Net>, NetworkError> {
        let (file, bridge) = (format!("ring-{}.json", network.id), format!("osier-{}", network.vni));
        let founders = network.founders.clone();
        self.open_net(network, &file, &bridge, if new { Start::Among(&founders) } else { Start::Join })
    }

    fn open_net(&self, network: Network, file: &str, bridge: &str, start: Start<'_>) -> Result<Arc<Net>, NetworkError> {
        let members = self.config.peers().into_iter().collect();
        let kept: Vec<Ipv4Addr> = network.kept().into_iter().collect();
        let (ring, me) = ((network.id, network.pool()), self.config.me.peer);
        let addresses = Addresses::open(self.folder.join(file), ring, me, members, &kept, start);
        let addresses = addresses.map_err(NetworkError::Addresses)?;
        if let Some(gossip) = self.gossip.get() {
            addresses.connect(gossip.clone(), self.config.digest.clone());
        }
        Ok(Arc::new(Net { network, bridge: bridge.to_owned(), addresses }))
    }

    /// Connects the networks to the mesh.
    pub(crate) fn connect(&self, gossip: Handle) {
        for net in self.all() {
            net.addresses.connect(gossip.clone(), self.config.digest.clone());
        }
        let _ = self.gossip.set(gossip);
        self.publish(&self.lock().book);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, the cluster's own first.
    pub(crate) fn all(&self) -> Vec<Arc<Net>> {
        self.lock().nets.values().cloned().collect()
    }

    /// One of them.
    pub(crate) fn get(&self, id: NetworkId) -> Option<Arc<Net>> {
        self.lock().nets.get(&id).cloned()
    }

    /// The cluster's own.
    pub(crate) fn main(&self) -> Arc<Net> {
        // Entered by `open` and never removed.
        self.get(NetworkId::MAIN).unwrap_or_else(|| unreachable!())
    }

    /// Takes note of what the engine calls a network. It says so when it makes one; whoever has lost that with this node's
    /// state finds it out from the engine's list.
    pub(crate) fn note_engines(&self, engine_id: &str, network: &Network) -> Result<(), osier_store::Error> {
        self.endpoints.change(|t| {
            if network.id != NetworkId::MAIN {
                t.ids.insert(engine_id.to_owned(), network.id);
            }
            t.networks.insert(engine_id.to_owned(), network.subnet);
        })
    }

    /// The subnets of all but the cluster's own.
    pub(crate) fn subnets(&self) -> Vec<(NetworkId, Ipv4Net)> {
        self.lock().book.networks().map(|n| (n.id, n.subnet)).collect()
    }

    /// Those that were removed and that some node may still have.
    pub(crate) fn gone(&self) -> BTreeSet<NetworkId> {
        self.lock().book.gone().collect()
    }

    /// The records of all but the cluster's own.
    pub(crate) fn records(&self) -> Vec<Network> {
        self.lock().book.networks().cloned().collect()
    }

    /// Makes a network out of what a user asked for. `routes` are subnets that this host reaches.
    pub(crate) fn create(&self, draft: Draft, routes: &[Ipv4Net]) -> Result<Arc<Net>, NetworkError> {
        let mut inner = self.lock();
        let own = inner.nets.get(&NetworkId::MAIN).map(|net| net.network.clone());
        let own = own.into_iter().map(|n| (n.subnet, "the cluster's own network".to_owned()));
        let members = self.config.members.iter().map(|m| (Ipv4Net::from(m.address), format!("node {}", m.name)));
        let routes = routes.iter().map(|r| (*r, "this host's routing table".to_owned()));
        let taken = Taken {
            networks: inner.book.networks().cloned().collect(),
            vnis: [segment::vni(self.config.founder)].into(),
            subnets: own.chain(members).chain(unfit()).chain(routes).collect(),
            reached: self.gossip.get().map(|gossip| reached(&gossip.snapshot())).unwrap_or_default(),
        };
        if draft.name == NETWORK {
            return Err(DraftError::Exists(draft.name).into());
        }
        let network = draft.settle(rand::random(), &self.config.peers(), &taken)?;
        let length = encode(&network).len();
        if length > RECORD_LIMIT {
            return Err(NetworkError::TooLong(length));
        }
        info!(id = %network.id, name = network.name, subnet = %network.subnet, "made a network");
        let net = self.open_other(network.clone(), true)?;
        let mut book = inner.book.clone();
        book.add(network);
        self.keep(&mut inner, book)?;
        inner.nets.insert(net.network.id, net.clone());
        drop(inner);
        self.tell();
        Ok(net)
    }

    /// Removes a network for the whole cluster.
    pub(crate) fn remove(&self, id: NetworkId) -> Result<(), NetworkError> {
        let mut inner = self.lock();
        let mut book = inner.book.clone();
        if !book.remove(id) {
            return Ok(());
        }
        self.keep(&mut inner, book)?;
        inner.removed = Instant::now();
        drop(inner);
        self.sweep();
        self.tell();
        Ok(())
    }

    /// Waits until no node that answers tells of containers on a network, for [`NEWS`] at most: an engine that removed one
    /// has answered before the other nodes know of it.
    pub(crate) async fn unused(&self, net: &Net) {
        let Some(gossip) = self.gossip.get() else { return };
        let mut news = gossip.changed();
        let unused = news.wait_for(|snapshot| self.users(net, snapshot).is_empty());
        let _ = tokio::time::timeout(NEWS, unused).await;
    }

    /// How many interfaces the nodes that answer have on a network, by the nodes' names.
    fn users(&self, net: &Net, snapshot: &Snapshot) -> BTreeMap<String, usize> {
        let mut nodes = BTreeMap::<String, usize>::new();
        let here = |peer: PeerId| peer == self.config.me.peer || snapshot.alive(peer);
        for (peer, _) in endpoints(snapshot).filter(|(peer, fact)| fact.network == net.network.id && here(*peer)) {
            *nodes.entry(self.config.name_of(peer)).or_default() += 1;
        }
        nodes
    }

    /// Refuses to remove a network that containers are on, on any node that answers. (One that does not answer keeps it for
    /// as long as its containers run.)
    pub(crate) fn may_remove(&self, net: &Net) -> Result<(), NetworkError> {
        let Some(gossip) = self.gossip.get() else { return Ok(()) };
        let nodes = self.users(net, &gossip.snapshot());
        if nodes.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = nodes.keys().cloned().collect();
        Err(NetworkError::InUse(net.network.name.clone(), nodes.values().sum(), names.join(", ")))
    }

    /// Who has an address of this network just now, on any node.
    pub(crate) fn user_of(&self, net: &Net, address: Ipv4Addr) -> Option<String> {
        let snapshot = self.gossip.get()?.snapshot();
        let mut found = endpoints(&snapshot);
        let (peer, _) = found.find(|(_, fact)| fact.network == net.network.id && fact.address == address)?;
        Some(format!("a container of {}", self.config.name_of(peer)))
    }

    /// Takes in what the other nodes say of networks and of their addresses.
    pub(crate) fn hear(&self, snapshot: &Snapshot) {
        if snapshot.duplicate() {
            let reason = "another machine runs under this node's identity, as when a disk was cloned: stop one of the two, and \
                          some seconds later restart the agent of the other";
            self.all().iter().for_each(|net| net.addresses.halt(reason.to_owned()));
        }
        if self.config.is_removed() {
            let reason = "this node was removed from the cluster; 'osier destroy' takes Osier off it";
            self.all().iter().for_each(|net| net.addresses.halt(reason.to_owned()));
        }
        let me = self.config.me.peer;
        let facts = || snapshot.facts.iter().filter(|(peer, _, _)| *peer != me);
        let said: Vec<Network> = facts()
            .filter(|(_, key, _)| key.starts_with(prefix::NETWORK))
            .filter_map(|(peer, key, value)| {
                let network = decode::<Network>(value).filter(|network| self.is_sound(network));
                if network.is_none() {
                    warn!(%peer, key, "passed over a fact that cannot be read");
                }
                network
            })
            .collect();
        let gone = facts().filter_map(|(_, key, _)| key.strip_prefix(prefix::NETWORK_GONE)?.parse().ok());
        let others = self.config.members.iter().map(|m| m.peer).filter(|peer| *peer != me);
        let heard = others.into_iter().all(|peer| snapshot.alive(peer) && snapshot.synced(peer));

        let mut inner = self.lock();
        let all = heard && inner.removed.elapsed() > REMEMBERED;
        let mut book = inner.book.clone();
        let changes = book.hear(said.iter(), gone, all);
        if book != inner.book {
            // What cannot be kept is heard again with the next news.
            if let Err(error) = self.take_up(&mut inner, book, &changes) {
                error!(error = crate::plugin::chain(&error), "cannot keep the networks");
                return;
            }
            drop(inner);
            self.sweep();
            self.tell();
        } else {
            drop(inner);
        }
        for net in self.all() {
            net.addresses.merge(snapshot);
        }
    }

    fn take_up(&self, inner: &mut Inner, book: Book, changes: &osier_networks::Changes) -> Result<(), NetworkError> {
        let mut opened = Vec::new();
        for id in &changes.added {
            let Some(network) = book.get(*id) else { continue };
            info!(%id, name = network.name, "heard of a network");
            opened.push(self.open_other(network.clone(), true)?);
        }
        self.keep(inner, book)?;
        inner.nets.extend(opened.into_iter().map(|net| (net.network.id, net)));
        for id in &changes.removed {
            info!(%id, "a network was removed");
            inner.removed = Instant::now();
        }
        Ok(())
    }

    /// Forgets removed networks that no container of this node is on any more.
    pub(crate) fn sweep(&self) {
        let used: BTreeSet<NetworkId> = {
            let table = self.endpoints.read();
            table.endpoints.values().filter(|e| e.is_joined()).map(|e| table.network(&e.network)).collect()
        };
        let mut inner = self.lock();
        let over = |id: &NetworkId| *id != NetworkId::MAIN && inner.book.get(*id).is_none() && !used.contains(id);
        let over: Vec<NetworkId> = inner.nets.keys().copied().filter(over).collect();
        for id in over {
            if let Some(Err(error)) = inner.nets.remove(&id).map(|net| net.addresses.discard()) {
                warn!(%id, error = crate::plugin::chain(&error), "cannot remove the addresses of a removed network");
            }
        }
    }

    /// Whether another node's record is one that this cluster could have made.
    fn is_sound(&self, network: &Network) -> bool {
        let own = own(&self.config);
        let unfit = unfit().any(|(subnet, _)| overlap(&subnet, &network.subnet));
        network.id != NetworkId::MAIN
            && !network.name.is_empty()
            && (1..1 << 24).contains(&network.vni)
            && network.subnet.prefix_len() <= 29
            && network.subnet.contains(&network.pool())
            && network.subnet.contains(&network.gateway)
            && !unfit
            && !own.collides(network)
    }

    /// Writes the book, and only then takes it for the truth.
    fn keep(&self, inner: &mut Inner, book: Book) -> Result<(), NetworkError> {
        let path = self.folder.join("networks.json");
        let write = || osier_store::write_state(&path, &book, osier_store::PUBLIC);
        tokio::task::block_in_place(write).map_err(NetworkError::Store)?;
        inner.book = book;
        Ok(())
    }

    /// Tells the mesh and this node's own parts.
    fn tell(&self) {
        self.publish(&self.lock().book);
        self.changed.notify_one();
        self.wanted.notify_one();
    }

    fn publish(&self, book: &Book) {
        let Some(gossip) = self.gossip.get() else { return };
        let records = book.networks().map(|n| (format!("{}{}", prefix::NETWORK, n.id), encode(n)));
        let gone = book.gone().map(|id| (format!("{}{id}", prefix::NETWORK_GONE), b"true".to_vec()));
        let mut stale: BTreeSet<String> =
            [prefix::NETWORK, prefix::NETWORK_GONE].iter().flat_map(|prefix| gossip.own_keys(prefix)).collect();
        for (key, value) in records.chain(gone) {
            stale.remove(&key);
            gossip.set_fact(&key, Some(value));
        }
        // The rings of networks that are gone go with them.
        let ring = |key: &str| key.strip_prefix(prefix::RING)?.split_once('/')?.0.parse::<NetworkId>().ok();
        let rings = gossip.own_keys(prefix::RING).into_iter();
        stale.extend(rings.filter(|key| ring(key).is_some_and(|id| book.get(id).is_none())));
        for key in stale {
            gossip.set_fact(&key, None);
        }
    }
}

/// The containers' interfaces that nodes tell of. A fact that cannot be read is passed over.
pub(crate) fn endpoints(snapshot: &Snapshot) -> impl Iterator<Item = (PeerId, EndpointFact)> {
    let facts = snapshot.facts.iter().filter(|(_, key, _)| key.starts_with(prefix::ENDPOINT));
    facts.filter_map(|(peer, key, value)| {
        let fact = decode::<EndpointFact>(value);
        if fact.is_none() {
            warn!(%peer, key, "passed over a fact that cannot be read");
        }
        Some((peer, fact?))
    })
}

/// What all nodes have said that they have routes to.
fn reached(snapshot: &Snapshot) -> Vec<Ipv4Net> {
    let routes = snapshot.facts.iter().filter(|(_, key, _)| *key == prefix::ROUTES);
    routes.filter_map(|(_, _, value)| decode::<Vec<Ipv4Net>>(value)).flatten().collect()
}

/// The subnets that no network can have, each with the words that name it.
fn unfit() -> impl Iterator<Item = (Ipv4Net, String)> {
    UNFIT.into_iter().map(|(first, length)| (Ipv4Net::new_assert(first, length), "no network".to_owned()))
}

/// The cluster's own network as a record.
fn own(config: &Config) -> Network {
    Network {
        id: NetworkId::MAIN,
        name: NETWORK.to_owned(),
        vni: segment::vni(config.founder),
        subnet: config.pool,
        range: None,
        gateway: host::gateway(config.pool),
        reserved: BTreeMap::new(),
        founders: [config.founder].into(),
        internal: false,
        attachable: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
    }
}
