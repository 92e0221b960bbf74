//! What comes from files, from the command line and from other nodes.

use crate::text;
use osier_converge::Manifest;
use osier_discovery::{DiscoveryUrl, Entry, GoDuration, parse_file};
use osier_dns::{Action, Transport, handle, replay};
use osier_doctor::{Seen, diagnose, redact};
use osier_inventory::{Host, Inventory, Source, SourceKind, hosts_to_ask, split_words};
use osier_members::{Roll, Signed};
use osier_mesh::{Mesh, MeshConfig};
use osier_model::{MacAddr, NetworkId, PeerId, Token, config::Member};
use osier_names::{
    Link, Record, Records, Zone,
    given::{self, Table, Wish, with_given},
};
use osier_reach::{Block, Destination, Suffix, with_block, without_block};
use osier_ring::Ring;
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A discovery URL, an entry of one, a file of entries, or a duration.
pub(crate) fn discovery(data: &[u8]) {
    // Every range may stand for ten thousand engines, as the user wishes.
    let Some(text) = text(data).filter(|t| t.matches('[').count() < 4) else { return };
    let sound = |entry: &Entry| entry.port() != 0 && !entry.host().is_empty();
    if let Ok(entry) = text.parse::<Entry>() {
        assert!(sound(&entry));
        assert_eq!(entry.to_string().parse(), Ok(entry));
    }
    match text.parse() {
        Ok(DiscoveryUrl::Nodes(entries)) => assert!(entries.iter().all(sound)),
        Ok(DiscoveryUrl::Token(url)) => assert_eq!(url.to_string().parse(), Ok(DiscoveryUrl::Token(url))),
        _ => {}
    }
    if let Ok(entries) = parse_file(text) {
        assert!(entries.iter().all(sound));
    }
    if let Ok(duration) = text.parse::<GoDuration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration));
    }
}

/// A file of hosts (or what a program printed), a file of variables behind a line `---`, and patterns over them.
pub(crate) fn inventory(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (hosts, rest) = text.split_once("\n---\n").unwrap_or((text, ""));
    let (variables, pattern) = rest.split_once("\n---\n").unwrap_or((rest, "all"));
    for kind in [SourceKind::Hosts, SourceKind::List, SourceKind::Script(BTreeMap::new())] {
        let source = |text: &str, kind| Source { path: "f".into(), text: text.into(), kind };
        let sources = [source(hosts, kind), source(variables, SourceKind::GroupVars("all".into()))];
        let Ok(inventory) = Inventory::parse(&sources) else { continue };
        if let Ok(selected) = inventory.select(pattern) {
            assert!(selected.len() <= inventory.hosts().len());
        }
        for host in inventory.hosts() {
            let _ = host.connection();
            for name in host.vars().keys() {
                assert!(host.value(name).is_err() || host.value(name).unwrap().is_some());
            }
        }
        // What is shown of an inventory is one that has the same hosts.
        let all: Vec<&Host> = inventory.hosts().iter().collect();
        let shown = source(&inventory.list(&all).to_string(), SourceKind::Script(BTreeMap::new()));
        let Ok(again) = Inventory::parse(&[shown]) else { continue };
        if inventory.group("_meta").is_some() {
            continue;
        }
        let names =
            |inventory: &Inventory| inventory.hosts().iter().map(|h| h.name().to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(names(&again), names(&inventory));
    }
    let _ = hosts_to_ask(hosts);
}

/// The file that a node's ring is kept in: what is read is what is written.
pub(crate) fn ring(data: &[u8]) {
    // A range of more chunks than any cluster has takes memory, as it should.
    let Ok(ring) = serde_json::from_slice::<Ring>(data) else { return };
    let written = serde_json::to_vec(&ring).unwrap();
    let again: Ring = serde_json::from_slice(&written).unwrap();
    assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    let _ = ring.stats();
}

/// A datagram of the mesh, after decryption.
pub(crate) fn gossip(data: &[u8]) {
    let peer = |n: u8| PeerId([2, 0, 0, 0, 0, n]);
    let member =
        |n: u8| Member { name: format!("n{n}").parse().unwrap(), peer: peer(n), address: [10, 0, 0, n].into() };
    let config = MeshConfig {
        me: member(1),
        incarnation: 1,
        members: vec![member(1), member(2)],
        settle_after: Duration::from_secs(1),
    };
    let mut mesh = Mesh::new(config, StdRng::seed_from_u64(1));
    let _ = mesh.handle_datagram(Duration::ZERO, peer(2), data);
    mesh.handle_timeout(Duration::from_secs(2));
    while mesh.poll_transmit(Duration::from_secs(2)).is_some() {}
    while mesh.poll_event().is_some() {}
}

/// A query, as datagram and as message: what is replied is a reply to it and fits.
pub(crate) fn dns(data: &[u8]) {
    let zone = Zone { domain: "weave.local".parse().unwrap(), pool: "10.1.1.0/24".parse().unwrap() };
    let record = |n: u8, name: &str| Record {
        address: [10, 1, 1, n].into(),
        network: Some(NetworkId::MAIN),
        node: PeerId([2, 0, 0, 0, 0, n]),
        container: format!("c{n}"),
        names: vec![name.parse().unwrap(), "all.weave.local".parse().unwrap()],
        links: vec![Link { alias: "db".parse().unwrap(), target: "b".to_owned() }],
    };
    let records = Records::new(vec![record(1, "a.weave.local"), record(2, "b.weave.local")], Vec::new());
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
        let asker = [10, 1, 1, 1].into();
        if let Action::Reply(reply) = handle(data, transport, asker, &zone, &records, &mut StdRng::seed_from_u64(1)) {
            assert!(reply.len() <= limit && reply[..2] == data[..2] && reply[2] & 0x80 != 0);
        }
    }
}

