//! `osier ps`: the containers of all nodes on the operator's terminal.
//!
//! Must not know how a list comes about; the manager answers it as an engine does.

use crate::client::{Manager, ManagerArgs, Place};
use clap::Args;
use http::Method;
use osier_ui::{Failure, Table, Ui};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

/// Show the containers of all nodes
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier ps
  osier ps -a --filter node=datalyse-1 --filter status=exited
  osier ps --filter label=tier=web -o json
  osier ps -H tcp://10.0.0.1:3376 --tlsverify --cert-path ~/.docker")]
pub struct PsArgs {
    /// Stopped ones, too
    #[arg(short, long)]
    all: bool,
    /// Only those that this means, as 'docker ps' has it, such as node=NAME, name=NAME, label=KEY=VALUE, status=exited
    /// (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<(String, String)>,
    #[command(flatten)]
    manager: ManagerArgs,
}

/// Shows them. `place` knows the clusters of this machine, by their names.
pub async fn run_ps(
    args: PsArgs,
    ui: &Ui,
    place: impl FnOnce(Option<&str>) -> Result<Place, Failure>,
) -> Result<(), Failure> {
    let manager = args.manager.manager(place).await?;
    let rows = list(&manager, args.all, &args.filter).await?;
    if ui.is_json() {
        ui.json(&rows.iter().map(Row::json).collect::<Vec<_>>());
        return Ok(());
    }
    let mut table = Table::new(&["CONTAINER ID", "NODE", "NAME", "IMAGE", "COMMAND", "STATUS", "PORTS"]);
    for row in rows {
        let id: String = row.text("Id").chars().take(12).collect();
        let (node, name) = row.name();
        let command = short(row.text("Command"));
        table.row([&id, node, name, row.text("Image"), &command, row.text("Status"), &row.ports().join(", ")]);
    }
    ui.line(table);
    Ok(())
}

/// One container, as a list has it.
pub(crate) struct Row(Map<String, Value>);

/// The containers that filters mean.
pub(crate) async fn list(manager: &Manager, all: bool, filters: &[(String, String)]) -> Result<Vec<Row>, Failure> {
    let mut wanted: Map<String, Value> = Map::new();
    for (key, value) in filters {
        if let Some(list) = wanted.entry(key.clone()).or_insert_with(|| json!([])).as_array_mut() {
            list.push(json!(value));
        }
    }
    let wanted = Value::from(wanted).to_string();
    let filters = utf8_percent_encode(&wanted, NON_ALPHANUMERIC);
    let path = format!("/containers/json?all={}&filters={filters}", u8::from(all));
    let rows: Vec<Map<String, Value>> = manager.json(Method::GET, &path, None).await?;
    Ok(rows.into_iter().map(Row).collect())
}

pub(crate) fn parse_filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must look like key=value".to_owned()),
    }
}

/// A command line that fits into a table.
fn short(command: &str) -> String {
    const LONGEST: usize = 30;
    if command.chars().count() <= LONGEST {
        return command.to_owned();
    }
    command.chars().take(LONGEST - 1).chain(['…']).collect()
}

impl Row {
    pub(crate) fn text(&self, member: &str) -> &str {
        self.0.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its node and its name there. Names behind links are longer: `node/other/alias`.
    fn name(&self) -> (&str, &str) {
        let names = self.0.get("Names").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let own = names.map(|n| n.trim_start_matches('/')).min_by_key(|n| n.matches('/').count()).unwrap_or_default();
        own.split_once('/').unwrap_or(("", own))
    }

    fn ports(&self) -> Vec<String> {
        let ports = self.0.get("Ports").and_then(Value::as_array).into_iter().flatten();
        let port = |port: &Value| {
            let inside = format!("{}/{}", port["PrivatePort"], port["Type"].as_str().unwrap_or("tcp"));
            let outside = port["PublicPort"].as_u64();
            outside.map_or_else(
                || inside.clone(),
                |outside| match port["IP"].as_str().unwrap_or_default() {
                    "" => format!("{outside}->{inside}"),
                    v6 if v6.contains(':') => format!("[{v6}]:{outside}->{inside}"),
                    v4 => format!("{v4}:{outside}->{inside}"),
                },
            )
        };
        ports.map(port).collect()
    }

    fn json(&self) -> Value {
        let (node, name) = self.name();
        let member = |name: &str| self.0.get(name).cloned().unwrap_or_default();
        json!({
            "id": member("Id"), "node": node, "name": name, "image": member("Image"), "command": member("Command"),
            "created": member("Created"), "state": member("State"), "status": member("Status"), "ports": self.ports(),
            "labels": member("Labels"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_the_manager_writes_them() {
        let row = json!({"Id": "abc", "Names": ["/n1/web/alias", "/n1/db"], "Ports": [
            {"PrivatePort": 80, "Type": "tcp"}, {"IP": "10.0.0.1", "PrivatePort": 53, "PublicPort": 5353, "Type": "udp"},
            {"IP": "::1", "PrivatePort": 1, "PublicPort": 2, "Type": "tcp"}, {"PrivatePort": 1, "PublicPort": 3}]});
        let row = Row(row.as_object().unwrap().clone());
        assert_eq!(row.name(), ("n1", "db"));
        assert_eq!(row.ports(), ["80/tcp", "10.0.0.1:5353->53/udp", "[::1]:2->1/tcp", "3->1/tcp"]);
        assert_eq!(Row(Map::new()).name(), ("", ""));
        assert_eq!(short(&"x".repeat(40)).chars().count(), 30);
    }

    #[test]
    fn a_filter_has_a_key() {
        assert_eq!(parse_filter("label=a=b"), Ok(("label".into(), "a=b".into())));
        assert!(parse_filter("x").is_err() && parse_filter("=x").is_err());
    }
}
