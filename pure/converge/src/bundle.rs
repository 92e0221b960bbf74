//! A bundle of packages for hosts without a way to any source: its manifest, and the index by which apt reads what is in it.
//!
//! Must not know where a bundle lies or how it was made. Every package lies there under its digest, so that what two systems
//! share is there once, and a name says what must be in the file. A set has all that an engine needs on a bare system, whatever a
//! host has of it; apt picks what is missing.

use crate::{AbsPath, Content, Digest, Name, OsRelease, Package, Version};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What a bundle says is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The document's format, [`Manifest::FORMAT`].
    pub format: u32,
    /// The packages of each system, no system twice.
    pub sets: Vec<PackageSet>,
}

/// A system that packages are for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// `ID` of os-release(5).
    pub distribution: String,
    /// `VERSION_ID` of os-release(5); empty on Debian's testing and unstable.
    pub release: String,
    /// The architecture as dpkg calls it.
    pub architecture: String,
}

/// The packages of one system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSet {
    /// The system.
    #[serde(flatten)]
    pub target: Target,
    /// The packages, each file once.
    pub packages: Vec<BundledPackage>,
}

/// One package of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledPackage {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// The digest of its file, which is the file's name as well.
    pub sha256: Digest,
    /// Bytes of its file.
    pub size: u64,
    /// Its control file (deb-control(5)), which apt decides by.
    pub control: String,
}

/// The packages of a bundle that one host is to install from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedBundle {
    /// Where they lie on the host, each called as [`file_name`] says.
    pub folder: AbsPath,
    /// Their digests.
    pub files: BTreeSet<Digest>,
    /// What apt reads about them.
    pub index: Content,
}

/// The text is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the expected JSON.
    #[error("read the manifest")]
    Format(#[source] serde_json::Error),
    /// Another format.
    #[error("read the manifest: it has format {0}, this program knows {known}", known = Manifest::FORMAT)]
    Version(u64),
    /// It says two things about one system or file.
    #[error("read the manifest: it speaks of {0} twice")]
    Twice(String),
    /// A package's control file is none, or that of another package.
    #[error("read the manifest: the control file of package '{0}' is damaged")]
    Control(String),
}

/// Why a host cannot have its engine from a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// The bundle was made for other systems.
    #[error("the bundle has nothing for {0}, only for {1}")]
    System(Target, String),
    /// It was made from another inventory.
    #[error("the bundle for {0} lacks {1}")]
    Packages(Target, String),
}

/// What a package's file is called in a bundle.
pub fn file_name(digest: &Digest) -> String {
    format!("{digest}.deb")
}

impl Manifest {
    /// The format that this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// A manifest of these packages; what several hosts of one system want becomes one set.
    pub fn new(sets: impl IntoIterator<Item = PackageSet>) -> Self {
        let mut all: BTreeMap<Target, BTreeMap<Digest, BundledPackage>> = BTreeMap::new();
        for set in sets {
            all.entry(set.target).or_default().extend(set.packages.into_iter().map(|p| (p.sha256, p)));
        }
        let sorted = |packages: BTreeMap<Digest, BundledPackage>| {
            let mut packages: Vec<_> = packages.into_values().collect();
            packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
            packages
        };
        let sets = all.into_iter().map(|(target, packages)| PackageSet { target, packages: sorted(packages) });
        Self { format: Self::FORMAT, sets: sets.collect() }
    }

    /// Reads and checks a manifest.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        /// Read before the rest, so that a later format is named and not called damaged.
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let head: Head = serde_json::from_slice(json).map_err(ManifestError::Format)?;
        if head.format != u64::from(Self::FORMAT) {
            return Err(ManifestError::Version(head.format));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(ManifestError::Format)?;
        let mut targets = BTreeSet::new();
        for set in &manifest.sets {
            if !targets.insert(&set.target) {
                return Err(ManifestError::Twice(set.target.to_string()));
            }
            let mut files = BTreeSet::new();
            for package in &set.packages {
                if !files.insert(package.sha256) {
                    return Err(ManifestError::Twice(package.sha256.to_string()));
                }
                if BundledPackage::read(&package.control, package.sha256, package.size).as_ref() != Some(package) {
                    return Err(ManifestError::Control(package.name.to_string()));
                }
            }
        }
        Ok(manifest)
    }

