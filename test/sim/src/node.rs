//! One node: its disk, its containers, and while its agent lives the mesh and the ring with what the agent does between
//! them. Must not know other nodes, or how messages travel.

mod networks;

use crate::{
    Plant,
    members::Known,
    network::Message,
    world::{RANGE, member, number, peer},
};
use osier_mesh::{CatchUp, Event, Mesh, MeshConfig, Refused, incarnation};
use osier_model::{NetworkId, PeerId};
use osier_names::{Record, Records};
use osier_networks::Book;
use osier_ring::{Allocation, ChunkRecord, ChunkReply, ChunkRequest, Conflict, MergeOutcome, Owner, Refusal, Ring};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

/// How long one peer may take to answer a request for a chunk.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// How long an allocation goes on.
const ALLOCATE_DEADLINE: Duration = Duration::from_secs(8);
/// The pause between two rounds of asking.
const ASK_PAUSE: Duration = Duration::from_millis(200);
/// Keys of facts begin with one of these.
const RING: &str = "ring/";
const NAME: &str = "name/";

/// What a death leaves.
#[derive(Clone)]
pub(crate) struct Disk {
    /// How often the agent has started by its own count.
    starts: u64,
    pub(crate) ring: Ring,
    /// The networks of users; written before anybody hears of it.
    book: Book,
    /// What it knows of who belongs.
    pub(crate) known: Known,
}

/// A container, running or not. It keeps its address until it is removed.
#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) id: u64,
    pub(crate) address: Ipv4Addr,
    pub(crate) name: u32,
    pub(crate) running: bool,
    /// In which life of its agent it was made.
    life: u64,
}

/// See the module.
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) side: u8,
    /// Until when the machine stands still.
    pub(crate) paused: Duration,
    pub(crate) disk: Disk,
    kept: Option<(Disk, BTreeMap<u64, Container>)>,
    pub(crate) containers: BTreeMap<u64, Container>,
    pub(crate) life: Option<Life>,
    /// How often it has started, which no disk forgets: a connection ends with its ends.
    pub(crate) starts: u64,
    /// Its disk is not the last one that it wrote.
    behind: bool,
    /// It was removed and knows it, or its machine was destroyed: it never starts again.
    pub(crate) gone: bool,
    /// Its agent is to start anew at once.
    pub(crate) restart: bool,
    /// Chunks that it has inherited since somebody looked.
    pub(crate) inherited: u64,
}

/// What ends with the agent.
pub(crate) struct Life {
    pub(crate) mesh: Mesh,
    pub(crate) ring: Ring,
    /// Those who belong to the cluster, itself among them.
    pub(crate) members: Vec<PeerId>,
    /// What it waits for before it gives anything out.
    pub(crate) catch_up: CatchUp,
    /// When it compares with somebody next, and with whom first.
    pub(crate) compare_at: Duration,
    pub(crate) compare_first: VecDeque<usize>,
    wants: Vec<Want>,
    /// Why it gives out no addresses any more.
    pub(crate) conflict: Option<String>,
    /// It has compared everything with somebody, which may settle what was open.
    pub(crate) look: bool,
    /// Another machine runs under its identity; it gives nothing out any more.
    pub(crate) duplicate: bool,
    outbox: Vec<(PeerId, Message)>,
    pub(crate) rng: StdRng,
    pub(crate) plant: Option<Plant>,
    /// Which life of the node this is.
    number: u64,
    /// Since when it has known of no further network that was removed.
    gone_since: Duration,
    /// Nothing is left for it to inherit.
    pub(crate) provided: bool,
}

/// A container that is to get an address.
struct Want {
    id: u64,
    name: u32,
    until: Duration,
    /// When something is to be done for it.
    at: Duration,
    /// The peers that are still to be asked in this round, and whether one is being asked.
    ask: VecDeque<PeerId>,
    asking: bool,
}

/// What has become of a want.
pub(crate) enum Outcome {
    Granted,
    Refused,
}

