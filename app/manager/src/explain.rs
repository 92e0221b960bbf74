//! `osier explain`: where a container would go, and what stands against the other nodes. Nothing is created.

use crate::client::{ManagerArgs, Place};
use clap::Args;
use http::Method;
use osier_dockerapi::query::Query;
use osier_model::{Bytes, Cpus};
use osier_scheduler::{Decision, Explanation, Policy, Reason, Unplaced, Verdict};
use osier_ui::{ExitKind, Failure, Table, Ui};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Where a container would go now, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The node that would be chosen.
    pub(crate) node: Option<String>,
    /// What a create request would be told instead.
    pub(crate) error: Option<String>,
    /// How nodes that would do are ranked.
    pub(crate) strategy: String,
    /// The filters in force, in their order.
    pub(crate) filters: Vec<String>,
    /// Whether the soft wishes had to be given up.
    pub(crate) softened: bool,
    /// What stands in the way whichever node is chosen.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// All nodes, the best first, those that will not do last.
    pub(crate) nodes: Vec<Candidate>,
}

/// What was found about one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    name: String,
    fits: bool,
    /// Its weight by the strategy: the lowest is the best with `spread`, the highest with `binpack`.
    score: Option<i64>,
    containers: Option<usize>,
    /// What excludes it: a filter's name, `availability`, `tie` or `resources`.
    by: Option<String>,
    why: Option<String>,
    /// How it would come by the image: `here`, `pulled`, `copied from NODE`, or `missing` where no node has it; nothing
    /// where the node does not answer.
    #[serde(default)]
    image: String,
}

impl Report {
    pub(crate) fn new(policy: &Policy, outcome: Result<Decision, Unplaced>) -> Self {
        let (node, error, Explanation { softened, nodes }) = match outcome {
            Ok(decision) => (Some(decision.node), None, decision.explanation),
            Err(error) => (None, Some(error.to_string()), error.explanation().clone()),
        };
        let filters = policy.filters.iter().map(ToString::to_string).collect();
        let nodes = nodes.into_iter().map(Candidate::new).collect();
        let strategy = policy.strategy.to_string();
        Self { node, error, strategy, filters, softened, warnings: Vec::new(), nodes }
    }

    /// A create request is refused before a node is chosen.
    pub(crate) fn refuse(&mut self, error: String) {
        (self.node, self.error) = (None, Some(error));
    }

    /// Adds how each node would come by the image, as `of` tells.
    pub(crate) fn add_images(&mut self, of: impl Fn(&str) -> String) {
        self.nodes.iter_mut().for_each(|node| node.image = of(&node.name));
    }
}

impl Candidate {
    fn new((name, verdict): (String, Verdict)) -> Self {
        let image = String::new();
        match verdict {
            Verdict::Ranked { weight, containers } => {
                let (score, containers) = (Some(weight), Some(containers));
                Self { name, fits: true, score, containers, by: None, why: None, image }
            }
            Verdict::Excluded { by, why } => {
                let by = match by {
                    Reason::Filter(filter) => filter.to_string(),
                    Reason::Closed => "availability".to_owned(),
                    Reason::Tie => "tie".to_owned(),
                    Reason::Resources => "resources".to_owned(),
                };
                Self { name, fits: false, score: None, containers: None, by: Some(by), why: Some(why), image }
            }
        }
    }
}

/// Show where a container would go, and why not elsewhere
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  osier explain busybox
  osier explain --cpus 2 -m 1g -p 80:80 nginx
  osier explain -e constraint:zone==eu -e affinity:container!=~db redis
  osier explain -v data:/var/lib/data -o json postgres")]
