//! Every other request.

use super::{Member, Need, member, newest_need};
use crate::{filters::Filters, query::Query, version::ApiVersion};
use http::Method;
use serde_json::{Map, Value};

/// The driver option that carries the kernel parameters of one endpoint.
pub(super) const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
pub(super) const SYSCTLS_WHAT: &str = "a kernel parameter of an endpoint";
pub(super) const PRIORITY_WHAT: &str = "the gateway priority of an endpoint";

/// From here on every name of a network is given once; before, a request had to ask for that.
const UNIQUE_NETWORKS: ApiVersion = ApiVersion::v1(44);
/// From here on pruning volumes leaves those alone that somebody named, unless the filter `all` is given.
const PRUNE_ALL: ApiVersion = ApiVersion::v1(42);

const CONNECT: [Member; 3] = [
    member(44, &["EndpointConfig", "MacAddress"], "the MAC address of an endpoint"),
    member(46, &["EndpointConfig", "DriverOpts", SYSCTLS], SYSCTLS_WHAT),
    member(48, &["EndpointConfig", "GwPriority"], PRIORITY_WHAT),
];
const NETWORK: [Member; 3] = [
    member(30, &["ConfigFrom", "Network"], "a network made from another's configuration"),
    member(30, &["ConfigOnly"], "a network that is only a configuration"),
    Member {
        since: ApiVersion::v1(48),
        path: &["EnableIPv4"],
        is_used: |value| value == &Value::Bool(false),
        what: "a network without IPv4",
    },
];

/// Parameters of calls of one container: method, call, parameter, and the minor version that brought it.
const PARAMETERS: [(Method, &str, &str, u16, &str); 4] = [
    (Method::POST, "wait", "condition", 30, "waiting for a condition"),
    (Method::GET, "logs", "until", 35, "the end of a log"),
    (Method::POST, "stop", "signal", 42, "stopping with a signal"),
    (Method::POST, "restart", "signal", 42, "restarting with a signal"),
];

/// What a call of one container, the segments `rest` behind its name, needs of its engine.
pub fn container_need(method: &Method, rest: &[&str], query: &Query, client: ApiVersion) -> Option<Need> {
    let given = |parameter: &str| query.get(parameter).is_some_and(|value| !matches!(value, "" | "0"));
    let row = PARAMETERS.iter().find(|(m, call, p, minor, _)| {
        m == method && rest == [*call] && given(p) && ApiVersion::v1(*minor) <= client
    })?;
    Some(Need { since: ApiVersion::v1(row.3), what: row.4 })
}

/// What connecting a container to a network needs of its engine.
pub fn connect_need(body: &Value, client: ApiVersion) -> Option<Need> {
    newest_need(&CONNECT, body, client)
}

/// What a request to create a network needs of its engine.
pub fn network_need(body: &Value, client: ApiVersion) -> Option<Need> {
    newest_need(&NETWORK, body, client)
}

/// Says in the engine's version what a client asked for when it created a network.
pub fn network_create(body: &mut Map<String, Value>, client: ApiVersion, engine: ApiVersion) {
    if client >= UNIQUE_NETWORKS && engine < UNIQUE_NETWORKS {
        body.insert("CheckDuplicate".to_owned(), true.into());
    }
}

/// How an engine is to be asked to prune volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumePrune {
    /// With this query.
    Ask(Query),
    /// The engine would also take away what somebody named: it has to be told volume by volume.
    OneByOne,
}

/// Whether a client means also volumes that somebody named when it prunes volumes.
pub fn prunes_named_volumes(filters: &Filters, client: ApiVersion) -> bool {
    client < PRUNE_ALL || matches!(filters.boolean("all"), Ok(Some(true)))
}

