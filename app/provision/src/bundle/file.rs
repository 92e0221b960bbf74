//! The file that a bundle is: an archive that begins with its manifest, and the packages behind it.
//!
//! Must not know hosts. Whatever the file is, only packages that are what the manifest says are taken out of it.

use anyhow::{Context, Result, bail, ensure};
use osier_converge::{BundledPackage, Digest, Manifest, file_name};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Write},
    path::Path,
};

/// The manifest's name in the archive.
const MANIFEST: &str = "manifest.json";
/// What packages' names begin with there.
const PACKAGES: &str = "packages/";
/// A manifest larger than this is refused; that of three systems has below a megabyte.
const LARGEST_MANIFEST: u64 = 64 << 20;
/// A control file larger than this is refused.
const LARGEST_CONTROL: u64 = 1 << 20;

/// Writes the bundle of these packages, which lie in `folder`. Nobody sees half of it.
pub(super) fn write(path: &Path, manifest: &Manifest, folder: &Path, now: u64) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(parent)?;
    let mut archive = tar::Builder::new(file.as_file());
    let mut add = |name: &str, size: u64, from: &mut dyn Read| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(now);
        archive.append_data(&mut header, name, from)
    };
    let json = serde_json::to_vec_pretty(manifest)?;
    add(MANIFEST, json.len() as u64, &mut json.as_slice())?;
    for (digest, size) in manifest.files() {
        let name = file_name(&digest);
        add(&format!("{PACKAGES}{name}"), size, &mut File::open(folder.join(&name))?)?;
    }
    archive.into_inner()?.sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Reads a bundle to its end, and puts its packages into `folder`.
pub(super) fn read(path: &Path, folder: &Path) -> Result<Manifest> {
    let file = File::open(path)?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut entries = archive.entries()?;
    let other = "it is not a file of 'osier bundle-docker'";
    let first = entries.next().context(other)?.context(other)?;
    ensure!(*first.path_bytes() == *MANIFEST.as_bytes() && first.size() <= LARGEST_MANIFEST, other);
    let mut json = Vec::new();
    first.take(LARGEST_MANIFEST).read_to_end(&mut json)?;
    let manifest = Manifest::parse(&json)?;
    let mut missing = manifest.files();
    for entry in entries {
        let entry = entry.context("it is damaged")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let digest = name.strip_prefix(PACKAGES).and_then(digest_of);
        let Some((digest, size)) = digest.and_then(|d| Some((d, missing.remove(&d)?))) else {
            bail!("it has '{name}', which its manifest does not name");
        };
        let (size_said, place) = (entry.size(), folder.join(file_name(&digest)));
        // One byte more than there should be is enough to tell.
        let (found, found_size) = keep(&mut entry.take(size.saturating_add(1)), &place)?;
        // A file that was cut reads as one that is over.
        ensure!(size_said != size || found_size == size, "it ends too early, in {}", named(&manifest, &digest));
        ensure!(
            (found, found_size) == (digest, size),
            "{} is not what the manifest says: it was altered",
            named(&manifest, &digest)
        );
    }
    match missing.keys().next() {
        None => Ok(manifest),
        Some(first) => {
            bail!("it ends too early: {} of its packages are missing, {} first", missing.len(), named(&manifest, first))
        }
    }
}

/// Reads what a host fetched (`fetch.sh`), and puts the packages into `folder`.
pub(super) fn take_in(archive: impl Read, folder: &Path) -> Result<Vec<BundledPackage>> {
    let (mut controls, mut files) = (BTreeMap::new(), BTreeMap::new());
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = path.strip_prefix("./").unwrap_or(&path);
        if let Some(digest) = name.strip_suffix(".control").and_then(|d| d.parse::<Digest>().ok()) {
            let mut text = String::new();
            entry.take(LARGEST_CONTROL).read_to_string(&mut text).with_context(|| format!("read '{name}'"))?;
            controls.insert(digest, text);
        } else if let Some(digest) = digest_of(name) {
            let (found, size) = keep(&mut entry, &folder.join(file_name(&digest)))?;
            ensure!(found == digest, "'{name}' was altered on its way");
            files.insert(digest, size);
        }
    }
    let package = |(digest, size): (Digest, u64)| {
        let control = controls.get(&digest).map(String::as_str).unwrap_or_default();
        BundledPackage::read(control, digest, size)
            .with_context(|| format!("read the control file of '{digest}': {control}"))
    };
    files.into_iter().map(package).collect()
}

fn digest_of(name: &str) -> Option<Digest> {
    name.strip_suffix(".deb")?.parse().ok()
}

