//! Plans carried out on a model of a host: any host becomes the desired one, cut short or not, and a second plan is
//! empty.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use osier_converge::{
    AbsPath, Absent, Binary, Content, Desired, Digest, Engine, Entry, Facts, File, Folder, Link, Name, OsRelease,
    Package, Plan, PlanError, Step, Unit, UnitFact, Version, WantedBundle, WantedEngine, plan,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn packages(texts: &[&str]) -> Vec<Package> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn file(at: &str, text: &str) -> File {
    File { path: path(at), mode: 0o644, secret: false, content: Content::from(text) }
}

fn os() -> OsRelease {
    OsRelease::parse("ID=debian\nVERSION_ID=13\n")
}

/// What a step does to a real host, on the model of one.
fn carry_out(step: &Step, host: &mut Facts) {
    match step {
        Step::RemoveNetwork(n) => assert!(host.networks.remove(n)),
        Step::Stop(n) => {
            let unit = host.units.get_mut(n).unwrap();
            (unit.active, unit.failed) = (false, false);
            host.journal.units.remove(n);
        }
        Step::Disable(n) => host.units.get_mut(n).unwrap().enabled = false,
        Step::Install(changes, source) => {
            assert!(source.list.iter().all(|list| host.entries.contains_key(list)), "apt reads it");
            for change in changes {
                let name = change.to.name.clone();
                let before =
                    host.packages.insert(name.clone(), change.to.version.clone().unwrap_or_else(|| version("1")));
                assert_eq!(before, change.from);
                if before.is_none() {
                    host.journal.packages.insert(name.clone());
                }
                host.owners.insert(name);
            }
            host.engine = Engine::Running;
            host.units.entry(name("docker.service")).or_default().active = true;
        }
        Step::Folder(f) => drop(host.entries.insert(f.path.clone(), Entry::Folder(f.mode))),
        Step::Binary(b) => {
            let file = Entry::File { sha256: b.sha256, mode: 0o755, text: None };
            host.entries.insert(b.path.clone(), file);
        }
        Step::Write(f, _) => {
            let text = (!f.secret).then(|| f.content.as_str().to_owned());
            host.entries.insert(f.path.clone(), Entry::File { sha256: f.content.digest(), mode: f.mode, text });
        }
        Step::Own(f, _) => {
            host.journal.files.insert(f.path.clone(), [f.content.digest()].into());
            carry_out(&Step::Write(f.clone(), None), host);
        }
        Step::RemoveOwned(p) => {
            assert!(host.journal.files.remove(p).is_some() && host.entries.remove(p).is_some());
        }
        Step::Disown(p) => assert!(host.journal.files.remove(p).is_some()),
        Step::Mode(p, new) => match host.entries.get_mut(p).unwrap() {
            Entry::File { mode, .. } => *mode = *new,
            other => panic!("set the mode of {other:?}"),
        },
        Step::Link(l) => drop(host.entries.insert(l.path.clone(), Entry::Link(l.target.clone()))),
        Step::RemoveFile(p) | Step::RemoveFolder(p) | Step::RemoveNamespace(p) => {
            assert!(host.entries.remove(p).is_some());
        }
        Step::Reload => {}
        Step::Enable(n) => host.units.entry(n.clone()).or_default().enabled = true,
        Step::Start(n, inputs) => {
            let unit = host.units.entry(n.clone()).or_default();
            (unit.active, unit.failed) = (true, false);
            if n.as_str() == "docker.service" {
                host.engine = Engine::Running;
            }
            host.journal.units.extend(inputs.map(|i| (n.clone(), i)));
        }
        Step::Restart(n, inputs) => {
            assert!(host.units.get(n).unwrap().active);
            host.journal.units.insert(n.clone(), *inputs);
        }
        Step::Purge(list) => {
            for package in list {
                assert!(host.packages.remove(package).is_some() || host.journal.replaced.contains(package));
                host.journal.packages.remove(package);
                host.journal.replaced.remove(package);
            }
        }
    }
}

