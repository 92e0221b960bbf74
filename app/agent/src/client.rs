//! The commands that ask the local agent: `osier status` and `weave status`.

use crate::{
    dns_command::{WeaveNames, weave_add, weave_lookup, weave_remove},
    exposure::run_expose,
    status::Status,
    weave,
};
use http::Method;
use osier_engine::Client;
use osier_model::config::path;
use osier_ui::{ExitKind, Failure, FailureExt, Table, Ui};

/// Answers as Weave Net's command did. Run it on a node.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  weave status\n  ssh datalyse-master weave status\n  weave dns-add 192.0.2.7 -h oracle.weave.local"
)]
pub struct WeaveArgs {
    #[command(subcommand)]
    command: WeaveCommand,
}

#[derive(Debug, clap::Subcommand)]
enum WeaveCommand {
    /// Shows the router, its peers and routes, addresses and DNS.
    Status,
    /// Sets a name for addresses or for a container: [ADDRESS…] CONTAINER [-h FQDN], or ADDRESS… -h FQDN.
    #[command(
        disable_help_flag = true,
        after_help = "Examples:\n  weave dns-add 192.0.2.7 -h oracle.weave.local\n  weave dns-add web-1 -h shop.weave.local"
    )]
    DnsAdd(WeaveNames),
    /// Removes names that were set with 'dns-add', on whichever node: [ADDRESS…] CONTAINER [-h FQDN], or ADDRESS… -h FQDN.
    #[command(
        disable_help_flag = true,
        after_help = "Examples:\n  weave dns-remove 192.0.2.7 -h oracle.weave.local\n  weave dns-remove web-1"
    )]
    DnsRemove(WeaveNames),
    /// Prints the addresses of a name, one per line, as a container would be answered.
    #[command(after_help = "Examples:\n  weave dns-lookup oracle\n  weave dns-lookup www.example.org")]
    DnsLookup {
        /// The name; without dots it is looked up in the domain.
        name: String,
    },
    /// Puts this host on the overlay and prints its address there.
    Expose,
    /// Takes this host off the overlay.
    Hide,
    /// Says how a node joins the network: the operator brings it.
    Connect(WeavePeers),
    /// Says how a node leaves the network: the operator removes it.
    Forget(WeavePeers),
    /// Says how the addresses of a dead node come to others: the operator names its heir.
    #[command(name = "rmpeer")]
    RmPeer(WeavePeers),
    /// Prints the version.
    Version,
}

/// Peers, as Weave Net's commands took them.
#[derive(Debug, Clone, clap::Args)]
struct WeavePeers {
    /// Names, addresses or identities.
    #[arg(value_name = "PEER", allow_hyphen_values = true, trailing_var_arg = true)]
    _peers: Vec<String>,
}

/// What to do where the agent does not answer.
pub(crate) const NO_AGENT: &str =
    "run this on a node, as root; 'systemctl status osier-agent' says whether the agent runs";

/// `osier status`.
pub async fn run_status(ui: &Ui) -> Result<(), Failure> {
    let status = ask().await?;
    if ui.is_json() {
        ui.json(&status);
    } else {
        ui.line(render(&status));
    }
    Ok(())
}

/// `weave …`.
pub async fn run_weave(args: WeaveArgs, ui: &Ui) -> Result<(), Failure> {
    match args.command {
        WeaveCommand::Status => {
            let status = ask().await?;
            ui.raw(weave::status(&status).as_bytes());
        }
        WeaveCommand::DnsAdd(names) => weave_add(names).await?,
        WeaveCommand::DnsRemove(names) => weave_remove(names, ui).await?,
        WeaveCommand::DnsLookup { name } => weave_lookup(name, ui).await?,
        WeaveCommand::Expose => run_expose(true, ui).await?,
        WeaveCommand::Hide => run_expose(false, ui).await?,
        WeaveCommand::Connect(_) => {
            let failure =
                Failure::usage("who belongs to the network is the operator's to say, and every node knows all others");
            return Err(failure.hint("put the host into the inventory and run 'osier site' where the cluster was made"));
        }
        WeaveCommand::Forget(_) | WeaveCommand::RmPeer(_) => {
            let failure = Failure::usage("who belongs to the network is the operator's to say");
            return Err(failure.hint(
                "'osier node rm NODE', where the cluster was made, removes a node and names the heir of its addresses",
            ));
        }
        WeaveCommand::Version => ui.line(format_args!("weave script {0}\nweave {0}", env!("CARGO_PKG_VERSION"))),
    }
    Ok(())
}

