//! Endpoints that an engine made in a call whose answer it never had, because the agent died in it: the engine knows nothing of
//! them and never takes them back.

use crate::Table;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long an engine may take between making an endpoint and putting it into its container: longer than it tries to reach
/// a plugin that does not answer.
pub const START: Duration = Duration::from_secs(60);

/// Endpoints in no container, and since when.
#[derive(Debug, Clone, Default)]
pub struct Idle(BTreeMap<String, Duration>);

impl Idle {
    /// Which of the endpoints that are in no container now, at a time of a clock of the caller's, have been so in every look
    /// for longer than a start takes. They can be forgotten.
    pub fn look(&mut self, table: &Table, now: Duration) -> BTreeSet<String> {
        let idle = table.idle();
        self.0.retain(|id, _| idle.contains(id));
        for id in idle {
            self.0.entry(id).or_insert(now);
        }
        self.0.iter().filter(|(_, since)| now.saturating_sub(**since) > START).map(|(id, _)| id.clone()).collect()
    }
}

impl Table {
    /// Forgets endpoints that [`Idle::look`] has named; one that has come into a container since stays.
    pub fn forget(&mut self, left: &BTreeSet<String>) {
        self.endpoints.retain(|id, endpoint| endpoint.is_joined() || !left.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, mac_of};

    #[test]
    fn only_what_is_in_no_container_for_longer_than_a_start_is_left_over() {
        let endpoint = |joined: bool| {
            let address = [10, 1, 1, 3].into();
            Endpoint { network: "n".into(), address, mac: mac_of(address), sandbox: joined.then(|| "/s".into()) }
        };
        let table = |a: bool, b: bool| Table {
            endpoints: [("a".to_owned(), endpoint(a)), ("b".to_owned(), endpoint(b))].into(),
            ..Table::default()
        };
        let mut idle = Idle::default();
        assert!(idle.look(&table(false, false), Duration::ZERO).is_empty());
        // `b` is in a container in between.
        assert!(idle.look(&table(false, true), START / 2).is_empty());
        let left = idle.look(&table(false, false), START * 2);
        assert_eq!(left, ["a".to_owned()].into());
        let (mut now, mut since) = (table(false, false), table(true, false));
        now.forget(&left);
        since.forget(&left);
        assert_eq!((now.endpoints.len(), since.endpoints.len()), (1, 2));
    }
}