pub struct ExplainArgs {
    /// Cores to reserve
    #[arg(long, value_name = "CORES")]
    cpus: Option<Cpus>,
    /// CPU shares, which are whole cores where the manager was told so
    #[arg(short = 'c', long, value_name = "SHARES", default_value_t = 0, hide_default_value = true)]
    cpu_shares: u64,
    /// Memory to reserve: bytes, or a number with k, m or g
    #[arg(short, long, value_name = "BYTES", value_parser = parse_memory)]
    memory: Option<Bytes>,
    /// An entry of the environment, such as constraint:zone==eu (repeatable)
    #[arg(short, long, value_name = "ENTRY")]
    env: Vec<String>,
    /// A label: KEY=VALUE (repeatable)
    #[arg(short, long, value_name = "LABEL")]
    label: Vec<String>,
    /// A mount: VOLUME:PATH or HOST-PATH:PATH (repeatable)
    #[arg(short, long, value_name = "MOUNT")]
    volume: Vec<String>,
    /// A published port: [[ADDRESS:]PORT:]PORT[/PROTOCOL] (repeatable)
    #[arg(short, long, value_name = "PORT", value_parser = parse_port)]
    publish: Vec<Published>,
    /// The network
    #[arg(long, visible_alias = "network", value_name = "NETWORK")]
    net: Option<String>,
    /// A container whose volumes are used too (repeatable)
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// A container to be linked (repeatable)
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// The container's name; NODE/NAME names the node too
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    manager: ManagerArgs,
    /// The image
    image: String,
}

/// A port to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Published {
    ip: Option<IpAddr>,
    /// On the node; any where this is `None`.
    port: Option<u16>,
    /// Inside the container, with the protocol.
    inside: String,
}

/// Does it. `place` knows the clusters of this machine, by their names.
pub async fn run_explain(
    args: ExplainArgs,
    ui: &Ui,
    place: impl FnOnce(Option<&str>) -> Result<Place, Failure>,
) -> Result<(), Failure> {
    let manager = args.manager.manager(place).await?;
    let mut query = Query::default();
    if let Some(name) = &args.name {
        query.set("name", name);
    }
    let path = format!("/osier/v1/explain?{query}");
    let report: Report = manager.json(Method::POST, &path, Some(&args.body())).await?;
    if ui.is_json() {
        ui.json(&report);
    } else {
        ui.line(table(&report));
    }
    if report.softened && report.node.is_some() {
        ui.note("no node meets the soft wishes too, so they were given up");
    }
    report.warnings.iter().for_each(|warning| ui.note(warning));
    match report.error {
        None => Ok(()),
        // The table says which node fails at what; the error need not say it again.
        Some(error) => {
            let conditions = error.split("\n(").next().unwrap_or_default().to_owned();
            Err(Failure::message_only(ExitKind::Failed, conditions))
        }
    }
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(&["NODE", "VERDICT", "SCORE", "CONTAINERS", "IMAGE", "WHY NOT"]);
    for node in &report.nodes {
        let verdict = match (&report.node, node.fits) {
            (Some(chosen), _) if *chosen == node.name => "chosen",
            (_, true) => "fits",
            (_, false) => "excluded",
        };
        let number = |number: Option<String>| number.unwrap_or_default();
        let why = match (&node.by, &node.why) {
            (Some(by), Some(why)) => format!("{by}: {why}"),
            _ => String::new(),
        };
        let (score, containers) = (node.score.map(|s| s.to_string()), node.containers.map(|c| c.to_string()));
        let (name, image) = (node.name.clone(), node.image.clone());
        table.row([name, verdict.to_owned(), number(score), number(containers), image, why]);
    }
    table
}

impl ExplainArgs {
    /// The create request that `docker run` would send for these arguments.
    fn body(&self) -> Value {
        let labels: Map<String, Value> = self
            .label
            .iter()
            .map(|l| l.split_once('=').unwrap_or((l, "")))
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        let (mut exposed, mut bindings) = (json!({}), json!({}));
        for Published { ip, port, inside } in &self.publish {
            exposed[inside] = json!({});
            let binding = json!({
                "HostIp": ip.map(|ip| ip.to_string()).unwrap_or_default(),
                "HostPort": port.map(|port| port.to_string()).unwrap_or_default(),
            });
            match &mut bindings[inside] {
                Value::Array(list) => list.push(binding),
                none => *none = json!([binding]),
            }
        }
        json!({
            "Image": self.image, "Env": self.env, "Labels": labels, "ExposedPorts": exposed,
            "HostConfig": {
                "NanoCpus": self.cpus.unwrap_or_default(), "CpuShares": self.cpu_shares,
                "Memory": self.memory.unwrap_or_default(), "Binds": self.volume, "PortBindings": bindings,
                "NetworkMode": self.net.as_deref().unwrap_or("default"), "VolumesFrom": self.volumes_from,
                "Links": self.link,
            },
        })
    }
}

