//! Before any host is touched: what each one is, and whether it can become what is wanted.
//!
//! Must not change a host. The facts come from one shell script (`preflight.sh`), because this program may not be there
//! yet; all problems of a host are reported at once.

use crate::{
    bundle,
    remote::{self, Remote},
};
use ipnet::Ipv4Net;
use osier_converge::{Digest, Lacking, OsRelease, Target};
use osier_model::PeerId;
use osier_ssh::Command;
use osier_ui::{ExitKind, Failure};
use std::{collections::BTreeSet, net::Ipv4Addr};
use time::OffsetDateTime;

const SCRIPT: &str = include_str!("preflight.sh");
/// KiB that must be free below `/var/lib` where an engine is to be installed there.
const ENGINE_KIB: u64 = 1 << 20;
/// KiB that must be free below `/usr/local` and `/var/lib` in any case.
const PROGRAM_KIB: u64 = 100 << 10;
/// Seconds by which a clock may be off before it is worth a word.
const SKEW_WARNING: i64 = 30;
/// Seconds by which a clock may be off before certificates made now are not valid there.
const SKEW_LIMIT: i64 = 12 * 3600;

/// How our own interfaces on a host are called; their routes lead into the pool by design.
const OUR_LINKS: &str = "osier";

/// What a host reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report {
    pub(crate) os: OsRelease,
    /// As `uname -m` prints it.
    pub(crate) machine: String,
    /// The architecture of its packages, as dpkg calls it.
    pub(crate) architecture: String,
    /// Seconds that its clock is ahead of ours; negative if it is behind.
    pub(crate) skew: i64,
    pub(crate) systemd: bool,
    pub(crate) engine: bool,
    /// KiB free below `/var/lib` and below `/usr/local`, where known.
    pub(crate) free: [Option<u64>; 2],
    /// The digest of the program installed there.
    pub(crate) binary: Option<Digest>,
    /// The digest of the CA's certificate there.
    pub(crate) ca: Option<Digest>,
    /// Which node its state is that of.
    pub(crate) peer: Option<PeerId>,
    /// Whether anything of ours is there.
    pub(crate) traces: bool,
    /// Whether it is a node, and not only has been one or was prepared.
    pub(crate) node: bool,
    /// Names of our links at which something else lies.
    pub(crate) taken: Vec<String>,
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// The source address of the default route.
    pub(crate) source: Option<Ipv4Addr>,
    /// Destinations of the IPv4 routes and their interfaces; the default route is left out.
    pub(crate) routes: Vec<(String, Ipv4Net)>,
}

/// What the run needs of a host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// The architecture of the program to install, as `uname -m` prints it.
    pub(crate) machine: String,
    /// Whether the run installs an engine where there is none.
    pub(crate) installs_engine: bool,
    /// Why an engine cannot be installed there from the run's bundle.
    pub(crate) lacking: Option<Lacking>,
    /// Set where the host becomes part of a cluster.
    pub(crate) cluster: Option<ClusterNeeds>,
}

/// What a cluster needs of a host.
#[derive(Debug, Clone)]
pub(crate) struct ClusterNeeds {
    pub(crate) pool: Ipv4Net,
    /// The digest of its CA's certificate.
    pub(crate) ca: Digest,
    /// The nodes that were removed from it.
    pub(crate) removed: BTreeSet<PeerId>,
    /// What the inventory says is the host's address among the nodes.
    pub(crate) internal: Option<Ipv4Addr>,
}

/// Asks a host for its facts.
pub(crate) async fn ask(remote: &Remote) -> Result<Report, Failure> {
    let before = OffsetDateTime::now_utc().unix_timestamp();
    let command = Command::new(["sh"]).stdin(SCRIPT.as_bytes()).as_root();
    let output = remote.ssh.check(&command).await.map_err(remote::failure)?;
    let after = OffsetDateTime::now_utc().unix_timestamp();
    Ok(parse(&String::from_utf8_lossy(&output.stdout), before..=after))
}

