//! From facts to the plan, and the rules for facts that cannot all be true.
//!
//! * What is on this node wins over what a peer says of the same MAC or address.
//! * Of two peers that claim one MAC, and of two MACs that claim one address, the smaller wins, on every node alike.
//! * Left out: MACs that are not unicast, tunnel ends that are no host address or this node's own, containers of
//!   peers that are not listed, ARP entries outside the subnet, networks whose VNI, bridge or addresses are taken already.

use crate::{
    Address, Bridge, Desired, FdbEntry, FdbTarget, HostLink, HostPort, Input, Neighbour, Network, Peer, Port, Route,
    Vxlan,
};
use ipnet::Ipv4Net;
use osier_model::{MacAddr, PeerId};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// The bridge's end of the veth that joins the host.
pub const HOST_PORT: &str = "osier-hostbr";
/// What the names of tunnel devices, and of nothing else, begin with.
pub const TUNNEL_PREFIX: &str = "vxlan-";

/// Plans the whole configuration. The result does not depend on the order of the input's lists, save that of two
/// networks with one VNI, one bridge name or an address in common the first counts.
pub fn plan(input: &Input) -> Desired {
    let vteps = vteps(input);
    let mut taken = (BTreeSet::new(), BTreeSet::new());
    let mut networks: Vec<&Network> = input.networks.iter().collect();
    let mut subnets: Vec<Ipv4Net> = Vec::new();
    networks.retain(|n| {
        let apart = !subnets.iter().any(|s| s.contains(&n.subnet) || n.subnet.contains(s));
        let counts = apart && taken.0.insert(n.vni) && taken.1.insert(&n.bridge);
        subnets.extend(counts.then_some(n.subnet));
        counts
    });
    networks.sort_by_key(|n| n.vni);

    let mut out = Desired::default();
    for network in networks {
        let joins = |h: &&HostPort| out.host.is_none() && network.subnet.contains(&h.address);
        let host = input.host.as_ref().filter(joins);
        add_network(&mut out, input, network, host, &vteps);
    }
    out.sort();
    out
}

/// Where each peer's tunnel ends.
fn vteps(input: &Input) -> BTreeMap<PeerId, Ipv4Addr> {
    let usable = |p: &&Peer| {
        let a = p.vtep;
        let no_host = a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_loopback();
        !no_host && a != input.me.vtep && p.id != input.me.id
    };
    let mut out = BTreeMap::new();
    for peer in input.peers.iter().filter(usable) {
        let vtep = out.entry(peer.id).or_insert(peer.vtep);
        *vtep = peer.vtep.min(*vtep);
    }
    out
}

