//! Reading one engine's containers, images and networks into its view.

use super::{CallError, Container, Engine, Facts};
use futures::{StreamExt, stream};
use osier_dockerapi::{network, placement, row::Row, state::RunState};
use osier_scheduler::Load;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::debug;

/// How long one question about one object may take.
const ONE: Duration = Duration::from_secs(10);
/// How long a list may take.
const LIST: Duration = Duration::from_secs(30);
/// Inspect calls to one engine at a time.
const PARALLEL: usize = 8;

impl Engine {
    /// Reads all containers. Those whose state did not change since they were last inspected are not inspected again,
    /// unless `thorough`.
    pub(super) async fn sync_containers(&self, thorough: bool) -> Result<(), CallError> {
        let asked = Instant::now();
        let rows = self.get(&["containers", "json"], "all=1", LIST).await?;
        let Some(facts) = self.facts() else { return Err(CallError::NotConnected) };
        let rows = rows.as_array().into_iter().flatten().filter_map(|row| read_row(row, &facts));
        let reads: Vec<_> = rows.map(|row| self.complete(row, &facts, thorough)).collect();
        let found: BTreeMap<String, Arc<Container>> =
            stream::iter(reads).buffer_unordered(PARALLEL).map(|c| (c.row.id.clone(), Arc::new(c))).collect().await;
        self.view_mut().observe_all(asked, found);
        Ok(())
    }

    /// Adds to a row what only an inspect answer tells.
    async fn complete(&self, row: Row, facts: &Facts, thorough: bool) -> Container {
        let known = self.view().container(&row.id).cloned();
        if let Some(known) = known.filter(|k| !thorough && unchanged(&k.row, &row) && k.state.is_some()) {
            return Container { row, state: known.state.clone(), load: known.load };
        }
        match self.get(&["containers", &row.id, "json"], "", ONE).await {
            Ok(inspect) => container(row, &inspect, facts),
            Err(error) => {
                debug!(
                    node = facts.owner.node,
                    container = row.id,
                    error = error.chain(),
                    "cannot inspect a container"
                );
                uninspected(row)
            }
        }
    }

    /// Reads one container, which may be gone.
    pub(crate) async fn sync_container(&self, id: &str) -> Result<(), CallError> {
        let asked = Instant::now();
        let filters = json!({"id": [id]}).to_string();
        let mut query = osier_dockerapi::query::Query::default();
        query.set("all", "1");
        query.set("filters", &filters);
        let query = query.to_string();
        let (list, one) = (["containers", "json"], ["containers", id, "json"]);
        let (rows, inspect) = tokio::join!(self.get(&list, &query, ONE), self.get(&one, "", ONE));
        let (rows, Some(facts)) = (rows?, self.facts()) else { return Err(CallError::NotConnected) };
        let row = rows.as_array().into_iter().flatten().filter_map(|row| read_row(row, &facts)).find(|r| r.id == id);
        let found = row.map(|row| match inspect {
            Ok(inspect) => container(row, &inspect, &facts),
            Err(_) => uninspected(row),
        });
        self.view_mut().observe(id, asked, found.map(Arc::new));
        Ok(())
    }

    /// Notes that a container is gone.
    pub(crate) fn forget_container(&self, id: &str) {
        self.view_mut().observe(id, Instant::now(), None);
    }

    /// Reads all images.
    pub(crate) async fn sync_images(&self) -> Result<(), CallError> {
        let images = self.get(&["images", "json"], "", LIST).await?;
        self.view_mut().images = Arc::new(shared(images));
        Ok(())
    }

    /// Reads all networks; rows read later show their cluster-wide ids.
    pub(crate) async fn sync_networks(&self) -> Result<(), CallError> {
        let networks = shared(self.get(&["networks"], "", LIST).await?);
        let translations = network::translations(networks.iter().map(AsRef::as_ref));
        let mut view = self.view_mut();
        view.networks = Arc::new(networks);
        if let Some(facts) = view.facts.as_mut().filter(|f| f.owner.cluster_networks != translations) {
            Arc::make_mut(facts).owner.cluster_networks = translations;
        }
        Ok(())
    }
}

fn shared(list: Value) -> Vec<Arc<Value>> {
    if let Value::Array(list) = list { list.into_iter().map(Arc::new).collect() } else { Vec::new() }
}

fn read_row(row: &Value, facts: &Facts) -> Option<Row> {
    match Row::read(row.clone(), &facts.owner) {
        Ok(row) => Some(row),
        Err(error) => {
            debug!(node = facts.owner.node, %error, "left out a container");
            None
        }
    }
}

/// Whether what an inspect answer said is still true, as far as list rows tell: they show the state and, in brackets, the
/// exit code or the health.
fn unchanged(old: &Row, new: &Row) -> bool {
    fn bracket(row: &Row) -> Option<&str> {
        row.status.split_once('(')?.1.split_once(')').map(|(inside, _)| inside)
    }
    old.state == new.state && bracket(old) == bracket(new) && new.state != "restarting"
}

fn uninspected(row: Row) -> Container {
    Container { row, state: None, load: Load::one(Default::default(), Default::default()) }
}

fn container(row: Row, inspect: &Value, facts: &Facts) -> Container {
    let needs = placement::needs(inspect);
    let state = RunState::read(inspect, facts.skew);
    Container { row, state: Some(state), load: Load::one(needs.cpus, needs.memory) }
}
