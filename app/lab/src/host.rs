//! What a lab has to know about the host it is made on.
//!
//! Must not change anything.

use crate::{
    apt::{self, Source},
    command::{command, run},
    docker::Docker,
    release::CgroupVersion,
    subnet,
};
use anyhow::{Context, Result, ensure};
use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// How packages get to this host.
#[derive(Debug)]
pub(crate) struct Packages {
    /// The host's release (`VERSION_CODENAME` of os-release(5)).
    pub(crate) codename: String,
    /// All its sources.
    pub(crate) sources: Vec<Source>,
    /// How it fetches from them.
    pub(crate) settings: Vec<String>,
}

/// Fails unless this process may make hosts out of containers.
pub(crate) fn require_root() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "make hosts on this machine: only root can (run it with sudo)");
    Ok(())
}

/// Which control groups the kernel shows; a host with both shows systemd the first.
pub(crate) fn cgroup_version() -> CgroupVersion {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if unified { CgroupVersion::V2 } else { CgroupVersion::V1 }
}

/// Every IPv4 network that this host or its engine has a use for.
pub(crate) async fn networks(docker: &Docker) -> Result<Vec<Ipv4Net>> {
    let doing = "list the routes of this host";
    let routes = run(command("ip").args(["-4", "-json", "route", "show", "table", "all"])).await.context(doing)?;
    let mut networks = subnet::destinations(&serde_json::from_str(&routes).context(doing)?);
    networks.extend(docker.subnets().await.context("list the networks of the engine")?);
    Ok(networks)
}

/// The largest packet that leaves this host unfragmented: what a node must not exceed either. At most 1500.
pub(crate) async fn mtu() -> u32 {
    const ETHERNET: u32 = 1500;
    let route = run(command("ip").args(["-4", "-json", "route", "show", "default"])).await.unwrap_or_default();
    let route: serde_json::Value = serde_json::from_str(&route).unwrap_or_default();
    let device = route.get(0).and_then(|row| row.get("dev")?.as_str());
    let mtu = device.and_then(|dev| fs::read_to_string(format!("/sys/class/net/{dev}/mtu")).ok());
    mtu.and_then(|text| text.trim().parse().ok()).map_or(ETHERNET, |mtu: u32| mtu.min(ETHERNET))
}

/// Reads the host's package sources and how it fetches from them.
pub(crate) async fn packages() -> Result<Packages> {
    let codename = os_release().remove("VERSION_CODENAME").unwrap_or_default();
    let mut sources = Vec::new();
    for path in source_files()? {
        let text = fs::read_to_string(&path).with_context(|| format!("read '{}'", path.display()))?;
        let deb822 = path.extension().is_some_and(|e| e == "sources");
        sources.extend(if deb822 { apt::parse_deb822(&text) } else { apt::parse_one_line(&text) });
    }
    let dump = run(command("apt-config").arg("dump")).await.context("read the settings of apt")?;
    let mut settings = apt::fetch_settings(&dump);
    for (scheme, variable) in [("http", "http_proxy"), ("https", "https_proxy")] {
        let name = format!("Acquire::{scheme}::Proxy");
        if let Some(proxy) = std::env::var(variable).ok().filter(|v| !v.is_empty() && !v.contains(['"', '\n']))
            && apt::setting(&settings, &name).is_none()
        {
            settings.push(format!("{name} \"{proxy}\";"));
        }
    }
    Ok(Packages { codename, sources, settings })
}

/// The variables of os-release(5), unquoted.
pub(crate) fn os_release() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned())).collect()
}

fn source_files() -> Result<Vec<PathBuf>> {
    let main = PathBuf::from("/etc/apt/sources.list");
    let mut files: Vec<PathBuf> = main.exists().then_some(main).into_iter().collect();
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.retain(|path| path.extension().is_some_and(|e| e == "list" || e == "sources"));
        more.sort();
        files.extend(more);
    }
    Ok(files)
}
