//! Throughput of the plain overlay against a VXLAN and bridge made by hand between the same two hosts, and against the bare
//! veth pair below both.
//!
//! All stand at the same time between two network namespaces and are measured in turns with iperf3.

use crate::{Row, quantile};
use anyhow::{Context, Result, bail, ensure};
use osier_fabric::{Input, LocalPort, Network, Peer, Remote, plan};
use osier_kernel::Kernel;
use osier_model::{DNS_ADDRESS, MacAddr, PeerId};
use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How many times each is measured.
pub(crate) const TURNS: usize = 5;
/// Starts iperf3's server, which listens once this returns.
pub(crate) const SERVE: &str = "iperf3 --server --daemon";
/// The underlay's MTU less the encapsulation.
const MTU: u32 = 1450;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let bench = Bench::make()?;
    let _servers = [BARE, BY_HAND, OSIER].map(|way| bench.server(way.1)).into_iter().collect::<Result<Vec<_>>>()?;
    let (mut to_by_hand, mut to_bare) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let (bare, by_hand, osier) = (bench.throughput(BARE)?, bench.throughput(BY_HAND)?, bench.throughput(OSIER)?);
        to_by_hand.push(osier / by_hand);
        to_bare.push(osier / bare);
        println!("overlay, turn {}: {:.2} of by hand, {:.2} of bare", turn + 1, osier / by_hand, osier / bare);
    }
    let row = |what, ratio: f64, promise, least| Row {
        what,
        result: format!("{ratio:.2} of it"),
        promise,
        holds: ratio >= least,
    };
    Ok(vec![
        row(
            "overlay TCP throughput, plain, over a hand-made VXLAN + bridge",
            quantile(&mut to_by_hand, 0.5),
            "≥ 0.9",
            0.9,
        ),
        row("the same, over the bare veth pair between the hosts", quantile(&mut to_bare, 0.5), "≥ 0.7", 0.7),
    ])
}

/// What asks iperf3's server at an address for three seconds.
pub(crate) fn client(address: &str) -> String {
    format!("iperf3 --client {address} --time 3 --omit 1 --json")
}

/// Bits per second that arrived, by iperf3's report.
pub(crate) fn received(report: &[u8]) -> Result<f64> {
    let report: serde_json::Value = serde_json::from_slice(report).context("read iperf3's report")?;
    let rate = report.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    rate.filter(|r| *r > 0.0).with_context(|| format!("iperf3 measured nothing: {report}"))
}

