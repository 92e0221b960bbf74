//! `osier dns` and `weave dns-…` at an operator's terminal, on a machine without an agent.

use crate::program::Bench;

#[test]
fn commands_about_names_show_how_and_refuse_what_cannot_be_meant() {
    let bench = Bench::new();
    for (line, words) in [
        ("osier dns --help", &["add", "remove", "lookup", "ls", "names of the cluster's network"][..]),
        ("osier dns add --help", &["osier dns add oracle 192.0.2.7", "--container web-1", "answered on all nodes"]),
        ("osier dns remove --help", &["osier dns remove oracle", "down or cut off"]),
        ("osier dns lookup --help", &["osier dns lookup 10.1.1.3", "--from"]),
        ("osier dns ls --help", &["osier dns ls -o json"]),
        ("weave --help", &["dns-add", "dns-remove", "dns-lookup"]),
        ("weave dns-add --help", &["weave dns-add 192.0.2.7 -h oracle.weave.local"]),
        ("weave dns-remove --help", &["weave dns-remove web-1"]),
        ("osier agent --help", &["http://127.0.0.1:6782/metrics"]),
    ] {
        let said = bench.run(line);
        assert_eq!(said.code, Some(0), "{line}: {said:?}");
        // Lines are broken where the terminal ends.
        let text = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(text.contains(word), "{line}: {word} in {}", said.out);
        }
    }
    for (line, words) in [
        ("osier dns add oracle ::1", "invalid IPv4 address"),
        ("osier dns add", "required"),
        ("weave dns-add a b -h c", "'b' is neither an IPv4 address nor the one container"),
        ("weave dns-add web 10.1.1.1", "'10.1.1.1' is neither"),
        ("weave dns-add 10.1.1.1", "a container, or addresses and a name, must be said"),
        ("weave dns-add -h oracle", "a container, or addresses and a name, must be said"),
        ("weave dns-remove", "ADDRESS… -h FQDN"),
        ("weave connect 192.0.2.7", "'osier site'"),
        ("weave forget 192.0.2.7", "'osier node rm NODE'"),
        ("weave rmpeer 02:00:00:00:00:01", "'osier node rm NODE'"),
    ] {
        let said = bench.run(line);
        assert!(said.code == Some(2) && said.err.contains(words) && said.out.is_empty(), "{line}: {said:?}");
    }
}

#[test]
fn without_an_agent_it_is_said_where_to_run_them() {
    if std::path::Path::new("/run/osier/agent.sock").exists() {
        return;
    }
    let bench = Bench::new();
    for line in [
        "osier dns ls",
        "osier dns add oracle 192.0.2.7",
        "osier dns remove oracle",
        "weave dns-add 192.0.2.7 -h oracle",
        "weave dns-lookup oracle",
    ] {
        let said = bench.run(line);
        assert!(said.code == Some(1) && said.out.is_empty(), "{line}: {said:?}");
        assert!(said.err.contains("error: ask the agent") && said.err.contains("hint: run this on a node"), "{said:?}");
    }
}
