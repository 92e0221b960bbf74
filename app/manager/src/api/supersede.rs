//! One name, one image. A build, a tag or a commit gives a name to an image of one node only, and a pull may fail on some.
//! Where other nodes have another image under that name, a container made later would run the old one there; so they lose
//! the name, and get the new image when a container needs it. Nodes that do not answer lose it when they are back.

use super::{Api, images::refresh};
use crate::{cluster::Cluster, engine::Engine};
use futures::future::join_all;
use http::Method;
use osier_dockerapi::image::{outdated, retagged};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tracing::{info, warn};

/// How long an engine may take to untag an image.
const UNTAG: Duration = Duration::from_secs(60);
/// How long a node that does not answer is waited for.
const AWAY: Duration = Duration::from_secs(24 * 3600);

/// What an engine's images were called before something changed it.
pub(super) struct Before {
    cluster: Arc<Cluster>,
    engine: Arc<Engine>,
    images: Arc<Vec<Arc<Value>>>,
}

impl Api {
    /// Notes what an engine's images are called.
    pub(super) fn before(&self, engine: &Arc<Engine>) -> Before {
        Before { cluster: self.cluster.clone(), engine: engine.clone(), images: engine.view().images.clone() }
    }
}

impl Before {
    /// Once names have been given: reads what they mean now, and takes them from other nodes' other images. Only names
    /// of which `mine` says so were given by the caller.
    pub(super) async fn settle(self, mine: impl Fn(&str) -> bool) {
        refresh([&self.engine].into_iter()).await;
        let mut given = retagged(&self.images, &self.engine.view().images);
        given.retain(|name, _| mine(name));
        if !given.is_empty() {
            supersede(&self.cluster, &self.engine, given).await;
        }
    }
}

/// Takes names from images that are not what the names now mean on `engine`, on the nodes that could run the same.
async fn supersede(cluster: &Cluster, engine: &Arc<Engine>, given: BTreeMap<String, String>) {
    let platform = platform(engine);
    let others = cluster.engines().into_iter().filter(|e| !Arc::ptr_eq(e, engine) && self::platform(e) == platform);
    let outdated = |other: &Engine| outdated(&given, &other.view().images);
    let (present, away): (Vec<_>, Vec<_>) = others.filter(|e| !outdated(e).is_empty()).partition(|e| e.is_healthy());
    for other in away {
        let (engine, names) = (engine.clone(), outdated(&other));
        tokio::spawn(tokio::time::timeout(AWAY, async move {
            other.recovered().await;
            // What the names mean may have changed again meanwhile.
            let mut given = retagged(&Vec::new(), &engine.view().images);
            given.retain(|name, _| names.contains(name));
            take_names(&engine, &other, &given).await;
        }));
    }
    join_all(present.iter().map(|other| take_names(engine, other, &given))).await;
}

async fn take_names(engine: &Arc<Engine>, other: &Arc<Engine>, given: &BTreeMap<String, String>) {
    let names = outdated(given, &other.view().images);
    for name in &names {
        let path = super::images::image_path(name, &[]);
        let (node, new) = (other.name(), engine.name());
        match other.json(Method::DELETE, &path, "force=1&noprune=1", None, UNTAG).await {
            Ok(_) => info!(node, image = name, new, "took a name from an image that another node has anew"),
            Err(error) => warn!(node, image = name, error = error.chain(), "an old image kept its name"),
        }
    }
    if !names.is_empty() {
        refresh([other].into_iter()).await;
    }
}

/// What nodes must share for the ids of their images to be comparable: different stores name one image differently.
pub(super) fn platform(engine: &Engine) -> Option<[Value; 4]> {
    engine.facts().map(|facts| ["OSType", "Architecture", "Driver", "DriverStatus"].map(|key| store(&facts.info, key)))
}

/// One member of an engine's info; of its storage driver's status only whether it is containerd's.
fn store(info: &Value, key: &str) -> Value {
    let value = &info[key];
    if key == "DriverStatus" { value.to_string().contains("io.containerd.snapshotter").into() } else { value.clone() }
}
