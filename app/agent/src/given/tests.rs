//! Two agents' names over a real mesh, through restarts and while one is away.

use super::*;
use crate::dns::Dns;
use http::{Method, Request};
use osier_dns::Resolver;
use osier_engine::{body::collect, full};
use osier_members::{Roll, Signed, Statement};
use osier_model::{
    Hostname,
    config::{AgentConfig, Member},
};
use osier_names::Zone;
use serde_json::{Value, json};
use site::{Running, Site, eventually};
use std::{path::Path, sync::Arc};
use tokio::{sync::watch, task::JoinHandle};

#[path = "../../../../io/gossip/tests/gossip/site.rs"]
#[expect(dead_code, reason = "the mesh's own tests do more with it")]
mod site;

/// A node as far as names go. Dropping it is its death.
struct Node {
    mesh: Running,
    dns: Dns,
    following: JoinHandle<()>,
    _publish: watch::Sender<Arc<osier_names::Records>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.following.abort();
    }
}

fn config(site: &Site, node: usize) -> Config {
    let said = |member: &Member| Signed {
        text: Statement::Member { serial: 1, node: member.clone() }.text(),
        signature: String::new(),
    };
    let said: Vec<Signed> = site.members.iter().map(said).collect();
    let mut roll = Roll::default();
    assert!(roll.take(&said, |_, _| true).0);
    let file = AgentConfig {
        cluster: "test".into(),
        me: site.members[node].clone(),
        founder: site.members[0].peer,
        pool: "10.1.1.0/24".parse().unwrap(),
        domain: Hostname::default_domain(),
        proxy_port: 1,
        upstream: vec![],
    };
    Config::new(file, &roll)
}

