//! What a node's engine has to be told so that it has the networks of the cluster.

use crate::Network;
use osier_model::NetworkId;
use std::collections::BTreeSet;

/// A network of the cluster's driver that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The engine's own id of it.
    pub engine_id: String,
    /// Its name.
    pub name: String,
    /// Which of the cluster's it is.
    pub id: NetworkId,
    /// Whether containers are on it just now, so that the engine would not remove it.
    pub in_use: bool,
}

/// One thing to do at the engine, or to tell the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make this network.
    Create(Network),
    /// Remove the network that the engine calls so.
    Remove(String),
    /// Nothing can be done about this.
    Problem(String),
}

/// What is to be done so that the engine has the networks of the cluster and no others. `present` is what it has of the
/// cluster's driver, the cluster's own network left out; `gone` are the networks known to be removed; `foreign` are the
/// names of all its other networks. A network that is neither known nor gone stays: this node may not have heard of it yet.
///
/// Of networks that collide those that are in use on this node stay, and of the others the one with the smallest id.
pub fn wanted(
    networks: &[Network],
    present: &[Present],
    gone: &BTreeSet<NetworkId>,
    foreign: &BTreeSet<String>,
) -> Vec<Step> {
    let mut ranked: Vec<&Network> = networks.iter().collect();
    let in_use = |n: &Network| present.iter().any(|p| p.id == n.id && p.in_use);
    ranked.sort_by_key(|n| (!in_use(n), n.id));
    let (mut kept, mut steps): (Vec<&Network>, _) = (Vec::new(), Vec::new());
    for network in ranked {
        match kept.iter().find(|other| other.collides(network)) {
            Some(other) if in_use(network) => steps.push(Step::Problem(format!(
                "networks {} ({}) and {} ({}) collide and both have containers here: remove one of them",
                other.name, other.id, network.name, network.id
            ))),
            Some(other) => steps.push(Step::Problem(format!(
                "network {} ({}) is not made here, since {} ({}) has its name, subnet or segment: remove one of them",
                network.name, network.id, other.name, other.id
            ))),
            None if foreign.contains(&network.name) => steps.push(Step::Problem(format!(
                "network {} is not made here, since the engine has another of that name: remove one of them",
                network.name
            ))),
            None => kept.push(network),
        }
    }
    // Engines may have made one twice: then any of them will do, but one in use best.
    let best =
        |p: &Present| !present.iter().any(|q| q.id == p.id && (!q.in_use, &q.engine_id) < (!p.in_use, &p.engine_id));
    let known = |p: &Present| gone.contains(&p.id) || networks.iter().any(|n| n.id == p.id);
    let stays = |p: &&Present| p.in_use || !known(p) || (best(p) && kept.iter().any(|n| n.id == p.id));
    for orphan in present.iter().filter(|p| !networks.iter().any(|n| n.id == p.id)) {
        if orphan.in_use && gone.contains(&orphan.id) {
            steps.push(Step::Problem(format!(
                "network {} ({}) was removed from the cluster while containers of this node are on it: they are cut off when they \
                 stop, and have to be made anew",
                orphan.name, orphan.id
            )));
        } else if !gone.contains(&orphan.id) {
            steps.push(Step::Problem(format!(
                "the engine's network {} ({}) is not known to the cluster: remove it if it stays so",
                orphan.name, orphan.id
            )));
        }
    }
    let leave: Vec<Step> = present.iter().filter(|p| !stays(p)).map(|p| Step::Remove(p.engine_id.clone())).collect();
    let missing = kept.into_iter().filter(|n| !present.iter().any(|p| p.id == n.id));
    // What has to make room goes first.
    leave.into_iter().chain(missing.cloned().map(Step::Create)).chain(steps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, Taken};
    use proptest::prelude::*;

    /// Numbers differ in subnet and segment.
    fn network(number: u64, name: &str) -> Network {
        let draft = Draft { name: name.into(), ..Draft::default() };
        draft.settle((number << 24) | number, &BTreeSet::new(), &Taken::default()).unwrap()
    }

    fn present(network: &Network, in_use: bool) -> Present {
        Present { engine_id: format!("e{}", network.id), name: network.name.clone(), id: network.id, in_use }
    }

    #[test]
    fn an_engine_gets_what_it_lacks_and_loses_what_is_gone() {
        let (a, b, gone) = (network(1, "a"), network(2, "b"), network(3, "gone"));
        let none = BTreeSet::new();
        let over = [gone.id].into();
        let steps = wanted(&[a.clone(), b.clone()], &[present(&a, true), present(&gone, false)], &over, &none);
        assert_eq!(steps, [Step::Remove(format!("e{}", gone.id)), Step::Create(b.clone())]);
        let steps = wanted(std::slice::from_ref(&a), &[present(&a, false), present(&gone, true)], &over, &none);
        assert!(matches!(&steps[..], [Step::Problem(text)] if text.contains("was removed")), "{steps:?}");
        let steps =
            wanted(std::slice::from_ref(&a), &[present(&a, false), present(&gone, false)], &BTreeSet::new(), &none);
        assert!(matches!(&steps[..], [Step::Problem(text)] if text.contains("not known")), "{steps:?}");
        let steps = wanted(std::slice::from_ref(&b), &[], &over, &["b".to_owned()].into());
        assert!(matches!(&steps[..], [Step::Problem(text)] if text.contains("another of that name")), "{steps:?}");
    }

    #[test]
    fn of_two_that_collide_one_is_made_and_both_are_told() {
        let (first, second) = (network(1, "same"), network(2, "same"));
        let both = [second.clone(), first.clone()];
        let none = BTreeSet::new();
        let over = BTreeSet::new();
        let steps = wanted(&both, &[], &over, &none);
        assert!(matches!(&steps[..], [Step::Create(n), Step::Problem(_)] if *n == first), "{steps:?}");
        let steps = wanted(&both, &[present(&second, false)], &over, &none);
        assert!(matches!(&steps[..], [Step::Remove(_), Step::Create(n), Step::Problem(_)] if *n == first), "{steps:?}");
        let steps = wanted(&both, &[present(&second, true)], &over, &none);
        assert!(matches!(&steps[..], [Step::Problem(text)] if text.contains(&first.id.to_string())), "{steps:?}");
    }

    #[test]
    fn of_one_made_twice_the_spare_is_removed() {
        let a = network(1, "a");
        let twice = |first: bool, second: bool| {
            let spare = Present { engine_id: "spare".into(), ..present(&a, second) };
            wanted(std::slice::from_ref(&a), &[present(&a, first), spare], &BTreeSet::new(), &BTreeSet::new())
        };
        let first = format!("e{}", a.id);
        assert_eq!(
            (twice(false, false), twice(true, false)),
            (vec![Step::Remove("spare".into())], vec![Step::Remove("spare".into())])
        );
        assert_eq!((twice(false, true), twice(true, true)), (vec![Step::Remove(first)], vec![]));
    }

    proptest! {
        #[test]
        fn engines_settle_and_what_is_in_use_is_never_removed(
            names in prop::collection::vec((1..30_u64, "[a-c]"), 0..8), uses in any::<u8>(), there in any::<u8>(),
        ) {
            let mut networks: Vec<Network> = names.iter().map(|(id, name)| network(*id, name)).collect();
            networks.sort_by_key(|n| n.id);
            networks.dedup_by_key(|n| n.id);
            let is = |bits: u8, place: usize| (bits >> place) & 1 == 1;
            let here = networks.iter().enumerate().filter(|(place, _)| is(there, *place));
            let mut engine: Vec<Present> = here.map(|(place, n)| present(n, is(uses, place))).collect();
            let before = engine.clone();
            let apply = |engine: &mut Vec<Present>| {
                let steps = wanted(&networks, engine, &BTreeSet::new(), &BTreeSet::new());
                for step in &steps {
                    match step {
                        Step::Create(n) => {
                            let clash = engine.iter().any(|p| p.name == n.name && !p.in_use);
                            assert!(!clash, "made while another of the name is there");
                            engine.push(present(n, false));
                        }
                        Step::Remove(id) => engine.retain(|p| p.engine_id != *id),
                        Step::Problem(_) => {}
                    }
                }
                steps
            };
            apply(&mut engine);
            prop_assert!(before.iter().filter(|p| p.in_use).all(|p| engine.contains(p)));
            let again = apply(&mut engine);
            prop_assert!(again.iter().all(|s| matches!(s, Step::Problem(_))), "{:?}", again);
        }
    }
}
