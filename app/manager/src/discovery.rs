//! Where the engines are: the classic discovery URLs, and the mesh that the local agent belongs to.

use crate::engine::Target;
use http::Method;
use osier_engine::{BoxError, Client};
use osier_model::{Token, port};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// How long the token service or the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A discovery URL: `nodes://host:port,…` (the scheme may be left out), `file://PATH`, or `token://…` in one of the
/// forms that [`TokenUrl`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// A fixed list.
    Nodes(BTreeSet<Target>),
    /// A file with one entry per line.
    File(PathBuf),
    /// A token service.
    Token(TokenUrl),
}

/// `token://TOKEN`, `token://HOST[:PORT]/TOKEN` or `token://TOKEN@HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUrl {
    /// The token.
    pub token: Token,
    /// Host and port of the manager that serves it, if the URL names one.
    pub host: Option<(String, u16)>,
}

/// The text is no discovery URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The scheme is not known.
    #[error("discovery service '{0}' is not supported (nodes, file, token)")]
    Scheme(String),
    /// An entry is not `host:port`.
    #[error(
        "'{0}' is not of the form host:port, please check you are using the correct discovery (missing token:// ?)"
    )]
    Entry(String),
    /// The token is not one.
    #[error(transparent)]
    Token(#[from] osier_model::ParseTokenError),
}

impl FromStr for Discovery {
    type Err = DiscoveryError;
    fn from_str(text: &str) -> Result<Self, DiscoveryError> {
        match text.split_once("://").unwrap_or(("nodes", text)) {
            ("nodes", list) => Ok(Self::Nodes(parse_list(list.split(','))?)),
            ("file", path) => Ok(Self::File(path.into())),
            ("token", rest) => Ok(Self::Token(rest.parse()?)),
            (scheme, _) => Err(DiscoveryError::Scheme(scheme.to_owned())),
        }
    }
}

impl FromStr for TokenUrl {
    type Err = DiscoveryError;
    fn from_str(text: &str) -> Result<Self, DiscoveryError> {
        let (token, host) = match (text.rsplit_once('/'), text.split_once('@')) {
            (Some((host, token)), _) => (token, Some(host)),
            (None, Some((token, host))) => (token, Some(host)),
            (None, None) => (text, None),
        };
        let host = host.map(|host| {
            let bare = || (host.trim_matches(['[', ']']).to_owned(), port::MANAGER);
            parse_entry(host).map_or_else(|_| bare(), |target| (target.host, target.port))
        });
        Ok(Self { token: token.parse()?, host })
    }
}

/// Reads `host:port`, where an IPv6 address stands in brackets.
pub fn parse_entry(text: &str) -> Result<Target, DiscoveryError> {
    let bad = || DiscoveryError::Entry(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
        None if host.contains(':') => return Err(bad()),
        None => host,
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '[' | ']' | '@');
    let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
    let port: u16 = port.filter(|p| *p != 0).ok_or_else(bad)?;
    if host.is_empty() || host.contains(odd) {
        return Err(bad());
    }
    Ok(Target { name: None, host: host.to_owned(), port, server_name: host.to_owned() })
}

/// The entries of a list or file, each of which may hold one range `[1:9]`.
fn parse_list<'a>(entries: impl Iterator<Item = &'a str>) -> Result<BTreeSet<Target>, DiscoveryError> {
    let entries = entries.map(str::trim).filter(|e| !e.is_empty());
    entries.flat_map(expand).map(|entry| parse_entry(&entry)).collect()
}

/// The most engines that one range may stand for.
const RANGE: u32 = 10_000;

/// Writes out an inclusive range of numbers in brackets. Anything else in brackets is an address.
fn expand(entry: &str) -> Vec<String> {
    let range = || {
        let (head, rest) = entry.split_once('[')?;
        let (range, tail) = rest.split_once(']')?;
        let (first, last) = range.split_once(':')?;
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        let fits = last.checked_sub(first).is_some_and(|count| count < RANGE);
        fits.then(|| (first..=last).map(|n| format!("{head}{n}{tail}")).collect())
    };
    range().unwrap_or_else(|| vec![entry.to_owned()])
}

/// Reads a file of entries: one per line, `#` begins a comment.
pub(crate) fn read_file(path: &Path) -> Result<BTreeSet<Target>, BoxError> {
    let bytes = osier_store::read(path)?.ok_or_else(|| format!("there is no file '{}'", path.display()))?;
    let text = String::from_utf8(bytes)?;
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(entry, _)| entry));
    Ok(parse_list(lines)?)
}

