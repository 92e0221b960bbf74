//! What containers and hosts can say to each other through the fabric.

use crate::lab::{self, ask, echoes, serve, two_hosts_with_containers, until};
use osier_fabric::{HOST_PORT, HostPort, plan};
use osier_kernel::Kernel;
use osier_model::{DNS_ADDRESS, MacAddr};
use socket2::Socket;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_two_hosts_reach_each_other_both_ways() {
    let [a, b] = two_hosts_with_containers().await;
    let (one, two) = (&a.containers[0], &b.containers[0]);
    assert!(echoes(&one.namespace, two.address));
    assert!(echoes(&two.namespace, one.address));
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_carries_megabytes_unharmed() {
    const SIZE: usize = 8 << 20;
    let [a, b] = two_hosts_with_containers().await;
    let (one, two) = (&a.containers[0], &b.containers[0]);
    let listener = two.namespace.run(|| TcpListener::bind((two.address, 5000)).unwrap());
    let receiver = thread::spawn(move || {
        let mut got = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
        got
    });
    let data: Vec<u8> = (0..SIZE).map(|i| (i * i / 7) as u8).collect();
    let mut stream = one.namespace.run(|| TcpStream::connect((two.address, 5000)).unwrap());
    stream.write_all(&data).unwrap();
    drop(stream);
    assert!(receiver.join().unwrap() == data, "the data arrived changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_packet_passes() {
    let [a, b] = two_hosts_with_containers().await;
    let payload = vec![7; lab::MTU as usize - 28];
    let answer = ask(&a.containers[0].namespace, b.containers[0].address, 7, &payload);
    assert_eq!(answer, Some(payload));
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcast_and_multicast_reach_every_member() {
    let [mut a, b] = two_hosts_with_containers().await;
    a.start(12).await;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    let group = Ipv4Addr::new(239, 7, 7, 7);
    let members = [&a.containers[1], &b.containers[0]];
    let listeners: Vec<UdpSocket> = members
        .iter()
        .map(|c| {
            let socket = c.namespace.udp(Ipv4Addr::UNSPECIFIED, 4000);
            socket.join_multicast_v4(&group, &c.address).unwrap();
            socket
        })
        .collect();
    let sender = a.containers[0].namespace.udp(a.containers[0].address, 0);
    sender.set_broadcast(true).unwrap();
    let sender = Socket::from(sender);
    sender.set_multicast_if_v4(&a.containers[0].address).unwrap();
    let sender = UdpSocket::from(sender);
    for target in [group, Ipv4Addr::new(10, 1, 1, 255), Ipv4Addr::BROADCAST] {
        let text = target.to_string();
        // Without a route to it, 255.255.255.255 leaves by the interface that the source address is on.
        if sender.send_to(text.as_bytes(), (target, 4000)).is_err() && target == Ipv4Addr::BROADCAST {
            continue;
        }
        for listener in &listeners {
            let mut buffer = [0; 64];
            let (length, _) = listener.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], *text.as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sends_with_its_own_mac_and_no_other() {
    let [mut a, b] = two_hosts_with_containers().await;
    a.start(12).await;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    let (victim, liar, remote) = (&a.containers[0], &a.containers[1], &b.containers[0]);
    let arrives = |to: &lab::Container| {
        let listener = to.namespace.udp(to.address, 4000);
        let sent = liar.namespace.udp(liar.address, 0).send_to(b"from me", (to.address, 4000));
        sent.is_ok() && listener.recv_from(&mut [0; 64]).is_ok()
    };
    assert!(arrives(remote) && arrives(victim));
    let own = liar.port.mac;
    for mac in [MacAddr([2, 0, 0, 0, 0, 99]), victim.port.mac, remote.port.mac] {
        liar.namespace.set_mac("ethwe0", mac).await;
        assert!(!arrives(remote) && !arrives(victim), "{mac} passed for a container's");
    }
    assert!(echoes(&remote.namespace, victim.address), "whose MAC it was has lost its traffic");
    liar.namespace.set_mac("ethwe0", own).await;
    assert!(arrives(remote) && arrives(victim));
    assert!(a.kernel.apply(&a.plan(&b)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_answers_dns_to_its_own_containers_only() {
    let [a, b] = two_hosts_with_containers().await;
    for (host, name) in [(&a, "a"), (&b, "b")] {
        let bind = || UdpSocket::bind((DNS_ADDRESS, 53)).unwrap();
        serve(host.kernel.in_namespace(bind).unwrap(), |_| name.as_bytes().to_vec());
    }
    let (sniffer_a, sniffer_b) = (a.fabric.arp_sniffer(), b.fabric.arp_sniffer());
    for _ in 0..3 {
        assert_eq!(ask(&a.containers[0].namespace, DNS_ADDRESS, 53, b"?"), Some(b"a".to_vec()));
    }
    assert!(sniffer_a.asked_for(&[DNS_ADDRESS]) > 0, "the container asked for the address");
    assert_eq!(sniffer_b.named(DNS_ADDRESS), 0, "ARP for the shared address crossed to the other node");
    assert_eq!(ask(&b.containers[0].namespace, DNS_ADDRESS, 53, b"?"), Some(b"b".to_vec()));
    assert_eq!(sniffer_a.named(DNS_ADDRESS), 0);

    // The sniffer would have seen it: a question about an address nobody knows does cross.
    let unknown = Ipv4Addr::new(10, 1, 1, 99);
    assert_eq!(ask(&a.containers[0].namespace, unknown, 53, b"?"), None);
    assert!(sniffer_b.asked_for(&[unknown]) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_answers_askers_that_the_plan_does_not_know_yet() {
    let [mut a, b] = two_hosts_with_containers().await;
    a.containers[0].port.address = None;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    serve(a.kernel.in_namespace(|| UdpSocket::bind((DNS_ADDRESS, 53)).unwrap()).unwrap(), |_| b"a".to_vec());
    let sniffer = b.fabric.arp_sniffer();
    assert_eq!(ask(&a.containers[0].namespace, DNS_ADDRESS, 53, b"?"), Some(b"a".to_vec()));
    assert_eq!(sniffer.named(DNS_ADDRESS), 0);
    // Nor does the bridge ask about somebody who never asked: its question would carry the shared address.
    let socket = a.kernel.in_namespace(|| UdpSocket::bind((DNS_ADDRESS, 0)).unwrap()).unwrap();
    let _ = socket.send_to(b"?", (Ipv4Addr::new(10, 1, 1, 98), 53));
    assert!(!echoes(&a.containers[0].namespace, Ipv4Addr::new(10, 1, 1, 99)));
    assert_eq!(sniffer.named(DNS_ADDRESS), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn known_containers_are_found_without_asking_other_nodes() {
    let [mut a, b] = two_hosts_with_containers().await;
    a.start(12).await;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    let sniffer = b.fabric.arp_sniffer();
    let asker = &a.containers[0].namespace;
    let known = [a.containers[1].address, b.containers[0].address];
    for address in known {
        assert!(echoes(asker, address));
    }
    assert_eq!(sniffer.asked_for(&known), 0, "a question about a known address crossed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_host_reaches_and_is_reached() {
    let [a, b] = two_hosts_with_containers().await;
    let address = Ipv4Addr::new(10, 1, 1, 200);
    let mac = MacAddr([2, 0xab, 0, 0, 0, 1]);
    let mut input = a.input();
    input.networks[0].remotes = b.remotes();
    input.host = Some(HostPort { name_in_host: "osier-host".into(), address, mac });
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());
    a.fabric.forwards(HOST_PORT).await;
    a.host.serve(address, 7, <[u8]>::to_vec);
    for container in [&a.containers[0], &b.containers[0]] {
        assert!(echoes(&a.host, container.address), "from the host to {}", container.address);
        assert!(echoes(&container.namespace, address), "from {} to the host", container.address);
    }
    let ipv6 = a.host.run(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/osier-host/disable_ipv6"));
    assert!(ipv6.is_err() || ipv6.is_ok_and(|v| v.trim() == "1"));

    // Another address, a lost device, a foreign peer: repaired; not joined: gone.
    let moved = Ipv4Addr::new(10, 1, 1, 201);
    input.host.as_mut().unwrap().address = moved;
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert!(echoes(&a.host, a.containers[0].address));
    a.host.delete("osier-host").await;
    a.kernel.apply(&plan(&input)).await.unwrap();
    a.fabric.forwards(HOST_PORT).await;
    assert!(echoes(&a.host, b.containers[0].address));
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());
    input.host = None;
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(a.host.index("osier-host").await, None);
}

/// Sends a datagram every millisecond until told to stop; returns how many were sent and how many came back.
fn stream_of_echoes(socket: &UdpSocket, to: Ipv4Addr, stop: &AtomicBool) -> (u64, u64) {
    let (mut sent, mut back) = (0, 0);
    let mut buffer = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        socket.send_to(&u64::to_be_bytes(sent), (to, 7)).unwrap();
        sent += 1;
        while socket.recv_from(&mut buffer).is_ok() {
            if u64::from_be_bytes(buffer) + 1 == sent {
                back += 1;
                break;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    (sent, back)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_anew_loses_no_packet() {
    let [a, b] = two_hosts_with_containers().await;
    let (host, fabric, desired) = (a.host.path(), a.fabric.path(), a.plan(&b));
    drop(a.kernel);
    let stop = Arc::new(AtomicBool::new(false));
    let (socket, to) = (a.containers[0].namespace.udp(Ipv4Addr::UNSPECIFIED, 0), b.containers[0].address);
    let stopped = stop.clone();
    let traffic = thread::spawn(move || stream_of_echoes(&socket, to, &stopped));
    for _ in 0..20 {
        let kernel = Kernel::open_in(&host, &fabric).await.unwrap();
        let changes = kernel.apply(&desired).await.unwrap();
        assert!(changes.is_empty() && changes.missing_ports.is_empty(), "{changes:?}");
    }
    stop.store(true, Ordering::Relaxed);
    let (sent, back) = traffic.join().unwrap();
    assert!(sent > 10, "only {sent} packets were sent meanwhile");
    assert_eq!(sent, back);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_moved_is_found_at_its_new_host() {
    let [mut a, mut b] = two_hosts_with_containers().await;
    b.kernel.delete_port(&b.containers[0].port.name).await.unwrap();
    b.containers.clear();
    a.start(21).await;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    b.start(22).await;
    b.kernel.apply(&b.plan(&a)).await.unwrap();
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    let asker = &b.containers[0].namespace;
    until("an answer from the new place", async || echoes(asker, Ipv4Addr::new(10, 1, 1, 21))).await;
}