fn cluster_node() -> Desired {
    let file = |p: &str, secret, text: &str| File {
        path: path(p),
        mode: if secret { 0o600 } else { 0o644 },
        secret,
        content: Content::from(text),
    };
    let config = path("/etc/osier/agent.json");
    let unit_file = path("/etc/systemd/system/osier-agent.service");
    let binary = Binary { path: path("/usr/local/bin/osier"), sha256: Digest::of(b"program") };
    let restart_on = vec![binary.path.clone(), unit_file.clone(), config.clone(), path("/etc/osier/gossip.key")];
    Desired {
        engine: Some(WantedEngine::default()),
        binary: Some(binary),
        folders: vec![Folder { path: path("/etc/osier"), mode: 0o755 }],
        files: vec![
            file(unit_file.as_str(), false, "[Service]\n"),
            file(config.as_str(), false, "{\"a\": 1}\n"),
            file("/etc/osier/gossip.key", true, "0123\n"),
        ],
        links: vec![Link { path: path("/usr/local/bin/weave"), target: "osier".into() }],
        units: vec![Unit { name: name("osier-agent.service"), restart_on }],
        ..Desired::default()
    }
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

fn converge(desired: &Desired, host: &mut Facts) -> Vec<String> {
    let plan = plan(desired, host).unwrap();
    plan.steps.iter().for_each(|step| carry_out(step, host));
    texts(&plan)
}

#[test]
fn a_bare_host_gets_everything_in_order_and_then_nothing() {
    let mut host = Facts { os: os(), ..Facts::default() };
    let expected = [
        "install docker.io docker-cli",
        "start docker.service",
        "make folder /etc/osier (mode 0755)",
        "install /usr/local/bin/osier",
        "write /etc/systemd/system/osier-agent.service (mode 0644)",
        "write /etc/osier/agent.json (mode 0644)",
        "write /etc/osier/gossip.key (mode 0600)",
        "link /usr/local/bin/weave to osier",
        "reload systemd's unit files",
        "enable osier-agent.service",
        "start osier-agent.service",
    ];
    assert_eq!(converge(&cluster_node(), &mut host), expected);
    assert_eq!(converge(&cluster_node(), &mut host), [""; 0]);
}

#[test]
fn an_engine_that_was_there_is_left_alone() {
    let mut host = Facts { engine: Engine::Running, ..Facts::default() };
    let mut desired = Desired { engine: Some(WantedEngine::default()), ..Desired::default() };
    assert_eq!(plan(&desired, &host).unwrap(), Plan::default(), "even on a system that is not known");
    let wishes = engine_of(&["docker.io=2"], true);
    let spared = plan(&wishes, &host).unwrap();
    assert_eq!((texts(&spared), spared.warnings.len()), (vec![], 1), "whatever is wished");
    host.engine = Engine::Stopped;
    host.units.insert(name("docker.service"), UnitFact::default());
    assert_eq!(converge(&desired, &mut host), ["start docker.service"]);
    // Ours in part only: somebody replaced the engine and kept the command line.
    host.journal.packages = [name("docker.io"), name("docker-cli")].into();
    host.packages.insert(name("docker-cli"), version("1"));
    host.owners.insert(name("docker-ce"));
    desired.engine = wishes.engine;
    assert_eq!(texts(&plan(&desired, &host).unwrap()), [""; 0]);
}

const LIST: &str = "/etc/apt/sources.list.d/docker.list";
const DROP_IN: &str = "/etc/systemd/system/docker.service.d/proxy.conf";
const CONFIG: &str = "/etc/docker/daemon.json";

/// An engine of these packages, with or without files.
fn engine_of(names: &[&str], files: bool) -> Desired {
    let mut engine = WantedEngine { packages: packages(names), ..WantedEngine::default() };
    if files {
        engine.source = Some(path(LIST));
        engine.apt.push(file(LIST, "deb x y z\n"));
        engine.files.push(file(DROP_IN, "[Service]\n"));
        engine.config = Some(file(CONFIG, "{\"mirrors\": [\"m\"]}\n"));
    }
    Desired { engine: Some(engine), ..Desired::default() }
}

#[test]
fn an_engine_of_ours_changes_its_version_both_ways() {
    let mut host = Facts { os: os(), ..Facts::default() };
    let first = ["install docker.io=1.0-1 containerd", "start docker.service"];
    assert_eq!(converge(&engine_of(&["docker.io=1.0-1", "containerd"], false), &mut host), first);
    let up = engine_of(&["docker.io=1.1-1", "containerd", "docker-cli"], false);
    host.containers = 2;
    let upgrade = plan(&up, &host).unwrap();
    let step = "upgrade docker.io from 1.0-1 to 1.1-1, install docker-cli";
    assert_eq!(texts(&upgrade), [step, "restart docker.service"]);
    assert_eq!(upgrade.steps[0].planned().diff.unwrap(), "-docker.io 1.0-1\n+docker.io 1.1-1\n+docker-cli");
    assert!(upgrade.warnings[0].contains("under 2 running containers: they are stopped"), "{:?}", upgrade.warnings);
    converge(&up, &mut host);
    host.live_restore = true;
    let down = plan(&engine_of(&["docker.io=1.0-1"], false), &host).unwrap();
    assert_eq!(texts(&down)[0], "downgrade docker.io from 1.1-1 to 1.0-1");
    assert!(down.warnings[0].contains("2 running containers run on"), "{:?}", down.warnings);
    assert_eq!(converge(&engine_of(&[], false), &mut host), [""; 0], "what is there is good where nothing is said");
    host.packages.remove(&name("docker-cli"));
    assert_eq!(converge(&engine_of(&[], false), &mut host)[0], "install docker-cli", "what was cut short goes on");
}

#[test]
fn what_somebody_else_installed_again_is_not_purged_and_what_was_ours_is_made_whole() {
    let mut host = Facts { os: os(), engine: Engine::Running, ..Facts::default() };
    host.journal.packages = [name("docker-ce"), name("docker-compose-plugin")].into();
    host.journal.replaced = [name("docker.io"), name("docker-cli")].into();
    host.packages = [(name("docker-ce"), version("5")), (name("docker.io"), version("1"))].into();
    host.owners.insert(name("docker-ce"));
    let whole = plan(&engine_of(&[], false), &host).unwrap();
    assert_eq!(texts(&whole)[0], "install docker-compose-plugin", "not another engine");
    let purge = Desired { absent: Absent { packages: true, ..Absent::default() }, ..Desired::default() };
    assert_eq!(texts(&plan(&purge, &host).unwrap()), ["purge docker-ce docker-cli"]);
}

#[test]
fn files_of_the_engine_come_before_it_and_go_with_it() {
    let mut host = Facts { os: os(), ..Facts::default() };
    let mut desired = engine_of(&["docker.io=1"], true);
    let expected = [
        "write /etc/apt/sources.list.d/docker.list (mode 0644)",
        "write /etc/systemd/system/docker.service.d/proxy.conf (mode 0644)",
        "write /etc/docker/daemon.json (mode 0644)",
        "reload systemd's unit files",
        "install docker.io=1",
        "start docker.service",
    ];
    assert_eq!(converge(&desired, &mut host), expected);
    let engine = desired.engine.as_mut().unwrap();
    engine.files[0].content = Content::from("[Service]\nA=b\n");
    let next = plan(&desired, &host).unwrap();
    let rest = ["reload systemd's unit files", "restart docker.service"];
    assert_eq!(texts(&next)[1..], rest);
    // Cut short behind the file: that it is read, and the restart, are still owed.
    carry_out(&next.steps[0], &mut host);
    assert_eq!(converge(&desired, &mut host), rest);
    let without = engine_of(&["docker.io=1"], false);
    let mut other = host.clone();
    assert_eq!(converge(&without, &mut other).len(), 5, "what is not wanted any more goes");
    assert_eq!((other.entries.len(), other.journal.files.len()), (0, 0));

    let keep = Desired { absent: Absent::default(), ..Desired::default() };
    assert_eq!(converge(&keep, &mut host), [""; 0]);
    let purge = Desired { absent: Absent { packages: true, ..Absent::default() }, ..Desired::default() };
    let expected = [
        "remove /etc/apt/sources.list.d/docker.list",
        "remove /etc/docker/daemon.json",
        "remove /etc/systemd/system/docker.service.d/proxy.conf",
        "reload systemd's unit files",
        "purge docker.io",
    ];
    assert_eq!(converge(&purge, &mut host), expected);
    assert_eq!((host.entries.len(), host.journal.has_engine()), (0, false));
}

#[test]
fn what_is_not_ours_is_neither_replaced_nor_removed() {
    let mut host = Facts { os: os(), ..Facts::default() };
    let mut desired = engine_of(&["docker.io"], true);
    let theirs = |text: &str| Entry::File { sha256: Digest::of(text.as_bytes()), mode: 0o600, text: Some(text.into()) };
    host.entries.insert(path(LIST), theirs("deb a b c\n"));
    assert_eq!(plan(&desired, &host).unwrap_err(), PlanError::Foreign(path(LIST)));
    host.entries.insert(path(LIST), theirs("deb x y z\n"));
    host.entries.insert(path(CONFIG), theirs("{\"live-restore\": true}"));
    let warned = plan(&desired, &host).unwrap().warnings;
    assert!(
        warned[0].contains("daemon.json is not ours and stays as it is: add \"mirrors\": [\"m\"] to it"),
        "{warned:?}"
    );
    converge(&desired, &mut host);
    assert_eq!(host.entries[&path(CONFIG)], theirs("{\"live-restore\": true}"));
    host.entries.insert(path(CONFIG), theirs("{\"live-restore\": true, \"mirrors\": [\"m\"]}"));
    assert_eq!(plan(&desired, &host).unwrap(), Plan::default(), "what is missing was added");

    // Ours, until somebody changed it.
    host.entries.remove(&path(CONFIG));
    assert_eq!(converge(&desired, &mut host).len(), 3);
    host.entries.insert(path(CONFIG), theirs("{}"));
    let left = plan(&desired, &host).unwrap();
    assert_eq!((texts(&left), left.warnings.len()), (vec![], 1));
    desired.engine.as_mut().unwrap().config = None;
    assert_eq!(converge(&desired, &mut host)[0], "leave /etc/docker/daemon.json, which somebody else changed");
    let purge = Desired { absent: Absent { packages: true, ..Absent::default() }, ..Desired::default() };
    converge(&purge, &mut host);
    assert_eq!(host.entries.keys().map(AbsPath::as_str).collect::<Vec<_>>(), [LIST, CONFIG]);
}

#[test]
fn a_bundle_is_needed_only_where_packages_come_from_it() {
    let mut host = Facts { os: os(), ..Facts::default() };
    let mut desired = engine_of(&["docker.io=1"], false);
    let bundle = WantedBundle { folder: path("/b"), files: [Digest::of(b"a")].into(), index: "Package: a\n".into() };
    desired.engine.as_mut().unwrap().bundle = Some(bundle.clone());
    assert_eq!(Desired::parse(&serde_json::to_vec(&desired).unwrap()).unwrap(), desired);
    let first = plan(&desired, &host).unwrap();
    assert!(matches!(&first.steps[0], Step::Install(_, source) if source.bundle == Some(bundle)));
    assert!(first.needs_bundle());
    converge(&desired, &mut host);
    assert_eq!(plan(&desired, &host).unwrap(), Plan::default());
    // A host that had its engine from a source before forgets that.
    let mut online = Facts { os: os(), ..Facts::default() };
    converge(&engine_of(&["docker.io=1"], true), &mut online);
    let offline = plan(&desired, &online).unwrap();
    assert_eq!(
        (texts(&offline)[0].as_str(), offline.needs_bundle()),
        ("remove /etc/apt/sources.list.d/docker.list", false)
    );
    let theirs = Facts { engine: Engine::Running, ..Facts::default() };
    assert!(!plan(&desired, &theirs).unwrap().needs_bundle(), "an engine of somebody else is not touched");
    desired.engine.as_mut().unwrap().source = Some(path(LIST));
    desired.engine.as_mut().unwrap().apt.push(file(LIST, "deb x y z\n"));
    assert!(Desired::parse(&serde_json::to_vec(&desired).unwrap()).unwrap_err().to_string().contains("from a bundle"));
}

#[test]
fn journals_of_earlier_versions_are_read() {
    let old = r#"{"packages": ["docker.io"], "dependencies": ["runc"], "units": {}}"#;
    let journal: osier_converge::Journal = serde_json::from_str(old).unwrap();
    assert!(journal.has_engine() && journal.files.is_empty());
    let mut host = Facts { os: os(), engine: Engine::Running, journal, ..Facts::default() };
    host.owners.insert(name("docker.io"));
    host.packages.insert(name("docker.io"), version("1"));
    host.units.insert(name("docker.service"), UnitFact { enabled: true, active: true, failed: false });
    assert_eq!(converge(&engine_of(&[], false), &mut host), [""; 0]);
}

#[test]
fn only_what_a_unit_reads_restarts_it() {
    let mut host = Facts { os: os(), ..Facts::default() };
    let mut desired = cluster_node();
    converge(&desired, &mut host);
    desired.files[1].content = Content::from("{\"a\": 2}\n");
    let next = plan(&desired, &host).unwrap();
    assert_eq!(texts(&next), ["write /etc/osier/agent.json (mode 0644)", "restart osier-agent.service"]);
    assert_eq!(next.steps[0].planned().diff.unwrap(), "-{\"a\": 1}\n+{\"a\": 2}");
    // Cut short after the file was written: the restart is still owed.
    carry_out(&next.steps[0], &mut host);
    assert_eq!(converge(&desired, &mut host), ["restart osier-agent.service"]);
    desired.links[0].target = "elsewhere".into();
    desired.files[1].mode = 0o600;
    let rest = ["set the mode of /etc/osier/agent.json to 0600", "link /usr/local/bin/weave to elsewhere"];
    assert_eq!(converge(&desired, &mut host), rest);
}

#[test]
fn secrets_show_neither_in_a_step_nor_in_its_diff() {
    let host = Facts { os: os(), ..Facts::default() };
    let plan = plan(&cluster_node(), &host).unwrap();
    let shown: Vec<_> = plan.steps.iter().map(|s| format!("{s:?}{:?}", s.planned())).collect();
    assert!(!shown.concat().contains("0123"), "{shown:?}");
}

#[test]
fn destroying_takes_the_network_first_and_the_state_last() {
    let mut host = Facts { os: os(), ..Facts::default() };
    converge(&cluster_node(), &mut host);
    host.networks.insert(name("osier"));
    host.entries.insert(path("/run/netns/osier"), Entry::Other);
    let absent = Absent {
        networks: vec![name("osier")],
        units: vec![name("osier-manager.service"), name("osier-agent.service")],
        namespaces: vec![path("/run/netns/osier")],
        files: vec![path("/etc/systemd/system/osier-agent.service"), path("/usr/local/bin/osier")],
        folders: vec![path("/etc/osier"), path("/var/lib/osier")],
        packages: true,
    };
    let desired = Desired { absent, ..Desired::default() };
    let expected = [
        "remove the docker network osier",
        "stop osier-agent.service",
        "disable osier-agent.service",
        "remove the network namespace /run/netns/osier",
        "remove /etc/systemd/system/osier-agent.service",
        "remove /usr/local/bin/osier",
        "reload systemd's unit files",
        "purge docker-cli docker.io",
        "remove folder /etc/osier",
    ];
    assert_eq!(converge(&desired, &mut host), expected);
    assert_eq!(converge(&desired, &mut host), [""; 0]);
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        ("[ab]", prop::sample::select(vec![0o600, 0o644, 0o755])).prop_map(|(text, mode)| Entry::File {
            sha256: Digest::of(text.as_bytes()),
            mode,
            text: Some(text)
        }),
        "[ab]".prop_map(Entry::Link),
        prop::sample::select(vec![0o700, 0o755]).prop_map(Entry::Folder),
    ]
}

