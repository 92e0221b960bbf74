//! The binary `osier`: arguments in, one of the roles out. Linked as `docker-swarm`, `swarm` or `weave` it answers as
//! those did.
//!
//! Must not know how anything is done: every command is a function of another crate.

mod args;
mod log;
mod logs;
mod swarm;

use args::{Cli, Command, Node, Weave};
use clap::{CommandFactory, Parser};
use osier_manager::{Caller, Place};
use osier_model::{Token, config::path};
use osier_pki::Identity;
use osier_provision::KnownCluster;
use osier_ui::{ExitKind, Failure, FailureExt, Output, Ui};
use std::{ffi::OsString, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().map(Path::new).and_then(Path::file_name).and_then(|n| n.to_str()).unwrap_or_default();
    let classic = matches!(name, "docker-swarm" | "swarm");
    let mut caller = Caller {
        program: if classic { name.to_owned() } else { "osier".to_owned() },
        classic,
        experimental: false,
        discovery: std::env::var("SWARM_DISCOVERY").ok(),
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let cli = match name {
        "weave" => Weave::parse_from(words).into(),
        _ if !classic => Cli::parse_from(words),
        _ => match swarm::parse(words) {
            swarm::Wish::Run(cli) => *cli,
            swarm::Wish::Tell(text) => {
                Ui::new(Output::Text, no_color).raw(text.as_bytes());
                return ExitCode::SUCCESS;
            }
            swarm::Wish::Mistake(text) => {
                Ui::new(Output::Text, no_color).note(text);
                return ExitCode::FAILURE;
            }
        },
    };
    caller.experimental = cli.experimental;
    let ui = Ui::new(if cli.output == args::Format::Json { Output::Json } else { Output::Text }, no_color);
    let daemon = matches!(cli.command, Command::Agent(_) | Command::Manage(_) | Command::Join(_));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match (log::start(if cli.debug && cli.log.is_empty() { "debug" } else { &cli.log }, daemon), runtime) {
        (Err(failure), _) => Err(failure),
        (_, Ok(runtime)) => {
            let result = runtime.block_on(run(cli.command, &caller, &ui));
            // Tasks of a daemon that drained are of no more use; nothing may keep the process.
            runtime.shutdown_background();
            result
        }
        (_, Err(e)) => Err(Failure::new(ExitKind::Failed, anyhow::Error::new(e).context("start the runtime"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.failure(&failure);
            // The classic knew one code for everything that goes wrong.
            if classic { ExitCode::FAILURE } else { ExitCode::from(failure.code()) }
        }
    }
}

async fn run(command: Command, caller: &Caller, ui: &Ui) -> Result<(), Failure> {
    match command {
        Command::Create(a) => osier_manager::create(&a, caller, ui),
        Command::List(a) => osier_manager::list(a, caller, ui, token_place).await,
        Command::Manage(a) => osier_manager::manage(*a, caller, ui, token_place).await,
        Command::Join(a) => osier_manager::join(a, caller, token_place).await,
        Command::Node { command: Node::Steer(command) } => osier_manager::run_node(command, ui, cluster_place).await,
        Command::Node { command: Node::Rm(args) } => osier_provision::run_node_rm(args, ui).await,
        Command::Explain(a) => osier_manager::run_explain(a, ui, cluster_place).await,
        Command::Agent(a) => Ok(osier_agent::run(a).await?),
        Command::Status { manager } => {
            let is_node = manager.cluster.is_none() && manager.host.is_none() && Path::new(path::AGENT_SOCKET).exists();
            if is_node {
                return osier_agent::run_status(ui).await;
            }
            let done = osier_manager::run_overview(&manager, ui, cluster_place).await;
            done.hint("on a node, 'systemctl status osier-agent' says why its agent cannot be asked")
        }
        Command::Expose => osier_agent::run_expose(true, ui).await,
        Command::Hide => osier_agent::run_expose(false, ui).await,
        Command::Dns { command } => osier_agent::run_dns(command, ui).await,
        Command::Weave(a) => osier_agent::run_weave(a, ui).await,
        Command::Bootstrap(a) => osier_provision::run_bootstrap(a, ui).await,
        Command::SetupCluster(a) => osier_provision::run_setup_cluster(a, ui).await,
        Command::Site(a) => osier_provision::run_site(a, ui).await,
        Command::Destroy(a) => osier_provision::run_destroy(a, ui).await,
        Command::BundleDocker(a) => osier_provision::run_bundle_docker(a, ui).await,
        Command::Inventory(a) => osier_provision::run_inventory(a, ui).await,
        Command::Env(a) => osier_provision::run_env(a, ui).await,
        Command::Doctor(a) => osier_provision::run_doctor(a, ui).await,
        Command::Exec(a) => osier_provision::run_exec(a, ui).await,
        Command::Copy(a) => osier_provision::run_copy(a, ui).await,
        Command::Logs(a) if a.containers.is_wanted() => {
            let tail = a.tail();
            osier_manager::run_container_logs(a.containers, tail, ui, cluster_place).await
        }
        Command::Logs(a) => {
            let tail = a.tail();
            osier_provision::run_service_logs(a.services, tail, ui).await
        }
        Command::Ps(a) => osier_manager::run_ps(a, ui, cluster_place).await,
        Command::RestartDocker(a) => osier_provision::run_restart_docker(a, ui).await,
        Command::RemoveContainers(a) => osier_provision::run_remove_containers(a, ui).await,
        Command::RemoveImages(a) => osier_provision::run_remove_images(a, ui).await,
        Command::Converge(a) => osier_provision::run_converge(a, ui).await,
        Command::Vpn { command } => osier_vpn::run(command, ui).await,
        Command::Lab { command } => osier_lab::run(command, ui).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "osier", &mut script);
            ui.raw(&script);
            Ok(())
        }
    }
}

/// Where the cluster of a token is, from the operator's own files.
fn token_place(token: &Token) -> Option<Place> {
    place(&osier_provision::resolve_token(token).ok().flatten()?).ok()
}

/// Where the manager of a cluster of this machine is, by the cluster's name.
fn cluster_place(name: Option<&str>) -> Result<Place, Failure> {
    let known =
        osier_provision::resolve_cluster(name).hint("'-H tcp://HOST:3376' names a manager without a cluster")?;
    place(&known)
}

fn place(known: &KnownCluster) -> Result<Place, Failure> {
    let none = || Failure::usage(format!("cluster '{}' has no manager yet", known.record.name));
    let address = known.record.manager().ok_or_else(none)?;
    let identity = Identity::read(&known.folder).map_err(anyhow::Error::from)?;
    Ok(Place { address, server_name: address.ip().to_string(), identity })
}
