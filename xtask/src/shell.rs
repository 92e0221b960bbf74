//! Running programs, and finding what a build has made.

use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// A program to be run in the root of the workspace.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// cargo itself, the one that runs this program.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args);
    cargo
}

/// Runs a program to its end, showing what is run.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let text = display(command);
    eprintln!("$ {text}");
    let status = command.status().with_context(|| format!("run '{text}'"))?;
    if !status.success() {
        bail!("'{text}' failed: {status}");
    }
    Ok(())
}

/// Whether a program can be run at all.
pub(crate) fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|o| o.status.success())
}

/// Runs a program and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let text = display(command);
    let output = command.output().with_context(|| format!("run '{text}'"))?;
    if !output.status.success() {
        bail!("'{text}' failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Builds the workspace's program `name` with the given profile and gives its path, as cargo reports it.
pub(crate) fn build(package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    build_with(package, name, profile, |_| {})
}

/// As [`build`], with more arguments to cargo.
pub(crate) fn build_with(package: &str, name: &str, profile: &str, more: impl FnOnce(&mut Command)) -> Result<PathBuf> {
    eprintln!("building {name} ({profile}) …");
    let mut cargo = cargo(&["build", "--package", package, "--bin", name, "--profile", profile]);
    more(&mut cargo);
    cargo.args(["--message-format", "json-render-diagnostics"]).stderr(std::process::Stdio::inherit());
    // Outside a repository the program says that it does not know.
    if let Ok(commit) = output(command("git").args(["rev-parse", "--short", "HEAD"])) {
        cargo.env("OSIER_COMMIT", commit.trim());
    }
    let messages = output(&mut cargo)?;
    let made = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = made.filter(|m| m["target"]["name"] == name).find_map(|m| m["executable"].as_str().map(PathBuf::from));
    path.with_context(|| format!("cargo built no program '{name}'"))
}
