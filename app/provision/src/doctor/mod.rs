//! `osier doctor`: whether hosts can become nodes, what is wrong with those that are, and a bundle for whoever helps.
//!
//! Must not change anything on a host, nor decide what is wrong: that is done in `osier-doctor`.

mod bundle;

use crate::{
    args::HostArgs,
    cluster::Cluster,
    deliver::Program,
    home::Home,
    inventory,
    preflight::{self, Needs},
    remote::{self, Remote, on_each},
    settings,
};
use anyhow::Context;
use bundle::Files;
use http::Method;
use osier_doctor::{Finding, Level, Seen, diagnose};
use osier_engine::Client;
use osier_inventory::{Host, Inventory, TemplateError};
use osier_ssh::Command;
use osier_ui::{ExitKind, Failure, Table, Ui};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use time::OffsetDateTime;

const SCRIPT: &str = include_str!("look.sh");
/// How long the manager may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Look at hosts before, while and after they are a cluster, and say what is wrong and what mends it.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Nothing is changed. It ends with 3 where something does not work, with 4 where a host cannot be reached.

Examples:
  osier doctor -i inventory                     before 'osier site', or whenever something seems wrong
  osier doctor -l datalyse-2 -o json
  osier doctor --bundle support.tar             logs and states of all hosts, without secrets, for whoever helps"
)]
pub struct DoctorArgs {
    #[command(flatten)]
    hosts: HostArgs,
    /// Collect what hosts say of themselves in this archive, with secrets taken out
    #[arg(long, value_name = "FILE.tar")]
    bundle: Option<PathBuf>,
}

/// What became of looking at one host.
enum Looked {
    /// It is no node.
    Before,
    Node(Box<Seen>),
    Away(Failure),
}

/// Looks, and says what it sees.
pub async fn run_doctor(args: DoctorArgs, ui: &Ui) -> Result<(), Failure> {
    let inventory = inventory::read(&args.hosts.from, ui)?;
    let (cluster_settings, nodes) = settings::read(&inventory)?;
    let internal = |host: &str| nodes.iter().find(|node| node.name.as_str() == host)?.internal;
    let selected = inventory::select(&inventory, args.hosts.limit.as_deref())?;
    let home = Home::from_env()?;
    let now = OffsetDateTime::now_utc();
    // Where there is none yet, it is the one that would be made.
    let cluster = Cluster::open(&home, &cluster_settings, false, now)?;
    let machine = Program::read(None)?.machine;
    let needs = |host: &str| Needs {
        machine: machine.clone(),
        installs_engine: true,
        lacking: None,
        cluster: Some(cluster.needs(internal(host))),
    };
    let known = home.cluster(&cluster_settings.name).exists().then_some(&cluster);
    let secrets = if args.bundle.is_some() { secrets(&inventory, known) } else { Vec::new() };
    let unopened = if args.bundle.is_some() { unopened(&inventory) } else { BTreeSet::new() };
    if !unopened.is_empty() {
        let names = unopened.into_iter().collect::<Vec<_>>().join(", ");
        ui.warn(format_args!(
            "what ansible-vault encrypted in {names} is not known here, so the bundle may have it; \
             '--vault-password-file FILE' opens it"
        ));
    }

    let remotes = remote::remotes(&selected)?;
    let progress = ui.progress();
    let looked = on_each(&remotes, args.hosts.forks, async |remote: &Remote| {
        progress.doing(&remote.name, "look");
        let looked = look(remote, &needs(&remote.name), known.is_some()).await;
        let files = match (&args.bundle, &looked.0) {
            (Some(_), Looked::Before | Looked::Node(_)) => {
                progress.doing(&remote.name, "collect");
                bundle::collect(remote, &secrets).await
            }
            _ => Files::new(),
        };
        (remote.name.clone(), looked, files)
    })
    .await;
    let manager = if let Some(cluster) = known { ask_manager(cluster).await } else { None };
    remote::close(remotes).await;
    drop(progress);

    let mut nodes = BTreeMap::new();
    let mut findings: Vec<Finding> = manager.into_iter().collect();
    let mut states: Vec<(String, &str)> = Vec::new();
    let mut files = Files::new();
    let mut away = Vec::new();
    for (host, (looked, found), collected) in looked {
        let fails = found.iter().any(|finding| finding.level == Level::Failure);
        findings.extend(found);
        files.extend(collected);
        let state = match looked {
            Looked::Before if fails => "cannot be a node yet",
            Looked::Before => "ready to be a node",
            Looked::Node(seen) => {
                nodes.insert(host.clone(), *seen);
                "node"
            }
            Looked::Away(failure) => {
                findings.push(finding(&host, Level::Failure, &failure));
                away.push(host.clone());
                "not reached"
            }
        };
        states.push((host, state));
    }
    findings.extend(diagnose(&nodes, env!("CARGO_PKG_VERSION")));
    findings.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.host.cmp(&b.host)));
    show(ui, &states, &findings);
    if let Some(path) = &args.bundle {
        let text = serde_json::to_vec_pretty(&findings).context("write the findings")?;
        let text = osier_doctor::redact(&String::from_utf8_lossy(&text), &secrets);
        files.insert(0, ("findings.json".to_owned(), text.into_bytes()));
        bundle::write(path, &files, u64::try_from(now.unix_timestamp()).unwrap_or(0))?;
        ui.note(format_args!("'{}' has {} files of {} hosts", path.display(), files.len(), states.len() - away.len()));
        ui.note("keys and known secrets are not in it; look through it before you hand it on");
    }
    verdict(&findings, &away)
}

