//! The image a node of some release is made from: pulled if a registry has it, else made from Debian's packages, and
//! kept under a tag that says what went into it.
//!
//! Must not know about labs. An image holds a minimal Debian with systemd and sshd, the host's package sources, the
//! package lists, and the packages of Docker Engine fetched but not installed, so that provisioning several nodes does
//! not fetch them several times. It holds no identity: host keys and machine id are each node's own.

use crate::{
    apt::{self, Source},
    command::{CommandError, command, run, run_pipe},
    docker::Docker,
    engine::DATA_FOLDER,
    host::Packages,
    release::Release,
};
use anyhow::{Context, Result};
use osier_ui::{ExitKind, Failure, Progress};
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What a node has beyond Debian's minimal system: an init, a way in, and the tools that people expect of a host.
const PACKAGES: &str = "systemd,systemd-sysv,openssh-server,iproute2,ca-certificates,dbus,iputils-ping,sudo,iptables,\
                        nftables,kmod,procps";
/// Changes whenever the steps below do, so that older images are not taken for new ones.
const RECIPE: u32 = 1;
const REPOSITORY: &str = "osier-lab-node";
/// A node that loses power is thrown away; waiting for its disk would be time lost. Documentation is not read there.
const DPKG_SETTINGS: &str = "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n\
                             path-exclude=/usr/share/locale/*\n";

/// Finds or makes the image for this release, and returns its tag.
pub(crate) async fn prepare(
    docker: &Docker,
    release: Release,
    host: &Packages,
    registry: Option<&str>,
    progress: &Progress,
) -> Result<String, Failure> {
    let recipe = Recipe::new(release, host);
    let tag = recipe.tag();
    if docker.run(["image", "inspect", "--format", "ok", &tag]).await.is_ok() {
        return Ok(tag);
    }
    let item = format!("image {release}");
    if let Some(registry) = registry {
        let remote = format!("{registry}/{REPOSITORY}:{release}");
        progress.doing(&item, format!("pulling {remote}"));
        match docker.run(["pull", "--quiet", &remote]).await {
            Ok(_) => {
                docker.run(["tag", &remote, &tag]).await.context("keep the pulled image")?;
                docker.run(["image", "rm", &remote]).await.context("let go of the pulled image's first name")?;
                progress.done(&item, format!("pulled {remote}"));
                return Ok(tag);
            }
            Err(e) => progress.doing(&item, format!("not to be had from {registry}, making it here ({e})")),
        }
    }
    recipe.build(docker, &tag, |what| progress.doing(&item, what)).await?;
    progress.done(&item, "made");
    Ok(tag)
}

/// Removes every image that this makes, unless a node still uses it.
pub(crate) async fn remove_all(docker: &Docker) -> Result<(), CommandError> {
    let tags = docker.run(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]).await?;
    for tag in tags.split_whitespace() {
        docker.run(["image", "rm", tag]).await?;
    }
    Ok(())
}

/// Everything that decides what is in an image.
struct Recipe {
    release: Release,
    sources: Vec<Source>,
    settings: Vec<String>,
}

impl Recipe {
    fn new(release: Release, host: &Packages) -> Self {
        let sources = apt::for_release(&host.sources, &host.codename, release);
        Self { release, sources, settings: host.settings.clone() }
    }

    /// The tag with a digest of the recipe, so that the same wish finds the same image and another does not.
    fn tag(&self) -> String {
        let parts = [
            RECIPE.to_string(),
            std::env::consts::ARCH.to_owned(),
            PACKAGES.to_owned(),
            self.release.engine_packages().join(","),
            DPKG_SETTINGS.to_owned(),
            apt::render(&self.sources),
            self.settings.join("\n"),
        ];
        let digest = Sha256::digest(parts.join("\0"));
        format!("{REPOSITORY}:{}-{}", self.release, hex::encode(&digest[..6]))
    }

    async fn build(&self, docker: &Docker, tag: &str, say: impl Fn(&str)) -> Result<(), Failure> {
        let Some((archive, mirror)) = apt::archive(&self.sources, self.release) else {
            let error = format!("make an image of {}: no source of this host serves it", self.release);
            let hint = "add Debian's main archive to /etc/apt/sources.list, or name a registry with --registry";
            return Err(Failure::message_only(ExitKind::Failed, error).hint(hint));
        };
        let doing = || format!("make an image of {}", self.release);
        let build = Folder::new()?;
        say("unpacking Debian (takes about a minute)");
        self.debootstrap(&build.0, archive, mirror).await.with_context(doing)?;
        say("fetching the packages of Docker Engine");
        self.furnish(&build.0).await.with_context(doing)?;
        say("storing");
        let mut tar = command("tar");
        tar.arg("--directory").arg(&build.0).args(["--one-file-system", "--numeric-owner", "--create", "."]);
        let mut import = docker.call(["import", "--change", "CMD [\"/sbin/init\"]", "-", tag]);
        run_pipe(&mut tar, &mut import).await.with_context(doing)?;
        Ok(())
    }

