//! What the parts of one node's gossip share: the mesh, the socket, the view that others read.
//!
//! The mesh is behind a plain mutex that is never held across an await.

use crate::seal::Sealer;
use osier_mesh::{CatchUp, Event, Facts, Mesh, Refused, Transmit};
use osier_model::{PeerId, config::Member};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::UdpSocket,
    sync::{Notify, watch},
};
use tracing::{debug, error, info, warn};

/// What is known at one moment. Cheap to clone and to keep.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What every node says about itself, the dead included.
    pub facts: Facts,
    alive: BTreeSet<PeerId>,
    synced: BTreeSet<PeerId>,
    duplicate: bool,
}

impl Snapshot {
    /// Whether another machine has run under this node's identity since it started, as when a disk was cloned.
    pub fn duplicate(&self) -> bool {
        self.duplicate
    }

    /// Whether a member counts as alive; this node always does.
    pub fn alive(&self, peer: PeerId) -> bool {
        self.alive.contains(&peer)
    }

    /// Whether this node has compared its facts with that peer's since it started.
    pub fn synced(&self, peer: PeerId) -> bool {
        self.synced.contains(&peer)
    }
}

/// What went over the network since the start. Bytes are payload: headers of UDP, TCP and TLS are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub datagram_bytes_sent: u64,
    /// Datagrams received and taken.
    pub datagrams_received: u64,
    /// Datagrams refused: not sealed with the key, malformed, or from no member.
    pub datagrams_refused: u64,
    /// Frames sent over control connections.
    pub frames_sent: u64,
    /// Their bytes.
    pub frame_bytes_sent: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    datagrams_sent: AtomicU64,
    datagram_bytes_sent: AtomicU64,
    datagrams_received: AtomicU64,
    datagrams_refused: AtomicU64,
    frames_sent: AtomicU64,
    frame_bytes_sent: AtomicU64,
}

/// Whom this node has heard since it started.
struct Heard {
    catch_up: CatchUp,
    /// Where strangers listen.
    strangers: BTreeMap<PeerId, SocketAddr>,
}

pub(crate) struct Core {
    pub(crate) me: Member,
    /// All other members.
    pub(crate) others: Vec<Member>,
    pub(crate) socket: UdpSocket,
    pub(crate) sealer: Sealer,
    /// Told when there is something to send or to publish.
    pub(crate) wake: Notify,
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
    port: u16,
    start: Instant,
    mesh: Mutex<Mesh>,
    heard: Mutex<Heard>,
    duplicate: AtomicBool,
    came_up: BTreeMap<PeerId, Notify>,
    counters: Counters,
}

impl Core {
    pub(crate) fn new(
        me: Member,
        others: Vec<Member>,
        socket: UdpSocket,
        port: u16,
        sealer: Sealer,
        mesh: Mesh,
        removed: BTreeSet<PeerId>,
    ) -> Self {
        let catch_up = CatchUp::new(Duration::ZERO, me.peer, others.iter().map(|member| member.peer), removed);
        let came_up = others.iter().map(|member| (member.peer, Notify::new())).collect();
        let core = Self {
            me,
            others,
            socket,
            sealer,
            wake: Notify::new(),
            snapshot: watch::Sender::new(Arc::default()),
            port,
            start: Instant::now(),
            mesh: Mutex::new(mesh),
            heard: Mutex::new(Heard { catch_up, strangers: BTreeMap::new() }),
            duplicate: AtomicBool::new(false),
            came_up,
            counters: Counters::default(),
        };
        core.with(|mesh, _| core.publish(mesh));
        core
    }