/// Reads the script's output. `asked` is when it ran, by our clock.
fn parse(text: &str, asked: std::ops::RangeInclusive<i64>) -> Report {
    let values = |name: &'static str| text.lines().filter_map(move |l| l.strip_prefix(name)?.strip_prefix('='));
    let one = |name| values(name).next().map(str::trim).unwrap_or_default();
    let time = one("time").parse().unwrap_or(*asked.start());
    let os = values("os").collect::<Vec<_>>().join("\n");
    Report {
        os: OsRelease::parse(&os),
        machine: one("machine").to_owned(),
        architecture: one("architecture").to_owned(),
        skew: time.saturating_sub(time.clamp(*asked.start(), *asked.end())),
        systemd: one("systemd") == "yes",
        engine: one("engine") == "yes",
        free: [one("free_var").parse().ok(), one("free_usr").parse().ok()],
        binary: one("binary").parse().ok(),
        ca: one("ca").parse().ok(),
        peer: one("peer").parse().ok(),
        traces: one("traces") == "yes",
        node: one("node") == "yes",
        taken: values("taken").map(str::to_owned).collect(),
        addresses: values("address").filter_map(|a| a.parse().ok()).collect(),
        source: one("source").parse().ok(),
        routes: values("route").filter_map(parse_route).collect(),
    }
}

/// Reads a line of `/proc/net/route`: interface, destination, gateway, flags, three counters, mask. Numbers are
/// hexadecimal in the host's byte order, which is little-endian on every machine we run on.
fn parse_route(line: &str) -> Option<(String, Ipv4Net)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |i: usize| u32::from_str_radix(fields.get(i)?, 16).ok().map(|n| Ipv4Addr::from(n.to_le_bytes()));
    let net = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?.trunc();
    (net.prefix_len() > 0).then(|| ((*fields[0]).to_owned(), net))
}

impl Report {
    /// The system that packages for this host are for.
    pub(crate) fn target(&self) -> Target {
        Target::new(&self.os, &self.architecture)
    }

    /// The address other nodes reach this host at: what the inventory says, else where ssh connected to if the host has
    /// that address itself, else the source of its default route.
    pub(crate) fn mesh_address(&self, internal: Option<Ipv4Addr>, connected: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        internal.or_else(|| connected.filter(|a| self.addresses.contains(a))).or(self.source)
    }

    /// What is worth a word and keeps nothing from going on, each with what mends it.
    pub(crate) fn warnings(&self) -> Vec<(String, &'static str)> {
        let clock = (self.skew.abs() > SKEW_WARNING)
            .then(|| (format!("its clock is {}", ahead(self.skew)), "let an NTP service set it"));
        let taken = |n: &String| {
            let what = format!("/usr/local/bin/{n} is not ours and stays as it is");
            (what, "take it away and run 'osier site' if that name is to be answered as the classic tool did")
        };
        clock.into_iter().chain(self.taken.iter().map(taken)).collect()
    }

    /// Whether the host can become what is wanted.
    pub(crate) fn judge(&self, host: &str, needs: &Needs) -> Result<(), Failure> {
        let mut problems: Vec<(String, &str)> = Vec::new();
        if self.machine != needs.machine {
            let text = format!("it is {}, the program is for {}", self.machine, needs.machine);
            problems.push((text, "'--binary PATH' names a program for that machine"));
        }
        if let Err(e) = self.os.system() {
            problems.push((e.to_string(), "install a supported system there"));
        }
        if !self.systemd {
            problems.push(("it was not booted with systemd".into(), "services need systemd"));
        }
        let installs = needs.installs_engine && !self.engine;
        let wanted = [if installs { ENGINE_KIB } else { PROGRAM_KIB }, PROGRAM_KIB];
        for ((free, wanted), path) in self.free.iter().zip(wanted).zip(["/var/lib", "/usr/local"]) {
            if free.is_some_and(|f| f < wanted) {
                let text = format!("{path} has {} MiB free, {} are needed", free.unwrap_or(0) >> 10, wanted >> 10);
                problems.push((text, "make room there"));
            }
        }
        if let Some(lacking) = needs.lacking.as_ref().filter(|_| installs) {
            problems.push((lacking.to_string(), bundle::HINT));
        }
        if let Some(cluster) = &needs.cluster {
            self.judge_for_cluster(cluster, needs.installs_engine, &mut problems);
        }
        refuse(host, &problems)
    }

