//! What members of a cluster do for each other.

use crate::site::{Site, eventually, peer};
use osier_gossip::Error;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn facts_reach_everybody_in_milliseconds_and_vanish_when_taken_back() {
    let site = Site::new(3);
    let all = site.start_all().await;
    let mut times = Vec::new();
    for n in 0..60 {
        let (origin, value) = (n % 3, n.to_string().into_bytes());
        all[origin].handle.set_fact("name/a", Some(value.clone()));
        times.push(
            eventually("the fact is everywhere", || {
                all.iter().all(|a| a.fact(origin, "name/a").as_ref() == Some(&value))
            })
            .await,
        );
    }
    times.sort();
    note(&format!("fact on 3 nodes: median {:?}, worst {:?}", times[30], times[59]));
    assert!(times[30] < Duration::from_millis(200), "{:?}", times[30]);
    all[0].handle.set_fact("name/a", None);
    eventually("it is gone", || all.iter().all(|a| a.fact(0, "name/a").is_none())).await;
    assert_eq!(all[0].handle.own_keys("name/"), [""; 0]);
    assert_eq!(all[1].handle.own_keys("name/"), ["name/a"]);
    let large = vec![3; 60_000];
    all[2].handle.set_fact("large", Some(large.clone()));
    eventually("a fact too large for a datagram arrives", || {
        all.iter().all(|a| a.fact(2, "large").as_ref() == Some(&large))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_noticed_and_comes_back_with_new_facts() {
    let site = Site::new(3);
    let mut all = site.start_all().await;
    all[2].handle.set_fact("old", Some(b"1".to_vec()));
    all[2].handle.set_fact("node", Some(b"1".to_vec()));
    eventually("its facts are known", || {
        all[..2].iter().all(|a| a.fact(2, "node").is_some() && a.fact(2, "old").is_some())
    })
    .await;
    drop(all.pop());
    eventually("its connections are gone", || all.iter().all(|a| a.connected(1))).await;
    assert!(all[0].handle.snapshot().alive(peer(2)), "a lost connection alone is no death");
    let death = eventually("it counts as dead", || all.iter().all(|a| a.alive() == 2)).await;
    assert_eq!(all[0].fact(2, "node"), Some(b"1".to_vec()), "facts of the dead are kept");
    let link = all[0].handle.links().into_iter().find(|link| link.peer == peer(2)).unwrap();
    assert!(link.outbound && !link.established && link.error.is_some(), "{link:?}");

    let again = site.start(2, 2).await;
    again.handle.set_fact("node", Some(b"2".to_vec()));
    let back = eventually("it is alive again", || all.iter().all(|a| a.alive() == 3) && again.alive() == 3).await;
    eventually("its new fact is known", || all.iter().all(|a| a.fact(2, "node") == Some(b"2".to_vec()))).await;
    eventually("it is connected", || again.connected(2) && all.iter().all(|a| a.connected(2))).await;
    assert!(all.iter().all(|a| a.fact(2, "old").is_some()), "it has not said yet that this is all");
    again.handle.settle();
    eventually("its old fact is gone", || all.iter().all(|a| a.fact(2, "old").is_none())).await;
    eventually("it has compared notes with both", || (0..2).all(|n| again.handle.snapshot().synced(peer(n)))).await;
    note(&format!("death noticed after {death:?}, back after {back:?}"));
    assert!(back < Duration::from_secs(3), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_ask_each_other_whoever_dialled() {
    let site = Site::new(2);
    let all = site.start_all().await;
    for (asker, asked) in [(0, 1), (1, 0)] {
        let question = vec![asker as u8, 1, 2, 3];
        let answer = all[asker].handle.request(peer(asked), question).await.unwrap();
        assert_eq!(answer, [&peer(asker).0[..], &[3, 2, 1, asker as u8]].concat());
    }
    let large = vec![9; 1 << 20];
    let ask = || {
        let (handle, large) = (all[0].handle.clone(), large.clone());
        tokio::spawn(async move { handle.request(peer(1), large).await.unwrap().len() })
    };
    let tasks: Vec<_> = (0..32).map(|_| ask()).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), large.len() + 6);
    }
    let handle = &all[0].handle;
    assert!(matches!(handle.request(peer(1), vec![0; (1 << 20) + 1]).await, Err(Error::TooLong(..))));
    assert!(matches!(handle.request(peer(0), vec![]).await, Err(Error::NotAMember(_))), "itself");
    assert!(matches!(handle.request(peer(9), vec![]).await, Err(Error::NotAMember(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_member_is_an_error_and_slows_nobody() {
    let site = Site::new(3);
    let all = [site.start(0, 1).await, site.start(1, 1).await];
    eventually("the two others meet", || all.iter().all(|a| a.alive() == 2 && a.connected(1))).await;
    let error = all[0].handle.request(peer(2), vec![]).await.unwrap_err();
    assert!(matches!(&error, Error::NotConnected { reason: Some(_), .. }), "{error}");
    assert!(error.to_string().starts_with("ask n2: there is no connection (cannot connect: "), "{error}");
    all[0].handle.set_fact("k", Some(vec![1]));
    let time = eventually("facts flow", || all[1].fact(0, "k").is_some()).await;
    assert!(time < Duration::from_millis(500), "{time:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_gone_at_once() {
    let site = Site::new(3);
    let all = site.start_all().await;
    all[2].handle.leave();
    let time = eventually("it counts as dead", || all[..2].iter().all(|a| a.alive() == 2)).await;
    assert!(time < Duration::from_secs(3), "{time:?}");
}

/// Shows what an idle cluster costs; run it with `--run-ignored only --success-output final`.
#[ignore = "takes half a minute and only measures"]
#[tokio::test(flavor = "multi_thread")]
async fn idle_traffic() {
    let site = Site::new(3);
    let all = site.start_all().await;
    for node in &all {
        node.handle.set_fact("node", Some(vec![1; 100]));
        node.handle.settle();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = all[0].handle.traffic();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let after = all[0].handle.traffic();
    note(&format!(
        "idle, per node and second: {:.1} datagrams of {:.0} B in all, {:.1} frames of {:.0} B in all",
        (after.datagrams_sent - before.datagrams_sent) as f64 / 30.0,
        (after.datagram_bytes_sent - before.datagram_bytes_sent) as f64 / 30.0,
        (after.frames_sent - before.frames_sent) as f64 / 30.0,
        (after.frame_bytes_sent - before.frame_bytes_sent) as f64 / 30.0,
    ));
}

#[expect(clippy::print_stdout, reason = "the test runner shows it on request")]
fn note(what: &str) {
    println!("{what}");
}
