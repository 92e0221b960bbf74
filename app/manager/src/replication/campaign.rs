//! The election: whoever creates the leader's key under a lease of its own leads for as long as the lease is kept alive.

use super::Role;
use crate::settings::Replication;
use osier_discovery::Entry;
use osier_etcd::{Creation, Error, Lease, Listing};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{info, warn};

/// The pause after etcd could not be asked.
const RETRY: Duration = Duration::from_secs(1);

/// One manager's candidacy.
struct Candidate {
    terms: Replication,
    role: watch::Sender<Role>,
}

/// Stands for election for ever, and says in `role` what came of it. When `resign` resolves, leadership is given up at
/// once, so that nobody has to wait for the lease to end.
pub(super) async fn campaign(terms: Replication, role: watch::Sender<Role>, resign: impl Future<Output = ()>) {
    let candidate = Candidate { terms, role };
    let mut held = None;
    tokio::select! {
        never = candidate.stand(&mut held) => match never {},
        () = resign => {}
    }
    candidate.role.send_replace(Role::UNKNOWN);
    if let Some(lease) = held {
        match candidate.terms.etcd.revoke(lease).await {
            Ok(()) => info!("Leader Election: resigned"),
            Err(error) => warn!(error = chain(error), "the leadership stays taken until its lease ends"),
        }
    }
}

impl Candidate {
    /// `held` is the lease to be given back at the end.
    async fn stand(&self, held: &mut Option<Lease>) -> std::convert::Infallible {
        loop {
            let Err(error) = self.round(held).await;
            warn!(error = chain(error), "Leader Election: the store may be unavailable, trying again");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Stands and follows until etcd cannot be asked.
    async fn round(&self, held: &mut Option<Lease>) -> Result<std::convert::Infallible, Error> {
        let result = self.serve(held).await;
        // Without etcd nobody knows who leads.
        self.role.send_replace(Role::UNKNOWN);
        result
    }

    async fn serve(&self, held: &mut Option<Lease>) -> Result<std::convert::Infallible, Error> {
        let Replication { etcd, key, advertise, ttl } = &self.terms;
        loop {
            let asked = Instant::now();
            let lease = match *held {
                Some(lease) if etcd.keep_alive(lease).await? => lease,
                _ => etcd.grant(*ttl).await?,
            };
            *held = Some(lease);
            let creation = etcd.create(key, &advertise.to_string(), lease).await?;
            let ours = |listing: &Listing| listing.entries.iter().any(|entry| entry.is_under(lease));
            match creation {
                Creation::Held(listing) if !ours(&listing) => {
                    // A key with our own address is our last life's; its lease ends soon.
                    let leader = listing.entries.first().and_then(|entry| entry.value.parse::<Entry>().ok());
                    let primary = leader.filter(|leader| leader != advertise);
                    self.follow(primary);
                    // The lease is kept alive meanwhile, and a leader whose end nobody told is noticed.
                    let change = etcd.changed(key, listing.revision);
                    if let Ok(changed) = tokio::time::timeout(*ttl / 3, change).await {
                        changed?;
                    }
                }
                // Also where the key was kept all the time that this manager could not ask: nobody else has led then.
                _ => {
                    info!("Leader Election: Cluster leadership acquired");
                    let ended = self.lead(lease, asked + *ttl).await;
                    self.role.send_replace(Role::UNKNOWN);
                    info!("Leader Election: Cluster leadership lost");
                    ended?;
                }
            }
        }
    }

    fn follow(&self, primary: Option<Entry>) {
        let role = Role::Replica { primary };
        if *self.role.borrow() != role {
            if let Some(leader) = role.primary() {
                info!("New leader elected: {leader}");
            }
            self.role.send_replace(role);
        }
    }

    /// Leads until the lease has ended, or may have.
    async fn lead(&self, lease: Lease, mut until: Instant) -> Result<(), Error> {
        let Replication { etcd, key, ttl, .. } = &self.terms;
        // The key too: somebody may have removed it by hand, and then another manager has it now.
        let holds = async || {
            let is_ours =
                etcd.keep_alive(lease).await? && etcd.get(key).await?.entries.iter().any(|e| e.is_under(lease));
            Ok::<_, Error>(is_ours)
        };
        loop {
            self.role.send_replace(Role::Primary { until });
            tokio::time::sleep(*ttl / 3).await;
            let asked = Instant::now();
            match tokio::time::timeout_at(until.into(), holds()).await {
                Ok(Ok(true)) => until = asked + *ttl,
                Ok(Ok(false)) | Err(_) => return Ok(()),
                Ok(Err(error)) if Instant::now() >= until => return Err(error),
                Ok(Err(error)) => {
                    warn!(error = chain(error), "Leader Election: the lease was not renewed, trying again");
                    tokio::time::sleep(RETRY.min(*ttl / 10)).await;
                }
            }
        }
    }
}

fn chain(error: Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
