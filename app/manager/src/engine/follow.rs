//! Following one engine for as long as it belongs to the cluster: connect, read everything, listen to its events, look
//! after it regularly, and start over when anything fails. Nothing depends on an event having been seen: every new
//! connection reads all of it again, and regular lists find what events did not tell.
//!
//! A quiet engine costs a probe every quarter minute. A host that vanishes is found out by the kernel's keepalive on the
//! event stream, an engine that hangs by the first call that waits for it ([`Engine::suspect`]).

use super::{
    CallError, Engine, Facts,
    describe::HELLO,
    lost::Lost,
    react::{Reader, Reads},
};
use crate::{hub::Hub, nodes::settle, stream::JsonStream};
use http::Method;
use osier_dockerapi::{event, version};
use osier_engine::Client;
use osier_nodes::{Arrival, Identity, Past, Reason, Turn};
use rand::RngExt;
use serde_json::Value;
use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tracing::{debug, info, warn};

/// How often a quiet engine is probed, give or take a third.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// How often an engine's description, images and networks are read without an event.
const DESCRIBE_EVERY: Duration = Duration::from_secs(300);
/// The shortest wait when somebody says that the engine is back.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Follows the engine for ever. Dropping the future ends it.
pub(crate) async fn follow(engine: Arc<Engine>, hub: Arc<Hub>) {
    let mut follower = Follower { engine, hub, past: Past::default(), began: Instant::now(), good_since: None };
    loop {
        let mut freed = follower.hub.freed();
        let Err(lost) = follower.session().await;
        let (pause, reason) = follower.failed(&lost);
        let duplicate = matches!(reason, Reason::DuplicateId | Reason::DuplicateName);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = follower.engine.suspicion.notified() => tokio::time::sleep(pause.min(AT_ONCE)).await,
            _ = freed.changed(), if duplicate => {}
        }
    }
}

struct Follower {
    engine: Arc<Engine>,
    hub: Arc<Hub>,
    past: Past,
    /// The beginning of our own steady clock.
    began: Instant,
    /// Since when the present connection is good, if it is.
    good_since: Option<Instant>,
}

fn luck() -> f64 {
    rand::rng().random_range(0.0..1.0)
}

impl Follower {
    fn failed(&mut self, lost: &Lost) -> (Duration, Reason) {
        let trouble = lost.trouble();
        let (reason, text) = (trouble.reason, trouble.text.clone());
        let held = self.good_since.take().map(|since| since.elapsed());
        let (turn, pause, failures) = self.engine.update(|view| {
            let (turn, pause) = view.standing.fail(trouble, held, luck());
            view.retry_at = Some(OffsetDateTime::now_utc() + pause);
            if turn == Some(Turn::Lost) {
                view.lost_at = Some(Instant::now());
            }
            (turn, pause, view.standing.failures())
        });
        let (node, address) = (self.engine.name(), self.engine.target.address());
        debug!(node, engine = address, failures, ?pause, %reason, error = text, "lost an engine");
        self.tell(turn, &text);
        (pause, reason)
    }

    fn succeeded(&mut self) {
        let since = *self.good_since.get_or_insert_with(Instant::now);
        let turn = self.engine.update(|view| {
            view.updated = OffsetDateTime::now_utc();
            view.retry_at = None;
            view.standing.succeed(since.elapsed())
        });
        self.tell(turn, "");
    }

    fn tell(&self, turn: Option<Turn>, error: &str) {
        let (node, address) = (self.engine.name(), self.engine.target.address());
        let action = match turn {
            None => return,
            Some(Turn::Lost) => {
                warn!(node, engine = address, error, "an engine is unhealthy");
                "engine_disconnect"
            }
            Some(Turn::Connected | Turn::Reconnected) => {
                info!(node, engine = address, "an engine is healthy");
                if turn == Some(Turn::Connected) { "engine_connect" } else { "engine_reconnect" }
            }
        };
        self.hub.announce(&self.engine, action);
    }

