//! From words to settings: what the command lines say, checked in classic Swarm's order and refused with its messages.
//!
//! Files are read here (certificates), but nothing is opened: no socket, no connection.

use crate::{
    args::{DiscoveryOptions, JoinArgs, ListArgs, ManageArgs, TlsArgs},
    discovery::{Backend, Places},
};
use anyhow::Error;
use osier_discovery::{Entry, GoDuration, KeyValues, ParseDurationError};
use osier_etcd::Etcd;
use osier_nodes::Refresh;
use osier_pki::{Identity, KeyPair};
use osier_scheduler::{Filter, Overcommit, Policy};
use osier_ui::Failure;
use std::{sync::Arc, time::Duration};
use tracing::warn;

/// Where to listen unless the user says.
const HOST: &str = "tcp://127.0.0.1:2375";
const BAD_ADVERTISE: &str = "--advertise should be of the form ip:port or hostname:port";

/// How the program was called.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The name it goes by, for messages.
    pub program: String,
    /// Whether it stands in for classic Swarm's binary.
    pub classic: bool,
    /// Whether to tell clients that experimental features are on.
    pub experimental: bool,
    /// The variable `SWARM_DISCOVERY`.
    pub discovery: Option<String>,
}

/// Both ends of TLS.
pub(crate) struct Tls {
    pub(crate) server: Arc<rustls::ServerConfig>,
    pub(crate) client: Arc<rustls::ClientConfig>,
}

/// What `manage` is to do.
pub(crate) struct Managing {
    pub(crate) tls: Option<Tls>,
    pub(crate) refresh: Refresh,
    pub(crate) heartbeat: Duration,
    /// Absent for a provisioned cluster.
    pub(crate) backend: Option<Backend>,
    pub(crate) policy: Policy,
    pub(crate) hosts: Vec<String>,
    pub(crate) replication: Option<Replication>,
}

/// How one of several managers is elected.
pub(crate) struct Replication {
    /// Where.
    pub(crate) etcd: Arc<Etcd>,
    /// The key that the leader has.
    pub(crate) key: String,
    /// Where the others reach this one.
    pub(crate) advertise: Entry,
    /// How long a silent leader stays the leader.
    pub(crate) ttl: Duration,
}

/// What `list` is to do.
pub(crate) struct Listing {
    pub(crate) timeout: Duration,
    pub(crate) backend: Backend,
}

/// What `join` is to do.
pub(crate) struct Joining {
    pub(crate) advertise: Entry,
    pub(crate) delay: Duration,
    pub(crate) heartbeat: GoDuration,
    pub(crate) every: Duration,
    pub(crate) ttl: Duration,
    pub(crate) backend: Backend,
}

impl Caller {
    /// The one discovery URL of the command line, or else the environment's.
    fn discovery<'a>(&'a self, given: &'a [String], command: &str) -> Result<&'a str, Failure> {
        let one = if let [one] = given { Some(one) } else { self.discovery.as_ref() };
        one.map(String::as_str).filter(|url| !url.is_empty()).ok_or_else(|| {
            let program = &self.program;
            let verb = command;
            Failure::usage(format!("discovery required to {verb} a cluster. See '{program} {command} --help'."))
        })
    }
}

impl Managing {
    pub(crate) fn check(args: &ManageArgs, caller: &Caller, places: Places<'_>) -> Result<Self, Failure> {
        let tls = check_tls(&args.tls)?;
        let refresh = check_refresh(args)?;
        let (mut heartbeat, mut backend) = (Duration::ZERO, None);
        if args.config.is_none() {
            let url = caller.discovery(&args.discovery, "manage")?;
            heartbeat = check_heartbeat(&args.heartbeat)?.1;
            let options = options(&args.discovery_options)?;
            let client = tls.as_ref().map(|tls| tls.client.clone());
            backend = Some(Backend::open(url, &options, client, places)?);
        }
        let policy = check_policy(args, caller)?;
        let hosts: Vec<String> = args.host.iter().filter(|host| !host.is_empty()).cloned().collect();
        let hosts = if hosts.is_empty() { vec![HOST.to_owned()] } else { hosts };
        let replication = if args.replication { Some(check_replication(args, backend.as_ref())?) } else { None };
        Ok(Self { tls, refresh, heartbeat, backend, policy, hosts, replication })
    }
}

