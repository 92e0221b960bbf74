//! The suite's own image: busybox and links to it, imported without any registry; and small tar archives.

use crate::{
    failure::Failure,
    target::{Target, escape},
};
use bytes::Bytes;
use http::Method;
use std::io::Read;

/// Where Debian's `busybox-static` puts it.
const BUSYBOX: &str = "/bin/busybox";
/// The programs in the image, all of them busybox.
const PROGRAMS: [&str; 24] = [
    "cat", "chmod", "cp", "cut", "date", "echo", "env", "false", "head", "hostname", "id", "kill", "ls", "mkdir",
    "nslookup", "ping", "pwd", "rm", "seq", "sh", "sleep", "stty", "touch", "true",
];

/// A file of an archive.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

/// Imports the base image under the run's name.
pub(crate) async fn import(target: &Target) -> Result<(), Failure> {
    let busybox = tokio::fs::read(BUSYBOX).await;
    let busybox = busybox.map_err(|e| Failure::broken(format_args!("read '{BUSYBOX}' (Debian: busybox-static)"), e))?;
    let archive = base(&busybox).map_err(|e| Failure::broken("pack the base image", e))?;
    let (repository, tag) = target.image().split_once(':').unwrap_or((target.image(), "base"));
    let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}&message={}", escape("conformance suite"));
    let reply = target.ask(Method::POST, &path, Some(("application/x-tar", archive.into()))).await?;
    reply.is(200)?.progress().map(drop)
}

fn base(busybox: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "bin/busybox", busybox, 0o755)?;
    for program in PROGRAMS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, format!("bin/{program}"), "busybox")?;
    }
    append(&mut archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nguest:x:7:7::/:/bin/sh\n", 0o644)?;
    append(&mut archive, "etc/group", b"root:x:0:\nguest:x:7:\n", 0o644)?;
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o1777);
    archive.append_data(&mut header, "tmp/", std::io::empty())?;
    archive.into_inner()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, content)
}

/// An archive of these files.
pub(crate) fn pack(files: &[(&str, &str)]) -> Result<Bytes, Failure> {
    let pack = || {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            append(&mut archive, path, content.as_bytes(), 0o644)?;
        }
        archive.into_inner()
    };
    Ok(pack().map_err(|e: std::io::Error| Failure::broken("pack an archive", e))?.into())
}

/// What an archive holds.
pub(crate) fn unpack(what: &str, bytes: &[u8]) -> Result<Vec<Entry>, Failure> {
    let read = || {
        let mut archive = tar::Archive::new(bytes);
        let mut all = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let mode = entry.header().mode()?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            all.push(Entry { path, content, mode });
        }
        Ok(all)
    };
    read().map_err(|e: std::io::Error| Failure::broken(format_args!("unpack {what}"), e))
}

/// The content of one file of an archive, as text.
pub(crate) fn file(what: &str, bytes: &[u8], path: &str) -> Result<String, Failure> {
    let entries = unpack(what, bytes)?;
    let found = entries.iter().find(|e| e.path == path);
    let found = found.ok_or_else(|| Failure::Unexpected {
        what: what.to_owned(),
        wanted: format!("the file {path}"),
        got: entries.iter().map(|e| e.path.as_str()).collect::<Vec<_>>().join(" "),
    })?;
    Ok(String::from_utf8_lossy(&found.content).into_owned())
}
