//! `osier vpn proxy`: a SOCKS proxy on this machine whose connections start at the VPN's host.

use crate::{ProxyArgs, hold::hold};
use osier_ssh::Forwarding;
use osier_ui::{Failure, Ui};

/// Holds the proxy open until it is stopped.
pub(crate) async fn run(args: ProxyArgs, ui: &Ui) -> Result<(), Failure> {
    let target = args.ssh.target(&args.via)?;
    let port = args.port;
    let good = async || Ok(format!("SOCKS proxy on 127.0.0.1:{port}"));
    hold(&args.via.to_string(), &target, Forwarding::Socks { port }, good, ui).await
}
