//! Who belongs to the cluster: the operator's statements, from the file that the operator brought and from other nodes.
//!
//! A statement holds wherever it is known, so nodes compare short digests of theirs, which are part of what they say of
//! themselves, and ask whoever has another one. What is new is on disk before it counts; the agent then starts anew.

use crate::{
    config::Config,
    facts::{NodeFact, decode, encode, prefix},
    messages::Message,
};
use anyhow::{Context, Result};
use osier_gossip::{Handle, Snapshot};
use osier_members::{Roll, RollError, Signed};
use osier_model::PeerId;
use osier_pki::Verifier;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tracing::{info, warn};

/// How long a peer may take to tell its statements.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
/// The pause before a peer that did not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_secs(2);

/// The statements that this node knows.
pub(crate) struct Members {
    path: PathBuf,
    verifier: Verifier,
    roll: Mutex<Roll>,
}

impl Members {
    /// Reads what the operator brought and what was heard since. A statement that is not the operator's is an error: on the
    /// disk only root can have put it.
    pub(crate) fn open(brought: &Path, heard: &Path, ca: &Path) -> Result<Self> {
        let verifier = Verifier::read(ca)?;
        let mut roll = Roll::default();
        for path in [brought, heard] {
            let statements: Vec<Signed> = osier_store::read_json(path)?.unwrap_or_default();
            let (_, refused) = take(&mut roll, &verifier, &statements);
            // A later version may have kept what this one does not understand.
            if let Some(error @ RollError::Forged) = refused {
                return Err(error).with_context(|| format!("read '{}'", path.display()));
            }
        }
        Ok(Self { path: heard.to_owned(), verifier, roll: Mutex::new(roll) })
    }

    fn lock(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holds.
    pub(crate) fn roll(&self) -> Roll {
        self.lock().clone()
    }

    /// What another node has to be told to know the same.
    pub(crate) fn signed(&self) -> Vec<Signed> {
        self.lock().signed()
    }

    /// Takes in what a peer said; true if something new holds, which is on disk then.
    fn hear(&self, peer: PeerId, statements: &[Signed]) -> Result<bool> {
        let mut roll = self.lock();
        let mut next = roll.clone();
        let (changed, refused) = take(&mut next, &self.verifier, statements);
        if let Some(error) = refused {
            warn!(%peer, %error, "passed over what a node said about the members");
        }
        if changed {
            osier_store::write_json(&self.path, &next.signed(), osier_store::PUBLIC)
                .context("keep who belongs to the cluster")?;
            *roll = next;
        }
        Ok(changed)
    }

    /// Asks nodes that know other statements than this one; ends once it has learnt something new.
    pub(crate) async fn follow(&self, config: &Config, gossip: &Handle) {
        // What each peer knew when it had nothing new to tell.
        let mut nothing_new = BTreeMap::<PeerId, String>::new();
        let mut changes = gossip.changed();
        loop {
            let snapshot = gossip.snapshot();
            let others = config.peers().into_iter().filter(|peer| *peer != config.me.peer && snapshot.alive(*peer));
            let differing = others.filter_map(|peer| Some((peer, node_fact(&snapshot, peer)?.members)));
            let differing = differing.filter(|(_, digest)| !digest.is_empty() && *digest != config.digest);
            let to_ask: Vec<_> = differing.filter(|(peer, digest)| nothing_new.get(peer) != Some(digest)).collect();
            let mut silent = false;
            for (peer, digest) in to_ask {
                match self.ask(peer, gossip).await {
                    Ok(true) => {
                        info!(%peer, "heard who belongs to the cluster");
                        return;
                    }
                    Ok(false) => drop(nothing_new.insert(peer, digest)),
                    Err(error) => {
                        silent = true;
                        warn!(%peer, error = format!("{error:#}"), "cannot ask who belongs to the cluster");
                    }
                }
            }
            let pause = if silent { ASK_PAUSE } else { Duration::MAX };
            if let Ok(Err(_)) = tokio::time::timeout(pause, changes.changed()).await {
                return std::future::pending().await;
            }
        }
    }

    async fn ask(&self, peer: PeerId, gossip: &Handle) -> Result<bool> {
        let call = gossip.request(peer, encode(&Message::AskMembers));
        let reply = tokio::time::timeout(ASK_DEADLINE, call).await.context("no answer in time")??;
        match serde_json::from_slice(&reply).context("read the answer")? {
            Message::Members(statements) => tokio::task::block_in_place(|| self.hear(peer, &statements)),
            // A version that knows no statements.
            _ => Ok(false),
        }
    }
}

/// What a node says of itself.
pub(crate) fn node_fact(snapshot: &Snapshot, peer: PeerId) -> Option<NodeFact> {
    decode(snapshot.facts.get(peer, prefix::NODE)?)
}

fn take(roll: &mut Roll, verifier: &Verifier, statements: &[Signed]) -> (bool, Option<RollError>) {
    roll.take(statements, |bytes, signature| {
        hex::decode(signature).is_ok_and(|signature| verifier.is_signed(bytes, &signature))
    })
}
