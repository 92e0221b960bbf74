//! A bundle in the hands of a run: which hosts it will do for, and its packages on those that need them.
//!
//! Must not know how packages are installed. All of the file is verified before any host is asked anything.

use super::{HINT, file};
use crate::{
    documents::{self, BUNDLE},
    fleet::Job,
    remote::Remote,
    settings::DockerSettings,
};
use anyhow::Context;
use osier_converge::{Lacking, Manifest, OsRelease, Package, PackageSet, Target, WantedEngine, file_name};
use osier_ui::{ExitKind, Failure};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A bundle that was verified.
pub(crate) struct Offline {
    path: PathBuf,
    manifest: Manifest,
    /// Its packages.
    folder: TempDir,
    /// What goes to the hosts of each system.
    jobs: Mutex<BTreeMap<Target, Arc<Job>>>,
}

impl Offline {
    /// Reads and verifies a bundle.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let manifest = tokio::task::block_in_place(|| file::read(path, folder.path()));
        let manifest = manifest.with_context(|| format!("read the bundle '{}'", path.display()));
        let manifest = manifest.map_err(|e| Failure::new(ExitKind::Usage, e).hint(HINT))?;
        Ok(Self { path: path.to_owned(), manifest, folder, jobs: Mutex::default() })
    }

    /// Whether a host of this system can have its engine from it.
    pub(crate) fn judge(&self, docker: &DockerSettings, os: &OsRelease, target: &Target) -> Option<Lacking> {
        // One whose packages have no name is refused for that.
        let wanted = documents::packages(docker, os).unwrap_or_default();
        self.manifest.find(target, &wanted).err()
    }

    /// The engine that the inventory wants on a host of this system. Where the bundle has nothing for it, an engine that is there
    /// may do all the same.
    pub(crate) fn engine(
        &self,
        docker: &DockerSettings,
        os: &OsRelease,
        target: &Target,
    ) -> anyhow::Result<WantedEngine> {
        let none = || PackageSet { target: target.clone(), packages: Vec::new() };
        let set = self.manifest.find(target, &[]).map_or_else(|_| none(), Clone::clone);
        documents::offline(docker, &set, os)
    }

    /// Brings a host what it lacks of the packages of its system, all that are `wanted` among them.
    pub(crate) async fn bring(&self, remote: &Remote, target: &Target, wanted: &[Package]) -> Result<(), Failure> {
        let set = self.manifest.find(target, wanted).map_err(|lacking| {
            let doing = format!("install Docker on '{}' from '{}'", remote.name, self.path.display());
            Failure::new(ExitKind::SomeHostsFailed, anyhow::Error::new(lacking).context(doing)).hint(HINT)
        })?;
        let job = {
            let mut jobs = self.jobs.lock().await;
            match jobs.get(target) {
                Some(job) => Arc::clone(job),
                None => {
                    let path = |p: &osier_converge::BundledPackage| self.folder.path().join(file_name(&p.sha256));
                    let paths: Vec<String> = set.packages.iter().map(|p| path(p).display().to_string()).collect();
                    let job = Arc::new(tokio::task::block_in_place(|| Job::new(&paths, BUNDLE))?);
                    jobs.insert(target.clone(), Arc::clone(&job));
                    job
                }
            }
        };
        job.on_one(remote, true).await.map(drop)
    }
}
