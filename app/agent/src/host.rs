//! What the agent needs from its host: its start counter, keys, resolvers, sockets and interface sizes.

use crate::{config::Config, facts::NodeFact};
use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use osier_dns::{ResolvConf, parse_resolv_conf};
use osier_dockerapi::create::ResolverWishes;
use osier_model::{DNS_ADDRESS, Hostname};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::UnixListener;
use tracing::debug;

/// What VXLAN over IPv4 puts around an Ethernet frame, the frame's own header included: 20 + 8 + 8 + 14 bytes.
const VXLAN_OVERHEAD: u32 = 50;

/// How long the mark counts that Osier is being taken off the host.
const LEAVING: Duration = Duration::from_secs(60);

/// Counts this start: a number larger than at every start before, as far as this disk knows.
pub(crate) fn count_start(path: &Path) -> Result<u64> {
    let next = osier_store::read_state::<u64>(path)?.unwrap_or(0) + 1;
    osier_store::write_state(path, &next, osier_store::PUBLIC)?;
    Ok(next)
}

/// What this agent says of itself.
pub(crate) fn node_fact(starts: u64, config: &Config) -> NodeFact {
    NodeFact {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: starts,
        uid: rand::random(),
        members: config.digest.clone(),
    }
}

/// Whether Osier is being taken off this host. A mark that was left behind soon means nothing any more.
pub(crate) fn is_leaving(mark: &Path) -> bool {
    let made = fs::metadata(mark).and_then(|mark| mark.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < LEAVING))
}

/// Reads the cluster's gossip key: 64 hex digits.
pub(crate) fn gossip_key(path: &Path) -> Result<[u8; 32]> {
    let text = osier_store::read(path)?.with_context(|| format!("there is no '{}'", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key)
        .with_context(|| format!("'{}' is not a gossip key of 64 hex digits", path.display()))?;
    Ok(key)
}

/// The host's resolvers and search domains; without the file there are none.
pub(crate) fn resolv_conf() -> ResolvConf {
    let text = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"].iter().find_map(|p| fs::read_to_string(p).ok());
    parse_resolv_conf(&text.unwrap_or_default())
}

/// Writes the resolver configuration that containers get.
pub(crate) fn write_resolv_conf(path: &Path, domain: &Hostname, host: &ResolvConf) -> Result<()> {
    let search: Vec<&str> = std::iter::once(domain.as_str()).chain(host.search.iter().map(String::as_str)).collect();
    let text = format!("nameserver {DNS_ADDRESS}\nsearch {}\n", search.join(" "));
    // Containers have the file itself mounted, so it is replaced only when it has to say something else.
    if osier_store::read(path)?.as_deref() != Some(text.as_bytes()) {
        osier_store::write(path, text.as_bytes(), osier_store::PUBLIC)?;
    }
    Ok(())
}

/// The resolver file for a container with wishes of its own about it, next to the one that the others get. Equal wishes
/// share a file; it stays, because a container may have it mounted for as long as it exists.
pub(crate) fn own_resolv_conf(shared: &Path, wishes: &ResolverWishes) -> Result<PathBuf, osier_store::Error> {
    let text = osier_store::read(shared)?.unwrap_or_default();
    let text = wished(&String::from_utf8_lossy(&text), wishes);
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let path = shared.with_file_name(format!("resolv-{:016x}.conf", hasher.finish()));
    if osier_store::read(&path)?.as_deref() != Some(text.as_bytes()) {
        osier_store::write(&path, text.as_bytes(), osier_store::PUBLIC)?;
    }
    Ok(path)
}

fn wished(shared: &str, wishes: &ResolverWishes) -> String {
    let kept = shared.lines().filter(|line| wishes.search.is_empty() || !line.starts_with("search "));
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    if !(wishes.search.is_empty() || wishes.search == ["."]) {
        lines.push(format!("search {}", wishes.search.join(" ")));
    }
    if !wishes.options.is_empty() {
        lines.push(format!("options {}", wishes.options.join(" ")));
    }
    lines.join("\n") + "\n"
}

/// The address that engines are told is the gateway: the last of the pool, on every node the same. Nothing listens
/// there and no container routes through it, but an engine insists on one.
pub(crate) fn gateway(pool: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(pool.broadcast()).saturating_sub(1))
}

