//! The client against a real etcd: keys, leases, watches, a member that goes away, and TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use osier_etcd::{Creation, Etcd};
use osier_pki::{Authority, Identity, Issued, Subject};
use server::Server;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::time::Instant;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn connect(addresses: &[&str], tls: Option<Arc<rustls::ClientConfig>>) -> Arc<Etcd> {
    let etcd = Arc::new(Etcd::new(addresses.iter().map(|a| a.parse().unwrap()).collect(), tls));
    until("etcd answers", async || etcd.list("/").await.is_ok()).await;
    etcd
}

async fn values(etcd: &Etcd, prefix: &str) -> Vec<String> {
    etcd.list(prefix).await.unwrap().entries.into_iter().map(|e| e.value).collect()
}

#[tokio::test]
async fn keys_last_as_long_as_their_lease() {
    let server = Server::start();
    let etcd = connect(&[&server.address], None).await;
    let long = etcd.grant(LONG).await.unwrap();
    etcd.put("/d/b", "two", long).await.unwrap();
    etcd.put("/e", "elsewhere", long).await.unwrap();
    // Long enough for two calls while the disk has much to do.
    let short = etcd.grant(Duration::from_secs(5)).await.unwrap();
    etcd.put("/d/a", "one", short).await.unwrap();
    assert_eq!(values(&etcd, "/d/").await, ["one", "two"]);
    until("the short lease ends", async || values(&etcd, "/d/").await == ["two"]).await;
    assert!(!etcd.keep_alive(short).await.unwrap() && etcd.keep_alive(long).await.unwrap());
    etcd.revoke(long).await.unwrap();
    assert!(values(&etcd, "/").await.is_empty());
    assert!(etcd.revoke(long).await.is_err(), "it is gone");
}

#[tokio::test]
async fn only_one_creates_a_key() {
    let server = Server::start();
    let etcd = connect(&[&server.address], None).await;
    let (one, two) = (etcd.grant(LONG).await.unwrap(), etcd.grant(LONG).await.unwrap());
    assert_eq!(etcd.create("/leader", "one", one).await.unwrap(), Creation::Created);
    let Creation::Held(held) = etcd.create("/leader", "two", two).await.unwrap() else { panic!("there are two") };
    assert_eq!(held.entries[0].value, "one");
    assert!(held.entries[0].is_under(one) && !held.entries[0].is_under(two));
    etcd.revoke(one).await.unwrap();
    etcd.changed("/leader", held.revision).await.unwrap();
    assert_eq!(etcd.create("/leader", "two", two).await.unwrap(), Creation::Created);
    assert_eq!(etcd.get("/leader").await.unwrap().entries[0].value, "two");
}

#[tokio::test]
async fn changes_are_seen_also_those_of_the_past_and_a_lost_watch_is_an_error() {
    let mut server = Server::start();
    let etcd = connect(&[&server.address], None).await;
    let lease = etcd.grant(LONG).await.unwrap();
    let before = etcd.list("/d/").await.unwrap().revision;
    etcd.put("/other", "x", lease).await.unwrap();
    etcd.put("/d/a", "x", lease).await.unwrap();
    tokio::time::timeout(PATIENCE, etcd.changed("/d/", before)).await.unwrap().unwrap();
    let now = etcd.list("/d/").await.unwrap().revision;
    let watching = tokio::spawn({
        let etcd = etcd.clone();
        async move { etcd.changed("/d/", now).await }
    });
    let idle = tokio::time::timeout(Duration::from_millis(300), etcd.changed("/d/", now)).await;
    assert!(idle.is_err(), "nothing has changed");
    server.stop();
    assert!(tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap().is_err());
    assert!(etcd.list("/d/").await.is_err());
    server.restart();
    until("etcd is back", async || etcd.list("/d/").await.is_ok()).await;
    assert_eq!(values(&etcd, "/d/").await, ["x"], "what it had");
}

#[tokio::test]
async fn members_that_do_not_answer_are_passed_over() {
    let server = Server::start();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let etcd = connect(&[&nobody, "nobody.invalid:1", &server.address], None).await;
    let lease = etcd.grant(LONG).await.unwrap();
    etcd.put("/a", "1", lease).await.unwrap();
    assert_eq!(values(&etcd, "/").await, ["1"]);
}

#[tokio::test]
async fn etcd_is_spoken_to_over_mutual_tls() {
    let now = OffsetDateTime::now_utc();
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::create("etcd", now).unwrap();
    let issue = |name: &str| {
        let addresses = vec![[127, 0, 0, 1].into()];
        ca.issue(&Subject { name: name.into(), dns: Vec::new(), addresses }, now).unwrap()
    };
    let Issued { cert_pem, key_pem } = issue("etcd");
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (cert, key, trusted) = (file("cert", &cert_pem), file("key", &key_pem), file("ca", ca.cert_pem()));
    let mut arguments: Vec<String> = vec!["--client-cert-auth".into()];
    arguments.extend(["--cert-file".into(), cert, "--key-file".into(), key, "--trusted-ca-file".into(), trusted]);
    let server = Server::start_with("https", arguments);
    let client = Identity::from_issued(ca.cert_pem(), &issue("client")).unwrap().client().unwrap();
    let etcd = connect(&[&server.address], Some(client)).await;
    let lease = etcd.grant(LONG).await.unwrap();
    etcd.put("/a", "1", lease).await.unwrap();
    let stranger = Authority::create("other", now).unwrap();
    let stranger = Identity::from_issued(ca.cert_pem(), &stranger.issue(&Subject::default(), now).unwrap()).unwrap();
    let refused = Etcd::new(vec![server.address.parse().unwrap()], Some(stranger.client().unwrap()));
    assert!(refused.list("/").await.is_err() && Etcd::new(Vec::new(), None).list("/").await.is_err());
}
