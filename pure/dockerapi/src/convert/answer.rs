//! Answers.

use crate::version::ApiVersion;
use serde_json::Value;

/// From here on security options are pairs, `name=seccomp,profile=default`.
const SECURITY_PAIRS: ApiVersion = ApiVersion::v1(25);
/// From here on an endpoint's aliases are the user's alone, and `DNSNames` are all.
const DNS_NAMES: ApiVersion = ApiVersion::v1(45);
/// Length of the short id that stands among the names.
const SHORT_ID: usize = 12;

/// Gives an inspect answer in the version `engine` the shape that the client's version has.
pub fn container_inspect(inspect: &mut Value, client: ApiVersion, engine: ApiVersion) {
    if (client < DNS_NAMES) == (engine < DNS_NAMES) {
        return;
    }
    let id = inspect["Id"].as_str().and_then(|id| id.get(..SHORT_ID)).unwrap_or_default().to_owned();
    let name = inspect["Name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    let host = inspect["Config"]["Hostname"].as_str().unwrap_or_default().to_owned();
    let endpoints = inspect.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut);
    for endpoint in endpoints.into_iter().flat_map(|e| e.values_mut()).filter_map(Value::as_object_mut) {
        // Only networks that have names of their own list any; the default one does not.
        let Some(aliases) = endpoint.get("Aliases").and_then(Value::as_array).cloned() else { continue };
        let own = [id.as_str(), host.as_str()];
        let users =
            aliases.into_iter().filter(|a| client < DNS_NAMES || !own.contains(&a.as_str().unwrap_or_default()));
        let mut names: Vec<Value> = users.collect();
        let push = |list: &mut Vec<Value>, name: &str| {
            if !name.is_empty() && !list.iter().any(|n| n == name) {
                list.push(name.into());
            }
        };
        if client < DNS_NAMES {
            own.iter().for_each(|name| push(&mut names, name));
            endpoint.insert("Aliases".to_owned(), names.into());
            endpoint.shift_remove("DNSNames");
        } else {
            let mut all = vec![Value::from(name.as_str())];
            let known = names.iter().filter_map(Value::as_str).chain(own);
            known.for_each(|name| push(&mut all, name));
            let aliases = if names.is_empty() { Value::Null } else { names.into() };
            endpoint.insert("Aliases".to_owned(), aliases);
            endpoint.insert("DNSNames".to_owned(), all.into());
        }
    }
}

/// Gives the newest `info` the shape that the client's version has.
pub fn info(info: &mut Value, client: ApiVersion) {
    if client >= SECURITY_PAIRS {
        return;
    }
    let options = info.get_mut("SecurityOptions").and_then(Value::as_array_mut);
    for option in options.into_iter().flatten() {
        let name = option.as_str().and_then(|o| o.split(',').find_map(|pair| pair.strip_prefix("name=")));
        if let Some(name) = name.map(Value::from) {
            *option = name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{MAX, MIN};
    use serde_json::json;

    fn v(text: &str) -> ApiVersion {
        text.parse().unwrap()
    }

    #[test]
    fn names_of_endpoints_go_both_ways() {
        let inspect = |aliases: Value| {
            json!({"Id": "0123456789abcdef", "Name": "/web", "Config": {"Hostname": "hh"},
                   "NetworkSettings": {"Networks": {"lan": {"Aliases": aliases}, "bridge": {"Aliases": null}}}})
        };
        let mut old = inspect(json!(["one", "0123456789ab", "hh"]));
        container_inspect(&mut old, MAX, v("1.41"));
        let lan = &old["NetworkSettings"]["Networks"]["lan"];
        assert_eq!(
            (&lan["Aliases"], &lan["DNSNames"]),
            (&json!(["one"]), &json!(["web", "one", "0123456789ab", "hh"]))
        );
        assert!(old["NetworkSettings"]["Networks"]["bridge"].get("DNSNames").is_none());
        let mut new = inspect(json!(["one"]));
        container_inspect(&mut new, v("1.41"), v("1.45"));
        assert_eq!(new, inspect(json!(["one", "0123456789ab", "hh"])));
        let mut same = inspect(json!(["one"]));
        container_inspect(&mut same, v("1.41"), v("1.41"));
        assert_eq!(same, inspect(json!(["one"])));
        container_inspect(&mut json!([1]), MAX, MIN);
    }

    #[test]
    fn old_clients_see_security_options_by_name() {
        let mut answer = json!({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless", "odd"]});
        info(&mut answer, MIN);
        assert_eq!(answer["SecurityOptions"], json!(["seccomp", "rootless", "odd"]));
        info(&mut json!({}), MIN);
    }
}
