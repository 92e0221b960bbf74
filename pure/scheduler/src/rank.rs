//! The decision: filters drop nodes, the strategy ranks those that are left.

use crate::{
    policy::Strategy,
    snapshot::{Node, Request},
};
use std::sync::Arc;

/// What the scheduler found about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would do, with this weight (see [`Strategy`] for which end is better) and so many containers.
    Ranked {
        /// Reserved share of CPU and memory in percent, less or plus ten times the health.
        weight: i64,
        /// Containers it has already.
        containers: usize,
    },
    /// Its engine does not answer.
    Unhealthy,
    /// It does not meet this condition of the request.
    Tied(String),
    /// It has too little left of what the request reserves.
    Full,
}

/// What the scheduler found about all nodes, best first, then those that were dropped, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation(pub Vec<(Arc<str>, Verdict)>);

/// The chosen node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its name.
    pub node: Arc<str>,
    /// Why it, and why not the others.
    pub explanation: Explanation,
}

/// No node will do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// No engine answers.
    #[error("No healthy node available in the cluster")]
    NoHealthyNode(Explanation),
    /// Every healthy node fails a condition; they are all named.
    #[error("Unable to find a node that satisfies the following conditions \n[{}]", conditions.join(" "))]
    NoNodeFits {
        /// The conditions of the request.
        conditions: Vec<String>,
        /// What was found about each node.
        explanation: Explanation,
    },
    /// The nodes that fit are full.
    #[error("no resources available to schedule container")]
    NoResources(Explanation),
}

/// Chooses a node for the request.
pub fn schedule(strategy: Strategy, nodes: &[Node], request: &Request) -> Result<Decision, Unplaced> {
    let verdicts = nodes.iter().map(|node| (node.name.clone(), judge(strategy, node, request)));
    let mut verdicts: Vec<(Arc<str>, Verdict)> = verdicts.collect();
    verdicts.sort_by_cached_key(|(name, verdict)| (order(strategy, verdict), name.clone()));
    let any = |wanted: fn(&Verdict) -> bool| verdicts.iter().any(|(_, v)| wanted(v));
    let (full, tied) = (any(|v| *v == Verdict::Full), any(|v| matches!(v, Verdict::Tied(_))));
    let first = verdicts.first().filter(|(_, v)| matches!(v, Verdict::Ranked { .. })).map(|(name, _)| name.clone());
    let explanation = Explanation(verdicts);
    match first {
        Some(node) => Ok(Decision { node, explanation }),
        None if full => Err(Unplaced::NoResources(explanation)),
        None if tied => {
            let conditions = request.ties.iter().map(|t| t.condition.clone()).collect();
            Err(Unplaced::NoNodeFits { conditions, explanation })
        }
        None => Err(Unplaced::NoHealthyNode(explanation)),
    }
}

/// Sorts dropped nodes last and the best first; fewer (binpack: more) containers win a tie.
fn order(strategy: Strategy, verdict: &Verdict) -> (bool, i64, i64) {
    match (verdict, strategy) {
        (Verdict::Ranked { weight, containers }, Strategy::Spread | Strategy::Random) => {
            (false, *weight, *containers as i64)
        }
        (Verdict::Ranked { weight, containers }, Strategy::Binpack) => (false, -weight, -(*containers as i64)),
        _ => (true, 0, 0),
    }
}

fn judge(strategy: Strategy, node: &Node, request: &Request) -> Verdict {
    if node.health == 0 {
        return Verdict::Unhealthy;
    }
    if let Some(tie) = request.ties.iter().find(|tie| !tie.nodes.contains(&node.name)) {
        return Verdict::Tied(tie.condition.clone());
    }
    let cpu = share(request.cpus.0, node.load.cpus.0, node.cpus.0);
    let memory = share(request.memory.0, node.load.memory.0, node.memory.0);
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => {
            let health = 10 * i64::from(node.health);
            let weight = cpu + memory + if strategy == Strategy::Binpack { health } else { -health };
            Verdict::Ranked { weight, containers: node.load.containers }
        }
        _ => Verdict::Full,
    }
}

/// How much of `total` would be reserved, in whole percent; 100 for a request that reserves nothing, `None` where it
/// does not fit. Only what is asked for is looked at: a node whose memory is overbooked may still give CPU.
fn share(wanted: u64, used: u64, total: u64) -> Option<i64> {
    if wanted == 0 {
        return Some(100);
    }
    let sum = u128::from(used) + u128::from(wanted);
    if sum > u128::from(total) {
        return None;
    }
    i64::try_from(sum * 100 / u128::from(total)).ok()
}

#[cfg(test)]
mod tests {
    use super::{Strategy, *};
    use crate::snapshot::{Load, Tie};
    use osier_model::{Bytes, Cpus};
    use proptest::{prelude::*, strategy::Strategy as _};

