//! Packages of a bundle on this host: the only ones that apt sees, in files that are what their digests say.
//!
//! Must not know what the packages are for, nor how they came here. apt's own lists and sources stay as they are: it is given a
//! folder of lists of its own, which goes with the packages.

use super::System;
use anyhow::{Context, Result, bail};
use osier_converge::{Digest, WantedBundle, file_name};
use std::fs;

/// Verifies the packages and makes them a source of apt's. Gives back the options with which apt knows nothing else.
pub(super) fn prepare(system: &System, bundle: &WantedBundle) -> Result<Vec<String>> {
    let folder = bundle.folder.as_str();
    for digest in &bundle.files {
        let file = format!("{folder}/{}", file_name(digest));
        let bytes = fs::read(system.path(&file)).with_context(|| format!("read '{file}'"))?;
        if Digest::of(&bytes) != *digest {
            bail!("'{file}' is not the bundle's: its SHA-256 is another; run this again");
        }
    }
    osier_store::write(&system.path(&format!("{folder}/Packages")), bundle.index.as_str().as_bytes(), 0o644)?;
    let list = format!("{folder}/bundle.list");
    // What it says of itself is verified already, so that no signature is needed.
    osier_store::write(&system.path(&list), format!("deb [trusted=yes] file:{folder} ./\n").as_bytes(), 0o644)?;
    let lists = format!("{folder}/lists");
    fs::create_dir_all(system.path(&format!("{lists}/partial"))).with_context(|| format!("make '{lists}'"))?;
    Ok(vec![
        format!("-oDir::Etc::sourcelist={list}"),
        "-oDir::Etc::sourceparts=-".to_owned(),
        format!("-oDir::State::lists={lists}"),
        "-oDir::Cache::pkgcache=".to_owned(),
        "-oDir::Cache::srcpkgcache=".to_owned(),
        "-oAcquire::Languages=none".to_owned(),
        "-oAPT::Sandbox::User=root".to_owned(),
    ])
}

/// Takes the packages away once they are installed.
pub(super) fn remove(system: &System, bundle: &WantedBundle) -> Result<()> {
    let folder = &bundle.folder;
    fs::remove_dir_all(system.path(folder.as_str())).with_context(|| format!("remove '{folder}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_that_are_what_their_digest_says_are_shown_to_apt() {
        let dir = tempfile::tempdir().unwrap();
        let system = System::at(dir.path());
        let digest = Digest::of(b"package");
        let folder: osier_converge::AbsPath = "/var/lib/x".parse().unwrap();
        let bundle = WantedBundle { folder, files: [digest].into(), index: "Package: a\n".into() };
        let there = dir.path().join("var/lib/x");
        assert!(prepare(&system, &bundle).unwrap_err().to_string().contains(&digest.to_string()));
        fs::create_dir_all(&there).unwrap();
        fs::write(there.join(file_name(&digest)), "altered").unwrap();
        assert!(prepare(&system, &bundle).unwrap_err().to_string().contains("SHA-256"));
        assert!(!there.join("bundle.list").exists());
        fs::write(there.join(file_name(&digest)), "package").unwrap();
        let options = prepare(&system, &bundle).unwrap();
        assert!(options.contains(&"-oDir::Etc::sourcelist=/var/lib/x/bundle.list".to_owned()), "{options:?}");
        let list = fs::read_to_string(there.join("bundle.list")).unwrap();
        assert_eq!(list, "deb [trusted=yes] file:/var/lib/x ./\n");
        remove(&system, &bundle).unwrap();
        assert!(!there.exists());
    }
}
