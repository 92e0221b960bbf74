//! Discovery URLs: `scheme://rest`, and a bare list means `nodes://`.

use crate::entry::{Entry, EntryError, parse_list};
use osier_model::{ParseTokenError, Token, port};
use std::{fmt, path::PathBuf, str::FromStr};

/// Where the list of engines comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryUrl {
    /// `nodes://host:port,…` or the list alone: these engines.
    Nodes(Vec<Entry>),
    /// `file:///path`: one entry per line, read again and again.
    File(PathBuf),
    /// `token://…`: whoever registered under a token.
    Token(TokenUrl),
    /// `etcd://…`: whoever registered in etcd.
    Etcd(EtcdUrl),
}

/// `token://TOKEN`, `token://TOKEN@HOST[:PORT]`, or `token://[http(s)://]HOST[:PORT][/BASE]/TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUrl {
    /// The token.
    pub token: Token,
    /// The service that knows it, if the URL names one.
    pub service: Option<TokenService>,
}

/// Where a token service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenService {
    /// With or without TLS, if the URL says.
    pub scheme: Option<Scheme>,
    /// Host name or address.
    pub host: String,
    /// TCP port; the manager's unless the URL says otherwise, and the scheme's own where one is written.
    pub port: u16,
    /// What stands before `/clusters`, beginning with a slash; `/v1` unless the URL has a path of its own.
    pub base: String,
}

/// How a token service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// `etcd://HOST:PORT,…[/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdUrl {
    /// The members to talk to, tried in turn; at least one.
    pub endpoints: Vec<Entry>,
    /// What all keys begin with: empty, or a slash and at least one word.
    pub prefix: String,
}

/// The text is no discovery URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is no such discovery.
    #[error("discovery service not supported")]
    Unknown,
    /// The classic knew it and Osier does not.
    #[error("discovery service not supported: '{0}' (supported are nodes, file, token and etcd)")]
    Unsupported(&'static str),
    /// `nodes` with an entry that is none.
    #[error("{0}, please check you are using the correct discovery (missing token:// ?)")]
    Nodes(EntryError),
    /// An address within another URL.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// `nodes` or `etcd` with nobody in it.
    #[error("the discovery URL names no address")]
    Empty,
    /// `file` without a path.
    #[error("the discovery URL names no file")]
    NoFile,
    /// No token.
    #[error("token is empty")]
    NoToken,
    /// The token is not one.
    #[error(transparent)]
    Token(#[from] ParseTokenError),
}

impl FromStr for DiscoveryUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        match text.split_once("://").unwrap_or(("nodes", text)) {
            ("nodes", list) => match parse_list(list.split(',')).map_err(UrlError::Nodes)? {
                list if list.is_empty() => Err(UrlError::Empty),
                list => Ok(Self::Nodes(list)),
            },
            ("file", "") => Err(UrlError::NoFile),
            ("file", path) => Ok(Self::File(path.into())),
            ("token", rest) => Ok(Self::Token(rest.parse()?)),
            ("etcd", rest) => Ok(Self::Etcd(rest.parse()?)),
            ("zk", _) => Err(UrlError::Unsupported("zk")),
            ("consul", _) => Err(UrlError::Unsupported("consul")),
            _ => Err(UrlError::Unknown),
        }
    }
}

impl FromStr for TokenUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            _ => (None, text),
        };
        let (token, service) = match (rest.rsplit_once('/'), rest.split_once('@')) {
            (Some((service, token)), _) => (token, Some(service)),
            (None, Some((token, service))) => (token, Some(service)),
            (None, None) => (rest, None),
        };
        if token.is_empty() {
            return Err(UrlError::NoToken);
        }
        let service = service.map(|text| TokenService::parse(scheme, text)).transpose()?;
        Ok(Self { token: token.parse()?, service })
    }
}

impl TokenService {
    fn parse(scheme: Option<Scheme>, text: &str) -> Result<Self, EntryError> {
        let (address, base) = match text.split_once('/') {
            Some((address, path)) if path.chars().any(|c| c != '/') => {
                (address, format!("/{}", path.trim_matches('/')))
            }
            Some((address, _)) => (address, "/v1".to_owned()),
            None => (text, "/v1".to_owned()),
        };
        let default = match scheme {
            None => port::MANAGER,
            Some(Scheme::Http) => 80,
            Some(Scheme::Https) => 443,
        };
        // Whatever is no entry may be a host without a port.
        let entry = address.parse::<Entry>().or_else(|e| format!("{address}:{default}").parse().map_err(|_| e))?;
        Ok(Self { scheme, host: entry.host().to_owned(), port: entry.port(), base })
    }
}

