//! A cluster behind a VPN: an operator in a network namespace that reaches the lab through another one's sshd only makes the
//! cluster anew, and uses it through the tunnel and the SOCKS proxy.

use crate::{
    Cluster, eventually, show,
    tour::{IMAGE, make_image},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// How long something may take to come about.
const SOON: Duration = Duration::from_secs(30);
/// Ends all that runs in namespaces, and removes them, once its input ends: whatever becomes of the test. The link to the lab
/// goes first, since the kernel takes its time over namespaces, and the next VPN is to have its name and its address.
const CLEAN: &str =
    r#"read _; ip link delete "$0"; for n; do ip netns pids "$n" | xargs -r kill -9; ip netns delete "$n"; done"#;

/// Starts the VPN's sshd where there is a `vpn-user`, which is nobody's on this machine.
const SERVE: &str = r#"mount --bind "$0" /etc/passwd && exec /usr/sbin/sshd -D -e -f "$1""#;

/// The operator's namespace and the VPN's. The file `config` in its folder is how ssh finds the VPN's host.
pub(crate) struct Vpn<'a> {
    cluster: &'a Cluster,
    folder: tempfile::TempDir,
    operator: String,
    /// For `-e`: how ssh gets to the nodes.
    way: String,
    cleaner: Child,
    started: Vec<Child>,
}

/// All of it. The cluster is made anew, and stays.
pub fn all(cluster: &Cluster) -> Result<()> {
    let mut vpn = Vpn::make(cluster)?;
    let inventory = cluster.inventory().display().to_string();
    let direct = vpn.try_osier(&["exec", "--keep", "0", "-i", &inventory, "--", "true"])?;
    ensure!(direct.status.code() == Some(4), "the operator reaches the nodes without the VPN");
    let way = vpn.way.clone();
    vpn.osier(&["destroy", "-i", &inventory, "-e", &way, "--yes"])?;
    vpn.osier(&["site", "-i", &inventory, "-e", &way])?;
    let again: Value = serde_json::from_str(&vpn.osier(&["site", "-i", &inventory, "-e", &way, "-o", "json"])?)?;
    let hosts = again["hosts"].as_array().context("'osier site -o json' names no hosts")?;
    ensure!(hosts.iter().all(|h| h["changed"] == 0), "a second run through the VPN changed something: {again}");
    through_the_tunnel(&mut vpn)?;
    through_the_proxy(&mut vpn)
}

fn through_the_tunnel(vpn: &mut Vpn<'_>) -> Result<()> {
    let (lab, ssh) = (vpn.cluster.lab.clone(), format!("-F {}", vpn.path("config").display()));
    vpn.start("tunnel", &["vpn", "tunnel", "--cluster", &lab, "--via", "vpn-host", "--ssh-args", &ssh], "uses it")?;
    let docker = format!("docker -c {lab}-tunnel");
    let image = make_image(vpn.folder.path())?;
    eventually(SOON, || {
        let nodes = vpn.sh(&format!("{docker} info --format '{{{{.NCPU}}}}'"))?;
        ensure!(nodes.trim() != "0", "no node is there");
        Ok(())
    })?;
    vpn.sh(&format!("{docker} load -i {}", image.display()))?;
    let said = vpn.sh(&format!("{docker} run --rm -h behind.weave.local {IMAGE} hostname"))?;
    ensure!(said.contains("behind"), "a container in the foreground said {said:?}");
    for name in ["behind-a", "behind-b"] {
        vpn.sh(&format!("{docker} run -d --name {name} {IMAGE} sleep 100000"))?;
    }
    eventually(SOON, || vpn.sh(&format!("{docker} exec behind-a ping -c 2 behind-b")).map(drop))
}

fn through_the_proxy(vpn: &mut Vpn<'_>) -> Result<()> {
    let (lab, ssh) = (vpn.cluster.lab.clone(), format!("-F {}", vpn.path("config").display()));
    vpn.start("proxy", &["vpn", "proxy", "-D", "8888", "vpn-host", "--ssh-args", &ssh], ": connected")?;
    let docker = format!("HTTPS_PROXY=socks5://127.0.0.1:8888 docker -c {lab}");
    let listed = vpn.sh(&format!("{docker} ps"))?;
    ensure!(listed.contains("behind-a") && listed.contains("behind-b"), "not listed through the proxy:\n{listed}");
    vpn.sh(&format!("{docker} rm -f behind-a behind-b")).map(drop)
}

