//! Names set by hand: what is answered, what a removal means, and a cluster of nodes that are cut off and start again.

use super::*;
use crate::{Answer, QueryName, QueryType, Records, Zone, answer};
use osier_model::NetworkId;
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
        network: Some(NetworkId::MAIN),
        node: node(n),
        container: container.into(),
        names: vec![name(own)],
        links: Vec::new(),
    }
}

fn ask(records: &[Record], entries: &[(PeerId, Entry)], text: &str, kind: QueryType) -> Answer {
    ask_from(None, records, entries, text, kind)
}

/// The network of the tests besides the cluster's own.
const BACK: (NetworkId, &str) = (NetworkId(7), "10.2.0.0/24");

fn ask_from(
    asker: Option<[u8; 4]>,
    records: &[Record],
    entries: &[(PeerId, Entry)],
    text: &str,
    kind: QueryType,
) -> Answer {
    let zone = Zone { domain: Hostname::default_domain(), pool: "10.1.1.0/24".parse().unwrap() };
    let records = with_given(records.to_vec(), entries.iter().map(|(n, e)| (*n, e)));
    let records = Records::new(records, vec![(BACK.0, BACK.1.parse().unwrap())]);
    let question = QueryName::from_labels(text.split('.').map(str::as_bytes));
    match answer(&question, kind, asker.map(Into::into), &zone, &records, &mut SmallRng::seed_from_u64(1)) {
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

#[test]
fn names_are_for_those_who_are_on_the_network_and_those_of_the_outside_for_all() {
    let back = |container: &str, address, own| Record { network: Some(BACK.0), ..record(1, container, address, own) };
    let records = [
        record(1, "f00d", [10, 1, 1, 5], "web"),
        back("f00d", [10, 2, 0, 5], "web"),
        back("beef", [10, 2, 0, 6], "db"),
        record(1, "cafe", [10, 1, 1, 7], "front"),
    ];
    let entries = [
        (node(1), at("oracle", [192, 0, 2, 7])),
        (node(1), of("shop", "f00d", "web")),
        (node(1), of("store", "beef", "db")),
        (node(1), at("depot", [10, 2, 0, 6])),
    ];
    let (front, database) = ([10, 1, 1, 7], [10, 2, 0, 6]);
    let none = || Answer::NxDomain(Hostname::default_domain());
    for (asker, text, expected) in [
        (front, "oracle", is(&[[192, 0, 2, 7]])),
        (database, "oracle", is(&[[192, 0, 2, 7]])),
        (front, "shop", is(&[[10, 1, 1, 5]])),
        (database, "shop", is(&[[10, 2, 0, 5]])),
        (front, "store.weave.local", none()),
        (database, "store", is(&[[10, 2, 0, 6]])),
        (front, "depot.weave.local", none()),
        (database, "depot", is(&[[10, 2, 0, 6]])),
    ] {
        assert_eq!(ask_from(Some(asker), &records, &entries, text, QueryType::A), expected, "{asker:?} {text}");
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
        (wanted("db", &[], None), [true, true, true]),
        (wanted("db", &[[10, 1, 1, 9]], None), [false, false, true]),
        (wanted("db", &[[192, 0, 2, 7], [1, 1, 1, 1]], None), [true, false, false]),
        (wanted("db", &[[192, 0, 2, 8]], None), [false; 3]),
        (wanted("dc", &[], None), [false; 3]),
        (wanted("", &[], running()), [false, true, true]),
        (wanted("", &[[10, 1, 1, 9]], running()), [false, false, true]),
        (wanted("db", &[[10, 1, 1, 5]], running()), [false, true, false]),
        (wanted("db", &[], container("web-1", &[])), [false, true, true]),
        (wanted("db", &[], container("f00d", &[])), [false, true, true]),
        (wanted("db", &[], container("f00", &[])), [false; 3]),
        (wanted("db", &[], container("f00d", &[("beef", [10, 1, 1, 6])])), [false; 3]),
        (wanted("db", &[], container("web-2", &[("beef", [10, 1, 1, 6])])), [false; 3]),
    ] {
        let is = [&outside, &inside, &fixed].map(|e| wanted.is(e));
        assert_eq!(is, taken, "{wanted:?}");
    }
}

fn wish(text: &str) -> Wish {
    let (words, name) = text.split_once("-h ").map_or((text, None), |(words, name)| (words, Some(name.to_owned())));
    Wish::from_words(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), name).unwrap()
}

#[test]
fn words_are_addresses_and_then_a_container() {
    let parsed = wish("10.1.1.1 192.0.2.7 web-1 -h db");
    assert_eq!(parsed.addresses, [[10, 1, 1, 1], [192, 0, 2, 7]].map(Ipv4Addr::from));
    assert_eq!((parsed.container.as_deref(), parsed.name.as_deref()), (Some("web-1"), Some("db")));
    assert_eq!(wish("1.2 -h db").container.as_deref(), Some("1.2"), "no address, so a container");
    for (words, bad) in [("a b", "b"), ("a 10.1.1.1", "10.1.1.1"), ("::1 a", "::1"), ("10.1.1.1 ::1", "::1")] {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        assert_eq!(Wish::from_words(&words, None), Err(bad.to_owned()));
    }
}

#[test]
fn wishes_become_entries_or_are_refused_with_the_reason() {
    let domain = Hostname::default_domain();
    let id = "f00d".repeat(16);
    let mut web = record(1, &id, [10, 1, 1, 5], "web");
    web.names.push(name("test-web"));
    let records = [web, record(1, &"f00b".repeat(16), [10, 1, 1, 6], "db"), record(2, "beef", [10, 1, 1, 7], "db")];
    let entries = |text: &str| wish(text).entries(&domain, &records);
    let called = |text: &str, word: &str| of(text, &id, word);
    assert_eq!(
        entries("192.0.2.7 192.0.2.8 -h Oracle"),
        Ok(vec![at("oracle", [192, 0, 2, 7]), at("oracle", [192, 0, 2, 8])])
    );
    for word in ["web", "test-web.weave.local", "f00d", "f00df00d", "n1/web"] {
        let bare = word.trim_start_matches("n1/");
        assert_eq!(entries(&format!("{word} -h shop.weave.local.")), Ok(vec![called("shop", bare)]), "{word}");
        assert_eq!(entries(word), Ok(vec![]), "a container has its own names anyway");
        assert_eq!(entries(&format!("{word} -h test-web")), Ok(vec![]));
    }
    let fixed = Entry { address: Some([10, 1, 1, 9].into()), ..called("web", "web") };
    assert_eq!(entries("10.1.1.9 web"), Ok(vec![fixed]), "without a name it is the container's own");
    for (text, words) in [
        ("192.0.2.7 -h a.example.com", "'a.example.com' is outside the domain 'weave.local'"),
        ("192.0.2.7 -h weave.local", "the domain itself"),
        ("192.0.2.7 -h a_b!", "'a_b!' is not a valid host name"),
        ("192.0.2.7", "no name is said"),
        ("-h db", "say addresses, or a container"),
        ("0.0.0.0 -h db", "no name can lead to 0.0.0.0"),
        ("224.0.0.1 -h db", "no name can lead to 224.0.0.1"),
        ("nobody -h x", "no container 'nobody' runs"),
        ("db -h x", "'db' means several containers (beef, f00bf00bf00b); say the id of one"),
        ("f00 -h x", "means several containers"),
    ] {
        let error = entries(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let long = format!("192.0.2.7 -h {}", ["a"; 125].join(""));
    assert!(entries(&long).is_err());
    let elsewhere = Record { network: Some(BACK.0), names: vec![name("other")], ..record(1, &id, [10, 2, 0, 5], "x") };
    let both = [records[0].clone(), elsewhere];
    assert_eq!(wish("f00d -h web").entries(&domain, &both), Ok(vec![called("web", "f00d")]), "not its own everywhere");
    let wanted = |text: &str| wish(text).wanted(&domain, &records);
    assert_eq!(wanted("10.1.1.1").unwrap_err(), Mistake::NoSelection);
    assert_eq!(wanted("stopped").unwrap().container.unwrap().ids.len(), 0, "one that does not run may be named");
    assert_eq!(wanted("10.1.1.9 db -h x").unwrap().container.unwrap().ids.len(), 2);
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
    fn no_wish_panics_and_every_name_is_in_the_domain(
        words in prop::collection::vec("[a-f0-9./:]{0,9}|10\\.1\\.1\\.[0-9]|\\PC{0,5}", 0..4),
        text in prop::option::of("[a-z.]{0,260}|\\PC{0,9}"),
    ) {
        let domain = Hostname::default_domain();
        let records = [record(1, "abcdef", [10, 1, 1, 5], "a"), record(1, "abcfed", [10, 1, 1, 6], "b.weave.local")];
        if let Ok(wish) = Wish::from_words(&words, text) {
            for entry in wish.entries(&domain, &records).into_iter().flatten() {
                prop_assert!(entry.name.is_in(&domain) && entry.name != domain && entry.name.as_str().len() <= 253);
                prop_assert!(entry.address.is_some() || entry.container.is_some());
                prop_assert!(wish.wanted(&domain, &records).is_ok_and(|w| w.is(&entry)) || wish.name.is_none());
            }
            let _ = wish.wanted(&domain, &records);
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