prop_compose! {
    /// A host with anything at the places that [`any_desired`] speaks of.
    fn any_host()(
        entries in prop::collection::btree_map("/[a-f]", any_entry(), 0..6),
        units in prop::collection::btree_map("[u-x]", any::<(bool, bool, bool)>(), 0..4),
        started in prop::collection::btree_map("[u-x]", "[ab]", 0..3),
        packages in prop::collection::btree_map(prop::sample::select(vec!["docker.io", "docker-cli", "other"]), "[12]", 0..3),
        owners in prop::collection::btree_set(prop::sample::select(vec!["docker.io", "other"]), 0..2),
        written in prop::collection::btree_map("/[g-j]", "[ab]", 0..4),
        theirs in prop::collection::btree_map("/[g-j]", "[ab]", 0..2),
        containers in 0_u64..3,
        ours in prop::collection::btree_set(prop::sample::select(vec!["docker.io", "docker-cli"]), 0..3),
        networks in prop::collection::btree_set("[no]", 0..2),
        engine in prop::sample::select(vec![Engine::Missing, Engine::Stopped, Engine::Running]),
    ) -> Facts {
        let mut host = Facts { os: os(), engine, containers, ..Facts::default() };
        host.entries = entries.into_iter().map(|(p, e)| (path(&p), e)).collect();
        let entry = |text: &String| Entry::File { sha256: Digest::of(text.as_bytes()), mode: 0o644, text: Some(text.clone()) };
        host.entries.extend(written.iter().chain(&theirs).map(|(p, text)| (path(p), entry(text))));
        host.journal.files = written.iter().map(|(p, text)| (path(p), [Digest::of(text.as_bytes())].into())).collect();
        host.owners = owners.into_iter().map(name).collect();
        let unit = |(enabled, active, failed)| UnitFact { enabled, active, failed: failed && !active };
        host.units = units.into_iter().map(|(n, u)| (name(&n), unit(u))).collect();
        host.packages = packages.into_iter().map(|(n, v)| (name(n), version(&v))).collect();
        host.networks = networks.iter().map(|n| name(n)).collect();
        host.journal.packages = ours.into_iter().map(name).collect();
        host.journal.units = started.into_iter().map(|(n, d)| (name(&n), Digest::of(d.as_bytes()))).collect();
        host
    }
}

