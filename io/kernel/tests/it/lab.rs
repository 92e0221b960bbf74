//! Throw-away hosts and containers: network namespaces without names, which end with the last descriptor, so that even a
//! killed test leaves nothing behind.

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use nix::{
    libc::{AF_PACKET, sockaddr_ll},
    sched::{CloneFlags, setns, unshare},
};
use osier_fabric::{Desired, Input, LocalPort, Network, Peer, Remote, plan};
use osier_kernel::Kernel;
use osier_model::{DNS_ADDRESS, MacAddr, PeerId};
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::link::{BridgePortState, InfoBridgePort, InfoData, InfoPortData, InfoVeth, LinkAttribute, LinkInfo},
    packet_route::route::RouteScope,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, RawFd},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

pub(crate) const VNI: u32 = 6784;
pub(crate) const BRIDGE: &str = "osier0";
pub(crate) const TUNNEL: &str = "vxlan-6784";
pub(crate) const MTU: u32 = 1450;
const ECHO: u16 = 7;
const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace that lives as long as this value.
pub(crate) struct Namespace(File);

impl Namespace {
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces and need root");
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    pub(crate) fn open(path: &str) -> Self {
        Self(File::open(path).unwrap())
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd()).into()
    }

    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let runtime = tokio::runtime::Handle::try_current();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                let _guard = runtime.as_ref().map(|r| r.enter());
                f()
            });
            inside.join().unwrap()
        })
    }

    pub(crate) fn netlink(&self) -> Handle {
        let (connection, handle, _) = self.run(|| rtnetlink::new_connection().unwrap());
        tokio::spawn(connection);
        handle
    }

    pub(crate) async fn index(&self, name: &str) -> Option<u32> {
        let found = self.netlink().link().get().match_name(name).execute().try_next().await;
        found.ok().flatten().map(|link| link.header.index)
    }

    pub(crate) async fn up(&self, name: &str, address: Option<(Ipv4Addr, u8)>) {
        let (netlink, index) = (self.netlink(), self.index(name).await.unwrap());
        if let Some((address, prefix)) = address {
            netlink.address().add(index, address.into(), prefix).execute().await.unwrap();
        }
        netlink.link().change(LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.netlink().link().del(self.index(name).await.unwrap()).execute().await.unwrap();
    }

    /// Waits for a bridge port to forward: the kernel opens it a moment after both ends of its veth are up.
    pub(crate) async fn forwards(&self, name: &str) {
        let netlink = self.netlink();
        until(&format!("the port '{name}' to forward"), async || {
            let link = netlink.link().get().match_name(name).execute().try_next().await.unwrap().unwrap();
            let infos = link.attributes.iter().filter_map(|a| match a {
                LinkAttribute::LinkInfo(list) => Some(list),
                _ => None,
            });
            infos.flatten().any(|info| match info {
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                    port.contains(&InfoBridgePort::State(BridgePortState::Forwarding))
                }
                _ => false,
            })
        })
        .await;
    }

    /// A bound UDP socket with a timeout for reading.
    pub(crate) fn udp(&self, address: Ipv4Addr, port: u16) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((address, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }

    /// Answers every datagram with what `answer` makes of it, until the test ends.
    pub(crate) fn serve(&self, address: Ipv4Addr, port: u16, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
        serve(self.udp(address, port), answer);
    }

    pub(crate) async fn set_mac(&self, link: &str, mac: MacAddr) {
        let index = self.index(link).await.unwrap();
        let changed = LinkUnspec::new_with_index(index).address(mac.0.to_vec()).build();
        self.netlink().link().change(changed).execute().await.unwrap();
    }

    /// Sends a whole Ethernet frame by a link.
    pub(crate) async fn send_frame(&self, link: &str, frame: &[u8]) {
        let index = i32::try_from(self.index(link).await.unwrap()).unwrap();
        let socket = self.run(|| Socket::new(Domain::PACKET, Type::RAW, None).unwrap());
        #[expect(unsafe_code, reason = "no crate here makes an address of packet(7) without it")]
        // SAFETY: the storage is zeroed and larger than `sockaddr_ll`, whose length is what is stored.
        let (_, to) = unsafe {
            SockAddr::try_init(|storage, length| {
                let address = storage.cast::<sockaddr_ll>();
                (*address).sll_family = AF_PACKET as u16;
                (*address).sll_ifindex = index;
                *length = size_of::<sockaddr_ll>() as u32;
                Ok(())
            })
        }
        .unwrap();
        assert_eq!(socket.send_to(frame, &to).unwrap(), frame.len());
    }

    /// Has `nft` carry out a command inside.
    pub(crate) fn nft(&self, command: &str) {
        let output = self.run(|| Command::new("nft").arg(command).output().unwrap());
        assert!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// All ARP frames of all devices inside, from now on.
    pub(crate) fn arp_sniffer(&self) -> Sniffer {
        const ETH_P_ARP: u16 = 0x0806;
        let protocol = Protocol::from(i32::from(ETH_P_ARP.to_be()));
        let socket = self.run(|| Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap());
        socket.set_nonblocking(true).unwrap();
        Sniffer(socket)
    }
}

pub(crate) fn serve(socket: UdpSocket, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    socket.set_read_timeout(None).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..length]), from);
        }
    });
}

