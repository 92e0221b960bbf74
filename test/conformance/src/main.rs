//! `osier-conformance`: judges whatever answers at a `DOCKER_HOST`.

use anyhow::Context;
use clap::{Parser, ValueEnum};
use osier_conformance::{Area, Host, Scenario, Session, report, run};
use osier_ui::{ExitKind, Failure, Output, Table, Ui};
use std::{path::PathBuf, process::ExitCode};

/// Runs the scenarios of the Docker API's conformance suite against one host or several
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  osier-conformance
  osier-conformance --area exec --area attach
  osier-conformance --host unix:///var/run/docker.sock --host tcp://master:3376 -o json

A scenario uses names of its own and removes what it makes; what else is on the host stays as it is.
Exit codes: 0 every row passed or was skipped, 1 some failed, 2 wrong usage."
)]
struct Args {
    /// Whom to judge: unix://PATH or tcp://HOST:PORT; named twice, two columns
    #[arg(
        short = 'H',
        long,
        env = "DOCKER_HOST",
        value_delimiter = ',',
        default_value = "unix:///var/run/docker.sock"
    )]
    host: Vec<String>,
    /// Use mutual TLS over TCP
    #[arg(long, env = "DOCKER_TLS_VERIFY", value_parser = clap::builder::NonEmptyStringValueParser::new(), hide = true)]
    tls_verify: Option<String>,
    /// The folder of ca.pem, cert.pem and key.pem
    #[arg(long, env = "DOCKER_CERT_PATH", value_name = "FOLDER")]
    certificates: Option<PathBuf>,
    /// Only these areas
    #[arg(long, value_enum)]
    area: Vec<Area>,
    /// Only scenarios whose name contains this
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// A Python that can import docker, for the scenarios that drive docker-py
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Print the scenarios, run none
    #[arg(long)]
    list: bool,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables and sentences.
    Text,
    /// One JSON document.
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let ui = Ui::new(if args.output == Format::Json { Output::Json } else { Output::Text }, no_color);
    match judge(args, &ui).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

async fn judge(args: Args, ui: &Ui) -> Result<(), Failure> {
    let wanted = |s: &&Scenario| {
        (args.area.is_empty() || args.area.contains(&s.area)) && args.name.as_ref().is_none_or(|n| s.name.contains(n))
    };
    let scenarios: Vec<&Scenario> = Scenario::all().filter(wanted).collect();
    if args.list {
        list(&scenarios, ui);
        return Ok(());
    }
    let mut sessions = Vec::new();
    for host in &args.host {
        // A plain tcp:// host stays plain; the folder alone, which many environments carry, means nothing.
        let folder = args.certificates.as_deref().filter(|_| args.tls_verify.is_some());
        let opened = Host::open(host, folder).await.with_context(|| format!("use the host '{host}'"))?;
        let session = Session::open(opened, args.python.as_deref()).await;
        sessions.push(session.with_context(|| format!("prepare the host '{host}'"))?);
    }
    let progress = ui.progress();
    // Hundreds of names are of use only where each takes the place of the one before.
    let doing = |name: &str| {
        if ui.is_interactive() {
            progress.doing("scenario", name);
        }
    };
    let rows = run(&sessions, &scenarios, doing).await;
    for session in &sessions {
        session.close().await.context("remove the suite's image")?;
    }
    drop(progress);
    if ui.is_json() {
        ui.json(&serde_json::json!({ "hosts": args.host, "rows": rows }));
    } else {
        ui.line(report::table(&rows, &args.host));
    }
    if rows.iter().any(|row| row.is_red()) {
        return Err(Failure::message_only(ExitKind::Failed, report::sentence(&rows)));
    }
    Ok(())
}

fn list(scenarios: &[&Scenario], ui: &Ui) {
    if ui.is_json() {
        let rows: Vec<_> =
            scenarios.iter().map(|s| serde_json::json!({ "area": s.area, "name": s.name, "api": s.api })).collect();
        return ui.json(&rows);
    }
    let mut table = Table::new(&["AREA", "SCENARIO", "API"]);
    for scenario in scenarios {
        table.row([&format!("{:?}", scenario.area).to_lowercase(), scenario.name, scenario.api]);
    }
    ui.line(table);
}
