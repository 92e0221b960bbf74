//! `osier lab up`: makes a lab, or brings one back that was made before.
//!
//! Must not leave anything that `down` does not find: the record is written before the first thing is made, and
//! everything made carries the lab's label or name.

use crate::{
    UpArgs,
    command::{command, run},
    docker::{Docker, LABEL},
    engine, firewall, host, image,
    node::{self, Ground},
    on_host, packages,
    plan::{self, LabName, Node},
    release::Release,
    state::{self, Folder, Lab},
    subnet, texts,
};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use osier_model::Token;
use osier_ui::{ExitKind, Failure, Progress, Ui};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

pub(crate) async fn up(args: UpArgs, ui: &Ui) -> Result<(), Failure> {
    host::require_root()?;
    let cgroups = host::cgroup_version();
    for choice in &args.releases {
        choice.release.check(cgroups).map_err(anyhow::Error::new)?;
    }
    let progress = ui.progress();
    let folder = Folder::of(&args.name)?;
    let lock = state::lock(|| progress.doing("lab", "waiting for another 'osier lab' to finish")).await?;
    let (docker, lab) = match folder.lab()? {
        Some(lab) => (engine::reopen(&lab.socket, &progress).await?, same(lab, &args)?),
        None => {
            packages::prepare(!args.no_install, &progress).await?;
            let docker = engine::for_new_lab(&progress).await?;
            let lab = draft(&args, &docker).await?;
            if lab.named_on_host {
                let hint = "choose other names with --prefix, or keep them off this host with --no-hosts";
                on_host::check(&lab.name, &lab.nodes).map_err(|e| Failure::from(e).hint(hint))?;
            }
            (docker, lab)
        }
    };
    let made = if lab.ready { BTreeMap::new() } else { images(&args, &docker, &lab, &progress).await? };
    let hint = format!("run 'osier lab down {}' to remove what there is of it", lab.name);
    let built = async {
        prepare_network(&docker, &lab, &folder, &progress).await?;
        // From here on nothing is shared with other labs; they need not wait for this one to boot.
        drop(lock);
        populate(&docker, &lab, &made, &folder, &progress).await
    };
    let lab = built.await.map_err(|e| Failure::from(e).hint(hint))?;
    report(ui, &lab, &folder)
}

/// An existing lab, if it is the one that is asked for.
fn same(lab: Lab, args: &UpArgs) -> Result<Lab, Failure> {
    let refuse = |why: &str| {
        let error = format!("make lab '{}': {why}", lab.name);
        let hint = format!("run 'osier lab down {}' first", lab.name);
        Err(Failure::message_only(ExitKind::Failed, error).hint(hint))
    };
    if !lab.ready {
        return refuse("an earlier 'up' left it half made");
    }
    match plan::nodes(&args.name, &args.prefix, args.nodes, &args.releases, lab.subnet) {
        Ok(nodes) if nodes == lab.nodes => Ok(lab),
        Ok(_) => refuse("it is there with other nodes"),
        Err(e) => Err(Failure::new(ExitKind::Usage, e)),
    }
}

async fn draft(args: &UpArgs, docker: &Docker) -> Result<Lab, Failure> {
    let taken = host::networks(docker).await?;
    let subnet = subnet::choose(&taken).context("choose a network: this host uses all private ones")?;
    let nodes = plan::nodes(&args.name, &args.prefix, args.nodes, &args.releases, subnet)
        .map_err(|e| Failure::new(ExitKind::Usage, e))?;
    Ok(Lab {
        name: args.name.clone(),
        ready: false,
        token: Token::from_random(rand::random()),
        subnet,
        socket: docker.socket().to_owned(),
        named_on_host: !args.no_hosts,
        nodes,
    })
}

/// The image of every release that the lab has nodes of.
async fn images(
    args: &UpArgs,
    docker: &Docker,
    lab: &Lab,
    progress: &Progress,
) -> Result<BTreeMap<Release, String>, Failure> {
    let packages = host::packages().await?;
    let mut images = BTreeMap::new();
    for release in lab.nodes.iter().map(|node| node.release).collect::<BTreeSet<_>>() {
        let registry = args.registry.as_deref();
        images.insert(release, image::prepare(docker, release, &packages, registry, progress).await?);
    }
    Ok(images)
}

async fn prepare_network(docker: &Docker, lab: &Lab, folder: &Folder, progress: &Progress) -> Result<()> {
    if !lab.ready {
        folder.create()?;
        folder.remember(lab)?;
        let (subnet, label) = (lab.subnet.to_string(), format!("{LABEL}={}", lab.name));
        let bridge = format!("com.docker.network.bridge.name={}", lab.name.bridge());
        let mtu = format!("com.docker.network.driver.mtu={}", host::mtu().await);
        let create = ["network", "create", "--subnet", &subnet, "--label", &label, "--opt", &bridge, "--opt", &mtu];
        docker.run(create.into_iter().chain([&*lab.name.network()])).await.context("make the lab's network")?;
    }
    if engine::is_ours(docker) {
        firewall::open(&lab.name, lab.subnet).await.context("let the lab's network out")?;
    }
    progress.done("network", lab.subnet);
    Ok(())
}