    /// Whether a node can go on being one of this cluster.
    pub(crate) fn judge_node(&self, host: &str, cluster: &ClusterNeeds) -> Result<(), Failure> {
        let mut problems = Vec::new();
        self.judge_for_cluster(cluster, true, &mut problems);
        refuse(host, &problems)
    }

    fn judge_for_cluster(&self, needs: &ClusterNeeds, installs: bool, problems: &mut Vec<(String, &str)>) {
        if !installs && !self.engine {
            problems.push(("it has no Docker".into(), "run 'osier bootstrap' first, or 'osier site' for both"));
        }
        if self.ca.is_some_and(|ca| ca != needs.ca) {
            let hint = "run 'osier destroy' from the machine that made that cluster, or copy its folder from there";
            problems.push(("it belongs to another cluster (its CA is another)".into(), hint));
        }
        if self.peer.is_some_and(|peer| needs.removed.contains(&peer)) {
            let hint = "run 'osier destroy -l HOST' first; then 'osier site' makes it a new node";
            problems.push(("it still is the node that was removed from the cluster".into(), hint));
        }
        if self.skew.abs() > SKEW_LIMIT {
            let text = format!("its clock is {}; certificates would not be valid there", ahead(self.skew));
            problems.push((text, "set its clock, best with a time service"));
        }
        if let Some(address) = needs.internal.filter(|a| !self.addresses.contains(a)) {
            problems.push((format!("none of its interfaces has its internal_ip {address}"), "correct internal_ip"));
        }
        let overlaps = |net: &Ipv4Net| net.contains(&needs.pool.network()) || needs.pool.contains(&net.network());
        let foreign = |name: &str| !name.starts_with(OUR_LINKS);
        for (interface, net) in self.routes.iter().filter(|(name, net)| foreign(name) && overlaps(net)) {
            let text = format!("the pool {} overlaps with its route to {net} ({interface})", needs.pool);
            problems.push((text, "set weave_ip_pool to a range that no host has a route to"));
        }
    }
}

/// All problems of a host in one failure, each with what mends it.
fn refuse(host: &str, problems: &[(String, &str)]) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    let text = problems.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("; ");
    let failure = Failure::message_only(ExitKind::SomeHostsFailed, format!("host '{host}' is not ready: {text}"));
    Err(problems.iter().fold(failure, |failure, (_, hint)| failure.hint(*hint)))
}

