//! All engines at once, as it takes to place a container and to find one. It changes engine by engine, with what changed
//! in that engine's view, so that no request walks through the views of all engines for its own. Must not know what is
//! asked of it, nor anything of the network.

use crate::engine::{Container, Engine, Facts};
use osier_dockerapi::{placement::image_words, version::ApiVersion};
use osier_nodes::Health;
use osier_scheduler::Census;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Which engines' views have changed since they were last looked at.
#[derive(Default)]
pub(crate) struct Changes {
    next: AtomicU64,
    due: Mutex<BTreeSet<u64>>,
}

impl Changes {
    fn due(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn are_due(&self) -> bool {
        !self.due().is_empty()
    }
}

/// One engine's say in [`Changes`].
pub(crate) struct Marker {
    changes: Arc<Changes>,
    key: u64,
}

impl Marker {
    /// A new one; its engine has changed from the start.
    pub(crate) fn new(changes: &Arc<Changes>) -> Self {
        let marker = Self { changes: changes.clone(), key: changes.next.fetch_add(1, Ordering::Relaxed) };
        marker.mark();
        marker
    }

    /// To be said once a change is done, so that whoever hears of it sees it.
    pub(crate) fn mark(&self) {
        self.changes.due().insert(self.key);
    }

    /// What no other engine of the cluster has.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }
}

/// A container's id and what is known of it now; nothing where it is gone.
type Change = (String, Option<Arc<Container>>);

/// What is known of one engine.
pub(crate) struct Seen {
    pub(crate) engine: Arc<Engine>,
    /// The node's name; empty while nobody knows it.
    pub(crate) name: String,
    pub(crate) facts: Option<Arc<Facts>>,
    pub(crate) healthy: bool,
    /// 0 (unusable) to 100 (no recent failure).
    pub(crate) health: u8,
    pub(crate) census: Arc<Census>,
    pub(crate) images: Arc<Vec<Arc<Value>>>,
    /// Every word that names one of the images, once somebody asked for them.
    words: Arc<OnceLock<Vec<String>>>,
    pub(crate) networks: Arc<Vec<Arc<Value>>>,
    /// The names of the volumes whose data is on this node alone; absent while nobody knows them.
    pub(crate) volumes: Option<Arc<BTreeSet<String>>>,
}

impl Seen {
    /// Looks at an engine; the second is what became of the containers that changed since the last look.
    fn look(engine: &Arc<Engine>, before: Option<&Self>) -> (Self, Vec<Change>) {
        engine.look(|view| {
            let changed = view.take_changed().map(|id| (view.container(&id).cloned(), id));
            let changed = changed.map(|(container, id)| (id, container)).collect();
            let same = before.filter(|b| Arc::ptr_eq(&b.images, &view.images));
            let name = view.facts.as_ref().map(|f| f.owner.node.clone()).or_else(|| engine.target.name.clone());
            let seen = Self {
                engine: engine.clone(),
                name: name.unwrap_or_default(),
                facts: view.facts.clone(),
                healthy: view.standing.health() == Health::Healthy,
                health: view.standing.indicator(),
                census: view.census(),
                images: view.images.clone(),
                words: same.map(|b| b.words.clone()).unwrap_or_default(),
                networks: view.networks.clone(),
                volumes: view.volumes.clone(),
            };
            (seen, changed)
        })
    }

    /// Every word that names one of its images: ids, references, repositories, digests.
    pub(crate) fn image_words(&self) -> &[String] {
        self.words.get_or_init(|| image_words(self.images.iter().map(AsRef::as_ref)))
    }

