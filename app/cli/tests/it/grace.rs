//! Engines that discovery forgets while they are well.

use crate::{
    fake::Fake,
    program::{Bench, file, rows},
    wait::{equal, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_drops_only_those_who_do_not_answer() {
    let bench = Bench::new();
    let (well, gone) = (Fake::start("well").await, Fake::start("gone").await);
    let both = format!("{}\n{}\n", well.address, gone.address);
    let write = |contents: &str| file(&bench.path(""), "hosts", contents);
    let line = format!("osier manage --heartbeat 1s file://{}", write(&both));
    let (manager, cluster) = bench.manager("s", &line).await;
    let count = async |key: &str, part: &str| {
        rows(&cluster).await.iter().filter(|(k, value)| k == key && value.contains(part)).count()
    };
    until("both are healthy", async || equal(count("Status", "Healthy").await, 2)).await;
    gone.stop();
    until("one is lost", async || equal(count("Status", "Healthy").await, 1)).await;
    write("");
    until("the lost one is dropped", async || equal(count("Nodes", "1").await, 1)).await;
    assert_eq!(count("Error", "discovery no longer lists this engine").await, 1);
    assert_eq!(count("Status", "Healthy").await, 1);
    write(&both);
    until("all is as it was", async || count("Nodes", "2").await == 1 && count("Error", "no longer").await == 0).await;
    write("broken");
    until("the broken list is told", async || manager.log().contains("keeping the last list")).await;
    assert_eq!(count("Nodes", "2").await, 1);
    write("");
    until("the grace is over", async || equal(count("Nodes", "0").await, 1)).await;
}
