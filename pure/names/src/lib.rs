//! Names of containers: what the zone's records answer to one question.
//!
//! Must not know messages, sockets or where records come from: the caller passes the records of the nodes that are
//! alive, and a source of random numbers. The rules are Weave Net's with its defects mended: several addresses of one
//! name in random order, a time to live of one second, names without regard to case, an empty answer at once for types
//! a container does not have, and `NXDOMAIN` with the zone's start of authority for names that nobody has.

pub mod given;
mod name;
mod records;

pub use name::QueryName;
pub use records::{Link, Record, Records};

use ipnet::Ipv4Net;
use osier_model::Hostname;
use rand::{Rng, seq::SliceRandom};
use records::Sight;
use std::net::Ipv4Addr;

/// How long anybody may keep an answer from the zone, in seconds: names move as quickly as containers do.
pub const TTL: u32 = 1;

/// What the server is the authority for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Names that end in this one.
    pub domain: Hostname,
    /// Addresses whose reverse names belong to the zone.
    pub pool: Ipv4Net,
}

/// The types of question that make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryType {
    /// IPv4 addresses.
    A,
    /// The name of an address.
    Ptr,
    /// Whatever there is (RFC 8482 lets the server choose).
    Any,
    /// A type that no name of the zone has.
    Other,
}

/// What to say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name has these addresses, in the order to send them.
    Addresses(Vec<Ipv4Addr>),
    /// The address has this name.
    Pointer(Hostname),
    /// The name exists, but has nothing of this type. Carries the zone that says so.
    NoData(Hostname),
    /// The name does not exist. Carries the zone that says so.
    NxDomain(Hostname),
    /// The name is not the zone's to answer.
    Forward,
}

/// Answers one question from the records of all nodes that are alive.
///
/// A name of one label is looked up under the domain, and is somebody else's only if it is not found there. What the
/// container that asks calls others itself comes before everybody's names, and of those it is told the ones of the
/// networks that it is on.
pub fn answer(
    name: &QueryName,
    kind: QueryType,
    asker: Option<Ipv4Addr>,
    zone: &Zone,
    records: &Records,
    rng: &mut impl Rng,
) -> Answer {
    let sight = records.sight(asker);
    if let Some(address) = name.reverse() {
        return reverse(address, kind, zone, records, &sight);
    }
    let inside = name.inside(&zone.domain);
    let Some(label) = inside.or_else(|| name.single_label()) else { return Answer::Forward };
    let mut addresses = asker.map(|a| records.linked(a, label, &zone.domain, &sight)).unwrap_or_default();
    if addresses.is_empty() {
        addresses = records.addresses(label, &zone.domain, &sight);
    }
    if !addresses.is_empty() {
        if !matches!(kind, QueryType::A | QueryType::Any) {
            return Answer::NoData(zone.domain.clone());
        }
        addresses.shuffle(rng);
        return Answer::Addresses(addresses);
    }
    match inside {
        None => Answer::Forward,
        Some(label) if label.is_empty() || records.is_parent(label, &zone.domain) => {
            Answer::NoData(zone.domain.clone())
        }
        Some(_) => Answer::NxDomain(zone.domain.clone()),
    }
}

