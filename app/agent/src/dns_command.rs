//! The commands about names: `osier dns …`, and Weave Net's `dns-add`, `dns-remove` and `dns-lookup` in its own spelling.
//!
//! Must not know how names are kept; the agent on this node is asked over its control socket.

use crate::{
    dns::{Lookup, LookupRequest, PATH},
    given::GivenName,
};
use http::{Method, StatusCode};
use osier_engine::{Client, Error};
use osier_model::config::path;
use osier_names::given::Wish;
use osier_ui::{ExitKind, Failure, Table, Ui};
use serde::{Serialize, de::DeserializeOwned};
use std::net::Ipv4Addr;

/// What can be done with names.
#[derive(Debug, clap::Subcommand)]
pub enum DnsCommand {
    /// Sets a name for addresses, wherever they are, or for a container.
    #[command(
        after_help = "Examples:\n  osier dns add oracle 192.0.2.7              a database outside the cluster\n  \
        osier dns add oracle 192.0.2.7 192.0.2.8    two of them under one name\n  \
        osier dns add shop --container web-1        another name for a container, wherever it runs\n\n\
        A name without dots is put into the domain. It is answered on all nodes until it is removed, also after restarts; a\n\
        container's name while the container runs."
    )]
    Add {
        /// The name.
        name: String,
        /// Where it leads: IPv4 addresses.
        addresses: Vec<Ipv4Addr>,
        /// The container it is for, by name, id, or the beginning of its id.
        #[arg(long)]
        container: Option<String>,
    },
    /// Removes names that were set by hand, on whichever node they were set.
    #[command(after_help = "Examples:\n  osier dns remove oracle\n  osier dns remove oracle 192.0.2.8\n  \
        osier dns remove shop --container web-1\n  osier dns remove --container web-1\n\n\
        A name that was set on a node which is down or cut off is gone at once for all nodes that can be reached, and there\n\
        as soon as it is back.")]
    Remove {
        /// The name; without it all names that were set for the container.
        name: Option<String>,
        /// Only where it leads to one of these addresses.
        addresses: Vec<Ipv4Addr>,
        /// Only where it is for this container.
        #[arg(long)]
        container: Option<String>,
    },
    /// Looks a name or an address up as a container would.
    #[command(after_help = "Examples:\n  osier dns lookup oracle\n  osier dns lookup www.example.org\n  \
        osier dns lookup 10.1.1.3\n  osier dns lookup db --from web-1    as that container is answered, with its links")]
    Lookup {
        /// A name, or an IPv4 address.
        name: String,
        /// The container that asks: its name, id, the beginning of its id, or its address.
        #[arg(long, value_name = "CONTAINER")]
        from: Option<String>,
    },
    /// Lists the names that were set by hand, on all nodes.
    #[command(
        after_help = "Examples:\n  osier dns ls\n  osier dns ls -o json\n  osier status        the names that containers have by themselves, too"
    )]
    Ls,
}