/// A difference of clocks in words.
fn ahead(skew: i64) -> String {
    format!("{} s {} ours", skew.abs(), if skew > 0 { "ahead of" } else { "behind" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "time=1000\nmachine=x86_64\narchitecture=amd64\nsystemd=yes\nengine=yes\nfree_var=5000000\nfree_usr=5000000\n\
        binary=\naddress=10.67.24.194\naddress=fe80::1\naddress=172.17.0.1\nsource=10.67.24.194\n\
        os=ID=debian\nos=VERSION_ID=\"12\"\nos=PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n\
        route=eth0\t00000000\t0118430A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        route=eth0\t0018430A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    fn needs() -> Needs {
        let cluster = ClusterNeeds {
            pool: "10.1.1.0/24".parse().unwrap(),
            ca: Digest::of(b"ca"),
            removed: [PeerId([2, 0, 0, 0, 0, 1])].into(),
            internal: None,
        };
        Needs { machine: "x86_64".into(), installs_engine: true, cluster: Some(cluster), ..Needs::default() }
    }

    #[test]
    fn a_good_host_passes() {
        let report = parse(TEXT, 990..=1010);
        assert_eq!(report.addresses, [Ipv4Addr::new(10, 67, 24, 194), Ipv4Addr::new(172, 17, 0, 1)]);
        assert_eq!(report.routes, [("eth0".to_owned(), "10.67.24.0/24".parse().unwrap())]);
        assert_eq!(report.warnings(), []);
        report.judge("a", &needs()).unwrap();
        let again = parse(&format!("{TEXT}route=osier-host\t0001010A\t0\t1\t0\t0\t0\t00FFFFFF\n"), 990..=1010);
        assert_eq!(again.routes.len(), 2);
        again.judge("a", &needs()).unwrap();
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let text = TEXT.replace("\"12\"", "\"11\"").replace("free_var=5000000", "free_var=500000");
        let text = text.replace("engine=yes\n", "").replace("0018430A", "0000010A").replace("00FFFFFF", "0000FFFF");
        let text = format!("{text}ca={}\npeer=02:00:00:00:00:01\ntaken=weave\n", Digest::of(b"other"));
        let report = parse(&text, 900_000..=900_001);
        let failure = report.judge("a", &needs()).unwrap_err();
        for part in [
            "Debian 12 and newer",
            "488 MiB free, 1024",
            "another cluster",
            "was removed",
            "10.1.0.0/16 (eth0)",
            "behind ours",
        ] {
            assert!(failure.message().contains(part), "no '{part}' in {}", failure.message());
        }
        assert_eq!((failure.code(), failure.hints().len()), (3, 6));
        assert_eq!(report.warnings().len(), 2);
        let lacking = Some(Lacking::System(report.target(), "debian 12 amd64".into()));
        let failure = report.judge("a", &Needs { lacking, ..needs() }).unwrap_err();
        assert!(failure.message().contains("the bundle has nothing for debian 11 amd64, only for debian 12 amd64"));
        let cluster = needs().cluster.unwrap();
        assert!(report.judge_node("a", &cluster).unwrap_err().message().contains("another cluster"));
        let only_cluster = Needs { installs_engine: false, ..needs() };
        assert!(report.judge("a", &only_cluster).unwrap_err().message().contains("it has no Docker"));
    }

    #[test]
    fn the_mesh_address_is_one_the_host_has() {
        let report = parse(TEXT, 990..=1010);
        let (own, floating) = (Ipv4Addr::new(172, 17, 0, 1), Ipv4Addr::new(178, 237, 109, 178));
        assert_eq!(report.mesh_address(None, Some(own)), Some(own));
        assert_eq!(report.mesh_address(None, Some(floating)), report.source);
        assert_eq!(report.mesh_address(Some(floating), Some(own)), Some(floating));
        let mut needs = needs();
        needs.cluster.as_mut().unwrap().internal = Some(floating);
        assert!(report.judge("a", &needs).unwrap_err().message().contains("internal_ip 178.237.109.178"));
    }

    #[test]
    fn the_script_runs_here() {
        let output = std::process::Command::new("sh").args(["-c", SCRIPT]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let report = parse(&String::from_utf8(output.stdout).unwrap(), now - 60..=now + 60);
        assert_eq!((report.machine.as_str(), report.skew), (std::env::consts::ARCH, 0));
        assert!(!report.os.to_string().is_empty() && report.free[0].is_some() && !report.addresses.is_empty());
    }

    proptest! {
        #[test]
        fn any_output_is_taken(text in "((time|route|os|free_var|address)=[a-f0-9\t.\"]{0,40}\n|\\PC{0,9}\n){0,8}") {
            let report = parse(&text, 0..=1);
            let _ = (report.judge("a", &needs()), report.warnings());
        }
    }
}
