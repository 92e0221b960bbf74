//! What must outlive the manager: which nodes take work, and the volumes that were declared. One JSON file, replaced as
//! a whole; a change is on disk before anybody sees it.
//!
//! A file that cannot be read or understood is an error at start and is never written over: it may be a newer version's.

use osier_nodes::Availability;
use osier_store::Lock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::Mutex;

/// The whole state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// What the operator said about nodes, by their names. Nodes that nothing was said about are not in here.
    #[serde(default)]
    pub(crate) nodes: BTreeMap<String, NodeState>,
    /// Volumes that were declared, or made for a container, by their names.
    #[serde(default)]
    pub(crate) volumes: BTreeMap<String, VolumeState>,
}

/// What is known of one volume whose data is, or will be, on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeState {
    /// The request that declared it, until it is made.
    #[serde(default)]
    pub(crate) request: Option<Value>,
    /// When it was declared, RFC 3339.
    #[serde(default)]
    pub(crate) declared: String,
    /// The nodes that it was made on: where its data is while they are away.
    #[serde(default)]
    pub(crate) nodes: BTreeSet<String>,
}

/// What the operator said about one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeState {
    /// Whether it takes work.
    #[serde(default)]
    pub(crate) availability: Availability,
    /// The ids of the containers that draining stopped.
    #[serde(default)]
    pub(crate) stopped: BTreeSet<String>,
    /// Labels beside those that its engine was started with.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Document {
    /// Whether a node takes work.
    pub(crate) fn availability(&self, name: &str) -> Availability {
        self.nodes.get(name).map_or(Availability::Active, |node| node.availability)
    }

    /// What the operator said about a node.
    pub(crate) fn node(&self, name: &str) -> NodeState {
        self.nodes.get(name).cloned().unwrap_or_default()
    }
}

/// The state in memory and, where it has a file, on disk.
pub struct State {
    file: Option<PathBuf>,
    current: Arc<RwLock<Arc<Document>>>,
    writing: Arc<Mutex<()>>,
    /// Keeps other managers away from the file.
    _lock: Option<Lock>,
}

/// The state could not be kept, so nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] osier_store::Error),
    /// The writer did not come to its end.
    #[error("write the manager's state")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl State {
    /// A state that ends with the process.
    pub fn in_memory() -> Self {
        Self { file: None, current: Arc::default(), writing: Arc::default(), _lock: None }
    }

    /// The state in this file, which is made with the first change. It is nobody else's until this is dropped: two
    /// managers would each write over what the other one was told.
    pub fn open(file: &Path) -> Result<Self, osier_store::Error> {
        let lock = osier_store::lock(&file.with_extension("lock"))?;
        let document: Document = osier_store::read_state(file)?.unwrap_or_default();
        let current = Arc::new(RwLock::new(Arc::new(document)));
        Ok(Self { file: Some(file.to_owned()), current, writing: Arc::default(), _lock: Some(lock) })
    }

    /// The state as it is now.
    pub(crate) fn read(&self) -> Arc<Document> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a change, which others see once it is on disk. Where it cannot be kept there, nothing changes.
    pub(crate) async fn change<T>(&self, edit: impl FnOnce(&mut Document) -> T) -> Result<T, StateError> {
        let one_at_a_time = self.writing.clone().lock_owned().await;
        let before = self.read();
        let mut document = (*before).clone();
        let result = edit(&mut document);
        document.nodes.retain(|_, node| *node != NodeState::default());
        document.volumes.retain(|_, volume| *volume != VolumeState::default());
        if document == *before {
            return Ok(result);
        }
        let document = Arc::new(document);
        let (file, current) = (self.file.clone(), self.current.clone());
        // Whoever asked may go away meanwhile: the write and what others see of it end together all the same.
        let write = move || {
            let _one_at_a_time = one_at_a_time;
            if let Some(file) = file {
                osier_store::write_state(&file, &*document, osier_store::SECRET)?;
            }
            *current.write().unwrap_or_else(PoisonError::into_inner) = document;
            Ok::<_, osier_store::Error>(())
        };
        tokio::task::spawn_blocking(write).await.map_err(StateError::Interrupted)??;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn declared() -> VolumeState {
        VolumeState { declared: "now".into(), ..VolumeState::default() }
    }

    fn kept(file: &Path) -> Document {
        osier_store::read_state(file).unwrap().unwrap_or_default()
    }

    fn cordon(document: &mut Document) {
        document.nodes.entry("n1".into()).or_default().availability = Availability::Cordoned;
    }

    #[tokio::test]
    async fn changes_outlive_the_manager() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/manager.json");
        let state = State::open(&file).unwrap();
        assert!(!file.exists(), "nothing was said yet");
        state.change(cordon).await.unwrap();
        let data = VolumeState { request: Some(json!({"Name": "data"})), ..VolumeState::default() };
        state.change(|d| d.volumes.insert("data".into(), data)).await.unwrap();
        assert!(State::open(&file).err().unwrap().is_in_use(), "a second manager would write over the first one's");
        let again = kept(&file);
        assert_eq!(again, *state.read());
        assert_eq!((again.node("n1").availability, again.volumes.len()), (Availability::Cordoned, 1));
        assert_eq!(again.node("n2"), NodeState::default());
        state.change(|d| d.nodes.entry("n1".into()).or_default().availability = Availability::Active).await.unwrap();
        assert!(kept(&file).nodes.is_empty(), "what is as it always was is not kept");
    }

    #[tokio::test]
    async fn a_file_that_is_not_understood_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manager.json");
        for text in ["", "{\"nodes\":", "{\"nodes\":{\"n1\":{\"availability\":\"asleep\"}}}", "{\"future\":1}"] {
            std::fs::write(&file, text).unwrap();
            let error = State::open(&file).err().unwrap().to_string();
            assert!(error.contains("manager.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_kept_does_not_happen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/manager.json");
        let state = State::open(&file).unwrap();
        std::fs::remove_dir_all(folder.path().join("state")).unwrap();
        std::fs::write(folder.path().join("state"), "in the way").unwrap();
        let error = state.change(cordon).await.unwrap_err();
        assert!(error.to_string().contains("manager.json"), "{error}");
        assert_eq!(state.read().node("n1").availability, Availability::Active);
    }

    #[tokio::test]
    async fn a_change_whose_asker_left_does_not_undo_later_ones() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manager.json");
        let state = State::open(&file).unwrap();
        for i in 0..20 {
            let left = state.change(|d| d.volumes.insert(format!("left-{i}"), declared()));
            // One look at it begins the change; then whoever asked is gone.
            let _ = futures::FutureExt::now_or_never(left);
            state.change(|d| d.volumes.insert(format!("stayed-{i}"), declared())).await.unwrap();
        }
        let kept = kept(&file);
        assert_eq!(kept, *state.read());
        assert_eq!(kept.volumes.keys().filter(|name| name.starts_with("stayed")).count(), 20);
    }

    #[tokio::test]
    async fn changes_at_the_same_time_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manager.json");
        let state = State::open(&file).unwrap();
        let changes = (0..20).map(|i| {
            let volume = VolumeState { declared: i.to_string(), ..VolumeState::default() };
            state.change(move |d| d.volumes.insert(i.to_string(), volume))
        });
        futures::future::join_all(changes).await.into_iter().for_each(|r| drop(r.unwrap()));
        assert_eq!(kept(&file).volumes.len(), 20);
    }
}
