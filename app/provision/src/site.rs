//! The commands that make hosts what they shall be: bootstrap, setup-cluster, site and destroy.
//!
//! Must not know what the steps on a host are. Order: read everything, ask every host (preflight), keep what was decided,
//! and only then touch hosts; a host that fails is left behind and the others carry on.

use crate::{
    apt_key,
    args::{BootstrapArgs, ChangeArgs, DestroyArgs, EngineArgs, HostArgs, SetupClusterArgs, SiteArgs},
    bundle::Offline,
    cluster::{Cluster, NodeIdentity},
    context::{self, DockerContext},
    documents::{self, Ports},
    fleet::Stop,
    home::{Home, Record},
    inventory,
    preflight::{Needs, Report},
    recap::Outcome,
    remote::{self, Remote},
    run::Run,
    settings::{self, ClusterSettings, NodeSettings},
};
use osier_converge::{Desired, Digest};
use osier_inventory::Inventory;
use osier_members::State;
use osier_model::NodeName;
use osier_ui::{ExitKind, Failure, Ui};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// What a run does about engines and the program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bootstrap<'a> {
    /// Nothing: hosts are prepared already.
    Done,
    /// Packages come from sources that the hosts reach.
    Online,
    /// Packages come from this bundle.
    Offline(&'a Path),
}

impl<'a> Bootstrap<'a> {
    fn of(args: &'a EngineArgs) -> Self {
        args.offline.as_deref().map_or(Self::Online, Self::Offline)
    }
}

/// Prepares hosts.
pub async fn run_bootstrap(args: BootstrapArgs, ui: &Ui) -> Result<(), Failure> {
    Stop::listen()?.or(build(&args.hosts, &args.change, Bootstrap::of(&args.engine), false, ui)).await
}

/// Makes a cluster of prepared hosts.
pub async fn run_setup_cluster(args: SetupClusterArgs, ui: &Ui) -> Result<(), Failure> {
    Stop::listen()?.or(build(&args.hosts, &args.change, Bootstrap::Done, true, ui)).await
}

/// Prepares hosts and makes a cluster of them.
pub async fn run_site(args: SiteArgs, ui: &Ui) -> Result<(), Failure> {
    Stop::listen()?.or(build(&args.hosts, &args.change, Bootstrap::of(&args.engine), true, ui)).await
}

/// Takes everything away again.
pub async fn run_destroy(args: DestroyArgs, ui: &Ui) -> Result<(), Failure> {
    let inventory = inventory::read(&args.hosts.from, ui)?;
    let (settings, nodes) = settings::read(&inventory)?;
    let hosts = inventory::select(&inventory, args.hosts.limit.as_deref())?;
    let names = hosts.iter().map(|h| h.name()).collect::<Vec<_>>().join(", ");
    let question = format!("Remove Osier from {names}? Containers lose its network.");
    if !(args.yes || args.change.check || ui.confirm(&question)) {
        return Err(Failure::usage("destroy nothing without a yes").hint("'--yes' says so beforehand"));
    }
    let home = Home::from_env()?;
    let known = home.cluster(&settings.name).exists();
    let now = OffsetDateTime::now_utc();
    let cluster = if known { Some(Cluster::open(&home, &settings, !args.change.check, now)?) } else { None };

    let run = Run::begin(&args.hosts, &args.change, remote::remotes(&hosts)?, ui)?;
    let stop = Stop::listen()?;
    let reports = stop.or(async { Ok(run.preflight().await) }).await?;
    let are = cluster.as_ref().map(|cluster| {
        let seen = reports.iter().filter_map(|(remote, report)| {
            Some((*remote, nodes.iter().find(|n| n.name.as_str() == remote.name)?, report.as_ref().ok()?))
        });
        members_of(cluster, &names_of(&nodes), seen)
    });
    let are = are.unwrap_or_default();
    let mut cluster = cluster.filter(|_| !args.change.check);
    if let Some(cluster) = &mut cluster {
        cluster.leave(are.values());
        cluster.save()?;
    }
    let outcomes = stop.or(run.clear(reports, args.purge, None)).await?;
    if let Some(cluster) = cluster {
        forget(cluster, &outcomes, &are, ui)?;
    }
    run.finish(Vec::new(), outcomes, ui).await
}

