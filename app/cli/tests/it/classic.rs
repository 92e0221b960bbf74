//! The classic's command lines: what goes to which stream, and with which code they end.

use crate::program::{Bench, Said, file};

#[test]
fn create_prints_a_token_and_nothing_else() {
    let bench = Bench::new();
    for line in ["swarm create", "docker-swarm c", "osier create"] {
        let Said { code, out, err } = bench.run(line);
        assert_eq!((code, err.as_str(), out.len()), (Some(0), "", 33), "{line}");
        assert!(out.trim_end().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{out}");
    }
    let Said { code, out, err } = bench.run("swarm create x");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("the `create` command takes no arguments. See 'swarm create --help'."), "{err}");
}

#[test]
fn list_prints_one_engine_per_line() {
    let bench = Bench::new();
    let hosts = file(bench.path("").as_path(), "hosts", "# ours\nb:1\n\na[1:2]:2 # two\n");
    for (line, lines) in [
        ("swarm list b:1,a:2,[::1]:3", "b:1\na:2\n[::1]:3\n"),
        ("swarm l nodes://10.0.0.[9:10]:2375", "10.0.0.9:2375\n10.0.0.10:2375\n"),
        (&format!("docker-swarm list --timeout 1s file://{hosts}"), "b:1\na1:2\na2:2\n"),
    ] {
        let Said { code, out, err } = bench.run(line);
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), lines, ""), "{line}");
    }
    // The environment counts where the line says nothing, or too much.
    for line in ["swarm list", "swarm list a:1 b:1"] {
        assert_eq!(bench.run_with(line, &[("SWARM_DISCOVERY", "env:1")]).out, "env:1\n", "{line}");
    }
    assert_eq!(bench.run_with("swarm list a:1", &[("SWARM_DISCOVERY", "env:1")]).out, "a:1\n");
}

#[test]
fn mistakes_end_with_one_and_say_what_is_wrong_on_standard_error() {
    let bench = Bench::new();
    for (line, message) in [
        ("list", "discovery required to list a cluster. See 'swarm list --help'."),
        ("list zk://h:1", "discovery service not supported: 'zk'"),
        ("list --timeout 0s a:1", "--timeout should be a positive number"),
        ("list file:///no/such/file", "there is no file '/no/such/file'"),
        ("list token://feba5683f4a1645b68365f562f81694f", "no cluster of this machine has the token"),
        ("join a:1", "missing mandatory --advertise flag"),
        ("join --addr h:0 a:1", "--advertise should be of the form ip:port or hostname:port"),
        ("manage", "discovery required to manage a cluster. See 'swarm manage --help'."),
        ("manage --heartbeat -1s a:1", "--heartbeat should be at least one second"),
        ("manage --strategy best a:1", "strategy not supported"),
        ("manage -H npipe://x a:1", "unsupported protocol: \"npipe\""),
        ("bogus", "No help topic for 'bogus'"),
        ("list --bogus a:1", "flag provided but not defined: -bogus"),
        ("-l loud list a:1", "not a valid logrus Level: \"loud\""),
    ] {
        let Said { code, out, err } = bench.run(&format!("swarm {line}"));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{line}: {err}");
        assert!(err.contains(message), "{line}: {err}");
    }
    // Under its own name it keeps its own codes and its own name.
    let own = bench.run("osier list");
    assert_eq!(own.code, Some(2));
    assert!(own.err.contains("See 'osier list --help'."), "{}", own.err);
}

#[test]
fn help_is_for_every_command_and_the_version_is_told() {
    let bench = Bench::new();
    for (line, part) in [
        ("swarm", "A Docker-native clustering system"),
        ("swarm --help", "manage"),
        ("swarm create --help", "Make a discovery token"),
        ("swarm list --help", "--timeout"),
        ("swarm join --help", "--advertise"),
        ("swarm manage --help", "swarm.overcommit"),
        ("docker-swarm help manage", "--cluster-driver"),
        ("osier join --help", "--delay"),
        ("swarm --version", concat!("swarm version ", env!("CARGO_PKG_VERSION"), " (")),
    ] {
        let Said { code, out, err } = bench.run(line);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{line}");
        assert!(out.contains(part), "{line}: {out}");
    }
}

#[test]
fn taken_addresses_are_told_apart() {
    let bench = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let Said { code, err, .. } = bench.run(&format!("swarm manage -H {} a:1", taken.local_addr().unwrap()));
    assert_eq!(code, Some(1));
    assert!(err.contains("address already in use"), "{err}");
}
