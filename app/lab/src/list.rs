//! `osier lab list`: the labs, their nodes and the state each is in.
//!
//! Must not change anything, start an engine included.

use crate::{docker::Docker, plan::Node, state};
use anyhow::Result;
use osier_ui::{Failure, Table, Ui};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Row {
    lab: String,
    /// The lab's inventory file.
    inventory: PathBuf,
    #[serde(flatten)]
    node: Node,
    /// The container's state; `missing` if there is none, `unknown` if the engine does not answer.
    state: String,
}

pub(crate) async fn list(ui: &Ui) -> Result<(), Failure> {
    let rows = rows(ui).await?;
    if ui.is_json() {
        ui.json(&rows);
        return Ok(());
    }
    let mut table = Table::new(&["LAB", "NODE", "ADDRESS", "RELEASE", "STATE"]);
    for Row { lab, node, state, .. } in rows {
        table.row([lab, node.name.to_string(), node.address.to_string(), node.release.to_string(), state]);
    }
    ui.line(table);
    Ok(())
}

async fn rows(ui: &Ui) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in state::names()? {
        let (folder, lab) = match state::find(&name) {
            Ok(found) => found,
            Err(e) => {
                ui.warn(format_args!("lab '{name}' is damaged: {e:#}; 'osier lab down {name}' removes it"));
                continue;
            }
        };
        let docker = Docker::at(&lab.socket);
        let states = if docker.answers().await { docker.states(&name).await.ok() } else { None };
        let state = |node: &Node| match &states {
            Some(states) => states.get(&node.container).map_or("missing", String::as_str).to_owned(),
            None => "unknown".to_owned(),
        };
        rows.extend(lab.nodes.into_iter().map(|node| Row {
            lab: name.to_string(),
            inventory: folder.inventory(),
            state: state(&node),
            node,
        }));
    }
    Ok(rows)
}
