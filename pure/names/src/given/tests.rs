//! Names set by hand: what is answered, what a removal means, and a cluster of nodes that are cut off and start again.

use super::*;
use crate::{Answer, QueryName, QueryType, Records, Zone, answer};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

fn node(n: u8) -> PeerId {
    PeerId([2, 0, 0, 0, 0, n])
}

fn name(text: &str) -> Hostname {
    text.parse::<Hostname>().unwrap().qualified(&Hostname::default_domain())
}

fn at(text: &str, address: [u8; 4]) -> Entry {
    Entry { name: name(text), address: Some(address.into()), container: None, called: None }
}

fn of(text: &str, container: &str, called: &str) -> Entry {
    Entry { name: name(text), address: None, container: Some(container.into()), called: Some(called.into()) }
}

fn record(n: u8, container: &str, address: [u8; 4], own: &str) -> Record {
    Record {
        address: address.into(),
        node: node(n),
        container: container.into(),
        names: vec![name(own)],
        links: Vec::new(),
    }
}

fn ask(records: &[Record], entries: &[(PeerId, Entry)], text: &str, kind: QueryType) -> Answer {
    let zone = Zone { domain: Hostname::default_domain(), pool: "10.1.1.0/24".parse().unwrap() };
    let records = Records::new(with_given(records.to_vec(), entries.iter().map(|(n, e)| (*n, e))));
    let question = QueryName::from_labels(text.split('.').map(str::as_bytes));
    match answer(&question, kind, None, &zone, &records, &mut SmallRng::seed_from_u64(1)) {
        Answer::Addresses(mut addresses) => {
            addresses.sort();
            Answer::Addresses(addresses)
        }
        other => other,
    }
}

fn is(addresses: &[[u8; 4]]) -> Answer {
    Answer::Addresses(addresses.iter().copied().map(Ipv4Addr::from).collect())
}

#[test]
fn names_lead_to_addresses_outside_and_to_containers_wherever_they_are() {
    let records = [record(9, "f00", [10, 1, 1, 5], "web"), record(1, "f00d", [10, 1, 1, 6], "db")];
    let mut entries = vec![
        (node(1), at("oracle", [192, 0, 2, 7])),
        (node(2), at("oracle", [192, 0, 2, 8])),
        (node(1), of("shop", "f00", "web-1")),
        (node(1), of("gone", "beef", "old")),
        (node(1), Entry { address: Some([10, 1, 1, 99].into()), ..of("other", "f00", "web-1") }),
        (node(1), Entry { address: Some([10, 1, 1, 98].into()), ..of("gone", "beef", "old") }),
        (node(3), at("alias", [10, 1, 1, 5])),
        (node(3), Entry { address: None, ..at("nothing", [0; 4]) }),
    ];
    for _ in 0..2 {
        let ask = |text: &str, kind| ask(&records, &entries, text, kind);
        assert_eq!(ask("Oracle.weave.local", QueryType::A), is(&[[192, 0, 2, 7], [192, 0, 2, 8]]));
        assert_eq!(ask("oracle", QueryType::A), is(&[[192, 0, 2, 7], [192, 0, 2, 8]]));
        assert_eq!(ask("shop", QueryType::A), is(&[[10, 1, 1, 5]]));
        assert_eq!(ask("alias", QueryType::A), is(&[[10, 1, 1, 5]]));
        assert_eq!(ask("other", QueryType::A), is(&[[10, 1, 1, 99]]));
        for none in ["gone.weave.local", "nothing.weave.local"] {
            assert_eq!(ask(none, QueryType::A), Answer::NxDomain(Hostname::default_domain()), "{none}");
        }
        let own = ask("5.1.1.10.in-addr.arpa", QueryType::Ptr);
        assert_eq!(own, Answer::Pointer(name("web")), "an address leads to the name its container has by itself");
        assert_eq!(ask("7.2.0.192.in-addr.arpa", QueryType::Ptr), Answer::Pointer(name("oracle")));
        entries.reverse();
    }
}

