//! Keeping the cluster's members what discovery says, except that an engine that still answers is not dropped at once.

use super::{Backend, mesh, target};
use crate::{cluster::Cluster, engine::Target, tokens::Tokens};
use osier_discovery::{Standing, reconcile};
use osier_engine::Client;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// How often the agent is asked for the mesh's members.
const MESH_EVERY: Duration = Duration::from_secs(2);
/// How long a member that the mesh no longer has stays while it answers: several answers, should one be wrong.
const MESH_GRACE: Duration = Duration::from_secs(10);
/// The first pause after a failure; it doubles up to the heartbeat.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether those who are leaving still answer.
const LOOK: Duration = Duration::from_secs(1);

/// Those who belong, on a clock that begins here.
struct Members<'a> {
    cluster: &'a Cluster,
    start: Instant,
    grace: Duration,
    listed: BTreeSet<Target>,
    standing: BTreeMap<Target, Standing>,
}

impl<'a> Members<'a> {
    fn new(cluster: &'a Cluster, grace: Duration) -> Self {
        Self { cluster, start: Instant::now(), grace, listed: BTreeSet::new(), standing: BTreeMap::new() }
    }

    fn list(&mut self, listed: BTreeSet<Target>) {
        self.listed = listed;
        self.settle();
    }

    /// Lets go of those whose time is up.
    fn settle(&mut self) {
        let answering = self.cluster.answering();
        let answers = |target: &Target| answering.contains(target);
        let after = reconcile(&self.standing, &self.listed, answers, self.start.elapsed(), self.grace);
        for (member, standing) in &self.standing {
            match (standing, after.get(member)) {
                (Standing::Listed, Some(Standing::Leaving { .. })) => {
                    warn!(engine = member.address(), grace = ?self.grace, "discovery no longer lists an engine that answers");
                }
                (_, None) => info!(engine = member.address(), "an engine left the cluster"),
                _ => {}
            }
        }
        self.cluster.set_members(after.keys().cloned().collect());
        let leaving = after.iter().filter(|(_, standing)| **standing != Standing::Listed);
        self.cluster.set_leaving(&leaving.map(|(member, _)| member.clone()).collect());
        self.standing = after;
    }

    fn is_anybody_leaving(&self) -> bool {
        self.standing.values().any(|standing| *standing != Standing::Listed)
    }
}

/// Follows a discovery service for ever. A failure keeps the last list.
pub(crate) async fn follow(backend: Backend, cluster: Arc<Cluster>, heartbeat: Duration) {
    let mut members = Members::new(&cluster, heartbeat.saturating_mul(3));
    let mut failures = 0_u32;
    loop {
        let failed = match backend.list().await {
            Ok(entries) => {
                members.list(entries.iter().map(target).collect());
                waiting(&mut members, backend.changed(heartbeat)).await.err().map(|e| ("Unexpected watch error", e))
            }
            Err(error) => Some(("discovery failed, keeping the last list", error)),
        };
        failures = match failed {
            None => 0,
            Some((what, error)) => {
                warn!(%error, "{what}");
                let pause = RETRY.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(heartbeat);
                waiting(&mut members, tokio::time::sleep(pause)).await;
                failures.saturating_add(1)
            }
        };
    }
}

/// Awaits something, and lets go meanwhile of those whose time is up.
async fn waiting<T>(members: &mut Members<'_>, until: impl Future<Output = T>) -> T {
    tokio::pin!(until);
    loop {
        tokio::select! {
            result = &mut until => return result,
            () = tokio::time::sleep(LOOK), if members.is_anybody_leaving() => members.settle(),
        }
    }
}

/// Keeps the cluster's members what the mesh says. While the agent is away, the last list stays.
pub(crate) async fn follow_mesh(agent: Client, cluster: Arc<Cluster>, tokens: Arc<Tokens>) {
    let mut members = Members::new(&cluster, MESH_GRACE);
    let mut alive = BTreeMap::new();
    let mut failing = false;
    loop {
        match mesh::members(&agent).await {
            Ok(mesh) => {
                let entry = |t: &Target| Some(format!("{}:{}", t.name.as_ref()?, t.port));
                tokens.set_members(mesh.targets.iter().filter_map(entry).collect());
                members.list(mesh.targets);
                let changed = mesh.alive.iter().filter(|(name, now)| alive.get(*name) != Some(*now));
                changed.for_each(|(name, _)| cluster.suspect(name));
                alive = mesh.alive;
                failing = false;
            }
            Err(error) if !failing => {
                warn!(%error, "cannot learn the members, keeping the last list");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(MESH_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response, StatusCode};
    use osier_engine::{
        Body, Hijacker, json_response,
        server::{Handler, Listener, serve},
    };
    use osier_model::Token;
    use osier_scheduler::Policy;
    use serde_json::{Value, json};
    use std::{future::pending, sync::Mutex};
    use tokio::net::UnixListener;

    struct Agent(Arc<Mutex<Value>>);

    impl Handler for Agent {
        async fn handle(&self, request: Request<Body>, _: Hijacker) -> Response<Body> {
            assert_eq!(request.uri().path(), "/v1/members");
            json_response(StatusCode::OK, &*self.0.lock().unwrap())
        }
    }

    #[tokio::test]
    async fn the_members_are_the_meshs_and_stay_while_the_agent_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let token: Token = "a".repeat(32).parse().unwrap();
        let (cluster, tokens) = (Cluster::new(None, Policy::default()), Arc::new(Tokens::new(Some(token.clone()))));
        // The manager may start before the agent.
        let following = tokio::spawn(follow_mesh(Client::unix(&socket), cluster.clone(), tokens.clone()));
        let member = |name: &str| json!({"name": name, "address": "127.0.0.1", "port": 12376, "alive": true});
        let members = Arc::new(Mutex::new(json!([member("master"), member("node-1")])));
        let listener = Listener::Unix(UnixListener::bind(&socket).unwrap());
        let agent = tokio::spawn(serve(listener, Arc::new(Agent(members.clone())), pending()));
        let until = async |names: &[&str]| {
            let wanted: BTreeSet<String> = names.iter().map(|n| format!("{n}:12376")).collect();
            let start = Instant::now();
            while tokens.list(&token, start) != wanted || cluster.engines().len() != names.len() {
                assert!(start.elapsed() < Duration::from_secs(15), "{names:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        until(&["master", "node-1"]).await;
        let target = cluster.engines()[0].target.clone();
        assert_eq!((target.server_name.as_str(), target.port), ("master", 12376));
        // An agent that knows nobody yet, and then one that is gone, change nothing; the next list does.
        *members.lock().unwrap() = json!([]);
        assert!(mesh::members(&Client::unix(&socket)).await.is_err());
        until(&["master", "node-1"]).await;
        *members.lock().unwrap() = json!([member("master")]);
        until(&["master"]).await;
        agent.abort();
        following.abort();
    }
}
