//! The decision over small clusters, and its laws over any.

use super::*;
use crate::{Binding, Census, Load, Resident, Tie, Wishes, policy::Strategy};
use osier_model::{Bytes, Cpus};
use proptest::{prelude::*, strategy::Strategy as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

struct Container {
    id: String,
    name: String,
    labels: BTreeMap<String, String>,
    bindings: Vec<Binding>,
    load: Load,
}

impl Resident for Container {
    fn id(&self) -> &str {
        &self.id
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
    fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
    fn load(&self) -> Load {
        self.load
    }
}

fn port(port: u16) -> Binding {
    Binding { ip: None, port, protocol: "tcp".into() }
}

/// A node, owning what [`Node`] borrows.
struct Host {
    name: String,
    health: u8,
    closed: Option<&'static str>,
    labels: BTreeMap<String, String>,
    images: Vec<String>,
    census: Census,
    pending: Census,
}

impl Host {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            health: 100,
            closed: None,
            labels: BTreeMap::new(),
            images: Vec::new(),
            census: Census::default(),
            pending: Census::default(),
        }
    }

    fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    fn with(mut self, name: &str, edit: impl FnOnce(&mut Container)) -> Self {
        let mut container = Container {
            id: format!("{name:0<64}"),
            name: name.into(),
            labels: BTreeMap::new(),
            bindings: Vec::new(),
            load: Load::one(Cpus(0), Bytes(0)),
        };
        edit(&mut container);
        self.census.add(Arc::new(container));
        self
    }

    fn containers(mut self, count: usize, memory: u64) -> Self {
        for i in 0..count {
            let memory = if i == 0 { memory } else { 0 };
            self = self.with(&format!("c{i}"), |c| c.load = Load::one(Cpus(0), Bytes(memory)));
        }
        self
    }

    fn node(&self) -> Node<'_> {
        Node {
            name: &self.name,
            id: "ABCD",
            labels: &self.labels,
            health: self.health,
            closed: self.closed,
            cpus: Cpus::whole(4),
            memory: Bytes(1000),
            census: &self.census,
            pending: &self.pending,
            images: &self.images,
        }
    }
}

fn with(strategy: Strategy) -> Policy {
    Policy { strategy, ..Policy::default() }
}

fn ask(policy: &Policy, hosts: &[Host], request: &Request) -> Result<Decision, Unplaced> {
    let nodes: Vec<Node<'_>> = hosts.iter().map(Host::node).collect();
    schedule(policy, &nodes, request, 7)
}

fn pick(strategy: Strategy, hosts: &[Host], request: &Request) -> String {
    ask(&with(strategy), hosts, request).map_or_else(|e| e.to_string(), |d| d.node)
}

fn memory(memory: u64) -> Request {
    Request { memory: Bytes(memory), ..Request::default() }
}

fn wish(affinities: &[&str], constraints: &[&str], whitelists: &[&str]) -> Request {
    let read = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
    let wishes = Wishes { affinities: read(affinities), constraints: read(constraints), whitelists: read(whitelists) };
    Request { wishes, ..Request::default() }
}

#[test]
fn spread_takes_the_emptiest_and_binpack_the_fullest() {
    let hosts = [Host::new("a").containers(2, 0), Host::new("b").containers(1, 0), Host::new("c").containers(1, 0)];
    assert_eq!(pick(Strategy::Spread, &hosts, &memory(0)), "b");
    assert_eq!(pick(Strategy::Binpack, &hosts, &memory(0)), "a");
    let hosts = [Host::new("a").containers(1, 500), Host::new("b").containers(9, 400)];
    assert_eq!(pick(Strategy::Spread, &hosts, &memory(100)), "b");
    assert_eq!(pick(Strategy::Binpack, &hosts, &memory(100)), "a");
}

#[test]
fn a_recent_failure_outweighs_any_load() {
    let hosts = [Host { health: 67, ..Host::new("a") }, Host::new("b").containers(50, 900)];
    assert_eq!(pick(Strategy::Spread, &hosts, &memory(100)), "b");
    assert_eq!(pick(Strategy::Binpack, &hosts, &memory(100)), "b");
}

