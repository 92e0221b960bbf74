//! `osier node`: the nodes of a cluster on the operator's terminal.

use super::{NodeReport, Step};
use crate::client::{Manager, ManagerArgs, Place};
use clap::{Args, Subcommand};
use http::Method;
use osier_model::{Bytes, Cpus};
use osier_nodes::Availability;
use osier_ui::{ExitKind, Failure, Table, Ui};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Everything about a cluster's nodes.
#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// List the nodes, with what is wrong with them
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show everything known of nodes
    Inspect(InspectArgs),
    /// Place nothing new on nodes; what is there stays and can be used
    Cordon(CordonArgs),
    /// Place nothing new on nodes, and stop what runs there until they are active again
    Drain(DrainArgs),
    /// Let nodes take work again, and start what draining stopped there
    Activate(ActivateArgs),
    /// Give a node labels beside its engine's own, for constraints; they hold at once
    Label(LabelArgs),
}

/// `osier node ls`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier node ls
  osier node ls --cluster lab -o json
  osier node ls -H tcp://10.0.0.1:3376 --tlsverify --cert-path ~/.docker")]
pub struct LsArgs {
    #[command(flatten)]
    manager: ManagerArgs,
}

/// `osier node inspect`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier node inspect node-1
  osier node inspect node-1 node-2 -o json")]
