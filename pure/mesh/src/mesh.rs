//! The engine: datagrams, time and own facts go in; datagrams and events come out.

use crate::{
    Delta, Digest, Facts, LUCK, MAX_DATAGRAM, MAX_ITEM, MAX_KEY, MAX_VALUE, Refused,
    facts::{Item, WHOLE},
    rivals::{Rivals, Undead},
    swim::{Alive, Swim},
    sync::is_key,
    wire::{Broadcast, Id, admit},
};
use osier_model::{PeerId, config::Member};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// How often members that are not alive are announced to.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// How many of them each time.
const ANNOUNCE_TO: usize = 3;
/// How many nodes foca sends a broadcast to at once.
const FANOUT: usize = 3;
/// The most datagrams to each of those that one moment's changes are sent in at once; the rest follows by itself.
const MOST_FLUSHES: usize = 16;

/// By how much a node's incarnation rises that others know in a later one without saying in which: by more than all that a
/// node can have taken since its disk knew better.
const LEAP: u64 = LUCK << 16;

/// How a mesh begins.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// This node.
    pub me: Member,
    /// Larger than at every former start of this node; kept on disk by the caller.
    pub incarnation: u64,
    /// Every node that belongs; this one may or may not be listed.
    pub members: Vec<Member>,
    /// How long after the first timeout the own facts count as whole even if [`Mesh::settle`] was not called.
    pub settle_after: Duration,
}

/// One node's part of the mesh.
pub struct Mesh {
    me: PeerId,
    incarnation: u64,
    members: Vec<Member>,
    known: BTreeSet<PeerId>,
    swim: Swim,
    alive: Alive,
    facts: Facts,
    rng: StdRng,
    events: VecDeque<Event>,
    announce_at: Duration,
    settle_after: Duration,
    settle_at: Option<Duration>,
    settled: bool,
    /// Encoded length of broadcasts that no datagram has carried yet.
    unsent: usize,
    left: bool,
    rivals: Rivals,
    undead: Undead,
}

/// A datagram to send, at most [`crate::MAX_DATAGRAM`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The member to send it to.
    pub to: PeerId,
    /// What to send.
    pub payload: Vec<u8>,
}

/// Something that the rest of the node may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member became alive.
    MemberUp(PeerId),
    /// A member is dead, has left or cannot be reached by anybody who was asked.
    MemberDown(PeerId),
    /// Facts of a node changed.
    FactsChanged {
        /// Whose.
        peer: PeerId,
    },
    /// Others knew this node in a later incarnation than its own, so it took this one. Its disk is old or was lost, or
    /// another machine runs under the same identity.
    Outbid {
        /// The incarnation from now on.
        incarnation: u64,
    },
    /// This node was outbid several times in a row, each time by an incarnation that it never had and that is later than the
    /// one it had just taken. No former life can have said that: another machine runs under the same identity right now.
    /// It comes again for as long as that is so. Neither should give anything out until the operator has stopped one.
    Duplicate,
}

/// A fact cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// The key is empty or too long.
    #[error("the fact's key must have 1 to {MAX_KEY} bytes")]
    Key,
    /// The value is too long.
    #[error("the fact's value has {0} bytes, more than {MAX_VALUE}")]
    Value(usize),
}

impl Mesh {
    /// Starts a node's part. Nothing happens before the first [`Mesh::handle_timeout`], which is due at once.
    pub fn new(config: MeshConfig, mut rng: StdRng) -> Self {
        let me = config.me.peer;
        let mut known: BTreeSet<PeerId> = config.members.iter().map(|member| member.peer).collect();
        known.insert(me);
        let swim = Swim::new(Id::new(me, config.incarnation), known.len(), StdRng::from_rng(&mut rng));
        let mut facts = Facts::default();
        facts.writable(me, config.incarnation);
        Self {
            me,
            incarnation: config.incarnation,
            members: config.members,
            known,
            swim,
            alive: Alive::default(),
            facts,
            rng,
            events: VecDeque::new(),
            announce_at: Duration::ZERO,
            settle_after: config.settle_after,
            settle_at: None,
            settled: false,
            unsent: 0,
            left: false,
            rivals: Rivals::default(),
            undead: Undead::default(),
        }
    }

