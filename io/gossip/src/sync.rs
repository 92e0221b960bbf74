//! The sure way of facts: comparing what two nodes know over their control connection.
//!
//! The asker sends the fingerprint of its digest; the peer says that it is the same, or sends its digest. Then the asker
//! sends its own digest and what the peer lacks, and gets what it lacks itself; so on until the fingerprints agree.

use crate::{core::Core, frame::Kind, links::Links};
use osier_mesh::{Delta, Digest};
use osier_model::PeerId;
use rand::seq::IteratorRandom;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{interval, timeout},
};
use tracing::debug;

/// How often one peer is compared with.
const EVERY: Duration = Duration::from_secs(2);
/// How long one comparison may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// How many bytes of facts go into one message, roughly.
const PORTION: usize = 1 << 20;
/// After so many exchanges the rest is left to the next comparison.
const MOST_ROUNDS: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    Compare { fingerprint: u64 },
    Exchange { digest: Digest, delta: Delta },
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Same,
    Differs(Digest),
    Lacking(Delta),
    NotUnderstood,
}

/// Compares with a random peer at intervals, and at once with those that arrive in `compare`. Runs until it is dropped.
pub(crate) async fn run(core: Arc<Core>, links: Arc<Links>, mut compare: mpsc::UnboundedReceiver<PeerId>) {
    let mut tick = interval(EVERY);
    let mut running = JoinSet::new();
    let mut current = BTreeMap::<PeerId, AbortHandle>::new();
    loop {
        let peer = tokio::select! {
            _ = tick.tick() => links.connected().into_iter().choose(&mut rand::rng()),
            peer = compare.recv() => peer,
        };
        while running.try_join_next().is_some() {}
        current.retain(|_, task| !task.is_finished());
        let Some(peer) = peer.filter(|peer| !current.contains_key(peer)) else { continue };
        let (core, links) = (Arc::clone(&core), Arc::clone(&links));
        let task = running.spawn(async move {
            let result = timeout(DEADLINE, equalise(&core, &links, peer)).await;
            if let Err(error) = result.unwrap_or_else(|_| Err(format!("not done within {DEADLINE:?}"))) {
                debug!(%peer, error, "cannot compare facts");
            }
        });
        current.insert(peer, task);
    }
}

async fn equalise(core: &Core, links: &Links, peer: PeerId) -> Result<(), String> {
    for _ in 0..MOST_ROUNDS {
        let fingerprint = core.read(|mesh| mesh.digest().fingerprint());
        let theirs = match ask(links, peer, &Question::Compare { fingerprint }).await? {
            Reply::Same => break,
            Reply::Differs(digest) => digest,
            other => return Err(format!("unexpected reply {other:?}")),
        };
        core.with(|mesh, now| mesh.note_digest(now, &theirs));
        let (digest, delta) = core.read(|mesh| (mesh.digest(), mesh.delta_since(&theirs, PORTION)));
        let told = !delta.is_empty();
        let Reply::Lacking(delta) = ask(links, peer, &Question::Exchange { digest, delta }).await? else {
            return Err("unexpected reply".into());
        };
        let heard = !delta.is_empty();
        core.with(|mesh, now| mesh.apply_delta(now, delta)).map_err(|e| e.to_string())?;
        if !told && !heard {
            // They differ only in what one of them knows of nodes that are no members to the other.
            break;
        }
    }
    core.note_synced(peer);
    Ok(())
}

async fn ask(links: &Links, peer: PeerId, question: &Question) -> Result<Reply, String> {
    let connection = links.get(peer).ok_or("there is no connection")?;
    let question = postcard::to_stdvec(question).map_err(|e| format!("cannot encode the question: {e}"))?;
    let reply = connection.ask(Kind::Sync, question).await.map_err(|e| e.to_string())?;
    postcard::from_bytes(&reply).map_err(|e| format!("cannot decode the reply: {e}"))
}

/// Answers a peer's question.
pub(crate) fn answer(core: &Core, peer: PeerId, question: &[u8]) -> Vec<u8> {
    let reply = match postcard::from_bytes(question) {
        Ok(Question::Compare { fingerprint }) => {
            let digest = core.read(|mesh| mesh.digest());
            if digest.fingerprint() == fingerprint {
                core.note_synced(peer);
                Reply::Same
            } else {
                Reply::Differs(digest)
            }
        }
        Ok(Question::Exchange { digest, delta }) => {
            let lacking = core.with(|mesh, now| {
                mesh.note_digest(now, &digest);
                let lacking = mesh.delta_since(&digest, PORTION);
                mesh.apply_delta(now, delta).map(|()| lacking)
            });
            lacking.map_or(Reply::NotUnderstood, Reply::Lacking)
        }
        Err(error) => {
            debug!(%peer, %error, "cannot decode a question about facts");
            Reply::NotUnderstood
        }
    };
    postcard::to_stdvec(&reply).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn random_questions_and_replies_do_no_harm(noise in prop::collection::vec(any::<u8>(), 0..200), kind in 0..4_u8) {
            let noise = [vec![kind], noise].concat();
            let _ = postcard::from_bytes::<Question>(&noise);
            let _ = postcard::from_bytes::<Reply>(&noise);
        }
    }
}
