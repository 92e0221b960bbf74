//! `osier vpn tunnel`: a port of this machine that leads to a cluster's manager, and a docker context that leads to the port.
//!
//! Must not know what a manager does. Whoever is at the other end is seen to be the cluster's manager, by its own name, each
//! time the connection stands; clients see that it is one of the cluster's nodes, since nodes' certificates are for 127.0.0.1, too.

use crate::{TunnelArgs, hold::hold};
use http::Method;
use osier_engine::{Client, Error};
use osier_pki::Identity;
use osier_provision::{DockerContext, KnownCluster, Written, docker_folder, resolve_cluster, resolve_host};
use osier_ssh::{Forwarding, Target};
use osier_ui::{ExitKind, Failure, Ui};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::time::timeout;

/// How long the manager may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Holds the tunnel open until it is stopped; the context goes with it.
pub(crate) async fn run(args: TunnelArgs, ui: &Ui) -> Result<(), Failure> {
    let known = resolve_cluster(args.cluster.as_deref())?;
    let name = &known.record.name;
    let Some(manager) = known.record.manager() else {
        let failure = Failure::usage(format!("cluster '{name}' has no manager yet"));
        return Err(failure.hint("'osier setup-cluster -i inventory' makes one"));
    };
    let (via, target, to) = way(&args, &known, manager, ui)?;
    let Some(_lock) = known.lock_tunnel()? else {
        let failure = Failure::message_only(ExitKind::Failed, format!("a tunnel to cluster '{name}' is open already"));
        return Err(failure.hint("use that one, or stop it first"));
    };
    let identity = Identity::read(&known.folder).map_err(anyhow::Error::from)?;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let context = DockerContext::through_tunnel(&known.record, args.port);
    let docker = docker_folder();
    let check = async || {
        let config = identity.client().map_err(anyhow::Error::from)?;
        // A client of its own each time: a connection of an earlier tunnel leads nowhere.
        let client = Client::tls(here, &manager.ip().to_string(), config).map_err(anyhow::Error::new)?;
        let answer = match timeout(ANSWER, client.call(Method::GET, "/_ping", None)).await {
            Ok(Ok(_)) => format!("{here} leads to the manager of '{name}' at {to}"),
            Ok(Err(error)) if is_stranger(&error) => {
                let hint = format!("{to} is not the manager of '{name}' (any more): 'osier site' knows where it is");
                return Err(Failure::new(ExitKind::Failed, error).hint(hint));
            }
            Ok(Err(error)) => format!("{here} leads to {to}, where no manager answers ({})", error.chain()),
            Err(_) => format!("{here} leads to {to}, where no manager answers within {} s", ANSWER.as_secs()),
        };
        let Some(docker) = &docker else { return Ok(answer) };
        Ok(match context.write(docker, &known.folder)? {
            Written::Changed | Written::Same => format!("{answer}; 'docker -c {} info' uses it", context.name()),
            Written::Foreign => format!("{answer}; docker context '{}' is not ours and stays as it is", context.name()),
        })
    };
    let held = hold(&via, &target, Forwarding::Place { port: args.port, to }, check, ui).await;
    let removed = docker.as_deref().map_or(Ok(()), |docker| context.remove(docker));
    held.and(removed)
}

/// The word for the host to go through, how ssh gets there, and where the manager is from there: nodes know it by its address
/// on the network between them.
fn way(
    args: &TunnelArgs,
    known: &KnownCluster,
    manager: SocketAddr,
    ui: &Ui,
) -> Result<(String, Target, SocketAddr), Failure> {
    if let Some(via) = &args.via {
        return Ok((via.to_string(), args.ssh.target(via)?, manager));
    }
    let node = args.node.as_deref().unwrap_or_default();
    let mut target = resolve_host(&args.from, node, ui)?;
    args.ssh.add_to(&mut target)?;
    Ok((node.to_owned(), target, known.manager_inside().unwrap_or(manager)))
}

/// Whether somebody answered who is not who was asked for. A manager that is away ends the connection instead.
fn is_stranger(error: &Error) -> bool {
    matches!(error, Error::Connect { source, .. } if source.to_string().contains("invalid peer certificate"))
}
