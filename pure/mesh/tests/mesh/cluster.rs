//! Clusters of 3, 10 and 100 nodes: joining, dying, coming back, partitions, lost state.

use crate::world::{SECOND, World, member, peer};
use osier_mesh::{Mesh, MeshConfig};
use rand::{SeedableRng, rngs::StdRng};
use std::time::Duration;

/// A cluster whose nodes all know each other and have a fact each.
fn running(nodes: usize, loss: f64, seed: u64) -> World {
    let mut world = World::new(nodes, seed);
    world.loss = loss;
    for node in 0..nodes {
        world.mesh(node).set_fact("node", Some(format!("node {node}").into())).unwrap();
    }
    let joined = world.run_until(10 * SECOND, World::agrees_on_life);
    assert!(joined <= 5 * SECOND, "joining took {joined:?}");
    world.run_until(30 * SECOND, World::agrees_on_facts);
    world.deaths.clear();
    world
}

#[test]
fn three_nodes_hear_of_a_name_within_milliseconds_and_despite_loss() {
    let mut world = running(3, 0.0, 1);
    let quick = world.spread_time(1, "name/a", "10.1.1.2");
    assert!(quick <= Duration::from_millis(5), "{quick:?}");
    let mut world = running(3, 0.05, 2);
    let mut times: Vec<_> = (0..200).map(|n| world.spread_time(n % 3, "name/a", &n.to_string())).collect();
    times.sort();
    assert!(times[180] <= Duration::from_millis(50), "9 of 10: {:?}", times[180]);
    assert!(times[199] <= Duration::from_millis(1000), "worst: {:?}", times[199]);
}

#[test]
fn many_facts_at_once_arrive_too() {
    for (nodes, seed) in [(3, 3), (10, 4)] {
        let mut world = running(nodes, 0.05, seed);
        for n in 0..300 {
            world.mesh(0).set_fact(&format!("endpoint/{n}"), Some(vec![7; 100])).unwrap();
        }
        world.mesh(0).set_fact("large", Some(vec![1; 60_000])).unwrap();
        let all = world.run_until(20 * SECOND, |w| w.running().all(|(_, m)| m.facts().of(peer(0)).count() == 302));
        world.note(&format!("301 facts everywhere after {all:?}"));
        for n in 0..300 {
            world.mesh(0).set_fact(&format!("endpoint/{n}"), None).unwrap();
        }
        world.run_until(30 * SECOND, |w| w.running().all(|(_, mesh)| mesh.facts().of(peer(0)).count() == 2));
    }
}

#[test]
fn a_death_is_known_in_time_and_a_restart_at_once() {
    for (nodes, loss, limit, seed) in [(3, 0.0, 10, 5), (3, 0.05, 12, 6), (10, 0.05, 15, 7), (100, 0.02, 25, 8)] {
        let mut world = running(nodes, loss, seed);
        world.kill(1);
        let death = world.run_until(limit * SECOND, World::agrees_on_life);
        assert_eq!(world.mesh(0).facts().get(peer(1), "node"), Some(&b"node 1"[..]), "facts of the dead are kept");
        world.start(1);
        let back = world.run_until(2 * SECOND, World::agrees_on_life);
        world.note(&format!("death everywhere after {death:?}, back after {back:?}"));
        world.mesh(1).set_fact("node", Some("again".into())).unwrap();
        world.run_until(3 * SECOND, |w| w.running().all(|(_, m)| m.facts().get(peer(1), "node") == Some(b"again")));
        assert!(world.deaths.iter().all(|(_, _, whom)| *whom == 1), "{:?}", world.deaths);
    }
}

#[test]
fn nobody_is_declared_dead_by_mistake_under_loss() {
    for (nodes, minutes, seed) in [(3, 30, 9), (10, 10, 10), (100, 1, 11)] {
        let mut world = running(nodes, 0.05, seed);
        let (bytes, datagrams) = (world.bytes, world.datagrams);
        let time = minutes * 60 * SECOND;
        world.run_for(time);
        let per_node = (world.bytes - bytes) as f64 / nodes as f64 / time.as_secs_f64();
        let rate = (world.datagrams - datagrams) as f64 / nodes as f64 / time.as_secs_f64();
        world.note(&format!("idle: {per_node:.0} B/s and {rate:.1} datagrams/s per node"));
        assert_eq!(world.deaths, []);
        assert!(per_node < 500.0, "{per_node} B/s per node");
    }
}

#[test]
fn a_healed_partition_leaves_no_trace() {
    for (nodes, cut, seed) in [(3, 1, 12), (10, 5, 13), (100, 50, 14)] {
        let mut world = running(nodes, 0.02, seed);
        for node in 0..cut {
            world.side[node] = 1;
        }
        world.run_for(30 * SECOND);
        assert!(!world.mesh(0).alive(peer(nodes - 1)) && !world.mesh(nodes - 1).alive(peer(0)));
        world.spread_time(nodes - 1, "name/right", "r");
        world.mesh(nodes - 1).set_fact("node", None).unwrap();
        world.spread_time(0, "name/left", "l");
        world.side.fill(0);
        let alive = world.run_until(10 * SECOND, World::agrees_on_life);
        let facts = world.run_until(10 * SECOND, World::agrees_on_facts);
        world.note(&format!("cut at {cut}: all alive {alive:?} after healing, facts equal {facts:?} later"));
        let mesh = world.mesh(1);
        assert_eq!(mesh.facts().get(peer(nodes - 1), "name/right"), Some(&b"r"[..]));
        assert_eq!(mesh.facts().get(peer(nodes - 1), "node"), None);
        assert_eq!(mesh.facts().get(peer(0), "name/left"), Some(&b"l"[..]));
        world.deaths.clear();
        world.run_for(20 * SECOND);
        assert_eq!(world.deaths, [], "nobody dies of the healing");
    }
}