    async fn session(&mut self) -> Result<Infallible, Lost> {
        let engine = self.engine.clone();
        let address = self.connect().await?;
        engine.probe().await.map_err(Lost::call("reach the engine"))?;
        self.accept(address).await?;
        // Open the events before reading the lists, so that no change falls between the two.
        let mut events = self.open_events().await.map_err(Lost::call("open the engine's events"))?;
        let turn = self.hub.turn().await;
        engine.sync_networks().await.map_err(Lost::call("list the engine's networks"))?;
        engine.sync_images().await.map_err(Lost::call("list the engine's images"))?;
        engine.sync_containers(true).await.map_err(Lost::call("list the engine's containers"))?;
        // An engine whose volume drivers hang is good for everything else.
        if let Err(error) = engine.sync_volumes().await {
            debug!(node = engine.name(), error = error.chain(), "cannot list the engine's volumes");
        }
        drop(turn);
        self.succeeded();

        let reader = Reader::new(engine.clone());
        let mut reads = Reads::new();
        let (settled, hub) = (engine.clone(), self.hub.clone());
        reads.spawn(async move {
            settle(settled, hub).await;
            Ok(())
        });
        let now = Instant::now();
        let mut probe_at = now + self.probe_in();
        let mut list_at = now + self.list_in();
        let mut describe_at = now + DESCRIBE_EVERY.mul_f64(0.5 + luck() / 2.0);
        loop {
            tokio::select! {
                event = events.next() => {
                    let event = event.map_err(Lost::Events)?.ok_or(Lost::EventsEnded)?;
                    if event["Type"] == "daemon" && event["Action"] == "reload" {
                        describe_at = Instant::now();
                    }
                    self.take(event, &reader, &mut reads);
                }
                () = tokio::time::sleep_until(probe_at.into()) => {
                    self.check(address).await?;
                    probe_at = Instant::now() + self.probe_in();
                }
                () = engine.suspicion.notified() => self.check(address).await?,
                () = tokio::time::sleep_until(list_at.into()) => {
                    list_at = Instant::now() + self.list_in();
                    let engine = engine.clone();
                    reads.spawn(async move { engine.sync_containers(false).await });
                }
                () = tokio::time::sleep_until(describe_at.into()) => {
                    describe_at = Instant::now() + DESCRIBE_EVERY;
                    self.accept(address).await?;
                    let engine = engine.clone();
                    reads.spawn(async move {
                        // Of volumes, a failure says that a driver hangs, not that the engine does.
                        let (rest, _) = tokio::join!(
                            async { tokio::try_join!(engine.sync_networks(), engine.sync_images()) },
                            engine.sync_volumes()
                        );
                        rest.map(drop)
                    });
                }
                Some(read) = reads.join_next() => match read {
                    Ok(Ok(())) => {}
                    // Slow is not broken, and an engine that says what went wrong answers.
                    Ok(Err(error)) if matches!(error, CallError::Deadline(_)) || !error.is_unreachable() => {
                        debug!(node = engine.name(), error = error.chain(), "cannot list what an engine has");
                    }
                    Ok(Err(error)) => return Err(Lost::call("list what the engine has")(error)),
                    Err(error) => debug!(node = engine.name(), %error, "a reader ended early"),
                }
            }
        }
    }

    fn probe_in(&self) -> Duration {
        PROBE_EVERY.mul_f64(2.0 / 3.0 + luck() * 2.0 / 3.0)
    }

    fn list_in(&self) -> Duration {
        self.engine.view().standing.until_list(luck())
    }

    async fn connect(&self) -> Result<SocketAddr, Lost> {
        let target = &self.engine.target;
        let lost = |source| Lost::Resolve { host: target.host.clone(), source };
        let resolved = tokio::time::timeout(HELLO, osier_engine::resolve(&target.host, target.port)).await;
        let late = |_| lost(format!("no answer within {} s", HELLO.as_secs()).into());
        let address = resolved.map_err(late)?.map_err(lost)?;
        let client = match &self.hub.tls {
            Some(config) => Client::tls(address, &target.server_name, config.clone())
                .map_err(CallError::Client)
                .map_err(Lost::call("connect to the engine"))?,
            None => Client::tcp(address),
        };
        self.engine.update(|view| view.client = Some(client));
        Ok(address)
    }

