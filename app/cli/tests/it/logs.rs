//! `osier logs` and `osier ps`: of hosts over a real `sshd`, of containers through a manager over engines that are none.

use crate::{
    fake::Fake,
    fleet::{Hosts, is_running},
    program::Bench,
    wait::{PATIENCE, end, until},
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

/// A journal with entries of this host; it notes how it was asked.
const JOURNALCTL: &str = r#"#!/bin/sh
echo "$*" >>"$(dirname "$0")/asked"
say() { echo "{\"__REALTIME_TIMESTAMP\":\"170000000$1\",\"_SYSTEMD_UNIT\":\"osier-agent.service\",\"PRIORITY\":\"6\",\"MESSAGE\":\"$2\"}"; }
case $OSIER_HOST in
a) say 1000000 one; say 3000000 three ;;
*) say 2000000 'two\\nlines'; say 4000000 four ;;
esac
case "$*" in *--follow*) say 5000000 "$$"; exec sleep 100 ;; esac
"#;

#[tokio::test]
async fn services_of_all_hosts_are_shown_in_the_order_of_time() {
    let hosts = Hosts::new(&["a", "bb"]);
    hosts.program("journalctl", JOURNALCTL);
    let said = hosts.osier(&["logs"]);
    let day = "2023-11-14T22:13:2";
    let expected = [
        "1.000Z a  osier-agent | one",
        "2.000Z bb osier-agent | two",
        "2.000Z bb osier-agent | lines",
        "3.000Z a  osier-agent | three",
        "4.000Z bb osier-agent | four",
    ];
    assert_eq!(said.out, expected.map(|line| format!("{day}{line}\n")).concat(), "{said:?}");
    let said = hosts.osier(&["-o", "json", "logs", "-l", "a", "-u", "docker", "--since", "@1000", "-n", "5"]);
    let first: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["host"], &first["message"], &first["priority"]), (&"a".into(), &"one".into(), &6.into()));
    let asked = std::fs::read_to_string(hosts.sshd.folder.path().join("bin/asked")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    let start = "--no-pager --quiet --output=json";
    assert_eq!(asked[0], format!("{start} --unit=osier-agent --unit=osier-manager --lines=100"));
    assert_eq!(asked[2], format!("{start} --unit=docker --lines=5 --since=@1000"));

    let mut daemon = hosts.bench.start("osier logs -f");
    let messages = |log: &str| log.lines().filter_map(|l| Some(l.split_once(" | ")?.1.to_owned())).collect::<Vec<_>>();
    until("both have said all", async || messages(&daemon.log()).len() == 7).await;
    let log = daemon.log();
    let pids: Vec<String> = messages(&log).into_iter().filter(|m| m.parse::<u32>().is_ok()).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(pid)), "{log}");
    daemon.signal("INT");
    assert!(daemon.end().success(), "who follows stops when there is enough: {}", daemon.log());
    assert!(!pids.iter().any(|pid| is_running(pid)), "{}", daemon.log());
}

