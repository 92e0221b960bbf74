//! What the manager knows of one engine. Every fact carries the moment its question was asked, and only newer answers
//! replace older ones, so answers may arrive in any order.

use osier_dockerapi::{
    info::Counts,
    inspect::NodeFacts,
    listing::newest_first,
    placement::Binding,
    row::{Owner, Row},
    state::RunState,
    version,
};
use osier_engine::Client;
use osier_nodes::{Clock, Refresh, Standing};
use osier_scheduler::{Census, Load, Resident};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
    time::Instant,
};
use time::OffsetDateTime;

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) row: Row,
    /// Absent while no inspect call has succeeded.
    pub(crate) state: Option<RunState>,
    pub(crate) load: Load,
    /// The node's ports that it takes, also while it is stopped: it may be started.
    pub(crate) bindings: Vec<Binding>,
    /// Tells whether a later row of it says the same.
    pub(crate) fingerprint: u64,
}

impl Resident for Container {
    fn id(&self) -> &str {
        &self.row.id
    }

    fn name(&self) -> &str {
        self.row.name()
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.row.labels
    }

    fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    fn load(&self) -> Load {
        self.load
    }
}

/// What an engine says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) owner: Owner,
    /// Its labels include the operator's.
    pub(crate) node: NodeFacts,
    /// The labels that it was started with, and what it says about itself.
    pub(crate) own_labels: BTreeMap<String, String>,
    /// Its host's own name.
    pub(crate) host: String,
    pub(crate) api: version::Range,
    pub(crate) server_version: String,
    pub(crate) clock: Clock,
    pub(crate) info: Value,
}

impl Facts {
    /// Adds the operator's labels, which win over the engine's own.
    pub(crate) fn label(&mut self, labels: &BTreeMap<String, String>) {
        self.node.labels = self.own_labels.clone();
        self.node.labels.extend(labels.clone());
    }
}

/// Everything known of one engine.
pub(crate) struct View {
    pub(crate) standing: Standing,
    /// When the next attempt to reach it is due, while there is none.
    pub(crate) retry_at: Option<OffsetDateTime>,
    /// When it was last seen to be lost.
    pub(crate) lost_at: Option<Instant>,
    /// When it was last heard of.
    pub(crate) updated: OffsetDateTime,
    pub(crate) client: Option<Client>,
    pub(crate) facts: Option<Arc<Facts>>,
    containers: BTreeMap<String, (Instant, Arc<Container>)>,
    /// The same in the order of a list, once somebody asked for it.
    listed: OnceLock<Arc<[Arc<Container>]>>,
    /// The same for the scheduler, once it asked for it.
    census: OnceLock<Arc<Census>>,
    /// The ids of the containers that changed since somebody asked for them, and whether they were there then. What came and
    /// went meanwhile is no change, or it would pile up while nobody asks.
    changed: BTreeMap<String, bool>,
    /// Containers that were seen to be gone, kept until no older answer can still arrive.
    gone: HashMap<String, Instant>,
    pub(crate) images: Arc<Vec<Arc<Value>>>,
    pub(crate) networks: Arc<Vec<Arc<Value>>>,
    /// The names of the volumes whose data is on this node alone; absent while nobody knows them.
    pub(crate) volumes: Option<Arc<BTreeSet<String>>>,
    /// When the question was asked whose answer is in `images`, in `networks` and in `volumes`.
    lists_asked: [Option<Instant>; 3],
}

/// What is listed as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Listing {
    Images,
    Networks,
    Volumes,
}

impl View {
    pub(crate) fn new(refresh: Refresh, now: OffsetDateTime) -> Self {
        Self {
            standing: Standing::new(refresh),
            retry_at: None,
            lost_at: None,
            updated: now,
            client: None,
            facts: None,
            containers: BTreeMap::new(),
            listed: OnceLock::new(),
            census: OnceLock::new(),
            changed: BTreeMap::new(),
            gone: HashMap::new(),
            images: Arc::default(),
            networks: Arc::default(),
            volumes: None,
            lists_asked: [None; 3],
        }
    }

    /// Whether an answer to a question asked at `asked` is newer than what is known, and notes that it is known now.
    pub(crate) fn is_news(&mut self, listing: Listing, asked: Instant) -> bool {
        let known = &mut self.lists_asked[listing as usize];
        let news = known.is_none_or(|at| at <= asked);
        if news {
            *known = Some(asked);
        }
        news
    }

    /// What is wrong with it, in words.
    pub(crate) fn error(&self) -> String {
        self.standing.trouble().map(|t| t.text.clone()).unwrap_or_default()
    }

    /// Forgets what its containers, images, networks and volumes are: they were another engine's.
    pub(crate) fn empty(&mut self) {
        self.standing.replace();
        self.facts = None;
        for id in std::mem::take(&mut self.containers).into_keys() {
            self.note(&id, true, false);
        }
        (self.listed, self.census) = (OnceLock::new(), OnceLock::new());
        self.gone.clear();
        (self.images, self.networks, self.volumes, self.lists_asked) = Default::default();
    }

    pub(crate) fn containers(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.containers.values().map(|(_, container)| container)
    }

