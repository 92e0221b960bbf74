//! Packages of Debian and Ubuntu by name and exact version, and which of two versions is the newer.
//!
//! Must not know which packages are wanted or what is installed. They are handed to apt as arguments, where a name that
//! ends in `-` would mean the opposite.

use crate::{Name, words::WordError};
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt, str::FromStr};

/// The version of a package, as apt prints it: a letter or digit, then any of those and `. + ~ : -`. Versions are compared as
/// deb-version(7) says; two that count as the same may be spelled differently, and are then different ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// A package, and the exact version where one is wanted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Package {
    /// Its name.
    pub name: Name,
    /// The only version that will do.
    pub version: Option<Version>,
}

/// A package that is to come, or to come in another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is wanted.
    pub to: Package,
    /// The version that is installed.
    pub from: Option<Version>,
}

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of two versions is the newer (deb-version(7)).
    pub fn order(&self, other: &Self) -> Ordering {
        let ((epoch, upstream, revision), (other_epoch, other_upstream, other_revision)) =
            (self.parts(), other.parts());
        let epochs = compare(epoch, other_epoch);
        epochs.then_with(|| compare(upstream, other_upstream)).then_with(|| compare(revision, other_revision))
    }

    /// Epoch, upstream's version, revision; what is missing counts as 0.
    fn parts(&self) -> (&str, &str, &str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("0", &self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch, upstream, revision)
    }
}

/// Compares stretches of other characters and of digits in turn, as deb-version(7) says: `~` comes before the end, letters come
/// before all else, and digits count as a number.
fn compare(mut a: &str, mut b: &str) -> Ordering {
    while !(a.is_empty() && b.is_empty()) {
        let (left, right);
        (left, a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        (right, b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        // The end of a stretch weighs 0, so that only '~' is lighter.
        let weighed = |text: &str| text.bytes().map(weight).chain([0]).collect::<Vec<_>>();
        let order = weighed(left).cmp(&weighed(right));
        if order.is_ne() {
            return order;
        }
        let (left, right);
        (left, a) = a.split_at(a.find(|c: char| !c.is_ascii_digit()).unwrap_or(a.len()));
        (right, b) = b.split_at(b.find(|c: char| !c.is_ascii_digit()).unwrap_or(b.len()));
        let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
        let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn weight(byte: u8) -> i16 {
    match byte {
        b'~' => -1,
        b if b.is_ascii_alphabetic() => i16::from(b),
        b => i16::from(b) + 256,
    }
}

impl Package {
    /// As apt takes it on its command line.
    pub fn argument(&self) -> String {
        self.to_string()
    }
}

impl Change {
    /// Whether a newer version gives way to an older one.
    pub fn is_downgrade(&self) -> bool {
        let both = self.from.as_ref().zip(self.to.version.as_ref());
        both.is_some_and(|(from, to)| to.order(from) == Ordering::Less)
    }

    /// The lines that say it in a diff: `-NAME VERSION`, `+NAME VERSION`.
    pub(crate) fn diff(&self) -> String {
        let name = &self.to.name;
        let old = self.from.iter().map(|from| format!("-{name} {from}"));
        let new = match &self.to.version {
            Some(version) => format!("+{name} {version}"),
            None => format!("+{name}"),
        };
        old.chain([new]).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to.version) {
            (Some(from), Some(to)) => {
                let verb = if self.is_downgrade() { "downgrade" } else { "upgrade" };
                write!(f, "{verb} {} from {from} to {to}", self.to.name)
            }
            _ => write!(f, "install {}", self.to),
        }
    }
}

impl FromStr for Version {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b".+~:-".contains(&b);
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= 255 && text.bytes().all(inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError::new(text, "a package's version"))
        }
    }
}

impl FromStr for Package {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = || WordError::new(text, "a package (NAME or NAME=VERSION)");
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b);
        if !name.bytes().all(inner) || name.ends_with(['-', '+']) {
            return Err(wrong());
        }
        Ok(Self { name: name.parse().map_err(|_| wrong())?, version })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}={version}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

crate::words::text_form!(Version);
crate::words::text_form!(Package);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let rising = [
            "1.0~rc1-1",
            "1.0~rc1-1+b1",
            "1.0-1",
            "1.0-1a",
            "1.0-1.1",
            "1.0a-1",
            "1.0+dfsg1-1",
            "1.2-1",
            "1.10-1",
            "20.10.24+dfsg1-1+deb12u1+b2",
            "26.1.5+dfsg1-9+b9",
            "1:0.1",
            "5:27.5.1-1~debian.12~bookworm",
            "5:27.5.1-1~debian.13~trixie",
            "5:28.0.0-1~debian.12~bookworm",
        ];
        for (at, low) in rising.iter().enumerate() {
            assert_eq!(version(low).order(&version(low)), Ordering::Equal);
            for high in &rising[at + 1..] {
                assert_eq!(version(low).order(&version(high)), Ordering::Less, "{low} {high}");
                assert_eq!(version(high).order(&version(low)), Ordering::Greater, "{high} {low}");
            }
        }
        assert_eq!(version("1.0").order(&version("0:1.00-0")), Ordering::Equal);
    }

    #[test]
    fn packages_that_apt_would_take_for_something_else_are_refused() {
        let package: Package = "docker-ce=5:27.5.1-1~debian.12~bookworm".parse().unwrap();
        assert_eq!(package.name.as_str(), "docker-ce");
        assert_eq!(package.argument(), "docker-ce=5:27.5.1-1~debian.12~bookworm");
        assert_eq!("g.o".parse::<Package>().unwrap().version, None);
        for bad in ["", "-y", "docker.io-", "docker.io+", "docker.io:amd64", "a=", "a=-1", "a=1 b", "a/forky", "A"] {
            assert!(bad.parse::<Package>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_says_which_way_it_goes() {
        let change = |from: Option<&str>, to: &str| Change { to: to.parse().unwrap(), from: from.map(version) };
        assert_eq!(change(None, "a").to_string(), "install a");
        assert_eq!(change(Some("1"), "a=2").to_string(), "upgrade a from 1 to 2");
        let down = change(Some("2"), "a=1");
        assert_eq!((down.to_string().as_str(), down.is_downgrade()), ("downgrade a from 2 to 1", true));
        assert_eq!(down.diff(), "-a 2\n+a 1");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC*") {
            let _ = (text.parse::<Package>(), text.parse::<Version>());
        }

        #[test]
        fn the_order_is_one(texts in prop::collection::vec("[a0-2][a0-2.~+:-]{0,6}", 3)) {
            let [a, b, c] = [0, 1, 2].map(|i| version(&texts[i]));
            prop_assert_eq!(a.order(&b), b.order(&a).reverse());
            if a.order(&b).is_le() && b.order(&c).is_le() {
                prop_assert!(a.order(&c).is_le());
            }
        }

        #[test]
        fn packages_survive_their_text(text in "[a-z][a-z0-9.]{0,5}(=[0-9][0-9.~+:-]{0,5})?") {
            prop_assert_eq!(text.parse::<Package>().unwrap().to_string(), text);
        }
    }
}