impl Listing {
    pub(crate) fn check(args: &ListArgs, caller: &Caller, places: Places<'_>) -> Result<Self, Failure> {
        let url = caller.discovery(&args.discovery, "list")?;
        let timeout = duration(&args.timeout, "--timeout")?.positive();
        let timeout = timeout.ok_or_else(|| Failure::usage("--timeout should be a positive number"))?;
        let backend = Backend::open(url, &options(&args.discovery_options)?, None, places)?;
        Ok(Self { timeout, backend })
    }
}

impl Joining {
    pub(crate) fn check(args: &JoinArgs, caller: &Caller, places: Places<'_>) -> Result<Self, Failure> {
        let url = caller.discovery(&args.discovery, "join")?;
        let advertise = args.advertise.as_deref().filter(|a| !a.is_empty());
        let advertise = advertise.ok_or_else(|| Failure::usage("missing mandatory --advertise flag"))?;
        let advertise = advertise.parse().map_err(|_| Failure::usage(BAD_ADVERTISE))?;
        let delay = duration(&args.delay, "--delay")?.not_negative();
        let delay = delay.ok_or_else(|| Failure::usage("--delay should not be a negative number"))?;
        let (heartbeat, every) = check_heartbeat(&args.heartbeat)?;
        let ttl = duration(&args.ttl, "--ttl")?.positive().filter(|ttl| *ttl > every);
        let ttl = ttl.ok_or_else(|| Failure::usage("--ttl must be strictly superior to the heartbeat value"))?;
        let backend = Backend::open(url, &options(&args.discovery_options)?, None, places)?;
        Ok(Self { advertise, delay, heartbeat, every, ttl, backend })
    }
}

fn duration(text: &str, flag: &str) -> Result<GoDuration, Failure> {
    text.parse().map_err(|e: ParseDurationError| Failure::usage(format!("invalid {flag}: {e}")))
}

fn check_heartbeat(text: &str) -> Result<(GoDuration, Duration), Failure> {
    let heartbeat = duration(text, "--heartbeat")?;
    let every = heartbeat.not_negative().filter(|every| *every >= Duration::from_secs(1));
    let every = every.ok_or_else(|| Failure::usage("--heartbeat should be at least one second"))?;
    Ok((heartbeat, every))
}

fn options(args: &DiscoveryOptions) -> Result<KeyValues, Failure> {
    KeyValues::parse(&args.discovery_opt).map_err(Failure::usage)
}

fn check_tls(args: &TlsArgs) -> Result<Option<Tls>, Failure> {
    let (ca, cert, key) = (args.tlscacert.as_deref(), args.tlscert.as_deref(), args.tlskey.as_deref());
    if !(args.tls || args.tlsverify) {
        if ca.or(cert).or(key).is_some() {
            return Err(Failure::usage(
                "--tlscert, --tlskey and --tlscacert require the use of either --tls or --tlsverify",
            ));
        }
        return Ok(None);
    }
    let (Some(cert), Some(key)) = (cert, key) else {
        return Err(Failure::usage("--tlscert and --tlskey must be provided when using --tls"));
    };
    if args.tlsverify && ca.is_none() {
        return Err(Failure::usage("--tlscacert must be provided when using --tlsverify"));
    }
    let unread = |e: osier_pki::Error| {
        let (cert, key, e) = (cert.display(), key.display(), Error::new(e));
        Failure::usage(format!("Couldn't load X509 key pair ({cert}, {key}): {e:#}. Key encrypted?"))
    };
    let pair = KeyPair::read_files(cert, key).map_err(unread)?;
    let server = pair.server().map_err(unread)?;
    let Some(ca) = ca.filter(|_| args.tlsverify) else {
        return Ok(Some(Tls { server, client: pair.client().map_err(unread)? }));
    };
    let verified = || {
        let identity = Identity::read_files(ca, cert, key)?;
        Ok(Tls { server: identity.server()?, client: identity.client()? })
    };
    let unread = |e: osier_pki::Error| Failure::usage(format!("Couldn't read CA certificate: {:#}", Error::new(e)));
    verified().map(Some).map_err(unread)
}