#[test]
fn random_takes_every_node_that_has_room_and_no_other() {
    let hosts = [Host::new("a"), Host::new("b").containers(1, 950), Host::new("c"), Host::new("d")];
    let nodes: Vec<Node<'_>> = hosts.iter().map(Host::node).collect();
    let mut taken = BTreeMap::new();
    for luck in 0..3000 {
        let decision = schedule(&with(Strategy::Random), &nodes, &memory(100), luck).unwrap();
        *taken.entry(decision.node).or_insert(0) += 1;
    }
    let names: Vec<&str> = taken.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "c", "d"]);
    assert!(taken.values().all(|n| (800..1200).contains(n)), "{taken:?}");
}

#[test]
fn what_does_not_fit_is_explained() {
    let hosts = [Host { health: 0, ..Host::new("a") }, Host::new("b").containers(1, 950)];
    let full = "no resources available to schedule container\n(a: its engine does not answer; b: it has too little memory \
                left (950 B of 1000 B are reserved))";
    assert_eq!(pick(Strategy::Spread, &hosts, &memory(100)), full);
    assert_eq!(pick(Strategy::Spread, &hosts[..1], &memory(0)), "No healthy node available in the cluster");
    assert_eq!(pick(Strategy::Spread, &[], &memory(0)), "No healthy node available in the cluster");
    let tie = Tie { condition: "network==a/web".into(), nodes: ["a".into()].into() };
    let met = Tie { condition: "API 1.25".into(), nodes: ["a".into(), "b".into()].into() };
    let request = Request { ties: vec![met, tie], ..Request::default() };
    let error = pick(Strategy::Spread, &hosts, &request);
    assert!(error.contains("\n[network==a/web]\n(a: its engine does not answer; b: network==a/web)"), "{error}");
    let closed =
        [Host { closed: Some("it is drained"), ..Host::new("a") }, Host::new("b").label("containerslots", "0")];
    let error = pick(Strategy::Spread, &closed, &Request::default());
    assert!(error.ends_with("(a: it is drained; b: 0 of its 0 container slots are used)"), "{error}");
    let many: Vec<Host> = (0..9).map(|i| Host { health: u8::from(i > 0), ..Host::new(&format!("n{i}")) }).collect();
    let error = pick(Strategy::Spread, &many, &wish(&[], &["zone==eu"], &[]));
    assert!(error.ends_with("n4: constraint zone==eu; and 4 more)"), "{error}");
}

#[test]
fn classic_swarms_error_text_lists_the_filters_up_to_the_one_that_failed() {
    let hosts = [Host::new("a").with("web", |c| c.bindings = vec![port(80)])];
    let head = "Unable to find a node that satisfies the following conditions ";
    let mut request = wish(&["container!=x", "image==~y"], &["node==AAA"], &["node==n1|n2"]);
    request.bindings = vec![port(81), port(82)];
    request.dependencies = vec![Tie { condition: "--volumes-from=y".into(), nodes: ["a".into()].into() }];
    assert_eq!(
        pick(Strategy::Spread, &hosts, &request),
        format!(
            "{head}\n[port 81 (Bridge mode) port 82 (Bridge mode)]\n[available container slots]\n[--volumes-from=y]\n\
             [container!=x (soft=false) image==y (soft=true)]\n[node==AAA]\n(a: constraint node==AAA)"
        )
    );
    request.bindings = vec![port(80)];
    request.host_network = true;
    let expected = format!("{head}\n[port 80/tcp (Host mode)]\n(a: port 80/tcp is taken by container web)");
    assert_eq!(pick(Strategy::Spread, &hosts, &request), expected);
    let listed = wish(&[], &[], &["node==n1"]);
    let expected = format!("{head}\n[available container slots]\n[node==n1 (soft=false)]\n(a: whitelist node==n1)");
    assert_eq!(pick(Strategy::Spread, &hosts, &listed), expected);
}