/// Who holds the address of a container.
pub(crate) fn label(id: u64) -> Owner {
    Owner::new(format!("container:{id}"))
}

impl Node {
    pub(crate) fn new(n: usize, founds: bool, known: Known) -> Self {
        Self {
            peer: peer(n),
            side: 0,
            paused: Duration::ZERO,
            disk: Disk::empty(n, founds, known),
            kept: None,
            containers: BTreeMap::new(),
            life: None,
            starts: 0,
            behind: false,
            gone: false,
            restart: false,
            inherited: 0,
        }
    }

    /// The ring as the node knows it now, or would after a start.
    pub(crate) fn ring(&self) -> &Ring {
        self.life.as_ref().map_or(&self.disk.ring, |life| &life.ring)
    }

    pub(crate) fn is_paused(&self, now: Duration) -> bool {
        self.paused > now
    }

    /// Whether it may not know yet what its disk has missed.
    pub(crate) fn is_behind(&self, now: Duration) -> bool {
        self.behind && !self.life.as_ref().is_some_and(|life| life.has_caught_up(now))
    }

    pub(crate) fn keep_disk(&mut self) {
        self.kept = Some((self.disk.clone(), self.containers.clone()));
    }

    pub(crate) fn roll_back(&mut self) {
        if let Some((disk, containers)) = &self.kept {
            (self.disk, self.containers) = (disk.clone(), containers.clone());
            self.containers.values_mut().for_each(|c| c.running = false);
            self.behind = true;
        }
    }

    /// The disk is empty, as on a new machine under the old identity. A founder founds again, as the agent does.
    pub(crate) fn lose_disk(&mut self, founder: bool) {
        let n = number(self.peer);
        // Who belongs is on a new machine before its agent is.
        self.disk = Disk::empty(n, founder, std::mem::take(&mut self.disk.known));
        (self.kept, self.behind) = (None, true);
        self.containers.clear();
    }

    /// A second machine with a copy of the disk, on which nothing runs yet. It is behind like one that was put back.
    pub(crate) fn twin(&self) -> Self {
        let mut containers = self.containers.clone();
        containers.values_mut().for_each(|c| c.running = false);
        let (disk, starts) = (self.disk.clone(), self.starts);
        Self { disk, containers, starts, behind: true, ..Self::new(number(self.peer), false, Known::default()) }
    }

    /// The disk may not know what a clone has done under its identity.
    pub(crate) fn had_twin(&mut self) {
        self.behind = true;
    }

    /// The addresses that this life has given out.
    pub(crate) fn given(&self) -> impl Iterator<Item = Ipv4Addr> {
        let life = self.life.as_ref().map(|life| life.number);
        self.containers.values().filter(move |c| Some(c.life) == life).map(|c| c.address)
    }

    pub(crate) fn start(&mut self, now: Duration, plant: Option<Plant>, mut rng: StdRng) {
        self.starts += 1;
        self.disk.starts += 1;
        let me = number(self.peer);
        let belongs: Vec<usize> = self.disk.known.members().map(number).collect();
        let members = belongs.iter().copied().map(member).collect();
        let incarnation = incarnation(self.disk.starts, rng.random());
        let config = MeshConfig { me: member(me), incarnation, members, settle_after: Duration::from_secs(10) };
        let mut others: VecDeque<usize> = belongs.iter().copied().filter(|n| *n != me).collect();
        others.rotate_left(rng.random_range(0..others.len().max(1)));
        let mut life = Life {
            mesh: Mesh::new(config, StdRng::from_rng(&mut rng)),
            ring: self.disk.ring.clone(),
            members: belongs.into_iter().map(peer).collect(),
            catch_up: CatchUp::new(now, self.peer, self.disk.known.members(), self.disk.known.removed.keys().copied()),
            compare_at: now + Duration::from_millis(rng.random_range(5..500)),
            compare_first: others,
            wants: Vec::new(),
            conflict: None,
            look: false,
            duplicate: false,
            outbox: Vec::new(),
            rng,
            plant,
            number: self.starts,
            gone_since: now,
            provided: false,
        };
        // What is held for containers that are gone is free.
        let gone: Vec<Owner> = life.ring.held().map(|(_, owner)| owner.clone()).collect();
        let here: BTreeSet<Owner> = self.containers.keys().map(|id| label(*id)).collect();
        for owner in gone.into_iter().filter(|owner| !here.contains(owner)) {
            life.ring.release(&owner);
        }
        life.acknowledge(&self.disk.known);
        life.publish();
        life.publish_networks(&self.disk.book);
        for container in self.containers.values().filter(|c| c.running) {
            life.tell(container, true);
        }
        life.mesh.settle();
        self.life = Some(life);
        self.write();
    }