fn add_network(
    out: &mut Desired,
    input: &Input,
    network: &Network,
    host: Option<&HostPort>,
    vteps: &BTreeMap<PeerId, Ipv4Addr>,
) {
    let Network { vni, bridge, mtu, subnet, .. } = network;
    let tunnel = format!("{TUNNEL_PREFIX}{vni}");
    let entry = |link: &str, mac, target| FdbEntry { link: link.to_owned(), mac, target };

    let own_mac = bridge_mac(input.me.id, *vni);
    out.bridges.push(Bridge { name: bridge.clone(), mac: own_mac, mtu: *mtu });
    out.addresses.push(Address { link: bridge.clone(), address: input.dns_address.into() });
    let destination = subnet.trunc();
    out.routes.push(Route { link: bridge.clone(), destination, source: input.dns_address });

    // Addresses and MACs of this node; the first of each stands.
    let mut macs = BTreeSet::from([own_mac]);
    let mut addresses = BTreeMap::from([(input.dns_address, None)]);
    let mut attach = |out: &mut Desired, name: &str, mac: MacAddr, address: Option<Ipv4Addr>| {
        out.ports.push(Port { name: name.to_owned(), bridge: bridge.clone() });
        if is_unicast(mac) && macs.insert(mac) {
            out.fdb.push(entry(name, mac, FdbTarget::Port));
            if let Some(address) = address.filter(|a| subnet.contains(a)) {
                addresses.entry(address).or_insert(Some(mac));
            }
        }
    };
    if let Some(HostPort { name_in_host, address, mac }) = host {
        attach(out, HOST_PORT, *mac, Some(*address));
        out.host = Some(HostLink {
            name: name_in_host.clone(),
            port: HOST_PORT.to_owned(),
            mac: *mac,
            mtu: *mtu,
            address: *address,
            subnet: destination,
        });
    }
    let mut ports: Vec<_> = network.ports.iter().collect();
    ports.sort_by_key(|p| (&p.name, p.mac, p.address));
    for port in ports {
        attach(out, &port.name, port.mac, port.address);
        // A container is held to what it is said to be, whether that makes sense or not. The host is not held to anything:
        // it forwards for others.
        out.guards.extend(port.guard());
    }

    for vtep in vteps.values().collect::<BTreeSet<_>>() {
        out.fdb.push(entry(&tunnel, MacAddr::default(), FdbTarget::Vtep(*vtep)));
    }
    let mut remotes: Vec<_> = network.remotes.iter().collect();
    remotes.sort_by_key(|r| (r.mac, r.peer, r.address));
    for remote in remotes.iter().filter(|r| is_unicast(r.mac)) {
        let Some(vtep) = vteps.get(&remote.peer) else { continue };
        if macs.insert(remote.mac) {
            out.fdb.push(entry(&tunnel, remote.mac, FdbTarget::Vtep(*vtep)));
            out.fdb.push(entry(&tunnel, remote.mac, FdbTarget::Port));
            if subnet.contains(&remote.address) {
                addresses.entry(remote.address).or_insert(Some(remote.mac));
            }
        }
    }
    let arp = addresses.into_iter().filter_map(|(address, mac)| Some((address, mac?)));
    out.neighbours.extend(arp.map(|(address, mac)| Neighbour { link: bridge.clone(), address, mac }));
    out.vxlans.push(Vxlan {
        name: tunnel,
        bridge: bridge.clone(),
        vni: *vni,
        local: input.me.vtep,
        port: input.vxlan_port,
        mtu: *mtu,
    });
}

/// Differs between the nodes of a network, between the networks of a node, and from the node's identity, which may
/// serve as a MAC elsewhere.
fn bridge_mac(me: PeerId, vni: u32) -> MacAddr {
    let mut bytes = me.0;
    let [_, a, b, c] = vni.to_be_bytes();
    for (byte, other) in bytes.iter_mut().zip([0x40, 0, 0, a, b, c]) {
        *byte ^= other;
    }
    MacAddr::local(bytes)
}

fn is_unicast(mac: MacAddr) -> bool {
    mac.0[0] & 1 == 0 && mac != MacAddr::default()
}

impl Desired {
    fn sort(&mut self) {
        fn tidy<T: Ord>(list: &mut Vec<T>) {
            list.sort();
            list.dedup();
        }
        tidy(&mut self.bridges);
        tidy(&mut self.vxlans);
        tidy(&mut self.ports);
        self.ports.dedup_by(|b, a| a.name == b.name);
        tidy(&mut self.addresses);
        tidy(&mut self.routes);
        tidy(&mut self.fdb);
        tidy(&mut self.neighbours);
        tidy(&mut self.guards);
        self.guards.dedup_by(|b, a| a.port == b.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalPort, Remote};
    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    const DNS: Ipv4Addr = osier_model::DNS_ADDRESS;

    fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    fn id(n: u8) -> PeerId {
        PeerId([2, 0xee, 0, 0, 0, n])
    }

    fn vtep(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 77, n)
    }