/// Asks a token service who is registered, in the order it tells.
pub(crate) async fn list_token(client: &Client, token: &Token) -> Result<Vec<String>, BoxError> {
    let path = format!("/v1/clusters/{token}");
    let call = client.json::<Vec<String>>(Method::GET, &path, None);
    let answer = tokio::time::timeout(ANSWER, call).await.map_err(|_| "the token service does not answer")?;
    Ok(answer.map_err(|e| format!("ask the token service: {}", e.chain()))?)
}

/// The engines that a token service tells of.
pub(crate) async fn token_targets(client: &Client, token: &Token) -> Result<BTreeSet<Target>, BoxError> {
    let list = list_token(client, token).await?;
    Ok(parse_list(list.iter().map(String::as_str))?)
}

/// What the agent's control socket tells of one member.
#[derive(Debug, Deserialize)]
struct MeshMember {
    name: String,
    address: std::net::IpAddr,
    alive: bool,
}

/// The members of the mesh.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mesh {
    /// Every member's engine.
    pub(crate) targets: BTreeSet<Target>,
    /// Whether the mesh believes it alive, by name.
    pub(crate) alive: BTreeMap<String, bool>,
}

/// Asks the local agent who belongs to the mesh.
pub(crate) async fn mesh(agent: &Client) -> Result<Mesh, BoxError> {
    let call = agent.json::<Vec<MeshMember>>(Method::GET, "/v1/members", None);
    let answer = tokio::time::timeout(ANSWER, call).await.map_err(|_| "the agent does not answer")?;
    let members = answer.map_err(|e| format!("ask the agent for the members: {}", e.chain()))?;
    if members.is_empty() {
        // Its own node is always a member: an empty answer cannot mean that the cluster is gone.
        return Err("the agent does not know any member yet".into());
    }
    let target = |m: &MeshMember| Target {
        name: Some(m.name.clone()),
        host: m.address.to_string(),
        port: port::ENGINE_PROXY,
        server_name: m.name.clone(),
    };
    Ok(Mesh {
        targets: members.iter().map(target).collect(),
        alive: members.into_iter().map(|m| (m.name, m.alive)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> Vec<String> {
        match text.parse().unwrap() {
            Discovery::Nodes(targets) => targets.iter().map(Target::address).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_and_ranges_are_read_as_the_classic_read_them() {
        assert_eq!(nodes("10.0.0.[1:3]:2375"), ["10.0.0.1:2375", "10.0.0.2:2375", "10.0.0.3:2375"]);
        assert_eq!(nodes("nodes://b:1,a:2"), ["a:2", "b:1"]);
        assert_eq!(nodes("[::1]:2375"), ["[::1]:2375"]);
        for bad in ["h", "h:0", "h:65536", "h:+1", "a b:1", ":1", "a:b:1", "[::1:1", "http://h:1", "nodes://x/y:1"] {
            assert!(bad.parse::<Discovery>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_may_tell_their_host() {
        let token = "feba5683f4a1645b68365f562f81694f";
        for (url, host) in [
            (format!("token://{token}"), None),
            (format!("token://{token}@master"), Some(("master", 3376))),
            (format!("token://{token}@master:99"), Some(("master", 99))),
            (format!("token://master:99/{token}"), Some(("master", 99))),
            (format!("token://10.0.0.1/{token}"), Some(("10.0.0.1", 3376))),
        ] {
            let Discovery::Token(found) = url.parse().unwrap() else { panic!("{url}") };
            assert_eq!(found.host, host.map(|(h, p)| (h.to_owned(), p)), "{url}");
        }
        assert!("token://".parse::<Discovery>().is_err() && "token://xyz".parse::<Discovery>().is_err());
    }

    #[test]
    fn files_have_comments_and_a_broken_line_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes");
        std::fs::write(&path, "# all\n a:1 # first\n\n10.0.0.[8:9]:2\n").unwrap();
        let found: Vec<String> = read_file(&path).unwrap().iter().map(Target::address).collect();
        assert_eq!(found, ["10.0.0.8:2", "10.0.0.9:2", "a:1"]);
        std::fs::write(&path, "a\n").unwrap();
        assert!(read_file(&path).is_err() && read_file(&dir.path().join("none")).is_err());
    }
}
