//! The lock on a cluster's folder: one run at a time, and the second is told who is at work.
//!
//! Must not know what the folder holds.

use anyhow::Context;
use osier_ui::{ExitKind, Failure};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Who holds a cluster, for the one who has to wait.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    since: String,
}

/// Takes the lock of a folder that exists, or says who has it. The lock goes with the process.
pub(crate) fn hold(folder: &Path) -> Result<fs::File, Failure> {
    let path = folder.join("lock");
    let doing = || format!("lock '{}'", path.display());
    let mut options = fs::OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.with_context(doing)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let who = serde_json::from_str::<Holder>(&text).map_or_else(
                |_| "another process".to_owned(),
                |h| format!("process {} on {} since {}", h.pid, h.host, h.since),
            );
            let message = format!("the cluster in '{}' is in use by {who}", folder.display());
            return Err(Failure::message_only(ExitKind::Failed, message).hint("wait until it is done"));
        }
        Err(fs::TryLockError::Error(e)) => return Err(anyhow::Error::new(e).context(doing()).into()),
    }
    let now = OffsetDateTime::from_unix_timestamp(OffsetDateTime::now_utc().unix_timestamp());
    let since = now.map(|now| now.format(&Rfc3339).unwrap_or_default());
    let holder = Holder { pid: std::process::id(), host: host_name(), since: since.unwrap_or_default() };
    let text = serde_json::to_string(&holder).unwrap_or_default();
    file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).with_context(doing)?;
    Ok(file)
}

/// This machine's name.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "this host".to_owned(), |n| n.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_at_work_until_the_first_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let first = hold(dir.path()).unwrap();
        let refused = hold(dir.path()).unwrap_err().message();
        assert!(refused.contains(&format!("process {} on {}", std::process::id(), host_name())), "{refused}");
        drop(first);
        hold(dir.path()).unwrap();
    }
}