    /// All containers, newest first.
    pub(crate) fn listed(&self) -> Arc<[Arc<Container>]> {
        let sort = || {
            let mut all: Vec<Arc<Container>> = self.containers().cloned().collect();
            all.sort_by(|a, b| newest_first(&a.row, &b.row));
            all.into()
        };
        self.listed.get_or_init(sort).clone()
    }

    pub(crate) fn container(&self, id: &str) -> Option<&Arc<Container>> {
        self.containers.get(id).map(|(_, container)| container)
    }

    /// When the question was asked whose answer is known of a container, or of its end.
    pub(crate) fn asked(&self, id: &str) -> Option<Instant> {
        self.containers.get(id).map(|(at, _)| *at).max(self.gone.get(id).copied())
    }

    /// The ids of the containers that are new, other or gone since this was last asked.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = String> + use<> {
        std::mem::take(&mut self.changed).into_keys()
    }

    /// Notes that a container changed which was there, or not, and is now, or not.
    fn note(&mut self, id: &str, was: bool, is: bool) {
        let known = *self.changed.entry(id.to_owned()).or_insert(was);
        if !known && !is {
            self.changed.remove(id);
        }
    }

    /// Takes what a question asked at `asked` found out about one container.
    pub(crate) fn observe(&mut self, id: &str, asked: Instant, found: Option<Arc<Container>>) {
        if self.asked(id).is_some_and(|at| at > asked) {
            return;
        }
        if let (Some((at, known)), Some(found)) = (self.containers.get_mut(id), &found)
            && Arc::ptr_eq(known, found)
        {
            *at = asked;
            return;
        }
        (self.listed, self.census) = (OnceLock::new(), OnceLock::new());
        self.note(id, self.containers.contains_key(id), found.is_some());
        match found {
            Some(container) => {
                self.gone.remove(id);
                self.containers.insert(id.to_owned(), (asked, container));
            }
            None => {
                self.containers.remove(id);
                self.gone.insert(id.to_owned(), asked);
            }
        }
    }

    /// Takes a list of all containers asked for at `asked`.
    pub(crate) fn observe_all(&mut self, asked: Instant, found: BTreeMap<String, Arc<Container>>) {
        let missing: Vec<String> = self.containers.keys().filter(|id| !found.contains_key(*id)).cloned().collect();
        for id in missing {
            self.observe(&id, asked, None);
        }
        for (id, container) in found {
            self.observe(&id, asked, Some(container));
        }
        // What was seen to be gone before this list was asked for can no longer come back by an older answer: lists are
        // asked for one at a time, and single questions have a deadline far below the time between two lists.
        self.gone.retain(|_, at| *at >= asked);
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.containers().for_each(|c| counts.add(&c.row.state));
        counts
    }

    /// The containers as the scheduler sees them.
    pub(crate) fn census(&self) -> Arc<Census> {
        let count = || Arc::new(self.containers().map(|c| c.clone() as Arc<dyn Resident>).collect());
        self.census.get_or_init(count).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration as StdDuration;

    fn container(id: &str, state: &str) -> Arc<Container> {
        let owner = Owner { node: "n".into(), ip: [127, 0, 0, 1].into(), cluster_networks: BTreeMap::new() };
        let row = Row::read(json!({"Id": id, "State": state}), &owner).unwrap();
        Arc::new(Container { row, state: None, load: Load::default(), bindings: Vec::new(), fingerprint: 0 })
    }

    #[test]
    fn older_answers_never_win() {
        let (start, second) = (Instant::now(), StdDuration::from_secs(1));
        let mut view = View::new(Refresh::default(), OffsetDateTime::UNIX_EPOCH);
        view.observe("a", start + second * 2, Some(container("a", "running")));
        view.observe("a", start + second, Some(container("a", "created")));
        assert_eq!(view.container("a").unwrap().row.state, "running");
        view.observe("a", start + second * 4, None);
        view.observe("a", start + second * 3, Some(container("a", "running")));
        assert!(view.container("a").is_none(), "an answer from before the removal must not bring it back");
        view.observe("b", start + second * 6, Some(container("b", "running")));
        view.observe_all(start + second * 5, [("c".to_owned(), container("c", "exited"))].into());
        let left: Vec<&str> = view.containers().map(|c| c.row.id.as_str()).collect();
        assert_eq!(left, ["b", "c"], "a list from before the creation must not remove it");
        assert_eq!((view.counts().running, view.counts().stopped), (1, 1));
    }

    #[test]
    fn changes_are_told_once() {
        let (mut view, now) = (View::new(Refresh::default(), OffsetDateTime::UNIX_EPOCH), Instant::now());
        let told = |view: &mut View| view.take_changed().collect::<Vec<_>>().join(" ");
        let web = container("a", "running");
        view.observe("a", now, Some(web.clone()));
        view.observe("b", now, Some(container("b", "running")));
        assert_eq!((told(&mut view), told(&mut view)), ("a b".into(), String::new()));
        view.observe("a", now, Some(web));
        assert_eq!(told(&mut view), "", "the same container is no change");
        view.observe("b", now, None);
        assert_eq!(told(&mut view), "b");
        view.empty();
        assert_eq!(told(&mut view), "a");
        for id in 0..1000 {
            view.observe(&format!("{id}"), now, Some(container("x", "running")));
            view.observe(&format!("{id}"), now, None);
        }
        assert!(view.changed.is_empty(), "what came and went piles up");
    }
}
