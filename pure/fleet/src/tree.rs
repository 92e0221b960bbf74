//! Files that a host shall have, those it has, and what has to be sent.
//!
//! Must not know how files are read or sent. What a host has is a list with a NUL behind each entry: what `stat` says
//! (type, mode, names and numbers of owner and group, path, with tabulators between them), and what `sha256sum` says
//! (digest, two characters, path).

use std::{collections::BTreeMap, fmt, str::FromStr};

/// A file or folder that a host shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its path on the host.
    pub path: String,
    /// Permissions, where they matter.
    pub mode: Option<u32>,
    /// The digest (SHA-256, in hexadecimal digits) of a file; none for a folder.
    pub digest: Option<String>,
}

/// What a host has at a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    kind: String,
    mode: u32,
    user: [String; 2],
    group: [String; 2],
    digest: Option<String>,
}

impl Found {
    /// The digest of what is there, where it is a file that could be read.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref().filter(|_| self.kind.starts_with("regular"))
    }
}

/// Who shall own what is copied, by names or numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Option<String>,
    /// The group.
    pub group: Option<String>,
}

/// A text names no owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not of the form USER, USER:GROUP or :GROUP")]
pub struct OwnerError(String);

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let is_name = |name: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-$@".contains(&b);
            !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
        };
        let user = Some(user).filter(|u| !u.is_empty());
        let right = user.or(group).is_some() && user.is_none_or(is_name) && group.is_none_or(is_name);
        let owned = |name: Option<&str>| name.map(str::to_owned);
        right.then(|| Self { user: owned(user), group: owned(group) }).ok_or_else(|| OwnerError(text.to_owned()))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.user.as_deref().unwrap_or_default())?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

/// Why something has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is not there.
    New,
    /// Its contents differ.
    Contents,
    /// It is something else than a file.
    Kind,
    /// Its permissions or its owner differ, and nothing else.
    Attributes,
}

impl Why {
    /// A word for people and scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Contents => "contents",
            Self::Kind => "kind",
            Self::Attributes => "attributes",
        }
    }

    /// Whether its contents have to be sent.
    pub fn sends(self) -> bool {
        self != Self::Attributes
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which of the wanted it is about.
    pub wanted: usize,
    /// Why.
    pub why: Why,
}

/// Whether a path can be told to a host as one line.
pub fn is_plain(path: &str) -> bool {
    !path.is_empty() && !path.contains(['\n', '\r', '\0'])
}

/// Reads what a host has, by path.
pub fn found(answer: &[u8]) -> BTreeMap<String, Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for entry in answer.split(|b| *b == 0) {
        let entry = String::from_utf8_lossy(entry);
        if let [kind, mode, user, uid, group, gid, path] = entry.splitn(7, '\t').collect::<Vec<_>>()[..] {
            let found = all.entry(path.to_owned()).or_default();
            found.kind = kind.to_owned();
            found.mode = u32::from_str_radix(mode, 8).unwrap_or_default();
            found.user = [user.to_owned(), uid.to_owned()];
            found.group = [group.to_owned(), gid.to_owned()];
        } else if let (Some(digest), Some(path)) = (entry.get(..64), entry.get(66..))
            && digest.bytes().all(|b| b.is_ascii_hexdigit())
        {
            all.entry(path.to_owned()).or_default().digest = Some(digest.to_owned());
        }
    }
    all.retain(|_, f| !f.kind.is_empty());
    all
}

/// What has to be done so that a host has what is wanted. A folder is made where there is none and otherwise stays as it
/// is, and so does a link to one; a folder is in the way of a file and the other way round, which is an error: its path.
pub fn changes(
    wanted: &[Wanted],
    found: &BTreeMap<String, Found>,
    owner: Option<&Owner>,
) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for (at, file) in wanted.iter().enumerate() {
        let why = match (found.get(&file.path), &file.digest) {
            (None, _) => Some(Why::New),
            (Some(there), None) if matches!(there.kind.as_str(), "directory" | "symbolic link") => None,
            (Some(there), Some(_)) if there.kind == "directory" => return Err(file.path.clone()),
            (Some(_), None) => return Err(file.path.clone()),
            (Some(there), Some(_)) if !there.kind.starts_with("regular") => Some(Why::Kind),
            (Some(there), Some(digest)) if there.digest.as_ref() != Some(digest) => Some(Why::Contents),
            (Some(there), Some(_)) => {
                let mode = file.mode.is_none_or(|mode| mode == there.mode);
                let is = |wish: &Option<String>, has: &[String; 2]| wish.as_ref().is_none_or(|w| has.contains(w));
                let owned = owner.is_none_or(|o| is(&o.user, &there.user) && is(&o.group, &there.group));
                (!(mode && owned)).then_some(Why::Attributes)
            }
        };
        changes.extend(why.map(|why| Change { wanted: at, why }));
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn has(kind: &str, mode: &str, path: &str) -> String {
        format!("{kind}\t{mode}\troot\t0\tadm\t4\t{path}\0")
    }

    fn file(path: &str, mode: u32) -> Wanted {
        Wanted { path: path.into(), mode: Some(mode), digest: Some(DIGEST.into()) }
    }

    #[test]
    fn only_what_differs_is_done() {
        let there = [
            has("regular empty file", "644", "same"),
            has("regular file", "600", "mode\ttab"),
            has("regular file", "644", "other"),
            has("symbolic link", "777", "link"),
            has("directory", "755", "folder"),
            "\0".to_owned(),
            format!("{DIGEST}  same\0{DIGEST}  mode\ttab\0{}  other\0{DIGEST}  link\0", DIGEST.replace('e', "f")),
        ];
        let there = found(there.concat().as_bytes());
        let mut wanted: Vec<_> = ["same", "mode\ttab", "other", "link", "gone"].map(|p| file(p, 0o644)).into();
        wanted.push(Wanted { path: "folder".into(), mode: None, digest: None });
        let why = |owner: Option<&str>| {
            let owner = owner.map(|o| o.parse::<Owner>().unwrap());
            let changes = changes(&wanted, &there, owner.as_ref()).unwrap();
            changes.into_iter().map(|c| (c.wanted, c.why)).collect::<Vec<_>>()
        };
        let differing = vec![(1, Why::Attributes), (2, Why::Contents), (3, Why::Kind), (4, Why::New)];
        assert_eq!(why(None), differing);
        assert_eq!(why(Some("root:4")), differing);
        assert_eq!(why(Some("0:root"))[0], (0, Why::Attributes));
        assert_eq!(changes(&[file("folder", 0o644)], &there, None), Err("folder".into()));
        let folder = Wanted { path: "same".into(), mode: None, digest: None };
        assert_eq!(changes(&[folder], &there, None), Err("same".into()));
    }

    #[test]
    fn owners_are_names_or_numbers() {
        for (text, user, group) in [("a", Some("a"), None), ("0:0", Some("0"), Some("0")), (":adm", None, Some("adm"))]
        {
            let owner: Owner = text.parse().unwrap();
            assert_eq!((owner.user.as_deref(), owner.group.as_deref()), (user, group));
            assert_eq!(owner.to_string(), text);
        }
        for wrong in ["", ":", "a:", "a b", "-R", "a:b:c", "a;b"] {
            assert_eq!(wrong.parse::<Owner>(), Err(OwnerError(wrong.into())));
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[a-f0-9\t\0 ü]{0,200}") {
            let _ = (found(&bytes), found(text.as_bytes()));
        }
    }
}
