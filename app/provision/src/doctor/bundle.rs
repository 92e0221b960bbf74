//! The support bundle: what hosts say of themselves, in one archive to hand on, with secrets taken out.
//!
//! Must not collect keys, containers' environments and commands, or images.

use crate::remote::Remote;
use anyhow::{Context, Result};
use osier_doctor::redact;
use osier_ssh::Command;
use std::path::Path;

/// Files of a host in the bundle, and the shell lines that print them.
const FILES: [(&str, &str); 11] = [
    ("system.txt", "cat /etc/os-release; uname -a; uptime; date --iso-8601=seconds"),
    ("resources.txt", "nproc; free -m; df -h; df -i"),
    ("units.txt", "systemctl --no-pager --full status docker osier-plugin.socket osier-agent osier-manager"),
    ("journal.txt", "journalctl --no-pager -o short-iso-precise -n 5000 -u docker -u osier-agent -u osier-manager"),
    ("status.json", "/usr/local/bin/osier status -o json"),
    ("agent.json", "cat /etc/osier/agent.json"),
    ("state.txt", "ls -lR --time-style=full-iso /etc/osier /var/lib/osier"),
    (
        "docker.txt",
        "docker version; docker info; docker network ls; docker ps -a --no-trunc --format '{{.ID}} {{.Image}} {{.Status}} {{.Networks}}'",
    ),
    ("networks.json", "docker network ls -q | xargs -r docker network inspect"),
    (
        "links.txt",
        "ip -d address; ip route; ss -lntup; ip -n osier -d address; ip -n osier neighbour; bridge -n osier fdb",
    ),
    ("rules.txt", "nft list ruleset; iptables-save"),
];

/// Files by their names in the bundle.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// What one host says of itself. What it cannot say is said there.
pub(super) async fn collect(remote: &Remote, secrets: &[String]) -> Files {
    let mut files = Files::new();
    for (name, line) in FILES {
        // Each ends by itself: a host that is to be looked at may hang.
        let script = "exec timeout 60 sh -c \"$1\" 2>&1";
        let command = Command::shell(script, [line]).as_root();
        let text = match remote.ssh.run(&command).await {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => format!("not collected: {:#}\n", anyhow::Error::new(error)),
        };
        files.push((format!("{}/{name}", remote.name), redact(&text, secrets).into_bytes()));
    }
    files
}

/// Writes the archive, readable for nobody else.
pub(super) fn write(path: &Path, files: &Files, now: u64) -> Result<()> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .with_context(|| format!("put '{name}' into the bundle"))?;
    }
    let bytes = archive.into_inner().context("finish the bundle")?;
    Ok(osier_store::write(path, &bytes, osier_store::SECRET)?)
}
