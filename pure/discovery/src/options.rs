//! Options of the form `key=value`, as `--discovery-opt` and `--cluster-opt` take them.

use std::collections::BTreeMap;

/// Keys with their values; of a key that was given twice the last value counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyValues(BTreeMap<String, String>);

/// An option without `=`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--discovery-opt must contain key=value strings")]
pub struct NotKeyValue;

impl KeyValues {
    /// Reads the options.
    pub fn parse(options: &[String]) -> Result<Self, NotKeyValue> {
        let split = |text: &String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        options.iter().map(split).collect::<Option<_>>().map(Self).ok_or(NotKeyValue)
    }

    /// The value of a key; an empty one is as good as none.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// All keys that were given.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_every_option_has_one() {
        let options = |list: &[&str]| KeyValues::parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let read = options(&["kv.path=a", "kv.path=b=c", "empty="]).unwrap();
        assert_eq!((read.get("kv.path"), read.get("empty"), read.get("none")), (Some("b=c"), None, None));
        assert!(options(&["kv.path"]).is_err());
    }
}