/// Makes or starts the nodes, all at a time, and writes down how to reach them.
async fn populate(
    docker: &Docker,
    lab: &Lab,
    images: &BTreeMap<Release, String>,
    folder: &Folder,
    progress: &Progress,
) -> Result<Lab> {
    if !lab.ready {
        make_key(&folder.key(), &lab.name).await?;
    }
    let public_key = osier_store::read(&folder.key().with_extension("pub"))?.context("read the lab's public key")?;
    let ground = Ground::of_host(host::cgroup_version());
    let nodes = lab.nodes.iter().map(|node| async {
        let doing = || format!("make node '{}'", node.name);
        match images.get(&node.release) {
            Some(image) => {
                progress.doing(node.name.as_str(), "booting");
                let resolv_conf = resolver(folder, node).with_context(doing)?;
                let arguments =
                    node::run_arguments(&lab.name, node, &lab.nodes, image, &ground, resolv_conf.as_deref());
                node::make(docker, &lab.name, node, &arguments).await.with_context(doing)?;
            }
            None => drop(docker.run(["start", &node.container]).await.with_context(doing)?),
        }
        node::booted(docker, node).await?;
        node::exchange_keys(docker, node, &public_key).await.with_context(doing)
    });
    let known_hosts = try_join_all(nodes).await?.concat();
    write_access(lab, folder, &known_hosts)?;
    let ssh_config = folder.ssh_config();
    try_join_all(lab.nodes.iter().map(|node| async {
        node::reachable(&ssh_config, node).await?;
        progress.done(node.name.as_str(), format!("up at {}", node.address));
        anyhow::Ok(())
    }))
    .await?;
    let lab = Lab { ready: true, ..lab.clone() };
    folder.remember(&lab)?;
    Ok(lab)
}

fn write_access(lab: &Lab, folder: &Folder, known_hosts: &str) -> Result<()> {
    let (key, known) = (folder.key(), folder.known_hosts());
    let ssh_config = texts::ssh_config(&lab.name, &lab.nodes, &key, &known);
    let inventory = texts::inventory(&lab.name, &lab.nodes, lab.token.as_str(), &key, &known);
    osier_store::write(&known, known_hosts.as_bytes(), osier_store::PUBLIC)?;
    osier_store::write(&folder.ssh_config(), ssh_config.as_bytes(), osier_store::PUBLIC)?;
    osier_store::write(&folder.inventory(), inventory.as_bytes(), osier_store::PUBLIC)?;
    if lab.named_on_host {
        on_host::add(&lab.name, &lab.nodes, &ssh_config)?;
    }
    Ok(())
}

async fn make_key(key: &Path, lab: &LabName) -> Result<()> {
    let mut keygen = command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", &format!("osier-lab-{lab}"), "-f"]).arg(key);
    run(&mut keygen).await.context("make the lab's ssh key")?;
    Ok(())
}

/// The file that becomes the node's `/etc/resolv.conf`, so that what runs inside the node can use it as it stands;
/// without one the engine's resolver on the node's loopback address serves.
fn resolver(folder: &Folder, node: &Node) -> Result<Option<std::path::PathBuf>> {
    let candidates = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"].map(Path::new);
    for candidate in candidates {
        let text = osier_store::read(candidate)?.unwrap_or_default();
        if let Some(usable) = texts::resolv_conf(&String::from_utf8_lossy(&text)) {
            let path = folder.resolv_conf(&node.name);
            osier_store::write(&path, usable.as_bytes(), osier_store::PUBLIC)?;
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn report(ui: &Ui, lab: &Lab, folder: &Folder) -> Result<(), Failure> {
    if ui.is_json() {
        ui.json(&serde_json::json!({
            "name": lab.name, "subnet": lab.subnet, "socket": lab.socket, "token": lab.token, "nodes": lab.nodes,
            "inventory": folder.inventory(), "ssh_config": folder.ssh_config(), "known_hosts": folder.known_hosts(),
            "key": folder.key(),
        }));
        return Ok(());
    }
    let (name, nodes) = (&lab.name, lab.nodes.len());
    let first = lab.nodes.first().map_or("NODE", |node| node.name.as_str());
    ui.line(format_args!("lab '{name}' is up with {nodes} node{}", if nodes == 1 { "" } else { "s" }));
    ui.line(format_args!("inventory: {}", folder.inventory().display()));
    ui.line(format_args!("try:       osier lab ssh --lab {name} {first}"));
    ui.line(format_args!("remove:    osier lab down {name}"));
    Ok(())
}
