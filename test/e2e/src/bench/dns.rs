//! Replies per second of a node's resolver, against dnsmasq on the same node with the same names.
//!
//! Both answer over the loopback device of a network namespace without firewall, in turns, to the same program with the same
//! number of queries under way. Names outside come from one more dnsmasq, which both ask.

use crate::{
    Row,
    lab::{self, MASTER, PROGRAM},
    quantile,
    usage::busy,
};
use anyhow::{Context, Result, bail};
use osier_e2e::{Cluster, eventually};
use std::time::Duration;

/// How many names there are of each sort.
const NAMES: usize = 1000;
/// How many times each is measured.
const TURNS: usize = 11;
/// How long each time, in seconds.
const SECONDS: u64 = 1;
/// The namespaces of the agent's resolver and of dnsmasq, as commands that run others in them.
const INSIDE: [&str; 2] = ["nsenter --net=/run/netns/osier", "ip netns exec bench"];
/// The servers, and what tells their processes.
const SERVERS: [(&str, &str); 2] =
    [("169.254.53.53:53", "systemctl show -P MainPID osier-agent"), ("127.0.0.1:53", "cat /run/bench-inside.pid")];
/// What is asked: names, how many of them, the code that is expected, and how both are called in the report.
const ASKED: [(&str, &str, &str); 3] = [
    ("host-{}.weave.local", "0", "DNS: addresses of names of the cluster, over dnsmasq"),
    ("none-{}.weave.local", "3", "DNS: denials of names of the cluster, over dnsmasq"),
    ("out-{}.bench.example", "0", "DNS: other names, from the cache, over dnsmasq"),
];
/// A namespace for dnsmasq with a way to the one that knows the names outside, and that one itself.
const DNSMASQ: &str = "set -e
ip netns add bench
ip -n bench link set lo up
ip link add bench0 type veth peer name bench1 netns bench
ip addr add 198.18.53.1/30 dev bench0
ip link set bench0 up
ip -n bench addr add 198.18.53.2/30 dev bench1
ip -n bench link set bench1 up
seq 0 999 | sed 's/.*/192.0.2.7 host-&.weave.local/' > /run/bench-inside
seq 0 999 | sed 's/.*/192.0.2.8 out-&.bench.example/' > /run/bench-outside
dnsmasq -C /dev/null --no-hosts --no-resolv --bind-interfaces --listen-address=198.18.53.1 --pid-file=/run/bench-outside.pid \
  --addn-hosts=/run/bench-outside --local=/bench.example/ --local-ttl=3600
ip netns exec bench dnsmasq -C /dev/null --no-hosts --no-resolv --bind-interfaces --listen-address=127.0.0.1 \
  --pid-file=/run/bench-inside.pid --addn-hosts=/run/bench-inside --local=/weave.local/ --local-ttl=1 --cache-size=10000 \
  --server=198.18.53.1
seq 0 999 | while read n; do osier dns add host-$n 192.0.2.7 > /dev/null; done
echo nameserver 198.18.53.1 > /etc/resolv.conf
systemctl restart osier-agent";

pub(crate) fn measure() -> Result<Vec<Row>> {
    let cluster = lab::cluster(1)?;
    lab::install(&cluster, MASTER, "dnsmasq-base")?;
    lab::bring_program(&cluster)?;
    cluster.on(MASTER, DNSMASQ)?;
    ASKED.into_iter().map(|asked| compare(&cluster, asked)).collect()
}

fn compare(cluster: &Cluster, (names, code, what): (&str, &str, &'static str)) -> Result<Row> {
    // The first turn fills the caches, and waits for the agent.
    for server in 0..2 {
        eventually(Duration::from_secs(30), || load(cluster, server, names, code))?;
    }
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let (ours, theirs) = (load(cluster, 0, names, code)?, load(cluster, 1, names, code)?);
        rates.push(ours.rate / theirs.rate);
        costs.push(ours.thrift / theirs.thrift);
        println!("{names}, turn {}: {:.2} × dnsmasq, {:.2} × by processor time", turn + 1, rates[turn], costs[turn]);
    }
    let (rate, cost) = (quantile(&mut rates, 0.5), quantile(&mut costs, 0.5));
    let result = format!("{rate:.2} ×, {cost:.2} × by processor time");
    Ok(Row { what, result, promise: "≥ 1 ×", holds: rate >= 1.0 })
}

/// What a server did under load.
struct Load {
    /// Replies per second.
    rate: f64,
    /// Replies per second of its processor time.
    thrift: f64,
}

/// Puts load on the agent's resolver (0) or on dnsmasq (1).
fn load(cluster: &Cluster, server: usize, names: &str, code: &str) -> Result<Load> {
    let (inside, (address, pid)) = (INSIDE[server], SERVERS[server]);
    let line = format!(
        "stat=/proc/$({pid})/stat; cat $stat && {inside} {PROGRAM} load {address} '{names}' {NAMES} {code} {SECONDS} && \
         cat $stat"
    );
    let said = cluster.on(MASTER, &line)?;
    let [before, measured, after] = said.lines().collect::<Vec<_>>()[..] else { bail!("'{said}' is no measurement") };
    let (rate, lost) = measured.split_once(' ').with_context(|| format!("'{measured}' is no measurement"))?;
    if lost != "0" {
        println!("{address}: {lost} queries were lost");
    }
    let (rate, spent) = (rate.parse::<f64>()?, busy(after)? - busy(before)?);
    Ok(Load { rate, thrift: rate * SECONDS as f64 / spent })
}