/// A package in words.
fn named(manifest: &Manifest, digest: &Digest) -> String {
    let holders = manifest.sets.iter().filter_map(|s| Some((s, s.packages.iter().find(|p| p.sha256 == *digest)?)));
    let mut holders = holders.peekable();
    let package = holders.peek().map(|(_, p)| format!("{} {}", p.name, p.version)).unwrap_or_default();
    format!("{package} ({})", holders.map(|(set, _)| set.target.to_string()).collect::<Vec<_>>().join(", "))
}

/// Writes to a file what is read, and says what it was.
fn keep(from: &mut impl Read, path: &Path) -> Result<(Digest, u64)> {
    let mut file = File::create(path).with_context(|| format!("write '{}'", path.display()))?;
    let (mut sha, mut size, mut piece) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match from.read(&mut piece)? {
            0 => break,
            n => {
                sha.update(&piece[..n]);
                file.write_all(&piece[..n]).with_context(|| format!("write '{}'", path.display()))?;
                size += n as u64;
            }
        }
    }
    Ok((hex::encode(sha.finalize()).parse()?, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use osier_converge::{PackageSet, Target};
    use proptest::prelude::*;
    use std::fs;

    /// A bundle of two packages, and its bytes.
    fn bundle() -> (Manifest, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let package = |name: &str| {
            let bytes = name.repeat(700);
            let digest = Digest::of(bytes.as_bytes());
            fs::write(dir.path().join(file_name(&digest)), &bytes).unwrap();
            BundledPackage::read(&format!("Package: {name}\nVersion: 1\n"), digest, bytes.len() as u64).unwrap()
        };
        let target = Target { distribution: "debian".into(), release: "13".into(), architecture: "amd64".into() };
        let manifest = Manifest::new([PackageSet { target, packages: vec![package("aa"), package("bb")] }]);
        let path = dir.path().join("b.tar");
        write(&path, &manifest, dir.path(), 1).unwrap();
        (manifest, fs::read(path).unwrap())
    }

    fn reread(bytes: &[u8]) -> Result<Manifest> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar");
        fs::write(&path, bytes).unwrap();
        read(&path, dir.path())
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() {
        let (manifest, bytes) = bundle();
        assert_eq!(reread(&bytes).unwrap(), manifest);
    }

    #[test]
    fn a_bundle_that_is_none_or_was_cut_or_altered_says_so() {
        let (_, good) = bundle();
        let said = |bytes: &[u8]| format!("{:#}", reread(bytes).unwrap_err());
        assert!(said(b"").contains("not a file of 'osier bundle-docker'"));
        assert!(said(&[b'x'; 2000]).contains("not a file of 'osier bundle-docker'"));
        let package = good.windows(4).rposition(|w| w == b"bbbb" || w == b"aaaa").unwrap();
        let mut altered = good.clone();
        altered[package] = b'!';
        assert!(said(&altered).contains("1 (debian 13 amd64) is not what the manifest says: it was altered"));
        assert!(said(&good[..package]).contains("it ends too early"), "{}", said(&good[..package]));
        let headers: Vec<_> =
            good.chunks(512).enumerate().filter(|(_, c)| c.starts_with(PACKAGES.as_bytes())).collect();
        let last = headers[1].0 * 512;
        assert!(said(&good[..last]).contains("1 of its packages are missing"), "{}", said(&good[..last]));
        let mut twice = good[..headers[1].0 * 512].to_vec();
        twice.extend(&good[headers[0].0 * 512..]);
        assert!(said(&twice).contains("which its manifest does not name"), "{}", said(&twice));
    }

    #[test]
    fn what_a_host_fetched_is_taken_as_it_came_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let archive = |deb: &str, control: &str| {
            let mut archive = tar::Builder::new(Vec::new());
            let digest = Digest::of(b"deb");
            for (name, text) in
                [(format!("./{digest}.deb"), deb), (format!("./{digest}.control"), control), ("./x".into(), "")]
            {
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                archive.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
            archive.into_inner().unwrap()
        };
        let take = |deb, control| take_in(archive(deb, control).as_slice(), dir.path());
        let packages = take("deb", "Package: a\nVersion: 1\n\n").unwrap();
        assert_eq!((packages.len(), packages[0].name.as_str(), packages[0].size), (1, "a", 3));
        assert!(take("dab", "Package: a\nVersion: 1\n").is_err() && take("deb", "Package: a\n").is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_bundle_is_refused_or_whole(at in any::<usize>(), byte in any::<u8>(), cut in any::<bool>()) {
            let (manifest, mut bytes) = bundle();
            let at = at % bytes.len();
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            if let Ok(read) = reread(&bytes) {
                prop_assert_eq!(read.files(), manifest.files());
            }
        }
    }
}