pub struct InspectArgs {
    /// The nodes, by name, or by address where they have not told their names yet
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// `osier node cordon`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier node cordon node-1")]
pub struct CordonArgs {
    /// The nodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// `osier node drain`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier node drain node-1             before it goes down for maintenance
  osier node activate node-1          starts again what was stopped")]
pub struct DrainArgs {
    /// The nodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// `osier node activate`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier node activate node-1")]
pub struct ActivateArgs {
    /// The nodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// `osier node label`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier node label node-1 disk=ssd zone=a
  osier node label node-1 disk-           takes the label away")]
pub struct LabelArgs {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// KEY=VALUE sets a label, KEY- takes it away
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    labels: Vec<String>,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// Does it. `place` knows the clusters of this machine, by their names.
pub async fn run_node(
    command: NodeCommand,
    ui: &Ui,
    place: impl FnOnce(Option<&str>) -> Result<Place, Failure>,
) -> Result<(), Failure> {
    match command {
        NodeCommand::Ls(args) => ls(&args.manager.manager(place).await?, ui).await,
        NodeCommand::Inspect(args) => inspect(&args.manager.manager(place).await?, &args.nodes, ui).await,
        NodeCommand::Cordon(args) => cordon(&args.manager.manager(place).await?, &args.nodes, ui).await,
        NodeCommand::Drain(args) => settle(&args.manager.manager(place).await?, &args.nodes, "drain", ui).await,
        NodeCommand::Activate(args) => settle(&args.manager.manager(place).await?, &args.nodes, "activate", ui).await,
        NodeCommand::Label(args) => {
            let change = changes(&args.labels)?;
            let manager = args.manager.manager(place).await?;
            let node: Value = manager.json(Method::POST, &path(&args.node, "/labels"), Some(&change)).await?;
            if ui.is_json() {
                ui.json(&node);
            }
            Ok(())
        }
    }
}

fn path(node: &str, rest: &str) -> String {
    format!("/osier/v1/nodes/{}{rest}", utf8_percent_encode(node, NON_ALPHANUMERIC))
}

async fn ls(manager: &Manager, ui: &Ui) -> Result<(), Failure> {
    let nodes: Vec<NodeReport> = manager.json(Method::GET, "/osier/v1/nodes", None).await?;
    if ui.is_json() {
        ui.json(&nodes);
    } else {
        ui.line(table(&nodes));
    }
    Ok(())
}

/// The nodes, one in a row.
pub(crate) fn table(nodes: &[NodeReport]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "STATUS",
        "AVAILABILITY",
        "ENGINE",
        "API",
        "CONTAINERS",
        "CPUS",
        "MEMORY",
        "AGE",
        "ERROR",
    ]);
    for node in nodes {
        let name = if node.name.is_empty() { &node.address } else { &node.name };
        let containers = node.containers.running + node.containers.paused + node.containers.stopped;
        table.row([
            name.clone(),
            word(&node.status),
            node.availability.to_string(),
            node.engine.clone(),
            node.api.clone(),
            format!("{}/{containers}", node.containers.running),
            format!("{}/{}", cores(node.reserved_cpus), node.cpus),
            format!("{}/{}", Bytes(node.reserved_memory), Bytes(node.memory)),
            format!("{} s", node.age_seconds),
            complaint(node),
        ]);
    }
    table
}

fn cores(cores: f64) -> Cpus {
    Cpus((cores * 1e9).round() as u64)
}

fn word(health: &osier_nodes::Health) -> String {
    format!("{health:?}").to_lowercase()
}

/// What is wrong with a node or odd about it, in one line.
fn complaint(node: &NodeReport) -> String {
    let error = node.error.as_ref().map(|error| {
        let next = error.retry_in_seconds.map(|s| format!("; next attempt in {s} s")).unwrap_or_default();
        format!("{}: {}{next}", error.reason, error.message)
    });
    error.or_else(|| node.warning.clone()).unwrap_or_default()
}

async fn inspect(manager: &Manager, names: &[String], ui: &Ui) -> Result<(), Failure> {
    let mut nodes: Vec<NodeReport> = Vec::new();
    for name in names {
        nodes.push(manager.json(Method::GET, &path(name, ""), None).await?);
    }
    if ui.is_json() {
        ui.json(&nodes);
        return Ok(());
    }
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 {
            ui.line("");
        }
        let labels: Vec<String> = node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let c = node.containers;
        for (key, value) in [
            ("Name", node.name.clone()),
            ("Address", node.address.clone()),
            ("Host", node.host.clone()),
            ("ID", node.id.clone()),
            ("Status", word(&node.status)),
            ("Availability", node.availability.to_string()),
            ("Engine", format!("{} (API {} to {})", node.engine, node.api_min, node.api)),
            ("Containers", format!("{} running, {} paused, {} stopped", c.running, c.paused, c.stopped)),
            ("Stopped by drain", node.stopped.len().to_string()),
            ("Images", node.images.to_string()),
            ("CPUs", format!("{} of {} reserved", cores(node.reserved_cpus), node.cpus)),
            ("Memory", format!("{} of {} reserved", Bytes(node.reserved_memory), Bytes(node.memory))),
            ("Labels", labels.join(", ")),
            ("Last heard of", format!("{} ({} s ago)", node.updated_at, node.age_seconds)),
            ("Error", complaint(node)),
        ] {
            if !value.is_empty() {
                ui.line(format_args!("{key}: {value}"));
            }
        }
    }
    Ok(())
}

async fn cordon(manager: &Manager, names: &[String], ui: &Ui) -> Result<(), Failure> {
    let mut nodes: Vec<Value> = Vec::new();
    for name in names {
        nodes.push(manager.json(Method::POST, &path(name, "/cordon"), None).await?);
        ui.note(format_args!("{name}: {}", Availability::Cordoned));
    }
    if ui.is_json() {
        ui.json(&nodes);
    }
    Ok(())
}

async fn settle(manager: &Manager, names: &[String], verb: &str, ui: &Ui) -> Result<(), Failure> {
    let mut steps: Vec<Step> = Vec::new();
    let progress = ui.progress();
    for name in names {
        let mut stream = manager.stream(Method::POST, &path(name, &format!("/{verb}")), None).await?;
        loop {
            let value = stream.next().await;
            let value = value.map_err(|e| {
                let broken = anyhow::anyhow!("{e}").context(format!("follow the work on node '{name}'"));
                Failure::from(broken).hint(format!("it goes on without us; 'osier node {verb} {name}' looks again"))
            })?;
            let Some(value) = value else { break };
            let step: Step = serde_json::from_value(value)
                .map_err(|e| Failure::from(anyhow::Error::new(e).context("understand the manager's answer")))?;
            match &step {
                Step::Now { node, availability } => ui.note(format_args!("{node}: {availability}")),
                Step::Doing { node, name, what, .. } => progress.doing(&format!("{node}/{name}"), what),
                Step::Done { node, name, what, .. } => progress.done(&format!("{node}/{name}"), what),
                Step::Failed { node, name, why, .. } => {
                    progress.done(&format!("{node}/{name}"), format_args!("failed: {why}"));
                }
                Step::Later { node, why } => {
                    ui.warn(format_args!("{node} does not answer; its containers follow when it does: {why}"));
                }
            }
            steps.push(step);
        }
    }
    if ui.is_json() {
        ui.json(&steps);
    }
    let failed: BTreeSet<&String> =
        steps.iter().filter_map(|s| if let Step::Failed { node, .. } = s { Some(node) } else { None }).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<&str> = failed.into_iter().map(String::as_str).collect();
    let message = format!("some containers of {} could not be seen to", failed.join(", "));
    let hint = format!("'osier node {verb} {}' tries again", failed.join(" "));
    Err(Failure::message_only(ExitKind::SomeHostsFailed, message).hint(hint))
}

/// Reads `KEY=VALUE` and `KEY-`.
fn changes(words: &[String]) -> Result<Value, Failure> {
    let (mut set, mut remove) = (BTreeMap::new(), BTreeSet::new());
    for word in words {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => drop(set.insert(key, value)),
            (None, Some(key)) if !key.is_empty() => drop(remove.insert(key)),
            _ => return Err(Failure::usage(format!("'{word}' is neither KEY=VALUE nor KEY-"))),
        }
    }
    Ok(json!({"set": set, "remove": remove}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_taken_away() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let read = changes(&words("disk=ssd zone= gone- odd=x-")).unwrap();
        assert_eq!(read, json!({"set": {"disk": "ssd", "zone": "", "odd": "x-"}, "remove": ["gone"]}));
        for bad in ["disk", "=x", "-"] {
            assert!(changes(&words(bad)).is_err(), "{bad}");
        }
    }
}