impl FromStr for EtcdUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (addresses, prefix) = text.split_once('/').unwrap_or((text, ""));
        let endpoints = parse_list(addresses.split(','))?;
        let words: Vec<&str> = prefix.split('/').filter(|word| !word.is_empty()).collect();
        let prefix = words.iter().map(|word| format!("/{word}")).collect();
        if endpoints.is_empty() { Err(UrlError::Empty) } else { Ok(Self { endpoints, prefix }) }
    }
}

impl EtcdUrl {
    /// The folder of the engines' keys, `<prefix>/<kv.path>/`; each key is its `host:port` and so is its value.
    pub fn nodes(&self, path: &str) -> String {
        format!("{}/{}/", self.prefix, path.trim_matches('/'))
    }

    /// The key that holds the address of the leading manager; `kv.path` does not move it.
    pub fn leader(&self) -> String {
        format!("{}/docker/swarm/leader", self.prefix)
    }
}

impl fmt::Display for TokenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            None => write!(f, "token://{}", self.token),
            Some(service) => {
                let scheme = match service.scheme {
                    None => "",
                    Some(Scheme::Http) => "http://",
                    Some(Scheme::Https) => "https://",
                };
                let host = &service.host;
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                write!(f, "token://{scheme}{host}:{}{}/{}", service.port, service.base, self.token)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "feba5683f4a1645b68365f562f81694f";

    fn error(text: &str) -> String {
        text.parse::<DiscoveryUrl>().unwrap_err().to_string()
    }

    #[test]
    fn schemes_are_known_or_refused_clearly() {
        assert!(matches!("a:1,b:2".parse().unwrap(), DiscoveryUrl::Nodes(list) if list.len() == 2));
        assert!(matches!("nodes://a:1".parse().unwrap(), DiscoveryUrl::Nodes(_)));
        assert_eq!("file:///etc/nodes".parse(), Ok(DiscoveryUrl::File("/etc/nodes".into())));
        assert_eq!(error("bogus://x"), "discovery service not supported");
        for old in ["zk", "consul"] {
            assert!(error(&format!("{old}://h:1/p")).starts_with("discovery service not supported: "), "{old}");
        }
        assert_eq!(
            error("abcd"),
            "'abcd' is not of the form host:port, please check you are using the correct discovery (missing token:// ?)"
        );
        assert_eq!((error("token://"), error("token://h:1/")), ("token is empty".into(), "token is empty".into()));
        for empty in ["", "nodes://", "etcd://", "etcd:///x", "file://", "token://xyz", "etcd://h"] {
            assert!(empty.parse::<DiscoveryUrl>().is_err(), "{empty}");
        }
    }

    #[test]
    fn tokens_may_tell_their_service() {
        let service = |scheme, host: &str, port, base: &str| {
            Some(TokenService { scheme, host: host.into(), port, base: base.into() })
        };
        for (url, expected) in [
            (TOKEN.to_owned(), None),
            (format!("{TOKEN}@master"), service(None, "master", 3376, "/v1")),
            (format!("{TOKEN}@master:99"), service(None, "master", 99, "/v1")),
            (format!("master:99/{TOKEN}"), service(None, "master", 99, "/v1")),
            (format!("10.0.0.1/{TOKEN}"), service(None, "10.0.0.1", 3376, "/v1")),
            (format!("[::1]/{TOKEN}"), service(None, "::1", 3376, "/v1")),
            (format!("h:1//{TOKEN}"), service(None, "h", 1, "/v1")),
            (format!("h/a/b/{TOKEN}"), service(None, "h", 3376, "/a/b")),
            (format!("https://h/{TOKEN}"), service(Some(Scheme::Https), "h", 443, "/v1")),
            (format!("http://h:81/v2/{TOKEN}"), service(Some(Scheme::Http), "h", 81, "/v2")),
        ] {
            let Ok(DiscoveryUrl::Token(found)) = format!("token://{url}").parse() else { panic!("{url}") };
            assert_eq!(found.service, expected, "{url}");
            assert_eq!(found.to_string().parse(), Ok(DiscoveryUrl::Token(found)), "{url}");
        }
    }

    #[test]
    fn etcd_keys_lie_where_the_classic_had_them() {
        let Ok(DiscoveryUrl::Etcd(url)) = "etcd://h1:2379,[::1]:4001/a//b/".parse() else { panic!() };
        assert_eq!(url.endpoints.len(), 2);
        assert_eq!(url.nodes("docker/swarm/nodes"), "/a/b/docker/swarm/nodes/");
        assert_eq!(url.nodes("/x/"), "/a/b/x/");
        assert_eq!(url.leader(), "/a/b/docker/swarm/leader");
        let Ok(DiscoveryUrl::Etcd(url)) = "etcd://h:1".parse() else { panic!() };
        assert_eq!(url.leader(), "/docker/swarm/leader");
    }
}
