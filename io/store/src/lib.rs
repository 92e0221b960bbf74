//! Durable local state: whole files written atomically, with their permissions, and read back with their path in
//! every error.
//!
//! Must not know what the files mean. A write is visible entirely or not at all: temporary file in the same folder,
//! `fsync`, rename, `fsync` of the folder, so that `kill -9` or a power cut at any moment leaves the old or the new.
//!
//! State is what only a program writes and nobody else can tell it again: it ends in a line with its checksum, so that a bit
//! that fell over is noticed and not taken for an address.

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
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
    #[error(
        "the file is damaged: its checksum is not that of its contents; it is left as it is; restore it, or move it away to do \
         without what it held"
    )]
    Damaged,
    #[error("another process holds it")]
    InUse,
}

impl Error {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |e| Self { verb, path: path.to_owned(), source: Source::Io(e) }
    }

    /// Whether the file was there but could not be understood (as opposed to not readable).
    pub fn is_format(&self) -> bool {
        matches!(self.source, Source::Format(_) | Source::Damaged)
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
    let folder = folder(path);
    fs::create_dir_all(folder).map_err(Error::io("create the folder of", path))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("create", path))?;
    file.write_all(contents).map_err(Error::io("write", path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))?;
    file.as_file().sync_all().map_err(Error::io("flush", path))?;
    file.persist(path).map_err(|e| Error::io("replace", path)(e.error))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("flush the folder of", path))
}

/// The folder of a file; that of a bare name is the one where the program runs.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        None => Path::new("/"),
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
    }
}

/// Replaces `path` with `value` as indented JSON. See [`write`].
pub fn write_json<T: Serialize>(path: &Path, value: &T, mode: u32) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| format_error("encode", path, e))?;
    text.push(b'\n');
    write(path, &text, mode)
}

/// Replaces `path` with `value` as indented JSON and a line with the checksum of that. See [`write`] and [`read_state`].
pub fn write_state<T: Serialize>(path: &Path, value: &T, mode: u32) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| format_error("encode", path, e))?;
    text.push(b'\n');
    text.extend(checksum(&text).into_bytes());
    write(path, &text, mode)
}

/// Reads what [`write_state`] wrote, or `None` where there is no such file. A file without a checksum is taken as it is: an
/// earlier version wrote it, or only its last line is missing. A damaged file is an error and is left as it is.
pub fn read_state<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let last = bytes.trim_ascii_end().iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let (text, line) = bytes.split_at(last);
    let text = match line.first() {
        Some(b'#') if line == checksum(text).as_bytes() => text,
        Some(b'#') => return Err(Error { verb: "read", path: path.to_owned(), source: Source::Damaged }),
        _ => bytes.as_slice(),
    };
    serde_json::from_slice(text).map(Some).map_err(|e| format_error("read", path, e))
}

/// The last line of a file of state: the first half of the SHA-256 of all before it.
fn checksum(text: &[u8]) -> String {
    format!("# {}\n", hex::encode(&Sha256::digest(text)[..16]))
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
    fs::create_dir_all(folder(path)).map_err(Error::io("create the folder of", path))?;
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
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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

    #[test]
    fn a_bare_name_is_in_the_folder_where_the_program_runs() {
        let folders = ["a", "./a", "/a", "b/a", "/"].map(|path| folder(Path::new(path)).to_str());
        assert_eq!(folders, [".", ".", "/", "b", "/"].map(Some));
    }

    #[test]
    fn state_of_an_earlier_version_has_no_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for text in ["{\"a\": 1}", "{\"a\": 1}\n", "{\n  \"a\": 1\n}\n"] {
            write(&path, text.as_bytes(), PUBLIC).unwrap();
            assert_eq!(read_state(&path).unwrap(), Some(BTreeMap::from([("a".to_owned(), 1)])), "{text}");
        }
        remove(&path).unwrap();
        assert_eq!(read_state::<u8>(&path).unwrap(), None);
    }

    proptest! {
        /// A flipped bit in a number, or a file cut in the middle of a list, would otherwise be another state.
        #[test]
        fn state_that_was_cut_or_changed_in_one_place_is_refused_and_left(
            state in prop::collection::btree_map("[a-z]{0,3}", any::<u32>(), 0..6), at in any::<prop::sample::Index>(),
            bit in 0..8u8, is_cut in any::<bool>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.json");
            write_state(&path, &state, SECRET).unwrap();
            prop_assert_eq!(read_state(&path).unwrap(), Some(state.clone()));
            let whole = fs::read(&path).unwrap();
            let (at, mut bytes) = (at.index(whole.len()), whole);
            if is_cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            fs::write(&path, &bytes).unwrap();
            match read_state::<BTreeMap<String, u32>>(&path) {
                // No more than the checksum was cut off, or changed in what is white space either way.
                Ok(read) => prop_assert_eq!(read, Some(state)),
                Err(error) => prop_assert!(error.is_format() && error.to_string().contains("state.json"), "{}", error),
            }
            prop_assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }
}
