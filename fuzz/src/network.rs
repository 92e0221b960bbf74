//! Networks of users: what a client asks for, what other nodes say, and what is read back from disk.

use osier_dockerapi::{
    members::{Body, spell},
    network_create::network_wishes,
};
use osier_networks::{Book, Draft, Network, Present, Taken, wanted};
use serde_json::Value;
use std::collections::BTreeSet;

/// JSON: a request to make a network, a record of one, or a node's book of them.
pub(crate) fn network(data: &[u8]) {
    if let Ok(mut body) = serde_json::from_slice::<Value>(data) {
        spell(&mut body, Body::NetworkCreate);
        if let Ok(Some(draft)) = network_wishes(&body) {
            settle(draft);
        }
    }
    if let Ok(record) = serde_json::from_slice::<Network>(data) {
        hear(&[record]);
    }
    if let Ok(book) = serde_json::from_slice::<Book>(data) {
        let networks: Vec<Network> = book.networks().cloned().collect();
        assert!(networks.iter().all(|n| !book.gone().any(|gone| gone == n.id)));
        hear(&networks);
    }
}

/// A network that is made lies in what was asked for, and has room.
fn settle(draft: Draft) {
    for luck in [0, u64::MAX, 0x1234_5678_9abc_def0] {
        let Ok(made) = draft.clone().settle(luck, &BTreeSet::new(), &Taken::default()) else { continue };
        assert!(made.subnet.contains(&made.pool()) && made.subnet.contains(&made.gateway), "{made:?}");
        assert!((1..1 << 24).contains(&made.vni) && made.subnet.prefix_len() <= 29, "{made:?}");
        let text = serde_json::to_vec(&made).unwrap();
        assert_eq!(serde_json::from_slice::<Network>(&text).unwrap(), made);
    }
}

/// Whatever others say is heard once, and an engine that did what it is told has nothing left to do.
fn hear(said: &[Network]) {
    let mut book = Book::default();
    book.hear(said.iter(), std::iter::empty(), false);
    let again = book.hear(said.iter(), std::iter::empty(), false);
    assert_eq!((again.added.len(), again.removed.len()), (0, 0));
    let known: Vec<Network> = book.networks().cloned().collect();
    let made = wanted(&known, &[], &BTreeSet::new(), &BTreeSet::new());
    let present = made.iter().filter_map(|step| match step {
        osier_networks::Step::Create(n) => {
            Some(Present { engine_id: n.id.to_string(), name: n.name.clone(), id: n.id, in_use: false })
        }
        _ => None,
    });
    let present: Vec<Present> = present.collect();
    let left = wanted(&known, &present, &BTreeSet::new(), &BTreeSet::new());
    assert!(left.iter().all(|step| matches!(step, osier_networks::Step::Problem(_))), "{left:?}");
}
