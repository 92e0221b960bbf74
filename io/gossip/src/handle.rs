//! What the rest of the agent uses: starting the gossip of a node, saying and reading facts, asking peers.

use crate::{
    accept,
    core::{Core, Snapshot, Traffic},
    dial::Dialler,
    frame::Kind,
    links::{Link, Links},
    node::Node,
    seal::Sealer,
    sync, udp,
};
use osier_mesh::{FactError, Mesh, MeshConfig};
use osier_model::{NodeName, PeerId, config::Member};
use osier_pki::Identity;
use rand::{SeedableRng, rngs::StdRng};
use rustls::pki_types::ServerName;
use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::error;

/// How long a request waits for a connection with the peer.
const CONNECTED: Duration = Duration::from_secs(2);
/// How long a peer may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest request or answer, in bytes.
const MAX_REQUEST: usize = 1 << 20;
/// How long after the start the own facts count as whole unless [`Handle::settle`] is called before.
const SETTLE_AFTER: Duration = Duration::from_secs(10);

/// How a node takes part.
pub struct Config<H> {
    /// This node.
    pub me: Member,
    /// All nodes, this one included.
    pub members: Vec<Member>,
    /// Nodes that were removed.
    pub removed: BTreeSet<PeerId>,
    /// The cluster's gossip key.
    pub key: [u8; 32],
    /// Where to listen, UDP and TCP; the others are expected at their addresses on the same port.
    pub listen: SocketAddr,
    /// This node's certificate.
    pub identity: Identity,
    /// Larger than at every former start of this node.
    pub incarnation: u64,
    /// Answers other nodes' requests.
    pub handler: Arc<H>,
}

/// Answers what other members ask with [`Handle::request`].
pub trait RequestHandler: Send + Sync + 'static {
    /// Answers one request. Several may be worked on at once, also of the same peer.
    fn handle(&self, from: PeerId, request: Vec<u8>) -> impl Future<Output = Vec<u8>> + Send;
}

/// Gossip cannot start, or a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be taken.
    #[error("listen on {address} ({protocol})")]
    Listen {
        /// UDP or TCP.
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The node's certificate cannot be used.
    #[error("use the node's certificate")]
    Certificate(#[source] osier_pki::Error),
    /// A member's name cannot be in a certificate.
    #[error("dial member '{0}': its name is no DNS name")]
    Name(NodeName),
    /// There is no such member, or it is this node.
    #[error("ask {0}: it is no other member of this cluster")]
    NotAMember(PeerId),
    /// There is no connection with the peer.
    #[error("ask {name}: there is no connection{}", reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    NotConnected {
        /// The peer.
        name: NodeName,
        /// Why, as far as known.
        reason: Option<String>,
    },
    /// The connection ended before the answer.
    #[error("ask {0}: the connection ended before it answered")]
    Ended(NodeName),
    /// The peer did not answer in time; it may have done what it was asked.
    #[error("ask {0}: no answer within {ANSWER:?}")]
    TimedOut(NodeName),
    /// A stranger did not answer.
    #[error("ask {peer}, which is no member here: {reason}")]
    Stranger {
        /// The stranger.
        peer: PeerId,
        /// Why not.
        reason: String,
    },
    /// The request is too long.
    #[error("ask {0}: the request has {1} bytes, more than {MAX_REQUEST}")]
    TooLong(NodeName, usize),
}

/// The gossip of one node.
pub struct Gossip;

/// A running gossip. Clones are the same; it stops when `shutdown` says so, not when handles are dropped.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
    links: Arc<Links>,
    dialler: Dialler,
}

impl Gossip {
    /// Opens the port and starts; runs until `shutdown` becomes true or its sender is gone.
    pub async fn start<H: RequestHandler>(
        config: Config<H>,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<Handle, Error> {
        let Config { me, members, removed, key, listen, identity, incarnation, handler } = config;
        let failed = |protocol| move |source| Error::Listen { protocol, address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed("TCP"))?;
        let socket = UdpSocket::bind(listen).await.map_err(failed("UDP"))?;
        let server = identity.server().map_err(Error::Certificate)?;
        let tls = identity.client().map_err(Error::Certificate)?;

        let others: Vec<Member> = members.iter().filter(|member| member.peer != me.peer).cloned().collect();
        let mesh = MeshConfig { me: me.clone(), incarnation, members, settle_after: SETTLE_AFTER };
        let mesh = Mesh::new(mesh, StdRng::from_rng(&mut rand::rng()));
        let sealer = Sealer::new(&key, me.peer);
        let core = Arc::new(Core::new(me, others, socket, listen.port(), sealer, mesh, removed));
        let links = Arc::new(Links::new());
        let (compare, compared) = mpsc::unbounded_channel();
        let node = Node { core: Arc::clone(&core), links: Arc::clone(&links), handler, compare };

        let mut tasks = JoinSet::new();
        let dialler = Dialler { tls, source: listen.ip() };
        for member in core.others.iter().filter(|member| core.me.peer < member.peer) {
            let name = ServerName::try_from(member.name.to_string()).map_err(|_| Error::Name(member.name.clone()))?;
            links.expect(member.peer, core.address(member));
            tasks.spawn(dialler.clone().run(node.clone(), member.clone(), name));
        }
        tasks.spawn(udp::run(Arc::clone(&core)));
        tasks.spawn(accept::run(listener, server, node));
        tasks.spawn(sync::run(Arc::clone(&core), Arc::clone(&links), compared));
        tokio::spawn(async move {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => {}
                // None of them ends by itself.
                Some(Err(panic)) = tasks.join_next() => error!(error = %panic, "gossip has failed and stops"),
            }
        });
        Ok(Handle { core, links, dialler })
    }
}

