//! `osier node` at an operator's terminal.

use crate::{
    fake::Fake,
    program::{Bench, rows},
    wait::until,
};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_listed_and_steered() {
    let bench = Bench::new();
    let (one, two) = (Fake::start("n1").await, Fake::start("n2").await);
    let id = one.has("web");
    two.state.lock().unwrap().labels = vec!["tier".into()];
    let state = bench.path("state");
    let line = format!("osier manage --state {} nodes://{},{}", state.display(), one.address, two.address);
    let (_manager, cluster) = bench.manager("s", &line).await;
    until("both are known", async || {
        let rows = rows(&cluster).await;
        rows.iter().any(|(_, v)| v == "Healthy") && rows.iter().any(|(k, _)| k.ends_with("Error"))
    })
    .await;
    let host = format!("-H unix://{}", bench.path("s").display());
    let node = |words: &str| {
        let words = words.to_owned();
        let said = bench.run(&format!("osier node {words} {host}"));
        move |code| {
            assert_eq!(said.code, Some(code), "osier node {words}: {said:?}");
            said
        }
    };
    let listed = node("ls")(0).out;
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), "NAME STATUS AVAILABILITY ENGINE API CONTAINERS CPUS MEMORY AGE ERROR");
    let well = lines.iter().find(|l| l[0] == "n1").unwrap();
    assert_eq!(well[1..8].join(" "), "healthy active 20.10.24 1.41 1/1 0/4 0", "{listed}");
    let refused = listed.lines().find(|l| l.starts_with(&two.address.to_string())).unwrap();
    for part in ["pending", "label: the engine's label 'tier' is not of the form key=value", "; next attempt in "] {
        assert!(refused.contains(part), "{listed}");
    }
    let json: Value = serde_json::from_str(&node("ls -o json")(0).out).unwrap();
    assert_eq!((json[1]["name"].as_str(), json[1]["status"].as_str()), (Some("n1"), Some("healthy")), "{json}");
    assert_eq!(json[0]["error"]["reason"], "label");

    assert_eq!(node("cordon n1")(0).err, "n1: cordoned\n");
    let drained = node("drain n1")(0).err;
    assert_eq!(drained, "n1: drained\nn1/web: stopping\nn1/web: stopped\n");
    assert_eq!(one.state.lock().unwrap().containers[&id]["State"]["Status"], "exited");
    let shown = node("inspect n1")(0).out;
    for line in
        ["Name: n1", "Availability: drained", "Stopped by drain: 1", "Containers: 0 running, 0 paused, 1 stopped"]
    {
        assert!(shown.lines().any(|l| l == line), "{line} in {shown}");
    }
    let steps: Value = serde_json::from_str(&node("activate n1 -o json")(0).out).unwrap();
    assert_eq!((&steps[0]["availability"], &steps[2]["what"]), (&"active".into(), &"started".into()), "{steps}");
    node("label n1 disk=ssd")(0);
    assert!(node("inspect n1")(0).out.contains("disk=ssd"));

    assert!(node("cordon n9")(1).err.contains("No such node: n9"));
    assert!(node(&format!("cordon {}", two.address))(1).err.contains("has not told its name yet"));
    assert!(node("label n1 disk")(2).err.contains("'disk' is neither KEY=VALUE nor KEY-"));
    let nobody = bench.run("osier node ls");
    assert!(nobody.code == Some(2) && nobody.err.contains("there is no cluster"), "{nobody:?}");
    let engine = bench.run(&format!("osier node ls -H {}", one.address));
    assert!(engine.code == Some(1) && engine.err.contains("is not an Osier manager"), "{engine:?}");
}