pub(crate) struct Sniffer(Socket);

impl Sniffer {
    /// How many frames since the last look named the address, as sender or target.
    pub(crate) fn named(&self, address: Ipv4Addr) -> usize {
        self.frames().iter().filter(|(sender, _, target)| [*sender, *target].contains(&address)).count()
    }

    /// How many frames since the last look asked who has one of the addresses.
    pub(crate) fn asked_for(&self, addresses: &[Ipv4Addr]) -> usize {
        self.frames().iter().filter(|(_, question, target)| *question && addresses.contains(target)).count()
    }

    /// Whom the frames since the last look were about.
    pub(crate) fn targets(&self) -> Vec<Ipv4Addr> {
        self.frames().iter().map(|(_, _, target)| *target).collect()
    }

    /// Sender, whether it is a question, and target (RFC 826, behind a 14-byte Ethernet header).
    fn frames(&self) -> Vec<(Ipv4Addr, bool, Ipv4Addr)> {
        let mut seen = Vec::new();
        let mut frame = [0; 128];
        while let Ok(length) = std::io::Read::read(&mut (&self.0), &mut frame) {
            assert!(length >= 42, "an ARP frame of {length} bytes");
            let address = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
            seen.push((address(28), frame[20..22] == [0, 1], address(38)));
        }
        seen
    }
}

/// One host with its fabric.
pub(crate) struct Host {
    pub(crate) number: u8,
    pub(crate) host: Namespace,
    pub(crate) fabric: Namespace,
    pub(crate) kernel: Kernel,
    pub(crate) containers: Vec<Container>,
}

pub(crate) struct Container {
    pub(crate) namespace: Namespace,
    pub(crate) port: LocalPort,
    pub(crate) address: Ipv4Addr,
}

/// Two hosts with a cable between them.
pub(crate) async fn two_hosts() -> [Host; 2] {
    let (a, b) = (Namespace::new(), Namespace::new());
    let peer = LinkUnspec::new_with_name("underlay").setns_by_fd(b.fd()).build();
    let cable = LinkVeth::new("underlay", "").set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
    a.netlink().link().add(cable).execute().await.unwrap();
    for (ns, number) in [(&a, 1), (&b, 2)] {
        ns.up("underlay", Some((vtep(number), 24))).await;
        ns.up("lo", None).await;
    }
    [Host::new(1, a).await, Host::new(2, b).await]
}

pub(crate) fn vtep(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, number)
}

pub(crate) fn peer(number: u8) -> Peer {
    Peer { id: PeerId([2, 0xee, 0, 0, 0, number]), vtep: vtep(number) }
}

impl Host {
    pub(crate) async fn new(number: u8, host: Namespace) -> Self {
        let fabric = Namespace::new();
        let kernel = Kernel::open_in(&host.path(), &fabric.path()).await.unwrap();
        Self { number, host, fabric, kernel, containers: Vec::new() }
    }