#[test]
fn a_restart_takes_facts_away_only_once_the_node_has_said_all() {
    let mut world = running(3, 0.0, 16);
    world.spread_time(1, "endpoint/kept", "1");
    world.spread_time(1, "endpoint/gone", "1");
    world.kill(1);
    world.start(1);
    world.spread_time(1, "endpoint/new", "1");
    assert_eq!(world.mesh(0).facts().of(peer(1)).count(), 4, "node, kept, gone and new");
    world.mesh(1).set_fact("endpoint/kept", Some("1".into())).unwrap();
    world.mesh(1).settle();
    world.run_until(SECOND, |w| w.running().all(|(_, mesh)| mesh.facts().of(peer(1)).count() == 2));
    world.kill(1);
    world.start(1);
    world.run_for(5 * SECOND);
    assert_eq!(world.mesh(0).facts().of(peer(1)).count(), 2);
    world.run_until(10 * SECOND, |w| w.running().all(|(_, mesh)| mesh.facts().of(peer(1)).count() == 0));
}

#[test]
fn a_node_that_lost_its_state_outbids_its_former_life() {
    for downtime in [1, 30] {
        let mut world = running(3, 0.0, 17);
        for _ in 0..3 {
            world.kill(1);
            world.start(1);
            world.run_until(5 * SECOND, World::agrees_on_life);
        }
        world.spread_time(1, "old", "x");
        world.kill(1);
        world.run_for(downtime * SECOND);
        world.start_as(1, 1);
        world.mesh(1).set_fact("node", Some("reborn".into())).unwrap();
        world.mesh(1).settle();
        world.run_until(5 * SECOND, |w| {
            w.agrees_on_life() && w.running().all(|(_, m)| m.facts().get(peer(1), "node") == Some(b"reborn"))
        });
        world.run_until(5 * SECOND, |w| w.running().all(|(_, m)| m.facts().get(peer(1), "old").is_none()));
        assert!(world.mesh(1).incarnation() > 4, "more than the highest anybody knew");
    }
}

#[test]
fn a_later_life_of_which_others_know_nothing_but_that_it_died_is_outbid_too() {
    let mut world = running(3, 0.0, 5);
    world.kill(0);
    // A last sign of life of an incarnation that said nothing else to anybody who still runs.
    let config = MeshConfig { me: member(0), incarnation: 1 << 30, members: vec![member(1)], settle_after: SECOND };
    let mut former = Mesh::new(config, StdRng::seed_from_u64(1));
    former.handle_timeout(Duration::ZERO);
    let sign = former.poll_transmit(Duration::ZERO).unwrap();
    let now = world.now;
    world.mesh(1).handle_datagram(now, peer(0), &sign.payload).unwrap();
    world.run_until(60 * SECOND, World::agrees_on_life);
    // Until nobody speaks of it any more.
    world.run_for(60 * SECOND);
    world.start_as(0, 1 << 25);
    world.datagrams = 0;
    world.run_until(10 * SECOND, World::agrees_on_life);
    world.run_until(10 * SECOND, World::agrees_on_facts);
}

#[test]
fn who_leaves_is_gone_at_once() {
    let mut world = running(3, 0.0, 18);
    world.mesh(2).leave();
    world.run_for(Duration::from_millis(10));
    assert!(!world.mesh(0).alive(peer(2)) && !world.mesh(1).alive(peer(2)));
    world.run_for(30 * SECOND);
    assert!(!world.mesh(0).alive(peer(2)), "and does not come back by itself");
    world.start(2);
    world.run_until(2 * SECOND, World::agrees_on_life);
}

/// Whoever hears that it counts as dead takes a new identity. Cut off at that very moment, it must still find out that it
/// hears nobody any more.
#[test]
fn a_node_that_slept_and_is_cut_off_when_it_wakes_finds_out() {
    for moment in 0..60 {
        let mut world = World::new(3, moment);
        world.run_until(60 * SECOND, World::agrees_on_life);
        world.asleep = Some(2);
        world.run_until(60 * SECOND, |world| (0..2).all(|n| !world.nodes[n].mesh.as_ref().unwrap().alive(peer(2))));
        world.asleep = None;
        world.run_for(Duration::from_millis(20 * moment));
        world.side[2] = 1;
        world.run_for(60 * SECOND);
        let alive: Vec<usize> = (0..2).filter(|n| world.mesh(2).alive(peer(*n))).collect();
        assert_eq!(alive, [0; 0], "cut off {} ms after it woke", 20 * moment);
    }
}