/// A query behind its length, and a resolver's reply to it: what is sent again is as long, and is a reply to that query.
pub(crate) fn dns_cache(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else { return };
    let Some((query, reply)) = rest.split_at_checked(usize::from(*length)) else { return };
    for (transport, limit) in [(Transport::Udp, usize::from(u16::MAX)), (Transport::Tcp, usize::MAX)] {
        for seconds in [0, 1, 300, 1 << 40] {
            let Some(again) = replay(query, reply, transport, Duration::from_secs(seconds)) else { continue };
            assert!(again.len() == reply.len() && again.len() <= limit && again[..2] == query[..2] && seconds < 3600);
        }
    }
}

/// The file of names that were set by hand, and what is said to set one.
pub(crate) fn names_by_hand(data: &[u8]) {
    if let Ok(table) = serde_json::from_slice::<Table>(data) {
        let written = serde_json::to_vec(&table).unwrap();
        assert_eq!(serde_json::from_slice::<Table>(&written).unwrap(), table);
        let node = PeerId([2, 0, 0, 0, 0, 1]);
        let records = with_given(Vec::new(), table.entries.values().map(|entry| (node, entry)));
        assert!(records.iter().all(|r| !r.names.is_empty()));
    }
    let Some(text) = text(data) else { return };
    let (words, name) = text.split_once(" -h ").map_or((text, None), |(words, name)| (words, Some(name.to_owned())));
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let domain = "weave.local".parse().unwrap();
    let record = Record {
        network: Some(NetworkId::MAIN),
        address: [10, 1, 1, 1].into(),
        node: PeerId([2, 0, 0, 0, 0, 1]),
        container: "f00d".to_owned(),
        names: vec!["web.weave.local".parse().unwrap()],
        links: Vec::new(),
    };
    let Ok(wish) = Wish::from_words(&words, name) else { return };
    let entries = wish.entries(&domain, &[record]).unwrap_or_default();
    assert!(entries.iter().all(|e: &given::Entry| e.name.is_in(&domain) && e.name != domain));
}

