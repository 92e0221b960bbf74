//! How the operator's commands reach a manager: a cluster that this machine provisioned, or any address, as Docker's
//! command line is told of one.

use crate::stream::JsonStream;
use anyhow::Context;
use clap::Args;
use http::{Method, StatusCode};
use osier_engine::{Body, Client, Error, resolve};
use osier_model::port;
use osier_pki::Identity;
use osier_ui::{ExitKind, Failure, FailureExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How long a manager may take to answer; it may have to ask its engines.
const ANSWER: Duration = Duration::from_secs(60);

/// Which manager a command talks to.
#[derive(Debug, Clone, Default, Args)]
pub struct ManagerArgs {
    /// The cluster of this machine; needed where there are several and none is called 'default'
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    pub cluster: Option<String>,
    /// The manager itself: [tcp://]HOST[:PORT] or unix://PATH, instead of a cluster of this machine (also DOCKER_HOST)
    #[arg(short = 'H', long, value_name = "URL")]
    pub host: Option<String>,
    /// With -H: use TLS and check the manager's certificate (also DOCKER_TLS_VERIFY)
    #[arg(long)]
    pub tlsverify: bool,
    /// The folder with ca.pem, cert.pem and key.pem; ~/.docker where it is not given
    #[arg(long, env = "DOCKER_CERT_PATH", value_name = "FOLDER")]
    pub cert_path: Option<PathBuf>,
}

/// Where the manager of a cluster of this machine is.
pub struct Place {
    /// Its address.
    pub address: SocketAddr,
    /// What its certificate is for.
    pub server_name: String,
    /// Who we are to it.
    pub identity: Identity,
}

/// A manager to talk to.
#[derive(Debug)]
pub(crate) struct Manager {
    client: Client,
    /// As the user knows it.
    name: String,
}

impl ManagerArgs {
    /// The manager that is meant. `place` knows the clusters of this machine, by their names.
    pub(crate) async fn manager(
        &self,
        place: impl FnOnce(Option<&str>) -> Result<Place, Failure>,
    ) -> Result<Manager, Failure> {
        let variable = std::env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty());
        let host = self.host.clone().or_else(|| variable.filter(|_| self.cluster.is_none()));
        let Some(host) = host else {
            let place = place(self.cluster.as_deref())?;
            let tls = place.identity.client().context("set up TLS")?;
            let client = Client::tls(place.address, &place.server_name, tls).context("reach the manager")?;
            return Ok(Manager { client, name: place.address.to_string() });
        };
        let client = match host.split_once("://").unwrap_or(("tcp", &host)) {
            ("unix", path) => Client::unix(path),
            ("tcp", address) => self.tcp(address).await?,
            (scheme, _) => return Err(Failure::usage(format!("unsupported protocol: \"{scheme}\""))),
        };
        Ok(Manager { client, name: host })
    }

    async fn tcp(&self, address: &str) -> Result<Client, Failure> {
        let (host, port) = split(address).ok_or_else(|| Failure::usage(format!("'{address}' is no address")))?;
        let resolved = resolve(host, port.unwrap_or(port::MANAGER)).await;
        let resolved = resolved.map_err(|e| anyhow::anyhow!("{e}")).with_context(|| format!("resolve '{host}'"))?;
        // Docker's command line takes any text in this variable for yes.
        let variable = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|v| !v.is_empty());
        if !(self.tlsverify || variable) {
            return Ok(Client::tcp(resolved));
        }
        let folder = self.cert_path.clone().or_else(docker_folder);
        let folder = folder.ok_or_else(|| Failure::usage("no folder with certificates: give --cert-path FOLDER"))?;
        let identity = Identity::read(&folder).map_err(anyhow::Error::from).kind(ExitKind::Usage)?;
        let tls = identity.client().context("set up TLS")?;
        Ok(Client::tls(resolved, host, tls).context("reach the manager")?)
    }
}

/// Where Docker's command line keeps its certificates.
fn docker_folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("DOCKER_CONFIG").or_else(|| var("HOME").map(|h| h.join(".docker")))
}

