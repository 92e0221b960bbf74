//! Whatever arrives: refused or taken, never a panic, and never anything about strangers.

use crate::world::{SECOND, member, peer};
use osier_mesh::{Delta, Digest, FactError, Mesh, MeshConfig, Refused};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use std::time::Duration;

fn mesh(node: usize, members: usize) -> Mesh {
    let members = (0..members).map(member).collect();
    let config = MeshConfig { me: member(node), incarnation: 1, members, settle_after: 10 * SECOND };
    Mesh::new(config, StdRng::seed_from_u64(node as u64))
}

/// Lets meshes talk for four seconds; returns every datagram with its sender and receiver.
fn talk(meshes: &mut [(usize, Mesh)]) -> Vec<(usize, usize, Vec<u8>)> {
    let mut all = Vec::new();
    for step in 0..40 {
        let now = step * SECOND / 10;
        let mut sent = Vec::new();
        for (from, mesh) in &mut *meshes {
            mesh.handle_timeout(now);
            while let Some(transmit) = mesh.poll_transmit(now) {
                sent.push((*from, transmit));
            }
        }
        for (from, transmit) in sent {
            if let Some((to, mesh)) = meshes.iter_mut().find(|(node, _)| peer(*node) == transmit.to) {
                let _ = mesh.handle_datagram(now, peer(from), &transmit.payload);
                all.push((from, *to, transmit.payload));
            }
        }
    }
    all
}

/// All datagrams that two meshes exchange until they know each other and a fact.
fn conversation() -> Vec<(usize, usize, Vec<u8>)> {
    let mut meshes = [(0, mesh(0, 3)), (1, mesh(1, 3))];
    meshes[0].1.set_fact("node", Some(b"a".to_vec())).unwrap();
    let all = talk(&mut meshes);
    let b = &meshes[1].1;
    assert!(b.alive(peer(0)) && b.facts().get(peer(0), "node").is_some());
    all
}

#[test]
fn strangers_and_impostors_are_refused() {
    for (from, to, datagram) in conversation() {
        let mut outsider = mesh(to, 0);
        assert_eq!(outsider.handle_datagram(Duration::ZERO, peer(from), &datagram), Err(Refused::Stranger));
        assert_eq!(outsider.handle_datagram(Duration::ZERO, peer(2), &datagram), Err(Refused::NotAMember));
        let mut receiver = mesh(to, 3);
        assert_eq!(receiver.handle_datagram(Duration::ZERO, peer(2), &datagram), Err(Refused::NotAMember));
        assert_eq!(receiver.handle_datagram(Duration::ZERO, peer(from), &datagram), Ok(()));
    }
}

#[test]
fn news_about_strangers_are_taken_out() {
    let mut meshes = [(0, mesh(0, 3)), (1, mesh(1, 2)), (2, mesh(2, 3))];
    meshes[2].1.set_fact("node", Some(b"c".to_vec())).unwrap();
    talk(&mut meshes);
    let [(_, knows_all), (_, knows_two), _] = &mut meshes;
    assert!(knows_all.alive(peer(1)) && knows_all.alive(peer(2)) && knows_two.alive(peer(0)));
    assert!(!knows_two.alive(peer(2)));
    let delta = knows_all.delta_since(&Digest::default(), usize::MAX);
    assert!(!delta.is_empty());
    knows_two.apply_delta(Duration::ZERO, delta).unwrap();
    assert_eq!(knows_two.facts().of(peer(2)).count(), 0);
}

#[test]
fn facts_that_cannot_be_carried_are_refused() {
    let mut mesh = mesh(0, 3);
    assert_eq!(mesh.set_fact("", Some(vec![])), Err(FactError::Key));
    assert_eq!(mesh.set_fact(&"k".repeat(201), Some(vec![])), Err(FactError::Key));
    assert_eq!(mesh.set_fact("k", Some(vec![0; 70_000])), Err(FactError::Value(70_000)));
    assert_eq!(mesh.facts().iter().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_and_damaged_datagrams_do_no_harm(
        noise in prop::collection::vec(any::<u8>(), 0..1200),
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut target = mesh(1, 3);
        let _ = target.handle_datagram(Duration::ZERO, peer(0), &noise);
        for (_, _, datagram) in conversation() {
            let mut damaged = datagram.clone();
            damaged[at.index(datagram.len())] = byte;
            let _ = target.handle_datagram(Duration::ZERO, peer(0), &damaged);
            let _ = target.handle_datagram(Duration::ZERO, peer(0), &datagram[..cut.index(datagram.len())]);
        }
        for second in 0..30 {
            target.handle_timeout(second * SECOND);
            while target.poll_transmit(second * SECOND).is_some() {}
        }
    }

    #[test]
    fn random_and_damaged_deltas_do_no_harm(
        noise in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut source = mesh(0, 3);
        for n in 0..5 {
            source.set_fact(&n.to_string(), Some(vec![n; 3])).unwrap();
        }
        let mut target = mesh(1, 3);
        let mut bytes = postcard_bytes(&source.delta_since(&Digest::default(), usize::MAX));
        let index = at.index(bytes.len());
        bytes[index] = byte;
        for input in [noise, bytes] {
            if let Ok(delta) = postcard::from_bytes::<Delta>(&input) {
                let _ = target.apply_delta(Duration::ZERO, delta);
            }
            if let Ok(digest) = postcard::from_bytes::<Digest>(&input) {
                digest.fingerprint();
                target.note_digest(Duration::ZERO, &digest);
                target.delta_since(&digest, 1000);
            }
        }
        prop_assert!(target.facts().iter().all(|(origin, ..)| origin == peer(0) || origin == peer(2)));
    }
}

fn postcard_bytes(delta: &Delta) -> Vec<u8> {
    postcard::to_stdvec(delta).unwrap()
}