fn check_refresh(args: &ManageArgs) -> Result<Refresh, Failure> {
    // What is no duration at all fails the same check, as it did.
    let positive = |text: &str| text.parse::<GoDuration>().ok().and_then(GoDuration::positive);
    let min = positive(&args.engine_refresh_min_interval);
    let min = min.ok_or_else(|| Failure::usage("min refresh interval should be a positive number"))?;
    let max = positive(&args.engine_refresh_max_interval).filter(|max| *max >= min);
    let max = max.ok_or_else(|| Failure::usage("max refresh interval cannot be less than min refresh interval"))?;
    if args.engine_refresh_retry != "3" {
        return Err(Failure::usage("--engine-refresh-retry is deprecated. Use --engine-failure-retry"));
    }
    let failure_retry = args.engine_failure_retry.parse().ok().filter(|count| *count > 0);
    let failure_retry = failure_retry.ok_or_else(|| Failure::usage("invalid failure retry count"))?;
    Ok(Refresh { min, max, failure_retry })
}

fn check_policy(args: &ManageArgs, caller: &Caller) -> Result<Policy, Failure> {
    let mut policy = Policy { cpu_shares_as_cpus: caller.classic, ..Policy::default() };
    policy.strategy = args.strategy.parse().map_err(Failure::usage)?;
    if !args.filter.is_empty() {
        let filters = args.filter.iter().map(|name| name.parse::<Filter>());
        policy.filters = filters.collect::<Result<_, _>>().map_err(Failure::usage)?;
    }
    if args.cluster_driver != "swarm" {
        return Err(Failure::usage(format!("unsupported cluster {:?}", args.cluster_driver)));
    }
    let options = KeyValues::parse(&args.cluster_opt)
        .map_err(|_| Failure::usage("--cluster-opt must contain key=value strings"))?;
    if let Some(text) = options.get("swarm.overcommit") {
        let share: f64 = text
            .parse()
            .map_err(|_| Failure::usage(format!("swarm.overcommit should be a number, {text} is invalid")))?;
        policy.overcommit = Overcommit::new(share).map_err(Failure::usage)?;
        if share < 0.0 {
            warn!(share, "swarm.overcommit is negative, so a part of every node is never reserved");
        }
    }
    if let Some(text) = options.get("swarm.createretry") {
        let count: i64 = text
            .parse()
            .map_err(|_| Failure::usage(format!("swarm.createretry should be a whole number, {text} is invalid")))?;
        let negative = |_| Failure::usage(format!("swarm.createretry can not be negative, {count} is invalid"));
        policy.create_retry = u32::try_from(count.min(i64::from(u32::MAX))).map_err(negative)?;
    }
    match options.get("swarm.cpushares") {
        None => {}
        Some("cpus") => policy.cpu_shares_as_cpus = true,
        Some("weight") => policy.cpu_shares_as_cpus = false,
        Some(other) => {
            return Err(Failure::usage(format!("swarm.cpushares should be cpus or weight, {other} is invalid")));
        }
    }
    for key in options.keys().filter(|k| !["swarm.overcommit", "swarm.createretry", "swarm.cpushares"].contains(k)) {
        warn!(key, "a cluster option is not known and has no effect");
    }
    Ok(policy)
}