    /// Writes what must outlive the agent.
    pub(crate) fn write(&mut self) {
        if let Some(life) = &self.life {
            self.disk.ring.clone_from(&life.ring);
        }
    }

    pub(crate) fn create(&mut self, now: Duration, id: u64, name: u32) {
        if let Some(life) = &mut self.life {
            let until = now + ALLOCATE_DEADLINE;
            life.wants.push(Want { id, name, until, at: now, ask: VecDeque::new(), asking: false });
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        let (Some(container), Some(life)) = (self.containers.remove(&id), &mut self.life) else { return };
        life.tell(&container, life.plant == Some(Plant::KeepNames) && container.running);
        life.ring.release(&label(id));
        self.write();
    }

    pub(crate) fn toggle(&mut self, id: u64) {
        let (Some(container), Some(life)) = (self.containers.get_mut(&id), &mut self.life) else { return };
        container.running = !container.running;
        life.tell(container, container.running || life.plant == Some(Plant::KeepNames));
    }

    /// When something is due here by itself.
    pub(crate) fn due(&self, now: Duration) -> Option<Duration> {
        let life = self.life.as_ref()?;
        let wants = life.wants.iter().map(|want| want.at);
        let due = life.mesh.poll_timeout().into_iter().chain([life.compare_at]).chain(wants).min()?;
        Some(if self.is_paused(now) { due.max(self.paused) } else { due })
    }

    /// Does what is due, and says what became of wants.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let Some(life) = &mut self.life else { return outcomes };
        if life.mesh.poll_timeout().is_some_and(|at| at <= now) {
            life.mesh.handle_timeout(now);
        }
        if self.behind && life.has_caught_up(now) {
            self.behind = false;
        }
        if !life.wants.iter().any(|want| want.at <= now) {
            return outcomes;
        }
        let mut wants = std::mem::take(&mut life.wants);
        wants.retain_mut(|want| {
            if want.at > now {
                return true;
            }
            match life.further(now, want) {
                None => return true,
                Some(Some(address)) => {
                    let (id, name, life_number) = (want.id, want.name, life.number);
                    let container = Container { id, address, name, running: true, life: life_number };
                    life.tell(&container, true);
                    self.containers.insert(want.id, container);
                    outcomes.push(Outcome::Granted);
                }
                Some(None) => outcomes.push(Outcome::Refused),
            }
            false
        });
        life.wants = wants;
        self.write();
        outcomes
    }

    /// Takes a message in; whether a chunk was given away.
    pub(crate) fn receive(&mut self, now: Duration, from: PeerId, message: Message) -> bool {
        let Some(life) = &mut self.life else { return false };
        match message {
            // What else is refused is for a former life.
            Message::Datagram(bytes) => {
                if life.mesh.handle_datagram(now, from, &bytes) == Err(Refused::Stranger) {
                    life.catch_up.note_stranger(from);
                }
            }
            Message::Ask(request, want) => {
                let reply = if life.has_caught_up(now) && life.is_alone(now) {
                    life.give(from, &request)
                } else {
                    ChunkReply::Nothing { id: request.id, reason: Refusal::NoneFree }
                };
                let given = matches!(reply, ChunkReply::Given { .. });
                life.outbox.push((from, Message::Reply(reply, want)));
                if life.plant != Some(Plant::SendFirst) {
                    self.write();
                }
                return given;
            }
            Message::Reply(reply, id) => {
                let outcome = life.ring.accept(&reply);
                life.note(outcome, &mut self.containers);
                life.publish();
                let given = matches!(reply, ChunkReply::Given { .. });
                for want in life.wants.iter_mut().filter(|want| want.asking && want.id == id) {
                    want.asking = false;
                    if given {
                        want.ask.clear();
                    }
                    want.at = if given || !want.ask.is_empty() { now } else { now + ASK_PAUSE };
                }
                self.write();
            }
        }
        false
    }

