//! One engine, driven through the `docker` command line on a named socket.
//!
//! Must not look at the user's Docker configuration: no context, no `DOCKER_*` variable leads these calls elsewhere.
//! Everything a lab makes in an engine carries the label `osier.lab=NAME`, and is found again by it.

use crate::{
    command::{CommandError, command, run},
    plan::LabName,
    subnet,
};
use ipnet::Ipv4Net;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;

/// The label on everything that belongs to a lab; its value is the lab's name.
pub(crate) const LABEL: &str = "osier.lab";
/// How long an engine may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// One engine.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    socket: PathBuf,
}

/// What a lab has in an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Container,
    Volume,
    Network,
}

impl Kind {
    fn list(self) -> &'static [&'static str] {
        match self {
            Self::Container => &["container", "ls", "--all"],
            Self::Volume => &["volume", "ls"],
            Self::Network => &["network", "ls"],
        }
    }

    fn remove(self) -> &'static [&'static str] {
        match self {
            Self::Container => &["container", "rm", "--force", "--volumes"],
            Self::Volume => &["volume", "rm", "--force"],
            Self::Network => &["network", "rm"],
        }
    }
}

impl Docker {
    /// The engine on this socket.
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A call of the `docker` command line.
    pub(crate) fn call<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut docker = command("docker");
        for name in ["HOST", "CONTEXT", "TLS", "TLS_VERIFY", "CERT_PATH", "API_VERSION", "CONFIG"] {
            docker.env_remove(format!("DOCKER_{name}"));
        }
        docker.arg("--host").arg(format!("unix://{}", self.socket.display())).args(args);
        docker
    }

    /// Runs the `docker` command line and returns what it prints.
    pub(crate) async fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String, CommandError> {
        run(&mut self.call(args)).await
    }

    /// Whether an engine answers on the socket.
    pub(crate) async fn answers(&self) -> bool {
        let ask = self.run(["version", "--format", "{{.Server.Version}}"]);
        self.socket.exists() && matches!(tokio::time::timeout(PATIENCE, ask).await, Ok(Ok(_)))
    }

    /// The identifiers of what this lab (or any lab) has here.
    pub(crate) async fn of_lab(&self, kind: Kind, lab: Option<&LabName>) -> Result<Vec<String>, CommandError> {
        let label = lab.map_or_else(|| LABEL.to_owned(), |lab| format!("{LABEL}={lab}"));
        let text =
            self.run(kind.list().iter().copied().chain(["--quiet", "--filter", &format!("label={label}")])).await?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Removes all of this kind that the lab has here.
    pub(crate) async fn remove_of_lab(&self, kind: Kind, lab: &LabName) -> Result<(), CommandError> {
        let ids = self.of_lab(kind, Some(lab)).await?;
        if !ids.is_empty() {
            self.run(kind.remove().iter().copied().chain(ids.iter().map(String::as_str))).await?;
        }
        Ok(())
    }

    /// The state of each of the lab's containers (`running`, `exited`, …) by the container's name.
    pub(crate) async fn states(&self, lab: &LabName) -> Result<BTreeMap<String, String>, CommandError> {
        let filter = format!("label={LABEL}={lab}");
        let text = self.run(["ps", "--all", "--filter", &filter, "--format", "{{.Names}} {{.State}}"]).await?;
        Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(n, s)| (n.to_owned(), s.to_owned())).collect())
    }

    /// The IPv4 subnets of all networks here, those without a bridge at the moment included.
    pub(crate) async fn subnets(&self) -> Result<Vec<Ipv4Net>, CommandError> {
        let ids = self.run(["network", "ls", "--quiet"]).await?;
        let format = ["network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"];
        let text = self.run(format.into_iter().chain(ids.split_whitespace())).await?;
        Ok(text.split_whitespace().filter_map(subnet::parse_net).collect())
    }

    /// Runs a shell script in a container, with `input` on its standard input.
    pub(crate) async fn script(&self, container: &str, script: &str, input: &[u8]) -> Result<String, CommandError> {
        let mut call = self.call(["exec", "--interactive", container, "/bin/sh", "-euc", script]);
        crate::command::run_with_input(&mut call, input).await
    }
}
