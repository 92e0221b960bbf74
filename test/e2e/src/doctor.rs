//! `osier doctor` on a cluster that is well, and on one that is not; and its bundle, which has no secret in it.

use crate::{Cluster, eventually};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// How long the cluster may take to notice a change.
const SOON: Duration = Duration::from_secs(60);
/// The node whose agent is stopped.
const SICK: &str = "datalyse-1";

/// On a cluster in which everything works.
pub fn all(cluster: &Cluster) -> Result<()> {
    eventually(SOON, || {
        let findings = look(cluster, 0, &[])?;
        ensure!(findings.is_empty(), "a healthy cluster has findings: {findings:?}");
        Ok(())
    })?;
    cluster.on(SICK, "systemctl stop osier-plugin.socket osier-agent")?;
    let found = eventually(SOON, || {
        let findings = look(cluster, 3, &[])?;
        for (what, host) in [
            ("osier-agent.service is inactive", Value::from(SICK)),
            ("its agent does not answer", Value::from(SICK)),
            ("datalyse-1 does not answer any other node in the mesh", Value::Null),
        ] {
            let fits = |f: &Value| f["what"].as_str().is_some_and(|w| w.starts_with(what)) && f["host"] == host;
            ensure!(findings.iter().any(fits), "no '{what}' in {findings:?}");
        }
        Ok(())
    })
    .and_then(|()| bundle(cluster));
    cluster.on(SICK, "systemctl start osier-plugin.socket osier-agent")?;
    found?;
    eventually(SOON, || {
        let findings = look(cluster, 0, &[])?;
        ensure!(findings.is_empty(), "findings of what was mended: {findings:?}");
        Ok(())
    })
}

/// The findings, where it ends with this code.
fn look(cluster: &Cluster, code: i32, more: &[&str]) -> Result<Vec<Value>> {
    let inventory = cluster.inventory().display().to_string();
    let output = cluster.try_osier(&[&["doctor", "-i", &inventory, "-o", "json"], more].concat())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "'osier doctor' ended with {}: {text}{said}", output.status);
    let value: Value = serde_json::from_str(&text).context("read 'osier doctor -o json'")?;
    Ok(value["findings"].as_array().context("no findings")?.clone())
}

fn bundle(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("support.tar");
    look(cluster, 3, &["--bundle", &path.display().to_string()])?;
    let bytes = std::fs::read(&path)?;
    let text = String::from_utf8_lossy(&bytes);
    for name in ["findings.json", "datalyse-2/journal.txt", "datalyse-1/units.txt", "datalyse-master/networks.json"] {
        ensure!(text.contains(name), "the bundle has no '{name}'");
    }
    let secrets =
        ["cat /etc/osier/gossip.key", "sed -n 's/.*\"token\": *\"\\(.*\\)\".*/\\1/p' /etc/osier/manager.json"];
    for secret in secrets {
        let secret = cluster.on("datalyse-master", secret)?;
        ensure!(secret.trim().len() >= 32, "'{secret}' is no secret");
        ensure!(!text.contains(secret.trim()), "a secret is in the bundle");
    }
    ensure!(!text.contains("PRIVATE KEY"), "a key is in the bundle");
    Ok(())
}
