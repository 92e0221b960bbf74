//! The route table: what a method and a path ask for. HTTP ends here; everything behind it works on [`Route`].
//!
//! Names may carry their node, `node/name`, as two segments or as one with an escaped slash. Where a path could be read
//! both ways, the shorter name wins if what follows is a known call.

use crate::swarm::{self, SwarmCall};
use http::Method;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET` or `HEAD /_ping`
    Ping,
    /// `GET /version`
    Version,
    /// `GET /info`
    Info,
    /// `GET /events`
    Events,
    /// `GET /system/df`
    DiskUsage,
    /// `POST /auth`: any healthy engine.
    Auth,
    /// `GET /containers/json`
    ContainerList,
    /// `POST /containers/create`
    ContainerCreate,
    /// Anything that names one container: its engine answers.
    Container {
        /// The name as the user wrote it.
        name: String,
        /// What is done with it.
        call: ContainerCall,
        /// The segments behind the name.
        rest: Vec<String>,
    },
    /// Anything that names one exec: its engine answers.
    Exec {
        /// The exec's id.
        id: String,
        /// The segments behind the id.
        rest: Vec<String>,
    },
    /// `POST /commit`: the engine of the container in the query.
    Commit,
    /// `GET /images/json`
    ImageList,
    /// `POST /images/create`: pull or import, on every healthy engine.
    ImageCreate,
    /// `POST /images/load`: on every healthy engine.
    ImageLoad,
    /// `GET /images/search`: any healthy engine.
    ImageSearch,
    /// `GET /images/get`: an engine that has all images named in the query.
    ImageSave,
    /// Anything that names one image.
    Image {
        /// The image's reference or id.
        name: String,
        /// What is done with it.
        call: ImageCall,
    },
    /// `GET /distribution/{name}/json`: any healthy engine.
    Distribution {
        /// The image's reference.
        name: String,
    },
    /// `POST /build`, `/session`, `/grpc` and their kin: the one engine that builds.
    Builder,
    /// `GET /networks`
    NetworkList,
    /// `POST /networks/create`
    NetworkCreate,
    /// Anything that names one network.
    Network {
        /// The name or id as the user wrote it.
        name: String,
        /// What is done with it.
        call: NetworkCall,
    },
    /// `GET /volumes`
    VolumeList,
    /// `POST /volumes/create`
    VolumeCreate,
    /// `GET /volumes/{name}`
    VolumeInspect {
        /// The name as the user wrote it.
        name: String,
    },
    /// `DELETE /volumes/{name}`
    VolumeRemove {
        /// The name as the user wrote it.
        name: String,
    },
    /// `POST /…/prune`: on every healthy engine, results added up.
    Prune(Prunable),
    /// `GET /plugins`: those of all engines.
    PluginList,
    /// Anything that names one managed plugin: every engine that has it.
    Plugin {
        /// The name as the user wrote it.
        name: String,
        /// What is done with it; `None` removes it.
        verb: Option<PluginVerb>,
    },
    /// Plugins are brought onto each engine by itself.
    PluginInstall,
    /// Swarm mode's routes, answered as an engine outside a swarm answers them.
    SwarmMode(SwarmCall),
    /// `OPTIONS` of anything.
    Options,
    /// Nothing that is served.
    Unknown,
}

/// What is done with one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerCall {
    /// `GET …/json`
    Inspect,
    /// `DELETE`
    Remove,
    /// `POST …/rename`: the new name must be free in the whole cluster.
    Rename,
    /// `POST …/exec`: the answer's id must be remembered.
    ExecCreate,
    /// Changes the container's state.
    Change,
    /// Everything else.
    Other,
}

/// What is done with one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageCall {
    /// `GET …/json`
    Inspect,
    /// `GET …/history`
    History,
    /// `GET …/get`
    Save,
    /// `POST …/push`
    Push,
    /// `POST …/tag`: on every engine that has it.
    Tag,
    /// `DELETE`: on every engine that has it.
    Remove,
}

/// What is done with one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkCall {
    /// `GET`
    Inspect,
    /// `DELETE`
    Remove,
    /// `POST …/connect`
    Connect,
    /// `POST …/disconnect`
    Disconnect,
}

/// What is done with one managed plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginVerb {
    /// `GET …/json`
    Inspect,
    /// `POST …/enable`
    Enable,
    /// `POST …/disable`
    Disable,
    /// `POST …/set`
    Set,
}

impl PluginVerb {
    /// The last segment of the route.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Inspect => "json",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Set => "set",
        }
    }
}

/// What can be pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prunable {
    /// Stopped containers.
    Containers,
    /// Unused images.
    Images,
    /// Unused networks.
    Networks,
    /// Unused volumes.
    Volumes,
    /// The builder's cache.
    Build,
}

impl Prunable {
    /// The first segment of the route.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Images => "images",
            Self::Networks => "networks",
            Self::Volumes => "volumes",
            Self::Build => "build",
        }
    }
}

/// Finds what the request asks for. `segments` come without the version; `is_node` tells node names, which decides how
/// a path with a call that this table does not know is read.
pub fn route(method: &Method, segments: &[String], is_node: impl Fn(&str) -> bool) -> Route {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method.as_str(), segments.as_slice()) {
        ("OPTIONS", _) => Route::Options,
        // The one path that engines know with a slash at its end.
        ("GET", ["networks", ""]) => Route::NetworkList,
        (_, [.., ""]) => Route::Unknown,
        ("GET" | "HEAD", ["_ping"]) => Route::Ping,
        ("GET", ["version"]) => Route::Version,
        ("GET", ["info"]) => Route::Info,
        ("GET", ["events"]) => Route::Events,
        ("GET", ["system", "df"]) => Route::DiskUsage,
        ("POST", ["auth"]) => Route::Auth,
        ("POST", ["commit"]) => Route::Commit,
        ("POST", ["build" | "session" | "grpc"] | ["build", "cancel"]) => Route::Builder,
        ("POST", [kind, "prune"]) if prunable(kind).is_some() => prunable(kind).map_or(Route::Unknown, Route::Prune),
        ("GET", ["containers", "json" | "ps"]) => Route::ContainerList,
        ("POST", ["containers", "create"]) => Route::ContainerCreate,
        (_, ["containers", rest @ ..]) => container(method, rest, is_node),
        (_, ["exec", id, rest @ ..]) => Route::Exec { id: (*id).to_owned(), rest: owned(rest) },
        (_, ["images", rest @ ..]) => image(method, rest),
        ("GET", ["distribution", name @ .., "json"]) if !name.is_empty() => {
            Route::Distribution { name: name.join("/") }
        }
        (_, ["networks", rest @ ..]) => network(method, rest),
        ("GET", ["volumes"]) => Route::VolumeList,
        ("POST", ["volumes", "create"]) => Route::VolumeCreate,
        ("GET", ["volumes", name @ ..]) => Route::VolumeInspect { name: name.join("/") },
        ("DELETE", ["volumes", name @ ..]) if !name.is_empty() => Route::VolumeRemove { name: name.join("/") },
        (_, ["plugins", rest @ ..]) => plugin(method, rest),
        (_, all) => swarm::call(method, all).map_or(Route::Unknown, Route::SwarmMode),
    }
}

fn prunable(kind: &str) -> Option<Prunable> {
    use Prunable::*;
    [Containers, Images, Networks, Volumes, Build].into_iter().find(|p| p.segment() == kind)
}

fn owned(segments: &[&str]) -> Vec<String> {
    segments.iter().map(|s| (*s).to_owned()).collect()
}

/// What a known call of one container is; `None` where the table does not know it.
fn container_call(method: &Method, rest: &[&str]) -> Option<ContainerCall> {
    use ContainerCall::*;
    Some(match (method.as_str(), rest) {
        ("GET", ["json"]) => Inspect,
        ("DELETE", []) => Remove,
        ("POST", ["rename"]) => Rename,
        ("POST", ["exec"]) => ExecCreate,
        ("POST", ["start" | "stop" | "restart" | "kill" | "pause" | "unpause" | "update"]) => Change,
        ("GET", ["top" | "logs" | "changes" | "export" | "stats" | "archive"] | ["attach", "ws"]) => Other,
        ("HEAD" | "PUT", ["archive"]) | ("POST", ["attach" | "resize" | "wait" | "copy"]) => Other,
        ("GET" | "POST", ["checkpoints"]) | ("DELETE", ["checkpoints", _]) => Other,
        _ => return None,
    })
}

fn container(method: &Method, segments: &[&str], is_node: impl Fn(&str) -> bool) -> Route {
    let split =
        |at: usize, call| Route::Container { name: segments[..at].join("/"), call, rest: owned(&segments[at..]) };
    for at in 1..=segments.len().min(2) {
        if let Some(call) = container_call(method, &segments[at..]) {
            return split(at, call);
        }
    }
    match segments {
        [] => Route::Unknown,
        [first, _, _, ..] if is_node(first) => split(2, ContainerCall::Other),
        [_, _, ..] => split(1, ContainerCall::Other),
        [_] => Route::Unknown,
    }
}

fn image(method: &Method, segments: &[&str]) -> Route {
    let one = |name: &[&str], call| Route::Image { name: name.join("/"), call };
    match (method.as_str(), segments) {
        ("GET", ["json"]) => Route::ImageList,
        ("GET", ["search"]) => Route::ImageSearch,
        ("GET", ["get"]) => Route::ImageSave,
        ("POST", ["create"]) => Route::ImageCreate,
        ("POST", ["load"]) => Route::ImageLoad,
        ("DELETE", name) if !name.is_empty() => one(name, ImageCall::Remove),
        ("GET", [name @ .., "json"]) => one(name, ImageCall::Inspect),
        ("GET", [name @ .., "history"]) if !name.is_empty() => one(name, ImageCall::History),
        ("GET", [name @ .., "get"]) => one(name, ImageCall::Save),
        ("POST", [name @ .., "push"]) if !name.is_empty() => one(name, ImageCall::Push),
        ("POST", [name @ .., "tag"]) if !name.is_empty() => one(name, ImageCall::Tag),
        _ => Route::Unknown,
    }
}

fn network(method: &Method, segments: &[&str]) -> Route {
    let one = |name: &[&str], call| Route::Network { name: name.join("/"), call };
    match (method.as_str(), segments) {
        ("GET", []) => Route::NetworkList,
        ("POST", ["create"]) => Route::NetworkCreate,
        ("GET", name) => one(name, NetworkCall::Inspect),
        ("DELETE", name) if !name.is_empty() => one(name, NetworkCall::Remove),
        ("POST", [name @ .., "connect"]) if !name.is_empty() => one(name, NetworkCall::Connect),
        ("POST", [name @ .., "disconnect"]) if !name.is_empty() => one(name, NetworkCall::Disconnect),
        _ => Route::Unknown,
    }
}

fn plugin(method: &Method, segments: &[&str]) -> Route {
    let one = |name: &[&str], verb| Route::Plugin { name: name.join("/"), verb };
    match (method.as_str(), segments) {
        ("GET", []) => Route::PluginList,
        ("GET", ["privileges"]) | ("POST", ["pull" | "create"] | [_, .., "upgrade" | "push"]) => Route::PluginInstall,
        ("GET", [name @ .., "json"]) if !name.is_empty() => one(name, Some(PluginVerb::Inspect)),
        ("POST", [name @ .., "enable"]) if !name.is_empty() => one(name, Some(PluginVerb::Enable)),
        ("POST", [name @ .., "disable"]) if !name.is_empty() => one(name, Some(PluginVerb::Disable)),
        ("POST", [name @ .., "set"]) if !name.is_empty() => one(name, Some(PluginVerb::Set)),
        ("DELETE", name) if !name.is_empty() => one(name, None),
        _ => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(method: &str, path: &str) -> Route {
        let path = crate::path::ApiPath::parse(path).unwrap();
        route(&method.parse().unwrap(), &path.segments, |n| n == "node-1")
    }

    fn of(name: &str, call: ContainerCall, rest: &[&str]) -> Route {
        Route::Container { name: name.into(), call, rest: owned(rest) }
    }

    #[test]
    fn names_may_carry_their_node_and_look_like_anything() {
        use ContainerCall::*;
        for (method, path, expected) in [
            ("GET", "/v1.41/containers/web/json", of("web", Inspect, &["json"])),
            ("GET", "/containers/node-1/web/json", of("node-1/web", Inspect, &["json"])),
            ("GET", "/containers/node-1%2Fweb/json", of("node-1/web", Inspect, &["json"])),
            ("GET", "/containers/json/json", of("json", Inspect, &["json"])),
            ("GET", "/containers/node-1/json/json", of("node-1/json", Inspect, &["json"])),
            ("POST", "/containers/con/stop", of("con", Change, &["stop"])),
            ("DELETE", "/containers/node-1/web", of("node-1/web", Remove, &[])),
            ("DELETE", "/containers/web/checkpoints/c1", of("web", Other, &["checkpoints", "c1"])),
            ("GET", "/containers/web/attach/ws", of("web", Other, &["attach", "ws"])),
            ("HEAD", "/containers/node-1/web/archive", of("node-1/web", Other, &["archive"])),
            ("POST", "/containers/web/novelty", of("web", Other, &["novelty"])),
            ("POST", "/containers/node-1/web/novelty", of("node-1/web", Other, &["novelty"])),
            ("POST", "/containers/web/novel/ty", of("web", Other, &["novel", "ty"])),
        ] {
            assert_eq!(ask(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn image_names_have_any_number_of_segments() {
        let image = |name: &str, call| Route::Image { name: name.into(), call };
        for (method, path, expected) in [
            ("GET", "/images/json", Route::ImageList),
            ("GET", "/images/json/json", image("json", ImageCall::Inspect)),
            ("GET", "/images/reg:5000/a/b:1/json", image("reg:5000/a/b:1", ImageCall::Inspect)),
            ("DELETE", "/images/a/b@sha256:00", image("a/b@sha256:00", ImageCall::Remove)),
            ("GET", "/images/get", Route::ImageSave),
            ("GET", "/images/a/get", image("a", ImageCall::Save)),
            ("POST", "/images/tag", Route::Unknown),
            ("GET", "/distribution/a/b:1/json", Route::Distribution { name: "a/b:1".into() }),
        ] {
            assert_eq!(ask(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn networks_volumes_and_the_rest_are_found() {
        let network = |name: &str, call| Route::Network { name: name.into(), call };
        let plugin = |name: &str, verb| Route::Plugin { name: name.into(), verb };
        for (method, path, expected) in [
            ("GET", "/networks", Route::NetworkList),
            ("GET", "/networks/node-1/web", network("node-1/web", NetworkCall::Inspect)),
            ("POST", "/networks/web/connect", network("web", NetworkCall::Connect)),
            ("POST", "/networks/prune", Route::Prune(Prunable::Networks)),
            ("GET", "/volumes", Route::VolumeList),
            ("GET", "/volumes/node-1/data", Route::VolumeInspect { name: "node-1/data".into() }),
            ("PUT", "/volumes/data", Route::SwarmMode(SwarmCall::UpdateVolume)),
            ("GET", "/networks/", Route::NetworkList),
            ("GET", "/containers/json/", Route::Unknown),
            ("GET", "/containers/web/json/", Route::Unknown),
            ("HEAD", "/info", Route::Unknown),
            ("POST", "/containers/json", Route::Unknown),
            ("OPTIONS", "/nonsense", Route::Options),
            ("GET", "/plugins", Route::PluginList),
            ("POST", "/plugins/a/b:1/enable", plugin("a/b:1", Some(PluginVerb::Enable))),
            ("DELETE", "/plugins/a", plugin("a", None)),
            ("POST", "/plugins/pull", Route::PluginInstall),
            ("POST", "/plugins/a/bogus", Route::Unknown),
            ("POST", "/exec/abc/start", Route::Exec { id: "abc".into(), rest: owned(&["start"]) }),
            ("HEAD", "/_ping", Route::Ping),
            ("POST", "/_ping", Route::Unknown),
            ("GET", "/services/x", Route::SwarmMode(SwarmCall::Any)),
            ("GET", "/", Route::Unknown),
            ("GET", "/containers/web", Route::Unknown),
        ] {
            assert_eq!(ask(method, path), expected, "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_containers_path_keeps_every_segment(
            method in prop::sample::select(vec!["GET", "POST", "DELETE", "PUT", "HEAD"]),
            segments in prop::collection::vec("json|attach|ws|a|node-1|checkpoints|exec|prune", 0..5),
        ) {
            let mut path = vec!["containers".to_owned()];
            path.extend(segments.clone());
            let found = route(&method.parse().unwrap(), &path, |n| n == "node-1");
            if let Route::Container { name, rest, .. } = found {
                let mut all: Vec<String> = name.split('/').map(str::to_owned).collect();
                all.extend(rest);
                prop_assert_eq!(all, segments);
            }
        }
    }
}