fn frames(lines: &[(u8, &str)]) -> Vec<u8> {
    let frame = |(channel, text): &(u8, &str)| {
        let text = format!("2023-11-14T22:13:{text}\n");
        let head = [&[*channel, 0, 0, 0][..], &u32::try_from(text.len()).unwrap().to_be_bytes()].concat();
        [head, text.into_bytes()].concat()
    };
    lines.iter().flat_map(frame).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_all_nodes_are_listed_and_their_logs_merged() {
    let bench = Bench::new();
    let (one, two) = (Fake::start("n1").await, Fake::start("n2").await);
    let (web, db) = (one.has("web"), two.has("db"));
    one.state.lock().unwrap().logs.insert(web.clone(), frames(&[(1, "21.5Z one"), (2, "23Z three"), (1, "25Z")]));
    two.state.lock().unwrap().logs.insert(db, frames(&[(1, "22.000000001Z two"), (1, "24Z four")]));
    let line = format!("osier manage nodes://{},{}", one.address, two.address);
    let (_manager, cluster) = bench.manager("s", &line).await;
    until("both containers are known", async || {
        let list = crate::program::ask(&cluster, http::Method::GET, "/containers/json?all=1").await.unwrap().2;
        serde_json::from_slice::<Value>(&list).unwrap().as_array().unwrap().len() == 2
    })
    .await;
    let host = format!("unix://{}", bench.path("s").display());
    let run = |words: &[&str]| bench.run_words(&[words, &["-H", &host]].concat());

    let said = run(&["ps", "-a"]);
    let rows: Vec<Vec<&str>> = said.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "CONTAINER ID NODE NAME IMAGE COMMAND STATUS PORTS", "{said:?}");
    let mut names: Vec<String> = rows[1..].iter().map(|row| row[1..4].join(" ")).collect();
    names.sort();
    assert_eq!(names, ["n1 web busybox", "n2 db busybox"], "{said:?}");
    let said = run(&["-o", "json", "ps", "-a", "--filter", "node=n2"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[0]["name"], &json[0]["node"]), (1, &"db".into(), &"n2".into()));
    assert_eq!(run(&["ps", "-f", "nonsense=1"]).code, Some(1));

    let said = run(&["logs", "--container", "web", "n2/db"]);
    assert_eq!(said.out, "n1/web | one\nn2/db  | two\nn2/db  | four\nn1/web | \n", "{said:?}");
    assert_eq!((said.code, said.err.as_str()), (Some(0), "n1/web ! three\n"));
    let said = run(&["-o", "json", "logs", "-f", "--container", "web"]);
    let lines: Vec<Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["stream"], &lines[1]["message"]), (3, &"stderr".into(), &"three".into()));
    assert_eq!(lines[0]["time"], "2023-11-14T22:13:21.5Z");
    let asked = one.asked(http::Method::GET, "/logs");
    assert!(asked.iter().any(|a| a.query.contains("follow=1") && a.query.contains("tail=100")), "{asked:?}");
    let said = run(&["logs", "--container", "nobody"]);
    assert!(said.code == Some(1) && said.err.contains("No such container"), "{said:?}");
    assert_eq!(run(&["logs", "--container", "web", "-l", "a"]).code, Some(2));
    assert_eq!(run(&["logs", "--filter", "node=n3"]).code, Some(1));

    // Whom a filter means is followed from its start on, were it later or again.
    let mut daemon = bench.start(&format!("osier logs -f --filter node=n1 -H {host}"));
    let lines = |log: &str| log.lines().filter(|l| l.starts_with("n1/")).map(str::to_owned).collect::<Vec<_>>();
    until("the one that runs has said all", async || lines(&daemon.log()).len() == 3).await;
    let say = |fake: &Fake, id: &str, bytes: Vec<u8>| {
        fake.state.lock().unwrap().logs.insert(id.to_owned(), bytes);
        fake.tell("container", "start", id);
    };
    let (later, other) = (one.has("later"), two.has("other"));
    say(&two, &other, frames(&[(1, "26Z of another node")]));
    say(&one, &later, frames(&[(1, "26Z hello")]));
    until("the later one is shown", async || lines(&daemon.log()).contains(&"n1/later | hello".to_owned())).await;
    say(&one, &web, frames(&[(1, "27Z again")]));
    until("the one that started again is shown", async || {
        lines(&daemon.log()).contains(&"n1/web   | again".to_owned())
    })
    .await;
    assert_eq!(lines(&daemon.log()).len(), 5, "{}", daemon.log());
    assert!(!daemon.log().contains("another node"), "{}", daemon.log());
    let asked = one.asked(http::Method::GET, "/logs");
    let again = &asked.last().unwrap().query;
    // Not from the moment on that the engine tells: a container writes before.
    assert!(
        again.contains("tail=all&since=1700000005.000000001"),
        "what is behind the last line is asked for: {again}"
    );
    daemon.signal("INT");
    daemon.end();
}

#[test]
fn whoever_follows_stops_when_nobody_reads() {
    let hosts = Hosts::new(&["a"]);
    hosts.program("journalctl", JOURNALCTL);
    let mut osier = hosts.bench.command("osier logs -f", &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(osier.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let pid = lines.by_ref().nth(2).unwrap().split_once(" | ").unwrap().1.to_owned();
    assert!(is_running(&pid));
    drop(lines);
    let ended = end(&mut osier, PATIENCE).expect("it ends without another line");
    assert!(ended.success() && !is_running(&pid), "{ended:?}");
}