/// What `weave dns-add` and `weave dns-remove` take.
#[derive(Debug, clap::Args)]
pub(crate) struct WeaveNames {
    /// Addresses, then a container; or addresses alone with -h.
    #[arg(value_name = "ADDRESS… CONTAINER")]
    words: Vec<String>,
    /// The name; else the container's own.
    #[arg(short = 'h', value_name = "FQDN")]
    fqdn: Option<String>,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// `osier dns …`.
pub async fn run_dns(command: DnsCommand, ui: &Ui) -> Result<(), Failure> {
    match command {
        DnsCommand::Add { name, addresses, container } => {
            let rows = change("add", Wish { name: Some(name), addresses, container }).await?;
            show(ui, &rows, added)
        }
        DnsCommand::Remove { name, addresses, container } => {
            let rows = change("remove", Wish { name, addresses, container }).await?;
            if rows.is_empty() {
                return Err(Failure::message_only(ExitKind::Failed, NOTHING).hint(NOTHING_HINT));
            }
            show(ui, &rows, |rows| rows.iter().map(|row| format!("{}: removed", said(row))).collect())
        }
        DnsCommand::Lookup { name, from } => {
            let found = lookup(name, from).await?;
            if ui.is_json() {
                ui.json(&found);
            } else if let Some(failure) = not_found(&found) {
                return Err(failure);
            } else {
                ui.line(answers(&found).join("\n"));
            }
            Ok(())
        }
        DnsCommand::Ls => {
            let rows: Vec<GivenName> = call(Method::GET, "", None::<&()>).await?;
            show(ui, &rows, |rows| vec![table(rows)])
        }
    }
}

/// `weave dns-add …`: silent.
pub(crate) async fn weave_add(names: WeaveNames) -> Result<(), Failure> {
    change("add", wish(names)?).await.map(drop)
}

/// `weave dns-remove …`: as silent, but for a word to standard error where nothing was removed.
pub(crate) async fn weave_remove(names: WeaveNames, ui: &Ui) -> Result<(), Failure> {
    if change("remove", wish(names)?).await?.is_empty() {
        ui.warn(NOTHING);
    }
    Ok(())
}

/// `weave dns-lookup …`: one address per line, nothing where there is none.
pub(crate) async fn weave_lookup(name: String, ui: &Ui) -> Result<(), Failure> {
    for line in answers(&lookup(name, None).await?) {
        ui.line(line);
    }
    Ok(())
}

const NOTHING: &str = "no name that was set by hand is meant";
const NOTHING_HINT: &str =
    "'osier dns ls' shows those that were; the names that a container has by itself go when it stops";

fn wish(names: WeaveNames) -> Result<Wish, Failure> {
    let usage = "weave dns-add|dns-remove [ADDRESS…] CONTAINER [-h FQDN], or ADDRESS… -h FQDN";
    let bad = |word| Failure::usage(format!("'{word}' is neither an IPv4 address nor the one container")).hint(usage);
    let wish = Wish::from_words(&names.words, names.fqdn).map_err(bad)?;
    let lacking = wish.container.is_none() && (wish.name.is_none() || wish.addresses.is_empty());
    if lacking {
        Err(Failure::usage("a container, or addresses and a name, must be said").hint(usage))
    } else {
        Ok(wish)
    }
}

async fn change(what: &str, wish: Wish) -> Result<Vec<GivenName>, Failure> {
    call(Method::POST, &format!("/{what}"), Some(&wish)).await
}

async fn lookup(name: String, from: Option<String>) -> Result<Lookup, Failure> {
    call(Method::POST, "/lookup", Some(&LookupRequest { name, from })).await
}

async fn call<T: DeserializeOwned>(method: Method, path: &str, body: Option<&impl Serialize>) -> Result<T, Failure> {
    let body = body.map(serde_json::to_value).transpose().map_err(anyhow::Error::from)?;
    let client = Client::unix(path::AGENT_SOCKET);
    client.json(method, &format!("{PATH}{path}"), body.as_ref()).await.map_err(failure)
}

fn failure(error: Error) -> Failure {
    let Error::Engine { status, message } = error else {
        let error = anyhow::Error::new(error).context("ask the agent");
        return Failure::new(ExitKind::Failed, error).hint(crate::client::NO_AGENT);
    };
    let (kind, hint) = match status {
        StatusCode::NOT_FOUND => (
            ExitKind::Failed,
            Some("'docker ps' shows the containers that run; 'osier status' those with a name on the overlay"),
        ),
        StatusCode::BAD_REQUEST => (ExitKind::Usage, None),
        StatusCode::CONFLICT => (ExitKind::Failed, Some("'osier dns ls' shows them; set further ones on another node")),
        _ => (ExitKind::Failed, Some("'journalctl -u osier-agent' says more")),
    };
    let failure = Failure::message_only(kind, message);
    hint.into_iter().fold(failure, Failure::hint)
}

fn show(ui: &Ui, rows: &[GivenName], text: impl FnOnce(&[GivenName]) -> Vec<String>) -> Result<(), Failure> {
    if ui.is_json() {
        ui.json(&rows);
    } else {
        text(rows).into_iter().for_each(|line| ui.line(line));
    }
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A name and what it is for, in a few words.
fn said(row: &GivenName) -> String {
    let container = row.container.as_ref().map(|id| format!("container {}", short(id)));
    let target = match (row.address, container) {
        (Some(address), Some(container)) => format!("{address} ({container})"),
        (Some(address), None) => address.to_string(),
        (None, container) => container.unwrap_or_default(),
    };
    format!("{} -> {target}", row.name)
}

fn added(rows: &[GivenName]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["the container has this name by itself".to_owned()];
    }
    rows.iter().map(said).collect()
}

fn table(rows: &[GivenName]) -> String {
    let mut table = Table::new(&["NAME", "ADDRESS", "CONTAINER", "NODE", "ANSWERED"]);
    for row in rows {
        let address = row.address.map_or_else(|| "the container's".to_owned(), |a| a.to_string());
        let called = row.called.as_deref().filter(|c| row.container.as_ref().is_some_and(|id| !id.starts_with(*c)));
        let container = row.container.as_deref().map(short).unwrap_or_default();
        let container = called.map_or_else(|| container.to_owned(), |called| format!("{container} ({called})"));
        let answered = if row.answered { "yes" } else { "no: its container does not run" };
        table.row([row.name.to_string(), address, container, row.node.clone(), answered.to_owned()]);
    }
    table.to_string()
}

fn answers(found: &Lookup) -> Vec<String> {
    found.addresses.iter().map(ToString::to_string).chain(found.names.iter().cloned()).collect()
}

fn not_found(found: &Lookup) -> Option<Failure> {
    if !answers(found).is_empty() {
        return None;
    }
    let words = match found.code.as_str() {
        "NOERROR" => "the name exists but has no IPv4 address",
        "NXDOMAIN" => "there is no such name",
        "SERVFAIL" => "none of the host's resolvers answered",
        _ => "the host's resolvers refused",
    };
    let failure =
        Failure::message_only(ExitKind::Failed, format!("look up '{}': {words} ({})", found.name, found.code));
    Some(failure.hint("'osier status' shows the names of the cluster and the host's resolvers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(address: Option<[u8; 4]>, container: Option<&str>, called: &str, answered: bool) -> GivenName {
        GivenName {
            name: "shop.weave.local".parse().unwrap(),
            address: address.map(Into::into),
            container: container.map(str::to_owned),
            called: container.map(|_| called.to_owned()),
            node: "n1".into(),
            answered,
        }
    }

    #[test]
    fn rows_are_shown_with_what_they_are_for() {
        let id = "f00d".repeat(16);
        let rows = [
            row(Some([192, 0, 2, 7]), None, "", true),
            row(None, Some(&id), "web-1", true),
            row(Some([10, 1, 1, 9]), Some(&id), "f00d", false),
        ];
        assert_eq!(
            table(&rows),
            "NAME               ADDRESS           CONTAINER              NODE   ANSWERED\n\
             shop.weave.local   192.0.2.7                                n1     yes\n\
             shop.weave.local   the container's   f00df00df00d (web-1)   n1     yes\n\
             shop.weave.local   10.1.1.9          f00df00df00d           n1     no: its container does not run"
        );
        assert_eq!(
            added(&rows),
            [
                "shop.weave.local -> 192.0.2.7",
                "shop.weave.local -> container f00df00df00d",
                "shop.weave.local -> 10.1.1.9 (container f00df00df00d)"
            ]
        );
        assert_eq!(added(&[]), ["the container has this name by itself"]);
    }

    #[test]
    fn answers_are_lines_and_none_is_a_failure_with_the_reason() {
        let mut found = Lookup { name: "x".into(), code: "NXDOMAIN".into(), addresses: vec![], names: vec![] };
        let failure = not_found(&found).unwrap();
        assert_eq!((failure.code(), failure.message().as_str()), (1, "look up 'x': there is no such name (NXDOMAIN)"));
        found.addresses = vec![[10, 1, 1, 1].into(), [10, 1, 1, 2].into()];
        assert_eq!((answers(&found).join(" ").as_str(), not_found(&found).is_none()), ("10.1.1.1 10.1.1.2", true));
    }

    #[test]
    fn what_the_agent_refuses_is_told_with_its_kind() {
        let code = |status| failure(Error::Engine { status, message: "words".into() });
        assert_eq!((code(StatusCode::BAD_REQUEST).code(), code(StatusCode::NOT_FOUND).code()), (2, 1));
        assert_eq!(code(StatusCode::NOT_FOUND).message(), "words");
    }
}