/// The overlay's MTU: that of the interface which has `address`, less the encapsulation.
pub(crate) fn overlay_mtu(address: Ipv4Addr) -> Result<u32> {
    let mut interfaces = nix::ifaddrs::getifaddrs().context("list the interfaces")?;
    let ours =
        interfaces.find(|i| i.address.as_ref().and_then(|a| a.as_sockaddr_in()).is_some_and(|a| a.ip() == address));
    let Some(interface) = ours else { bail!("no interface of this host has its cluster address {address}") };
    let path = format!("/sys/class/net/{}/mtu", interface.interface_name);
    let mtu: u32 = fs::read_to_string(&path).with_context(|| format!("read '{path}'"))?.trim().parse()?;
    Ok(mtu.saturating_sub(VXLAN_OVERHEAD))
}

/// The subnets that this host has routes to, the default route left out.
pub(crate) fn routes() -> Vec<Ipv4Net> {
    crate::setup::parse_routes(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// The plugin socket: the one systemd holds open for us, else one of our own.
pub(crate) fn plugin_socket(path: &Path) -> Result<UnixListener> {
    match listenfd::ListenFd::from_env().take_unix_listener(0).context("take the plugin socket from systemd")? {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            Ok(UnixListener::from_std(listener)?)
        }
        None => unix_socket(path),
    }
}

/// Listens on a unix socket of mode 0600, in place of one left behind.
pub(crate) fn unix_socket(path: &Path) -> Result<UnixListener> {
    let doing = || format!("listen on '{}'", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(doing)?;
    }
    osier_store::remove(path)?;
    let listener = UnixListener::bind(path).with_context(doing)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(doing)?;
    Ok(listener)
}

/// Tells systemd, if it is there.
pub(crate) fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        debug!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incarnation");
        assert_eq!(count_start(&path).unwrap(), 1);
        assert_eq!(count_start(&path).unwrap(), 2);
    }

    #[test]
    fn wishes_about_the_resolver_are_a_file_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("resolv.conf");
        write_resolv_conf(&shared, &Hostname::default_domain(), &ResolvConf::default()).unwrap();
        let own = |search: &[&str], options: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
            let wishes = ResolverWishes { search: words(search), options: words(options) };
            let path = own_resolv_conf(&shared, &wishes).unwrap();
            (fs::read_to_string(&path).unwrap(), path)
        };
        let (text, path) = own(&["example.org", "b.example"], &["ndots:2"]);
        assert_eq!(text, "nameserver 169.254.53.53\nsearch example.org b.example\noptions ndots:2\n");
        assert_eq!(own(&["example.org", "b.example"], &["ndots:2"]).1, path, "equal wishes share a file");
        assert_eq!(own(&["."], &[]).0, "nameserver 169.254.53.53\n");
        assert_eq!(own(&[], &["timeout:1"]).0, "nameserver 169.254.53.53\nsearch weave.local\noptions timeout:1\n");
    }

    #[test]
    fn containers_search_the_zone_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let host = parse_resolv_conf("nameserver 10.64.1.1\nsearch openstacklocal\n");
        write_resolv_conf(&path, &Hostname::default_domain(), &host).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "nameserver 169.254.53.53\nsearch weave.local openstacklocal\n");
    }

    #[test]
    fn the_gateway_is_the_last_host_of_the_pool() {
        assert_eq!(gateway("10.1.1.0/24".parse().unwrap()), Ipv4Addr::new(10, 1, 1, 254));
    }
}
