//! What containers cannot pass for: frames made byte by byte, as a container with CAP_NET_RAW makes them.

use crate::lab::{BRIDGE, MTU};
use crate::lab::{Container, Host, Namespace, local_port, two_hosts, two_hosts_with_containers, until};
use futures::{FutureExt, StreamExt};
use osier_fabric::{Desired, LocalPort, plan};
use osier_model::{DNS_ADDRESS, MacAddr};
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, UdpSocket},
    pin::pin,
    process::{Command, Stdio},
};

const PORT: u16 = 4000;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// An address that nobody has.
const ALIEN: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 99);

fn ethernet(to: MacAddr, from: MacAddr, tags: &[[u8; 2]], protocol: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    for tag in tags {
        frame.extend(tag);
        // Priority 0, VLAN 0: a receiver takes the frame for one without a tag.
        frame.extend([0, 0]);
    }
    frame.extend(protocol);
    frame.extend(payload);
    frame
}

/// A datagram to `PORT` in a packet of its own, UDP's checksum left out.
fn packet(from: Ipv4Addr, to: Ipv4Addr, port: u16, text: &str) -> Vec<u8> {
    let length = |more| u16::try_from(text.len() + more).unwrap().to_be_bytes();
    let mut header = vec![0x45, 0];
    header.extend(length(28));
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    header.extend([0x0f, 0xa0]);
    header.extend(port.to_be_bytes());
    header.extend(length(8));
    header.extend([0, 0]);
    header.extend(text.as_bytes());
    header
}

fn question(sender: MacAddr, address: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut out = vec![0, 1, 8, 0, 6, 4, 0, 1];
    out.extend(sender.0);
    out.extend(address.octets());
    out.extend([0; 6]);
    out.extend(target.octets());
    out
}

async fn send(from: &Container, frame: &[u8]) {
    from.namespace.send_frame("ethwe0", frame).await;
}

/// What has arrived when an honest datagram does that was sent last.
async fn heard(listener: &UdpSocket, from: &Container, to: &Container) -> Vec<String> {
    let honest = packet(from.address, to.address, PORT, "honest");
    send(from, &ethernet(to.port.mac, from.port.mac, &[], IPV4, &honest)).await;
    let mut seen = Vec::new();
    loop {
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).unwrap();
        match String::from_utf8_lossy(&buffer[..length]).into_owned() {
            last if last == "honest" => return seen,
            other => seen.push(other),
        }
    }
}

/// Two hosts; on the first a victim and a liar.
async fn a_liar() -> [Host; 2] {
    let [mut a, b] = two_hosts_with_containers().await;
    a.start(12).await;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    [a, b]
}

/// What the first host wants while it does not know the liar's address.
fn unguarded(a: &Host, b: &Host) -> Desired {
    let mut input = a.input();
    input.networks[0].remotes = b.remotes();
    input.networks[0].ports[1].address = None;
    plan(&input)
}