    /// Works with the mesh at the present time, and has the result sent and published soon.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Mesh, Duration) -> T) -> T {
        let mut mesh = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut mesh, self.start.elapsed());
        drop(mesh);
        self.wake.notify_one();
        result
    }

    /// Reads from the mesh.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Mesh) -> T) -> T {
        look(&self.mesh.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the mesh wants to be told the time.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.read(Mesh::poll_timeout).map(|at| self.start + at)
    }

    /// Tells the mesh the time, if it wants to know.
    pub(crate) fn tick(&self) {
        let mut mesh = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.start.elapsed();
        if mesh.poll_timeout().is_some_and(|at| at <= now) {
            mesh.handle_timeout(now);
        }
    }

    /// Takes in a datagram from the network.
    pub(crate) fn receive(&self, source: SocketAddr, datagram: &[u8]) {
        let taken = self.sealer.open(datagram).map_err(|e| e.to_string()).and_then(|(from, message)| {
            let mut mesh = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = mesh.handle_datagram(self.start.elapsed(), from, &message);
            drop(mesh);
            if taken == Err(Refused::Stranger) {
                self.note_stranger(from, source);
            }
            taken.map_err(|e| format!("from {from}: {e}"))
        });
        match taken {
            Ok(()) => add(&self.counters.datagrams_received, 1),
            Err(reason) => {
                add(&self.counters.datagrams_refused, 1);
                debug!(%source, reason, "refused a datagram");
            }
        }
    }

    /// Sends what the mesh has to send and publishes what changed.
    pub(crate) fn flush(&self) {
        let mut transmits = Vec::new();
        {
            let mut mesh = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.start.elapsed();
            while let Some(transmit) = mesh.poll_transmit(now) {
                transmits.push(transmit);
            }
            let mut changed = false;
            while let Some(event) = mesh.poll_event() {
                changed = true;
                self.note(event);
            }
            if changed {
                self.publish(&mesh);
            }
        }
        transmits.into_iter().for_each(|transmit| self.send(transmit));
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_synced(&self, peer: PeerId) {
        if self.heard().catch_up.compared().contains(&peer) {
            return;
        }
        // What it said can be read before it counts as compared with.
        self.with(|mesh, _| self.publish(mesh));
        self.heard().catch_up.note_compared(peer);
        self.with(|mesh, _| self.publish(mesh));
    }

    fn note_stranger(&self, peer: PeerId, source: SocketAddr) {
        let mut heard = self.heard();
        let fresh = heard.catch_up.note_stranger(peer);
        let address = (source.ip(), self.port).into();
        // The newest counts: it may have moved, or somebody has sent again what it once sent.
        if fresh || heard.strangers.contains_key(&peer) {
            heard.strangers.insert(peer, address);
        }
        if fresh {
            info!(%peer, %source, "heard a node that is no member as far as is known here");
            drop(heard);
            self.with(|mesh, _| self.publish(mesh));
        }
    }

    pub(crate) fn note_asked(&self, peer: PeerId) {
        self.heard().catch_up.note_asked(peer);
        self.with(|mesh, _| self.publish(mesh));
    }

    /// The strangers that are to be asked, and where they listen.
    pub(crate) fn strangers(&self) -> BTreeMap<PeerId, SocketAddr> {
        let heard = self.heard();
        heard.catch_up.strangers().filter_map(|peer| Some((peer, *heard.strangers.get(&peer)?))).collect()
    }

    /// How long it is until a time that is told of what was heard.
    pub(crate) fn until(&self, time: impl FnOnce(&CatchUp) -> Duration) -> Option<Duration> {
        let at = time(&self.heard().catch_up);
        at.checked_sub(self.start.elapsed()).filter(|left| !left.is_zero())
    }

    /// Waits until gossip says that the member came up (again).
    pub(crate) async fn came_up(&self, peer: PeerId) {
        match self.came_up.get(&peer) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Where a member listens.
    pub(crate) fn address(&self, member: &Member) -> SocketAddr {
        (member.address, self.port).into()
    }

    pub(crate) fn count_frame(&self, bytes: usize) {
        add(&self.counters.frames_sent, 1);
        add(&self.counters.frame_bytes_sent, bytes as u64);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            datagrams_sent: get(&self.counters.datagrams_sent),
            datagram_bytes_sent: get(&self.counters.datagram_bytes_sent),
            datagrams_received: get(&self.counters.datagrams_received),
            datagrams_refused: get(&self.counters.datagrams_refused),
            frames_sent: get(&self.counters.frames_sent),
            frame_bytes_sent: get(&self.counters.frame_bytes_sent),
        }
    }

    fn send(&self, transmit: Transmit) {
        let Some(member) = self.others.iter().find(|member| member.peer == transmit.to) else { return };
        let Ok(sealed) = self.sealer.seal(&transmit.payload) else { return };
        // A full socket buffer or an unreachable peer is a lost datagram like any other; it must not delay the rest.
        match self.socket.try_send_to(&sealed, self.address(member)) {
            Ok(bytes) => {
                add(&self.counters.datagrams_sent, 1);
                add(&self.counters.datagram_bytes_sent, bytes as u64);
            }
            Err(error) => debug!(to = %member.name, %error, "lost a datagram"),
        }
    }

    fn note(&self, event: Event) {
        let name = |peer| self.others.iter().find(|m| m.peer == peer).map_or_else(String::new, |m| m.name.to_string());
        match event {
            Event::MemberUp(peer) => {
                info!(name = name(peer), %peer, "member is up");
                if let Some(notify) = self.came_up.get(&peer) {
                    notify.notify_one();
                }
            }
            Event::MemberDown(peer) => info!(name = name(peer), %peer, "member is down"),
            Event::Outbid { incarnation } => {
                self.heard().catch_up.note_outbid(self.start.elapsed());
                warn!(
                    incarnation,
                    "others knew a later life of this node: its state was lost, or its identity is used twice"
                );
            }
            Event::Duplicate => {
                if !self.duplicate.swap(true, Ordering::Relaxed) {
                    error!(name = %self.me.name, peer = %self.me.peer, "another machine runs under this node's identity");
                }
            }
            Event::FactsChanged { .. } => {}
        }
    }

    fn publish(&self, mesh: &Mesh) {
        let alive = self.others.iter().map(|m| m.peer).filter(|peer| mesh.alive(*peer)).chain([self.me.peer]).collect();
        let synced = self.heard().catch_up.compared().clone();
        let duplicate = self.duplicate.load(Ordering::Relaxed);
        self.snapshot.send_replace(Arc::new(Snapshot { facts: mesh.facts().clone(), alive, synced, duplicate }));
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
