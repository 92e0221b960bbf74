//! The host's package sources, read as apt reads them and rewritten for the release that a node runs.
//!
//! Must not know where the files lie or who fetches from them. Formats: deb822 stanzas and one-line entries
//! (sources.list(5)), and the lines of `apt-config dump`. What is not understood is left out, as it is of no use to a
//! node; apt on the host has long complained about what is truly broken.

use crate::release::Release;
use std::fmt::Write;

/// One source of binary packages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    /// Where the archive is.
    pub(crate) uris: Vec<String>,
    /// The suites taken from it.
    pub(crate) suites: Vec<String>,
    /// The components of those suites.
    pub(crate) components: Vec<String>,
    /// Every other deb822 field, continuation lines included, as written.
    pub(crate) fields: Vec<(String, String)>,
}

impl Source {
    /// The value of another field, by its case-insensitive name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The key ring file that signs this source, if one is named by its path.
    pub(crate) fn keyring(&self) -> Option<&str> {
        self.field("Signed-By").filter(|value| value.starts_with('/') && !value.contains(char::is_whitespace))
    }
}

/// Reads the deb822 form (`*.sources`): stanzas between blank lines; those not enabled or without binary packages are
/// left out.
pub(crate) fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')).chain([""]) {
        if line.trim().is_empty() {
            sources.extend(source_of(std::mem::take(&mut stanza)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sources
}

fn source_of(mut stanza: Vec<(String, String)>) -> Option<Source> {
    let mut take = |name: &str| {
        let index = stanza.iter().position(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(stanza.remove(index).1)
    };
    let words = |text: Option<String>| text.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let types: Vec<String> = words(take("Types"));
    let enabled = !take("Enabled").is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "no" | "false" | "0"));
    let (uris, suites, components) = (words(take("URIs")), words(take("Suites")), words(take("Components")));
    let source = Source { uris, suites, components, fields: stanza };
    (enabled && types.iter().any(|t| t == "deb") && !source.uris.is_empty()).then_some(source)
}

/// Reads the one-line form (`*.list`): `deb [option=value …] uri suite component …`.
pub(crate) fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let fields = options.split_whitespace().filter_map(|o| o.split_once('=')).map(deb822_field).collect();
    Some(Source { uris: vec![uri], suites: vec![suite], components: words.collect(), fields })
}

