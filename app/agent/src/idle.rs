//! Endpoints that an engine made in a call whose answer it never had, because the agent died in it: the engine knows nothing of
//! them and never takes them back.

use crate::endpoints::Endpoints;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long an engine may take between making an endpoint and putting it into its container: longer than it tries to reach
/// a plugin that does not answer.
const START: Duration = Duration::from_secs(60);

/// Endpoints in no container, and since when.
#[derive(Default)]
pub(crate) struct Idle(Mutex<BTreeMap<String, Instant>>);

impl Idle {
    /// Forgets those that have been in no container for longer than a start takes.
    pub(crate) fn forget(&self, endpoints: &Endpoints) {
        let left = self.left(endpoints.read().idle(), Instant::now());
        if left.is_empty() {
            return;
        }
        info!(?left, "forgetting endpoints that are in no container");
        let forgotten = endpoints.change(|table| {
            table.endpoints.retain(|id, endpoint| endpoint.is_joined() || !left.contains(id));
        });
        if let Err(error) = forgotten {
            warn!(error = crate::plugin::chain(&error), "cannot forget endpoints that are in no container");
        }
    }

    /// Which of those that are in no container now have been so for too long.
    fn left(&self, idle: BTreeSet<String>, now: Instant) -> BTreeSet<String> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|id, _| idle.contains(id));
        for id in idle {
            since.entry(id).or_insert(now);
        }
        since.iter().filter(|(_, since)| now - **since > START).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_no_container_for_longer_than_a_start_is_left_over() {
        let (idle, now) = (Idle::default(), Instant::now());
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        assert!(idle.left(ids(&["a", "b"]), now).is_empty());
        // `b` was in a container in between.
        assert!(idle.left(ids(&["a"]), now + START / 2).is_empty());
        assert_eq!(idle.left(ids(&["a", "b"]), now + START * 2), ids(&["a"]));
    }
}
