//! One engine: where it is, what is known of it, and calls to it with a deadline each, so that an engine that hangs
//! delays nobody but its own caller.

mod describe;
mod follow;
mod lost;
mod react;
mod sync;
mod view;

pub(crate) use follow::follow;
pub(crate) use view::{Container, Facts, View};

use crate::picture::Marker;
use bytes::Bytes;
use http::Method;
use osier_dockerapi::{path, version};
use osier_engine::{Client, Error as ClientError, Obstacle, plain};
use osier_nodes::{Health, Refresh};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, watch};

/// The largest answer that is read whole: a list of more containers than an engine can run.
const ANSWER: usize = 256 << 20;
/// How long a call may go without an answer before the engine is looked at, and how often then.
const PATIENCE: Duration = Duration::from_secs(2);
const IMPATIENCE: Duration = Duration::from_secs(10);
/// How often an engine is looked at that a call waits for.
const EAGERNESS: Duration = Duration::from_millis(500);

/// Where an engine is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The node's name, where discovery knows it; else the engine's own host name is taken.
    pub name: Option<String>,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What the engine's certificate is for; the host where discovery knows no better.
    pub server_name: String,
}

impl Target {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A call to an engine failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The client's own error.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The engine stopped answering during the call.
    #[error("node {node} was lost during the call: {reason}")]
    Lost {
        /// The node's name.
        node: String,
        /// What is known of it.
        reason: String,
    },
    /// There is no connection yet.
    #[error("there is no connection to the engine yet")]
    NotConnected,
}

impl CallError {
    /// The error with its causes in one line.
    pub(crate) fn chain(&self) -> String {
        if let Self::Client(e) = self { e.chain() } else { self.to_string() }
    }

    /// The same error as one of this node, where it is that the engine stopped answering.
    pub(crate) fn of(self, node: &str) -> Self {
        let lost = |error: &ClientError| match error {
            ClientError::Talk { source, .. } if error.obstacle() != Obstacle::Garbage => Some(plain(source.as_ref())),
            _ => None,
        };
        match &self {
            Self::Client(error) => {
                lost(error).map(|reason| Self::Lost { node: node.to_owned(), reason }).unwrap_or(self)
            }
            _ => self,
        }
    }

    /// An error that leaves it open what the engine did, also where it was lost before it could do anything.
    pub(crate) fn unsettled(self, node: &str) -> Self {
        match self.of(node) {
            lost @ Self::Lost { .. } => lost,
            other => Self::Lost { node: node.to_owned(), reason: other.chain() },
        }
    }

    /// The engine's status code, where it answered.
    pub(crate) fn status(&self) -> Option<http::StatusCode> {
        if let Self::Client(e) = self { e.status() } else { None }
    }

    /// Whether the engine did not answer at all (as opposed to answering with an error).
    pub(crate) fn is_unreachable(&self) -> bool {
        !matches!(self, Self::Client(ClientError::Engine { .. } | ClientError::Request { .. }))
    }
}

/// One engine.
pub(crate) struct Engine {
    pub(crate) target: Target,
    /// Whether its containers' CPU shares are cores that they reserve.
    cpu_shares_as_cpus: bool,
    view: RwLock<View>,
    health: watch::Sender<Health>,
    /// Somebody has reason to believe that the engine's health changed.
    suspicion: Notify,
    /// Discovery no longer lists it.
    leaving: AtomicBool,
    left: AtomicBool,
    /// Says that the view changed.
    marker: Marker,
    /// Held by whoever stops or starts the node's containers for its operator.
    pub(crate) settling: Mutex<()>,
}

impl Engine {
    pub(crate) fn new(target: Target, refresh: Refresh, cpu_shares_as_cpus: bool, marker: Marker) -> Arc<Self> {
        let health = watch::Sender::new(Health::Pending);
        let view = RwLock::new(View::new(refresh, OffsetDateTime::now_utc()));
        let (leaving, left) = (AtomicBool::new(false), AtomicBool::new(false));
        let (suspicion, settling) = (Notify::new(), Mutex::default());
        Arc::new(Self { target, cpu_shares_as_cpus, view, health, suspicion, leaving, left, marker, settling })
    }

    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What no other engine of the cluster has.
    pub(crate) fn key(&self) -> u64 {
        self.marker.key()
    }