    async fn debootstrap(&self, root: &Path, archive: &Source, mirror: &str) -> Result<()> {
        write(root, "etc/dpkg/dpkg.cfg.d/osier-lab", DPKG_SETTINGS)?;
        let codename = self.release.codename();
        // What it mounts in the new root goes away with its mount namespace, whatever happens.
        let mut debootstrap = command("unshare");
        debootstrap.args(["--mount", "debootstrap", "--variant=minbase"]).arg(format!("--include={PACKAGES}"));
        match archive.keyring() {
            _ if archive.field("Trusted") == Some("yes") => drop(debootstrap.arg("--no-check-gpg")),
            Some(keyring) => drop(debootstrap.arg(format!("--keyring={keyring}"))),
            None => {}
        }
        for (variable, setting) in [("http_proxy", "Acquire::http::Proxy"), ("https_proxy", "Acquire::https::Proxy")] {
            if let Some(proxy) = apt::setting(&self.settings, setting) {
                debootstrap.env(variable, proxy);
            }
        }
        debootstrap.arg(codename).arg(root).arg(mirror);
        let scripts = Path::new("/usr/share/debootstrap/scripts");
        if !scripts.join(codename).exists() {
            // A host older than the release: the script for Debian's newest serves.
            debootstrap.arg(scripts.join("sid"));
        }
        run(&mut debootstrap).await.context("unpack a minimal Debian")?;
        Ok(())
    }

    async fn furnish(&self, root: &Path) -> Result<()> {
        for source in self.sources.iter().filter_map(Source::keyring) {
            let inside = root.join(source.trim_start_matches('/'));
            if !inside.exists() && Path::new(source).exists() {
                let keyring = fs::read(source).with_context(|| format!("read '{source}'"))?;
                osier_store::write(&inside, &keyring, osier_store::PUBLIC)?;
            }
        }
        write(root, "etc/apt/sources.list", "")?;
        write(root, "etc/apt/sources.list.d/debian.sources", &apt::render(&self.sources))?;
        let settings = format!("{}\nAcquire::Languages \"none\";\n", self.settings.join("\n"));
        write(root, "etc/apt/apt.conf.d/00osier-lab", &settings)?;
        if let Some(resolver) = osier_store::read(Path::new("/etc/resolv.conf"))? {
            osier_store::write(&root.join("etc/resolv.conf"), &resolver, osier_store::PUBLIC)?;
        }
        inside(root, &["apt-get", "clean"]).await?;
        inside(root, &["apt-get", "update", "--quiet"]).await.context("fetch the package lists")?;
        let fetch = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "--download-only"];
        let fetch = [&fetch[..], self.release.engine_packages()].concat();
        inside(root, &fetch).await.context("fetch the packages of Docker Engine")?;
        forget_identity(root)
    }
}

/// Removes what must differ from node to node. An empty machine id is filled in at the first boot.
fn forget_identity(root: &Path) -> Result<()> {
    write(root, "etc/machine-id", "")?;
    osier_store::remove(&root.join("var/lib/dbus/machine-id"))?;
    let ssh = root.join("etc/ssh");
    let entries = fs::read_dir(&ssh).with_context(|| format!("read the folder '{}'", ssh.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b"ssh_host_") {
            osier_store::remove(&path)?;
        }
    }
    Ok(())
}

async fn inside(root: &Path, words: &[&str]) -> Result<()> {
    let mut chroot = command("unshare");
    chroot.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    chroot.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    chroot.args(["--mount", "chroot"]).arg(root).args(words);
    run(&mut chroot).await?;
    Ok(())
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    Ok(osier_store::write(&root.join(path), text.as_bytes(), osier_store::PUBLIC)?)
}

/// The folder a root file system is built in; removed when done, and cleared of what a killed build left.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = Path::new(DATA_FOLDER).join("build");
        let doing = || format!("make the folder '{}'", path.display());
        if path.exists() {
            fs::remove_dir_all(&path).with_context(doing)?;
        }
        // A root directory that only its owner may enter would lock out everyone else inside the node.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).with_context(doing)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The next build clears what cannot be removed now.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(setting: &str) -> Packages {
        let sources = apt::parse_one_line("deb http://debian.example/debian bookworm main");
        Packages { codename: "bookworm".into(), sources, settings: vec![setting.to_owned()] }
    }

    #[test]
    fn the_tag_changes_with_whatever_goes_into_the_image() {
        let tag = |release, setting| Recipe::new(release, &host(setting)).tag();
        let bookworm = tag(Release::Bookworm, "");
        assert!(bookworm.starts_with("osier-lab-node:bookworm-"), "{bookworm}");
        assert_eq!(bookworm, tag(Release::Bookworm, ""));
        assert_ne!(bookworm, tag(Release::Bookworm, "Acquire::Check-Date \"false\";"));
        assert!(tag(Release::Trixie, "").starts_with("osier-lab-node:trixie-"));
    }

    #[test]
    fn nothing_that_names_a_machine_is_left() {
        let root = tempfile::tempdir().unwrap();
        for path in ["etc/machine-id", "var/lib/dbus/machine-id", "etc/ssh/ssh_host_rsa_key", "etc/ssh/sshd_config"] {
            write(root.path(), path, "x").unwrap();
        }
        forget_identity(root.path()).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("etc/machine-id")).unwrap(), "");
        assert!(!root.path().join("var/lib/dbus/machine-id").exists());
        assert!(!root.path().join("etc/ssh/ssh_host_rsa_key").exists());
        assert!(root.path().join("etc/ssh/sshd_config").exists());
    }
}
