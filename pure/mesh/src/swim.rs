//! foca, driven: timers over virtual time, datagrams and news collected, broadcasts passed through.
//!
//! Must not know what a broadcast means: it hands each one up once per arrival, and spreads what it is told to.

use crate::{
    MAX_DATAGRAM, Refused,
    wire::{Broadcast, Id},
};
use foca::{BroadcastHandler, Config, Foca, Invalidates, Notification, PostcardCodec, Runtime, Timer};
use osier_model::PeerId;
use rand::rngs::StdRng;
use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeSet, BinaryHeap, VecDeque},
    convert::Infallible,
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

/// How often each node repeats an update or fact at the least. foca would do it twice among three nodes, so that under
/// 5 % loss a suspicion that nobody answers in time comes about every few hours; with eight it practically never does.
const LEAST_TRANSMISSIONS: u8 = 8;

pub(crate) struct Swim {
    foca: Foca<Id, PostcardCodec, StdRng, Tap>,
    effects: Effects,
    timers: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    arrived: Receiver<Vec<u8>>,
}

impl Swim {
    pub(crate) fn new(me: Id, members: usize, rng: StdRng) -> Self {
        let (tap, arrived) = channel();
        let foca = Foca::with_custom_broadcast(me, config(members), rng, PostcardCodec, Tap(tap));
        Self { foca, effects: Effects::default(), timers: BinaryHeap::new(), sequence: 0, arrived }
    }

    pub(crate) fn announce(&mut self, now: Duration, peer: PeerId) {
        // The receiver compares the node only: an announcement may be addressed to any of its lives.
        let sent = self.foca.announce(Id::new(peer, 0), &mut self.effects);
        debug_assert!(sent.is_ok(), "an announcement always fits");
        self.schedule(now);
    }

    pub(crate) fn handle_datagram(&mut self, now: Duration, data: &[u8]) -> Result<(), Refused> {
        let result = self.foca.handle_data(data, &mut self.effects);
        self.go_on();
        self.schedule(now);
        result.map_err(|_| Refused::Malformed)
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        while self.timers.peek().is_some_and(|Reverse(due)| due.at <= now) {
            let Some(Reverse(due)) = self.timers.pop() else { break };
            // The only errors here are timers of a state that has passed and a probe that was late, for instance because
            // the machine slept; foca has recovered from both when it reports them.
            let _ = self.foca.handle_timer(due.timer, &mut self.effects);
            self.go_on();
            self.schedule(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse(due)| due.at)
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(PeerId, Vec<u8>)> {
        self.effects.datagrams.pop_front()
    }

    /// A node that came up (true) or went down.
    pub(crate) fn poll_news(&mut self) -> Option<(PeerId, bool)> {
        self.effects.news.pop_front()
    }

    /// A broadcast that arrived, encoded; it spreads further only if it is handed to [`Swim::spread`].
    pub(crate) fn poll_broadcast(&mut self) -> Option<Vec<u8>> {
        self.arrived.try_recv().ok()
    }

    /// Puts an encoded broadcast among those that ride in the next datagrams.
    pub(crate) fn spread(&mut self, encoded: &[u8]) {
        // It was checked when it was made or came in, and its length is below foca's limit.
        let _ = self.foca.add_broadcast(encoded);
    }

    /// Sends waiting broadcasts at once instead of with the next datagrams.
    pub(crate) fn flush(&mut self, now: Duration) {
        let _ = self.foca.broadcast(&mut self.effects);
        self.schedule(now);
    }

    pub(crate) fn become_incarnation(&mut self, now: Duration, incarnation: u64) {
        let me = Id::new(self.foca.identity().peer(), incarnation);
        let _ = self.foca.change_identity(me, &mut self.effects);
        self.effects.renewed = true;
        self.go_on();
        self.schedule(now);
    }

    /// Whether others had declared this node dead, so that it took a new identity, since this was asked last.
    pub(crate) fn poll_rejoined(&mut self) -> bool {
        std::mem::take(&mut self.effects.rejoined)
    }

    /// With a new identity foca waits for somebody to be heard before it looks after the members that it knows. Where
    /// nobody is heard any more, it would take all of them for alive for ever; so it is told to go on at once.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.effects.renewed) {
            // There is nothing in it that could be refused.
            let _ = self.foca.apply_many(std::iter::empty(), false, &mut self.effects);
        }
    }