    async fn check(&mut self, address: SocketAddr) -> Result<(), Lost> {
        let asked = OffsetDateTime::now_utc();
        let date = self.engine.probe().await.map_err(Lost::call("reach the engine"))?;
        let answered = OffsetDateTime::now_utc();
        let clock = self.engine.facts().map(|f| f.clock).unwrap_or_default();
        if date.is_some_and(|date| clock.stepped(asked, answered, date)) {
            info!(node = self.engine.name(), "an engine's clock was set");
            self.accept(address).await?;
        }
        self.succeeded();
        Ok(())
    }

    /// Asks the engine what it is, and takes it as that.
    async fn accept(&mut self, address: SocketAddr) -> Result<(), Lost> {
        let mut facts = self.engine.describe(address).await?;
        let identity = Identity { id: facts.node.id.clone(), host: facts.host.clone(), name: facts.owner.node.clone() };
        let here = self.engine.target.address();
        let former = self.hub.claim(&self.engine, identity).map_err(|conflict| Lost::Verdict(conflict.into()))?;
        facts.label(&self.hub.state.read().node(&facts.owner.node).labels);
        if let Some(former) = former.filter(|f| f.id != facts.node.id) {
            let lost = Lost::Replaced { before: former.id, now: facts.node.id.clone() };
            let error = lost.trouble().text;
            warn!(node = facts.owner.node, engine = here, error, "an engine's place was taken");
            self.hub.announce(&self.engine, "engine_disconnect");
            self.past = Past::default();
            self.engine.update(|view| view.empty());
            return Err(lost);
        }
        let before = self.engine.facts();
        if before.as_ref().is_none_or(|before| before.clock.skew != facts.clock.skew)
            && let Some(warning) = facts.clock.warning()
        {
            warn!(node = facts.owner.node, engine = here, warning, "an engine's clock differs");
        }
        // Which networks are the cluster's is read with them.
        facts.owner.cluster_networks = before.map(|b| b.owner.cluster_networks.clone()).unwrap_or_default();
        self.engine.update(|view| view.facts = Some(Arc::new(facts)));
        Ok(())
    }

    /// Opens the event stream, from the last event seen on, so that subscribers miss nothing while the engine was away.
    async fn open_events(&mut self) -> Result<JsonStream, CallError> {
        let facts: Arc<Facts> = self.engine.facts().ok_or(CallError::NotConnected)?;
        let engine_now = facts.clock.engine_time(OffsetDateTime::now_utc()).unix_timestamp_nanos();
        let since = match self.past.resume(engine_now, self.began.elapsed()) {
            None => String::new(),
            Some(nanos) => format!("?since={}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000),
        };
        let path = format!("/v{}/events{since}", facts.api.nearest(version::MAX));
        let client = self.engine.client()?;
        let open = client.call(Method::GET, &path, None);
        let response = tokio::time::timeout(HELLO, open).await.map_err(|_| CallError::Deadline(HELLO))??;
        Ok(JsonStream::new(response.into_body()))
    }

    fn take(&mut self, event: Value, reader: &Reader, reads: &mut Reads) {
        let mut hasher = DefaultHasher::new();
        (event["Type"].as_str(), event["Action"].as_str(), event["Actor"]["ID"].as_str()).hash(&mut hasher);
        match self.past.take(event::time_nanos(&event), hasher.finish(), self.began.elapsed()) {
            Arrival::Known => return,
            Arrival::New => {}
            Arrival::NewAfterGap => {
                info!(node = self.engine.name(), "an engine no longer knows its last event; others may be lost");
                self.hub.announce(&self.engine, "engine_gap");
            }
        }
        reader.react(&event, reads);
        self.hub.publish(&self.engine, event);
    }
}
