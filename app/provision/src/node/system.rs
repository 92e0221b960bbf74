//! This host as files below a root and programs that are run.
//!
//! Must not know what is done with them. The root is `/` except in tests, which never run a program.

use anyhow::{Context, Result, bail};
use osier_converge::Proxies;
use std::{path::PathBuf, process::Stdio};

/// A host.
#[derive(Debug, Clone)]
pub(super) struct System {
    root: PathBuf,
}

impl System {
    /// The host that this program runs on.
    pub(super) fn host() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A host made of files in a folder.
    #[cfg(test)]
    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where `path`, absolute on the host, really lies.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Runs a program that must succeed; gives back its standard output.
    pub(super) async fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        self.run_through(program, args, &Proxies::default()).await
    }

    /// As [`Self::run`], with proxies in the program's environment. Their passwords are in no error.
    pub(super) async fn run_through(&self, program: &str, args: &[&str], proxies: &Proxies) -> Result<String> {
        let mut command = tokio::process::Command::new(program);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_SUSPEND", "1");
        command.envs(proxies.variables());
        let line = || std::iter::once(program).chain(args.iter().copied()).collect::<Vec<_>>().join(" ");
        let output = command.output().await.with_context(|| format!("run '{}'", line()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
            let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            let last = proxies.scrub(&lines[lines.len().saturating_sub(5)..].join("; "));
            bail!("'{}' ended with {}: {last}", line(), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
