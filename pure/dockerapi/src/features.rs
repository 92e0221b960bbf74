//! What `info` says of the engines' features: what all nodes of a cluster have, since a container may land on any.

use serde_json::{Map, Value, json};

/// Claimed only if every engine that says anything claims it.
const CLAIMS: [&str; 14] = [
    "MemoryLimit",
    "SwapLimit",
    "KernelMemory",
    "KernelMemoryTCP",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "IPv4Forwarding",
    "BridgeNfIptables",
    "BridgeNfIp6tables",
    "OomKillDisable",
    "LiveRestoreEnabled",
];
/// Said where all engines say the same, else left empty.
const WORDS: [&str; 10] = [
    "Driver",
    "LoggingDriver",
    "CgroupDriver",
    "CgroupVersion",
    "KernelVersion",
    "OSVersion",
    "Architecture",
    "DefaultRuntime",
    "InitBinary",
    "DockerRootDir",
];
/// Settings that differ only where somebody made them differ: the first engine's are shown.
const SETTINGS: [&str; 2] = ["IndexServerAddress", "RegistryConfig"];
/// Finds one list in an engine's answer.
type List = fn(&Value) -> &Value;
const PLUGINS: [(&str, List); 4] = [
    ("Volume", |info| &info["Plugins"]["Volume"]),
    ("Network", |info| &info["Plugins"]["Network"]),
    ("Authorization", |info| &info["Plugins"]["Authorization"]),
    ("Log", |info| &info["Plugins"]["Log"]),
];

/// The members of `info` that come from the engines. `engines` are the nodes' names with their engines' own answers.
pub(crate) fn features(engines: &[(&str, &Value)]) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| drop(all.insert(key.to_owned(), value));
    for key in CLAIMS {
        put(key, engines.iter().filter_map(|(_, info)| info[key].as_bool()).all(|claim| claim).into());
    }
    for key in WORDS {
        let mut words = engines.iter().map(|(_, info)| info[key].as_str().unwrap_or_default());
        let first = words.next().unwrap_or_default();
        put(key, if words.all(|word| word == first) { first.into() } else { "".into() });
    }
    for key in SETTINGS {
        put(key, engines.first().map(|(_, info)| info[key].clone()).unwrap_or_default());
    }
    let plugins = PLUGINS.map(|(kind, list)| (kind.to_owned(), common(engines, list, |name| name)));
    put("Plugins", Value::Object(plugins.into_iter().collect()));
    put("SecurityOptions", common(engines, |info| &info["SecurityOptions"], option_name));
    put("Runtimes", runtimes(engines));
    put("Warnings", warnings(engines));
    for key in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        put(key, json!({"ID": "", "Expected": ""}));
    }
    all
}

/// The entries of a list that every engine has; `name` is the part of an entry that tells it from others.
fn common(engines: &[(&str, &Value)], list: List, name: fn(&str) -> &str) -> Value {
    let Some((_, first)) = engines.first().filter(|(_, info)| list(info).is_array()) else { return Value::Null };
    let entries = |info| list(info).as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut common: Vec<&str> = entries(first).collect();
    for (_, info) in engines {
        common.retain(|entry| entries(info).any(|other| name(other) == name(entry)));
    }
    common.into()
}

fn option_name(option: &str) -> &str {
    option.split_once(',').map_or(option, |(name, _)| name)
}

fn runtimes(engines: &[(&str, &Value)]) -> Value {
    let first = engines.first().and_then(|(_, info)| info["Runtimes"].as_object());
    let everywhere = |name: &str| engines.iter().all(|(_, info)| info["Runtimes"].get(name).is_some());
    let shared = first.into_iter().flatten().filter(|(name, _)| everywhere(name));
    Value::Object(shared.map(|(name, runtime)| (name.clone(), runtime.clone())).collect())
}

/// The engines' warnings, each once; where not all give one, with the nodes it is about.
fn warnings(engines: &[(&str, &Value)]) -> Value {
    let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
    for (node, info) in engines {
        for warning in info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            match said.iter_mut().find(|(text, _)| *text == warning) {
                Some((_, nodes)) => nodes.push(node),
                None => said.push((warning, vec![node])),
            }
        }
    }
    let word = |(text, nodes): (&str, Vec<&str>)| {
        if nodes.len() == engines.len() { text.to_owned() } else { format!("{text} ({})", nodes.join(", ")) }
    };
    said.into_iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_engines_have_is_claimed() {
        let old = json!({"MemoryLimit": true, "SwapLimit": true, "Driver": "overlay2", "KernelVersion": "5", "BridgeNfIptables": true,
            "Plugins": {"Log": ["json-file", "gcplogs"], "Network": ["bridge", "osier"], "Authorization": null},
            "Runtimes": {"runc": {"path": "runc"}, "old": {}}, "SecurityOptions": ["name=seccomp,profile=default", "name=apparmor"],
            "Warnings": ["WARNING: a", "WARNING: b"]});
        let new = json!({"MemoryLimit": true, "SwapLimit": false, "Driver": "overlay2", "KernelVersion": "6",
            "Plugins": {"Log": ["json-file"], "Network": ["bridge", "osier"], "Authorization": null},
            "Runtimes": {"runc": {"path": "runc", "status": {}}}, "SecurityOptions": ["name=seccomp,profile=builtin"],
            "Warnings": ["WARNING: b"]});
        let all = features(&[("n1", &old), ("n2", &new)]);
        let expected = [
            ("MemoryLimit", json!(true)),
            ("SwapLimit", json!(false)),
            ("BridgeNfIptables", json!(true)),
            ("Driver", json!("overlay2")),
            ("KernelVersion", json!("")),
            ("Runtimes", json!({"runc": {"path": "runc"}})),
            ("SecurityOptions", json!(["name=seccomp,profile=default"])),
            ("Warnings", json!(["WARNING: a (n1)", "WARNING: b"])),
        ];
        for (key, value) in expected {
            assert_eq!(all[key], value, "{key}");
        }
        assert_eq!(
            all["Plugins"],
            json!({"Volume": null, "Network": ["bridge", "osier"], "Authorization": null, "Log": ["json-file"]})
        );
    }

    #[test]
    fn a_cluster_without_engines_has_the_members_all_the_same() {
        let all = features(&[]);
        assert!(all["MemoryLimit"] == true && all["Driver"] == "" && all["Warnings"] == json!([]));
        assert_eq!(features(&[("n", &json!([]))])["Runtimes"], json!({}));
    }
}
