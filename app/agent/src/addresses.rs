//! Addresses for containers: the ring, its file, and asking other nodes for a chunk when this one runs short.
//!
//! Persist, then answer: every change of the ring is on disk before anybody is told, container or peer.

mod peers;

use peers::Asked;
pub(crate) use peers::answer;

use crate::facts::prefix;
use ipnet::Ipv4Net;
use osier_gossip::Handle;
use osier_model::{NetworkId, PeerId};
use osier_ring::{Allocation, Claim, Owner, Ring, RingError, Stats};
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use tracing::error;

/// How long one peer may take to answer a request for a chunk.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// How long an allocation goes on asking before it says that there is nothing to be had: long enough for a node that has
/// just started to hear of its peers, short enough for a caller that waits.
const ALLOCATE_DEADLINE: Duration = Duration::from_secs(8);
/// For how long after a start all that others have published is taken in before an address is given out; longer than anybody is
/// waited for.
const TAKE_IN: Duration = Duration::from_secs(10);
/// How long a peer that refuses to answer is asked for one certain address: longer than it does after a start.
const CLAIM_DEADLINE: Duration = Duration::from_secs(7);
/// The pause between two rounds of asking.
const ASK_PAUSE: Duration = Duration::from_millis(200);

/// No address could be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("every address of {0} is in use")]
    Full(Ipv4Net),
    #[error("this node has no free addresses and no peer gave any (asked: {0})")]
    NobodyGives(String),
    #[error("address {0} is in use by {1}")]
    Taken(Ipv4Addr, String),
    #[error("address {0} is node {1}'s to give, and it does not: it is in use there, or the node does not answer")]
    Foreign(Ipv4Addr, String),
    #[error("address {0} is the network's own and cannot be a container's")]
    Reserved(Ipv4Addr),
    #[error("address {0} is outside the range {1}")]
    Outside(Ipv4Addr, Ipv4Net),
    #[error("this node has just started and has not heard from all others yet")]
    Starting,
    #[error("no address is given out: {0}")]
    Conflict(String),
    #[error("go on with the address ring kept on disk")]
    Resume(#[source] RingError),
    #[error("keep the ring")]
    Store(#[source] osier_store::Error),
}

/// How a node without a ring on disk comes by one.
pub(crate) enum Start<'a> {
    /// It founds the ring, alone.
    Found,
    /// It learns of the ring from the node that founded it.
    Join,
    /// All of these found it together, by the same rule on every node.
    Among(&'a BTreeSet<PeerId>),
}

/// One network's ring as this node has it.
pub(crate) struct Addresses {
    network: NetworkId,
    pool: Ipv4Net,
    path: PathBuf,
    members: Vec<PeerId>,
    others: Vec<PeerId>,
    inner: Mutex<Inner>,
    gossip: OnceLock<(Handle, Joined)>,
}

/// How this node joined the mesh.
struct Joined {
    at: Instant,
    /// Short for what it knew of who belongs.
    digest: String,
}

struct Inner {
    ring: Ring,
    /// The file says less than the ring: it was changed by [`Addresses::hand_over`].
    unwritten: bool,
    /// The network is gone.
    discarded: bool,
    /// Members that are to tell what they know before this node takes over what removed nodes left.
    waits_for: BTreeSet<PeerId>,
    /// Why allocation has stopped, once two nodes were seen to own the same chunk.
    conflict: Option<String>,
}

impl Addresses {
    /// Takes up the ring of an earlier run. Where there is none, it comes by one as `start` says; a founder that has run
    /// before must join, so that a lost file never founds a second ring.
    pub(crate) fn open(
        path: PathBuf,
        (network, pool): (NetworkId, Ipv4Net),
        me: PeerId,
        members: Vec<PeerId>,
        reserved: &[Ipv4Addr],
        start: Start<'_>,
    ) -> Result<Self, AddressError> {
        let kept: Option<Ring> = osier_store::read_state(&path).map_err(AddressError::Store)?;
        let ring = match kept {
            Some(ring) => ring.resume(pool, me, reserved).map_err(AddressError::Resume)?,
            None => match start {
                Start::Found => Ring::found(pool, me, reserved),
                Start::Join => Ring::join(pool, me, reserved),
                Start::Among(founders) => Ring::found_among(pool, me, founders, reserved),
            },
        };
        let inner =
            Mutex::new(Inner { ring, unwritten: false, discarded: false, waits_for: BTreeSet::new(), conflict: None });
        let others = members.iter().copied().filter(|m| *m != me).collect();
        let this = Self { network, pool, path, members, others, inner, gossip: OnceLock::new() };
        this.change(|_| ())?;
        Ok(this)
    }

    /// Connects the ring to the mesh, of a node that knows the statements of this digest.
    pub(crate) fn connect(&self, gossip: Handle, digest: String) {
        let _ = self.gossip.set((gossip, Joined { at: Instant::now(), digest }));
        self.publish();
    }

    /// Removes the ring's file: its network is gone. Whoever still has it in hand changes nothing any more that others see.
    pub(crate) fn discard(&self) -> Result<(), AddressError> {
        self.lock().discarded = true;
        osier_store::remove(&self.path).map_err(AddressError::Store)
    }

    /// What the keys of its facts begin with.
    fn prefix(&self) -> String {
        match self.network {
            NetworkId::MAIN => prefix::RING.to_owned(),
            id => format!("{}{id}/", prefix::RING),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ring and writes it; on a failed write the ring is as it was.
    fn change<T>(&self, edit: impl FnOnce(&mut Ring) -> T) -> Result<T, AddressError> {
        let mut inner = self.lock();
        let mut next = inner.ring.clone();
        let result = edit(&mut next);
        if inner.discarded {
            return Ok(result);
        }
        if next != inner.ring || inner.unwritten || !self.path.exists() {
            let write = || osier_store::write_state(&self.path, &next, osier_store::PUBLIC);
            tokio::task::block_in_place(write).map_err(AddressError::Store)?;
            (inner.ring, inner.unwritten) = (next, false);
        }
        Ok(result)
    }

    fn sound(&self) -> Result<(), AddressError> {
        self.lock().conflict.clone().map_or(Ok(()), |c| Err(AddressError::Conflict(c)))
    }

    /// An address for this owner: the one it has, or a new one.
    pub(crate) async fn allocate(&self, owner: &Owner) -> Result<Ipv4Addr, AddressError> {
        self.catch_up().await;
        let end = Instant::now() + ALLOCATE_DEADLINE;
        loop {
            self.sound()?;
            let ask = match self.change(|ring| ring.allocate(owner))? {
                Allocation::Granted(address) => return Ok(address),
                Allocation::Full => return Err(AddressError::Full(self.pool)),
                Allocation::NeedChunk { ask } => ask,
            };
            let ask = self.worth_asking(ask);
            let mut given = false;
            for peer in &ask {
                given = self.ask(*peer, |ring, luck| ring.request_chunk(luck)).await == Asked::Given;
                if given || Instant::now() > end {
                    break;
                }
            }
            if !given && Instant::now() > end {
                let names: Vec<String> = ask.iter().map(ToString::to_string).collect();
                return Err(AddressError::NobodyGives(names.join(", ")));
            }
            if !given {
                tokio::time::sleep(ASK_PAUSE).await;
            }
        }
    }

    /// Gives nothing out any more, for this reason, until the agent is started anew.
    pub(crate) fn halt(&self, reason: String) {
        if self.lock().conflict.replace(reason.clone()).is_none() {
            error!(network = %self.network, reason, "no addresses are given out");
        }
    }

    /// Who on this node holds the address.
    pub(crate) fn holder(&self, address: Ipv4Addr) -> Option<Owner> {
        self.lock().ring.owner_of(address).cloned()
    }

    /// Whether the address is kept for a container, running or not.
    pub(crate) fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.holder(address).is_some_and(|o| o.as_str() != host().as_str() && is_pinned(&o))
    }

    /// The address this owner has, if it has one.
    pub(crate) fn held_by(&self, owner: &Owner) -> Option<Ipv4Addr> {
        self.lock().ring.held().find(|(_, o)| *o == owner).map(|(address, _)| address)
    }

    /// Takes one certain address for this owner, and asks the node that may give it out where that is another one.
    pub(crate) async fn claim(&self, owner: &Owner, address: Ipv4Addr) -> Result<Ipv4Addr, AddressError> {
        self.catch_up().await;
        self.sound()?;
        if let Claim::Foreign(whose) = self.change(|ring| ring.claim(owner, address))? {
            let end = Instant::now() + CLAIM_DEADLINE;
            loop {
                let mut is_refused = false;
                for peer in self.worth_asking(whose.into_iter().collect()) {
                    is_refused |=
                        self.ask(peer, |ring, luck| ring.request_address(address, luck)).await == Asked::Refused;
                }
                if !is_refused || Instant::now() > end {
                    break;
                }
                tokio::time::sleep(ASK_PAUSE).await;
            }
        }
        self.claim_own(owner, address)
    }

    /// Takes one certain address for this owner where this node may give it out.
    fn claim_own(&self, owner: &Owner, address: Ipv4Addr) -> Result<Ipv4Addr, AddressError> {
        self.sound()?;
        match self.change(|ring| ring.claim(owner, address))? {
            Claim::Granted => Ok(address),
            Claim::Taken(by) => Err(AddressError::Taken(address, by.to_string())),
            Claim::Foreign(of) => Err(AddressError::Foreign(address, of.map_or("unknown".into(), |p| p.to_string()))),
            Claim::Reserved => Err(AddressError::Reserved(address)),
            Claim::OutsideRange => Err(AddressError::Outside(address, self.pool)),
        }
    }

    /// Takes an address that a container already has; one that it holds itself is fine.
    pub(crate) fn adopt(&self, owner: &Owner, address: Ipv4Addr) -> Result<(), AddressError> {
        match self.holder(address) {
            Some(holder) if holder == *owner => Ok(()),
            // A create whose answer nobody saw, or a start that reached the engine past the proxy.
            Some(holder) if ["pending:", "engine:"].iter().any(|p| holder.as_str().starts_with(p)) => {
                self.hand_over(&holder, owner.clone());
                Ok(())
            }
            _ => self.claim_own(owner, address).map(|_| ()),
        }
    }

    /// Gives an owner's addresses back.
    pub(crate) fn release(&self, owner: &Owner) -> Result<(), AddressError> {
        self.change(|ring| ring.release(owner)).map(|_| ())
    }

    /// Frees one address, whoever holds it.
    pub(crate) fn release_address(&self, address: Ipv4Addr) -> Result<(), AddressError> {
        self.change(|ring| ring.release_address(address)).map(|_| ())
    }

    /// Frees an address unless a container keeps it across stops.
    pub(crate) fn release_unpinned(&self, address: Ipv4Addr) -> Result<(), AddressError> {
        self.change(|ring| {
            if ring.owner_of(address).is_some_and(|o| !is_pinned(o)) {
                ring.release_address(address);
            }
        })
    }

    /// Hands what one owner holds to another. It is written with the next change only: the address is held on disk either
    /// way, and an agent that dies before finds its container by comparing with the engine's list ([`Self::adopt`]).
    pub(crate) fn hand_over(&self, from: &Owner, to: Owner) {
        let mut inner = self.lock();
        inner.unwritten |= inner.ring.rename(from, &to);
    }

    /// Who holds what.
    pub(crate) fn held(&self) -> Vec<(Ipv4Addr, Owner)> {
        self.lock().ring.held().map(|(address, owner)| (address, owner.clone())).collect()
    }

    /// How the range is shared out.
    pub(crate) fn stats(&self) -> Stats {
        self.lock().ring.stats()
    }

    /// Why allocation has stopped, if it has.
    pub(crate) fn conflict(&self) -> Option<String> {
        self.lock().conflict.clone()
    }
}

/// The owner of a container's address, held from create to destroy.
pub(crate) fn container(id: &str) -> Owner {
    Owner::new(format!("container:{id}"))
}

/// The owner of an address whose container is being created.
pub(crate) fn pending() -> Owner {
    Owner::new(format!("pending:{:016x}", rand::random::<u64>()))
}

/// The owner of an address that an engine asked for without saying for whom (containers started past the proxy);
/// it is freed when the engine gives the address back.
pub(crate) fn anonymous() -> Owner {
    Owner::new(format!("engine:{:016x}", rand::random::<u64>()))
}

fn is_pinned(owner: &Owner) -> bool {
    owner.as_str().starts_with("container:") || owner.as_str().starts_with("pending:") || owner.as_str() == "host"
}

/// The owner of the host's own address on the overlay.
pub(crate) fn host() -> Owner {
    Owner::new("host")
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_ring::{ChunkReply, ChunkRequest};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_halted_gives_nothing_to_containers_or_peers() {
        let folder = tempfile::tempdir().unwrap();
        let (me, other) = (PeerId([2, 0, 0, 0, 0, 1]), PeerId([2, 0, 0, 0, 0, 2]));
        let ring = (NetworkId::MAIN, "10.1.1.0/28".parse().unwrap());
        let addresses =
            Addresses::open(folder.path().join("ring.json"), ring, me, vec![me, other], &[], Start::Found).unwrap();
        let request = ChunkRequest { id: 1, wanted: None };
        assert!(matches!(addresses.give(other, &request), Ok(ChunkReply::Given { .. })));
        let held = addresses.allocate(&container("f341")).await.unwrap();
        addresses.halt("a clone".into());
        assert!(matches!(addresses.allocate(&container("f342")).await, Err(AddressError::Conflict(_))));
        assert!(matches!(addresses.claim(&container("f342"), held).await, Err(AddressError::Conflict(_))));
        assert!(matches!(addresses.give(other, &request), Err(AddressError::Conflict(_))));
        assert_eq!(addresses.held_by(&container("f341")), Some(held), "what runs stays");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reservation_outlives_an_agent_that_dies_before_it_writes_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let me = PeerId([2, 0, 0, 0, 0, 1]);
        let pool = "10.1.1.0/28".parse().unwrap();
        let ring = (NetworkId::MAIN, pool);
        let open = || Addresses::open(folder.path().join("ring.json"), ring, me, vec![me], &[], Start::Found).unwrap();
        let (reserved, id) = (pending(), container("f341"));
        let before = open();
        let address = before.allocate(&reserved).await.unwrap();
        before.hand_over(&reserved, id.clone());
        assert_eq!((before.holder(address), before.held_by(&id)), (Some(id.clone()), Some(address)));
        drop(before);
        let after = open();
        assert!(after.is_reserved(address) && after.holder(address) == Some(reserved));
        assert_ne!(after.allocate(&pending()).await.unwrap(), address, "no address is given twice");
        after.adopt(&id, address).unwrap();
        assert_eq!(after.holder(address), Some(id.clone()));
        after.release(&container("another")).unwrap();
        assert_eq!(open().holder(address), Some(id), "the next change writes it");
    }
}