    /// Takes in what the mesh has learnt, and hands out what is to be sent.
    pub(crate) fn drain(&mut self, now: Duration) -> Vec<(PeerId, Message)> {
        let Some(life) = &mut self.life else { return Vec::new() };
        let mut changed = BTreeSet::new();
        let mut look = std::mem::take(&mut life.look);
        while let Some(event) = life.mesh.poll_event() {
            look = true;
            match event {
                Event::FactsChanged { peer } if peer != self.peer => drop(changed.insert(peer)),
                Event::Outbid { .. } if life.plant != Some(Plant::IgnoreClones) => life.catch_up.note_outbid(now),
                Event::Duplicate if life.plant != Some(Plant::IgnoreClones) => life.duplicate = true,
                _ => {}
            }
        }
        let mut news = false;
        for peer in changed {
            let outcome = life.merge(peer);
            news |= outcome.changed;
            life.note(outcome, &mut self.containers);
        }
        if news {
            life.publish();
            self.write();
        }
        if look {
            self.hear_networks(now);
            self.hear_members();
            self.inherit(now);
        }
        let Some(life) = &mut self.life else { return Vec::new() };
        let mut out = std::mem::take(&mut life.outbox);
        while let Some(transmit) = life.mesh.poll_transmit(now) {
            out.push((transmit.to, Message::Datagram(transmit.payload)));
        }
        out
    }

    /// The records that its resolver answers from.
    pub(crate) fn records(&self, plant: Option<Plant>) -> Records {
        let Some(life) = &self.life else { return Records::default() };
        let trusts = |peer: PeerId| plant == Some(Plant::TrustTheDead) || life.mesh.alive(peer);
        let named = life.mesh.facts().iter().filter(|(peer, key, _)| key.starts_with(NAME) && trusts(*peer));
        let records = named.filter_map(|(node, key, value)| {
            let (address, name): (Ipv4Addr, u32) = serde_json::from_slice(value).ok()?;
            let names = format!("name-{name}").parse().into_iter().collect();
            Some(Record {
                address,
                network: Some(NetworkId::MAIN),
                node,
                container: key.to_owned(),
                names,
                links: Vec::new(),
            })
        });
        Records::new(records.collect(), Vec::new())
    }
}

impl Disk {
    fn empty(n: usize, founds: bool, known: Known) -> Self {
        let range = RANGE.parse().unwrap_or_default();
        let ring = if founds { Ring::found(range, peer(n), &[]) } else { Ring::join(range, peer(n), &[]) };
        Self { starts: 0, ring, book: Book::default(), known }
    }
}

impl Life {
    /// Whether the ring is no older than what others hold, as far as they can be heard in time. Two that compare what they
    /// know begin with who belongs here, so nobody who was compared with knows anything else of that.
    pub(crate) fn has_caught_up(&self, now: Duration) -> bool {
        self.plant == Some(Plant::NoCatchUp) || now >= self.catch_up.ends(|_| false)
    }

    /// Whether no other machine under its identity can have given away the same chunks: after so long each of two has heard of
    /// the other.
    pub(crate) fn is_alone(&self, now: Duration) -> bool {
        !self.duplicate && (self.plant == Some(Plant::NoCatchUp) || now >= self.catch_up.alone_from())
    }

