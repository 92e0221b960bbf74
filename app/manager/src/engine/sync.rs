//! Reading one engine's containers, images and networks into its view.

use super::{CallError, Container, Engine, Facts, view::Listing};
use futures::{StreamExt, stream};
use http::Method;
use osier_dockerapi::{
    network,
    placement::{self, Binding},
    query::Query,
    row::Row,
    state::RunState,
    version::MAX,
    volume,
};
use osier_scheduler::Load;
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::debug;

/// How long one question about one object may take.
const ONE: Duration = Duration::from_secs(10);
/// How long a list may take.
const LIST: Duration = Duration::from_secs(30);
/// How long the list of volumes may take, for which engines ask their volume drivers.
const VOLUMES: Duration = Duration::from_secs(5);
/// Inspect calls to one engine at a time; each is a connection, whose buffers add up over a thousand engines.
const PARALLEL: usize = 3;

impl Engine {
    /// Reads all containers. Those whose state did not change since they were last inspected are not inspected again,
    /// unless `thorough`.
    pub(super) async fn sync_containers(&self, thorough: bool) -> Result<(), CallError> {
        let asked = Instant::now();
        let bytes = self.bytes(MAX, Method::GET, &["containers", "json"], "all=1", None, LIST).await?;
        let rows: Vec<&RawValue> = self.parse(&bytes)?;
        let facts = self.facts().ok_or(CallError::NotConnected)?;
        let known: HashMap<u64, Arc<Container>> =
            self.view().containers().map(|c| (c.fingerprint, c.clone())).collect();
        let mut reads = Vec::with_capacity(rows.len());
        for raw in rows {
            reads.push(self.read_container(raw, &facts, &known, thorough));
        }
        let found: Vec<Option<Arc<Container>>> = stream::iter(reads).buffer_unordered(PARALLEL).collect().await;
        let found = found.into_iter().flatten().map(|c| (c.row.id.clone(), c)).collect();
        self.update(|view| view.observe_all(asked, found));
        Ok(())
    }

    /// Reads a row unless its like is `known` by its fingerprint, and adds what only an inspect answer tells.
    async fn read_container(
        &self,
        raw: &RawValue,
        facts: &Facts,
        known: &HashMap<u64, Arc<Container>>,
        thorough: bool,
    ) -> Option<Arc<Container>> {
        let fingerprint = fingerprint(raw, facts);
        let still_true = |c: &&Arc<Container>| !thorough && c.state.is_some();
        if let Some(same) = known.get(&fingerprint).filter(still_true) {
            return Some(same.clone());
        }
        let mut row = read_row(raw, facts)?;
        let known = self.view().container(&row.id).cloned();
        if let Some(known) = known.as_ref().filter(still_true).filter(|k| unchanged(&k.row, &row)) {
            let (state, bindings) = (known.state.clone(), known.bindings.clone());
            row.created = known.row.created;
            return Some(Arc::new(Container { row, state, load: known.load, bindings, fingerprint }));
        }
        let inspect = self.get(&["containers", &row.id, "json"], "", ONE).await;
        if let Err(error) = &inspect {
            let (node, error) = (&facts.owner.node, error.chain());
            debug!(node, container = row.id, error, "cannot inspect a container");
        }
        Some(Arc::new(self.container(row, inspect.ok().as_ref(), facts, fingerprint)))
    }

    /// Reads one container, which may be gone.
    pub(crate) async fn sync_container(&self, id: &str) -> Result<(), CallError> {
        let asked = Instant::now();
        let mut query = Query::default();
        query.set("all", "1");
        query.set("filters", &json!({"id": [id]}).to_string());
        let query = query.to_string();
        let (listing, one) = (["containers", "json"], ["containers", id, "json"]);
        let list = || self.bytes(MAX, Method::GET, &listing, &query, None, ONE);
        let (bytes, inspect) = tokio::join!(list(), self.get(&one, "", ONE));
        let facts = self.facts().ok_or(CallError::NotConnected)?;
        let inspect = inspect.ok();
        let mut found = self.find_row(&bytes?, id, &facts)?;
        // An engine tells that a container ended before its list shows it; what inspects waits until both are done.
        let state = inspect.as_ref().and_then(|i| i["State"]["Status"].as_str());
        if found.as_ref().zip(state).is_some_and(|((row, _), state)| row.state != state) {
            found = self.find_row(&list().await?, id, &facts)?;
        }
        let found = found.map(|(row, fingerprint)| self.container(row, inspect.as_ref(), &facts, fingerprint));
        self.update(|view| view.observe(id, asked, found.map(Arc::new)));
        Ok(())
    }