/// Keeps what a client means by pruning volumes: to one that speaks 1.42 or newer, volumes that somebody named are safe
/// unless it says `all`; an older one wants all that are unused.
pub fn volume_prune(query: &Query, client: ApiVersion, engine: ApiVersion) -> VolumePrune {
    let Ok(filters) = Filters::parse(query.get("filters")) else { return VolumePrune::Ask(query.clone()) };
    let all = prunes_named_volumes(&filters, client);
    if engine < PRUNE_ALL && !all {
        return VolumePrune::OneByOne;
    }
    let mut text: Map<String, Value> =
        query.get("filters").and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    if engine < PRUNE_ALL {
        text.shift_remove("all");
    } else if all {
        text.insert("all".to_owned(), serde_json::json!({"true": true}));
    }
    let mut query = query.clone();
    query.set("filters", &Value::Object(text).to_string());
    VolumePrune::Ask(query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::MAX;
    use serde_json::json;

    fn v(text: &str) -> ApiVersion {
        text.parse().unwrap()
    }

    #[test]
    fn parameters_that_old_engines_would_not_heed_are_needs() {
        let need = |method, call: &str, query: &str, client: &str| {
            container_need(&method, &[call], &Query::parse(Some(query)).unwrap(), v(client))
                .map(|n| n.since.to_string())
        };
        assert_eq!(need(Method::POST, "stop", "signal=INT&t=1", "1.51").as_deref(), Some("1.42"));
        assert_eq!(need(Method::POST, "stop", "signal=INT", "1.41"), None);
        assert_eq!(need(Method::POST, "stop", "signal=", "1.51"), None);
        assert_eq!(need(Method::POST, "kill", "signal=INT", "1.51"), None);
        assert_eq!(need(Method::POST, "wait", "condition=removed", "1.51").as_deref(), Some("1.30"));
        assert_eq!(need(Method::GET, "logs", "until=0", "1.51"), None);
    }

    #[test]
    fn networks_and_endpoints_say_what_they_need() {
        assert_eq!(network_need(&json!({"EnableIPv4": false}), MAX).unwrap().since, v("1.48"));
        assert_eq!(network_need(&json!({"EnableIPv4": true, "ConfigFrom": {"Network": ""}}), MAX), None);
        let connect = json!({"EndpointConfig": {"MacAddress": "02:00:00:00:00:01", "GwPriority": 0}});
        assert_eq!(connect_need(&connect, MAX).unwrap().since, v("1.44"));
        assert_eq!(connect_need(&connect, v("1.43")), None);
        let mut body = Map::new();
        network_create(&mut body, MAX, v("1.41"));
        assert_eq!(body["CheckDuplicate"], true);
        let mut body = Map::new();
        network_create(&mut body, v("1.41"), v("1.41"));
        assert!(body.is_empty());
    }

    #[test]
    fn pruning_volumes_takes_what_the_client_means() {
        let ask = |filters: &str, client: &str, engine: &str| {
            let mut query = Query::default();
            query.set("filters", filters);
            match volume_prune(&query, v(client), v(engine)) {
                VolumePrune::Ask(query) => query.get("filters").unwrap().to_owned(),
                VolumePrune::OneByOne => "one by one".to_owned(),
            }
        };
        for (filters, client, engine, expected) in [
            (r#"{"label":{"a":true}}"#, "1.51", "1.51", r#"{"label":{"a":true}}"#),
            ("", "1.41", "1.51", r#"{"all":{"true":true}}"#),
            (r#"{"label":{"a":true}}"#, "1.41", "1.41", r#"{"label":{"a":true}}"#),
            ("", "1.51", "1.41", "one by one"),
            (r#"{"all":{"true":true},"label":{"a":true}}"#, "1.51", "1.41", r#"{"label":{"a":true}}"#),
            (r#"{"all":["1"]}"#, "1.42", "1.42", r#"{"all":{"true":true}}"#),
            ("{", "1.51", "1.51", "{"),
        ] {
            assert_eq!(ask(filters, client, engine), expected, "{filters} {client} {engine}");
        }
    }
}