    /// The newest version that it speaks, while it answers.
    fn speaks(&self) -> Option<ApiVersion> {
        self.facts.as_ref().filter(|_| self.healthy).map(|f| f.api.max)
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Picture {
    /// In the order of the engines' addresses.
    nodes: Arc<Vec<Arc<Seen>>>,
    /// Where in `nodes` an engine is, by its key.
    places: HashMap<u64, usize>,
    /// Containers by their ids and their engines' keys: ids may clash where disks were cloned.
    ids: BTreeMap<(String, u64), Arc<Container>>,
    names: HashMap<String, Vec<(u64, Arc<Container>)>>,
    /// How many engines that answer speak each version at most.
    versions: BTreeMap<ApiVersion, usize>,
}

impl Picture {
    /// Takes the whole list of engines, in the order of their addresses.
    pub(crate) fn set_members(&mut self, engines: &[Arc<Engine>]) {
        let mut before: HashMap<u64, Arc<Seen>> = self.nodes.iter().map(|s| (s.engine.key(), s.clone())).collect();
        let nodes = engines.iter().map(|engine| {
            before.remove(&engine.key()).unwrap_or_else(|| {
                // What has changed in it from the start is due already.
                let (seen, changed) = Seen::look(engine, None);
                self.index(engine.key(), changed);
                self.count(None, seen.speaks());
                Arc::new(seen)
            })
        });
        self.nodes = Arc::new(nodes.collect());
        self.places = self.nodes.iter().enumerate().map(|(place, s)| (s.engine.key(), place)).collect();
        if before.is_empty() {
            return;
        }
        before.values().for_each(|gone| self.count(gone.speaks(), None));
        self.ids.retain(|(_, key), _| !before.contains_key(key));
        self.names.retain(|_, holders| {
            holders.retain(|(key, _)| !before.contains_key(key));
            !holders.is_empty()
        });
    }

    /// Looks again at every engine that changed.
    pub(crate) fn refresh(&mut self, changes: &Changes) {
        let due = std::mem::take(&mut *changes.due());
        if due.is_empty() {
            return;
        }
        for key in due {
            // An engine that left is looked at by nobody.
            let Some(place) = self.places.get(&key).copied() else { continue };
            let before = self.nodes[place].clone();
            let (seen, changed) = Seen::look(&before.engine, Some(&before));
            self.index(key, changed);
            self.count(before.speaks(), seen.speaks());
            // Copied only while somebody is looking at what was.
            Arc::make_mut(&mut self.nodes)[place] = Arc::new(seen);
        }
    }

    fn index(&mut self, key: u64, changed: Vec<Change>) {
        for (id, container) in changed {
            let id = (id, key);
            for name in self.ids.remove(&id).iter().flat_map(|old| &old.row.names) {
                if let Some(holders) = self.names.get_mut(name) {
                    holders.retain(|(k, c)| (*k, &c.row.id) != (key, &id.0));
                }
                if self.names.get(name).is_some_and(Vec::is_empty) {
                    self.names.remove(name);
                }
            }
            let Some(container) = container else { continue };
            for name in &container.row.names {
                self.names.entry(name.clone()).or_default().push((key, container.clone()));
            }
            self.ids.insert(id, container);
        }
    }

    fn count(&mut self, before: Option<ApiVersion>, now: Option<ApiVersion>) {
        if before == now {
            return;
        }
        if let Some(now) = now {
            *self.versions.entry(now).or_default() += 1;
        }
        if let Some(count) = before.and_then(|before| self.versions.get_mut(&before)) {
            *count -= 1;
        }
        self.versions.retain(|_, count| *count > 0);
    }

    /// All engines, in the order of their addresses.
    pub(crate) fn nodes(&self) -> Arc<Vec<Arc<Seen>>> {
        self.nodes.clone()
    }

    /// The newest version that an engine which answers speaks.
    pub(crate) fn newest_version(&self) -> Option<ApiVersion> {
        self.versions.keys().next_back().copied()
    }

    /// The containers that a word may mean: by their id or its beginning, or by their name, alone or behind their node's.
    pub(crate) fn like(&self, word: &str) -> Vec<(Arc<Seen>, Arc<Container>)> {
        if word.is_empty() {
            return Vec::new();
        }
        let node = |key: &u64| self.places.get(key).map(|place| &self.nodes[*place]);
        let from = self.ids.range((word.to_owned(), 0)..).take_while(|((id, _), _)| id.starts_with(word));
        let by_id = from.filter_map(|((_, key), container)| Some((node(key)?.clone(), container.clone())));
        let named = |name: &str| self.names.get(name).into_iter().flatten();
        let by_name = named(word).filter_map(|(key, container)| Some((node(key)?, container)));
        let on_node = word.split_once('/').into_iter().flat_map(|(name, rest)| {
            let holders = named(rest).filter_map(|(key, container)| Some((node(key)?, container)));
            holders.filter(move |(seen, _)| seen.name == name)
        });
        let by_name = by_name.chain(on_node).filter(|(_, container)| !container.row.id.starts_with(word));
        by_id.chain(by_name.map(|(seen, container)| (seen.clone(), container.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Target;
    use osier_dockerapi::row::{Owner, Row};
    use osier_nodes::Refresh;
    use osier_scheduler::Load;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Instant;

    fn container(id: &str, name: &str) -> Arc<Container> {
        let owner = Owner { node: "n".into(), ip: [127, 0, 0, 1].into(), cluster_networks: BTreeMap::new() };
        let row = Row::read(json!({"Id": id, "Names": [format!("/{name}")]}), &owner).unwrap();
        Arc::new(Container { row, state: None, load: Load::default(), bindings: Vec::new(), fingerprint: 0 })
    }

    fn engines(changes: &Arc<Changes>) -> Vec<Arc<Engine>> {
        let engine = |name: &str| {
            let target = Target { name: Some(name.into()), host: name.into(), port: 1, server_name: name.into() };
            Engine::new(target, Refresh::default(), false, Marker::new(changes))
        };
        ["n1", "n2"].map(engine).into()
    }

    fn like(picture: &Picture, word: &str) -> String {
        let mut hits: Vec<_> =
            picture.like(word).iter().map(|(seen, c)| format!("{}:{}", seen.name, c.row.id)).collect();
        hits.sort();
        hits.join(" ")
    }

    #[test]
    fn words_find_what_they_may_mean() {
        let changes = Arc::default();
        let (engines, mut picture, now) = (engines(&changes), Picture::default(), Instant::now());
        picture.set_members(&engines);
        let observe = |engine: usize, id: &str, name: Option<&str>| {
            engines[engine].update(|view| view.observe(id, now, name.map(|name| container(id, name))));
        };
        for (engine, id, name) in [(0, "aa1", "web"), (0, "aa2", "db"), (1, "b", "aa"), (1, "c", "web")] {
            observe(engine, id, Some(name));
        }
        assert_eq!(like(&picture, "web"), "", "nobody looked again yet");
        picture.refresh(&changes);
        assert_eq!(like(&picture, "aa"), "n1:aa1 n1:aa2 n2:b");
        assert_eq!((like(&picture, "web"), like(&picture, "n2/web")), ("n1:aa1 n2:c".into(), "n2:c".into()));
        assert_eq!((like(&picture, ""), like(&picture, "n3/web"), like(&picture, "n1/")), Default::default());
        observe(0, "aa1", Some("renamed"));
        observe(0, "aa2", None);
        picture.refresh(&changes);
        assert_eq!((like(&picture, "web"), like(&picture, "renamed")), ("n2:c".into(), "n1:aa1".into()));
        picture.set_members(&engines[1..]);
        assert_eq!((like(&picture, "renamed"), like(&picture, "web")), (String::new(), "n2:c".into()));
    }

    proptest! {
        #[test]
        fn the_picture_is_what_the_views_are(
            steps in prop::collection::vec((0..2usize, 0..4u8, prop::option::of(0..3u8), any::<bool>()), 0..40)
        ) {
            let changes = Arc::default();
            let (engines, mut picture, now) = (engines(&changes), Picture::default(), Instant::now());
            picture.set_members(&engines);
            for (engine, id, name, look) in steps {
                let id = format!("{id}");
                let found = name.map(|name| container(&id, &format!("name-{name}")));
                engines[engine].update(|view| view.observe(&id, now, found));
                if look {
                    picture.refresh(&changes);
                }
            }
            picture.refresh(&changes);
            let words = (0..4).map(|id| format!("{id}")).chain((0..3).map(|name| format!("name-{name}")));
            for word in words {
                let mut truth = Vec::new();
                for engine in &engines {
                    let view = engine.view();
                    let means = |c: &&Arc<Container>| c.row.id == word || c.row.names.contains(&word);
                    truth.extend(view.containers().filter(means).map(|c| format!("{}:{}", engine.name(), c.row.id)));
                }
                truth.sort();
                prop_assert_eq!(like(&picture, &word), truth.join(" "));
            }
            prop_assert_eq!(picture.ids.len(), engines.iter().map(|e| e.view().containers().count()).sum::<usize>());
        }
    }
}