prop_compose! {
    /// An engine of few packages and files, each of its files wanted with one of two texts or not.
    fn any_engine()(
        names in prop::sample::subsequence(vec!["docker.io", "docker-cli"], 0..=2),
        exact in prop::option::of("[12]"),
        files in prop::collection::vec(prop::option::of("[ab]"), 3),
    ) -> WantedEngine {
        let package = |n: &&str| Package { name: name(n), version: exact.as_deref().map(version) };
        let wanted = |at: usize, path: &str| files[at].as_deref().map(|text| file(path, text));
        let apt: Vec<File> = wanted(0, "/g").into_iter().collect();
        WantedEngine {
            packages: names.iter().map(package).collect(),
            source: apt.first().map(|f| f.path.clone()),
            apt,
            files: wanted(1, "/h").into_iter().collect(),
            config: wanted(2, "/i"),
            ..WantedEngine::default()
        }
    }
}

prop_compose! {
    /// A document over few places, each wanted in one way, unwanted, or not named.
    fn any_desired()(
        places in prop::collection::vec(0_u8..8, 6),
        text in "[ab]",
        units in prop::collection::vec(0_u8..3, 4),
        networks in prop::collection::btree_set("[no]", 0..2),
        engine in prop::option::of(any_engine()),
        purge in any::<bool>(),
    ) -> Desired {
        let mut desired = Desired { engine, ..Desired::default() };
        for (place, at) in places.iter().zip(["/a", "/b", "/c", "/d", "/e", "/f"]) {
            let at = path(at);
            match place {
                0 => desired.folders.push(Folder { path: at, mode: 0o755 }),
                1 => desired.links.push(Link { path: at, target: text.clone() }),
                2 | 3 => desired.files.push(File { path: at, mode: 0o644, secret: *place == 2, content: text.as_str().into() }),
                4 if desired.binary.is_none() => desired.binary = Some(Binary { path: at, sha256: Digest::of(b"a") }),
                5 => desired.absent.files.push(at),
                6 => desired.absent.folders.push(at),
                _ => {}
            }
        }
        let read: Vec<AbsPath> = desired.files.iter().map(|f| f.path.clone()).collect();
        for (wanted, unit) in units.iter().zip(["u", "v", "w", "x"]) {
            match wanted {
                0 => desired.units.push(Unit { name: name(unit), restart_on: read.clone() }),
                1 => desired.absent.units.push(name(unit)),
                _ => {}
            }
        }
        desired.absent.networks = networks.iter().map(|n| name(n)).collect();
        desired.absent.packages = purge && desired.engine.is_none();
        desired
    }
}

