//! Who belongs to the cluster: the operator's statements, from the file that the operator brought and from other nodes.
//!
//! A statement holds wherever it is known, so nodes compare short digests of theirs, which are part of what they say of
//! themselves, and ask whoever has another one. What is new is on disk before it counts; the agent then starts anew.

use crate::{
    config::Config,
    facts::{NodeFact, decode, encode, prefix},
};
use anyhow::{Context, Result};
use futures::{StreamExt, stream::FuturesUnordered};
use osier_calls::control::Message;
use osier_gossip::{Handle, Snapshot};
use osier_members::{Roll, RollError, Signed};
use osier_model::PeerId;
use osier_pki::Verifier;
use rand::seq::SliceRandom;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tracing::{debug, info, warn};

/// How long a stranger may take to tell its statements; shorter than a node that starts waits for it.
const STRANGER_DEADLINE: Duration = Duration::from_secs(3);
/// How long a peer may take to tell its statements.
const ASK_DEADLINE: Duration = Duration::from_secs(5);
/// The pause before a peer that did not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_secs(2);

/// How long, for each member, the starts that follow a change are spread over.
const EACH: Duration = Duration::from_millis(50);

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
        let mut is_kept = true;
        for path in [heard, brought] {
            let statements: Vec<Signed> = osier_store::read_json(path)?.unwrap_or_default();
            let (changed, refused) = take(&mut roll, &verifier, &statements);
            // A later version may have kept what this one does not understand.
            if let Some(error @ RollError::Forged) = refused {
                return Err(error).with_context(|| format!("read '{}'", path.display()));
            }
            is_kept = path == heard || !changed;
        }
        if !is_kept {
            // The next operator may know less than this one, and what holds must not be forgotten.
            osier_store::write_json(heard, &roll.signed(), osier_store::PUBLIC)?;
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

    /// Asks nodes that know other statements than this one, and strangers: a disk that was put back may not know those who
    /// were added since. Ends once it has learnt something new.
    pub(crate) async fn follow(&self, config: &Config, gossip: &Handle) {
        // What each peer knew when it had nothing new to tell.
        let mut nothing_new = BTreeMap::<PeerId, String>::new();
        let mut changes = gossip.changed();
        loop {
            let snapshot = gossip.snapshot();
            let others = config.peers().into_iter().filter(|peer| *peer != config.me.peer && snapshot.alive(*peer));
            let differing = others.filter_map(|peer| Some((peer, node_fact(&snapshot, peer)?.members)));
            let differing = differing.filter(|(_, digest)| !digest.is_empty() && *digest != config.digest);
            let mut to_ask: Vec<_> = differing.filter(|(peer, digest)| nothing_new.get(peer) != Some(digest)).collect();
            // Not all of the same node.
            to_ask.shuffle(&mut rand::rng());
            let mut silent = false;
            for (peer, digest) in to_ask {
                match self.ask(peer, gossip).await {
                    Ok(true) => {
                        info!(%peer, "heard who belongs to the cluster");
                        return pause(config, gossip).await;
                    }
                    Ok(false) => {
                        nothing_new.insert(peer, digest);
                        gossip.note_asked(peer);
                    }
                    Err(error) => {
                        silent = true;
                        warn!(%peer, error = format!("{error:#}"), "cannot ask who belongs to the cluster");
                    }
                }
            }
            // Of a node that was removed and knows it, nobody is a member.
            let strangers = gossip.strangers().into_iter().filter(|_| !config.is_removed());
            // All at once: some may be silent, and a node that waits for them waits for so long only.
            let mut asked: FuturesUnordered<_> =
                strangers.map(|peer| async move { (peer, ask_stranger(peer, gossip).await) }).collect();
            while let Some((peer, reply)) = asked.next().await {
                match reply.and_then(|reply| self.take_answer(peer, &reply)) {
                    Ok(true) => {
                        info!(%peer, "heard who belongs to the cluster from a node that was not known here");
                        return pause(config, gossip).await;
                    }
                    Ok(false) => gossip.note_asked(peer),
                    Err(error) => {
                        silent = true;
                        debug!(%peer, error = format!("{error:#}"), "cannot ask a stranger who belongs to the cluster");
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
        self.take_answer(peer, &reply)
    }

    fn take_answer(&self, peer: PeerId, reply: &[u8]) -> Result<bool> {
        match serde_json::from_slice(reply).context("read the answer")? {
            Message::Members(statements) => tokio::task::block_in_place(|| self.hear(peer, &statements)),
            // A version that knows no statements.
            _ => Ok(false),
        }
    }
}

async fn ask_stranger(peer: PeerId, gossip: &Handle) -> Result<Vec<u8>> {
    let call = gossip.ask_stranger(peer, encode(&Message::AskMembers));
    Ok(tokio::time::timeout(STRANGER_DEADLINE, call).await.context("no answer in time")??)
}

/// All nodes hear at once who belongs, and need not start anew at once. But whoever has just started gives nothing out by what
/// it knew until now.
async fn pause(config: &Config, gossip: &Handle) {
    let most = EACH * u32::try_from(config.members.len()).unwrap_or(u32::MAX);
    let starting = gossip.catching_up(|_| true).map(|left| left / 2);
    tokio::time::sleep(starting.unwrap_or(most).min(most).mul_f64(rand::random())).await;
}

/// What a node says of itself.
pub(crate) fn node_fact(snapshot: &Snapshot, peer: PeerId) -> Option<NodeFact> {
    decode(snapshot.facts.get(peer, prefix::NODE)?)
}

/// Whether a member is known to know other statements than those that this digest is short for.
pub(crate) fn differs(snapshot: &Snapshot, peer: PeerId, digest: &str) -> bool {
    node_fact(snapshot, peer).is_some_and(|fact| !fact.members.is_empty() && fact.members != digest)
}

fn take(roll: &mut Roll, verifier: &Verifier, statements: &[Signed]) -> (bool, Option<RollError>) {
    roll.take(statements, |bytes, signature| {
        hex::decode(signature).is_ok_and(|signature| verifier.is_signed(bytes, &signature))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::{Addresses, Start, container};
    use osier_gossip::{Config as GossipConfig, Gossip, RequestHandler};
    use osier_members::{CONTEXT, Removal, Statement};
    use osier_model::{
        Hostname, NetworkId,
        config::{AgentConfig, Member},
    };
    use osier_pki::{Authority, Identity, Subject};
    use std::{
        collections::BTreeSet,
        net::{Ipv4Addr, TcpListener},
        sync::Arc,
    };
    use time::OffsetDateTime;
    use tokio::sync::watch;

    fn sign(authority: &Authority, statement: &Statement) -> Signed {
        let text = statement.text();
        let signature = hex::encode(authority.sign(&[CONTEXT, text.as_bytes()].concat()).unwrap());
        Signed { text, signature }
    }

    /// Answers every question with these statements.
    struct Tells(Vec<Signed>);

    impl RequestHandler for Tells {
        async fn handle(&self, _: PeerId, _: Vec<u8>) -> Vec<u8> {
            encode(&Message::Members(self.0.clone()))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_is_put_back_to_when_it_was_alone_asks_a_stranger_before_it_gives_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let [brought, heard, ca, ring] =
            ["brought.json", "heard.json", "ca.pem", "ring.json"].map(|name| folder.path().join(name));
        let authority = Authority::create("c", OffsetDateTime::now_utc()).unwrap();
        std::fs::write(&ca, authority.cert_pem()).unwrap();
        let [a, b]: [u8; 2] = rand::random();
        let member = |n: u8| Member {
            name: format!("n{n}").parse().unwrap(),
            peer: PeerId([2, 0, 0, 0, 0, n]),
            address: Ipv4Addr::new(127, a.max(1), b, n),
        };
        let all = [member(1), member(2)];
        let signed = |node: &Member| sign(&authority, &Statement::Member { serial: 1, node: node.clone() });
        let statements: Vec<Signed> = all.iter().map(signed).collect();
        let port = TcpListener::bind((all[0].address, 0)).unwrap().local_addr().unwrap().port();
        let start = async |me: &Member, members: &[Member]| {
            let (name, addresses) = (me.name.to_string(), vec![me.address.into()]);
            let subject = Subject { name: name.clone(), dns: vec![name], addresses };
            let issued = authority.issue(&subject, OffsetDateTime::now_utc()).unwrap();
            let config = GossipConfig {
                me: me.clone(),
                members: members.to_vec(),
                removed: BTreeSet::new(),
                key: [7; 32],
                listen: (me.address, port).into(),
                identity: Identity::from_issued(authority.cert_pem(), &issued).unwrap(),
                incarnation: 1,
                handler: Arc::new(Tells(statements.clone())),
            };
            let (stop, stopped) = watch::channel(false);
            (Gossip::start(config, stopped).await.unwrap(), stop)
        };
        osier_store::write_json(&brought, &&statements[..1], osier_store::PUBLIC).unwrap();
        let open = || Members::open(&brought, &heard, &ca).unwrap();
        let members = open();
        assert_eq!(members.roll().members(), all[..1]);
        let file = AgentConfig {
            cluster: "test".into(),
            me: all[0].clone(),
            founder: all[0].peer,
            pool: "10.1.1.0/24".parse().unwrap(),
            domain: Hostname::default_domain(),
            proxy_port: 1,
            upstream: vec![],
        };
        let config = Config::new(file, &members.roll());

        let _other = start(&all[1], &all).await;
        let (gossip, _stop) = start(&all[0], &config.members).await;
        let (me, network) = (config.me.peer, (NetworkId::MAIN, config.pool));
        let addresses = Addresses::open(ring, network, me, vec![me], &[], Start::Found).unwrap();
        addresses.connect(gossip.clone(), config.digest.clone());
        assert!(addresses.is_starting());
        let owner = container("f341");
        tokio::select! {
            () = members.follow(&config, &gossip) => {}
            given = addresses.allocate(&owner) => panic!("{given:?} before anybody was asked"),
        }
        assert_eq!(members.roll().members(), all);
        assert_eq!(open().roll().members(), all, "it is on disk");
    }

    #[test]
    fn what_one_operator_brought_is_not_forgotten_when_another_brings_less() {
        let folder = tempfile::tempdir().unwrap();
        let [brought, heard, ca] = ["brought.json", "heard.json", "ca.pem"].map(|name| folder.path().join(name));
        let authority = Authority::create("c", OffsetDateTime::now_utc()).unwrap();
        std::fs::write(&ca, authority.cert_pem()).unwrap();
        let peer = |last| PeerId([2, 0, 0, 0, 0, last]);
        let member = |last| Member {
            name: format!("n{last}").parse().unwrap(),
            peer: peer(last),
            address: [192, 0, 2, last].into(),
        };
        let sign = |statement: Statement| sign(&authority, &statement);
        let joined: Vec<Signed> = (1..4).map(|n| sign(Statement::Member { serial: 1, node: member(n) })).collect();
        let removal = Removal { peer: peer(3), name: "n3".parse().unwrap(), heir: peer(1), forced: false };
        let removed = sign(Statement::Removed { serial: 2, removal });
        let bring =
            |statements: &[Signed]| osier_store::write_json(&brought, &statements, osier_store::PUBLIC).unwrap();
        let members = || Members::open(&brought, &heard, &ca).map(|members| members.roll().members());

        bring(&joined[..2]);
        assert_eq!(members().unwrap(), [member(1), member(2)]);
        bring(&[joined[0].clone(), joined[2].clone(), removed.clone()]);
        assert_eq!(members().unwrap(), [member(1), member(2)], "the second is known, the third was removed");
        bring(&joined);
        assert_eq!(members().unwrap(), [member(1), member(2)], "a removal is final");

        let knows = Members::open(&brought, &heard, &ca).unwrap();
        let fourth = sign(Statement::Member { serial: 1, node: member(4) });
        assert!(
            knows.hear(peer(1), std::slice::from_ref(&fourth)).unwrap() && !knows.hear(peer(2), &[fourth]).unwrap()
        );
        assert_eq!(members().unwrap(), [member(1), member(2), member(4)]);
        let forged = Signed { text: Statement::Member { serial: 9, node: member(9) }.text(), ..removed };
        assert!(!knows.hear(peer(2), std::slice::from_ref(&forged)).unwrap());
        bring(&[forged]);
        assert!(members().is_err(), "only root can have put it there");
    }
}