/// Takes Osier off hosts of a cluster that may be out of reach; says so where they are, and gives what became of the others.
pub(crate) async fn clear(
    inventory: &Inventory,
    hosts: &HostArgs,
    change: &ChangeArgs,
    cluster: &Cluster,
    ui: &Ui,
) -> Result<Vec<(String, Outcome)>, Failure> {
    let selected = inventory::select(inventory, hosts.limit.as_deref())?;
    let run = Run::begin(hosts, change, remote::remotes(&selected)?, ui)?;
    let ca = Digest::of(cluster.ca_pem().as_bytes());
    let mut outcomes: Vec<_> = run.clear(run.preflight().await, false, Some(ca)).await?.into_iter().collect();
    remote::close(run.remotes).await;
    drop(run.progress);
    outcomes.retain(|(host, outcome)| {
        let Outcome::Failed(failure) = outcome else { return true };
        ui.warn(format_args!(
            "Osier is still on {host}: {}; once that is mended, 'osier destroy -l {host}' takes it off",
            failure.whole()
        ));
        false
    });
    Ok(outcomes)
}

/// Makes the selected hosts what the inventory says.
async fn build(
    hosts: &HostArgs,
    change: &ChangeArgs,
    bootstrap: Bootstrap<'_>,
    cluster: bool,
    ui: &Ui,
) -> Result<(), Failure> {
    let inventory = inventory::read(&hosts.from, ui)?;
    let cluster = if cluster {
        let (settings, _) = settings::read(&inventory)?;
        settings::judge_ports(&settings)?;
        Some(Cluster::open(&Home::from_env()?, &settings, !change.check, OffsetDateTime::now_utc())?)
    } else {
        None
    };
    make(&inventory, hosts, change, bootstrap, cluster, Vec::new(), ui).await
}

