//! The `filters` parameter of list calls: `{"key":{"value":true}}`, or from old clients `{"key":["value"]}`.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The filters of one call: values by key. Values of one key are alternatives unless a filter says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// The filters cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FiltersError {
    /// The parameter is not JSON of one of the two shapes.
    #[error("invalid filter")]
    Malformed,
    /// This list has no such filter.
    #[error("invalid filter '{0}'")]
    Unknown(String),
    /// The filter cannot have this value.
    #[error("invalid filter '{key}={value}'")]
    Value {
        /// The filter.
        key: String,
        /// Its value.
        value: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// Reads the parameter; `None` and the empty text are no filters.
    pub fn parse(text: Option<&str>) -> Result<Self, FiltersError> {
        let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(Self::default()) };
        let keys: BTreeMap<String, Values> = serde_json::from_str(text).map_err(|_| FiltersError::Malformed)?;
        let values = |v| match v {
            Values::Map(map) => map.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
            Values::List(list) => list.into_iter().collect(),
        };
        Ok(Self(keys.into_iter().map(|(key, v)| (key, values(v))).collect()))
    }

    /// Refuses filters other than these: one that were ignored would return too much.
    pub fn only(self, known: &[&str]) -> Result<Self, FiltersError> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(FiltersError::Unknown(key.clone())),
            None => Ok(self),
        }
    }

    /// The values of one filter.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether the filter was given.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).next().is_some()
    }

    /// Whether the filter is absent or one of its values passes.
    pub fn any(&self, key: &str, pass: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.get(key).any(pass)
    }

    /// Whether every value of the filter passes.
    pub fn all(&self, key: &str, pass: impl FnMut(&str) -> bool) -> bool {
        self.get(key).all(pass)
    }

    /// The value of a filter that is true or false.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, FiltersError> {
        match self.get(key).next() {
            None => Ok(None),
            Some("1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(value) => Err(FiltersError::Value { key: key.to_owned(), value: value.to_owned() }),
        }
    }

    /// Whether labels satisfy every value of `key`, each `name` or `name=value`; with `!` behind the key's name the
    /// engine wants none of them.
    pub fn labels<'a>(&self, key: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let holds = |wanted: &str| match wanted.split_once('=') {
            Some((name, value)) => label(name) == Some(value),
            None => label(wanted).is_some(),
        };
        // Most lists have no filter, and many rows.
        self.0.is_empty() || (self.all(key, holds) && !self.get(&format!("{key}!")).any(holds))
    }
}

/// Docker's loose match of names and ids: a regular expression found anywhere, or where it is not one, plain text.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    regex: Option<regex::Regex>,
}

impl Pattern {
    /// Takes the user's pattern; none is refused.
    pub fn new(text: &str) -> Self {
        let regex = regex::RegexBuilder::new(text).size_limit(1 << 20).build().ok();
        Self { text: text.to_owned(), regex }
    }

    /// Whether the pattern occurs in `value`.
    pub fn matches(&self, value: &str) -> bool {
        value.contains(&self.text) || self.regex.as_ref().is_some_and(|r| r.is_match(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_shapes_mean_the_same() {
        let new = Filters::parse(Some(r#"{"status":{"running":true,"paused":false}}"#)).unwrap();
        let old = Filters::parse(Some(r#"{"status":["running"]}"#)).unwrap();
        assert_eq!(new, old);
        assert!(Filters::parse(Some("")).unwrap() == Filters::default());
        for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":{"b":1}}"#] {
            assert!(matches!(Filters::parse(Some(bad)), Err(FiltersError::Malformed)), "{bad}");
        }
    }

    #[test]
    fn unknown_filters_are_refused() {
        let filters = Filters::parse(Some(r#"{"bogus":["1"]}"#)).unwrap();
        assert_eq!(filters.only(&["name"]).unwrap_err().to_string(), "invalid filter 'bogus'");
    }

    #[test]
    fn all_labels_must_hold_and_negated_ones_must_not() {
        let label = |name: &str| (name == "tier").then_some("web");
        for (filter, holds) in [
            (r#"{"label":["tier"]}"#, true),
            (r#"{"label":["tier=web"]}"#, true),
            (r#"{"label":["tier=db"]}"#, false),
            (r#"{"label":["tier","zone"]}"#, false),
            (r#"{"label!":["tier=db"]}"#, true),
            (r#"{"label!":["tier"]}"#, false),
        ] {
            assert_eq!(Filters::parse(Some(filter)).unwrap().labels("label", label), holds, "{filter}");
        }
    }

    #[test]
    fn patterns_are_found_anywhere_and_broken_ones_are_text() {
        assert!(Pattern::new("^we").matches("web") && !Pattern::new("^eb").matches("web"));
        assert!(Pattern::new("a[").matches("xa[b") && !Pattern::new("a[").matches("ab"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", value in ".*") {
            let _ = Filters::parse(Some(&text));
            let _ = Pattern::new(&text).matches(&value);
        }
    }
}