    /// Looks at what is known of it, and may note what was seen; that changes nothing.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut View) -> T) -> T {
        look(&mut self.view_mut())
    }

    /// The node's name; empty while nobody knows it.
    pub(crate) fn name(&self) -> String {
        let known = self.view().facts.as_ref().map(|f| f.owner.node.clone());
        known.or_else(|| self.target.name.clone()).unwrap_or_default()
    }

    pub(crate) fn set_leaving(&self, leaving: bool) {
        self.leaving.store(leaving, Ordering::Relaxed);
    }

    /// Whether discovery no longer lists it.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn is_healthy(&self) -> bool {
        *self.health.borrow() == Health::Healthy
    }

    pub(crate) fn facts(&self) -> Option<Arc<Facts>> {
        self.view().facts.clone()
    }

    pub(crate) fn client(&self) -> Result<Client, CallError> {
        self.view().client.clone().ok_or(CallError::NotConnected)
    }

    /// The versions it speaks; the oldest alone while nothing is known.
    pub(crate) fn api(&self) -> version::Range {
        self.facts().map_or(version::Range { min: version::MIN, max: version::MIN }, |f| f.api)
    }

    /// Resolves when the engine is no longer healthy, with the reason.
    pub(crate) async fn lost(&self) -> CallError {
        let mut health = self.health.subscribe();
        // An error would mean that the sender is gone, which `self` owns.
        let _ = health.wait_for(|h| *h != Health::Healthy).await;
        CallError::Lost { node: self.name(), reason: self.view().error() }
    }

    /// Resolves when the engine is healthy and has been read.
    pub(crate) async fn recovered(&self) {
        let mut health = self.health.subscribe();
        // As above.
        let _ = health.wait_for(|h| *h == Health::Healthy).await;
    }

    /// Whether it is healthy, or is so again in a moment, as one whose agent starts anew.
    pub(crate) async fn is_back(&self) -> bool {
        while !self.is_healthy() {
            let patience = {
                let view = self.view();
                view.lost_at.map_or(Duration::ZERO, |at| view.standing.patience(at.elapsed()))
            };
            if patience.is_zero() {
                return false;
            }
            self.suspect();
            // Either way, the loop looks.
            let _ = tokio::time::timeout(patience.min(EAGERNESS), self.recovered()).await;
        }
        true
    }

    /// Awaits a call to a healthy engine for as long as it is healthy, so that one that hangs is not waited for to the
    /// end of the call's own deadline. A quiet engine is looked at rarely; a call that waits has it looked at soon.
    pub(crate) async fn while_healthy<T>(
        &self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            result = call => result.map_err(|e| e.of(&self.name())),
            lost = self.lost() => Err(lost),
            never = self.impatient() => match never {},
        }
    }

    /// Has the engine looked at for as long as a call to it waits.
    async fn impatient(&self) -> Infallible {
        tokio::time::sleep(PATIENCE).await;
        loop {
            self.suspect();
            tokio::time::sleep(IMPATIENCE).await;
        }
    }

    /// Changes what is known of it, and tells those who wait for its health.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = self.view_mut();
        let result = change(&mut view);
        let health = view.standing.health();
        // Under the lock: whoever hears of either looks at the view then, and finds both.
        self.marker.mark();
        self.health.send_if_modified(|h| std::mem::replace(h, health) != health);
        result
    }

    /// Gives the node these labels of its operator's in the place of those it had.
    pub(crate) fn relabel(&self, labels: &BTreeMap<String, String>) {
        self.update(|view| {
            if let Some(facts) = &mut view.facts {
                Arc::make_mut(facts).label(labels);
            }
        });
    }

    /// The engine left the cluster: whoever waits for it need wait no longer.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.update(|view| view.standing.leave());
    }

    /// Whether it left the cluster.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Has the engine's health looked at now: a call to it just failed, or discovery says it changed.
    pub(crate) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Makes one call in the newest version both sides know, and reads its JSON answer.
    pub(crate) async fn get(&self, segments: &[&str], query: &str, deadline: Duration) -> Result<Value, CallError> {
        self.json(Method::GET, segments, query, None, deadline).await
    }

    /// As [`Engine::get`], with any method and body. An empty answer is `null`.
    pub(crate) async fn json(
        &self,
        method: Method,
        segments: &[&str],
        query: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Value, CallError> {
        self.json_as(version::MAX, method, segments, query, body, deadline).await
    }

    /// As [`Engine::json`], in the version nearest to the one that the answer is to have.
    pub(crate) async fn json_as(
        &self,
        version: version::ApiVersion,
        method: Method,
        segments: &[&str],
        query: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Value, CallError> {
        let bytes = self.bytes(version, method, segments, query, body, deadline).await?;
        if bytes.is_empty() { Ok(Value::Null) } else { self.parse(&bytes) }
    }

    /// Reads an answer of this engine.
    fn parse<'a, T: Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<T, CallError> {
        let talk = |e: serde_json::Error| ClientError::Talk { endpoint: self.target.address(), source: e.into() };
        Ok(serde_json::from_slice(bytes).map_err(talk)?)
    }

    async fn bytes(
        &self,
        version: version::ApiVersion,
        method: Method,
        segments: &[&str],
        query: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let client = self.client()?;
        let path = path::upstream(self.api().nearest(version), segments, query);
        let call = async {
            let response = client.call(method, &path, body).await?;
            let talk = |source| ClientError::Talk { endpoint: client.name(), source };
            osier_engine::body::collect(response.into_body(), ANSWER).await.map_err(talk)
        };
        let result = match tokio::time::timeout(deadline, call).await {
            Ok(result) => result.map_err(CallError::Client),
            Err(_) => Err(CallError::Deadline(deadline)),
        };
        if result.as_ref().is_err_and(CallError::is_unreachable) {
            self.suspect();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Changes, Picture};

    #[test]
    fn whoever_hears_of_a_change_finds_all_of_it() {
        let (changes, mut picture): (Arc<Changes>, _) = (Arc::default(), Picture::default());
        let target = Target { name: None, host: "n1".into(), port: 1, server_name: "n1".into() };
        let engine = Engine::new(target, Refresh::default(), false, Marker::new(&changes));
        picture.set_members(std::slice::from_ref(&engine));
        picture.refresh(&changes);
        let health = engine.health.subscribe();
        std::thread::scope(|scope| {
            let before = health.borrow();
            scope.spawn(|| engine.update(|view| view.standing.succeed(Duration::ZERO)));
            while !changes.are_due() {
                std::thread::yield_now();
            }
            // The change is told of and its health cannot be told yet: nobody may see one without the other.
            assert_eq!((*before, engine.view.try_read().is_err()), (Health::Pending, true));
        });
        picture.refresh(&changes);
        assert!(picture.nodes()[0].healthy && engine.is_healthy());
    }
}
