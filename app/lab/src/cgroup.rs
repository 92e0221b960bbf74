//! Removes what an engine leaves of its control groups.
//!
//! Must not end processes: a group that still has some stays, and that is reported.

use crate::wait;
use anyhow::{Context, Result};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the hierarchies are: one for all (version 2), or one below for each controller (version 1).
const ROOT: &str = "/sys/fs/cgroup";

/// Removes the group of this name, with all below it, from every hierarchy.
pub(crate) async fn remove(name: &str) -> Result<()> {
    for group in groups(Path::new(ROOT), name) {
        // The kernel lets go of a group some time after its last process has ended.
        let removed = wait::until("the last processes in it to end", Duration::from_secs(5), || async {
            remove_tree(&group).map_err(|e| e.to_string())
        });
        removed.await.with_context(|| format!("remove '{}'", group.display()))?;
    }
    Ok(())
}

fn groups(root: &Path, name: &str) -> Vec<PathBuf> {
    let below = fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    below.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(name)).filter(|group| group.is_dir()).collect()
}

/// Control groups are removed by `rmdir`, the innermost first; the files in them cannot be removed at all.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_in_one_hierarchy_and_in_many() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("cgroup.procs"), "").unwrap();
        fs::create_dir(root.join("cpu")).unwrap();
        assert!(groups(root, "lab").is_empty());
        fs::create_dir_all(root.join("memory/lab/node")).unwrap();
        assert_eq!(groups(root, "lab"), [root.join("memory/lab")]);
        fs::create_dir(root.join("lab")).unwrap();
        assert_eq!(groups(root, "lab").len(), 2);
    }

    #[test]
    fn a_tree_goes_from_its_leaves_and_one_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("group");
        fs::create_dir_all(group.join("a/b")).unwrap();
        fs::create_dir_all(group.join("c")).unwrap();
        remove_tree(&group).unwrap();
        assert!(!group.exists());
        remove_tree(&group).unwrap();
        fs::create_dir_all(group.join("d")).unwrap();
        fs::write(group.join("d/in-use"), "").unwrap();
        assert!(remove_tree(&group).is_err() && group.exists());
    }
}
