//! Taking over the chunks of nodes that were removed, where this node is their heir.
//!
//! When it may do so is decided in `osier_ring`. An acknowledgement is an answer here: a member that is asked, and knows of the
//! same removals, tells all that it knows of a ring. So nothing is published for good that only one node needs once.

use crate::{
    addresses::AddressError,
    config::Config,
    facts::encode,
    networks::{Net, Networks},
};
use anyhow::{Context, Result, bail};
use osier_calls::control::Message;
use osier_gossip::Handle;
use osier_model::{NetworkId, PeerId};
use osier_ring::{Removal, estates, inheritance};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};

/// How long a member may take to tell what it knows.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
/// The pause before members that have not told are asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// How long after its start this node waits to hear of members before it takes those it has not heard of for silent.
const HEAR: Duration = Duration::from_secs(15);

/// Who was removed, and what became of what they left.
struct Estates {
    removals: Vec<Removal>,
    started: Instant,
    /// Which members have told all they know since the removals, for each network's ring.
    told: BTreeMap<NetworkId, BTreeSet<PeerId>>,
    /// The networks with nothing left to take over.
    settled: BTreeSet<NetworkId>,
}

/// Runs for as long as the agent; does nothing while nobody was removed.
pub(crate) async fn follow(config: &Config, networks: &Networks, gossip: &Handle) {
    let removals = config.removals.iter();
    let removals = removals.map(|r| Removal { peer: r.peer, heir: r.heir, forced: r.forced }).collect();
    let mut estates = Estates { removals, started: Instant::now(), told: BTreeMap::new(), settled: BTreeSet::new() };
    if estates.removals.is_empty() || config.is_removed() {
        return std::future::pending().await;
    }
    let mut changes = gossip.changed();
    loop {
        let mut waiting = false;
        for net in networks.all() {
            waiting |= match estates.settle(config, &net, gossip).await {
                Ok(waiting) => waiting,
                Err(error) => {
                    warn!(network = %net.network.id, error = crate::plugin::chain(&error), "cannot take over addresses");
                    true
                }
            };
        }
        // There is much news in a mesh, and none of it makes this urgent.
        tokio::time::sleep(ASK_PAUSE).await;
        if !waiting && changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

impl Estates {
    /// Takes over what may be taken over of one network's addresses; true while something is waited for.
    async fn settle(&mut self, config: &Config, net: &Arc<Net>, gossip: &Handle) -> Result<bool, AddressError> {
        let (me, members, network) = (config.me.peer, config.peers(), net.network.id);
        let others: BTreeSet<PeerId> = members.iter().copied().filter(|peer| *peer != me).collect();
        let estates = estates(me, &self.removals, &members);
        if estates.is_empty() || self.settled.contains(&network) {
            return Ok(false);
        }
        let told = self.told.entry(network).or_default();
        for peer in others.difference(&told.clone()) {
            match ask(*peer, config, net, gossip, &estates).await {
                Ok(()) => drop(told.insert(*peer)),
                Err(error) => debug!(%peer, error = format!("{error:#}"), "addresses of removed nodes wait for it"),
            }
        }
        let missing: BTreeSet<PeerId> = others.difference(told).copied().collect();
        // A removal that is forced waits for nobody who is silent, but whoever answers is heard first.
        let snapshot = gossip.snapshot();
        let are_silent = self.started.elapsed() > HEAR && !missing.iter().any(|peer| snapshot.alive(*peer));
        // A node in doubt about its own identity or ring takes nothing.
        let is_sound = net.addresses.conflict().is_none() && !net.addresses.is_starting();
        if is_sound && (missing.is_empty() || are_silent) {
            let decided = inheritance(me, &self.removals, &members, |peer| told.contains(&peer));
            // Only the cluster's own ring was founded by one node alone; and what no member at all has heard of is known
            // only when all have told.
            let founder = (network == NetworkId::MAIN && missing.is_empty()).then_some(config.founder);
            let gained = net.addresses.inherit(&decided, founder)?;
            if gained > 0 {
                let from: Vec<String> = decided.takes.iter().map(ToString::to_string).collect();
                info!(%network, chunks = gained, from = from.join(", "), "took over the addresses of removed nodes");
            }
        }
        if net.addresses.note_waiting(missing.clone()) && !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(|peer| config.name_of(*peer)).collect();
            info!(%network, nodes = names.join(", "), "addresses of removed nodes are frozen until these have told what they know");
        }
        if missing.is_empty() && is_sound {
            self.settled.insert(network);
            return Ok(false);
        }
        Ok(true)
    }
}

/// Has a member tell all it knows of a ring, and takes it in.
async fn ask(peer: PeerId, config: &Config, net: &Net, gossip: &Handle, estates: &BTreeSet<PeerId>) -> Result<()> {
    let question = Message::AskRing { network: net.network.id, members: config.digest.clone() };
    let call = gossip.request(peer, encode(&question));
    let reply = tokio::time::timeout(ASK_DEADLINE, call).await.context("no answer in time")??;
    match serde_json::from_slice(&reply).context("read the answer")? {
        Message::Ring(records) => Ok(net.addresses.take_in(peer, &records, estates)?),
        Message::Refused(reason) => bail!(reason),
        other => bail!("not an answer to what was asked: {other:?}"),
    }
}
