//! Host names to addresses without `getaddrinfo`, which a static binary must not call: it loads the host's modules.

use crate::body::BoxError;
use hickory_resolver::TokioResolver;
use std::net::{IpAddr, SocketAddr};

/// The address of `host:port`: a literal, a line of the hosts file, or what the system's resolvers say (IPv4 first).
pub async fn resolve(host: &str, port: u16) -> Result<SocketAddr, BoxError> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok((address, port).into());
    }
    let resolver = TokioResolver::builder_tokio()?.build()?;
    let found: Vec<IpAddr> = resolver.lookup_ip(host).await?.iter().collect();
    let best = found.iter().find(|a| a.is_ipv4()).or(found.first());
    best.map(|a| (*a, port).into()).ok_or_else(|| format!("'{host}' has no address").into())
}
