//! Whatever a user or a service writes is read or refused, never a panic, and what is written is read back.

use osier_discovery::{DiscoveryUrl, Entry, GoDuration, Standing, parse_file, parse_list, reconcile};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}|[0-9a-z:.\\[\\]/%@,#\n -]{0,40}") {
        let _ = text.parse::<DiscoveryUrl>();
        let _ = parse_file(&text);
        let _ = text.parse::<GoDuration>();
        for scheme in ["token", "etcd", "file", "nodes"] {
            let _ = format!("{scheme}://{text}").parse::<DiscoveryUrl>();
        }
    }

    #[test]
    fn entries_are_read_back_as_written(host in "[a-z0-9_-][a-z0-9._-]{0,20}|([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}", port in 1u16..) {
        let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let entry: Entry = text.parse().unwrap();
        prop_assert_eq!((entry.host(), entry.port(), entry.to_string()), (host.as_str(), port, text));
    }

    #[test]
    fn a_range_names_every_number_once(first in 0u32..500, more in 0u32..500) {
        let list = parse_list([format!("n[{first}:{}]:1", first + more).as_str()]).unwrap();
        let expected: Vec<String> = (first..=first + more).map(|n| format!("n{n}:1")).collect();
        prop_assert_eq!(list.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn durations_are_read_back_as_written(nanos in 0u64..=i64::MAX as u64) {
        let duration = GoDuration::from(Duration::from_nanos(nanos));
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        prop_assert_eq!(duration.not_negative(), Some(Duration::from_nanos(nanos)));
    }

    /// Whatever discovery says: who is listed is a member, who is well is a member until it has been missing for the
    /// whole of the grace, and nobody else is.
    #[test]
    fn nobody_who_is_well_is_dropped_early(steps in proptest::collection::vec((any::<u8>(), any::<u8>(), 0u64..40), 1..30)) {
        let grace = Duration::from_secs(60);
        let set = |bits: u8| (0..8u8).filter(move |n| bits & (1 << n) != 0).collect::<BTreeSet<u8>>();
        let (mut members, mut now) = (BTreeMap::new(), Duration::ZERO);
        let mut missing: BTreeMap<u8, Duration> = BTreeMap::new();
        for (listed, well, pause) in steps {
            now += Duration::from_secs(pause);
            let (listed, well) = (set(listed), set(well));
            let before: BTreeSet<u8> = members.keys().copied().collect();
            members = reconcile(&members, &listed, |m| well.contains(m), now, grace);
            for who in 0..8 {
                if listed.contains(&who) || !before.contains(&who) {
                    missing.remove(&who);
                } else {
                    missing.entry(who).or_insert(now);
                }
                let waits = missing.get(&who).is_some_and(|since| well.contains(&who) && now - *since < grace);
                prop_assert_eq!(members.contains_key(&who), listed.contains(&who) || waits);
                prop_assert_eq!(members.get(&who) == Some(&Standing::Listed), listed.contains(&who));
            }
        }
    }
}
