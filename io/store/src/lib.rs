//! Durable local state: whole files written atomically, with their permissions, and read back with their path in
//! every error.
//!
//! Must not know what the files mean. A write is visible entirely or not at all: temporary file in the same folder,
//! `fsync`, rename, `fsync` of the folder, so that `kill -9` or a power cut at any moment leaves the old or the new.

use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, Permissions, TryLockError},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Reading or writing a file failed; the path is always named.
#[derive(Debug, thiserror::Error)]
#[error("{verb} '{}'", path.display())]
pub struct Error {
    verb: &'static str,
    path: PathBuf,
    source: Source,
}

#[derive(Debug, thiserror::Error)]
enum Source {
    #[error(transparent)]
    Io(std::io::Error),
    #[error("the file is not what this version writes: {0}")]
    Format(serde_json::Error),
    #[error("another process holds it")]
    InUse,
}

impl Error {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |e| Self { verb, path: path.to_owned(), source: Source::Io(e) }
    }

    /// Whether the file was there but could not be understood (as opposed to not readable).
    pub fn is_format(&self) -> bool {
        matches!(self.source, Source::Format(_))
    }

    /// Whether another process holds the lock (see [`lock`]).
    pub fn is_in_use(&self) -> bool {
        matches!(self.source, Source::InUse)
    }
}

/// Mode of files that hold secrets.
pub const SECRET: u32 = 0o600;
/// Mode of files anyone may read.
pub const PUBLIC: u32 = 0o644;

/// Replaces `path` with `contents`, atomically and durably, creating its folder if need be.
pub fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(Error::io("create the folder of", path))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("create", path))?;
    file.write_all(contents).map_err(Error::io("write", path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))?;
    file.as_file().sync_all().map_err(Error::io("flush", path))?;
    file.persist(path).map_err(|e| Error::io("replace", path)(e.error))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("flush the folder of", path))
}

/// Replaces `path` with `value` as indented JSON. See [`write`].
pub fn write_json<T: Serialize>(path: &Path, value: &T, mode: u32) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| format_error("encode", path, e))?;
    text.push(b'\n');
    write(path, &text, mode)
}

/// Reads `path`, or `None` where there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// Reads `path` as JSON, or `None` where there is no such file. A damaged file is an error and is left as it is.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    read(path)?.map(|bytes| serde_json::from_slice(&bytes).map_err(|e| format_error("read", path, e))).transpose()
}

/// Removes `path`; one that is not there is no error.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// A lock that other processes see, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock that `path` stands for, a file of its own that stays and is empty. It does not wait: where another
/// process has the lock, that is an error.
pub fn lock(path: &Path) -> Result<Lock, Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(Error::io("create the folder of", path))?;
    let file = File::options().create(true).append(true).mode(SECRET).open(path).map_err(Error::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error { verb: "lock", path: path.to_owned(), source: Source::InUse }),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", path)(e)),
    }
}

fn format_error(verb: &'static str, path: &Path, e: serde_json::Error) -> Error {
    Error { verb, path: path.to_owned(), source: Source::Format(e) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_replace_the_whole_file_and_set_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        write_json(&path, &vec![1, 2, 3], PUBLIC).unwrap();
        write_json(&path, &vec![4], SECRET).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![4]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_lock_has_one_holder_until_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/state.lock");
        let held = lock(&path).unwrap();
        let refused = lock(&path).unwrap_err();
        assert!(refused.is_in_use() && refused.to_string().contains("state.lock"), "{refused}");
        drop(held);
        lock(&path).unwrap();
    }

    #[test]
    fn a_missing_file_is_none_and_a_damaged_one_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(read_json::<u8>(&path).unwrap(), None);
        write(&path, b"{\"trunc", PUBLIC).unwrap();
        let error = read_json::<u8>(&path).unwrap_err();
        assert!(error.is_format() && error.to_string().contains("state.json"), "{error}");
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