/// sources.list(5): an option's field has the same words, capitalised; three names differ, and lists use blanks.
fn deb822_field((option, value): (&str, &str)) -> (String, String) {
    let name = match option {
        "arch" => "Architectures".to_owned(),
        "lang" => "Languages".to_owned(),
        "target" => "Targets".to_owned(),
        other => other.split('-').map(capitalised).collect::<Vec<_>>().join("-"),
    };
    (name, value.replace(',', " "))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The sources that serve `release`: Debian's own, of the host's release, with the suite names exchanged. Third-party
/// archives and suites other than the release, its updates and its security fixes are left out.
pub(crate) fn for_release(sources: &[Source], host_codename: &str, release: Release) -> Vec<Source> {
    let rename = |suite: &String| {
        let names = [host_codename, "oldstable", "stable", "testing"];
        let rest = names.iter().filter(|n| !n.is_empty()).find_map(|name| suite.strip_prefix(name))?;
        matches!(rest, "" | "-updates" | "-security").then(|| format!("{release}{rest}"))
    };
    let renamed = sources
        .iter()
        .map(|source| Source { suites: source.suites.iter().filter_map(rename).collect(), ..source.clone() });
    renamed.filter(|source| !source.suites.is_empty() && source.components.iter().any(|c| c == "main")).collect()
}

/// The source a system of this release can be made from, with the address to give to debootstrap.
pub(crate) fn archive(sources: &[Source], release: Release) -> Option<(&Source, &str)> {
    let fetchable = |uri: &&String| ["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme));
    sources
        .iter()
        .filter(|source| source.suites.iter().any(|suite| suite == release.codename()))
        .find_map(|source| Some((source, source.uris.iter().find(fetchable)?.as_str())))
}

/// The sources in deb822 form, as a `*.sources` file holds them.
pub(crate) fn render(sources: &[Source]) -> String {
    let mut text = String::new();
    for source in sources {
        let lists = [("URIs", &source.uris), ("Suites", &source.suites), ("Components", &source.components)];
        text.push_str("Types: deb\n");
        for (name, words) in lists.iter().filter(|(_, words)| !words.is_empty()) {
            let _ = writeln!(text, "{name}: {}", words.join(" "));
        }
        for (name, value) in &source.fields {
            let _ = writeln!(text, "{name}: {value}");
        }
        text.push('\n');
    }
    text
}

/// How the host fetches (proxies, dates that are not to be checked, retries), out of what `apt-config dump` prints.
pub(crate) fn fetch_settings(dump: &str) -> Vec<String> {
    const KEPT: [&str; 4] = ["Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries"];
    let kept = |line: &&str| KEPT.iter().any(|prefix| line.starts_with(prefix)) && !line.ends_with(" \"\";");
    dump.lines().map(str::trim).filter(kept).map(str::to_owned).collect()
}

/// The value of one setting among those of [`fetch_settings`].
pub(crate) fn setting<'a>(settings: &'a [String], name: &str) -> Option<&'a str> {
    settings.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(" \"")?.strip_suffix("\";"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEB822: &str = "\
# Modernised
Types: deb deb-src
URIs: http://debian.example/debian
Suites: bookworm bookworm-updates bookworm-backports
# the usual
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
uris: http://debian.example/debian-security
suites: bookworm-security
components: main
signed-by: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example
Suites: bookworm
Components: main

Types: deb
URIs: https://vendor.example/node
Suites: nodistro
Components: main
";

    #[test]
    fn stanzas_are_read_and_serve_another_release() {
        let sources = parse_deb822(DEB822);
        assert_eq!(sources.len(), 3, "disabled and source-only stanzas are left out: {sources:?}");
        assert_eq!(sources[1].keyring(), Some("/usr/share/keyrings/debian-archive-keyring.gpg"));
        assert_eq!(sources[0].keyring(), None, "the key is inline");
        let trixie = for_release(&sources, "bookworm", Release::Trixie);
        let suites: Vec<&Vec<String>> = trixie.iter().map(|s| &s.suites).collect();
        assert_eq!(suites, [&vec!["trixie".to_owned(), "trixie-updates".into()], &vec!["trixie-security".into()]]);
        assert_eq!(archive(&trixie, Release::Trixie).unwrap().1, "http://debian.example/debian");
        assert!(render(&trixie).contains("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"));
    }

    #[test]
    fn one_line_entries_are_read_with_their_options() {
        let text = "deb [arch=amd64,arm64 signed-by=/k.gpg check-valid-until=no] http://a.example stable main # all\n\
                    deb-src http://a.example stable main\n#deb http://b.example x y\ndeb http://short.example\n";
        let sources = parse_one_line(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].keyring(), Some("/k.gpg"));
        assert_eq!(sources[0].field("Architectures"), Some("amd64 arm64"));
        assert_eq!(sources[0].field("Check-Valid-Until"), Some("no"));
        assert_eq!(for_release(&sources, "bookworm", Release::Bookworm)[0].suites, ["bookworm"]);
    }

    #[test]
    fn an_archive_that_debootstrap_cannot_fetch_from_is_not_chosen() {
        let sources = parse_one_line("deb cdrom:[disc]/ trixie main\ndeb https://c.example trixie main");
        assert_eq!(archive(&sources, Release::Trixie).map(|(_, uri)| uri), Some("https://c.example"));
        assert_eq!(archive(&sources, Release::Forky), None);
    }

    #[test]
    fn fetch_settings_are_kept_and_the_rest_is_not() {
        let dump = "APT \"\";\nAcquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::http::Dl-Limit \"\";\n\
                    Acquire::Check-Date \"false\";\nDPkg::Post-Invoke:: \"rm -f /var/cache/apt/archives/*.deb\";\n";
        let settings = fetch_settings(dump);
        assert_eq!(settings, ["Acquire::http::Proxy \"http://proxy.example:3128\";", "Acquire::Check-Date \"false\";"]);
        assert_eq!(setting(&settings, "Acquire::http::Proxy"), Some("http://proxy.example:3128"));
        assert_eq!(setting(&settings, "Acquire::https::Proxy"), None);
    }

    fn word() -> impl Strategy<Value = String> {
        "[a-z][a-z0-9:/.-]{0,12}"
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(?s).{0,400}") {
            let _ = (parse_deb822(&text), parse_one_line(&text), fetch_settings(&text));
        }

        #[test]
        fn what_is_rendered_reads_back(
            uris in prop::collection::vec(word(), 1..3), suites in prop::collection::vec(word(), 1..3),
            components in prop::collection::vec(word(), 0..3), key in word(),
        ) {
            let source = Source { uris, suites, components, fields: vec![("Signed-By".into(), key)] };
            prop_assert_eq!(parse_deb822(&render(std::slice::from_ref(&source))), vec![source]);
        }
    }
}
