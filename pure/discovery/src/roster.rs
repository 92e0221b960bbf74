//! Who belongs to the cluster when discovery's answers change: an engine that discovery no longer lists but that still
//! answers stays for a while, so that an empty or flapping answer drops nobody who is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How a member stands with discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The last answer lists it.
    Listed,
    /// No answer has listed it since this moment.
    Leaving {
        /// On the clock that `reconcile` is given.
        since: Duration,
    },
}

/// The members after an answer (or after time has passed since the last one): whoever is listed, and whoever was a member,
/// still answers, and has been missing for less than `grace`. `now` is on any clock that does not run backwards.
pub fn reconcile<K: Ord + Clone>(
    before: &BTreeMap<K, Standing>,
    listed: &BTreeSet<K>,
    answers: impl Fn(&K) -> bool,
    now: Duration,
    grace: Duration,
) -> BTreeMap<K, Standing> {
    let missing = before.iter().filter(|(member, _)| !listed.contains(member)).filter_map(|(member, standing)| {
        let since = if let Standing::Leaving { since } = standing { *since } else { now };
        let stays = answers(member) && now.saturating_sub(since) < grace;
        stays.then(|| (member.clone(), Standing::Leaving { since }))
    });
    listed.iter().map(|member| (member.clone(), Standing::Listed)).chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Leaving, Listed};

    const GRACE: Duration = Duration::from_secs(180);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn step(
        before: &BTreeMap<&'static str, Standing>,
        listed: &[&'static str],
        well: &[&str],
        now: u64,
    ) -> BTreeMap<&'static str, Standing> {
        reconcile(before, &listed.iter().copied().collect(), |m| well.contains(m), at(now), GRACE)
    }

    #[test]
    fn an_empty_answer_drops_only_those_who_do_not_answer() {
        let all = step(&BTreeMap::new(), &["a", "b"], &[], 0);
        assert_eq!(all, [("a", Listed), ("b", Listed)].into());
        assert_eq!(step(&all, &[], &["a"], 5), [("a", Leaving { since: at(5) })].into());
    }

    #[test]
    fn grace_ends_and_a_new_listing_ends_it_too() {
        let mut members = step(&BTreeMap::new(), &["a"], &["a"], 0);
        for now in [10, 100, 189] {
            members = step(&members, &[], &["a"], now);
            assert_eq!(members["a"], Leaving { since: at(10) }, "{now}");
        }
        assert!(step(&members, &[], &["a"], 190).is_empty());
        members = step(&members, &["a"], &["a"], 189);
        assert_eq!(members["a"], Listed);
        assert_eq!(step(&members, &[], &["a"], 300)["a"], Leaving { since: at(300) }, "each absence counts by itself");
    }
}