/// What can be known of one host, and what is wrong with it as a host. A node's cluster may not be `known` on this machine.
async fn look(remote: &Remote, needs: &Needs, known: bool) -> (Looked, Vec<Finding>) {
    let host = &remote.name;
    let report = match preflight::ask(remote).await {
        Ok(report) => report,
        Err(failure) => return (Looked::Away(failure), Vec::new()),
    };
    let warning = |(what, fix): (String, &str)| Finding {
        level: Level::Warning,
        host: Some(host.clone()),
        what,
        fix: fix.to_owned(),
    };
    let mut findings: Vec<Finding> = report.warnings().into_iter().map(warning).collect();
    if !report.node {
        if let Err(failure) = report.judge(host, needs) {
            findings.push(finding(host, Level::Failure, &failure));
        }
        return (Looked::Before, findings);
    }
    if let Some(cluster) = needs.cluster.as_ref().filter(|_| known) {
        findings.extend(report.judge_node(host, cluster).err().map(|f| finding(host, Level::Failure, &f)));
    }
    let command = Command::new(["sh"]).stdin(SCRIPT.as_bytes()).as_root();
    match remote.ssh.check(&command).await {
        Ok(output) => {
            let seen = Seen::parse(&String::from_utf8_lossy(&output.stdout));
            (Looked::Node(Box::new(seen)), findings)
        }
        Err(error) => (Looked::Away(remote::failure(error)), findings),
    }
}

fn finding(host: &str, level: Level, failure: &Failure) -> Finding {
    let fix = failure.hints().join("; ");
    Finding { level, host: Some(host.to_owned()), what: failure.whole(), fix }
}

/// What is wrong with the way from here to the manager.
async fn ask_manager(cluster: &Cluster) -> Option<Finding> {
    let address = cluster.record.manager()?;
    let asked = async {
        let identity = osier_pki::Identity::read(cluster.folder())?;
        let client = Client::tls(address, &address.ip().to_string(), identity.client()?)?;
        let answer = client.call(Method::GET, "/_ping", None);
        tokio::time::timeout(ANSWER, answer).await.context("no answer in time")??;
        anyhow::Ok(())
    };
    let error = asked.await.err()?;
    let fix = format!(
        "does TCP {} get through from here? 'osier vpn tunnel' leads there through a host; 'osier logs -l masters -u osier-manager' shows what the manager said",
        address.port()
    );
    Some(Finding {
        level: Level::Failure,
        host: None,
        what: format!("the manager at {address} does not answer here: {error:#}"),
        fix,
    })
}

/// What must not be in a bundle, as far as it is known here.
fn secrets(inventory: &Inventory, cluster: Option<&Cluster>) -> Vec<String> {
    let of_host = |host: &Host| {
        let is_secret = |name: &str| {
            let name = name.to_ascii_lowercase();
            !name.ends_with("_file") && ["pass", "token", "secret", "key"].iter().any(|word| name.contains(word))
        };
        let named: Vec<String> = host.vars().keys().filter(|n| is_secret(n) || host.is_secret(n)).cloned().collect();
        named.into_iter().filter_map(|name| host.value(&name).ok()?).flat_map(texts).collect::<Vec<_>>()
    };
    let mut secrets: Vec<String> = inventory.hosts().iter().flat_map(of_host).collect();
    secrets.extend(cluster.into_iter().flat_map(|c| [c.record.token.to_string(), c.gossip_key().to_owned()]));
    secrets.sort_unstable();
    secrets.dedup();
    secrets
}

/// All texts and numbers in a value.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(items) => items.into_iter().flat_map(texts).collect(),
        Value::Object(map) => map.into_iter().flat_map(|(_, value)| texts(value)).collect(),
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

/// The variables that are encrypted and cannot be opened: a bundle may have what they hold, unknown as it is.
fn unopened(inventory: &Inventory) -> BTreeSet<&str> {
    let is_closed = |host: &Host, name: &str| matches!(host.value(name), Err(TemplateError::Vault(_)));
    let all = inventory.hosts().iter().flat_map(|host| host.vars().keys().map(move |name| (host, name.as_str())));
    all.filter(|(host, name)| is_closed(host, name)).map(|(_, name)| name).collect()
}

fn show(ui: &Ui, states: &[(String, &str)], findings: &[Finding]) {
    if ui.is_json() {
        let hosts: Vec<_> = states.iter().map(|(host, state)| json!({ "host": host, "state": state })).collect();
        return ui.json(&json!({ "hosts": hosts, "findings": findings }));
    }
    let mut table = Table::new(&["HOST", "STATE", "FAILURES", "WARNINGS"]);
    for (host, state) in states {
        let count =
            |level: Level| findings.iter().filter(|f| f.level == level && f.host.as_ref() == Some(host)).count();
        let (failures, warnings) = (count(Level::Failure), count(Level::Warning));
        table.row([host.clone(), (*state).to_owned(), failures.to_string(), warnings.to_string()]);
    }
    ui.line(table);
    for finding in findings {
        let word = if finding.level == Level::Failure { "FAILURE" } else { "warning" };
        let host = finding.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        ui.line(format_args!("\n{word}  {host}{}", finding.what));
        if !finding.fix.is_empty() {
            ui.line(format_args!("         {}", finding.fix));
        }
    }
}

fn verdict(findings: &[Finding], away: &[String]) -> Result<(), Failure> {
    let failures = findings.iter().filter(|f| f.level == Level::Failure).count();
    if failures == 0 {
        return Ok(());
    }
    let kind = if away.is_empty() { ExitKind::SomeHostsFailed } else { ExitKind::SomeHostsUnreachable };
    let what =
        if failures == 1 { "one thing does not work".to_owned() } else { format!("{failures} things do not work") };
    Err(Failure::message_only(kind, what))
}