    /// The packages for a system, where all that are wanted are among them.
    pub fn find(&self, target: &Target, wanted: &[Package]) -> Result<&PackageSet, Lacking> {
        let Some(set) = self.sets.iter().find(|set| set.target == *target) else {
            let systems: Vec<String> = self.sets.iter().map(|set| set.target.to_string()).collect();
            let systems = if systems.is_empty() { "no system".to_owned() } else { systems.join(", ") };
            return Err(Lacking::System(target.clone(), systems));
        };
        let has = |wanted: &&Package| {
            let named = |p: &&BundledPackage| p.name == wanted.name;
            set.packages.iter().filter(named).any(|p| wanted.version.as_ref().is_none_or(|v| *v == p.version))
        };
        let lacking: Vec<String> = wanted.iter().filter(|wanted| !has(wanted)).map(ToString::to_string).collect();
        if lacking.is_empty() { Ok(set) } else { Err(Lacking::Packages(target.clone(), lacking.join(", "))) }
    }

    /// The size of every file, each once.
    pub fn files(&self) -> BTreeMap<Digest, u64> {
        self.sets.iter().flat_map(|set| &set.packages).map(|p| (p.sha256, p.size)).collect()
    }
}

impl Target {
    /// The system that a host runs.
    pub fn new(os: &OsRelease, architecture: &str) -> Self {
        Self { distribution: os.id.clone(), release: os.version.clone(), architecture: architecture.to_owned() }
    }
}

impl PackageSet {
    /// The same as a host is told, which has them in `folder`.
    pub fn wanted(&self, folder: AbsPath) -> WantedBundle {
        let stanza = |p: &BundledPackage| {
            format!("{}Filename: ./{}\nSize: {}\nSHA256: {}\n", p.control, file_name(&p.sha256), p.size, p.sha256)
        };
        WantedBundle {
            folder,
            files: self.packages.iter().map(|p| p.sha256).collect(),
            index: self.packages.iter().map(stanza).collect::<Vec<_>>().join("\n").into(),
        }
    }
}