/// The small words of flags and files.
pub(crate) fn words(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(mac) = text.parse::<MacAddr>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string().parse().as_ref(), Ok(&token));
    }
    if let Ok(name) = text.parse::<osier_model::NodeName>() {
        assert_eq!(name.as_str().parse().as_ref(), Ok(&name));
    }
    let _ = (split_words(text), osier_dns::parse_resolv_conf(text));
}

/// Words that go into a configuration of ssh, and the file that they go into, behind a line break.
pub(crate) fn reach(data: &[u8]) {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (Some(word), file) = (text(&data[..at]), data.get(at + 1..).unwrap_or_default()) else { return };
    let harmless = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@:[]".contains(&b);
        assert!(text.bytes().all(plain) && !text.starts_with('-'), "'{text}' means something to a shell");
    };
    if let Ok(via) = word.parse::<Destination>() {
        harmless(&via.to_string());
        assert_eq!(via.to_string().parse(), Ok(via));
    }
    let suffix = word.parse::<Suffix>().unwrap_or_else(|_| "eolas".parse().unwrap());
    harmless(&suffix.to_string());
    let via = word.parse().unwrap_or_else(|_| "vpn-host".parse().unwrap());
    let block = Block { suffix, via, user: word.parse().ok() };
    let Ok(with) = with_block(file, &block) else { return };
    assert_eq!(with_block(&with, &block).as_ref(), Ok(&with), "twice is not once");
    let without = without_block(file, &block.suffix).unwrap().unwrap_or_else(|| file.to_vec());
    assert_eq!(without_block(&with, &block.suffix), Ok(Some(without)), "other bytes of the file changed");
}

/// Statements about members, as a file or another node has them: what holds is told on as it was signed, and held again.
pub(crate) fn members(data: &[u8]) {
    let Ok(statements) = serde_json::from_slice::<Vec<Signed>>(data) else { return };
    let mut roll = Roll::default();
    roll.take(&statements, |_, _| false);
    assert_eq!(roll, Roll::default(), "something holds that nobody signed");
    roll.take(&statements, |_, _| true);
    let mut again = Roll::default();
    let told: Vec<Signed> = serde_json::from_slice(&serde_json::to_vec(&roll.signed()).unwrap()).unwrap();
    assert_eq!(again.take(&told, |_, _| true).1, None);
    assert_eq!((&again, again.digest()), (&roll, roll.digest()));
    let removed: Vec<_> = roll.removals().map(|removal| removal.peer).collect();
    assert!(roll.members().iter().all(|member| !removed.contains(&member.peer)));
}

/// What hosts say to a doctor, line by line: findings about the hosts that there are, each with a fix; and no login is left in what
/// is handed on.
pub(crate) fn doctor(data: &[u8]) {
    let Some(said) = text(data) else { return };
    let hosts: BTreeMap<String, Seen> = [("a".to_owned(), Seen::parse(said)), ("b".to_owned(), Seen::default())].into();
    for finding in diagnose(&hosts, "1") {
        assert!(finding.host.as_ref().is_none_or(|host| hosts.contains_key(host)));
        assert!(!finding.fix.is_empty());
    }
    let clean = redact(said, &["secret word".to_owned()]);
    assert!(!clean.contains("secret word"));
    assert_eq!(redact(&clean, &[]), clean, "something was left");
}

/// The manifest of a bundle: what is taken survives, and apt gets one stanza for each package.
pub(crate) fn bundle(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    assert_eq!(Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap(), manifest);
    for set in manifest.sets.iter().filter(|set| !set.packages.is_empty()) {
        let wanted = set.wanted("/b".parse().unwrap());
        assert_eq!(wanted.files.len(), set.packages.len());
        assert_eq!(wanted.index.as_str().split("\n\n").count(), set.packages.len());
    }
}
