//! Who does not belong gets nowhere, and harms nobody.

use crate::site::{Site, eventually, identity, issue, peer};
use osier_gossip::Error;
use osier_pki::{Authority, Identity};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};
use tokio_rustls::TlsConnector;

/// Dials a node as whoever `identity` is; what the node says before it hangs up, or the error.
async fn dial(address: SocketAddr, node: &str, identity: &Identity) -> std::io::Result<Vec<u8>> {
    let connector = TlsConnector::from(identity.client().unwrap());
    let stream = TcpStream::connect(address).await?;
    let mut tls = connector.connect(ServerName::try_from(node.to_owned()).unwrap(), stream).await?;
    let mut said = Vec::new();
    tls.read_to_end(&mut said).await?;
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_not_heard() {
    let site = Site::new(3);
    let all = [site.start(0, 1).await, site.start(1, 1).await];
    let wrong = site.start_as(2, 1, site.identity("n2"), [8; 32]).await;
    eventually("the two meet and refuse the third", || {
        all.iter().all(|a| a.alive() == 2 && a.handle.traffic().datagrams_refused > 0)
    })
    .await;
    assert_eq!(wrong.alive(), 1, "it hears nobody either");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_others_are_refused() {
    let site = Site::new(3);
    let node = site.start(0, 1).await;
    let address = site.address(0);
    let other_ca = Authority::create("other", OffsetDateTime::now_utc()).unwrap();
    assert!(dial(address, "n0", &identity(&other_ca, "n1")).await.is_err(), "another CA");
    assert_eq!(dial(address, "n0", &site.identity("operator")).await.unwrap_or_default(), b"", "a client");
    assert_eq!(dial(address, "n0", &site.identity("n0")).await.unwrap_or_default(), b"", "itself");
    let impostor = site.start_as(1, 1, site.identity("n2"), site.key).await;
    let of_other_ca = site.start_as(2, 1, identity(&other_ca, "n2"), site.key).await;
    eventually("both are heard of by gossip, whose key they have", || node.alive() == 3).await;
    eventually("neither is connected, and it is said why", || {
        let links = node.handle.links();
        let error = |n| links.iter().find(|link| link.peer == peer(n)).and_then(|link| link.error.clone());
        error(1).is_some_and(|e| e.contains("not valid for name"))
            && error(2).is_some_and(|e| e.contains("UnknownIssuer"))
    })
    .await;
    assert!(node.connected(0) && impostor.connected(0) && of_other_ca.connected(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_knows_nobody_any_more_hears_and_asks_those_who_know_it() {
    let site = Site::new(4);
    let [there, removed] = [site.start(1, 1).await, site.start(3, 1).await];
    let mut old = Site::new(1);
    (old.members, old.port, old.key) = (site.members[..1].to_vec(), site.port, site.key);
    old.removed.insert(peer(3));
    let node = old.start_as(0, 1, site.identity("n0"), site.key).await;
    let other_ca = issue(&Authority::create("other", OffsetDateTime::now_utc()).unwrap(), &site.members[2]);
    let of_other_ca = site.start_as(2, 1, other_ca, site.key).await;
    eventually("it hears all who have the key and were not removed", || {
        node.handle.strangers() == [peer(1), peer(2)] && node.handle.traffic().datagrams_refused > 0
    })
    .await;
    assert!(node.handle.catching_up(|_| false) > node.handle.alone_in(), "it waits for what they tell");
    let answer = node.handle.ask_stranger(peer(1), vec![1, 2, 3]).await.unwrap();
    assert_eq!(answer, [&peer(0).0[..], &[3, 2, 1]].concat());
    let error = node.handle.ask_stranger(peer(2), vec![1]).await.unwrap_err();
    assert!(matches!(&error, Error::Stranger { reason, .. } if reason.contains("TLS handshake")), "{error}");
    assert!(node.handle.ask_stranger(peer(3), vec![1]).await.is_err(), "a removed node is asked nothing");
    [peer(1), peer(2)].into_iter().for_each(|peer| node.handle.note_asked(peer));
    eventually("it has caught up", || node.handle.catching_up(|_| false).is_none()).await;
    assert!(node.handle.strangers().is_empty());
    eventually("the others go on", || [&there, &removed, &of_other_ca].iter().all(|other| other.alive() == 3)).await;
    assert_eq!(node.alive(), 1, "they are no members to it yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_cannot_speak_for_another() {
    let site = Site::new(3);
    let node = site.start(2, 1).await;
    // Node 0's certificate is right for node 0, which is to dial node 2; here it greets as node 1.
    let mut lie = Site::new(3);
    (lie.members, lie.port, lie.key) = (site.members.clone(), site.port, site.key);
    lie.members.swap(0, 1);
    lie.members[0].address = site.members[0].address;
    let liar = lie.start_as(0, 1, site.identity("n0"), site.key).await;
    eventually("the lie is found out", || {
        liar.handle.links().iter().any(|l| l.peer == peer(2) && l.error.as_deref().is_some_and(|e| !e.is_empty()))
    })
    .await;
    assert!(node.connected(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_both_ports_changes_nothing() {
    let site = Site::new(2);
    let all = site.start_all().await;
    let socket = UdpSocket::bind((site.members[0].address, 0)).await.unwrap();
    for length in 0..200 {
        let noise: Vec<u8> = (0..length * 7).map(|_| rand::random()).collect();
        socket.send_to(&noise, site.address(1)).await.unwrap();
        if length % 20 == 0 {
            let mut stream = TcpStream::connect(site.address(1)).await.unwrap();
            // The node may hang up in the middle.
            let _ = stream.write_all(&noise).await;
        }
    }
    eventually("noise is counted", || all[1].handle.traffic().datagrams_refused >= 100).await;
    let stream = TcpStream::connect(site.address(1)).await.unwrap();
    let connector = TlsConnector::from(site.identity("n0").client().unwrap());
    let mut tls = connector.connect(ServerName::try_from("n1").unwrap(), stream).await.unwrap();
    let noise: Vec<u8> = (0..5000).map(|_| rand::random::<u8>() | 0x80).collect();
    let _ = tls.write_all(&noise).await;
    all[0].handle.set_fact("still", Some(b"here".to_vec()));
    eventually("facts still flow", || all[1].fact(0, "still").is_some()).await;
    assert!(all.iter().all(|a| a.alive() == 2 && a.connected(1)));
    assert_eq!(all[0].handle.request(peer(1), vec![1]).await.unwrap().len(), 7);
}
