//! Plans carried out on a model of a host: any host becomes the desired one, cut short or not, and a second plan is
//! empty.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use osier_converge::{
    AbsPath, Absent, Binary, Content, Desired, Digest, Engine, Entry, Facts, File, Folder, Link, Name, OsRelease, Plan,
    Step, Unit, UnitFact, plan,
};
use proptest::prelude::*;

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
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
        Step::Install(list) => {
            host.journal.packages.extend(list.iter().filter(|p| !host.packages.contains(*p)).cloned());
            host.packages.extend(list.iter().cloned());
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
                assert!(host.packages.remove(package) && host.journal.packages.remove(package));
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
        engine: true,
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
    let desired = Desired { engine: true, ..Desired::default() };
    assert_eq!(plan(&desired, &host).unwrap(), Plan::default(), "even on a system that is not known");
    host.engine = Engine::Stopped;
    host.units.insert(name("docker.service"), UnitFact::default());
    assert_eq!(converge(&desired, &mut host), ["start docker.service"]);
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
        packages in prop::collection::btree_set(prop::sample::select(vec!["docker.io", "docker-cli", "other"]), 0..3),
        ours in prop::collection::btree_set(prop::sample::select(vec!["docker.io", "docker-cli"]), 0..3),
        networks in prop::collection::btree_set("[no]", 0..2),
        engine in prop::sample::select(vec![Engine::Missing, Engine::Stopped, Engine::Running]),
    ) -> Facts {
        let mut host = Facts { os: os(), engine, ..Facts::default() };
        host.entries = entries.into_iter().map(|(p, e)| (path(&p), e)).collect();
        let unit = |(enabled, active, failed)| UnitFact { enabled, active, failed: failed && !active };
        host.units = units.into_iter().map(|(n, u)| (name(&n), unit(u))).collect();
        host.packages = packages.into_iter().map(name).collect();
        host.networks = networks.iter().map(|n| name(n)).collect();
        host.journal.packages = ours.into_iter().map(name).collect();
        host.journal.units = started.into_iter().map(|(n, d)| (name(&n), Digest::of(d.as_bytes()))).collect();
        host
    }
}

prop_compose! {
    /// A document over few places, each wanted in one way, unwanted, or not named.
    fn any_desired()(
        places in prop::collection::vec(0_u8..8, 6),
        text in "[ab]",
        units in prop::collection::vec(0_u8..3, 4),
        networks in prop::collection::btree_set("[no]", 0..2),
        engine in any::<bool>(),
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
        desired.absent.packages = purge && !engine;
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
        for cut in cuts {
            let plan = plan(&desired, &host).unwrap();
            plan.steps.iter().take(cut).for_each(|step| carry_out(step, &mut host));
        }
        converge(&desired, &mut host);
        prop_assert_eq!(converge(&desired, &mut host), Vec::<String>::new());
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
        let plan = plan(&desired, &host).unwrap();
        let is_start = |s: &Step| matches!(s, Step::Start(_, Some(_)) | Step::Restart(..) | Step::Enable(_));
        let first_start = plan.steps.iter().position(is_start).unwrap_or(plan.steps.len());
        for step in &plan.steps[first_start..] {
            prop_assert!(!matches!(step, Step::Write(..) | Step::Link(_) | Step::Folder(_) | Step::Binary(_)), "{}", step);
        }
    }
}
