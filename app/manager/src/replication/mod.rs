//! Several managers of one cluster: one of them leads, elected in etcd, and the others pass requests on to it.
//!
//! Managers share nothing but the leader's key: each follows all engines by itself, so a new leader begins with a cache
//! that is warm already.

mod campaign;
mod pass;

pub(crate) use pass::Gate;

use crate::settings::Replication;
use osier_discovery::Entry;
use std::time::{Duration, Instant};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// How long giving up the leadership may take.
const RESIGN: Duration = Duration::from_secs(3);

/// This manager's part in the election.
pub(crate) struct Election {
    /// What came of it.
    pub(crate) role: watch::Receiver<Role>,
    resign: oneshot::Sender<()>,
    campaign: JoinHandle<()>,
}

impl Election {
    /// Stands from now on.
    pub(crate) fn begin(replication: Replication) -> Self {
        let (sender, role) = watch::channel(Role::UNKNOWN);
        let (resign, resigned) = oneshot::channel();
        let campaign = campaign::campaign(replication, sender, async { drop(resigned.await) });
        Self { role, resign, campaign: tokio::spawn(campaign) }
    }

    /// Gives the leadership up, so that nobody has to wait for its lease to end.
    pub(crate) async fn end(self) {
        // A campaign that is over needs no word.
        let _ = self.resign.send(());
        let _ = tokio::time::timeout(RESIGN, self.campaign).await;
    }
}

/// What a manager is to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// It leads, until then: a leader that was paused finds itself a replica when it wakes up, before it has spoken to
    /// anybody.
    Primary { until: Instant },
    /// Another one leads, or nobody.
    Replica { primary: Option<Entry> },
}

impl Role {
    /// Nobody is known to lead.
    pub(crate) const UNKNOWN: Self = Self::Replica { primary: None };

    /// Whether it leads at this moment.
    pub(crate) fn leads(&self, now: Instant) -> bool {
        matches!(self, Self::Primary { until } if now < *until)
    }

    /// The leader to pass requests on to.
    pub(crate) fn primary(&self) -> Option<&Entry> {
        if let Self::Replica { primary } = self { primary.as_ref() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_leads_until_its_lease_ends() {
        let now = Instant::now();
        let role = Role::Primary { until: now + Duration::from_secs(1) };
        assert!(role.leads(now) && !role.leads(now + Duration::from_secs(1)) && role.primary().is_none());
        let replica = Role::Replica { primary: Some("h:1".parse().unwrap()) };
        assert!(!replica.leads(now) && replica.primary().is_some() && !Role::UNKNOWN.leads(now));
    }
}
