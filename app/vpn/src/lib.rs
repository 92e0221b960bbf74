//! `osier vpn`: a cluster that only a VPN's host reaches, reached through the user's own ssh.
//!
//! Must not know what runs on the cluster. What holds a port open is the system's `ssh`; here it is started, watched, and
//! started again.

mod args;
mod hold;
mod proxy;
mod ssh_config;
mod tunnel;

pub use args::{ProxyArgs, SshConfigArgs, TunnelArgs, VpnCommand};

use osier_ui::{Failure, Ui};

/// Runs one of the commands.
pub async fn run(command: VpnCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        VpnCommand::Proxy(args) => proxy::run(args, ui).await,
        VpnCommand::SshConfig(args) => ssh_config::run(&args, ui),
        VpnCommand::Tunnel(args) => tunnel::run(args, ui).await,
    }
}