impl Node {
    async fn start(site: &Site, node: usize, incarnation: u64, folder: &Path) -> Self {
        let mesh = site.start(node, incarnation).await;
        let config = config(site, node);
        let file = folder.join(format!("names-{node}.json"));
        let given = Arc::new(Given::open(file, &config, mesh.handle.clone()).unwrap());
        let zone = Zone { domain: config.domain.clone(), pool: config.pool };
        let (publish, records) = watch::channel(Arc::default());
        let dns = Dns { given: given.clone(), resolver: Resolver::new(zone, records, vec![]) };
        let (handle, sender) = (mesh.handle.clone(), publish.clone());
        let following = tokio::spawn(async move {
            let mut changes = handle.changed();
            let publish = async {
                loop {
                    sender.send_replace(Arc::new(resolver::records(&handle.snapshot(), Vec::new())));
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(publish, given.follow());
        });
        Self { mesh, dns, following, _publish: publish }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(format!("/v1/dns{path}"));
        let response = self.dns.handle(request.body(full(body.to_string())).unwrap()).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&collect(response.into_body(), 1 << 20).await.unwrap()).unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn addresses(&self, name: &str) -> Vec<String> {
        let found = self.post("/lookup", json!({ "name": name })).await;
        let mut addresses: Vec<String> = serde_json::from_value(found["addresses"].clone()).unwrap();
        addresses.sort();
        addresses
    }

    /// Waits until a name leads to these addresses here.
    async fn answers(&self, name: &str, expected: &[&str]) {
        for _ in 0..3000 {
            if self.addresses(name).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("'{name}' leads to {:?}, not {expected:?}", self.addresses(name).await);
    }

    fn runs(&self, id: &str, address: &str, names: &[&str]) {
        let fact = json!({ "container": id, "address": address, "names": names });
        self.mesh.handle.set_fact(&format!("{}{id}", prefix::NAME), Some(encode(&fact)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_set_and_removed_on_any_node_and_outlive_restarts() {
    let (site, folder) = (Site::new(2), tempfile::tempdir().unwrap());
    let one = Node::start(&site, 0, 1, folder.path()).await;
    let two = Node::start(&site, 1, 1, folder.path()).await;
    let id = "f00d".repeat(16);
    two.runs(&id, "10.1.1.5", &["web.weave.local"]);
    one.answers("web", &["10.1.1.5"]).await;

    let set = one.post("/add", json!({ "name": "Oracle", "addresses": ["192.0.2.7", "192.0.2.8"] })).await;
    assert_eq!(
        set[1],
        json!({ "name": "oracle.weave.local", "address": "192.0.2.8", "container": null, "called": null,
        "node": "n0", "answered": true })
    );
    one.post("/add", json!({ "name": "shop", "container": "web" })).await;
    for node in [&one, &two] {
        node.answers("oracle.weave.local", &["192.0.2.7", "192.0.2.8"]).await;
        node.answers("shop", &["10.1.1.5"]).await;
    }
    let reverse = one.post("/lookup", json!({ "name": "10.1.1.5" })).await;
    assert_eq!(reverse["names"], json!(["web.weave.local"]));
    two.mesh.handle.set_fact(&format!("{}{id}", prefix::NAME), None);
    one.answers("shop", &[]).await;
    let listed = two.call(Method::GET, "", Value::Null).await.1;
    assert_eq!((listed[2]["answered"].clone(), listed[2]["called"].clone()), (json!(false), json!("web")));
    two.runs(&id, "10.1.1.6", &["web.weave.local"]);
    one.answers("shop", &["10.1.1.6"]).await;

    // Of a name that another node has.
    let gone = two.post("/remove", json!({ "name": "oracle", "addresses": ["192.0.2.8"] })).await;
    assert_eq!((gone.as_array().unwrap().len(), gone[0]["node"].clone()), (1, json!("n0")));
    for node in [&one, &two] {
        node.answers("oracle", &["192.0.2.7"]).await;
    }
    assert_eq!(two.post("/remove", json!({ "name": "oracle", "addresses": ["192.0.2.8"] })).await, json!([]));
    let quiet = |node: &Node| node.dns.given.table().gone.is_empty();
    eventually("the removal has been heard and is kept no longer", || quiet(&two)).await;
    drop(one);
    let one = Node::start(&site, 0, 2, folder.path()).await;
    for node in [&one, &two] {
        node.answers("oracle", &["192.0.2.7"]).await;
        node.answers("shop", &["10.1.1.6"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_a_node_that_is_away_is_answered_until_it_is_removed_and_does_not_come_back() {
    let (site, folder) = (Site::new(3), tempfile::tempdir().unwrap());
    let one = Node::start(&site, 0, 1, folder.path()).await;
    let two = Node::start(&site, 1, 1, folder.path()).await;
    let three = Node::start(&site, 2, 1, folder.path()).await;
    for name in ["kept", "dropped"] {
        one.post("/add", json!({ "name": name, "addresses": ["192.0.2.7"] })).await;
    }
    for node in [&two, &three] {
        node.answers("kept", &["192.0.2.7"]).await;
        node.answers("dropped", &["192.0.2.7"]).await;
    }
    drop(one);
    eventually("it counts as dead", || !two.mesh.handle.snapshot().alive(site::peer(0))).await;
    two.answers("kept", &["192.0.2.7"]).await;
    two.post("/remove", json!({ "name": "dropped" })).await;
    for node in [&two, &three] {
        node.answers("dropped", &[]).await;
    }
    // Who removed it starts anew, and still says so.
    drop(two);
    let two = Node::start(&site, 1, 2, folder.path()).await;
    assert_eq!(two.dns.given.table().gone.len(), 1);
    let one = Node::start(&site, 0, 2, folder.path()).await;
    eventually("the node has heard of it", || one.dns.given.table().entries.len() == 1).await;
    eventually("nobody waits any longer", || two.dns.given.table().gone.is_empty()).await;
    for node in [&one, &two, &three] {
        node.answers("dropped", &[]).await;
        node.answers("kept", &["192.0.2.7"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_and_change_nothing() {
    let (site, folder) = (Site::new(1), tempfile::tempdir().unwrap());
    let node = Node::start(&site, 0, 1, folder.path()).await;
    for (path, body, status, words) in [
        ("/add", json!({ "name": "a.example.com", "addresses": ["192.0.2.7"] }), 400, "outside the domain"),
        ("/add", json!({ "name": "a", "container": "nobody" }), 404, "no container 'nobody' runs"),
        ("/add", json!({ "name": "a", "addresses": ["x"] }), 400, "read the request"),
        ("/add", json!({ "nam": "a" }), 400, "unknown field `nam`"),
        ("/remove", json!({}), 400, "say a name, or a container"),
        ("/lookup", json!({ "name": "a b..c" }), 400, "cannot be a name"),
        ("/lookup", json!({ "name": "a", "from": "nobody" }), 404, "no container 'nobody' runs"),
        ("/other", json!({}), 404, "no such path"),
    ] {
        let (got, answer) = node.call(Method::POST, path, body).await;
        assert!(got == status && answer["message"].as_str().unwrap().contains(words), "{path}: {got} {answer}");
    }
    assert_eq!(node.call(Method::GET, "", Value::Null).await, (200, json!([])));
    let file = folder.path().join("names-0.json");
    std::fs::write(&file, "{\"entr").unwrap();
    let damaged = Given::open(file.clone(), &config(&site, 0), node.mesh.handle.clone()).err().unwrap();
    assert!(damaged.is_format() && std::fs::read_to_string(file).unwrap() == "{\"entr", "{damaged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_answered_by_its_own_links() {
    let (site, folder) = (Site::new(1), tempfile::tempdir().unwrap());
    let node = Node::start(&site, 0, 1, folder.path()).await;
    node.runs("beef", "10.1.1.7", &["db-1.weave.local"]);
    let fact =
        json!({ "container": "f00d", "address": "10.1.1.8", "names": ["web.weave.local"], "links": [["db", "db-1"]] });
    node.mesh.handle.set_fact(&format!("{}f00d", prefix::NAME), Some(encode(&fact)));
    node.answers("web", &["10.1.1.8"]).await;
    for from in ["web", "f00d", "10.1.1.8"] {
        let found = node.post("/lookup", json!({ "name": "db.weave.local", "from": from })).await;
        assert_eq!(found["addresses"], json!(["10.1.1.7"]), "{from}");
    }
    assert_eq!(node.post("/lookup", json!({ "name": "db.weave.local" })).await["code"], "NXDOMAIN");
}