    fn inside(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, 1, n)
    }

    fn remote(m: u8, a: u8, peer: u8) -> Remote {
        Remote { mac: mac(m), address: inside(a), peer: id(peer) }
    }

    fn port(m: u8, address: Option<u8>) -> LocalPort {
        LocalPort { name: format!("p{m}"), mac: mac(m), address: address.map(inside) }
    }

    fn input(ports: Vec<LocalPort>, remotes: Vec<Remote>) -> Input {
        let subnet = "10.1.1.0/24".parse::<Ipv4Net>().unwrap();
        Input {
            me: Peer { id: id(1), vtep: vtep(1) },
            peers: vec![Peer { id: id(3), vtep: vtep(3) }, Peer { id: id(2), vtep: vtep(2) }],
            networks: vec![Network { vni: 6784, bridge: "osier0".into(), subnet, mtu: 1450, ports, remotes }],
            vxlan_port: 6784,
            dns_address: DNS,
            host: Some(HostPort { name_in_host: "osier-host".into(), address: inside(200), mac: mac(200) }),
        }
    }

    fn fdb(plan: &Desired) -> Vec<(&str, u8, Option<u8>)> {
        let short = |e: &FdbEntry| match e.target {
            FdbTarget::Port => None,
            FdbTarget::Vtep(v) => Some(v.octets()[3]),
        };
        plan.fdb.iter().map(|e| (e.link.as_str(), e.mac.0[5], short(e))).collect()
    }

    fn arp(plan: &Desired) -> Vec<(u8, u8)> {
        plan.neighbours.iter().map(|n| (n.address.octets()[3], n.mac.0[5])).collect()
    }

    fn guards(plan: &Desired) -> Vec<(&str, u8, u8)> {
        plan.guards.iter().map(|g| (g.port.as_str(), g.mac.0[5], g.address.octets()[3])).collect()
    }

    #[test]
    fn a_network_becomes_bridge_tunnel_ports_and_entries() {
        let plan = plan(&input(vec![port(11, Some(11)), port(12, None)], vec![remote(21, 21, 2)]));
        assert_eq!(plan.bridges.len(), 1);
        assert_eq!((plan.vxlans[0].name.as_str(), plan.vxlans[0].local), ("vxlan-6784", vtep(1)));
        let names: Vec<_> = plan.ports.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, [HOST_PORT, "p11", "p12"]);
        let tunnel = "vxlan-6784";
        let mut expected = vec![
            (HOST_PORT, 200, None),
            ("p11", 11, None),
            ("p12", 12, None),
            (tunnel, 0, Some(2)),
            (tunnel, 0, Some(3)),
            (tunnel, 21, None),
            (tunnel, 21, Some(2)),
        ];
        let mut seen = fdb(&plan);
        expected.sort();
        seen.sort();
        assert_eq!(seen, expected);
        assert_eq!(arp(&plan), [(11, 11), (21, 21), (200, 200)]);
        assert_eq!(guards(&plan), [("p11", 11, 11)], "neither the host nor whose address is not known");
        let host = plan.host.unwrap();
        assert_eq!((host.address, host.subnet.to_string()), (inside(200), "10.1.1.0/24".to_owned()));
    }

    #[test]
    fn what_is_here_wins_over_what_peers_say() {
        let claims = vec![remote(11, 50, 2), remote(60, 11, 2), remote(61, 200, 3)];
        let mut input = input(vec![port(11, Some(11))], claims);
        input.networks[0].remotes.push(Remote { mac: mac(62), address: DNS, peer: id(2) });
        let own = bridge_mac(id(1), 6784);
        input.networks[0].remotes.push(Remote { mac: own, address: inside(63), peer: id(2) });
        let plan = plan(&input);
        assert_eq!(arp(&plan), [(11, 11), (200, 200)]);
        assert!(!fdb(&plan).contains(&("vxlan-6784", 11, Some(2))));
        assert!(plan.fdb.iter().all(|e| e.mac != own));
    }

    #[test]
    fn facts_that_make_no_sense_are_left_out() {
        let mut input = input(vec![], vec![remote(21, 21, 9)]);
        input.host = None;
        input.peers = vec![
            Peer { id: id(1), vtep: vtep(8) },
            Peer { id: id(4), vtep: vtep(1) },
            Peer { id: id(5), vtep: Ipv4Addr::UNSPECIFIED },
            Peer { id: id(6), vtep: Ipv4Addr::new(239, 1, 1, 1) },
            Peer { id: id(7), vtep: vtep(7) },
        ];
        let group = MacAddr([1, 0, 0x5e, 0, 0, 1]);
        input.networks[0].remotes.push(Remote { mac: group, address: inside(30), peer: id(7) });
        input.networks[0].remotes.push(Remote { mac: MacAddr::default(), address: inside(31), peer: id(7) });
        input.networks.push(input.networks[0].clone());
        let plan = plan(&input);
        assert_eq!(fdb(&plan), [("vxlan-6784", 0, Some(7))]);
        assert_eq!((plan.neighbours.len(), plan.bridges.len(), plan.host), (0, 1, None));
    }

    #[test]
    fn a_container_is_held_to_one_address_on_each_of_its_networks() {
        let mut input = input(vec![port(11, Some(11)), port(13, Some(13))], vec![remote(21, 21, 2)]);
        let mut second = input.networks[0].clone();
        (second.vni, second.bridge, second.subnet) = (7, "osier-7".into(), "10.2.0.0/24".parse().unwrap());
        let other = Ipv4Addr::new(10, 2, 0, 12);
        second.ports = vec![LocalPort { name: "p12".into(), mac: mac(12), address: Some(other) }, port(14, None)];
        second.remotes.clear();
        input.networks.push(second);
        let before = plan(&input);
        assert_eq!(guards(&before), [("p11", 11, 11), ("p12", 12, 12), ("p13", 13, 13)]);
        assert_eq!(before.guards[1].address, other);

        // One gets another address, one gets its first, one is gone.
        input.networks[0].ports = vec![port(11, Some(99))];
        input.networks[1].ports[1] = port(14, Some(14));
        assert_eq!(guards(&plan(&input)), [("p11", 11, 99), ("p12", 12, 12), ("p14", 14, 14)]);
    }

    #[test]
    fn contradictions_free_nobody() {
        // Two with one address, one with an address of another network, one whose MAC cannot be.
        let mut ports = vec![port(11, Some(11)), port(12, Some(11)), port(13, None), port(14, Some(14))];
        ports[2].address = Some(Ipv4Addr::new(192, 0, 2, 1));
        ports[3].mac = MacAddr([1, 0, 0, 0, 0, 14]);
        let plan = plan(&input(ports, vec![]));
        assert_eq!(guards(&plan), [("p11", 11, 11), ("p12", 12, 11), ("p13", 13, 1), ("p14", 14, 14)]);
    }

    #[test]
    fn bridges_differ_by_node_and_network() {
        let macs = [bridge_mac(id(1), 1), bridge_mac(id(2), 1), bridge_mac(id(1), 7), MacAddr(id(1).0)];
        assert!(unique(macs.iter()));
        assert!(macs.iter().all(|m| m.0[0] & 3 == 2));
    }

    fn facts() -> impl Strategy<Value = Input> {
        let port = (0u8..20, proptest::option::of(0u8..20)).prop_map(|(m, a)| port(m, a));
        let remote = (0u8..30, 0u8..30, 0u8..6).prop_map(|(m, a, p)| remote(m, a, p));
        let peer = (0u8..6, 0u8..8).prop_map(|(i, v)| Peer { id: id(i), vtep: vtep(v) });
        let lists = (
            proptest::collection::vec(port, 0..6),
            proptest::collection::vec(remote, 0..12),
            proptest::collection::vec(peer, 0..6),
        );
        lists.prop_map(|(ports, remotes, peers)| Input { peers, ..input(ports, remotes) })
    }

    fn unique<K: Ord>(keys: impl Iterator<Item = K>) -> bool {
        let all: Vec<K> = keys.collect();
        let count = all.len();
        all.into_iter().collect::<BTreeSet<_>>().len() == count
    }

    proptest! {
        #[test]
        fn order_of_facts_does_not_matter(mut facts in facts()) {
            let forward = plan(&facts);
            facts.peers.reverse();
            facts.networks[0].ports.reverse();
            facts.networks[0].remotes.reverse();
            prop_assert_eq!(forward, plan(&facts));
        }

        #[test]
        fn every_mac_has_one_place_and_every_address_one_mac(facts in facts()) {
            let plan = plan(&facts);
            let switched = |e: &&FdbEntry| e.target == FdbTarget::Port;
            prop_assert!(unique(plan.fdb.iter().filter(switched).map(|e| e.mac)));
            let tunnelled = |e: &&FdbEntry| e.target != FdbTarget::Port && e.mac != MacAddr::default();
            prop_assert!(unique(plan.fdb.iter().filter(tunnelled).map(|e| e.mac)));
            prop_assert!(unique(plan.neighbours.iter().map(|n| n.address)));
            prop_assert!(unique(plan.ports.iter().map(|p| &p.name)));
            prop_assert!(unique(plan.guards.iter().map(|g| &g.port)));
            let known = facts.networks[0].ports.iter().filter(|p| p.address.is_some());
            prop_assert!(known.clone().all(|p| plan.guards.iter().any(|g| g.port == p.name)));
            prop_assert!(plan.guards.iter().all(|g| known.clone().any(|p| p.guard().as_ref() == Some(g))));
            prop_assert!(plan.fdb.iter().all(|e| e.target != FdbTarget::Vtep(facts.me.vtep)));
        }
    }
}
