//! `osier vpn ssh-config`: the block for a suffix, printed, or put into the user's ssh configuration and taken out of it.
//!
//! Must not know what a block looks like; `osier-reach` does. Of the file every other byte stays; a link is followed.

use crate::SshConfigArgs;
use anyhow::Context;
use osier_reach::{Block, BrokenBlock, with_block, without_block};
use osier_ui::{ExitKind, Failure, Ui};
use serde_json::json;
use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Prints, installs or removes the block.
pub(crate) fn run(args: &SshConfigArgs, ui: &Ui) -> Result<(), Failure> {
    let suffix = &args.suffix;
    let Some(via) = args.via.clone() else {
        let path = place(args.file.as_deref())?;
        let changed = remove(&path, args)?;
        return report(ui, &path, changed, if changed { "removed" } else { "there was no block" }, suffix);
    };
    let block = Block { suffix: suffix.clone(), via, user: args.user.clone() };
    if !args.install {
        if ui.is_json() {
            ui.json(&json!({ "suffix": suffix.to_string(), "text": block.to_string() }));
        } else {
            ui.raw(block.to_string().as_bytes());
        }
        return Ok(());
    }
    let path = place(args.file.as_deref())?;
    let changed = install(&path, &block)?;
    report(ui, &path, changed, if changed { "installed" } else { "was there already" }, suffix)?;
    if args.file.is_none() {
        see(&block, &path, ui);
    }
    Ok(())
}

fn report(ui: &Ui, path: &Path, changed: bool, what: &str, suffix: &osier_reach::Suffix) -> Result<(), Failure> {
    if ui.is_json() {
        ui.json(&json!({ "suffix": suffix.to_string(), "file": path, "changed": changed }));
    } else {
        ui.line(format_args!("*.{suffix}: {what} in '{}'", path.display()));
    }
    Ok(())
}

/// The file: the one that was named, else `~/.ssh/config`. A link leads to the file that is written.
fn place(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let usual = || std::env::var_os("HOME").filter(|h| !h.is_empty()).map(|h| PathBuf::from(h).join(".ssh/config"));
    let path = named.map(Path::to_owned).or_else(usual);
    let path =
        path.ok_or_else(|| Failure::usage("find ~/.ssh/config: HOME is not set").hint("'--file PATH' names it"))?;
    if !path.is_symlink() {
        return Ok(path);
    }
    Ok(fs::canonicalize(&path).with_context(|| format!("follow the link '{}'", path.display()))?)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    Ok(osier_store::read(path).map_err(anyhow::Error::new)?)
}

fn install(path: &Path, block: &Block) -> Result<bool, Failure> {
    let old = read(path)?;
    let new = with_block(old.as_deref().unwrap_or_default(), block).map_err(|e| broken(path, e))?;
    let private = fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o777 == osier_store::SECRET);
    if private && old.as_ref() == Some(&new) {
        return Ok(false);
    }
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("make the folder '{}'", folder.display()))?;
    }
    osier_store::write(path, &new, osier_store::SECRET).map_err(anyhow::Error::new)?;
    Ok(true)
}

/// Takes the block out. A file that has nothing else in it goes as well.
fn remove(path: &Path, args: &SshConfigArgs) -> Result<bool, Failure> {
    let old = read(path)?.unwrap_or_default();
    let Some(new) = without_block(&old, &args.suffix).map_err(|e| broken(path, e))? else { return Ok(false) };
    if new.is_empty() {
        osier_store::remove(path).map_err(anyhow::Error::new)?;
    } else {
        osier_store::write(path, &new, osier_store::SECRET).map_err(anyhow::Error::new)?;
    }
    Ok(true)
}

fn broken(path: &Path, error: BrokenBlock) -> Failure {
    let error = anyhow::Error::new(error).context(format!("change '{}'", path.display()));
    Failure::new(ExitKind::Failed, error).hint("take the rest of that block out by hand, its first line included")
}

/// Warns where ssh, asked how it would reach such a host, does not say what was installed.
fn see(block: &Block, path: &Path, ui: &Ui) {
    let asked = Command::new("ssh")
        .args(["-G", "--", &format!("host.{}", block.suffix)])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(answer) = asked else { return ui.warn("the 'ssh' program is not installed on this machine") };
    let wanted = format!("proxycommand {}", block.proxy_command());
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    if !said.lines().any(|line| line == wanted) {
        ui.warn(format_args!(
            "ssh does not take the block from '{}': 'ssh -G host.{}' shows what it takes",
            path.display(),
            block.suffix
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(via: &str) -> Block {
        Block { suffix: "eolas".parse().unwrap(), via: via.parse().unwrap(), user: None }
    }

    fn removal() -> SshConfigArgs {
        let suffix = "eolas".parse().unwrap();
        SshConfigArgs { suffix, via: None, user: None, install: false, remove: true, file: None }
    }

    #[test]
    fn a_file_is_made_private_changed_once_and_given_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home/.ssh/config");
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert!(!remove(&path, &removal()).unwrap());
        assert_eq!((install(&path, &block("a")).unwrap(), install(&path, &block("a")).unwrap()), (true, false));
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(remove(&path, &removal()).unwrap() && !path.exists());

        let mine = b"Host x\n\tUser \xff".to_vec();
        fs::write(&path, &mine).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let followed = place(Some(&link)).unwrap();
        assert!(install(&followed, &block("a")).unwrap() && install(&followed, &block("b")).unwrap());
        assert!(mode(&path) == 0o600 && link.is_symlink());
        assert!(remove(&followed, &removal()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), mine);
        fs::remove_file(&path).unwrap();
        assert!(place(Some(&link)).unwrap_err().message().contains("follow the link"));
    }

    #[test]
    fn a_block_without_an_end_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, "# osier vpn eolas\nHost *.eolas\n").unwrap();
        for failure in [install(&path, &block("a")).unwrap_err(), remove(&path, &removal()).unwrap_err()] {
            assert!(failure.message().contains("change '") && failure.causes()[0].contains("no end"), "{failure:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"# osier vpn eolas\nHost *.eolas\n");
    }
}