    /// Says something about this node, or with `None` no longer. Saying the same again does nothing.
    pub fn set_fact(&mut self, key: &str, value: Option<Vec<u8>>) -> Result<(), FactError> {
        if !is_key(key) {
            return Err(FactError::Key);
        }
        if let Some(length) = value.as_ref().map(Vec::len).filter(|length| *length > MAX_VALUE) {
            return Err(FactError::Value(length));
        }
        if self.facts.get(self.me, key) != value.as_deref() {
            self.say(key, value.map(Into::into));
        }
        Ok(())
    }

    /// Says that the facts set so far are all there are: what this node said in its former life and has not repeated is
    /// gone for everybody.
    pub fn settle(&mut self) {
        if !self.settled {
            self.settled = true;
            self.say(WHOLE, Some(Arc::from([])));
        }
    }

    /// All facts known, of the dead too.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether a member counts as alive; this node always does.
    pub fn alive(&self, peer: PeerId) -> bool {
        peer == self.me || self.alive.contains(peer)
    }

    /// Every node that belongs.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// This node's incarnation.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Takes in a datagram that is known to come from `from`.
    pub fn handle_datagram(&mut self, now: Duration, from: PeerId, data: &[u8]) -> Result<(), Refused> {
        if self.left {
            return Ok(());
        }
        let admitted = admit(data, from, self.me, |peer| self.known.contains(&peer))?;
        let result = self.swim.handle_datagram(now, &admitted.data);
        self.outbid(now, (admitted.my_incarnation, 0));
        while let Some(encoded) = self.swim.poll_broadcast() {
            self.take_broadcast(now, &encoded);
        }
        if self.swim.poll_rejoined() && self.undead.note(now) {
            self.outbid(now, (self.incarnation.saturating_add(LEAP), 0));
        }
        self.collect_news();
        result
    }