fn wanted(text: &str, addresses: &[[u8; 4]], container: Option<Container>) -> Wanted {
    let addresses = addresses.iter().copied().map(Ipv4Addr::from).collect();
    Wanted { name: (!text.is_empty()).then(|| name(text)), addresses, container }
}

fn container(word: &str, ids: &[(&str, [u8; 4])]) -> Option<Container> {
    let ids = ids.iter().map(|(id, address)| ((*id).to_owned(), BTreeSet::from([Ipv4Addr::from(*address)])));
    Some(Container { word: word.into(), ids: ids.collect() })
}

#[test]
fn a_removal_takes_what_has_all_that_is_said() {
    let outside = at("db", [192, 0, 2, 7]);
    let inside = of("db", "f00d", "web-1");
    let fixed = Entry { address: Some([10, 1, 1, 9].into()), ..inside.clone() };
    let running = || container("web-1", &[("f00d", [10, 1, 1, 5])]);
    for (wanted, taken) in [
        (wanted("db", &[], None), [true, false, false]),
        (wanted("db", &[[192, 0, 2, 7], [1, 1, 1, 1]], None), [true, false, false]),
        (wanted("db", &[[192, 0, 2, 8]], None), [false; 3]),
        (wanted("dc", &[], None), [false; 3]),
        (wanted("", &[], running()), [false, true, true]),
        (wanted("", &[[10, 1, 1, 9]], running()), [false, false, true]),
        (wanted("db", &[[10, 1, 1, 5]], running()), [false, true, false]),
        (wanted("db", &[], container("web-1", &[])), [false, true, true]),
        (wanted("db", &[], container("f00d", &[])), [false, true, true]),
        (wanted("db", &[], container("f00", &[])), [false; 3]),
        (wanted("db", &[], container("web-2", &[("beef", [10, 1, 1, 6])])), [false; 3]),
    ] {
        let is = [&outside, &inside, &fixed].map(|e| wanted.is(e));
        assert_eq!(is, taken, "{wanted:?}");
    }
}

