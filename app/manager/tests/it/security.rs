//! Who may speak to a manager that demands certificates.

use osier_engine::{
    Client,
    server::{Listener, serve},
};
use osier_manager::{Api, Cluster, Tokens};
use osier_pki::{Authority, Identity, Subject};
use osier_scheduler::Policy;
use std::{future::pending, net::SocketAddr, sync::Arc};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;

fn subject(name: &str) -> Subject {
    Subject { name: name.into(), dns: vec![name.into()], addresses: Vec::new() }
}

async fn ping(address: SocketAddr, identity: &Identity) -> bool {
    let client = Client::tls(address, "master", identity.client().unwrap()).unwrap();
    client.call(http::Method::GET, "/_ping", None).await.is_ok()
}

#[tokio::test]
async fn only_certificates_of_the_clusters_ca_are_let_in() {
    let now = OffsetDateTime::now_utc();
    let (ours, other) = (Authority::create("ours", now).unwrap(), Authority::create("other", now).unwrap());
    let identity =
        |ca: &Authority, name| Identity::from_issued(ca.cert_pem(), &ca.issue(&subject(name), now).unwrap()).unwrap();
    let master = identity(&ours, "master");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = Api::new(Cluster::new(Some(master.client().unwrap()), Policy::default()), Arc::new(Tokens::default()));
    let listener = Listener::Tls(listener, master.server().unwrap());
    let server = tokio::spawn(serve(listener, Arc::new(api), pending()));
    assert!(ping(address, &identity(&ours, "client")).await);
    // Signed by another CA, although it trusts ours.
    let foreign = other.issue(&subject("client"), now).unwrap();
    assert!(!ping(address, &Identity::from_issued(ours.cert_pem(), &foreign).unwrap()).await);
    let expired = ours.issue_until(&subject("client"), now, now - Duration::hours(1)).unwrap();
    assert!(!ping(address, &Identity::from_issued(ours.cert_pem(), &expired).unwrap()).await);
    assert!(Client::tcp(address).call(http::Method::GET, "/_ping", None).await.is_err(), "no TLS at all");
    server.abort();
}
