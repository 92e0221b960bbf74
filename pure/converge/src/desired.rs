//! The desired state of one host, as one JSON document.
//!
//! Must not know who writes it. It may hold secrets (keys): it travels on standard input only and is never stored.

use crate::{AbsPath, Content, Digest, Name, Package, WantedBundle};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Everything that a host shall have, and what it shall not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// The document's format, [`Desired::VERSION`].
    pub version: u32,
    /// The Docker engine, where one is wanted. One that somebody else installed is left alone.
    #[serde(default)]
    pub engine: Option<WantedEngine>,
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

/// A Docker engine: where it comes from, and what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedEngine {
    /// Its packages. None means: the distribution's where there is no engine, and otherwise those that are there.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// The one of `apt` that names a source of packages: its lists are read before anything is installed.
    #[serde(default)]
    pub source: Option<AbsPath>,
    /// Files that apt reads, in place before anything is installed. What lies there and is not ours is never replaced.
    #[serde(default)]
    pub apt: Vec<File>,
    /// Files for which the engine is restarted when they change. What lies there and is not ours is never replaced.
    #[serde(default)]
    pub files: Vec<File>,
    /// The engine's own configuration, an object of JSON. One that is not ours stays, and a warning says what to add.
    #[serde(default)]
    pub config: Option<File>,
    /// The proxies through which apt reaches its sources.
    #[serde(default)]
    pub proxies: Proxies,
    /// The only packages there are, where no source is to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<WantedBundle>,
}

/// Proxies, as URLs that may hold passwords.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxies {
    /// The one for `http://`.
    #[serde(default)]
    pub http: Option<Content>,
    /// The one for `https://`.
    #[serde(default)]
    pub https: Option<Content>,
    /// Hosts that are reached without, with commas between them.
    #[serde(default)]
    pub none: Option<Content>,
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
            engine: None,
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
    pub const VERSION: u32 = 2;

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

    /// Every file of the document, the engine's too.
    pub fn all_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().chain(self.engine.iter().flat_map(WantedEngine::all_files))
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
        let engine = self.engine.iter().flat_map(WantedEngine::all_files).map(|f| &f.path);
        self.binary.iter().map(|b| &b.path).chain(self.folders.iter().map(|f| &f.path)).chain(files).chain(engine)
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
        if let Some(engine) = &self.engine
            && let Some(source) = engine.source.as_ref().filter(|source| !engine.apt.iter().any(|f| f.path == **source))
        {
            return wrong(format!("packages come from '{source}', which is not in it"));
        }
        if let Some(engine) = self.engine.as_ref().filter(|engine| engine.source.is_some() && engine.bundle.is_some()) {
            let source = engine.source.iter().map(AbsPath::as_str).collect::<String>();
            return wrong(format!("packages come from '{source}' and from a bundle"));
        }
        let readable: BTreeSet<_> =
            self.binary.iter().map(|b| &b.path).chain(self.files.iter().map(|f| &f.path)).collect();
        let strange = self.units.iter().flat_map(|u| &u.restart_on).find(|path| !readable.contains(path));
        strange.map_or(Ok(()), |path| wrong(format!("a unit depends on '{path}', which is not in it")))
    }
}

impl WantedEngine {
    /// All of its files: apt's, the engine's, and its configuration.
    pub fn all_files(&self) -> impl Iterator<Item = &File> {
        self.apt.iter().chain(&self.files).chain(&self.config)
    }
}

impl Proxies {
    /// As the variables that programs look for in their environment.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("http_proxy", &self.http), ("https_proxy", &self.https), ("no_proxy", &self.none)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.as_str())))
    }

    /// The text without users and passwords of these proxies, as they stand here and decoded.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (_, value) in self.variables() {
            let authority = value.split_once("://").map_or(value, |(_, rest)| rest);
            let Some((user, _)) = authority.rsplit_once('@') else { continue };
            let password = user.split_once(':').map_or("", |(_, password)| password);
            let decoded = [user, password].map(decode);
            for secret in [user, password].into_iter().chain(decoded.iter().map(String::as_str)) {
                if !secret.is_empty() {
                    text = text.replace(secret, "…");
                }
            }
        }
        text
    }
}

/// A text with its `%XX` decoded; what does not decode to text stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = (*first == b'%').then(|| hex::decode(tail.get(..2)?).ok()).flatten();
        bytes.push(decoded.as_ref().map_or(*first, |d| d[0]));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
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
        assert!(refusal(r#"{"version":3,"future":1}"#).contains("version 3"));
        assert!(refusal(r#"{"version":1,"engine":true}"#).contains("version 1, this program knows 2"));
        assert_eq!(refusal(r#"{"version":2,"unknown":1}"#), "read the desired state");
        let twice = r#"{"version":2,"folders":[{"path":"/a","mode":493}],"absent":{"files":["/a"]}}"#;
        assert!(refusal(twice).contains("'/a' twice"));
        let missing = r#"{"version":2,"units":[{"name":"a.service","restart_on":["/x"]}]}"#;
        assert!(refusal(missing).contains("'/x'"));
        let nowhere = r#"{"version":2,"engine":{"source":"/s"}}"#;
        assert!(refusal(nowhere).contains("'/s', which is not in it"));
        let twice = r#"{"version":2,"files":[{"path":"/a","mode":1,"content":""}],"engine":{"files":[{"path":"/a","mode":1,"content":""}]}}"#;
        assert!(refusal(twice).contains("'/a' twice"));
        assert_eq!(Desired::parse(br#"{"version":2}"#).unwrap(), Desired::default());
    }

    #[test]
    fn no_password_is_left_in_what_a_program_said() {
        let proxies = Proxies {
            http: Some("http://me:s%3Acr%65t@p:3128".into()),
            none: Some("a,b".into()),
            ..Proxies::default()
        };
        let said = proxies.scrub("no http://me:s%3Acr%65t@p:3128, nor s:cret at p");
        assert_eq!(said, "no http://…@p:3128, nor … at p");
        assert!(!format!("{proxies:?}").contains("cr"), "{proxies:?}");
    }

    proptest! {
        #[test]
        fn any_proxy_is_scrubbed(proxy in "\\PC{0,12}@?%?\\PC{0,3}", text in "\\PC{0,20}") {
            let proxies = Proxies { https: Some(Content::from(proxy)), ..Proxies::default() };
            let _ = proxies.scrub(&text);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Desired::parse(&bytes);
        }

        #[test]
        fn a_damaged_document_is_read_or_refused(cut in 0_usize..200, byte in any::<u8>()) {
            let mut json = br#"{"version":2,"engine":{"packages":["a=1"],"source":"/s","apt":[{"path":"/s","mode":420,"content":"deb"}]},"binary":{"path":"/b","sha256":"00"},"files":[{"path":"/a","mode":420,"content":"x"}],"units":[{"name":"u","restart_on":["/a"]}]}"#.to_vec();
            let at = cut % json.len();
            json[at] = byte;
            let _ = Desired::parse(&json);
        }
    }
}
