//! The filters: what makes a node unfit, and how an error message names what it was to meet.

use crate::{
    expression::Expression,
    policy::Filter,
    snapshot::{Node, Request, Resident, Tie},
};

/// The label that says how many containers a node takes.
const SLOTS: &str = "containerslots";

/// Why this filter leaves the node out, if it does. Soft wishes count only where `soft` says so.
pub(crate) fn objection(filter: Filter, node: &Node<'_>, request: &Request, soft: bool) -> Option<String> {
    let wishes = &request.wishes;
    let counts = |e: &&Expression| soft || !e.is_soft();
    match filter {
        Filter::Health => (node.health == 0).then(|| "its engine does not answer".to_owned()),
        Filter::Port => request.bindings.iter().find_map(|wanted| {
            let holder = node.census.holder(wanted).or_else(|| node.pending.holder(wanted))?;
            Some(format!("port {}/{} is taken by container {}", wanted.port, wanted.protocol, known_as(holder)))
        }),
        Filter::ContainerSlots => {
            let slots = node.labels.get(SLOTS)?.parse::<usize>().ok()?;
            let used = node.load().containers;
            (used >= slots).then(|| format!("{used} of its {slots} container slots are used"))
        }
        Filter::Dependency => broken_tie(&request.dependencies, node),
        Filter::Affinity => {
            let broken = wishes.affinities.iter().filter(counts).find(|e| !is_near(e, node))?;
            Some(format!("affinity {broken}"))
        }
        Filter::Constraint => {
            let broken = wishes.constraints.iter().filter(counts).find(|e| !is_so(e, node))?;
            Some(format!("constraint {broken}"))
        }
        Filter::Whitelist => {
            let broken = wishes.whitelists.iter().filter(counts).find(|e| !e.lists(node.name))?;
            Some(format!("whitelist {broken}"))
        }
    }
}

/// The first of these ties that the node does not meet.
pub(crate) fn broken_tie(ties: &[Tie], node: &Node<'_>) -> Option<String> {
    ties.iter().find(|tie| !tie.nodes.contains(node.name)).map(|tie| tie.condition.clone())
}

/// What a node has to meet for this filter, in classic Swarm's words; nothing where the request says nothing.
pub(crate) fn conditions(filter: Filter, request: &Request) -> Vec<String> {
    let marked = |e: &Expression| format!("{} (soft={})", e.hard_text(), e.is_soft());
    match filter {
        Filter::Health => Vec::new(),
        Filter::Port if request.host_network => {
            request.bindings.iter().map(|b| format!("port {}/{} (Host mode)", b.port, b.protocol)).collect()
        }
        Filter::Port => request.bindings.iter().map(|b| format!("port {} (Bridge mode)", b.port)).collect(),
        Filter::ContainerSlots => vec!["available container slots".to_owned()],
        Filter::Dependency => request.dependencies.iter().map(|tie| tie.condition.clone()).collect(),
        Filter::Affinity => request.wishes.affinities.iter().map(marked).collect(),
        Filter::Constraint => request.wishes.constraints.iter().map(Expression::hard_text).collect(),
        Filter::Whitelist => request.wishes.whitelists.iter().map(marked).collect(),
    }
}

fn known_as(resident: &dyn Resident) -> &str {
    if resident.name().is_empty() { resident.id() } else { resident.name() }
}

fn is_near(wish: &Expression, node: &Node<'_>) -> bool {
    match wish.key() {
        "container" => wish.holds(node.census.words_for(wish).chain(node.pending.words_for(wish))),
        "image" => wish.holds(node.images.iter().map(String::as_str)),
        key => wish.holds(node.census.values(key).chain(node.pending.values(key))),
    }
}

fn is_so(wish: &Expression, node: &Node<'_>) -> bool {
    match wish.key() {
        "node" => wish.holds([node.name, node.id].into_iter()),
        key => wish.holds(std::iter::once(node.labels.get(key).map_or("", String::as_str))),
    }
}
