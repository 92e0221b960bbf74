//! Work on all hosts at once: exec, restart-docker, remove-containers, remove-images, copy, logs.
//!
//! Must not know how a host is reached. What is decided lies in `osier-fleet`; here it is asked and carried out.

mod args;
mod copy;
mod engine;
mod exec;
mod fetch;
mod local;
mod logs;
mod stop;

pub use args::{CopyArgs, ExecArgs, RemoveContainersArgs, RemoveImagesArgs, RestartDockerArgs, ServiceLogsArgs};
pub(crate) use copy::Job;
pub use copy::run_copy;
pub use engine::{run_remove_containers, run_remove_images};
pub use exec::{run_exec, run_restart_docker};
pub use logs::run_service_logs;
pub(crate) use stop::Stop;

use crate::{
    inventory,
    remote::{self, Remote},
};
use args::FleetArgs;
use osier_inventory::Inventory;
use osier_ssh::Command;
use osier_ui::{Failure, Ui};

/// The hosts of one run.
struct Fleet {
    remotes: Vec<Remote>,
    forks: u16,
    inventory: Inventory,
}

impl Fleet {
    /// Reads which hosts are meant; connects to none.
    fn read(FleetArgs { hosts: args, keep }: &FleetArgs, ui: &Ui) -> Result<Self, Failure> {
        let inventory = inventory::read(&args.from, ui)?;
        let hosts = inventory::select(&inventory, args.limit.as_deref())?;
        let remotes = remote::kept(&hosts, *keep)?;
        Ok(Self { remotes, forks: args.forks, inventory })
    }

    /// Asks whether it shall be done.
    fn ask(&self, yes: bool, what: &str, ui: &Ui) -> Result<(), Failure> {
        let names = self.remotes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
        if yes || ui.confirm(&format!("{what} on {names}?")) {
            return Ok(());
        }
        Err(Failure::usage("do nothing without a yes").hint("'--yes' says so beforehand"))
    }

    /// Characters of the longest name.
    fn width(&self) -> usize {
        self.remotes.iter().map(|r| r.name.chars().count()).max().unwrap_or(0)
    }
}

/// The command as the operator and the inventory want it.
fn as_wished<'a>(command: Command<'a>, root: bool, remote: &Remote) -> Command<'a> {
    if root || remote.root { command.as_root() } else { command }
}
