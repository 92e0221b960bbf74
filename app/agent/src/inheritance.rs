//! Taking over the chunks of nodes that were removed, where this node is their heir.
//!
//! When it may do so is decided in `osier_ring`. An acknowledgement is an answer here: a member that is asked, and knows of the
//! same removals, tells all that it knows of a ring. So nothing is published for good that only one node needs once.

use crate::{
    addresses::AddressError,
    config::Config,
    facts::encode,
    messages::Message,
    networks::{Net, Networks},
};
use anyhow::{Context, Result, bail};
use osier_gossip::Handle;
use osier_model::{NetworkId, PeerId};
use osier_ring::{Removal, heir, inheritance};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tracing::{debug, info, warn};

/// How long a member may take to tell what it knows.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
/// The pause before members that have not told are asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// Who was removed, and which members have told all they know since, for each network's ring.
struct Estates {
    removals: Vec<Removal>,
    told: BTreeMap<NetworkId, BTreeSet<PeerId>>,
}

/// Runs for as long as the agent; does nothing while nobody was removed.
pub(crate) async fn follow(config: &Config, networks: &Networks, gossip: &Handle) {
    let removals = config.removals.iter();
    let removals = removals.map(|r| Removal { peer: r.peer, heir: r.heir, forced: r.forced }).collect();
    let mut estates = Estates { removals, told: BTreeMap::new() };
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
        let (me, members) = (config.me.peer, config.peers());
        let is_mine = |peer: PeerId| heir(peer, &self.removals, &members) == Some(me);
        // Only the cluster's own ring was founded by one node alone.
        let founder = (net.network.id == NetworkId::MAIN).then_some(config.founder);
        let mine: BTreeSet<PeerId> = self.removals.iter().map(|r| r.peer).filter(|peer| is_mine(*peer)).collect();
        if !net.addresses.has_estate(&mine, founder.is_some_and(|founder| mine.contains(&founder))) {
            return Ok(false);
        }
        let told = self.told.entry(net.network.id).or_default();
        for peer in members.iter().filter(|peer| **peer != me && !told.contains(peer)).copied().collect::<Vec<_>>() {
            match ask(peer, config, net, gossip).await {
                Ok(()) => drop(told.insert(peer)),
                Err(error) => debug!(%peer, error = format!("{error:#}"), "addresses of removed nodes wait for it"),
            }
        }
        let decided = inheritance(me, &self.removals, &members, |peer| told.contains(&peer));
        if !decided.takes.is_empty() {
            let gained = net.addresses.inherit(&decided, founder)?;
            info!(network = %net.network.id, chunks = gained, from = ?decided.takes, "took over the addresses of removed nodes");
        }
        Ok(decided.waiting.iter().any(|waiting| waiting.heir == Some(me)))
    }
}

/// Has a member tell all it knows of a ring, and takes it in.
async fn ask(peer: PeerId, config: &Config, net: &Net, gossip: &Handle) -> Result<()> {
    let question = Message::AskRing { network: net.network.id, removals: config.removals_digest.clone() };
    let call = gossip.request(peer, encode(&question));
    let reply = tokio::time::timeout(ASK_DEADLINE, call).await.context("no answer in time")??;
    match serde_json::from_slice(&reply).context("read the answer")? {
        Message::Ring(records) => Ok(net.addresses.take_in(peer, &records)?),
        Message::Refused(reason) => bail!(reason),
        other => bail!("not an answer to what was asked: {other:?}"),
    }
}