    /// When [`Mesh::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.left {
            return None;
        }
        [Some(self.announce_at), self.settle_at, self.swim.poll_timeout()].into_iter().flatten().min()
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.left {
            return;
        }
        self.swim.handle_timeout(now);
        if self.announce_at <= now {
            self.announce_at = now + ANNOUNCE_EVERY;
            self.announce(now);
        }
        match self.settle_at {
            _ if self.settled => self.settle_at = None,
            None => self.settle_at = Some(now + self.settle_after),
            Some(at) if at <= now => self.settle(),
            Some(_) => {}
        }
        self.collect_news();
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Transmit> {
        if self.unsent > 0 && !self.left {
            for _ in 0..self.unsent.div_ceil(MAX_DATAGRAM).min(MOST_FLUSHES) {
                self.swim.flush(now);
            }
            self.unsent = 0;
        }
        let (to, payload) = self.swim.poll_transmit()?;
        Some(Transmit { to, payload })
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells the others that this node goes; afterwards it is silent and deaf.
    pub fn leave(&mut self) {
        self.swim.leave();
        self.left = true;
    }

    /// What this node knows, for comparison with another's.
    pub fn digest(&self) -> Digest {
        self.facts.digest()
    }

    /// What the sender of a digest does not know. It ends with the first origin that carries it beyond `limit` bytes; ask
    /// again for the rest.
    pub fn delta_since(&self, theirs: &Digest, limit: usize) -> Delta {
        self.facts.delta_since(theirs, limit)
    }

    /// Takes in what another node knows more. Parts about nodes that are no members are left out.
    pub fn apply_delta(&mut self, now: Duration, delta: Delta) -> Result<(), Refused> {
        for part in delta.origins {
            let peer = part.peer();
            if peer == self.me {
                self.outbid(now, part.age());
            } else if self.known.contains(&peer) && self.facts.apply(part)? {
                self.changed(peer);
            }
        }
        Ok(())
    }

    /// Looks whether another node's digest knows more of this node than itself.
    pub fn note_digest(&mut self, now: Duration, theirs: &Digest) {
        if let Some(age) = theirs.of(self.me) {
            self.outbid(now, age);
        }
    }

    fn announce(&mut self, now: Duration) {
        let absent = self.known.iter().filter(|peer| **peer != self.me && !self.alive.contains(**peer));
        for peer in absent.copied().sample(&mut self.rng, ANNOUNCE_TO) {
            self.swim.announce(now, peer);
        }
    }

    /// Writes and spreads an own fact.
    fn say(&mut self, key: &str, value: Option<Arc<[u8]>>) {
        let Some(origin) = self.facts.writable(self.me, self.incarnation) else { return };
        let version = origin.write(key, value.clone());
        let value = value.as_deref().map(<[u8]>::to_vec);
        let (origin, incarnation) = (self.me.0, self.incarnation);
        let broadcast = Broadcast { origin, incarnation, version, key: key.to_owned(), value };
        if let Ok(encoded) = postcard::to_stdvec(&broadcast)
            && encoded.len() <= MAX_ITEM
        {
            self.swim.spread(&encoded);
            self.unsent += encoded.len();
        }
        if key != WHOLE {
            self.changed(self.me);
        }
    }

    fn take_broadcast(&mut self, now: Duration, encoded: &[u8]) {
        let Ok(broadcast) = postcard::from_bytes::<Broadcast>(encoded) else { return };
        let peer = PeerId(broadcast.origin);
        let (incarnation, version) = (broadcast.incarnation, broadcast.version);
        if peer == self.me {
            return self.outbid(now, (incarnation, version));
        }
        let sound = (is_key(&broadcast.key) || broadcast.key == WHOLE) && encoded.len() <= MAX_ITEM && version > 0;
        if !sound || !self.known.contains(&peer) {
            return;
        }
        let item = Item { version, value: broadcast.value.map(Into::into) };
        let Some(origin) = self.facts.writable(peer, incarnation) else { return };
        let effect = origin.offer(&broadcast.key, item);
        if effect.seen {
            self.changed(peer);
        }
        if effect.news {
            self.swim.spread(encoded);
            // Where the origin reached everybody by itself, relaying at once would only repeat it.
            if self.known.len() > FANOUT + 1 {
                self.unsent += encoded.len();
            }
        }
    }

    /// Takes a higher incarnation if `theirs`, what others know of this node, is later than what it knows itself.
    fn outbid(&mut self, now: Duration, theirs: (u64, u64)) {
        let own = self.facts.origin(self.me).map_or(0, |origin| origin.complete);
        if theirs <= (self.incarnation, own) || !self.rivals.may_outbid(now) {
            return;
        }
        // By luck two machines that outbid the same incarnation at once do not take the same one.
        let step = 1 + self.rng.random_range(0..LUCK);
        let Some(incarnation) = theirs.0.checked_add(step) else { return };
        let said: Vec<(String, Arc<[u8]>)> =
            self.facts.of(self.me).map(|(key, value)| (key.to_owned(), value.into())).collect();
        self.incarnation = incarnation;
        self.undead = Undead::default();
        self.facts.forget(self.me);
        for (key, value) in said {
            self.say(&key, Some(value));
        }
        if std::mem::take(&mut self.settled) {
            self.settle();
        }
        self.swim.become_incarnation(now, incarnation);
        self.events.push_back(Event::Outbid { incarnation });
        if self.rivals.outbid(now) {
            self.events.push_back(Event::Duplicate);
        }
    }

    fn collect_news(&mut self) {
        while let Some((peer, up)) = self.swim.poll_news() {
            if self.alive.note(peer, up) {
                self.events.push_back(if up { Event::MemberUp(peer) } else { Event::MemberDown(peer) });
            }
        }
    }

    fn changed(&mut self, peer: PeerId) {
        let event = Event::FactsChanged { peer };
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }
}
