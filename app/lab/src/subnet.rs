//! Chooses the network of a lab: a /24 that collides with nothing the host routes and nothing a cluster will use.
//!
//! Must not know how routes are read beyond the form in which `ip -json route` prints them.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Networks a lab must stay out of although the host has no route to them: the cluster's own pool (the seed's), Weave
/// Net's default pool, and the two networks an engine inside a node makes first.
const RESERVED: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 1, 1, 0), 24),
    (Ipv4Addr::new(10, 32, 0, 0), 12),
    (Ipv4Addr::new(172, 17, 0, 0), 16),
    (Ipv4Addr::new(172, 18, 0, 0), 16),
];
/// Private ranges to take a /24 from, in order of preference (RFC 1918).
const RANGES: [(Ipv4Addr, u8); 3] =
    [(Ipv4Addr::new(10, 213, 0, 0), 16), (Ipv4Addr::new(192, 168, 0, 0), 16), (Ipv4Addr::new(172, 16, 0, 0), 12)];

/// The first /24 that overlaps none of `taken`, or `None` if the private ranges are used up.
pub(crate) fn choose(taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let reserved: Vec<Ipv4Net> = nets(&RESERVED);
    let free = |net: &Ipv4Net| !taken.iter().chain(&reserved).any(|other| overlap(net, other));
    nets(&RANGES).into_iter().filter_map(|range| range.subnets(24).ok()).flatten().find(free)
}

/// The destinations in what `ip -json route show table all` prints, without the default route.
pub(crate) fn destinations(routes: &serde_json::Value) -> Vec<Ipv4Net> {
    let rows = routes.as_array().into_iter().flatten();
    rows.filter_map(|row| row.get("dst")?.as_str()).filter_map(parse_net).filter(|net| net.prefix_len() > 0).collect()
}

/// Reads `a.b.c.d/len` or a lone address; anything else is no network.
pub(crate) fn parse_net(text: &str) -> Option<Ipv4Net> {
    text.parse().ok().or_else(|| Ipv4Net::new(text.parse().ok()?, 32).ok())
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn nets(table: &[(Ipv4Addr, u8)]) -> Vec<Ipv4Net> {
    table.iter().filter_map(|(address, length)| Ipv4Net::new(*address, *length).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labs_line_up_one_after_another() {
        let first = choose(&[]).unwrap();
        assert_eq!(first.to_string(), "10.213.0.0/24");
        assert_eq!(choose(&[first]).unwrap().to_string(), "10.213.1.0/24");
    }

    #[test]
    fn a_host_that_routes_all_of_ten_gets_another_range() {
        let taken = ["10.0.0.0/8", "192.168.0.0/17"].map(|n| n.parse().unwrap());
        assert_eq!(choose(&taken).unwrap().to_string(), "192.168.128.0/24");
        let taken = ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/16"].map(|n| n.parse().unwrap());
        assert_eq!(choose(&taken).unwrap().to_string(), "172.19.0.0/24", "172.17 and 172.18 are the engines'");
        assert_eq!(choose(&["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"].map(|n| n.parse().unwrap())), None);
    }

    #[test]
    fn routes_are_read_from_the_tools_json() {
        let routes = serde_json::json!([
            {"dst": "default", "gateway": "192.0.2.1"}, {"dst": "192.0.2.0/24", "dev": "eth0"},
            {"dst": "192.0.2.2", "table": "local"}, {"dst": "0.0.0.0/0"}, {"dev": "x"}, {"dst": 7}
        ]);
        let read: Vec<String> = destinations(&routes).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.0/24", "192.0.2.2/32"]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_free(taken in prop::collection::vec((any::<u32>(), 8u8..=32), 0..40)) {
            let taken: Vec<Ipv4Net> =
                taken.into_iter().map(|(a, l)| Ipv4Net::new(a.into(), l).unwrap().trunc()).collect();
            if let Some(net) = choose(&taken) {
                prop_assert_eq!(net.prefix_len(), 24);
                prop_assert!(taken.iter().all(|t| !t.contains(&net) && !net.contains(t)));
            }
        }
    }
}