#[test]
fn wishes_are_met() {
    let hosts = [
        Host {
            images: vec!["sha256:12".into(), "redis:7".into(), "redis".into()],
            ..Host::new("n1").label("zone", "eu")
        }
        .with("web", |c| c.labels = [("com.example.tier".to_owned(), "front".to_owned())].into()),
        Host::new("n2").label("zone", "us").with("db", |_| {}).with("db2", |_| {}),
        Host::new("n3"),
    ];
    let id = format!("{:0<64}", "web");
    let short = &id[..12];
    for (request, expected) in [
        (wish(&["container==web"], &[], &[]), "n1"),
        (wish(&[&format!("container=={id}")], &[], &[]), "n1"),
        (wish(&[&format!("container=={short}")], &[], &[]), "n1"),
        (wish(&["container==d*"], &[], &[]), "n2"),
        (wish(&["container!=/web|db/"], &[], &[]), "n3"),
        (wish(&["image==redis"], &[], &[]), "n1"),
        (wish(&["image==redis:*"], &[], &[]), "n1"),
        (wish(&["image!=redis", "container!=~*"], &[], &[]), "n3"),
        (wish(&["com.example.tier==front"], &[], &[]), "n1"),
        (wish(&["com.example.tier==*", "container!=web"], &[], &[]), "n2"),
        (wish(&[], &["zone==us"], &[]), "n2"),
        (wish(&[], &["zone!=/eu|us/"], &[]), "n3"),
        (wish(&[], &["node==n2"], &[]), "n2"),
        (wish(&[], &["node==ABCD"], &[]), "n3"),
        (wish(&[], &["nope==*", "zone==eu"], &[]), "n1"),
        (wish(&[], &[], &["node==n2|n4"]), "n2"),
        (wish(&[], &[], &["node==n1|n2", "node==n2|n3"]), "n2"),
        (wish(&[], &[], &["node!=n1|n3"]), "n2"),
    ] {
        assert_eq!(pick(Strategy::Spread, &hosts, &request), expected, "{:?}", request.wishes);
    }
}

#[test]
fn soft_wishes_are_given_up_together_and_only_if_they_must() {
    let hosts = [Host::new("n1").label("zone", "eu").containers(5, 0), Host::new("n2")];
    assert_eq!(pick(Strategy::Spread, &hosts, &wish(&[], &["zone==~eu"], &[])), "n1");
    let both = ask(&with(Strategy::Spread), &hosts, &wish(&["image==~x"], &["zone==~eu"], &[])).unwrap();
    assert_eq!((both.node.as_str(), both.explanation.softened), ("n2", true));
    assert_eq!(pick(Strategy::Spread, &hosts, &wish(&["image==~x"], &["zone==eu"], &["node==~n2"])), "n1");
    let full = Request { memory: Bytes(100), ..wish(&[], &["zone==~eu"], &[]) };
    let hosts = [Host::new("n1").label("zone", "eu").containers(1, 950), Host::new("n2")];
    assert_eq!(pick(Strategy::Spread, &hosts, &full), "n2");
}

#[test]
fn only_the_configured_filters_are_in_force() {
    let hosts = [Host::new("a").label("containerslots", "1").containers(1, 0), Host::new("b").containers(2, 0)];
    assert_eq!(pick(Strategy::Spread, &hosts, &Request::default()), "b");
    let policy = Policy { filters: vec![Filter::Health], ..Policy::default() };
    assert_eq!(ask(&policy, &hosts, &wish(&[], &["node==b"], &[])).unwrap().node, "a");
    let odd = [Host::new("a").label("containerslots", "many").containers(9, 0)];
    assert_eq!(pick(Strategy::Spread, &odd, &Request::default()), "a");
}

#[test]
fn what_is_pending_counts() {
    let mut host = Host::new("a");
    host.pending = Host::new("x").with("web", |c| c.bindings = vec![port(80)]).census;
    let hosts = [host, Host::new("b").containers(1, 0)];
    assert_eq!(pick(Strategy::Spread, &hosts, &wish(&["container==web"], &[], &[])), "a");
    let request = Request { bindings: vec![port(80)], ..Request::default() };
    assert_eq!(pick(Strategy::Spread, &hosts, &request), "b");
}

fn hosts() -> impl proptest::strategy::Strategy<Value = Vec<Host>> {
    let one = (0..=100_u8, 0..5_usize, 0..1200_u64, 0..3_u8);
    prop::collection::vec(one, 0..6).prop_map(|hosts| {
        let made = hosts.into_iter().enumerate().map(|(i, (health, containers, memory, zone))| {
            let host = Host::new(&format!("n{i}")).label("zone", &zone.to_string()).containers(containers, memory);
            Host { health, ..host }
        });
        made.collect()
    })
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node().fmt(f)
    }
}

