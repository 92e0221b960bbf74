//! Discovery in a real etcd that is stopped and started again under a manager, and engines that vanish without a word.

use crate::{
    program::{Bench, row},
    server::Server,
    wait::{equal, until},
};

#[tokio::test]
async fn engines_are_found_in_etcd_through_its_restarts() {
    let bench = Bench::new();
    let mut etcd = Server::start();
    let url = format!("etcd://{}/ours", etcd.address);
    let list = |options: &str| bench.run(&format!("swarm list {options} {url}"));
    until("etcd answers", async || equal(list("").code, Some(0))).await;
    let join =
        |engine: &str, ttl: &str| bench.start(&format!("swarm join --addr {engine} --heartbeat 1s --ttl {ttl} {url}"));
    let mut first = join("127.0.0.1:1", "1h");
    let (mut manager, cluster) = bench.manager("m", &format!("swarm manage --heartbeat 2s {url}")).await;
    let nodes = async |count: &str| row(&cluster, "Nodes").await.as_deref() == Some(count);
    until("the first is a member", async || nodes("1").await).await;
    assert_eq!(list("").out, "127.0.0.1:1\n");
    assert_eq!(list("--discovery-opt kv.path=elsewhere").out, "", "another folder");
    let mut second = join("127.0.0.1:2", "5s");
    until("the watch tells of the second", async || nodes("2").await).await;

    etcd.stop();
    until("the watch is lost", async || manager.log().contains("Unexpected watch error")).await;
    assert!(nodes("2").await, "the last list stays");
    assert!(list("--timeout 2s").err.contains("etcd"), "it says who is away");
    second.signal("KILL");
    second.end();
    etcd.restart();
    until("the killed one's lease ends, and the other one's does not", async || equal(list("").out, "127.0.0.1:1\n"))
        .await;
    until("the manager knows", async || nodes("1").await).await;
    let _third = join("127.0.0.1:3", "1h");
    until("the watch works again", async || nodes("2").await).await;

    first.stop();
    assert_eq!(list("").out, "127.0.0.1:3\n", "it took itself out");
    manager.stop();
}