/// Makes the selected hosts what the inventory says, as members of a cluster where there is one. `before` is what was done
/// on other hosts in the same run.
pub(crate) async fn make(
    inventory: &Inventory,
    hosts: &HostArgs,
    change: &ChangeArgs,
    bootstrap: Bootstrap<'_>,
    mut cluster: Option<Cluster>,
    before: Vec<(String, Outcome)>,
    ui: &Ui,
) -> Result<(), Failure> {
    let (settings, nodes) = settings::read(inventory)?;
    let selected = inventory::select(inventory, hosts.limit.as_deref())?;
    let remotes = remote::remotes(&selected)?;
    let keys = if let Bootstrap::Online = bootstrap { apt_keys(&nodes)? } else { BTreeMap::new() };
    let offline = if let Bootstrap::Offline(path) = bootstrap { Some(Offline::open(path)?) } else { None };
    let bootstrap = !matches!(bootstrap, Bootstrap::Done);
    let now = OffsetDateTime::now_utc();
    if cluster.is_some() {
        settings::unused(inventory).iter().for_each(|unused| ui.warn(unused));
        settings::misspelt(inventory).iter().for_each(|name| ui.warn(name));
    }
    let mut run = Run::begin(hosts, change, remotes, ui)?;
    run.offline = offline;
    let listed = names_of(&nodes);
    let nodes: BTreeMap<&str, &NodeSettings> = nodes.iter().map(|n| (n.name.as_str(), n)).collect();

    let mut outcomes = BTreeMap::new();
    let mut passed = Vec::new();
    for (remote, report) in run.preflight().await {
        let node = nodes.get(remote.name.as_str()).copied();
        let judged = report.and_then(|report| {
            let needs = Needs {
                machine: run.program.machine.clone(),
                installs_engine: bootstrap,
                lacking: node
                    .zip(run.offline.as_ref())
                    .and_then(|(node, bundle)| bundle.judge(&node.docker, &report.os, &report.target())),
                cluster: cluster.as_ref().map(|c| c.needs(node.and_then(|n| n.internal))),
            };
            report.judge(&remote.name, &needs).map(|()| report)
        });
        match (judged, node) {
            (Ok(report), Some(node)) => {
                report.warnings().iter().for_each(|(w, _)| ui.warn(format_args!("{}: {w}", remote.name)));
                passed.push((remote, node.clone(), report));
            }
            (Err(failure), _) => drop(outcomes.insert(remote.name.clone(), run.failed(&remote.name, failure))),
            (Ok(_), None) => {}
        }
    }
    if let Some(cluster) = cluster.as_mut() {
        say_names(cluster, &listed, &mut passed, ui);
        for (host, failure) in admit(cluster, &mut passed, &settings, now)? {
            outcomes.insert(host.clone(), run.failed(&host, failure));
        }
        if !change.check && !passed.is_empty() {
            cluster.save()?;
        }
    }
    let mut ready = Vec::new();
    for (remote, node, report) in passed {
        let mut desired = Desired::default();
        let program = run.program.sha256;
        if bootstrap {
            let key = node.docker.key.as_ref().and_then(|path| keys.get(path)).map(String::as_str);
            let engine = match &run.offline {
                Some(bundle) => bundle.engine(&node.docker, &report.os, &report.target())?,
                None => documents::engine(&node.docker, key, &report.os)?,
            };
            documents::bootstrap(&mut desired, engine, program, &report.taken)?;
        }
        if let Some(cluster) = &cluster {
            let ports = Ports { manager: settings.manager_port, proxy: settings.proxy_port };
            documents::setup(&mut desired, cluster, &node.name, ports, program, &report.taken)?;
        }
        ready.push((remote, desired, report));
    }
    outcomes.extend(run.deliver(&ready).await);
    if let Some(cluster) = cluster.filter(|_| !change.check) {
        point_docker_at(&cluster, ui)?;
    }
    run.finish(before, outcomes, ui).await
}

/// Reads the keys of all sources of packages; every file that holds none is reported at once.
pub(crate) fn apt_keys(nodes: &[NodeSettings]) -> Result<BTreeMap<PathBuf, String>, Failure> {
    let mut keys = BTreeMap::new();
    let mut mistakes = Vec::new();
    for path in nodes.iter().filter_map(|node| node.docker.key.as_ref()).collect::<BTreeSet<_>>() {
        let file = std::fs::read(remote::expand_home(&path.to_string_lossy())).map_err(|e| e.to_string());
        match file.and_then(|file| apt_key::armored(&file).map_err(|e| e.to_string())) {
            Ok(key) => drop(keys.insert(path.clone(), key)),
            Err(e) => mistakes.push(format!("docker_apt_key '{}': {e}", path.display())),
        }
    }
    match mistakes.as_slice() {
        [] => Ok(keys),
        list => Err(Failure::usage(format!("read the keys of apt's sources:\n  {}", list.join("\n  ")))),
    }
}

/// A host that can become what is wanted, with its settings.
type Passed<'a> = (&'a Remote, NodeSettings, Report);

/// All names of the inventory.
fn names_of(nodes: &[NodeSettings]) -> BTreeSet<NodeName> {
    nodes.iter().map(|node| node.name.clone()).collect()
}

/// The hosts that are members under other names: the members' names by the hosts'.
fn other_names<'a>(
    cluster: &Cluster,
    listed: &BTreeSet<NodeName>,
    seen: impl Iterator<Item = (&'a Remote, &'a NodeSettings, &'a Report)>,
) -> BTreeMap<NodeName, NodeName> {
    let ca = Digest::of(cluster.ca_pem().as_bytes());
    let hosts = seen.map(|seen| as_seen(ca, seen));
    let Record { members, cleared, leaving, .. } = &cluster.record;
    let known = osier_members::known_as(members, &(cleared | leaving), &listed.iter().collect(), hosts);
    known.into_iter().map(|(host, member)| (host.clone(), member.clone())).collect()
}

