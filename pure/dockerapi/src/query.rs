//! Query strings: decoded pairs, Docker's idea of a boolean, and the edits that keep everything else as it came.

use crate::path::decode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A query string's pairs in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query(Vec<(String, String)>);

/// The query string is not properly encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("decode the query '{0}'")]
pub struct QueryError(String);

impl Query {
    /// Reads what stands behind the `?`; `None` is an empty query.
    pub fn parse(text: Option<&str>) -> Result<Self, QueryError> {
        let text = text.unwrap_or_default();
        let decoded = |t: &str| decode(&t.replace('+', " ")).ok_or_else(|| QueryError(text.to_owned()));
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(key)?, decoded(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    /// The first value of this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// Every value of this key, in order.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Docker's boolean: false when absent, empty, `0`, `no`, `false` or `none`; anything else is true.
    pub fn flag(&self, key: &str) -> bool {
        let value = self.get(key).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// Puts `value` in the place of every value of `key`.
    pub fn set(&mut self, key: &str, value: &str) {
        self.remove(key);
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k != key);
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (key, value)) in self.0.iter().enumerate() {
            let [key, value] = [key, value].map(|t| utf8_percent_encode(t, NON_ALPHANUMERIC));
            write!(f, "{}{key}={value}", if i == 0 { "" } else { "&" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_decoded_and_flags_are_dockers() {
        let query = Query::parse(Some("all=1&names=a%3Ab&names=c+d&force=False&v&x=none")).unwrap();
        assert_eq!(query.all("names").collect::<Vec<_>>(), ["a:b", "c d"]);
        assert!(query.flag("all") && !query.flag("force") && !query.flag("v") && !query.flag("x") && !query.flag("y"));
        assert!(Query::parse(Some("a=%zz")).is_err());
    }

    #[test]
    fn edits_leave_the_rest() {
        let mut query = Query::parse(Some("name=a&platform=x&name=b")).unwrap();
        query.set("name", "c d");
        query.remove("platform");
        assert_eq!(query.to_string(), "name=c%20d");
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(pairs in prop::collection::vec((".+", ".*"), 0..4)) {
            let query = Query(pairs);
            prop_assert_eq!(Query::parse(Some(&query.to_string())).unwrap(), query);
        }

        #[test]
        fn no_query_makes_it_panic(text in ".*") {
            let _ = Query::parse(Some(&text));
        }
    }
}