/// A way between the hosts: the namespaces at its ends, and the address at the far one.
type Way = (&'static str, &'static str, &'static str);
const BARE: Way = ("a", "b", "192.168.78.2");
const BY_HAND: Way = ("a-by-hand", "b-by-hand", "10.78.0.2");
const OSIER: Way = ("a-osier", "b-osier", "10.79.0.2");

/// Namespaces: two hosts, and on each a container on either network.
struct Bench {
    prefix: String,
}

impl Bench {
    fn make() -> Result<Self> {
        let bench = Self { prefix: format!("ob{}", std::process::id()) };
        for host in ["a", "b"] {
            for ns in [host.to_owned(), format!("{host}-by-hand"), format!("{host}-osier"), format!("{host}-fabric")] {
                ip(&format!("netns add {}", bench.ns(&ns)))?;
                ip(&format!("-n {} link set lo up", bench.ns(&ns)))?;
            }
        }
        let (a, b) = (bench.ns("a"), bench.ns("b"));
        ip(&format!("-n {a} link add ul type veth peer name ul netns {b}"))?;
        for (host, number) in [("a", 1), ("b", 2)] {
            let ns = bench.ns(host);
            ip(&format!("-n {ns} addr add 192.168.78.{number}/24 dev ul"))?;
            ip(&format!("-n {ns} link set ul up"))?;
            bench.by_hand(host, number)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            bench.osier("a", 1).await?;
            bench.osier("b", 2).await
        })?;
        Ok(bench)
    }

    fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// What an administrator would type.
    fn by_hand(&self, host: &str, number: u8) -> Result<()> {
        let (ns, container) = (self.ns(host), self.ns(&format!("{host}-by-hand")));
        let other = 3 - number;
        ip(&format!("-n {ns} link add br0 mtu {MTU} type bridge"))?;
        ip(&format!(
            "-n {ns} link add vx0 mtu {MTU} type vxlan id 42 local 192.168.78.{number} remote 192.168.78.{other} dstport 4789"
        ))?;
        ip(&format!("-n {ns} link add hv mtu {MTU} type veth peer name eth0 mtu {MTU} netns {container}"))?;
        for link in ["vx0", "hv"] {
            ip(&format!("-n {ns} link set {link} master br0 up"))?;
        }
        ip(&format!("-n {ns} link set br0 up"))?;
        self.address(&container, "eth0", &format!("10.78.0.{number}/24"))
    }

    /// What the agent would do.
    async fn osier(&self, host: &str, number: u8) -> Result<()> {
        let peer = |n: u8| Peer { id: PeerId([2, 0, 0, 0, 0, n]), vtep: Ipv4Addr::new(192, 168, 78, n) };
        let mac = |n: u8| MacAddr([2, 0x6f, 0, 0, 0, n]);
        let container_address = |n: u8| Ipv4Addr::new(10, 79, 0, n);
        let other = 3 - number;
        let mut input = Input {
            me: peer(number),
            peers: vec![peer(other)],
            networks: vec![Network {
                vni: 43,
                bridge: "osier0".into(),
                subnet: "10.79.0.0/24".parse()?,
                mtu: MTU,
                ports: Vec::new(),
                remotes: vec![Remote { mac: mac(other), address: container_address(other), peer: peer(other).id }],
            }],
            vxlan_port: 6784,
            dns_address: DNS_ADDRESS,
            host: None,
        };
        let path = |name: &str| Path::new("/run/netns").join(self.ns(name));
        let kernel = Kernel::open_in(&path(host), &path(&format!("{host}-fabric"))).await?;
        kernel.apply(&plan(&input)).await?;
        let port = LocalPort { name: "port".into(), mac: mac(number), address: Some(container_address(number)) };
        kernel.create_port(&port, "cont", "osier0", MTU).await?;
        input.networks[0].ports.push(port);
        kernel.apply(&plan(&input)).await?;
        let container = self.ns(&format!("{host}-osier"));
        ip(&format!("-n {} link set cont netns {container} name eth0", self.ns(host)))?;
        self.address(&container, "eth0", &format!("{}/24", container_address(number)))
    }

    fn address(&self, ns: &str, link: &str, address: &str) -> Result<()> {
        ip(&format!("-n {ns} addr add {address} dev {link}"))?;
        ip(&format!("-n {ns} link set {link} up"))
    }

    /// iperf3's server in a namespace, ready to be talked to.
    fn server(&self, ns: &str) -> Result<Server> {
        let mut command = self.inside(ns, "iperf3");
        let child = command.args(["--server"]).stdout(Stdio::null()).spawn().context("start iperf3")?;
        let server = Server(child);
        osier_e2e::eventually(Duration::from_secs(10), || {
            let listening = self.inside(ns, "ss").args(["-Hltn"]).output()?;
            ensure!(String::from_utf8_lossy(&listening.stdout).contains(":5201"), "iperf3 does not listen");
            Ok(())
        })?;
        Ok(server)
    }

    /// Bits per second over one way.
    fn throughput(&self, (from, _, to): Way) -> Result<f64> {
        let client = client(to);
        let mut words = client.split(' ');
        let mut command = self.inside(from, words.next().unwrap_or_default());
        received(&command.args(words).output()?.stdout)
    }

    fn inside(&self, ns: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(ns), program]);
        command
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for ns in ["a", "b"].iter().flat_map(|h| ["", "-by-hand", "-osier", "-fabric"].map(|s| format!("{h}{s}"))) {
            if let Err(error) = ip(&format!("netns del {}", self.ns(&ns))) {
                println!("{error:#}");
            }
        }
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().context("run ip")?;
    if !output.status.success() {
        bail!("'ip {arguments}' failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
