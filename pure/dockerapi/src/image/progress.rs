//! One node's progress in few lines: engines tell every layer by itself, many times a second; of a cluster of nodes
//! the user wants to see how far each node is.

use serde_json::Value;
use std::collections::BTreeMap;

/// Adds up one node's layers.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// By phase, such as `Downloading`, and layer: how far, of how much.
    phases: BTreeMap<String, BTreeMap<String, (u64, u64)>>,
    /// The percentage last told of each phase.
    told: BTreeMap<String, u64>,
}

/// What is to be shown of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The engine's word for what happens.
    pub status: String,
    /// How far, of how much, over all layers known by now.
    pub done: Option<(u64, u64)>,
}

impl Progress {
    /// Takes a line of the engine's progress. Most say nothing new about the node.
    pub fn take(&mut self, line: &Value) -> Option<Told> {
        let status = line["status"].as_str().filter(|s| !s.is_empty())?;
        let Some(layer) = line["id"].as_str().filter(|id| !id.is_empty()) else {
            return Some(Told { status: status.to_owned(), done: None });
        };
        // A layer that goes on to its next phase has ended the ones before.
        for (_, layers) in self.phases.iter_mut().filter(|(phase, _)| *phase != status) {
            if let Some((current, total)) = layers.get_mut(layer) {
                *current = *total;
            }
        }
        let detail = &line["progressDetail"];
        let (current, total) = (detail["current"].as_u64()?, detail["total"].as_u64().filter(|t| *t > 0)?);
        let layers = self.phases.entry(status.to_owned()).or_default();
        layers.insert(layer.to_owned(), (current.min(total), total));
        let sum = |part: fn(&(u64, u64)) -> u64| layers.values().map(part).fold(0, u64::saturating_add);
        let (current, total) = (sum(|(current, _)| *current), sum(|(_, total)| *total));
        let percent = u64::try_from(u128::from(current) * 100 / u128::from(total)).unwrap_or(100);
        let news = self.told.insert(status.to_owned(), percent) != Some(percent);
        news.then(|| Told { status: status.to_owned(), done: Some((current, total)) })
    }
}

/// Whether an engine's error says that the image is for other machines than its own, and how to say so.
pub fn platform_mismatch(error: &str) -> Option<String> {
    if let Some((image, engine)) = error.strip_prefix("cannot load ").and_then(|rest| rest.split_once(" image on ")) {
        return Some(format!("image is for {image} and engine is running {engine}"));
    }
    let other = error.contains("cannot be used on this platform") || error.contains("no matching manifest for ");
    other.then(|| error.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer(id: &str, status: &str, current: u64, total: u64) -> Value {
        json!({"status": status, "id": id, "progressDetail": {"current": current, "total": total}, "progress": "[> ]"})
    }

    fn told(status: &str, done: Option<(u64, u64)>) -> Option<Told> {
        Some(Told { status: status.into(), done })
    }

    #[test]
    fn layers_add_up() {
        let mut progress = Progress::default();
        for (line, expected) in [
            (json!({"status": "Pulling fs layer", "id": "a", "progressDetail": {}}), None),
            (layer("a", "Downloading", 50, 100), told("Downloading", Some((50, 100)))),
            (layer("b", "Downloading", 0, 100), told("Downloading", Some((50, 200)))),
            (layer("b", "Downloading", 1, 100), None),
            (json!({"status": "Download complete", "id": "a", "progressDetail": {}}), None),
            (layer("b", "Downloading", 2, 100), told("Downloading", Some((102, 200)))),
            (layer("a", "Extracting", 100, 100), told("Extracting", Some((100, 100)))),
            (json!({"status": "Digest: sha256:0"}), told("Digest: sha256:0", None)),
            (json!({"stream": "x"}), None),
            (json!([1]), None),
        ] {
            assert_eq!(progress.take(&line), expected, "{line}");
        }
    }

    #[test]
    fn other_machines_images_are_told_from_failures() {
        assert_eq!(
            platform_mismatch("cannot load windows image on linux").unwrap(),
            "image is for windows and engine is running linux"
        );
        for other in [
            "image operating system \"windows\" cannot be used on this platform",
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
        ] {
            assert!(platform_mismatch(other).is_some(), "{other}");
        }
        assert_eq!(platform_mismatch("manifest unknown"), None);
    }

    proptest! {
        /// However the layers' lines are mixed, no more than everything is done, every phase is told at most once for
        /// each percentage in a row, and what is told never exceeds what was said.
        #[test]
        fn sums_stay_within_bounds(lines in prop::collection::vec((0..4_u8, 0..3_usize, any::<u64>(), any::<u64>()), 0..60)) {
            let mut progress = Progress::default();
            let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            for (id, phase, current, total) in lines {
                let status = ["Downloading", "Extracting", "Waiting"][phase];
                let line = layer(&id.to_string(), status, current, total);
                if let Some(Told { status, done: Some((current, total)) }) = progress.take(&line) {
                    prop_assert!(current <= total && total > 0);
                    prop_assert_ne!(last.insert(status, (current, total)), Some((current, total)));
                }
            }
        }
    }
}