/// Whether frames of the liar reach the victim in the name of an address that nobody has.
async fn lies_pass(a: &Host) -> bool {
    let (victim, liar) = (&a.containers[0], &a.containers[1]);
    let listener = victim.namespace.udp(victim.address, PORT);
    let lie = packet(ALIEN, victim.address, PORT, "lie");
    send(liar, &ethernet(victim.port.mac, liar.port.mac, &[], IPV4, &lie)).await;
    heard(&listener, liar, victim).await == ["lie"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sends_from_its_own_address_and_no_other() {
    let [a, b] = a_liar().await;
    let (victim, liar, remote) = (&a.containers[0], &a.containers[1], &b.containers[0]);
    let others = [ALIEN, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1), victim.address, remote.address];
    let tags: [&[[u8; 2]]; 4] = [&[], &[[0x81, 0]], &[[0x88, 0xa8]], &[[0x88, 0xa8], [0x81, 0]]];
    for to in [victim, remote] {
        let listener = to.namespace.udp(to.address, PORT);
        for (from, tags) in others.iter().flat_map(|from| tags.map(|tags| (*from, tags))) {
            let lie = packet(from, to.address, PORT, &format!("{from} {tags:?}"));
            send(liar, &ethernet(to.port.mac, liar.port.mac, tags, IPV4, &lie)).await;
        }
        assert_eq!(heard(&listener, liar, to).await, [""; 0]);
        // To a group as well.
        let group = Ipv4Addr::new(239, 7, 7, 7);
        let members = to.namespace.udp(Ipv4Addr::UNSPECIFIED, PORT + 1);
        members.join_multicast_v4(&group, &to.address).unwrap();
        let group_mac = MacAddr([1, 0, 0x5e, 7, 7, 7]);
        for (from, text) in [(ALIEN, "lie"), (liar.address, "own")] {
            let frame = ethernet(group_mac, liar.port.mac, &[], IPV4, &packet(from, group, PORT + 1, text));
            send(liar, &frame).await;
        }
        let mut buffer = [0; 64];
        let length = members.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], *b"own");
    }

    a.kernel.apply(&unguarded(&a, &b)).await.unwrap();
    assert!(lies_pass(&a).await, "while the address is not known, only the MAC is checked");
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    assert!(!lies_pass(&a).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_asks_and_answers_in_its_own_name_only() {
    let [a, b] = a_liar().await;
    let (victim, liar, remote) = (&a.containers[0], &a.containers[1], &b.containers[0]);
    let (own, another) = (liar.port.mac, MacAddr([2, 0, 0, 0, 0, 99]));
    let address = |last| Ipv4Addr::new(10, 1, 1, last);
    let frame = |sender, said, target: u8| ethernet(BROADCAST, own, &[], ARP, &question(sender, said, address(target)));
    let lies = [
        frame(own, ALIEN, 101),
        frame(own, victim.address, 102),
        frame(own, remote.address, 103),
        frame(another, liar.address, 104),
        frame(victim.port.mac, victim.address, 105),
        frame(another, Ipv4Addr::UNSPECIFIED, 106),
        // Addresses of another length, behind which another sender could be meant.
        ethernet(BROADCAST, own, &[], ARP, &{
            let mut odd = question(own, liar.address, address(107));
            odd[5] = 16;
            odd
        }),
        ethernet(BROADCAST, own, &[[0x81, 0]], ARP, &question(own, ALIEN, address(108))),
    ];
    let targets: Vec<Ipv4Addr> = (101..109).map(address).collect();
    let (probed, asked) = (address(110), address(111));
    let sniffers = [victim.namespace.arp_sniffer(), remote.namespace.arp_sniffer()];
    for frame in &lies {
        send(liar, frame).await;
    }
    send(liar, &frame(own, Ipv4Addr::UNSPECIFIED, 110)).await;
    send(liar, &frame(own, liar.address, 111)).await;
    let mut probes = 0;
    for sniffer in &sniffers {
        let mut seen = Vec::new();
        until("the honest question", async || {
            seen.extend(sniffer.targets());
            seen.contains(&asked)
        })
        .await;
        probes += seen.iter().filter(|target| **target == probed).count();
        assert!(!seen.iter().any(|target| targets.contains(target)), "{seen:?}");
    }

    // Bridges that suppress ARP keep such questions on their node.
    assert_eq!(probes, 1, "nobody may ask whether an address is taken");

    a.kernel.apply(&unguarded(&a, &b)).await.unwrap();
    send(liar, &lies[0]).await;
    until("the lie of an unguarded port", async || sniffers[0].targets().contains(&targets[0])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bridges_keep_for_themselves_is_no_way_around() {
    let [a, _b] = a_liar().await;
    let (victim, liar) = (&a.containers[0], &a.containers[1]);
    let resolver = a.kernel.in_namespace(|| UdpSocket::bind((DNS_ADDRESS, 53)).unwrap()).unwrap();
    resolver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let bridge = a.kernel.observe().await.unwrap().bridges().next().unwrap().mac;
    let kept = MacAddr([1, 0x80, 0xc2, 0, 0, 0x0e]);
    for (to, from, text) in
        [(kept, victim.address, "lie"), (bridge, victim.address, "lie"), (bridge, liar.address, "own")]
    {
        send(liar, &ethernet(to, liar.port.mac, &[], IPV4, &packet(from, DNS_ADDRESS, 53, text))).await;
    }
    let mut buffer = [0; 64];
    let (length, from) = resolver.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from.ip()), (&b"own"[..], liar.address.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_come_move_and_go_with_ports() {
    let [a, b] = a_liar().await;
    let guards = async || a.kernel.observe().await.unwrap().guards;
    assert_eq!(guards().await, a.plan(&b).guards);

    // Another address, and the old one is no longer its own.
    let mut input = a.input();
    input.networks[0].remotes = b.remotes();
    input.networks[0].ports[1].address = Some(ALIEN);
    let changes = a.kernel.apply(&plan(&input)).await.unwrap();
    assert!(changes.made.contains(&"guard the port 'vh-12'".to_owned()), "{changes:?}");
    assert_eq!(guards().await, plan(&input).guards);
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());

    let gone = input.networks[0].ports.pop().unwrap();
    let changes = a.kernel.apply(&plan(&input)).await.unwrap();
    assert!(changes.made.contains(&"guard no more the port 'vh-12'".to_owned()), "{changes:?}");
    assert_eq!(guards().await, plan(&input).guards);

    // A port is guarded before a plan knows it, also under a plan that is older than it; and made anew, as what it is now.
    let create = async |port: &LocalPort| a.kernel.create_port(port, "c12", BRIDGE, MTU).await.unwrap();
    for port in [&gone, &LocalPort { address: Some(Ipv4Addr::new(10, 1, 1, 98)), ..gone.clone() }] {
        create(port).await;
        a.kernel.apply(&plan(&input)).await.unwrap();
        let expected: Vec<_> = plan(&input).guards.into_iter().chain(port.guard()).collect();
        assert_eq!(guards().await, expected);
    }
    a.kernel.delete_port(&gone.name).await.unwrap();
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(guards().await, plan(&input).guards);
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_that_somebody_meddles_with_are_repaired() {
    let [a, b] = a_liar().await;
    let desired = a.plan(&b);
    let liar = "vh-12 . 02:c0:00:00:01:0c";
    for meddling in [
        "delete table bridge osier",
        "flush ruleset",
        "flush chain bridge osier prerouting",
        "flush set bridge osier ports",
        "flush set bridge osier senders",
        "insert rule bridge osier prerouting accept",
        "add chain bridge osier prerouting { policy drop ; }",
        "add chain bridge osier more { type filter hook prerouting priority 0 ; policy drop ; }",
        "add table bridge osier { flags dormant ; }",
        &format!("add element bridge osier senders {{ {liar} . {ALIEN} }}"),
        &format!("delete element bridge osier senders {{ {liar} . 10.1.1.12 }}"),
        "delete element bridge osier ports { vh-12 }",
        "add element bridge osier ports { some-port }",
    ] {
        a.fabric.nft(meddling);
        let changes = a.kernel.apply(&desired).await.unwrap();
        assert!(!changes.is_empty() && changes.unguarded.is_none(), "{changes:?} after: {meddling}");
        let again = a.kernel.apply(&desired).await.unwrap();
        assert!(again.is_empty(), "{again:?} after: {meddling}");
        assert_eq!(a.kernel.observe().await.unwrap().guards, desired.guards, "after: {meddling}");
        assert!(!lies_pass(&a).await, "after: {meddling}");
    }
    // Tables of others are theirs.
    a.fabric.nft("add table bridge another");
    assert!(a.kernel.apply(&desired).await.unwrap().is_empty());
    a.fabric.nft("delete table bridge another");
}

#[tokio::test(flavor = "multi_thread")]
async fn meddling_with_guards_is_told() {
    let [a, b] = two_hosts_with_containers().await;
    let mut told = pin!(a.kernel.watch().await.unwrap());
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    assert_eq!(told.next().now_or_never(), None, "nothing changed");
    a.fabric.nft("delete table bridge osier");
    until("word of a deleted table", async || told.next().now_or_never().is_some()).await;
}

/// A table that belongs to a running process, so that nobody else can change it. Stands in for a kernel without nftables.
struct Owned(std::process::Child);

impl Owned {
    fn new(namespace: &Namespace) -> Self {
        let mut nft = Command::new("nft");
        nft.arg("--interactive").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = namespace.run(|| nft.spawn().unwrap());
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write_all(b"add table bridge osier { flags owner ; }\nlist tables\n").unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        lines.map_while(Result::ok).find(|line| line.contains("table bridge osier")).unwrap();
        Self(child)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_cannot_guard_gets_all_else_and_it_is_said() {
    let [mut a, b] = two_hosts().await;
    let owned = Owned::new(&a.fabric);
    a.kernel.apply(&plan(&a.input())).await.unwrap();
    a.start(11).await;
    a.start(12).await;
    let changes = a.kernel.apply(&a.plan(&b)).await.unwrap();
    let reason = changes.unguarded.unwrap();
    assert!(reason.starts_with("guard the ports of containers with nftables: "), "{reason}");
    assert!(a.kernel.observe().await.unwrap().guards.is_empty());
    assert!(lies_pass(&a).await);
    assert!(a.kernel.apply(&a.plan(&b)).await.unwrap().is_empty());
    assert_eq!(a.kernel.counts().failures, 0);

    drop(owned);
    let changes = a.kernel.apply(&a.plan(&b)).await.unwrap();
    assert_eq!(changes.unguarded, None);
    assert!(!lies_pass(&a).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guards_are_one_change() {
    let [a, b] = two_hosts().await;
    let mut input = a.input();
    let ports = (0..1000u16).map(|n| {
        let [high, low] = n.to_be_bytes();
        let address = Some(Ipv4Addr::new(10, 1, 16 + high, low));
        LocalPort { name: format!("vh-{n}"), mac: MacAddr([2, 0xc0, 0, 1, high, low]), address }
    });
    input.networks[0].ports.extend(ports);
    input.networks[0].remotes = b.remotes();
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(a.kernel.observe().await.unwrap().guards, plan(&input).guards);
    assert!(a.kernel.apply(&plan(&input)).await.unwrap().is_empty());
    a.fabric.nft("flush ruleset");
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(a.kernel.observe().await.unwrap().guards.len(), 1000);
    input.networks[0].ports = vec![local_port(1, 11)];
    a.kernel.apply(&plan(&input)).await.unwrap();
    assert_eq!(a.kernel.observe().await.unwrap().guards, plan(&input).guards);
}
