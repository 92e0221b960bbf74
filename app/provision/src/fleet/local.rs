//! Files of this machine that are copied to hosts: what there is, and the archive that carries those a host lacks.
//!
//! Must not know hosts. Links are followed; what is neither file nor folder is refused.

use osier_fleet::{Change, Wanted, Why, is_plain};
use osier_ui::{ExitKind, Failure};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// A file or folder of this machine, and what a host shall have of it.
pub(super) struct Local {
    pub(super) wanted: Wanted,
    source: PathBuf,
    /// Permissions there.
    mode: u32,
}

/// All that is copied, in an order in which folders come before what is in them; and the folder that it is put together in.
pub(super) fn collect(sources: &[String], dest: &str, mode: Option<u32>) -> Result<(Vec<Local>, String), Failure> {
    let is_folder = dest.ends_with('/') || sources.len() > 1;
    let dest = if dest.len() > 1 { dest.trim_end_matches('/') } else { dest };
    if dest.is_empty() || !is_plain(dest) || dest.starts_with('~') {
        return Err(Failure::usage(format!("'{dest}' is no path on a host"))
            .hint("a path that does not begin with '/' begins in the login's home"));
    }
    let mut all = Vec::new();
    for source in sources {
        let path = Path::new(source);
        let place = if is_folder {
            let whole = fs::canonicalize(path).map_err(|e| failure(path, e))?;
            let name = whole.file_name().ok_or_else(|| Failure::usage(format!("'{source}' has no name")))?;
            join(dest, &name.to_string_lossy())
        } else {
            dest.to_owned()
        };
        add(path, place, mode, &mut Vec::new(), &mut all)?;
    }
    let mut places = BTreeSet::new();
    if let Some(twice) = all.iter().find(|l: &&Local| !places.insert(l.wanted.path.clone())) {
        return Err(Failure::usage(format!("two files would become '{}'", twice.wanted.path)));
    }
    let base = match all.first() {
        Some(first) if !is_folder && first.wanted.digest.is_some() => match dest.rsplit_once('/') {
            Some(("", _)) => "/",
            Some((folder, _)) => folder,
            None => ".",
        },
        _ => dest,
    };
    let base = base.to_owned();
    Ok((all, base))
}

fn join(folder: &str, name: &str) -> String {
    if folder.ends_with('/') { format!("{folder}{name}") } else { format!("{folder}/{name}") }
}

fn add(
    source: &Path,
    path: String,
    mode: Option<u32>,
    above: &mut Vec<PathBuf>,
    all: &mut Vec<Local>,
) -> Result<(), Failure> {
    if !is_plain(&path) {
        return Err(Failure::usage(format!("the name of '{}' has an end of line in it", source.display())));
    }
    let there = fs::metadata(source).map_err(|e| failure(source, e))?;
    let own = there.permissions().mode() & 0o7777;
    if there.is_file() {
        let (digest, mode) = (Some(digest(source).map_err(|e| failure(source, e))?), mode.unwrap_or(own));
        all.push(Local { wanted: Wanted { path, mode: Some(mode), digest }, source: source.to_owned(), mode });
        return Ok(());
    }
    if !there.is_dir() {
        return Err(Failure::usage(format!("'{}' is neither a file nor a folder", source.display())));
    }
    let whole = fs::canonicalize(source).map_err(|e| failure(source, e))?;
    if above.contains(&whole) {
        return Err(Failure::usage(format!("the link '{}' leads back to a folder that it is in", source.display())));
    }
    all.push(Local {
        wanted: Wanted { path: path.clone(), mode: None, digest: None },
        source: source.to_owned(),
        mode: own,
    });
    above.push(whole);
    let entries: Result<Vec<_>, _> = fs::read_dir(source).map_err(|e| failure(source, e))?.collect();
    let mut names: Vec<_> = entries.map_err(|e| failure(source, e))?.into_iter().map(|e| e.file_name()).collect();
    names.sort();
    for name in names {
        let text = name
            .to_str()
            .ok_or_else(|| Failure::usage(format!("the name of '{}' is not UTF-8", source.join(&name).display())))?;
        add(&source.join(text), join(&path, text), mode, above, all)?;
    }
    above.pop();
    Ok(())
}

