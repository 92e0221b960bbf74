//! Several managers of one cluster, with a real etcd: one leads, the others pass requests on, and another one takes over.

use crate::{
    program::{Bench, Daemon, ask, free_address, row},
    server::Server,
    wait::until,
};
use http::{Method, Request, StatusCode};
use osier_engine::{Client, full};

const TOKEN: &str = "feba5683f4a1645b68365f562f81694f";

struct Manager {
    daemon: Daemon,
    client: Client,
    address: String,
}

impl Manager {
    async fn start(bench: &Bench, etcd: &Server, name: &str, ttl: &str) -> Self {
        let address = free_address();
        let line = format!(
            "swarm manage --replication --replication-ttl {ttl} --advertise {address} -H {address} etcd://{}",
            etcd.address
        );
        let (daemon, client) = bench.manager(name, &line).await;
        Self { daemon, client, address }
    }

    async fn leads(&self) -> bool {
        row(&self.client, "Role").await.as_deref() == Some("primary")
    }

    async fn follows(&self, leader: &Self) -> bool {
        row(&self.client, "Role").await.as_deref() == Some("replica")
            && row(&self.client, "Primary").await.as_deref() == Some(&leader.address)
    }

    /// Registers an engine with this manager's token service, or rather with that of whoever leads.
    async fn register(&self, engine: &'static str) -> StatusCode {
        let path = format!("/v1/clusters/{TOKEN}?ttl=3600");
        let request = Request::builder().method(Method::POST).uri(path).body(full(engine)).unwrap();
        self.client.send(request).await.unwrap().status()
    }

    async fn registered(&self) -> String {
        let (_, _, body) = ask(&self.client, Method::GET, &format!("/v1/clusters/{TOKEN}")).await.unwrap();
        String::from_utf8(body).unwrap()
    }
}

#[tokio::test]
async fn a_replica_passes_on_and_takes_over_at_once_from_one_that_resigns() {
    let (bench, etcd) = (Bench::new(), Server::start());
    // Nothing but a resignation ends such a lease within this test.
    let mut one = Manager::start(&bench, &etcd, "one", "1h").await;
    until("the first leads", async || one.leads().await).await;
    let two = Manager::start(&bench, &etcd, "two", "1h").await;
    until("the second follows it", async || two.follows(&one).await).await;
    assert_eq!(two.register("a:1").await, StatusCode::OK);
    assert_eq!((one.registered().await, two.registered().await), ("[\"a:1\"]".into(), "[\"a:1\"]".into()));
    one.daemon.stop();
    until("the second leads", async || two.leads().await).await;
    assert_eq!(two.registered().await, "[]", "each has a register of its own");
    assert!(two.daemon.log().contains("Leader Election: Cluster leadership acquired"), "{}", two.daemon.log());
}

#[tokio::test]
async fn a_leader_that_was_paused_is_none_when_it_wakes_up() {
    let (bench, etcd) = (Bench::new(), Server::start());
    let one = Manager::start(&bench, &etcd, "one", "6s").await;
    until("the first leads", async || one.leads().await).await;
    let mut two = Manager::start(&bench, &etcd, "two", "6s").await;
    until("the second follows it", async || two.follows(&one).await).await;
    one.daemon.signal("STOP");
    until("the second leads", async || two.leads().await).await;
    one.daemon.signal("CONT");
    assert_eq!(one.register("a:1").await, StatusCode::OK);
    assert_eq!(two.registered().await, "[\"a:1\"]", "it was passed on");
    until("the first follows", async || one.follows(&two).await).await;
    two.daemon.signal("KILL");
    two.daemon.end();
    until("the first leads again", async || one.leads().await).await;
}

#[tokio::test]
async fn nobody_leads_without_a_store() {
    let (bench, mut etcd) = (Bench::new(), Server::start());
    let one = Manager::start(&bench, &etcd, "one", "2s").await;
    until("it leads", async || one.leads().await).await;
    etcd.stop();
    until("its lease is over", async || !one.leads().await).await;
    let (status, _, body) = ask(&one.client, Method::GET, "/containers/json").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(body).unwrap().contains("No elected primary cluster manager"));
    assert_eq!(ask(&one.client, Method::GET, "/_ping").await.unwrap().0, StatusCode::OK, "it is there all the same");
    etcd.restart();
    until("it leads again", async || one.leads().await).await;
    assert_eq!(ask(&one.client, Method::GET, "/containers/json").await.unwrap().0, StatusCode::OK);
}