proptest! {
    #[test]
    fn a_census_knows_what_its_containers_say_to_a_label(
        all in prop::collection::vec(prop::collection::btree_map("[ab]", "[xy]?", 0..3), 0..5)
    ) {
        let container = |labels: &BTreeMap<String, String>| {
            let (id, name, bindings) = (String::new(), String::new(), Vec::new());
            let one = Container { id, name, labels: labels.clone(), bindings, load: Load::default() };
            Arc::new(one) as Arc<dyn Resident>
        };
        let mut census: Census = all.iter().take(3).map(container).collect();
        prop_assert!(census.values("a").count() <= 3);
        all.iter().skip(3).for_each(|labels| census.add(container(labels)));
        for label in ["a", "b", "c"] {
            let said: BTreeSet<&str> = all.iter().map(|l| l.get(label).map_or("", String::as_str)).collect();
            prop_assert_eq!(census.values(label).collect::<BTreeSet<&str>>(), said);
        }
    }
}

proptest! {
    #[test]
    fn a_wish_about_containers_is_one_about_their_words(
        all in prop::collection::vec(("[0-9a-f]{0,2}|[0-9a-f]{12}[0-9a-g]{0,2}", "[a-h]{0,3}"), 0..4),
        value in "[a-h*]{1,3}|[0-9a-f]{12}", odd in any::<bool>(), pick in any::<prop::sample::Index>(),
    ) {
        let value = if odd && !all.is_empty() { pick.get(&all).0.clone() } else { value };
        let Ok(wish) = format!("container=={value}").parse::<crate::Expression>() else { return Ok(()) };
        let container = |(id, name): &(String, String)| {
            let (id, name) = (id.clone(), name.clone());
            let one = Container { id, name, labels: BTreeMap::new(), bindings: Vec::new(), load: Load::default() };
            Arc::new(one) as Arc<dyn Resident>
        };
        let census: Census = all.iter().map(container).collect();
        let words = || all.iter().flat_map(|(id, name)| [id, id.get(..12).unwrap_or(id), name]);
        prop_assert_eq!(wish.holds(census.words_for(&wish)), wish.holds(words()));
    }

    #[test]
    fn a_chosen_node_is_fit_and_the_order_of_nodes_does_not_matter(
        hosts in hosts(), memory in 0..1200_u64, luck in any::<u64>(), zone in prop::option::of(0..3_u8),
        strategy in prop::sample::select(vec![Strategy::Spread, Strategy::Binpack, Strategy::Random]), turn in 0..6_usize,
    ) {
        let zone = zone.map(|zone| format!("zone=={zone}"));
        let constraints: Vec<&str> = zone.iter().map(String::as_str).collect();
        let request = Request { memory: Bytes(memory), ..wish(&[], &constraints, &[]) };
        let mut nodes: Vec<Node<'_>> = hosts.iter().map(Host::node).collect();
        let result = schedule(&with(strategy), &nodes, &request, luck);
        if let Ok(decision) = &result {
            let node = nodes.iter().find(|n| n.name == decision.node).unwrap();
            prop_assert!(node.health > 0);
            prop_assert!(memory == 0 || node.load().memory.0 + memory <= node.memory.0);
            prop_assert!(zone.as_ref().is_none_or(|z| z.ends_with(&node.labels["zone"])));
        }
        let turn = turn % nodes.len().max(1);
        nodes.rotate_left(turn);
        prop_assert_eq!(schedule(&with(strategy), &nodes, &request, luck), result);
    }

    #[test]
    fn creates_in_a_row_spread_evenly(count in 1..40_usize) {
        let mut hosts = [Host::new("a"), Host::new("b"), Host::new("c")];
        for i in 0..count {
            let chosen = pick(Strategy::Spread, &hosts, &Request::default());
            let at = hosts.iter().position(|h| h.name == chosen).unwrap();
            let host = std::mem::replace(&mut hosts[at], Host::new(""));
            hosts[at] = host.with(&format!("new{i}"), |_| {});
        }
        let loads = hosts.map(|h| h.census.load().containers);
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
    }
}