fn check_replication(args: &ManageArgs, backend: Option<&Backend>) -> Result<Replication, Failure> {
    let advertise = args.advertise.as_deref().filter(|a| !a.is_empty());
    let missing = || Failure::usage("--advertise address must be provided when using --leader-election");
    let advertise = advertise.ok_or_else(missing)?.parse().map_err(|_| Failure::usage(BAD_ADVERTISE))?;
    let ttl = duration(&args.replication_ttl, "--replication-ttl")?.positive();
    let ttl = ttl.ok_or_else(|| Failure::usage("--replication-ttl should be a positive number"))?;
    match backend {
        Some(Backend::Etcd(folder)) => {
            Ok(Replication { etcd: folder.etcd.clone(), key: folder.leader.clone(), advertise, ttl })
        }
        _ => Err(Failure::usage("Leader election is only supported with etcd discovery.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};
    use osier_scheduler::Strategy;

    fn parse<T: Args + FromArgMatches>(line: &str) -> T {
        let command = T::augment_args(clap::Command::new("x"));
        T::from_arg_matches(&command.get_matches_from(std::iter::once("x").chain(line.split_whitespace()))).unwrap()
    }

    fn caller(classic: bool) -> Caller {
        Caller { program: "swarm".into(), classic, experimental: false, discovery: None }
    }

    fn manage(line: &str) -> Result<Managing, String> {
        Managing::check(&parse(line), &caller(false), &|_| None).map_err(|f| f.message())
    }

    fn join(line: &str) -> Result<Joining, String> {
        Joining::check(&parse(line), &caller(true), &|_| None).map_err(|f| f.message())
    }

    fn list(line: &str) -> Result<Listing, String> {
        Listing::check(&parse(line), &caller(true), &|_| None).map_err(|f| f.message())
    }

    #[test]
    fn mistakes_of_manage_are_found_in_the_classics_order() {
        // Each line has every mistake that is told later as well.
        let wrong = "--tlscert c --engine-refresh-min-interval 0s --engine-refresh-max-interval 1s --engine-refresh-retry 4 \
                     --engine-failure-retry 0 --heartbeat x --discovery-opt x --strategy best --filter tall -c mesos \
                     --cluster-opt swarm.overcommit=-2 --replication";
        let repairs = [
            ("--tlscert, --tlskey and --tlscacert require the use of either --tls or --tlsverify", "--tlscert c", ""),
            ("min refresh interval should be a positive number", "0s", "2s"),
            ("max refresh interval cannot be less than min refresh interval", "--engine-refresh-max-interval 1s", ""),
            ("--engine-refresh-retry is deprecated. Use --engine-failure-retry", "--engine-refresh-retry 4", ""),
            ("invalid failure retry count", "--engine-failure-retry 0", ""),
            (
                "discovery required to manage a cluster. See 'swarm manage --help'.",
                "--replication",
                "--replication zk://h",
            ),
            ("invalid --heartbeat: time: invalid duration \"x\"", "--heartbeat x", "--heartbeat 10ms"),
            ("--heartbeat should be at least one second", "10ms", "1s"),
            ("--discovery-opt must contain key=value strings", "--discovery-opt x", ""),
            ("discovery service not supported: 'zk' (supported are nodes, file, token and etcd)", "zk://h", "n"),
            (
                "'n' is not of the form host:port, please check you are using the correct discovery (missing token:// ?)",
                "--replication n",
                "--replication n:1",
            ),
            ("strategy not supported", "best", "binpacking"),
            ("filter not supported", "tall", "health"),
            ("unsupported cluster \"mesos\"", "mesos", "swarm"),
            (
                "swarm.overcommit should be larger than -1, -2.000000 is invalid",
                "swarm.overcommit=-2",
                "swarm.createretry=-1",
            ),
            ("swarm.createretry can not be negative, -1 is invalid", "=-1", "=2"),
            (
                "--advertise address must be provided when using --leader-election",
                "--replication",
                "--replication --addr x",
            ),
            (
                "--advertise should be of the form ip:port or hostname:port",
                "--addr x",
                "--addr h:1 --replication-ttl -1",
            ),
            ("invalid --replication-ttl: time: missing unit in duration \"-1\"", "-ttl -1", "-ttl -1s"),
            ("--replication-ttl should be a positive number", "-ttl -1s", "-ttl 5s"),
            ("Leader election is only supported with etcd discovery.", "n:1", "etcd://n:1"),
        ];
        let mut line = wrong.to_owned();
        for (message, mistake, repair) in repairs {
            assert_eq!(manage(&line).map(drop).unwrap_err(), message, "{line}");
            line = line.replacen(mistake, repair, 1);
        }
        let managing = manage(&line).unwrap();
        let Replication { key, advertise, ttl, .. } = managing.replication.unwrap();
        assert_eq!(
            (key.as_str(), advertise, ttl),
            ("/docker/swarm/leader", "h:1".parse().unwrap(), Duration::from_secs(5))
        );
        assert_eq!(managing.policy.create_retry, 2);
        assert_eq!((managing.policy.strategy, managing.policy.filters), (Strategy::Binpack, vec![Filter::Health]));
        assert_eq!(managing.refresh.min, Duration::from_secs(2));
    }

    #[test]
    fn defaults_are_the_classics() {
        let managing = manage("n:1").unwrap();
        assert_eq!((managing.policy, managing.refresh), (Policy::default(), Refresh::default()));
        assert_eq!(managing.hosts, ["tcp://127.0.0.1:2375"]);
        assert_eq!(managing.heartbeat, Duration::from_secs(60));
        assert!(managing.tls.is_none() && managing.replication.is_none());
        assert_eq!(manage("-H unix:///a -H :1 n:1").unwrap().hosts, ["unix:///a", ":1"]);
        let classic = |line: &str| Managing::check(&parse(line), &caller(true), &|_| None).unwrap().policy;
        assert!(classic("n:1").cpu_shares_as_cpus);
        assert!(!classic("--cluster-opt swarm.cpushares=weight n:1").cpu_shares_as_cpus);
        assert!(manage("--cluster-opt unknown=1 --cluster-opt swarm.overcommit=-0.5 n:1").is_ok());
    }

    #[test]
    fn unreadable_numbers_are_mistakes_and_not_zero() {
        for option in ["swarm.overcommit=x", "swarm.overcommit=NaN", "swarm.createretry=1.5", "swarm.cpushares=1"] {
            assert!(
                manage(&format!("--cluster-opt {option} n:1")).map(drop).unwrap_err().contains("invalid"),
                "{option}"
            );
        }
        assert_eq!(
            manage("--engine-refresh-min-interval x n:1").map(drop).unwrap_err(),
            "min refresh interval should be a positive number"
        );
    }

    #[test]
    fn tls_needs_its_files() {
        for (line, message) in [
            ("--tlskey k n:1", "--tlscert, --tlskey and --tlscacert require the use of either --tls or --tlsverify"),
            ("--tls --tlscert c n:1", "--tlscert and --tlskey must be provided when using --tls"),
            ("--tlsverify --tlscacert a n:1", "--tlscert and --tlskey must be provided when using --tls"),
            ("--tlsverify --tlscert c --tlskey k n:1", "--tlscacert must be provided when using --tlsverify"),
        ] {
            assert_eq!(manage(line).map(drop).unwrap_err(), message);
        }
        let missing = manage("--tls --tlscert /no/c --tlskey /no/k n:1").map(drop).unwrap_err();
        assert!(missing.starts_with("Couldn't load X509 key pair (/no/c, /no/k): "), "{missing}");
        assert!(missing.ends_with("Key encrypted?"), "{missing}");
    }

    #[test]
    fn mistakes_of_join_and_list_are_found_in_the_classics_order() {
        for (line, message) in [
            ("--heartbeat x", "discovery required to join a cluster. See 'swarm join --help'."),
            ("a:1 b:2", "discovery required to join a cluster. See 'swarm join --help'."),
            ("--delay x n:1", "missing mandatory --advertise flag"),
            ("--addr h --delay x n:1", "--advertise should be of the form ip:port or hostname:port"),
            ("--addr h:1 --delay x --heartbeat x n:1", "invalid --delay: time: invalid duration \"x\""),
            ("--addr h:1 --delay -1s --heartbeat x n:1", "--delay should not be a negative number"),
            ("--addr h:1 --heartbeat 1 --ttl x n:1", "invalid --heartbeat: time: missing unit in duration \"1\""),
            ("--addr h:1 --heartbeat 999ms n:1", "--heartbeat should be at least one second"),
            ("--addr h:1 --ttl 1y n:1", "invalid --ttl: time: unknown unit \"y\" in duration \"1y\""),
            ("--addr h:1 --ttl 1m bogus://", "--ttl must be strictly superior to the heartbeat value"),
            ("--addr h:1 bogus://", "discovery service not supported"),
        ] {
            assert_eq!(join(line).map(drop).unwrap_err(), message, "{line}");
        }
        for (line, message) in [
            ("--timeout x", "discovery required to list a cluster. See 'swarm list --help'."),
            ("--timeout x bogus://", "invalid --timeout: time: invalid duration \"x\""),
            ("--timeout 0s bogus://", "--timeout should be a positive number"),
            ("--timeout -1s bogus://", "--timeout should be a positive number"),
            ("bogus://", "discovery service not supported"),
            ("token://", "token is empty"),
        ] {
            assert_eq!(list(line).map(drop).unwrap_err(), message, "{line}");
        }
        let joining = join("--addr [::1]:2375 --heartbeat 1m30s --ttl 1.5h n:1").unwrap();
        assert_eq!((joining.ttl, joining.heartbeat.to_string()), (Duration::from_secs(5400), "1m30s".into()));
    }

    #[test]
    fn the_environment_names_the_discovery_where_the_line_does_not() {
        let caller = Caller { discovery: Some("env:1".into()), ..caller(true) };
        for (given, expected) in [(vec![], "env:1"), (vec!["a:1"], "a:1"), (vec!["a:1", "b:1"], "env:1")] {
            let given: Vec<String> = given.into_iter().map(str::to_owned).collect();
            assert_eq!(caller.discovery(&given, "list").unwrap(), expected);
        }
    }
}
