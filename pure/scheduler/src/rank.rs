//! The strategies: how much of a node would be reserved, and which of two nodes is the better one.

use crate::{
    policy::Strategy,
    snapshot::{Node, Request},
};

/// Classic Swarm's weight of a node: the reserved shares of CPU and memory in percent, less (binpack: plus) ten times its
/// health. An error says of what it has too little left.
pub(crate) fn weight(strategy: Strategy, node: &Node<'_>, request: &Request) -> Result<i64, String> {
    let load = node.load();
    let lacking = |what: &str, free: String| format!("it has too little {what} left ({free})");
    let cpu = share(request.cpus.0, load.cpus.0, node.cpus.0)
        .ok_or_else(|| lacking("CPU", format!("{} of {} are reserved", load.cpus, node.cpus)))?;
    let memory = share(request.memory.0, load.memory.0, node.memory.0)
        .ok_or_else(|| lacking("memory", format!("{} of {} are reserved", load.memory, node.memory)))?;
    let health = 10 * i64::from(node.health);
    Ok(cpu + memory + if strategy == Strategy::Binpack { health } else { -health })
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

/// The place of a node in the order of preference, lowest first; fewer (binpack: more) containers win a tie, and where
/// luck decides, nothing else does.
pub(crate) fn place(strategy: Strategy, name: &str, weight: i64, containers: usize, luck: u64) -> (i64, i64) {
    let containers = i64::try_from(containers).unwrap_or(i64::MAX);
    match strategy {
        Strategy::Spread => (weight, containers),
        Strategy::Binpack => (-weight, -containers),
        Strategy::Random => (scatter(name, luck), 0),
    }
}

/// A number for a name that nobody can tell without knowing the luck (FNV-1a, then the mixing steps of splitmix64).
fn scatter(name: &str, luck: u64) -> i64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut x = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, step) ^ luck;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).cast_signed()
}