    /// Tells a few nodes, who tell the others, that this one is gone.
    pub(crate) fn leave(&mut self) {
        let _ = self.foca.leave_cluster(&mut self.effects);
        self.timers.clear();
    }

    fn schedule(&mut self, now: Duration) {
        for (timer, after) in self.effects.timers.drain(..) {
            self.sequence += 1;
            self.timers.push(Reverse(Due { at: now + after, sequence: self.sequence, timer }));
        }
    }
}

/// foca's settings for a local network, with what this use needs changed.
fn config(members: usize) -> Config {
    let size = u32::try_from(members).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let mut config = Config::new_lan(size);
    config.max_packet_size = NonZeroUsize::new(MAX_DATAGRAM).unwrap_or(config.max_packet_size);
    config.max_transmissions =
        config.max_transmissions.max(NonZeroU8::new(LEAST_TRANSMISSIONS).unwrap_or(NonZeroU8::MIN));
    // Members that are not alive are announced to by the mesh, much more often.
    config.periodic_announce_to_down_members = None;
    config.remove_down_after = None;
    config
}

#[derive(Debug)]
struct Due {
    at: Duration,
    sequence: u64,
    timer: Timer<Id>,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, &self.timer, self.sequence).cmp(&(other.at, &other.timer, other.sequence))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

#[derive(Default)]
struct Effects {
    datagrams: VecDeque<(PeerId, Vec<u8>)>,
    timers: Vec<(Timer<Id>, Duration)>,
    news: VecDeque<(PeerId, bool)>,
    /// This node has taken a new identity, because others had declared the former one dead.
    renewed: bool,
    /// The same, since it was asked for.
    rejoined: bool,
}

impl Runtime<Id> for Effects {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        match notification {
            Notification::MemberUp(id) => self.news.push_back((id.peer(), true)),
            Notification::MemberDown(id) => self.news.push_back((id.peer(), false)),
            Notification::Rejoin(_) => {
                self.renewed = true;
                self.rejoined = true;
            }
            _ => {}
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.datagrams.push_back((to.peer(), data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// Hands arriving broadcasts up; only what comes back through [`Swim::spread`] is spread.
struct Tap(Sender<Vec<u8>>);

struct Key {
    origin: [u8; 6],
    age: (u64, u64),
    key: String,
}

impl Invalidates for Key {
    fn invalidates(&self, other: &Self) -> bool {
        self.origin == other.origin && self.age >= other.age && (self.key == other.key || self.age.0 > other.age.0)
    }
}

impl BroadcastHandler<Id> for Tap {
    type Key = Key;
    type Error = Infallible;

    fn receive_item(&mut self, data: &[u8], sender: Option<&Id>) -> Result<Option<Key>, Infallible> {
        if sender.is_some() {
            // The receiver lives in the same struct as this sender.
            let _ = self.0.send(data.to_vec());
            return Ok(None);
        }
        let broadcast = postcard::from_bytes::<Broadcast>(data).ok();
        Ok(broadcast.map(|b| Key { origin: b.origin, age: (b.incarnation, b.version), key: b.key }))
    }
}

/// The nodes that SWIM counts as alive, kept from its news.
#[derive(Debug, Default)]
pub(crate) struct Alive(BTreeSet<PeerId>);

impl Alive {
    pub(crate) fn note(&mut self, peer: PeerId, up: bool) -> bool {
        if up { self.0.insert(peer) } else { self.0.remove(&peer) }
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.0.contains(&peer)
    }
}