proptest! {
    #[test]
    fn every_host_converges_however_often_it_is_cut_short(
        desired in any_desired(), mut host in any_host(), cuts in prop::collection::vec(0_usize..6, 0..4),
    ) {
        let json = serde_json::to_vec(&desired).unwrap();
        prop_assert_eq!(&Desired::parse(&json).unwrap(), &desired);
        let ours: BTreeSet<AbsPath> = host.journal.files.keys().cloned().collect();
        let theirs = |host: &Facts| -> Vec<_> {
            let other = host.entries.iter().filter(|(p, _)| ("/g".."/k").contains(&p.as_str()) && !ours.contains(*p));
            other.map(|(p, e)| (p.clone(), e.clone())).collect()
        };
        let before = theirs(&host);
        match plan(&desired, &host) {
            Err(PlanError::Foreign(path)) => {
                prop_assert!(before.iter().any(|(p, _)| *p == path));
                return Ok(());
            }
            other => drop(other.unwrap()),
        }
        for cut in cuts {
            let plan = plan(&desired, &host).unwrap();
            plan.steps.iter().take(cut).for_each(|step| carry_out(step, &mut host));
        }
        converge(&desired, &mut host);
        prop_assert_eq!(converge(&desired, &mut host), Vec::<String>::new());
        let after = theirs(&host);
        prop_assert!(before.iter().all(|entry| after.contains(entry)), "{:?} {:?}", before, after);
        for unit in &desired.units {
            prop_assert!(host.units[&unit.name].active && host.units[&unit.name].enabled);
            prop_assert_eq!(host.journal.units[&unit.name], desired.inputs(unit));
        }
        for gone in desired.absent.files.iter().chain(&desired.absent.folders) {
            prop_assert!(!host.entries.contains_key(gone));
        }
    }

    #[test]
    fn nothing_is_started_before_what_it_reads_is_there(desired in any_desired(), host in any_host()) {
        let Ok(plan) = plan(&desired, &host) else { return Ok(()) };
        let is_start = |s: &Step| match s {
            Step::Start(unit, Some(_)) | Step::Restart(unit, _) | Step::Enable(unit) => unit.as_str() != "docker.service",
            _ => false,
        };
        let first_start = plan.steps.iter().position(is_start).unwrap_or(plan.steps.len());
        for step in &plan.steps[first_start..] {
            prop_assert!(!matches!(step, Step::Write(..) | Step::Link(_) | Step::Folder(_) | Step::Binary(_)), "{}", step);
        }
    }
}