impl<'a> Vpn<'a> {
    /// Makes both, with an sshd at the VPN's host that lets in `root` and `vpn-user`.
    pub(crate) fn make(cluster: &'a Cluster) -> Result<Self> {
        let id = std::process::id();
        let (operator, gate) = (format!("osier-e2e-{id}-op"), format!("osier-e2e-{id}-vpn"));
        let mut cleaner = Command::new("sh");
        cleaner.args(["-c", CLEAN, &outside(), &operator, &gate]).stdin(Stdio::piped()).process_group(0);
        let cleaner = cleaner.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start the cleaner")?;
        let inventory = fs::read_to_string(cluster.inventory())?;
        let value = |key: &str| {
            let rest = inventory.split(key).nth(1).with_context(|| format!("the inventory has no {key}"))?;
            Ok::<_, anyhow::Error>(rest.lines().next().unwrap_or_default().trim_matches('\'').to_owned())
        };
        let node: Ipv4Addr = value("ansible_ssh_host=")?.parse()?;
        let folder = tempfile::tempdir()?;
        // Whoever logs in reads which keys are theirs.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let config = folder.path().join("config");
        let args = value("ansible_ssh_common_args=")?;
        let through = format!("ProxyCommand='ssh -F {} -W %h:%p vpn-host'", config.display());
        let way = format!("ansible_ssh_common_args=\"{args} -o {through}\"");
        let mut vpn = Self { cluster, folder, operator, way, cleaner, started: Vec::new() };
        vpn.network(&gate, node)?;
        vpn.serve(&gate)?;
        Ok(vpn)
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The operator is wired to the VPN's host alone, and that to the lab's network.
    fn network(&self, gate: &str, node: Ipv4Addr) -> Result<()> {
        let routed = run("ip", &format!("-o route get {node}"))?;
        let bridge = routed.split_whitespace().skip_while(|w| *w != "dev").nth(1).context("no way to the lab")?;
        let [a, b, c, _] = node.octets();
        let operator = &self.operator;
        let outside = outside();
        for line in [
            format!("netns add {operator}"),
            format!("netns add {gate}"),
            format!("-n {operator} link set lo up"),
            format!("-n {operator} link add vpn type veth peer name op netns {gate}"),
            format!("-n {operator} address add 192.0.2.1/24 dev vpn"),
            format!("-n {operator} link set vpn up"),
            format!("-n {gate} address add 192.0.2.2/24 dev op"),
            format!("-n {gate} link set op up"),
            format!("link add {outside} type veth peer name nodes netns {gate}"),
            format!("link set {outside} master {bridge}"),
            format!("link set {outside} up"),
            format!("-n {gate} address add {a}.{b}.{c}.250/24 dev nodes"),
            format!("-n {gate} link set nodes up"),
        ] {
            run("ip", &line)?;
        }
        Ok(())
    }

    fn serve(&mut self, gate: &str) -> Result<()> {
        let dir = self.folder.path().display().to_string();
        for key in ["host", "key"] {
            run("ssh-keygen", &format!("-q -t ed25519 -N  -f {dir}/{key}"))?;
        }
        let write =
            |name: &str, text: String| fs::write(self.path(name), text).with_context(|| format!("write {name}"));
        write("known", format!("192.0.2.2 {}", fs::read_to_string(self.path("host.pub"))?))?;
        write(
            "config",
            format!(
                "Host vpn-host\n  HostName 192.0.2.2\n  User root\n  IdentityFile {dir}/key\n  IdentitiesOnly yes\n  \
                 UserKnownHostsFile {dir}/known\n"
            ),
        )?;
        write(
            "sshd",
            format!(
                "ListenAddress 192.0.2.2\nHostKey {dir}/host\nPidFile none\nAuthorizedKeysFile {dir}/key.pub\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            ),
        )?;
        let users = fs::read_to_string("/etc/passwd")?;
        write("passwd", format!("{}\nvpn-user:x:64000:64000::/:/bin/sh\n", users.trim_end()))?;
        // Where `sshd` separates its privileges; a system without a running `sshd` lacks it.
        fs::create_dir_all("/run/sshd")?;
        let log = self.path("sshd.log");
        let mut sshd = Command::new("ip");
        sshd.args(["netns", "exec", gate, "sh", "-c", SERVE]).args([self.path("passwd"), self.path("sshd")]);
        self.started.push(sshd.stdin(Stdio::null()).stderr(File::create(&log)?).spawn().context("start sshd")?);
        eventually(SOON, || {
            let said = fs::read_to_string(&log)?;
            ensure!(said.contains("Server listening"), "the VPN's sshd does not listen: {said}");
            Ok(())
        })
    }

    /// A command at the operator's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.operator, program]).stdin(Stdio::null());
        self.cluster.environment(&mut command);
        command
    }

    fn try_osier(&self, args: &[&str]) -> Result<Output> {
        show(&format!("operator$ osier {}", args.join(" ")));
        self.command("osier").args(args).output().context("run osier")
    }

    fn osier(&self, args: &[&str]) -> Result<String> {
        finished(&self.try_osier(args)?)
    }

    fn sh(&self, line: &str) -> Result<String> {
        show(&format!("operator$ {line}"));
        let said = finished(&self.command("sh").args(["-c", line]).output().context("run a shell")?)?;
        show(&said);
        Ok(said)
    }

    /// Starts the binary, once it has said something on standard error.
    fn start(&mut self, name: &str, args: &[&str], text: &str) -> Result<()> {
        show(&format!("operator$ osier {} &", args.join(" ")));
        let log = self.path(&format!("{name}.log"));
        let mut osier = self.command("osier");
        self.started.push(osier.args(args).stderr(File::create(&log)?).spawn().context("start osier")?);
        eventually(SOON, || {
            let said = fs::read_to_string(&log)?;
            ensure!(said.contains(text), "'{text}' is not said: {said}");
            Ok(())
        })?;
        show(&fs::read_to_string(&log)?);
        Ok(())
    }
}

impl Drop for Vpn<'_> {
    fn drop(&mut self) {
        // The commands first, kindly, so that the context of the tunnel goes as well; the VPN's sshd is the first of them.
        for child in self.started.iter_mut().skip(1) {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
        drop(self.cleaner.stdin.take());
        let _ = self.cleaner.wait();
        for child in &mut self.started {
            let _ = child.wait();
        }
    }
}

/// The lab's end of the VPN's link to it.
fn outside() -> String {
    format!("oe{}", std::process::id())
}

fn run(program: &str, line: &str) -> Result<String> {
    let output = Command::new(program).args(line.split(' ')).output();
    finished(&output.with_context(|| format!("run {program} {line}"))?).with_context(|| format!("{program} {line}"))
}

/// What a program said on standard output, if it ended well.
pub(crate) fn finished(output: &Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}