async fn ask() -> Result<Status, Failure> {
    let asked = Client::unix(path::AGENT_SOCKET).json(Method::GET, "/v1/status", None).await;
    let asked = asked.map_err(|e| Failure::new(ExitKind::Failed, anyhow::Error::new(e).context("ask the agent")));
    asked.hint(NO_AGENT)
}

fn render(s: &Status) -> String {
    let yes = |b: bool| if b { "yes" } else { "no" };
    let mut out = format!("Cluster:   {}\nNode:      {} ({})\n", s.cluster, s.name_of(s.me), s.me);
    let engine = match (&s.engine_problem, s.ready) {
        (Some(problem), _) => format!("away ({problem})"),
        (None, true) => "ready".to_owned(),
        (None, false) => "being set up".to_owned(),
    };
    out += &format!("Engine:    {engine}\n");
    let network = &s.network;
    let overlay = match (&network.problem, &network.bridge) {
        (Some(problem), _) => format!("failing ({problem})"),
        (None, None) => "being set up".to_owned(),
        (None, Some(b)) => {
            format!(
                "{} (VNI {}, MTU {}, encryption {})",
                b.name,
                network.vni,
                network.mtu,
                if network.encrypted { "on" } else { "off" }
            )
        }
    };
    let host = network.host_address.map_or_else(|| "none yet".to_owned(), |a| a.to_string());
    out += &format!("Overlay:   {overlay}, this host is {host}\n");
    let a = &s.addresses;
    out += &format!("Addresses: {}, {} here, {} in use here\n", a.range, a.mine, a.in_use);
    if a.frozen > 0 {
        let who = match a.frozen_until.as_slice() {
            [] => "their heir has heard of all others".to_owned(),
            nodes => format!("{} can be asked", nodes.join(", ")),
        };
        out += &format!("           {} of removed nodes, frozen until {who}\n", a.frozen);
    }
    if a.unreachable > 0 {
        out += &format!("           {} of nodes that do not answer\n", a.unreachable);
    }
    if let Some(conflict) = &a.conflict {
        out += &format!("           CONFLICT: {conflict}\n");
    }
    for n in &s.networks {
        let (a, b) = (&n.addresses, n.subnet);
        out += &format!("Network:   {} {b} (VNI {}), {} here, {} in use here\n", n.name, n.vni, a.mine, a.in_use);
        if let Some(conflict) = &a.conflict {
            out += &format!("           CONFLICT: {conflict}\n");
        }
    }
    for problem in &s.network_problems {
        out += &format!("           PROBLEM: {problem}\n");
    }
    out += &format!("DNS:       {} at {}, {} names\n\n", s.dns.domain, s.dns.address, s.dns.entries.len());
    let mut peers = Table::new(&["NODE", "PEER", "ADDRESS", "ALIVE", "ADDRESSES", "LINKS", "VERSION"]);
    for peer in &s.peers {
        let owned = a.owned.iter().find(|(p, _)| *p == peer.peer).map_or(0, |(_, n)| *n);
        let links = peer.links.iter().filter(|l| l.established).count();
        let version = peer.version.clone().unwrap_or_default();
        peers.row([
            peer.name.to_string(),
            peer.peer.to_string(),
            peer.address.to_string(),
            yes(peer.alive).to_owned(),
            owned.to_string(),
            links.to_string(),
            version,
        ]);
    }
    out += &format!("{peers}\n");
    for r in &s.reconnects {
        out += &format!("no link to {} at {}: {}\n", s.name_of(r.peer), r.address, r.problem);
    }
    let mut names = Table::new(&["NAME", "ADDRESS", "CONTAINER", "NODE"]);
    for e in &s.dns.entries {
        let short = e.container.get(..12).unwrap_or(&e.container).to_owned();
        names.row([e.name.to_string(), e.address.to_string(), short, s.name_of(e.node)]);
    }
    if !s.dns.entries.is_empty() {
        out += &format!("\n{names}\n");
    }
    out.trim_end().to_owned()
}