fn failure(path: &Path, error: io::Error) -> Failure {
    Failure::new(ExitKind::Usage, anyhow::Error::new(error).context(format!("read '{}'", path.display())))
}

/// The digest of a file (SHA-256, in hexadecimal digits).
pub(super) fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut sha, mut piece) = (fs::File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(sha.finalize())),
            n => sha.update(&piece[..n]),
        }
    }
}

/// What a host needs for these changes, as a private file: an archive of the contents, each under its number, behind a file
/// `list` with a line `NUMBER/MODE/PATH` for each change (`folder` and `same` in the number's place where nothing is sent).
pub(super) fn archive(all: &[Local], changes: &[Change]) -> io::Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    let mut archive = tar::Builder::new(file.as_file());
    let mut list = String::new();
    for change in changes {
        let local = &all[change.wanted];
        let number = match (change.why, &local.wanted.digest) {
            (_, None) => "folder".to_owned(),
            (Why::Attributes, _) => "same".to_owned(),
            _ => change.wanted.to_string(),
        };
        list.push_str(&format!("{number}/{:o}/{}\n", local.mode, local.wanted.path));
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(list.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, "list", list.as_bytes())?;
    for change in changes.iter().filter(|c| c.why.sends() && all[c.wanted].wanted.digest.is_some()) {
        let source = fs::File::open(&all[change.wanted].source)?;
        let mut header = tar::Header::new_gnu();
        let size = source.metadata()?.len();
        header.set_size(size);
        header.set_mode(0o600);
        // A file that grows meanwhile is cut; one that shrinks is an error, or the archive would be broken.
        let mut counted = Counted { rest: size, source };
        archive.append_data(&mut header, change.wanted.to_string(), &mut counted)?;
        if counted.rest > 0 {
            let text = format!("'{}' became shorter while it was read", all[change.wanted].source.display());
            return Err(io::Error::other(text));
        }
    }
    archive.into_inner()?;
    Ok(file)
}

/// So many bytes of a file.
struct Counted {
    rest: u64,
    source: fs::File,
}

impl Read for Counted {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest).unwrap_or(usize::MAX).min(piece.len());
        let n = self.source.read(&mut piece[..most])?;
        self.rest -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(sources: &[&Path], dest: &str) -> Result<(Vec<String>, String), Failure> {
        let sources: Vec<String> = sources.iter().map(|s| s.display().to_string()).collect();
        let (all, base) = collect(&sources, dest, None)?;
        Ok((all.into_iter().map(|l| l.wanted.path).collect(), base))
    }

    #[test]
    fn where_things_go_depends_on_the_command_line_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("f"), dir.path().join("d"));
        fs::write(&file, "x").unwrap();
        fs::create_dir_all(folder.join("e")).unwrap();
        fs::write(folder.join("e/g"), "x").unwrap();
        assert_eq!(paths(&[&file], "/etc/x").unwrap(), (vec!["/etc/x".into()], "/etc".into()));
        assert_eq!(paths(&[&file], "x").unwrap(), (vec!["x".into()], ".".into()));
        assert_eq!(paths(&[&file], "/x").unwrap(), (vec!["/x".into()], "/".into()));
        assert_eq!(paths(&[&file], "/etc/").unwrap(), (vec!["/etc/f".into()], "/etc".into()));
        let copy = ["/o", "/o/e", "/o/e/g"].map(str::to_owned).to_vec();
        assert_eq!(paths(&[&folder], "/o").unwrap(), (copy, "/o".into()));
        assert_eq!(paths(&[&folder, &file], "/o").unwrap().0, ["/o/d", "/o/d/e", "/o/d/e/g", "/o/f"]);
        for (sources, dest) in [
            (&[file.as_path(), &file][..], "/o"),
            (&[&dir.path().join("none")], "/o"),
            (&[&file], "~/x"),
            (&[&file], "a\nb"),
        ] {
            assert!(paths(sources, dest).is_err(), "{dest}");
        }
        std::os::unix::fs::symlink("..", folder.join("e/back")).unwrap();
        assert!(paths(&[&folder], "/o").unwrap_err().message().contains("leads back"));
    }
}