fn reverse(address: Ipv4Addr, kind: QueryType, zone: &Zone, records: &Records, sight: &Sight) -> Answer {
    let pool = records.subnet_of(address).map_or(zone.pool, |(_, subnet)| subnet);
    match records.name(address, sight) {
        Some(name) if matches!(kind, QueryType::Ptr | QueryType::Any) => Answer::Pointer(name.qualified(&zone.domain)),
        Some(_) => Answer::NoData(name::reverse_zone(address, pool)),
        None if pool.contains(&address) => Answer::NxDomain(name::reverse_zone(address, pool)),
        None => Answer::Forward,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_model::{NetworkId, PeerId};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    fn zone() -> Zone {
        Zone { domain: Hostname::default_domain(), pool: "10.1.1.0/24".parse().unwrap() }
    }

    fn record(container: &str, address: [u8; 4], names: &[&str]) -> Record {
        Record {
            node: PeerId([0, 0, 0, 0, 0, 1]),
            container: container.to_owned(),
            network: Some(NetworkId::MAIN),
            address: address.into(),
            names: names.iter().map(|n| n.parse().unwrap()).collect(),
            links: Vec::new(),
        }
    }

    fn records() -> Records {
        Records::new(
            vec![
                record("1", [10, 1, 1, 1], &["b.weave.local", "test-b"]),
                record("2", [10, 1, 1, 2], &["web"]),
                record("3", [10, 1, 1, 3], &["web.weave.local"]),
                record("4", [10, 1, 1, 4], &["web", "db.backend.weave.local"]),
            ],
            Vec::new(),
        )
    }

    fn ask(name: &str, kind: QueryType, seed: u64) -> Answer {
        let name = QueryName::from_labels(name.split('.').map(str::as_bytes));
        answer(&name, kind, None, &zone(), &records(), &mut SmallRng::seed_from_u64(seed))
    }

    fn domain() -> Hostname {
        Hostname::default_domain()
    }

    #[test]
    fn a_link_is_a_name_for_its_asker_alone() {
        let link = |alias: &str, target: &str| Link { alias: alias.parse().unwrap(), target: target.to_owned() };
        let id = "f341653f5583".repeat(5);
        let asker = Record {
            links: vec![
                link("db", "Test-B"),
                link("web", "db.backend"),
                link("by-id", &id[..12]),
                link("gone", "nobody"),
            ],
            ..record("9", [10, 1, 1, 9], &["asker"])
        };
        let records = Records::new(
            vec![
                record("1", [10, 1, 1, 1], &["b.weave.local", "test-b"]),
                record("2", [10, 1, 1, 2], &["web"]),
                record("4", [10, 1, 1, 4], &["db.backend.weave.local"]),
                record(&id, [10, 1, 1, 5], &[]),
                asker,
            ],
            Vec::new(),
        );
        let ask = |name: &str, asker: u8| {
            let name = QueryName::from_labels(name.split('.').map(str::as_bytes));
            let asker = Some([10, 1, 1, asker].into());
            answer(&name, QueryType::A, asker, &zone(), &records, &mut SmallRng::seed_from_u64(1))
        };
        let is = |last: u8| Answer::Addresses(vec![[10, 1, 1, last].into()]);
        assert_eq!((ask("db", 9), ask("DB.weave.local", 9), ask("by-id", 9)), (is(1), is(1), is(5)));
        assert_eq!((ask("web", 9), ask("web", 1)), (is(4), is(2)), "a link comes before everybody's names");
        assert_eq!((ask("db", 1), ask("by-id.weave.local", 1)), (Answer::Forward, Answer::NxDomain(domain())));
        assert_eq!(ask("gone", 9), Answer::Forward);
    }

    #[test]
    fn names_are_for_those_who_are_on_the_network() {
        let back = NetworkId(7);
        let on_back = |container: &str, last: u8, names: &[&str]| Record {
            network: Some(back),
            ..record(container, [10, 7, 0, last], names)
        };
        let records = Records::new(
            vec![
                record("web", [10, 1, 1, 1], &["web"]),
                on_back("web", 1, &["web", "front.back.weave.local"]),
                on_back("db", 2, &["db"]),
                record("other", [10, 1, 1, 3], &["other"]),
            ],
            vec![(back, "10.7.0.0/24".parse().unwrap())],
        );
        let ask = |name: &str, asker: Option<[u8; 4]>| {
            let name = QueryName::from_labels(name.split('.').map(str::as_bytes));
            let found = answer(
                &name,
                QueryType::Any,
                asker.map(Into::into),
                &zone(),
                &records,
                &mut SmallRng::seed_from_u64(1),
            );
            match found {
                Answer::Addresses(mut addresses) => {
                    addresses.sort();
                    addresses.iter().map(|a| a.octets()[1]).collect()
                }
                Answer::Pointer(_) => vec![255],
                _ => Vec::new(),
            }
        };
        let (web, web_back, db, other, starting) =
            ([10, 1, 1, 1], [10, 7, 0, 1], [10, 7, 0, 2], [10, 1, 1, 3], [10, 7, 0, 9]);
        assert_eq!((ask("db", Some(web)), ask("db", Some(web_back)), ask("db", Some(db))), (vec![7], vec![7], vec![7]));
        assert_eq!((ask("db", Some(other)), ask("db", Some(starting)), ask("db", None)), (vec![], vec![7], vec![7]));
        assert_eq!(
            (ask("web", Some(web)), ask("web", Some(db)), ask("web", Some(other))),
            (vec![1, 7], vec![7], vec![1])
        );
        assert_eq!((ask("other", Some(db)), ask("front.back.weave.local", Some(db))), (vec![], vec![7]));
        assert_eq!(ask("2.0.7.10.in-addr.arpa", Some(web)), [255]);
        assert!(ask("2.0.7.10.in-addr.arpa", Some(other)).is_empty(), "nor is it told who is there");
    }

    #[test]
    fn names_are_found_under_the_domain_in_any_case_and_bare() {
        let one = Answer::Addresses(vec![Ipv4Addr::new(10, 1, 1, 1)]);
        for name in ["b.weave.local", "B.Weave.LOCAL", "test-b.weave.local", "test-b", "b"] {
            assert_eq!(ask(name, QueryType::A, 0), one, "{name}");
            assert_eq!(ask(name, QueryType::Other, 0), Answer::NoData(domain()), "{name}");
        }
        assert_eq!(ask("b.weave.local", QueryType::Any, 0), one);
    }

    #[test]
    fn all_addresses_come_in_changing_order() {
        let answers: Vec<_> = (0..64).map(|seed| ask("web.weave.local", QueryType::A, seed)).collect();
        let mut firsts = std::collections::BTreeSet::new();
        for answer in answers {
            let Answer::Addresses(mut addresses) = answer else { panic!("{answer:?}") };
            firsts.insert(addresses[0]);
            addresses.sort();
            assert_eq!(addresses, [[10, 1, 1, 2], [10, 1, 1, 3], [10, 1, 1, 4]].map(Ipv4Addr::from));
        }
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn what_the_zone_lacks_is_denied_and_what_is_outside_is_forwarded() {
        for (name, expected) in [
            ("c.weave.local", Answer::NxDomain(domain())),
            ("a.b.weave.local", Answer::NxDomain(domain())),
            ("b .weave.local", Answer::NxDomain(domain())),
            ("b.weave.local.weave.local", Answer::NxDomain(domain())),
            ("weave.local", Answer::NoData(domain())),
            ("backend.weave.local", Answer::NoData(domain())),
            ("c", Answer::Forward),
            ("b.example.com", Answer::Forward),
            ("b.xweave.local", Answer::Forward),
            ("local", Answer::Forward),
            ("", Answer::Forward),
        ] {
            assert_eq!(ask(name, QueryType::A, 0), expected, "{name}");
        }
    }

    #[test]
    fn reverse_names_agree_with_addresses() {
        let name = |text: &str| Answer::Pointer(text.parse().unwrap());
        let reverse_zone: Hostname = "1.1.10.in-addr.arpa".parse().unwrap();
        for (query, kind, expected) in [
            ("1.1.1.10.in-addr.arpa", QueryType::Ptr, name("b.weave.local")),
            ("4.1.1.10.IN-ADDR.ARPA", QueryType::Ptr, name("web.weave.local")),
            ("1.1.1.10.in-addr.arpa", QueryType::A, Answer::NoData(reverse_zone.clone())),
            ("9.1.1.10.in-addr.arpa", QueryType::Ptr, Answer::NxDomain(reverse_zone)),
            ("9.2.1.10.in-addr.arpa", QueryType::Ptr, Answer::Forward),
            ("1.1.10.in-addr.arpa", QueryType::Ptr, Answer::Forward),
            ("01.1.1.10.in-addr.arpa", QueryType::Ptr, Answer::Forward),
            ("256.1.1.10.in-addr.arpa", QueryType::Ptr, Answer::Forward),
        ] {
            assert_eq!(ask(query, kind, 0), expected, "{query}");
        }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let names = prop::collection::vec("[a-c](\\.[a-b])?(\\.weave\\.local)?", 1..3);
        (0..3_u8, "[0-9a-f]{4}", 0..8_u8, names).prop_map(|(node, container, address, names)| Record {
            node: PeerId([0, 0, 0, 0, 0, node]),
            network: Some(NetworkId::MAIN),
            container,
            address: [10, 1, 1, address].into(),
            names: names.iter().map(|n| n.parse().unwrap()).collect(),
            links: Vec::new(),
        })
    }

    proptest! {
        #[test]
        fn the_index_answers_as_a_walk_over_all_records_would(
            list in prop::collection::vec(any_record(), 0..12),
            label in "[a-c](\\.[a-b])?",
        ) {
            let zone = zone();
            let full: Hostname = format!("{label}.weave.local").parse().unwrap();
            let mut expected: Vec<Ipv4Addr> =
                list.iter().filter(|r| r.names.iter().any(|n| n.qualified(&zone.domain) == full)).map(|r| r.address).collect();
            expected.sort();
            expected.dedup();
            let records = Records::new(list.clone(), Vec::new());
            let name = QueryName::from_labels(full.as_str().split('.').map(str::as_bytes));
            let found = answer(&name, QueryType::A, None, &zone, &records, &mut SmallRng::seed_from_u64(1));
            let mut addresses = if let Answer::Addresses(a) = found { a } else { Vec::new() };
            addresses.sort();
            prop_assert_eq!(addresses, expected);
            for record in &list {
                let octets = record.address.octets();
                let reverse = format!("{}.{}.{}.{}.in-addr.arpa", octets[3], octets[2], octets[1], octets[0]);
                let name = QueryName::from_labels(reverse.split('.').map(str::as_bytes));
                let found = answer(&name, QueryType::Ptr, None, &zone, &records, &mut SmallRng::seed_from_u64(1));
                let Answer::Pointer(pointer) = found else { panic!("{found:?}") };
                let back = QueryName::from_labels(pointer.as_str().split('.').map(str::as_bytes));
                let Answer::Addresses(back) = answer(&back, QueryType::A, None, &zone, &records, &mut SmallRng::seed_from_u64(1))
                else { panic!("{pointer}") };
                prop_assert!(back.contains(&record.address));
            }
        }

        #[test]
        fn arbitrary_labels_never_panic(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..8)) {
            let name = QueryName::from_labels(labels.iter().map(Vec::as_slice));
            for kind in [QueryType::A, QueryType::Ptr, QueryType::Any, QueryType::Other] {
                answer(&name, kind, None, &zone(), &records(), &mut SmallRng::seed_from_u64(1));
            }
        }
    }
}
