//! Where the manager listens: `[tcp://]ADDRESS:PORT` or `unix://PATH`.

use anyhow::Context;
use osier_discovery::Entry;
use osier_engine::{resolve, server::Listener};
use osier_ui::{ExitKind, Failure};
use rustls::ServerConfig;
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};
use tokio::net::{TcpListener, UnixListener};
use tracing::info;

/// The port that an engine on the same machine may have taken.
const ENGINE_PORT: u16 = 2375;

/// Opens one listener. An empty host means every address of this machine.
pub(crate) async fn listen(host: &str, tls: Option<&Arc<ServerConfig>>) -> Result<Listener, Failure> {
    let listener = match host.split_once("://").unwrap_or(("tcp", host)) {
        ("unix", path) => Ok(unix(path)?),
        ("tcp", address) => {
            let socket = match address.strip_prefix(':') {
                Some(port) => everywhere(port, host).await?,
                None => tcp(address, host).await?,
            };
            Ok(match tls {
                Some(tls) => Listener::Tls(socket, tls.clone()),
                None => Listener::Tcp(socket),
            })
        }
        (other, _) => Err(Failure::usage(format!("unsupported protocol: {other:?}"))),
    };
    info!(addr = host, "Listening for HTTP");
    listener
}

fn unix(path: &str) -> Result<Listener, Failure> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let message = format!("listen on unix://{path}: somebody answers there already");
        return Err(Failure::message_only(ExitKind::Failed, message));
    }
    // A socket file left by a manager that was killed would be in the way.
    osier_store::remove(Path::new(path)).map_err(anyhow::Error::from)?;
    let listener = UnixListener::bind(path).with_context(|| format!("listen on unix://{path}"))?;
    let private = std::fs::Permissions::from_mode(osier_store::SECRET);
    std::fs::set_permissions(path, private).with_context(|| format!("protect '{path}'"))?;
    Ok(Listener::Unix(listener))
}

async fn tcp(address: &str, host: &str) -> Result<TcpListener, Failure> {
    let entry: Entry = address.parse().map_err(Failure::usage)?;
    let address = resolve(entry.host(), entry.port()).await;
    let address = address.map_err(|e| anyhow::anyhow!("{e}")).with_context(|| format!("resolve '{host}'"))?;
    TcpListener::bind(address).await.map_err(|e| failed(host, address.port(), e))
}

async fn everywhere(port: &str, host: &str) -> Result<TcpListener, Failure> {
    let number = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
    let port: u16 = number.filter(|p| *p != 0).ok_or_else(|| Failure::usage(format!("'{port}' is not a port")))?;
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(socket) => Ok(socket),
        // The kernel may have no IPv6.
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(failed(host, port, e)),
        Err(_) => {
            let bound = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await;
            bound.map_err(|e| failed(host, port, e))
        }
    }
}

fn failed(host: &str, port: u16, error: io::Error) -> Failure {
    if error.kind() != io::ErrorKind::AddrInUse {
        return Failure::from(anyhow::Error::new(error).context(format!("listen on {host}")));
    }
    let mut message = format!("listen on {host}: address already in use");
    if port == ENGINE_PORT {
        message.push_str(": is Docker already running on this machine? Try using a different port");
    }
    Failure::message_only(ExitKind::Failed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listeners_are_named_as_the_classic_named_them() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let url = format!("unix://{}", socket.display());
        for _ in 0..2 {
            // The second one finds the first one's file.
            assert!(matches!(listen(&url, None).await, Ok(Listener::Unix(_))));
        }
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        for bad in ["tcp://:0", "tcp://:x", "tcp://127.0.0.1", "npipe:///x"] {
            assert!(listen(bad, None).await.is_err(), "{bad}");
        }
        let refused = listen("fd://x", None).await.err().unwrap().message();
        assert_eq!(refused, "unsupported protocol: \"fd\"");
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("tcp://{}", taken.local_addr().unwrap());
        let message = listen(&host, None).await.err().unwrap().message();
        assert!(message.ends_with("address already in use"), "{message}");
        let hint = failed("x", ENGINE_PORT, io::ErrorKind::AddrInUse.into()).message();
        assert!(hint.ends_with("Try using a different port"), "{hint}");
    }
}
