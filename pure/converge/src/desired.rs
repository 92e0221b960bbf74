//! The desired state of one host, as one JSON document.
//!
//! Must not know who writes it. It may hold secrets (keys): it travels on standard input only and is never stored.

use crate::{AbsPath, Content, Digest, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Everything that a host shall have, and what it shall not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// The document's format, [`Desired::VERSION`].
    pub version: u32,
    /// Whether a Docker engine is wanted. One that is there is left alone; else the distribution's is installed.
    #[serde(default)]
    pub engine: bool,
    /// Where the running program itself is to be installed.
    #[serde(default)]
    pub binary: Option<Binary>,
    /// Folders, parents before children.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// Files with all of their text.
    #[serde(default)]
    pub files: Vec<File>,
    /// Symbolic links.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Units to be running, in starting order.
    #[serde(default)]
    pub units: Vec<Unit>,
    /// What is to be taken away.
    #[serde(default)]
    pub absent: Absent,
}

/// The program, which installs itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// Its place.
    pub path: AbsPath,
    /// The digest of its file.
    pub sha256: Digest,
}

/// A folder and its mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Its place.
    pub path: AbsPath,
    /// Permission bits, such as `0o755`.
    pub mode: u32,
}

/// A file, its text and its mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its place.
    pub path: AbsPath,
    /// Permission bits, such as `0o644`.
    pub mode: u32,
    /// Whether the text must never be shown.
    #[serde(default)]
    pub secret: bool,
    /// Its text.
    pub content: Content,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its place.
    pub path: AbsPath,
    /// What it points to.
    pub target: String,
}

/// A unit that shall run and be started at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Its full name, such as `osier-agent.service`.
    pub name: Name,
    /// Files of this document (the binary too) that it must be restarted for when they change.
    #[serde(default)]
    pub restart_on: Vec<AbsPath>,
}

/// What is to be taken away, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// Docker networks; containers on them are disconnected first.
    #[serde(default)]
    pub networks: Vec<Name>,
    /// Units, stopped in this order, and disabled.
    #[serde(default)]
    pub units: Vec<Name>,
    /// Named network namespaces.
    #[serde(default)]
    pub namespaces: Vec<AbsPath>,
    /// Files and links.
    #[serde(default)]
    pub files: Vec<AbsPath>,
    /// Folders with all they hold.
    #[serde(default)]
    pub folders: Vec<AbsPath>,
    /// Whether packages that this program installed go as well.
    #[serde(default)]
    pub packages: bool,
}

/// The text is not a desired state that this program can bring about.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// Not the expected JSON.
    #[error("read the desired state")]
    Format(#[source] serde_json::Error),
    /// Another format.
    #[error("read the desired state: it has version {0}, this program knows {known}", known = Desired::VERSION)]
    Version(u32),
    /// It says two things about one path, or names a file it does not have.
    #[error("read the desired state: {0}")]
    Contradiction(String),
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            engine: false,
            binary: None,
            folders: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            units: Vec::new(),
            absent: Absent::default(),
        }
    }
}

impl Desired {
    /// The format that this program reads and writes.
    pub const VERSION: u32 = 1;

    /// Reads and checks a document.
    pub fn parse(json: &[u8]) -> Result<Self, DesiredError> {
        /// Read before the rest, so that a later format is named and not called damaged.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(json).map_err(DesiredError::Format)?;
        if head.version != Self::VERSION {
            return Err(DesiredError::Version(head.version));
        }
        let desired: Self = serde_json::from_slice(json).map_err(DesiredError::Format)?;
        desired.check()?;
        Ok(desired)
    }

    /// Every path that the document speaks of, wanted or not.
    pub fn paths(&self) -> impl Iterator<Item = &AbsPath> {
        self.present().chain(&self.absent.files).chain(&self.absent.folders).chain(&self.absent.namespaces)
    }

    /// Every unit that the document speaks of, wanted or not; not the engine's own ([`crate::ENGINE_UNIT`]).
    pub fn unit_names(&self) -> impl Iterator<Item = &Name> {
        self.units.iter().map(|u| &u.name).chain(&self.absent.units)
    }

    /// The digest of everything that `unit` must be restarted for.
    pub fn inputs(&self, unit: &Unit) -> Digest {
        let digest = |path: &AbsPath| {
            let binary = self.binary.iter().find(|b| b.path == *path).map(|b| b.sha256);
            binary.or_else(|| self.files.iter().find(|f| f.path == *path).map(|f| f.content.digest()))
        };
        Digest::of_all(unit.restart_on.iter().filter_map(|path| digest(path).map(|d| (path, d))))
    }

    /// Every path at which the document wants something.
    pub fn present(&self) -> impl Iterator<Item = &AbsPath> {
        let files = self.files.iter().map(|f| &f.path).chain(self.links.iter().map(|l| &l.path));
        self.binary.iter().map(|b| &b.path).chain(self.folders.iter().map(|f| &f.path)).chain(files)
    }

    fn check(&self) -> Result<(), DesiredError> {
        let wrong = |text: String| Err(DesiredError::Contradiction(text));
        let mut seen = BTreeSet::new();
        for path in self.paths() {
            if !seen.insert(path) {
                return wrong(format!("it speaks of '{path}' twice"));
            }
        }
        let mut seen = BTreeSet::new();
        for name in self.unit_names() {
            if !seen.insert(name) {
                return wrong(format!("it speaks of '{name}' twice"));
            }
        }
        let readable: BTreeSet<_> =
            self.binary.iter().map(|b| &b.path).chain(self.files.iter().map(|f| &f.path)).collect();
        let strange = self.units.iter().flat_map(|u| &u.restart_on).find(|path| !readable.contains(path));
        strange.map_or(Ok(()), |path| wrong(format!("a unit depends on '{path}', which is not in it")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(json: &str) -> String {
        Desired::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_document_that_contradicts_itself_is_refused() {
        assert!(refusal(r#"{"version":2,"future":1}"#).contains("version 2"));
        assert_eq!(refusal(r#"{"version":1,"unknown":1}"#), "read the desired state");
        let twice = r#"{"version":1,"folders":[{"path":"/a","mode":493}],"absent":{"files":["/a"]}}"#;
        assert!(refusal(twice).contains("'/a' twice"));
        let missing = r#"{"version":1,"units":[{"name":"a.service","restart_on":["/x"]}]}"#;
        assert!(refusal(missing).contains("'/x'"));
        assert_eq!(Desired::parse(br#"{"version":1}"#).unwrap(), Desired::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Desired::parse(&bytes);
        }

        #[test]
        fn a_damaged_document_is_read_or_refused(cut in 0_usize..200, byte in any::<u8>()) {
            let mut json = br#"{"version":1,"engine":true,"binary":{"path":"/b","sha256":"00"},"files":[{"path":"/a","mode":420,"content":"x"}],"units":[{"name":"u","restart_on":["/a"]}]}"#.to_vec();
            let at = cut % json.len();
            json[at] = byte;
            let _ = Desired::parse(&json);
        }
    }
}