    /// One container's row in a list, with its fingerprint.
    fn find_row(&self, list: &[u8], id: &str, facts: &Facts) -> Result<Option<(Row, u64)>, CallError> {
        let rows: Vec<&RawValue> = self.parse(list)?;
        let mut rows = rows.into_iter().filter_map(|raw| Some((read_row(raw, facts)?, fingerprint(raw, facts))));
        Ok(rows.find(|(row, _)| row.id == id))
    }

    /// Notes that a container is gone.
    pub(crate) fn forget_container(&self, id: &str) {
        self.update(|view| view.observe(id, Instant::now(), None));
    }

    /// Reads all images, those that only other images are made of among them.
    pub(crate) async fn sync_images(&self) -> Result<(), CallError> {
        let asked = Instant::now();
        let images = Arc::new(shared(self.get(&["images", "json"], "all=1", LIST).await?));
        self.update(|view| {
            if view.is_news(Listing::Images, asked) {
                view.images = images;
            }
        });
        Ok(())
    }

    /// Reads all networks; rows read later show their cluster-wide ids.
    pub(crate) async fn sync_networks(&self) -> Result<(), CallError> {
        let asked = Instant::now();
        let networks = shared(self.get(&["networks"], "", LIST).await?);
        let translations = network::translations(networks.iter().map(AsRef::as_ref));
        self.update(|view| {
            if !view.is_news(Listing::Networks, asked) {
                return;
            }
            view.networks = Arc::new(networks);
            if let Some(facts) = view.facts.as_mut().filter(|f| f.owner.cluster_networks != translations) {
                Arc::make_mut(facts).owner.cluster_networks = translations;
            }
        });
        Ok(())
    }

    /// Reads which volumes have their data on this node alone.
    pub(crate) async fn sync_volumes(&self) -> Result<(), CallError> {
        let asked = Instant::now();
        let volumes = self.get(&["volumes"], "", VOLUMES).await?;
        let bound = volumes["Volumes"].as_array().into_iter().flatten().filter(|v| volume::is_bound(v));
        let names = bound.filter_map(|v| Some(v["Name"].as_str()?.to_owned())).collect();
        self.update(|view| {
            if view.is_news(Listing::Volumes, asked) {
                view.volumes = Some(Arc::new(names));
            }
        });
        Ok(())
    }

    /// A container as its row and, where there is one, its inspect answer tell it.
    fn container(&self, mut row: Row, inspect: Option<&Value>, facts: &Facts, fingerprint: u64) -> Container {
        if let Some(inspect) = inspect {
            row.refine(inspect, facts.clock.skew);
        }
        let needs = inspect.map(placement::needs).unwrap_or_default();
        let state = inspect.map(|inspect| RunState::read(inspect, facts.clock.skew));
        let mut bindings = inspect.map(placement::bindings).unwrap_or_default();
        // Ports that the engine chose.
        let chosen = row.ports.iter().filter(|p| p.public != 0 && !bindings.iter().any(|b| b.port == p.public));
        let chosen = chosen.map(|p| Binding { ip: None, port: p.public, protocol: p.protocol.clone() });
        let chosen: Vec<Binding> = chosen.collect();
        bindings.extend(chosen);
        let cpus = needs.held_cpus(self.cpu_shares_as_cpus, facts.node.cpus);
        Container { row, state, load: Load::one(cpus, needs.memory), bindings, fingerprint }
    }
}

fn shared(list: Value) -> Vec<Arc<Value>> {
    if let Value::Array(list) = list { list.into_iter().map(Arc::new).collect() } else { Vec::new() }
}

fn read_row(raw: &RawValue, facts: &Facts) -> Option<Row> {
    // A raw value was found to be JSON already.
    let mut row: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    // Clients compute the age from this, by a clock that is not the engine's.
    let created = row["Created"].as_i64().filter(|_| !facts.clock.skew.is_zero());
    if let Some(created) = created {
        row["Created"] = created.saturating_add(facts.clock.skew.whole_seconds()).into();
    }
    let row = Row::read(row, &facts.owner);
    row.inspect_err(|error| debug!(node = facts.owner.node, %error, "left out a container")).ok()
}

/// The row's bytes and what else decides how it is shown, in one number.
fn fingerprint(raw: &RawValue, facts: &Facts) -> u64 {
    let mut hasher = DefaultHasher::new();
    (raw.get(), &facts.owner.cluster_networks, facts.clock.skew.whole_seconds()).hash(&mut hasher);
    hasher.finish()
}

/// Whether what an inspect answer said is still true, as far as list rows tell: they show the state and, in brackets, the
/// exit code or the health.
fn unchanged(old: &Row, new: &Row) -> bool {
    fn bracket(row: &Row) -> Option<&str> {
        row.status.split_once('(')?.1.split_once(')').map(|(inside, _)| inside)
    }
    old.state == new.state && bracket(old) == bracket(new) && new.state != "restarting"
}