/// Splits `host[:port]`; an IPv6 address stands in brackets and comes out without them.
fn split(address: &str) -> Option<(&str, Option<u16>)> {
    let address = address.trim_end_matches('/');
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(|p| p.parse::<u16>().ok().filter(|p| *p != 0)).map_or(Some(None), |p| p.map(Some))?;
    (!host.is_empty()).then_some((host, port))
}

impl Manager {
    /// Asks for a JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(ANSWER, self.client.json(method, path, body)).await {
            Ok(answer) => answer.map_err(|e| self.failure(e)),
            Err(_) => Err(self.late()),
        }
    }

    /// The manager, as the user knows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Asks for an answer that comes as JSON values, one after another, for as long as the work takes.
    pub(crate) async fn stream(&self, method: Method, path: &str, body: Option<&Value>) -> Result<JsonStream, Failure> {
        match tokio::time::timeout(ANSWER, self.client.call(method, path, body)).await {
            Ok(answer) => Ok(JsonStream::new(answer.map_err(|e| self.failure(e))?.into_body())),
            Err(_) => Err(self.late()),
        }
    }

    /// Asks for an answer that comes as bytes, for as long as it takes.
    pub(crate) async fn body(&self, method: Method, path: &str) -> Result<Body, Failure> {
        match tokio::time::timeout(ANSWER, self.client.call(method, path, None)).await {
            Ok(answer) => Ok(answer.map_err(|e| self.failure(e))?.into_body()),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> Failure {
        let message = format!("the manager at {} did not answer within {} s", self.name, ANSWER.as_secs());
        Failure::message_only(ExitKind::Failed, message)
    }

    fn failure(&self, error: Error) -> Failure {
        match error {
            Error::Engine { status: StatusCode::NOT_FOUND, message } if message == "page not found" => {
                let failure = format!("what answers at {} is not an Osier manager, or an older one", self.name);
                Failure::message_only(ExitKind::Failed, failure).hint("'-H tcp://HOST:3376' names the manager")
            }
            Error::Engine { message, .. } => Failure::message_only(ExitKind::Failed, message),
            other => {
                let failure =
                    Failure::from(anyhow::Error::new(other).context(format!("ask the manager at {}", self.name)));
                failure.hint("'--cluster NAME' or '-H tcp://HOST:3376' names another one")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ManagerArgs,
    }

    fn nowhere(_: Option<&str>) -> Result<Place, Failure> {
        Err(Failure::usage("no cluster"))
    }

    #[tokio::test]
    async fn managers_are_named_as_docker_names_hosts() {
        let manager = async |line: &str| {
            let words = std::iter::once("x").chain(line.split_whitespace());
            let args = Command::try_parse_from(words).unwrap().args;
            args.manager(nowhere).await.map(|m| m.client.name()).map_err(|f| f.message())
        };
        for (line, name) in [
            ("-H tcp://127.0.0.1:99", "127.0.0.1:99"),
            ("-H 127.0.0.1", "127.0.0.1:3376"),
            ("-H tcp://[::1]:7/", "[::1]:7"),
            ("--host unix:///run/x.sock", "unix:///run/x.sock"),
        ] {
            assert_eq!(manager(line).await.as_deref(), Ok(name), "{line}");
        }
        assert_eq!(manager("-H ssh://x").await.unwrap_err(), "unsupported protocol: \"ssh\"");
        assert!(manager("-H tcp://x:0").await.is_err() && manager("-H tcp://:1").await.is_err());
        assert_eq!(manager("--cluster lab").await.unwrap_err(), "no cluster");
        let folder = tempfile::tempdir().unwrap();
        let tls = format!("-H 127.0.0.1 --tlsverify --cert-path {}", folder.path().display());
        assert_eq!(manager(&tls).await.unwrap_err(), "read the TLS files");
        assert!(Command::try_parse_from(["x", "-H", "a", "--cluster", "b"]).is_err());
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(text in ".*") {
            let _ = split(&text);
        }
    }
}