    /// Goes on with a want that is due: an address, none for good, or nothing yet.
    fn further(&mut self, now: Duration, want: &mut Want) -> Option<Option<Ipv4Addr>> {
        if !self.has_caught_up(now) {
            want.at = now + ASK_PAUSE;
            return None;
        }
        if self.conflict.is_some() || self.duplicate {
            return Some(None);
        }
        // The one who was asked has not answered in time.
        let late = std::mem::take(&mut want.asking);
        let ask = match self.ring.allocate(&label(want.id)) {
            Allocation::Granted(address) => return Some(Some(address)),
            Allocation::Full => return Some(None),
            Allocation::NeedChunk { ask } => ask,
        };
        if want.ask.is_empty() && !late {
            let ask = if ask.is_empty() { self.members.clone() } else { ask };
            want.ask = ask.into_iter().filter(|p| self.mesh.alive(*p) && *p != self.ring.me()).collect();
        }
        match want.ask.pop_front() {
            Some(peer) if now <= want.until => {
                let request: ChunkRequest = self.ring.request_chunk(self.rng.random());
                self.outbox.push((peer, Message::Ask(request, want.id)));
                (want.asking, want.at) = (true, now + ASK_DEADLINE);
                None
            }
            _ if now > want.until => Some(None),
            _ => {
                want.at = now + ASK_PAUSE;
                None
            }
        }
    }

    fn give(&mut self, from: PeerId, request: &ChunkRequest) -> ChunkReply {
        let reply = self.ring.give(from, request, &self.members);
        self.publish();
        reply
    }

    /// Takes in the records that a peer has published.
    fn merge(&mut self, peer: PeerId) -> MergeOutcome {
        let mut all = MergeOutcome::default();
        let records = self.mesh.facts().of(peer).filter(|(key, _)| key.starts_with(RING));
        for record in records.filter_map(|(_, value)| serde_json::from_slice::<ChunkRecord>(value).ok()) {
            let outcome = self.ring.merge(&record);
            all.changed |= outcome.changed;
            all.conflicts.extend(outcome.conflicts);
        }
        all
    }

    /// A contradiction ends giving out addresses. Containers on a disk that was put back, whose addresses were given away
    /// since, cannot keep them: the agent says so, and here the operator removes them.
    pub(crate) fn note(&mut self, outcome: MergeOutcome, containers: &mut BTreeMap<u64, Container>) {
        for conflict in outcome.conflicts {
            match conflict {
                Conflict::Overruled { held, .. } => {
                    let lost: BTreeSet<Ipv4Addr> = held.into_iter().map(|(address, _)| address).collect();
                    let gone: Vec<Container> =
                        containers.values().filter(|c| lost.contains(&c.address)).cloned().collect();
                    for container in gone {
                        if container.life == self.number {
                            let address = container.address;
                            self.conflict = Some(format!("{address} was given out although it is another node's"));
                        }
                        self.tell(&container, false);
                        self.ring.release(&label(container.id));
                        containers.remove(&container.id);
                    }
                }
                other => self.conflict = Some(other.to_string()),
            }
        }
    }

    /// Makes the ring's own records facts.
    pub(crate) fn publish(&mut self) {
        let own: Vec<String> = self.mesh.facts().of(self.ring.me()).map(|(key, _)| key.to_owned()).collect();
        let mut stale: BTreeSet<String> = own.into_iter().filter(|key| key.starts_with(RING)).collect();
        for record in self.ring.my_records() {
            let key = format!("{RING}{}", record.first);
            stale.remove(&key);
            self.set(&key, serde_json::to_vec(&record).ok());
        }
        for key in stale {
            self.set(&key, None);
        }
    }

    /// Tells everybody the name of a container, or that it has none any more.
    fn tell(&mut self, container: &Container, named: bool) {
        let value = serde_json::to_vec(&(container.address, container.name)).ok().filter(|_| named);
        self.set(&format!("{NAME}{}", container.id), value);
    }

    pub(crate) fn set(&mut self, key: &str, value: Option<Vec<u8>>) {
        // Keys and values of this kind are never too long.
        let _ = self.mesh.set_fact(key, value);
    }
}
