//! What a `POST /networks/create` asks of a network of the cluster.

use osier_model::NETWORK;
use osier_networks::Draft;
use serde_json::Value;
use std::collections::BTreeMap;

/// The cluster cannot make a network of this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// A member that is something else than the API says.
    #[error("'{0}' of a network has the wrong type")]
    WrongType(&'static str),
    /// Text that is no address or subnet.
    #[error("'{value}' is not an IPv4 {what}")]
    Malformed {
        /// What it should have been.
        what: &'static str,
        /// The text.
        value: String,
    },
    /// The name is missing or not one that engines take.
    #[error("'{0}' is not a name for a network: letters, digits, '_', '.' and '-', beginning with a letter or digit")]
    Name(String),
    /// A wish that such networks cannot fulfil.
    #[error("networks of the driver {NETWORK} {0}")]
    Unsupported(&'static str),
}

/// What a request wants of a network of the cluster (Docker API, "Create a network"); `None` where it is about a network of another driver.
pub fn network_wishes(body: &Value) -> Result<Option<Draft>, WishError> {
    if body["Driver"] != NETWORK {
        return Ok(None);
    }
    let name = body["Name"].as_str().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fits) {
        return Err(WishError::Name(name.to_owned()));
    }
    if flag(body, "EnableIPv6")? {
        return Err(WishError::Unsupported("have no IPv6"));
    }
    if flag(body, "ConfigOnly")? || !body["ConfigFrom"]["Network"].as_str().unwrap_or_default().is_empty() {
        return Err(WishError::Unsupported("neither are nor have a network of configuration"));
    }
    if flag(body, "Ingress")? {
        return Err(WishError::Unsupported("have no routing mesh"));
    }
    let driver = body["IPAM"]["Driver"].as_str().unwrap_or_default();
    if !matches!(driver, "" | "default" | NETWORK) {
        return Err(WishError::Unsupported("give out addresses by themselves: leave the IPAM driver out"));
    }
    let configs = match &body["IPAM"]["Config"] {
        Value::Null => &[],
        Value::Array(list) => list.as_slice(),
        _ => return Err(WishError::WrongType("IPAM.Config")),
    };
    if configs.len() > 1 {
        return Err(WishError::Unsupported("have one subnet"));
    }
    let config = configs.first().unwrap_or(&Value::Null);
    let reserved = words(&config["AuxiliaryAddresses"], "AuxiliaryAddresses")?;
    let reserved = reserved.into_iter().map(|(name, text)| Ok((name, parse("address", &text)?)));
    Ok(Some(Draft {
        name: name.to_owned(),
        subnet: optional("subnet", &config["Subnet"])?,
        range: optional("range", &config["IPRange"])?,
        gateway: optional("gateway", &config["Gateway"])?,
        reserved: reserved.collect::<Result<_, WishError>>()?,
        internal: flag(body, "Internal")?,
        attachable: flag(body, "Attachable")?,
        labels: words(&body["Labels"], "Labels")?,
        options: words(&body["Options"], "Options")?,
    }))
}

fn flag(body: &Value, name: &'static str) -> Result<bool, WishError> {
    match &body[name] {
        Value::Null => Ok(false),
        value => value.as_bool().ok_or(WishError::WrongType(name)),
    }
}

fn words(map: &Value, name: &'static str) -> Result<BTreeMap<String, String>, WishError> {
    if map.is_null() {
        return Ok(BTreeMap::new());
    }
    let map = map.as_object().ok_or(WishError::WrongType(name))?;
    let word = |(key, value): (&String, &Value)| {
        let value = value.as_str().ok_or(WishError::WrongType(name))?;
        Ok((key.clone(), value.to_owned()))
    };
    map.iter().map(word).collect()
}

fn optional<T: std::str::FromStr>(what: &'static str, value: &Value) -> Result<Option<T>, WishError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => parse(what, text).map(Some),
        _ => Err(WishError::WrongType(what)),
    }
}

fn parse<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, WishError> {
    text.parse().map_err(|_| WishError::Malformed { what, value: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::Ipv4Addr;

    fn read(mut body: Value) -> Result<Option<Draft>, String> {
        if body.get("Driver").is_none() {
            body["Driver"] = NETWORK.into();
        }
        network_wishes(&body).map_err(|e| e.to_string())
    }

    #[test]
    fn what_the_command_line_sends_is_read() {
        let body = json!({"CheckDuplicate": true, "Name": "back", "Scope": "", "EnableIPv6": false, "Internal": true,
            "IPAM": {"Driver": "default", "Options": {}, "Config": [{"Subnet": "10.7.0.0/16", "IPRange": "10.7.1.0/24",
            "Gateway": "10.7.0.1", "AuxiliaryAddresses": {"printer": "10.7.1.9"}}]},
            "Attachable": false, "Ingress": false, "ConfigOnly": false, "ConfigFrom": null,
            "Options": {"a": "1"}, "Labels": {"b": "2"}});
        let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let wishes = Draft {
            name: "back".into(),
            subnet: "10.7.0.0/16".parse().ok(),
            range: "10.7.1.0/24".parse().ok(),
            gateway: "10.7.0.1".parse().ok(),
            reserved: [("printer".to_owned(), Ipv4Addr::new(10, 7, 1, 9))].into(),
            internal: true,
            attachable: false,
            labels: pair("b", "2"),
            options: pair("a", "1"),
        };
        assert_eq!(read(body), Ok(Some(wishes)));
        let plain = Draft { name: "x".into(), ..Draft::default() };
        assert_eq!(read(json!({"Name": "x", "IPAM": null, "Labels": null})), Ok(Some(plain)));
        for other in [json!({"Name": "x", "Driver": "bridge"}), json!({"Name": "x", "Driver": null})] {
            assert_eq!(network_wishes(&other), Ok(None), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let ipam = |config: Value| json!({"Name": "x", "IPAM": {"Config": config}});
        for (body, problem) in [
            (
                json!({}),
                "'' is not a name for a network: letters, digits, '_', '.' and '-', beginning with a letter or digit",
            ),
            (
                json!({"Name": "a/b"}),
                "'a/b' is not a name for a network: letters, digits, '_', '.' and '-', beginning with a letter or digit",
            ),
            (json!({"Name": "x", "EnableIPv6": true}), "networks of the driver osier have no IPv6"),
            (json!({"Name": "x", "Internal": "yes"}), "'Internal' of a network has the wrong type"),
            (
                json!({"Name": "x", "IPAM": {"Driver": "dhcp"}}),
                "networks of the driver osier give out addresses by themselves: leave the IPAM driver out",
            ),
            (ipam(json!([{}, {}])), "networks of the driver osier have one subnet"),
            (ipam(json!({})), "'IPAM.Config' of a network has the wrong type"),
            (ipam(json!([{"Subnet": "fd00::/64"}])), "'fd00::/64' is not an IPv4 subnet"),
            (ipam(json!([{"Subnet": "10.7.0.0/33"}])), "'10.7.0.0/33' is not an IPv4 subnet"),
            (ipam(json!([{"Gateway": "x"}])), "'x' is not an IPv4 gateway"),
            (ipam(json!([{"AuxiliaryAddresses": {"a": 1}}])), "'AuxiliaryAddresses' of a network has the wrong type"),
        ] {
            assert_eq!(read(body), Err(problem.to_owned()));
        }
    }
}
