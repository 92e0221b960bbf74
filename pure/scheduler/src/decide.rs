//! The decision: filters drop nodes, the strategy ranks those that are left, and where none is left it is tried again
//! without the soft wishes.

use crate::{
    filter::{broken_tie, conditions, objection},
    policy::{Filter, Policy},
    rank::{place, weight},
    snapshot::{Node, Request, Tie},
};
use std::fmt;

/// Nodes that an error message explains one by one.
const EXPLAINED: usize = 5;

/// What the scheduler found about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would do.
    Ranked {
        /// Its weight by the strategy (see [`crate::Strategy`] for which end is better).
        weight: i64,
        /// Containers it has already.
        containers: usize,
    },
    /// It will not do.
    Excluded {
        /// What stands against it.
        by: Reason,
        /// The same in words.
        why: String,
    },
}

/// What stands against a node, in the order in which it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A filter.
    Filter(Filter),
    /// It takes no new containers.
    Closed,
    /// Something that the container uses is elsewhere.
    Tie,
    /// It has too little left of what the request reserves.
    Resources,
}

/// What the scheduler found about all nodes, best first, then those that were dropped, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the soft wishes had to be given up.
    pub softened: bool,
    /// Each node.
    pub nodes: Vec<(String, Verdict)>,
}

impl fmt::Display for Explanation {
    /// The first few nodes that were dropped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self.nodes.iter().filter_map(|(name, verdict)| match verdict {
            Verdict::Excluded { why, .. } => Some((name, why)),
            Verdict::Ranked { .. } => None,
        });
        for (i, (name, why)) in dropped.clone().take(EXPLAINED).enumerate() {
            write!(f, "{}{name}: {why}", if i == 0 { "" } else { "; " })?;
        }
        match dropped.count().saturating_sub(EXPLAINED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The chosen node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its name.
    pub node: String,
    /// Why it, and why not the others.
    pub explanation: Explanation,
}

/// No node will do. The first lines are classic Swarm's words, the last one says what is wrong with which node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// No engine answers.
    #[error("No healthy node available in the cluster")]
    NoHealthyNode(Explanation),
    /// Every healthy node fails a condition.
    #[error(
        "Unable to find a node that satisfies the following conditions {}\n({explanation})",
        conditions.iter().map(|c| format!("\n[{}]", c.join(" "))).collect::<String>()
    )]
    NoNodeFits {
        /// What the request asks for, by filter, up to the one that left no node.
        conditions: Vec<Vec<String>>,
        /// What was found about each node.
        explanation: Explanation,
    },
    /// The nodes that fit are full.
    #[error("no resources available to schedule container\n({0})")]
    NoResources(Explanation),
}

impl Unplaced {
    /// What was found about each node.
    pub fn explanation(&self) -> &Explanation {
        match self {
            Self::NoHealthyNode(e) | Self::NoResources(e) | Self::NoNodeFits { explanation: e, .. } => e,
        }
    }
}

/// Chooses a node for the request. `luck` is a random number, for the strategy that wants one.
pub fn schedule(policy: &Policy, nodes: &[Node<'_>], request: &Request, luck: u64) -> Result<Decision, Unplaced> {
    let wishes = &request.wishes;
    let mut all = wishes.affinities.iter().chain(&wishes.constraints).chain(&wishes.whitelists);
    let first = attempt(policy, nodes, request, luck, true);
    match first {
        Err(_) if all.any(|wish| wish.is_soft()) => attempt(policy, nodes, request, luck, false),
        result => result,
    }
}

fn attempt(
    policy: &Policy,
    nodes: &[Node<'_>],
    request: &Request,
    luck: u64,
    soft: bool,
) -> Result<Decision, Unplaced> {
    let mut judged: Vec<(&str, (i64, i64), Verdict)> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let verdict = judge(policy, node, request, soft);
        let order = match verdict {
            Verdict::Ranked { weight, containers } => place(policy.strategy, node.name, weight, containers, luck),
            Verdict::Excluded { .. } => (0, 0),
        };
        judged.push((node.name, order, verdict));
    }
    let dropped = |verdict: &Verdict| matches!(verdict, Verdict::Excluded { .. });
    judged.sort_unstable_by(|(a_name, a, x), (b_name, b, y)| (dropped(x), a, a_name).cmp(&(dropped(y), b, b_name)));
    let nodes = judged.into_iter().map(|(name, _, verdict)| (name.to_owned(), verdict)).collect();
    let explanation = Explanation { softened: !soft, nodes };
    match explanation.nodes.first() {
        Some((node, Verdict::Ranked { .. })) => Ok(Decision { node: node.clone(), explanation }),
        _ => Err(unplaced(policy, request, explanation)),
    }
}

fn judge(policy: &Policy, node: &Node<'_>, request: &Request, soft: bool) -> Verdict {
    let filtered = policy.filters.iter().find_map(|f| Some((Reason::Filter(*f), objection(*f, node, request, soft)?)));
    let objection = filtered
        .or_else(|| node.closed.map(|why| (Reason::Closed, why.to_owned())))
        .or_else(|| broken_tie(&request.ties, node).map(|why| (Reason::Tie, why)));
    if let Some((by, why)) = objection {
        return Verdict::Excluded { by, why };
    }
    match weight(policy.strategy, node, request) {
        Ok(weight) => Verdict::Ranked { weight, containers: node.load().containers },
        Err(why) => Verdict::Excluded { by: Reason::Resources, why },
    }
}

/// The error is about what dropped the last nodes: whatever came latest in the order of the filters.
fn unplaced(policy: &Policy, request: &Request, explanation: Explanation) -> Unplaced {
    let stage = |by: &Reason| match by {
        Reason::Filter(filter) => policy.filters.iter().position(|f| f == filter).unwrap_or(0),
        Reason::Closed => policy.filters.len(),
        Reason::Tie => policy.filters.len() + 1,
        Reason::Resources => policy.filters.len() + 2,
    };
    let reasons = explanation.nodes.iter().filter_map(|(_, verdict)| match verdict {
        Verdict::Excluded { by, .. } => Some(*by),
        Verdict::Ranked { .. } => None,
    });
    let last = reasons.max_by_key(stage);
    match last {
        None | Some(Reason::Filter(Filter::Health)) => Unplaced::NoHealthyNode(explanation),
        Some(Reason::Resources) => Unplaced::NoResources(explanation),
        Some(last) => {
            let passed = policy.filters.iter().take(stage(&last) + 1);
            let mut conditions: Vec<Vec<String>> = passed.map(|f| conditions(*f, request)).collect();
            if explanation.nodes.iter().any(|(_, v)| matches!(v, Verdict::Excluded { by: Reason::Closed, .. })) {
                conditions.push(vec!["node that takes new containers".to_owned()]);
            }
            if last == Reason::Tie {
                let met = |tie: &Tie| explanation.nodes.iter().all(|(name, _)| tie.nodes.contains(name.as_str()));
                conditions.push(request.ties.iter().filter(|t| !met(t)).map(|tie| tie.condition.clone()).collect());
            }
            conditions.retain(|c| !c.is_empty());
            Unplaced::NoNodeFits { conditions, explanation }
        }
    }
}

#[cfg(test)]
mod tests;
