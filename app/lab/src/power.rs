//! `osier lab stop` and `osier lab start`: a node's power, off and on. A lab's hosts have no firmware, so a node that
//! shuts itself down to reboot stays off until it is started.

use crate::{
    PowerArgs,
    docker::Docker,
    node,
    plan::Node,
    state::{self, Folder},
};
use osier_ui::{ExitKind, Failure, Ui};

/// Cuts the node's power at once, as a crash would.
pub(crate) async fn stop(args: PowerArgs, ui: &Ui) -> Result<(), Failure> {
    let (_, docker, node) = find(&args)?;
    let states = docker.states(&args.lab).await.map_err(anyhow::Error::new)?;
    if states.get(&node.container).is_some_and(|state| state == "running") {
        docker.run(["kill", &node.container]).await.map_err(anyhow::Error::new)?;
    }
    ui.note(format_args!("{}: off", node.name));
    Ok(())
}

/// Boots the node and waits until it answers.
pub(crate) async fn start(args: PowerArgs, ui: &Ui) -> Result<(), Failure> {
    let (folder, docker, node) = find(&args)?;
    docker.run(["start", &node.container]).await.map_err(anyhow::Error::new)?;
    node::booted(&docker, &node).await.map_err(anyhow::Error::new)?;
    node::reachable(&folder.ssh_config(), &node).await.map_err(anyhow::Error::new)?;
    ui.note(format_args!("{}: up at {}", node.name, node.address));
    Ok(())
}

fn find(args: &PowerArgs) -> Result<(Folder, Docker, Node), Failure> {
    let (folder, lab) = state::find(&args.lab)?;
    let docker = Docker::at(&lab.socket);
    match lab.nodes.into_iter().find(|node| node.name.as_str() == args.node) {
        Some(node) => Ok((folder, docker, node)),
        None => {
            let error = format!("find '{}': lab '{}' has no such node; see 'osier lab list'", args.node, args.lab);
            Err(Failure::message_only(ExitKind::Usage, error))
        }
    }
}