impl Handle {
    /// Says something about this node, or with `None` no longer; saying the same again does nothing. A key or value that
    /// no fact can have is logged and not said.
    pub fn set_fact(&self, key: &str, value: Option<Vec<u8>>) {
        let result: Result<(), FactError> = self.core.with(|mesh, _| mesh.set_fact(key, value));
        if let Err(error) = result {
            error!(key, %error, "cannot set a fact");
        }
    }

    /// Says that the facts set so far are all there are, so that what this node's former life said and this one has not
    /// repeated is gone for everybody. Without this call it happens ten seconds after the start.
    pub fn settle(&self) {
        self.core.with(|mesh, _| mesh.settle());
    }

    /// The keys of this node's own facts that begin with `prefix`, including those set a moment ago.
    pub fn own_keys(&self, prefix: &str) -> Vec<String> {
        let mine = self.core.me.peer;
        self.core.read(|mesh| {
            let keys = mesh.facts().of(mine).map(|(key, _)| key);
            keys.filter(|key| key.starts_with(prefix)).map(str::to_owned).collect()
        })
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.core.snapshot.borrow().clone()
    }

    /// Tells of every new snapshot from now on; of several in a row perhaps only the last.
    pub fn changed(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.core.snapshot.subscribe()
    }

    /// Asks another member and returns its answer, or an error within 12 seconds.
    pub async fn request(&self, peer: PeerId, request: Vec<u8>) -> Result<Vec<u8>, Error> {
        let member = self.core.others.iter().find(|member| member.peer == peer).ok_or(Error::NotAMember(peer))?;
        let name = || member.name.clone();
        if request.len() > MAX_REQUEST {
            return Err(Error::TooLong(name(), request.len()));
        }
        let connection = timeout(CONNECTED, self.links.wait_for(peer)).await;
        let reason = || self.links.last_error(peer);
        let connection = connection.map_err(|_| Error::NotConnected { name: name(), reason: reason() })?;
        let answer = timeout(ANSWER, connection.ask(Kind::Call, request)).await;
        answer.map_err(|_| Error::TimedOut(name()))?.map_err(|_| Error::Ended(name()))
    }

    /// Nodes that have the cluster's key and are no members as far as is known here, and are to be asked who belongs.
    pub fn strangers(&self) -> Vec<PeerId> {
        self.core.strangers().into_keys().collect()
    }

    /// Asks a stranger, and returns its answer or an error within 10 seconds. All that is known of whoever answers is that the
    /// cluster's CA knows its address; so the answer has to be good by itself.
    pub async fn ask_stranger(&self, peer: PeerId, request: Vec<u8>) -> Result<Vec<u8>, Error> {
        let failed = |reason| Error::Stranger { peer, reason };
        let address = self.core.strangers().remove(&peer).ok_or_else(|| failed("it was not heard".to_owned()))?;
        let call = self.dialler.ask_stranger(self.core.me.peer, (peer, address), request);
        let answer = timeout(ANSWER, call).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}"))).map_err(failed)
    }

    /// Notes that a stranger or a member has told who belongs, and that none of it was news.
    pub fn note_asked(&self, peer: PeerId) {
        self.core.note_asked(peer);
    }

    /// How long this node has to wait before it gives anything out, unless it hears more meanwhile; none once it has caught
    /// up ([`osier_mesh::CatchUp`]). `differs` says of a member that facts were compared with whether it knows other
    /// statements of who belongs; a snapshot that is taken in it has what that member said.
    pub fn catching_up(&self, differs: impl Fn(PeerId) -> bool) -> Option<Duration> {
        self.core.until(|catch_up| catch_up.ends(differs))
    }

    /// How long it is until this node would know of another machine under its identity.
    pub fn alone_in(&self) -> Option<Duration> {
        self.core.until(osier_mesh::CatchUp::alone_from)
    }

    /// The control connections: those that stand, and those that this node tries to make.
    pub fn links(&self) -> Vec<Link> {
        self.links.list()
    }

    /// What went over the network since the start.
    pub fn traffic(&self) -> Traffic {
        self.core.traffic()
    }

    /// Tells the others that this node goes for good, so that they count it as dead at once; gossip is silent afterwards.
    /// A restart does not call this.
    pub fn leave(&self) {
        self.core.with(|mesh, _| mesh.leave());
        self.core.flush();
    }
}