    /// A plan's input without remotes: this host, its peer, and the network with this host's containers.
    pub(crate) fn input(&self) -> Input {
        Input {
            me: peer(self.number),
            peers: vec![peer(3 - self.number)],
            networks: vec![Network {
                vni: VNI,
                bridge: BRIDGE.into(),
                subnet: Ipv4Net::new(Ipv4Addr::new(10, 1, 1, 0), 24).unwrap(),
                mtu: MTU,
                ports: self.containers.iter().map(|c| c.port.clone()).collect(),
                remotes: Vec::new(),
            }],
            vxlan_port: 6784,
            dns_address: DNS_ADDRESS,
            host: None,
        }
    }

    pub(crate) fn remotes(&self) -> Vec<Remote> {
        let remote = |c: &Container| Remote { mac: c.port.mac, address: c.address, peer: peer(self.number).id };
        self.containers.iter().map(remote).collect()
    }

    /// What this host wants when it knows everything about the other.
    pub(crate) fn plan(&self, other: &Self) -> Desired {
        let mut input = self.input();
        input.networks[0].remotes = other.remotes();
        plan(&input)
    }

    /// Starts a container the way Docker does: a port, its end moved, renamed, addressed and set up.
    pub(crate) async fn start(&mut self, number: u8) -> &Container {
        let port = local_port(self.number, number);
        let near = format!("c{number}");
        self.kernel.create_port(&port, &near, BRIDGE, MTU).await.unwrap();
        let namespace = Namespace::new();
        let index = self.host.index(&near).await.unwrap();
        let moved = LinkUnspec::new_with_index(index).name("ethwe0").setns_by_fd(namespace.fd()).build();
        self.host.netlink().link().change(moved).execute().await.unwrap();
        let address = port.address.unwrap();
        namespace.up("lo", None).await;
        namespace.up("ethwe0", Some((address, 24))).await;
        let index = namespace.index("ethwe0").await.unwrap();
        let dns = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(DNS_ADDRESS, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        namespace.netlink().route().add(dns).execute().await.unwrap();
        namespace.serve(Ipv4Addr::UNSPECIFIED, ECHO, <[u8]>::to_vec);
        self.fabric.forwards(&port.name).await;
        self.containers.push(Container { namespace, port, address });
        self.containers.last().unwrap()
    }
}

pub(crate) fn local_port(host: u8, number: u8) -> LocalPort {
    LocalPort {
        name: format!("vh-{number}"),
        mac: MacAddr([2, 0xc0, 0, 0, host, number]),
        address: Some(Ipv4Addr::new(10, 1, 1, number)),
    }
}

/// Two hosts that know each other, with one container each: 10.1.1.11 and 10.1.1.21.
pub(crate) async fn two_hosts_with_containers() -> [Host; 2] {
    let [mut a, mut b] = two_hosts().await;
    a.kernel.apply(&plan(&a.input())).await.unwrap();
    b.kernel.apply(&plan(&b.input())).await.unwrap();
    a.start(11).await;
    b.start(21).await;
    a.kernel.apply(&a.plan(&b)).await.unwrap();
    b.kernel.apply(&b.plan(&a)).await.unwrap();
    [a, b]
}

/// Whether one datagram comes back within half a second.
pub(crate) fn echoes(from: &Namespace, to: Ipv4Addr) -> bool {
    ask(from, to, ECHO, b"hello").is_some_and(|answer| answer == b"hello")
}

/// The answer to one datagram, if any within half a second.
pub(crate) fn ask(from: &Namespace, to: Ipv4Addr, port: u16, question: &[u8]) -> Option<Vec<u8>> {
    let socket = from.udp(Ipv4Addr::UNSPECIFIED, 0);
    socket.send_to(question, (to, port)).ok()?;
    let mut buffer = [0; 2048];
    let (length, source) = socket.recv_from(&mut buffer).ok()?;
    assert_eq!(source, SocketAddr::new(IpAddr::V4(to), port), "the answer has to come from whom we asked");
    Some(buffer[..length].to_vec())
}

/// Waits until `holds`, and says what did not.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