/// Reads an amount of memory as Docker's command line does.
fn parse_memory(text: &str) -> Result<Bytes, String> {
    let bad = || format!("'{text}' is no amount of memory such as 512m or 2g");
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let split = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
    let shift = match &plain[split..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    let number: f64 = plain[..split].parse().map_err(|_| bad())?;
    let bytes = number * f64::from(shift).exp2();
    // Above this, numbers are no longer whole.
    if bytes <= 9e15 { Ok(Bytes(bytes as u64)) } else { Err(bad()) }
}

/// Reads `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`.
fn parse_port(text: &str) -> Result<Published, String> {
    let bad = || format!("'{text}' is no published port such as 8080:80 or 127.0.0.1:53:53/udp");
    let number = |text: &str| text.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(bad);
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (outside, inside) = rest.rsplit_once(':').map_or((None, rest), |(outside, inside)| (Some(outside), inside));
    let inside = format!("{}/{protocol}", number(inside)?);
    let (ip, port) = match outside {
        None => (None, None),
        Some(outside) => match outside.rsplit_once(':') {
            None => (None, Some(outside)),
            Some((ip, port)) => (Some(ip.trim_matches(['[', ']']).parse().map_err(|_| bad())?), Some(port)),
        },
    };
    let port = port.filter(|p| !p.is_empty()).map(number).transpose()?;
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    Ok(Published { ip, port, inside })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ExplainArgs,
    }

    #[test]
    fn arguments_make_the_request_that_docker_run_sends() {
        let line = "explain --cpus 1.5 -c 2 -m 512m -e constraint:zone==eu -e A=b -l x=y -l z -v data:/d -p 8080:80 \
                    -p 127.0.0.1:81:80 -p 53/udp --network host --volumes-from db --link web:w nginx:1";
        let args = Command::try_parse_from(line.split_whitespace()).unwrap().args;
        assert_eq!(
            args.body(),
            json!({
                "Image": "nginx:1", "Env": ["constraint:zone==eu", "A=b"], "Labels": {"x": "y", "z": ""},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "HostConfig": {
                    "NanoCpus": 1_500_000_000, "CpuShares": 2, "Memory": 512 << 20, "Binds": ["data:/d"],
                    "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "81"}],
                                     "53/udp": [{"HostIp": "", "HostPort": ""}]},
                    "NetworkMode": "host", "VolumesFrom": ["db"], "Links": ["web:w"],
                },
            })
        );
    }

    #[test]
    fn amounts_and_ports_are_read_as_docker_reads_them() {
        for (text, bytes) in [("1024", 1024), ("512m", 512 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30), ("1kb", 1024)]
        {
            assert_eq!(parse_memory(text), Ok(Bytes(bytes)), "{text}");
        }
        for bad in ["", "m", "1x", "-1", "1.2.3m", "99999999t"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
        let ipv6 = parse_port("[::1]:80:81/udp").unwrap();
        assert_eq!(
            (ipv6.ip.unwrap().to_string().as_str(), ipv6.port, ipv6.inside.as_str()),
            ("::1", Some(80), "81/udp")
        );
        for bad in ["", "0", "x:80", "80:", "80/x", "1.2.3:80:80", "65536"] {
            assert!(parse_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_says_what_excluded_a_node() {
        let excluded = Candidate {
            name: "n2".into(),
            fits: false,
            score: None,
            containers: None,
            by: Some("port".into()),
            why: Some("port 80/tcp is taken by container web".into()),
            image: "here".into(),
        };
        let chosen = Candidate {
            name: "n1".into(),
            fits: true,
            score: Some(-800),
            containers: Some(3),
            by: None,
            why: None,
            image: "copied from n2".into(),
        };
        let other = Candidate { name: "n3".into(), ..chosen.clone() };
        let report = Report {
            node: Some("n1".into()),
            error: None,
            strategy: "spread".into(),
            filters: Vec::new(),
            softened: false,
            warnings: Vec::new(),
            nodes: vec![chosen, other, excluded],
        };
        assert_eq!(
            table(&report).to_string(),
            "NODE   VERDICT    SCORE   CONTAINERS   IMAGE            WHY NOT\n\
             n1     chosen     -800    3            copied from n2\n\
             n3     fits       -800    3            copied from n2\n\
             n2     excluded                        here             port: port 80/tcp is taken by container web"
        );
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in ".*") {
            let _ = (parse_memory(&text), parse_port(&text));
        }
    }
}