#[test]
fn the_file_is_read_as_it_was_written_and_nothing_else_is_taken() {
    let mut table = Table::default();
    table.add(EntryId(7), at("db", [192, 0, 2, 7])).unwrap();
    table.gone.insert((node(2), EntryId(u64::MAX)));
    let text = serde_json::to_string(&table).unwrap();
    assert_eq!(
        text,
        "{\"entries\":{\"0000000000000007\":{\"name\":\"db.weave.local\",\"address\":\"192.0.2.7\"}},\
         \"gone\":[[\"02:00:00:00:00:02\",\"ffffffffffffffff\"]]}"
    );
    assert_eq!(serde_json::from_str::<Table>(&text).unwrap(), table);
    for bad in [text.replace("0007", "007"), text.replace("gone", "lost"), text.replace("ffffffff", "FFFFFFFF")] {
        assert!(serde_json::from_str::<Table>(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_full_table_takes_no_more_and_loses_nothing() {
    let mut table = Table::default();
    for n in 0..MOST {
        table.add(EntryId(n as u64), at(&format!("n{n}"), [192, 0, 2, 7])).unwrap();
    }
    assert_eq!(table.add(EntryId(u64::MAX), at("one-more", [192, 0, 2, 7])), Err(Full));
    table.add(EntryId(u64::MAX), at("n0", [192, 0, 2, 7])).unwrap();
    assert!(table.entries.len() == MOST && !table.entries.contains_key(&EntryId(0)));
}

/// What may happen to a cluster of three nodes.
#[derive(Debug, Clone)]
enum Event {
    Add {
        node: u8,
        name: u8,
    },
    Remove {
        node: u8,
        name: u8,
    },
    /// One hears what another says now.
    Hear {
        by: u8,
        of: u8,
    },
    /// It starts again, with nothing but its file.
    Restart {
        node: u8,
    },
}

#[derive(Default, Clone)]
struct Node {
    table: Table,
    /// What it last heard of every node; of itself what it says.
    heard: BTreeMap<u8, (Table, BTreeSet<EntryId>)>,
}

impl Node {
    fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        for (n, (table, forgotten)) in &self.heard {
            seen.entries.extend(table.entries.iter().map(|(id, e)| ((node(*n), *id), e.clone())));
            seen.gone.extend(table.gone.iter().copied());
            seen.forgotten.extend(forgotten.iter().map(|id| (node(*n), *id)));
        }
        seen
    }

    fn act(&mut self, me: u8) {
        let members = (0..3).map(node).collect();
        self.heard.insert(me, (self.table.clone(), BTreeSet::new()));
        let seen = self.seen();
        self.table.settle(node(me), &members, &seen);
        let forgotten = self.table.forgotten(node(me), &seen);
        self.heard.insert(me, (self.table.clone(), forgotten));
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let n = || 0..3_u8;
    let event = prop_oneof![
        3 => (n(), n()).prop_map(|(node, name)| Event::Add { node, name }),
        3 => (n(), n()).prop_map(|(node, name)| Event::Remove { node, name }),
        8 => (n(), n()).prop_map(|(by, of)| Event::Hear { by, of }),
        1 => n().prop_map(|node| Event::Restart { node }),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    #[test]
    fn once_all_have_heard_all_they_agree_and_only_what_was_removed_is_gone(events in events()) {
        let mut nodes: Vec<Node> = vec![Node::default(); 3];
        // Entries that somebody removed, having seen them.
        let mut removed = BTreeSet::new();
        let mut added = BTreeMap::new();
        let mut last = 0;
        let hear = |nodes: &mut Vec<Node>, by: u8, of: u8| {
            if by != of && let Some(said) = nodes[usize::from(of)].heard.get(&of).cloned() {
                nodes[usize::from(by)].heard.insert(of, said);
            }
            nodes[usize::from(by)].act(by);
        };
        for event in events {
            match event {
                Event::Add { node: n, name } => {
                    last += 1;
                    let entry = at(&format!("n{name}"), [192, 0, 2, 7]);
                    let old: Vec<EntryId> = nodes[usize::from(n)].table.entries.iter()
                        .filter(|(_, e)| **e == entry).map(|(id, _)| *id).collect();
                    for id in old {
                        added.remove(&(node(n), id));
                    }
                    nodes[usize::from(n)].table.add(EntryId(last), entry.clone()).unwrap();
                    added.insert((node(n), EntryId(last)), entry);
                    nodes[usize::from(n)].act(n);
                }
                Event::Remove { node: n, name } => {
                    let this = &mut nodes[usize::from(n)];
                    let wish = wanted(&format!("n{name}"), &[], None);
                    let seen = this.seen();
                    let held = seen.standing().filter(|(_, _, e)| wish.is(e)).map(|(p, id, _)| (p, id));
                    removed.extend(held);
                    this.table.remove(node(n), &wish, &seen).unwrap();
                    this.act(n);
                    let left = this.seen();
                    prop_assert!(!left.standing().any(|(_, _, e)| wish.is(e)), "a removal holds at once where it is made");
                }
                Event::Hear { by, of } => hear(&mut nodes, by, of),
                Event::Restart { node: n } => {
                    nodes[usize::from(n)].heard.clear();
                    nodes[usize::from(n)].act(n);
                }
            }
        }
        for _ in 0..4 {
            for (by, of) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
                hear(&mut nodes, by, of);
            }
        }
        added.retain(|key, _| !removed.contains(key));
        for (n, this) in nodes.iter().enumerate() {
            let seen = this.seen();
            let standing: BTreeMap<_, _> = seen.standing().map(|(p, id, e)| ((p, id), e.clone())).collect();
            prop_assert_eq!(&standing, &added, "node {}", n);
            prop_assert!(this.table.gone.is_empty(), "removals that have been heard are kept no longer");
            prop_assert!(this.heard[&u8::try_from(n).unwrap()].1.is_empty(), "and need not be confirmed any longer");
        }
    }

    #[test]
    fn identities_are_read_as_written(id: u64, noise in "\\PC{0,20}") {
        prop_assert_eq!(EntryId(id).to_string().parse(), Ok(EntryId(id)));
        if let Ok(id) = noise.parse::<EntryId>() {
            prop_assert_eq!(id.to_string(), noise);
        }
    }
}