impl BundledPackage {
    /// Reads the control file of a package: nothing where it is none, or says what only an index may say.
    pub fn read(control: &str, sha256: Digest, size: u64) -> Option<Self> {
        let control = control.trim_end_matches('\n');
        let (mut name, mut version) = (None, None);
        for line in control.split('\n') {
            if line.chars().any(|c| c.is_control() && c != '\t') || line.trim().is_empty() {
                return None;
            }
            if line.starts_with([' ', '\t']) {
                continue;
            }
            let (field, value) = line.split_once(':')?;
            let value = value.trim();
            match field.to_ascii_lowercase().as_str() {
                "package" if name.is_none() => name = Some(value.parse::<Package>().ok()?),
                "version" if version.is_none() => version = Some(value.parse::<Version>().ok()?),
                "package" | "version" | "filename" | "size" | "sha256" | "sha512" | "sha1" | "md5sum" => return None,
                _ => {}
            }
        }
        let Package { name, version: None } = name? else { return None };
        Some(Self { name, version: version?, sha256, size, control: format!("{control}\n") })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let release = if self.release.is_empty() { "testing" } else { &self.release };
        write!(f, "{} {release} {}", self.distribution, self.architecture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(name: &str, version: &str) -> BundledPackage {
        let control = format!("Package: {name}\nVersion: {version}\nArchitecture: all\nDescription: x\n .\n y: z\n");
        BundledPackage::read(&control, Digest::of(control.as_bytes()), 7).unwrap()
    }

    fn set(release: &str, packages: Vec<BundledPackage>) -> PackageSet {
        let target = Target { distribution: "debian".into(), release: release.into(), architecture: "amd64".into() };
        PackageSet { target, packages }
    }

    fn json(manifest: &Manifest) -> String {
        serde_json::to_string(manifest).unwrap()
    }

    fn refusal(json: &str) -> String {
        Manifest::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_hosts_of_one_system_want_is_one_set_and_is_found_by_it() {
        let shared = package("containerd", "1.7-1");
        let sets = [
            set("13", vec![shared.clone(), package("docker.io", "26-1")]),
            set("12", vec![package("docker.io", "20-1")]),
            set("13", vec![shared, package("docker.io", "28-1")]),
        ];
        let manifest = Manifest::new(sets);
        assert_eq!(Manifest::parse(json(&manifest).as_bytes()).unwrap(), manifest);
        assert_eq!((manifest.sets.len(), manifest.files().len()), (2, 4));
        let target = Target::new(&OsRelease::parse("ID=debian\nVERSION_ID=13"), "amd64");
        let wanted = ["docker.io=26-1", "docker.io=28-1", "docker.io", "docker.io=20-1", "docker-cli"];
        let wanted = wanted.map(|text| text.parse().unwrap());
        let trixie = manifest.find(&target, &wanted[..3]).unwrap();
        let lacking = manifest.find(&target, &wanted).unwrap_err().to_string();
        assert_eq!(lacking, "the bundle for debian 13 amd64 lacks docker.io=20-1, docker-cli");
        let bundle = trixie.wanted("/b".parse().unwrap());
        let index = bundle.index.as_str();
        assert_eq!((bundle.files.len(), index.split("\n\n").count()), (3, 3));
        let digest = trixie.packages[0].sha256;
        let first = format!(
            "Package: containerd\nVersion: 1.7-1\nArchitecture: all\nDescription: x\n .\n y: z\n\
             Filename: ./{digest}.deb\nSize: 7\nSHA256: {digest}\n\nPackage: docker.io\n"
        );
        assert!(index.starts_with(&first), "{index}");
        let arm = Target::new(&OsRelease::parse("ID=debian"), "arm64");
        let lacking = manifest.find(&arm, &[]).unwrap_err().to_string();
        assert_eq!(
            lacking,
            "the bundle has nothing for debian testing arm64, only for debian 12 amd64, debian 13 amd64"
        );
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        assert!(refusal(r#"{"format":2,"future":1}"#).contains("format 2, this program knows 1"));
        assert_eq!(refusal("{"), "read the manifest");
        let mut manifest = Manifest::new([set("13", vec![package("a", "1")])]);
        let good = json(&manifest);
        for (from, to) in [
            ("Package: a", "Package: b"),
            ("Version: 1", "Version: 2"),
            (r"Package: a\n", r"Package: a\n\nPackage: c\n"),
            (r"Package: a\n", r"Package: a\nFilename: /etc/x\n"),
            (r"Package: a\n", r"Package: a\nsha256: 00\n"),
            (r"Package: a\n", ""),
        ] {
            let damaged = good.replacen(from, to, 1);
            assert!(damaged != good && refusal(&damaged).contains("package 'a' is damaged"), "{from} {to}");
        }
        let twice = manifest.sets[0].packages[0].clone();
        manifest.sets[0].packages.push(twice);
        assert!(refusal(&json(&manifest)).contains("twice"));
        let both = Manifest { format: 1, sets: vec![set("13", vec![]), set("13", vec![])] };
        assert!(refusal(&json(&both)).contains("debian 13 amd64 twice"));
    }

    #[test]
    fn names_that_apt_would_take_for_something_else_are_no_packages() {
        let read = |control: &str| BundledPackage::read(control, Digest::of(b""), 0);
        for bad in
            ["", "Package: a\n", "Package: a=1\nVersion: 1", "Package: -y\nVersion: 1", "Package: a-\nVersion: 1", "a"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(read("Version: 1\npackage: a\n\n").is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes);
        }

        #[test]
        fn a_damaged_manifest_is_read_or_refused(cut in any::<usize>(), byte in any::<u8>()) {
            let mut json = json(&Manifest::new([set("13", vec![package("a", "1"), package("b", "2")])])).into_bytes();
            let at = cut % json.len();
            json[at] = byte;
            if let Ok(manifest) = Manifest::parse(&json) {
                // A file is what its digest says, whatever else was altered.
                prop_assert!(manifest.sets.iter().all(|s| s.wanted("/b".parse().unwrap()).files.len() == s.packages.len()));
            }
            json.truncate(at);
            prop_assert!(Manifest::parse(&json).is_err());
        }

        #[test]
        fn any_control_file_becomes_one_stanza(control in "(Package: [a-z]{2}\n)?(Version: [0-9]\n)?(\\PC{0,6}[: \n\t]{0,3}){0,6}") {
            if let Some(package) = BundledPackage::read(&control, Digest::of(b""), 1) {
                let set = set("13", vec![package]);
                let manifest = Manifest::new([set.clone()]);
                prop_assert_eq!(Manifest::parse(json(&manifest).as_bytes()).unwrap(), manifest);
                let index = set.wanted("/b".parse().unwrap()).index;
                prop_assert!(!index.as_str().contains("\n\n"));
                prop_assert_eq!(index.as_str().matches("\nFilename: ").count(), 1);
            }
        }
    }
}