/// Which member each host is or was, whatever the inventory calls it; those that are none are left out.
fn members_of<'a>(
    cluster: &Cluster,
    listed: &BTreeSet<NodeName>,
    seen: impl Iterator<Item = (&'a Remote, &'a NodeSettings, &'a Report)> + Clone,
) -> BTreeMap<NodeName, NodeName> {
    let ca = Digest::of(cluster.ca_pem().as_bytes());
    let mut members = other_names(cluster, listed, seen.clone());
    for host in seen.map(|seen| as_seen(ca, seen)) {
        if cluster.record.members.iter().any(|m| m.name == *host.name && host.is(m)) {
            members.insert(host.name.clone(), host.name.clone());
        }
    }
    members
}

/// A host as it was seen, to whoever tells members.
fn as_seen<'a>(
    ca: Digest,
    (remote, node, report): (&'a Remote, &'a NodeSettings, &'a Report),
) -> osier_members::Host<'a> {
    let state = match (report.ca, report.peer) {
        (Some(of), peer) if of == ca => State::Ours(peer),
        (None, None) => State::Clean,
        _ => State::Foreign,
    };
    osier_members::Host { name: &node.name, state, address: report.mesh_address(node.internal, remote.address()) }
}

/// Gives hosts that are members under other names the cluster's, and says which members the inventory lacks.
fn say_names(cluster: &Cluster, listed: &BTreeSet<NodeName>, passed: &mut [Passed<'_>], ui: &Ui) {
    let others = other_names(cluster, listed, passed.iter().map(|(remote, node, report)| (*remote, node, report)));
    let is_member = |name: &NodeName| cluster.record.members.iter().any(|m| m.name == *name);
    let is_seen = |name: &NodeName| passed.iter().any(|(_, node, _)| node.name == *name);
    let is_open = listed.iter().any(|name| !is_member(name) && !is_seen(name));
    for (_, node, _) in passed.iter_mut() {
        if let Some(name) = others.get(&node.name) {
            ui.note(format_args!("'{}' is the cluster's '{name}', and stays so", node.name));
            node.name = name.clone();
        }
    }
    if is_open {
        // A host of another name that was not seen may be any member.
        return;
    }
    let is_there = |name: &NodeName| listed.contains(name) || others.values().any(|other| other == name);
    for name in cluster.record.members.iter().map(|m| &m.name).filter(|name| !is_there(name)) {
        ui.note(format_args!(
            "'{name}' belongs to the cluster and is not in the inventory; 'osier node rm {name}' takes it out"
        ));
    }
}

/// Makes the hosts that passed members of the cluster; gives back those that cannot be.
fn admit(
    cluster: &mut Cluster,
    passed: &mut Vec<Passed<'_>>,
    settings: &ClusterSettings,
    now: OffsetDateTime,
) -> Result<Vec<(String, Failure)>, Failure> {
    let mut refused = Vec::new();
    let mut identities: Vec<NodeIdentity> = Vec::new();
    passed.retain(|(remote, node, report)| {
        let mut refuse = |message: String| {
            let failure = Failure::message_only(ExitKind::SomeHostsFailed, message);
            refused.push((remote.name.clone(), failure.hint("set internal_ip in the inventory")));
            false
        };
        let Some(address) = report.mesh_address(node.internal, remote.address()) else {
            return refuse(format!("host '{}' has no address that other nodes could reach it at", remote.name));
        };
        let members = cluster.record.members.iter().map(|m| (&m.name, m.address));
        let known = members.filter(|(name, _)| !identities.iter().any(|i| i.name == **name));
        let taken = |(name, other)| (name != &node.name && other == address).then_some(name);
        if let Some(other) = known.chain(identities.iter().map(|i| (&i.name, i.address))).find_map(taken) {
            let message = format!("hosts '{}' and '{other}' have the same address {address}", remote.name);
            let hint = format!(
                "set internal_ip in the inventory; if it is '{other}' itself, call it so, or 'osier node rm {other}' takes that out"
            );
            refused.push((remote.name.clone(), Failure::message_only(ExitKind::SomeHostsFailed, message).hint(hint)));
            return false;
        }
        identities.push(identity(remote, node, address, cluster, settings));
        true
    });
    let stays = |manager: &NodeName| !identities.iter().any(|i| i.name == *manager && !i.master);
    if !cluster.record.managers.keys().any(stays) && !identities.iter().any(|i| i.master) {
        for (remote, ..) in passed.drain(..) {
            let message = format!("host '{}' must wait: no master of the cluster can be used", remote.name);
            let hint = "the group [masters] of the inventory names the masters; without it the first host is one";
            refused.push((remote.name.clone(), Failure::message_only(ExitKind::SomeHostsFailed, message).hint(hint)));
        }
        return Ok(refused);
    }
    cluster.admit(&identities, settings.manager_port, now)?;
    Ok(refused)
}

fn identity(
    remote: &Remote,
    node: &NodeSettings,
    address: Ipv4Addr,
    cluster: &Cluster,
    settings: &ClusterSettings,
) -> NodeIdentity {
    let connected = remote.address();
    // Another inventory's way to a member is one for ssh alone, unless it says more.
    let is_other = node.name.as_str() != remote.name;
    let dns = (connected.is_none() && !is_other).then(|| remote.ssh.target().host.clone()).into_iter().collect();
    let known = is_other.then(|| cluster.outside(&node.name)).flatten();
    let outside = node.floating.or(known).or(connected).unwrap_or(address);
    let addresses = connected.into_iter().map(IpAddr::from).collect();
    let master = cluster.is_master(node, settings.names_masters);
    NodeIdentity { name: node.name.clone(), master, address, outside, dns, addresses }
}

/// Writes the `docker context` of the cluster.
fn point_docker_at(cluster: &Cluster, ui: &Ui) -> Result<(), Failure> {
    let Some(docker) = context::docker_folder() else { return Ok(()) };
    let ours = DockerContext::of(&cluster.record);
    let name = ours.name();
    match ours.write(&docker, cluster.folder())? {
        context::Written::Changed => {
            ui.note(format_args!("docker context '{name}' leads to the cluster ('docker -c {name} info')"));
        }
        context::Written::Same => {}
        context::Written::Foreign => ui.warn(format_args!("docker context '{name}' is not ours and stays as it is")),
    }
    Ok(())
}

/// Forgets a cluster whose every member is gone; else keeps in mind which are. `are` says which member each host is.
fn forget(
    mut cluster: Cluster,
    outcomes: &BTreeMap<String, Outcome>,
    are: &BTreeMap<NodeName, NodeName>,
    ui: &Ui,
) -> Result<(), Failure> {
    for (host, member) in are {
        match outcomes.get(host.as_str()) {
            Some(Outcome::Unchanged | Outcome::Changed(_)) => cluster.clear(member),
            // It may have been done before the way there was lost.
            Some(outcome) if outcome.is_unreachable() => {}
            _ => cluster.stay(member),
        }
    }
    let record = &cluster.record;
    let left: Vec<&str> =
        record.members.iter().map(|m| &m.name).filter(|n| !record.cleared.contains(*n)).map(NodeName::as_str).collect();
    if !left.is_empty() {
        ui.note(format_args!(
            "the cluster's keys stay in '{}': {} still belong to it",
            cluster.folder().display(),
            left.join(", ")
        ));
        return cluster.save();
    }
    if let Some(docker) = context::docker_folder() {
        DockerContext::of(&cluster.record).remove(&docker)?;
    }
    cluster.remove()
}
