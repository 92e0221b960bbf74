//! A cluster on loopback addresses: members, certificates, and waiting for a condition.

use osier_gossip::{Config, Gossip, Handle, RequestHandler};
use osier_model::{PeerId, config::Member};
use osier_pki::{Authority, Identity, Subject};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::watch;

/// What all nodes of a test share.
pub(crate) struct Site {
    pub(crate) members: Vec<Member>,
    pub(crate) removed: BTreeSet<PeerId>,
    pub(crate) port: u16,
    pub(crate) authority: Authority,
    pub(crate) key: [u8; 32],
}

/// A running node; dropping it kills it, silently.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    _stop: watch::Sender<bool>,
}

/// Answers with who asked and the question reversed.
pub(crate) struct Echo;

impl RequestHandler for Echo {
    async fn handle(&self, from: PeerId, mut request: Vec<u8>) -> Vec<u8> {
        request.reverse();
        [from.0.to_vec(), request].concat()
    }
}

pub(crate) fn peer(node: usize) -> PeerId {
    PeerId([2, 0, 0, 0, 0, node as u8])
}

impl Site {
    /// A site whose addresses and port no other run is likely to use at the same time.
    pub(crate) fn new(nodes: usize) -> Self {
        let [a, b]: [u8; 2] = rand::random();
        let address = |n: usize| Ipv4Addr::new(127, a.max(1), b, n as u8 + 1);
        let port = TcpListener::bind((address(0), 0)).unwrap().local_addr().unwrap().port();
        let member = |n| Member { name: format!("n{n}").parse().unwrap(), peer: peer(n), address: address(n) };
        let authority = Authority::create("test", OffsetDateTime::now_utc()).unwrap();
        Self { members: (0..nodes).map(member).collect(), removed: BTreeSet::new(), port, authority, key: [7; 32] }
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        match self.members.iter().find(|member| member.name.as_str() == name) {
            Some(member) => issue(&self.authority, member),
            None => identity(&self.authority, name),
        }
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        (self.members[node].address, self.port).into()
    }

    pub(crate) async fn start(&self, node: usize, incarnation: u64) -> Running {
        self.start_as(node, incarnation, self.identity(&format!("n{node}")), self.key).await
    }

    /// Starts a node with another certificate or key than its own; waits while its former life still holds the port.
    pub(crate) async fn start_as(&self, node: usize, incarnation: u64, identity: Identity, key: [u8; 32]) -> Running {
        let listen = self.address(node);
        eventually("the port is free", || {
            TcpListener::bind(listen).is_ok() && std::net::UdpSocket::bind(listen).is_ok()
        })
        .await;
        let (me, members, handler) = (self.members[node].clone(), self.members.clone(), Arc::new(Echo));
        let (stop, stopped) = watch::channel(false);
        let removed = self.removed.clone();
        let config = Config { me, members, removed, key, listen, identity, incarnation, handler };
        Running { handle: Gossip::start(config, stopped).await.unwrap(), _stop: stop }
    }

    pub(crate) async fn start_all(&self) -> Vec<Running> {
        let mut all = Vec::new();
        for node in 0..self.members.len() {
            all.push(self.start(node, 1).await);
        }
        eventually("everybody is alive and connected", || {
            all.iter().all(|n| n.alive() == all.len() && n.connected(all.len() - 1))
        })
        .await;
        all
    }
}

impl Running {
    /// How many members count as alive here.
    pub(crate) fn alive(&self) -> usize {
        let snapshot = self.handle.snapshot();
        (0..16).filter(|n| snapshot.alive(peer(*n))).count()
    }

    pub(crate) fn connected(&self, count: usize) -> bool {
        self.handle.links().iter().filter(|link| link.established).count() == count
    }

    pub(crate) fn fact(&self, node: usize, key: &str) -> Option<Vec<u8>> {
        self.handle.snapshot().facts.get(peer(node), key).map(<[u8]>::to_vec)
    }
}

pub(crate) fn identity(authority: &Authority, name: &str) -> Identity {
    certify(authority, &Subject { name: name.into(), dns: vec![name.into()], addresses: vec![] })
}

/// What a member gets, which is for its address, too.
pub(crate) fn issue(authority: &Authority, member: &Member) -> Identity {
    let (name, address) = (member.name.to_string(), member.address.into());
    certify(authority, &Subject { name: name.clone(), dns: vec![name], addresses: vec![address] })
}

fn certify(authority: &Authority, subject: &Subject) -> Identity {
    let issued = authority.issue(subject, OffsetDateTime::now_utc()).unwrap();
    Identity::from_issued(authority.cert_pem(), &issued).unwrap()
}

/// Waits until something is so, and fails with its name after half a minute. Returns how long it took.
pub(crate) async fn eventually(what: &str, so: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(30), "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}