    fn node(name: &str, health: u8, containers: usize, memory: u64) -> Node {
        let load = Load { cpus: Cpus(0), memory: Bytes(memory), containers };
        Node { name: name.into(), health, cpus: Cpus::whole(4), memory: Bytes(1000), load }
    }

    fn pick(strategy: Strategy, nodes: &[Node], memory: u64) -> String {
        let request = Request { memory: Bytes(memory), ..Request::default() };
        schedule(strategy, nodes, &request).map_or_else(|e| e.to_string(), |d| d.node.to_string())
    }

    #[test]
    fn spread_takes_the_emptiest_and_binpack_the_fullest() {
        let nodes = [node("a", 100, 2, 0), node("b", 100, 1, 0), node("c", 100, 1, 0)];
        assert_eq!((pick(Strategy::Spread, &nodes, 0), pick(Strategy::Binpack, &nodes, 0)), ("b".into(), "a".into()));
        let nodes = [node("a", 100, 0, 500), node("b", 100, 9, 400)];
        assert_eq!(
            (pick(Strategy::Spread, &nodes, 100), pick(Strategy::Binpack, &nodes, 100)),
            ("b".into(), "a".into())
        );
    }

    #[test]
    fn a_recent_failure_outweighs_any_load() {
        let nodes = [node("a", 67, 0, 0), node("b", 100, 50, 900)];
        assert_eq!(pick(Strategy::Spread, &nodes, 100), "b");
    }

    #[test]
    fn what_does_not_fit_is_explained() {
        let nodes = [node("a", 0, 0, 0), node("b", 100, 0, 950)];
        assert_eq!(pick(Strategy::Spread, &nodes, 100), "no resources available to schedule container");
        assert_eq!(pick(Strategy::Spread, &nodes[..1], 0), "No healthy node available in the cluster");
        assert_eq!(pick(Strategy::Spread, &[], 0), "No healthy node available in the cluster");
        let tie = Tie { condition: "node==x".into(), nodes: ["a".into()].into() };
        let request = Request { ties: vec![tie], ..Request::default() };
        let error = schedule(Strategy::Spread, &nodes, &request).unwrap_err();
        assert_eq!(error.to_string(), "Unable to find a node that satisfies the following conditions \n[node==x]");
        let Unplaced::NoNodeFits { explanation, .. } = error else { panic!("{error}") };
        assert_eq!(explanation.0, [("a".into(), Verdict::Unhealthy), ("b".into(), Verdict::Tied("node==x".into()))]);
    }

    fn nodes() -> impl proptest::strategy::Strategy<Value = Vec<Node>> {
        let one = (0..=100_u8, 0..5_usize, 0..1200_u64, 0..6_u64);
        prop::collection::vec(one, 0..6).prop_map(|nodes| {
            let named = nodes.into_iter().enumerate();
            let made = named.map(|(i, (health, containers, memory, cpus))| {
                let mut node = node(&format!("n{i}"), health, containers, memory);
                node.load.cpus = Cpus::whole(cpus);
                node
            });
            made.collect::<Vec<_>>()
        })
    }

    proptest! {
        #[test]
        fn a_chosen_node_is_healthy_has_room_and_order_does_not_matter(
            nodes in nodes(), memory in 0..1200_u64, cpus in 0..6_u64, seed in any::<u64>(),
        ) {
            let request = Request { memory: Bytes(memory), cpus: Cpus::whole(cpus), ties: Vec::new() };
            let result = schedule(Strategy::Spread, &nodes, &request);
            if let Ok(decision) = &result {
                let node = nodes.iter().find(|n| n.name == decision.node).unwrap();
                prop_assert!(node.health > 0);
                prop_assert!(memory == 0 || node.load.memory.0 + memory <= node.memory.0);
                prop_assert!(cpus == 0 || node.load.cpus.0 + request.cpus.0 <= node.cpus.0);
            }
            let mut shuffled = nodes.clone();
            shuffled.rotate_left((seed % 7) as usize % nodes.len().max(1));
            prop_assert_eq!(schedule(Strategy::Spread, &shuffled, &request), result);
        }

        #[test]
        fn creates_in_a_row_spread_evenly(count in 1..40_usize) {
            let mut nodes = [node("a", 100, 0, 0), node("b", 100, 0, 0), node("c", 100, 0, 0)];
            for _ in 0..count {
                let chosen = schedule(Strategy::Spread, &nodes, &Request::default()).unwrap().node;
                let node = nodes.iter_mut().find(|n| n.name == chosen).unwrap();
                node.load = node.load + Load::one(Cpus(0), Bytes(0));
            }
            let loads = nodes.map(|n| n.load.containers);
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        }
    }
}
