//! What `apply` and its companions do to the kernel's state, above all where somebody else has been at it.

use crate::lab::{
    BRIDGE, MTU, Namespace, TUNNEL, echoes, local_port, peer, two_hosts, two_hosts_with_containers, until, vtep,
};
use futures::{FutureExt, StreamExt, TryStreamExt};
use nix::mount::{MntFlags, umount2};
use osier_fabric::{FdbTarget, LocalPort, Network, plan};
use osier_kernel::{Kernel, Kind, Sandbox};
use osier_model::MacAddr;
use rtnetlink::{
    LinkBridge, LinkUnspec, LinkVeth, LinkVxlan,
    packet_route::{
        AddressFamily,
        neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};
use std::{fs, net::Ipv4Addr, pin::pin};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_apply_changes_nothing() {
    let [a, b] = two_hosts_with_containers().await;
    for (host, other) in [(&a, &b), (&b, &a)] {
        let changes = host.kernel.apply(&host.plan(other)).await.unwrap();
        assert!(changes.is_empty() && changes.missing_ports.is_empty(), "{changes:?}");
    }
    let seen = a.kernel.observe().await.unwrap();
    let bridge = seen.bridges().next().unwrap();
    assert_eq!((bridge.name.as_str(), bridge.mtu, bridge.up), (BRIDGE, MTU, true));
    let desired = a.plan(&b);
    assert_eq!(bridge.mac, desired.bridges[0].mac);
    assert_eq!(seen.vxlans().next().unwrap().name, TUNNEL);
    assert_eq!(seen.ports().count(), 1);
    assert_eq!((seen.addresses, seen.routes), (desired.addresses, desired.routes));
    assert_eq!((seen.fdb, seen.neighbours), (desired.fdb, desired.neighbours));
    assert_eq!((seen.guards.len(), seen.guards), (1, desired.guards));

    let netlink = a.fabric.netlink();
    let query = netlink.neighbours().get().set_address_family(AddressFamily::Bridge);
    let tables: Vec<_> = query.execute().try_collect().await.unwrap();
    let for_a_vlan = |m: &NeighbourMessage| m.attributes.iter().any(|a| matches!(a, NeighbourAttribute::Vlan(_)));
    assert!(!tables.is_empty() && !tables.iter().any(for_a_vlan), "entries are kept once, not also per VLAN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_leaves_no_entry() {
    let [a, b] = two_hosts_with_containers().await;
    let mut input = a.input();
    input.peers.push(peer(3));
    input.networks[0].remotes = b.remotes();
    a.kernel.apply(&plan(&input)).await.unwrap();
    let leads_to = async |number| {
        let seen = a.kernel.observe().await.unwrap();
        seen.fdb.iter().filter(|e| e.target == FdbTarget::Vtep(vtep(number))).count()
    };
    assert_eq!((leads_to(2).await, leads_to(3).await), (2, 1));
    input.peers.remove(0);
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!((leads_to(2).await, leads_to(3).await), (0, 1));
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_bridge_comes_back_with_its_ports() {
    let [a, b] = two_hosts_with_containers().await;
    a.fabric.delete(BRIDGE).await;
    let (one, two) = (&a.containers[0], &b.containers[0]);
    assert!(!echoes(&one.namespace, two.address));
    let before = a.kernel.counts();
    assert!(before.changes > 0 && before.repairs == 0, "what a new plan brings is no repair: {before:?}");
    let changes = a.kernel.apply(&a.plan(&b)).await.unwrap();
    assert!(!changes.is_empty());
    let made = changes.made.len() as u64;
    let after = a.kernel.counts();
    assert_eq!((after.changes, after.repairs, after.failures), (before.changes + made, made, 0));
    // The container itself waits a second before it repeats the question it asked meanwhile.
    until("an answer over the new bridge", async || echoes(&one.namespace, two.address)).await;
    assert!(echoes(&two.namespace, one.address));
    assert!(a.kernel.apply(&a.plan(&b)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_wrong_is_made_anew() {
    let [a, b] = two_hosts_with_containers().await;
    let (bridge, tunnel) = (a.fabric.index(BRIDGE).await, a.fabric.index(TUNNEL).await);
    let mut input = a.input();
    input.networks[0].remotes = b.remotes();
    input.vxlan_port = 6799;
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(a.fabric.index(BRIDGE).await, bridge);
    let other_tunnel = a.fabric.index(TUNNEL).await;
    assert_ne!(other_tunnel, tunnel);

    input.networks[0].mtu = 1400;
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());
    assert_eq!((a.fabric.index(BRIDGE).await, a.fabric.index(TUNNEL).await), (bridge, other_tunnel));
    let seen = a.kernel.observe().await.unwrap();
    assert!(seen.bridges().chain(seen.vxlans()).all(|d| d.mtu == 1400));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_removed_and_meddling_undone() {
    let [a, b] = two_hosts_with_containers().await;
    let netlink = a.fabric.netlink();
    let tunnel = a.fabric.index(TUNNEL).await.unwrap();
    let bridge = a.fabric.index(BRIDGE).await.unwrap();
    let port = a.fabric.index("vh-11").await.unwrap();
    let stranger = [2, 0xbb, 0, 0, 0, 1];
    let theirs = b.containers[0].port.mac.0;

    let link = netlink.link();
    link.add(LinkBridge::new("osier-7").build()).execute().await.unwrap();
    link.add(LinkVeth::new("stale", "stale2").build()).execute().await.unwrap();
    a.host.netlink().link().add(LinkVxlan::new("other", 7).port(6784).build()).execute().await.unwrap();
    let moved = LinkUnspec::new_with_index(a.host.index("other").await.unwrap()).setns_by_fd(a.fabric.fd()).build();
    a.host.netlink().link().change(moved).execute().await.unwrap();

    let neighbours = netlink.neighbours();
    let to_vtep = |mac: &[u8], number| {
        neighbours.add_bridge(tunnel, mac).flags(NeighbourFlags::Own).destination(vtep(number).into()).execute()
    };
    to_vtep(&stranger, 9).await.unwrap();
    neighbours
        .add_bridge(tunnel, &theirs)
        .flags(NeighbourFlags::Own)
        .destination(vtep(9).into())
        .replace()
        .execute()
        .await
        .unwrap();
    let in_bridge = |index, mac: &[u8], state| {
        neighbours.add_bridge(index, mac).flags(NeighbourFlags::Controller).state(state).replace().execute()
    };
    in_bridge(port, &stranger, NeighbourState::Noarp).await.unwrap();
    let unknown = Ipv4Addr::new(10, 1, 1, 77);
    neighbours.add(bridge, unknown.into()).link_layer_address(&stranger).execute().await.unwrap();
    let known = b.containers[0].address;
    neighbours.add(bridge, known.into()).link_layer_address(&stranger).replace().execute().await.unwrap();
    netlink.address().add(bridge, Ipv4Addr::new(172, 29, 9, 1).into(), 24).execute().await.unwrap();
    link.change(LinkUnspec::new_with_index(tunnel).nocontroller().down().build()).execute().await.unwrap();
    let switch = format!("/proc/sys/net/ipv4/neigh/{BRIDGE}/mcast_solicit");
    a.fabric.run(|| fs::write(&switch, "3").unwrap());

    a.kernel.apply(&a.plan(&b)).await.unwrap();
    let (seen, desired) = (a.kernel.observe().await.unwrap(), a.plan(&b));
    assert_eq!((&seen.addresses, &seen.routes), (&desired.addresses, &desired.routes));
    assert_eq!((&seen.fdb, &seen.neighbours), (&desired.fdb, &desired.neighbours));
    let mut names: Vec<_> = seen.devices.iter().filter(|d| d.kind != Kind::Other).map(|d| d.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [BRIDGE, "vh-11", TUNNEL]);
    assert_eq!(a.fabric.run(|| fs::read_to_string(&switch).unwrap()).trim(), "0");
    assert!(a.kernel.apply(&desired).await.unwrap().is_empty());
    assert!(echoes(&a.containers[0].namespace, known));

    // Permanent in the bridge's table means local: the bridge keeps the frames for itself.
    in_bridge(tunnel, &theirs, NeighbourState::Permanent).await.unwrap();
    assert!(!echoes(&a.containers[0].namespace, known));
    a.kernel.apply(&desired).await.unwrap();
    assert!(echoes(&a.containers[0].namespace, known));
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_come_and_go_side_by_side() {
    let [a, b] = two_hosts_with_containers().await;
    let mut input = a.input();
    input.networks[0].remotes = b.remotes();
    let second = Network {
        vni: 0xff_ffff,
        bridge: "osier-16777215".into(),
        subnet: "10.2.0.0/24".parse().unwrap(),
        mtu: 1400,
        ports: vec![],
        remotes: vec![],
    };
    input.networks.push(second);
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());
    assert_eq!(a.kernel.observe().await.unwrap().vxlans().count(), 2);
    assert!(echoes(&a.containers[0].namespace, b.containers[0].address));
    input.networks.pop();
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(a.kernel.observe().await.unwrap().vxlans().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_replaced_spared_and_deleted() {
    let [a, b] = two_hosts().await;
    let without = plan(&a.input());
    a.kernel.apply(&without).await.unwrap();
    let port = local_port(1, 11);
    let create = async || a.kernel.create_port(&port, "c11", BRIDGE, MTU).await.unwrap();
    create().await;
    let first = a.fabric.index(&port.name).await;
    create().await;
    assert_ne!(a.fabric.index(&port.name).await, first);
    assert!(a.host.index("c11").await.is_some());

    // A plan made before the port was must not delete it; once a plan had it, the next without it does.
    assert!(a.kernel.apply(&without).await.unwrap().made.iter().all(|change| !change.contains("delete")));
    assert!(a.fabric.index(&port.name).await.is_some());
    let mut input = a.input();
    input.networks[0].ports.push(port.clone());
    a.kernel.apply(&plan(&input)).await.unwrap();
    a.kernel.apply(&without).await.unwrap();
    assert_eq!((a.fabric.index(&port.name).await, a.host.index("c11").await), (None, None));
    let changes = a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(changes.missing_ports, std::slice::from_ref(&port.name));

    create().await;
    a.kernel.delete_port(&port.name).await.unwrap();
    a.kernel.delete_port(&port.name).await.unwrap();
    assert_eq!(a.host.index("c11").await, None);
    // A port of an agent that died before it wrote its plan.
    create().await;
    Kernel::open_in(&a.host.path(), &a.fabric.path()).await.unwrap().apply(&without).await.unwrap();
    assert_eq!(a.host.index("c11").await, None);

    let error = b.kernel.create_port(&port, "c1", BRIDGE, MTU).await.unwrap_err();
    assert!(error.to_string().contains(BRIDGE), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_too_long_or_taken_by_others_are_refused_with_the_name() {
    let [a, _b] = two_hosts().await;
    a.kernel.apply(&plan(&a.input())).await.unwrap();
    for name in ["a-name-far-too-long", TUNNEL] {
        let port = LocalPort { name: name.into(), ..local_port(1, 11) };
        let error = a.kernel.create_port(&port, "c1", BRIDGE, MTU).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    a.kernel.delete_port(TUNNEL).await.unwrap();
    assert!(a.kernel.apply(&plan(&a.input())).await.unwrap().is_empty(), "the tunnel is no port");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_gets_its_second_name() {
    let [a, _b] = two_hosts_with_containers().await;
    let container = &a.containers[0];
    let (path, mac) = (container.namespace.path(), container.port.mac);
    let sandbox = Sandbox::open(&path).unwrap().unwrap();
    let set = async |prefix: &str, mac| sandbox.name_interface(prefix, mac, "ethwe").await.unwrap();
    assert!(!set("ethwe", MacAddr([2, 0, 0, 0, 0, 9])).await, "no such link");
    assert!(!set("eth0", mac).await, "another prefix");
    assert!(set("ethwe", mac).await && set("ethwe", mac).await);
    assert_eq!(container.namespace.index("ethwe").await, container.namespace.index("ethwe0").await);
    let absent = "/run/netns/osier-there-is-no-such-namespace".as_ref();
    assert!(Sandbox::open(absent).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_ports_and_plans_at_once() {
    let [a, b] = two_hosts_with_containers().await;
    let desired = a.plan(&b);
    let ports: Vec<_> = (100..150).map(|n| local_port(1, n)).collect();
    let create = ports.iter().map(|port| {
        let (kernel, near) = (a.kernel.clone(), format!("c{}", port.mac.0[5]));
        async move { kernel.create_port(port, &near, BRIDGE, MTU).await.unwrap() }.boxed()
    });
    let apply = (0..10).map(|_| a.kernel.apply(&desired).map(|result| drop(result.unwrap())).boxed());
    futures::future::join_all(create.chain(apply)).await;
    let mut input = a.input();
    input.networks[0].remotes = b.remotes();
    input.networks[0].ports.extend(ports);
    let changes = a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(changes.missing_ports, [""; 0]);
    assert_eq!(a.kernel.observe().await.unwrap().ports().count(), 51);
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_others_are_told_and_our_second_apply_is_not() {
    let [a, b] = two_hosts_with_containers().await;
    let mut told = pin!(a.kernel.watch().await.unwrap());
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    assert_eq!(told.next().now_or_never(), None, "nothing changed");
    a.fabric.delete(TUNNEL).await;
    until("word of a deleted tunnel", async || told.next().now_or_never().is_some()).await;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    while told.next().now_or_never().is_some() {}
    let bridge = a.fabric.index(BRIDGE).await.unwrap();
    let address = Ipv4Addr::new(10, 1, 1, 88);
    let entry = a.fabric.netlink().neighbours().add(bridge, address.into());
    entry.link_layer_address(&[2, 0, 0, 0, 0, 8]).execute().await.unwrap();
    until("word of a new ARP entry", async || told.next().now_or_never().is_some()).await;
}

/// A name below /run/netns that is released when the test ends, however it ends.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        let path = format!("/run/netns/{}", self.0);
        let _ = umount2(path.as_str(), MntFlags::MNT_DETACH);
        let _ = fs::remove_file(path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fabrics_namespace_outlives_its_process_handle() {
    let [a, b] = two_hosts().await;
    let named = Named(format!("osier-test-{}", std::process::id()));
    let path = format!("/run/netns/{}", named.0);
    let desired = a.plan(&b);
    let kernel = Kernel::open_in(&a.host.path(), path.as_ref()).await.unwrap();
    kernel.apply(&desired).await.unwrap();
    let bridge = Namespace::open(&path).index(BRIDGE).await;
    drop(kernel);
    let kernel = Kernel::open_in(&a.host.path(), path.as_ref()).await.unwrap();
    assert!(kernel.apply(&desired).await.unwrap().is_empty());
    assert_eq!(Namespace::open(&path).index(BRIDGE).await, bridge);
    assert!(bridge.is_some());
    // By name alone, from a thread whose namespace is the host's.
    let by_name = Kernel::open(&named.0).await.unwrap();
    assert_eq!(by_name.observe().await.unwrap().bridges().count(), 1);
}
