//! Classic Swarm's expressions, such as `zone==eu*`, `container!=~db` or `node==/^n[0-9]+$/`.
//!
//! `KEY OP VALUE`: the key has at least two of `A-Za-z0-9_-.` and begins with a letter or `_`; the operator is `==` or
//! `!=`; `~` before the value makes the wish soft; a value between slashes is a regular expression, which may match
//! anywhere in the text; in any other value `*` stands for any text and everything else for itself.

use crate::snapshot::is_hex;
use regex::{Regex, RegexBuilder};
use std::{fmt, str::FromStr};

/// The largest compiled form of a regular expression, in bytes: clients choose them.
const REGEX_SIZE: usize = 256 << 10;
const OPERATORS: [&str; 2] = ["==", "!="];

/// A wish about one property.
#[derive(Debug, Clone)]
pub struct Expression {
    key: String,
    negated: bool,
    soft: bool,
    value: String,
    pattern: Pattern,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// The texts between the asterisks.
    Glob(Vec<String>),
    Regex(Box<Regex>),
}

/// The text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// There is neither `==` nor `!=` in it.
    #[error("One of operator ==, != is expected")]
    NoOperator,
    /// What stands before the operator is no name of a property.
    #[error("Key '{0}' is invalid")]
    Key(String),
    /// What stands behind it is empty or has control characters.
    #[error("Value '{0}' is invalid")]
    Value(String),
    /// What stands between the slashes is no regular expression.
    #[error("Value '{value}' is invalid: {reason}")]
    Regex {
        /// The value with its slashes.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Expression {
    /// `key==value` or `key!=value`, hard, where every character of the value stands for itself.
    pub fn literal(key: &str, negated: bool, value: &str) -> Self {
        let pattern = Pattern::Glob(vec![value.to_owned()]);
        Self { key: key.to_owned(), negated, soft: false, value: value.to_owned(), pattern }
    }

    /// The property's name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it may be broken if nothing fits otherwise.
    pub fn is_soft(&self) -> bool {
        self.soft
    }

    /// Whether the operator is `!=`.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// The value as it was written, without the sign of a soft one.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether the value matches this text; the operator does not count.
    pub fn matches(&self, text: &str) -> bool {
        match &self.pattern {
            Pattern::Regex(regex) => regex.is_match(text),
            Pattern::Glob(parts) => glob(parts, text),
        }
    }

    /// Whether the value could match anything that stands somewhere in this text: a quick look that spares looking at its
    /// words one by one.
    pub(crate) fn may_match_within(&self, text: &str) -> bool {
        match &self.pattern {
            Pattern::Regex(_) => true,
            Pattern::Glob(parts) => parts.iter().all(|part| text.contains(part)),
        }
    }

    /// Whether the value matches nothing that consists of hex digits, as far as a quick look tells.
    pub(crate) fn is_beyond_hex(&self) -> bool {
        match &self.pattern {
            Pattern::Regex(_) => false,
            Pattern::Glob(parts) => !parts.iter().all(|part| is_hex(part)),
        }
    }

    /// Whether the wish is met where a thing has these properties: one must match (`==`), or none may (`!=`).
    pub fn holds<'a>(&self, mut properties: impl Iterator<Item = &'a str>) -> bool {
        properties.any(|text| self.matches(text)) != self.negated
    }

    /// Whether a whitelist has this node: one of the names between `|`, or with `!=` none of them.
    pub fn lists(&self, node: &str) -> bool {
        self.value.split('|').any(|name| name == node) != self.negated
    }

    /// The wish without its softness, as error messages show it.
    pub fn hard_text(&self) -> String {
        format!("{}{}{}", self.key, OPERATORS[usize::from(self.negated)], self.value)
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        let split = OPERATORS.iter().enumerate().filter_map(|(i, op)| Some((i, text.split_once(op)?)));
        let first = split.min_by_key(|(_, (key, _))| key.len());
        let (operator, (key, written)) = first.ok_or(ExpressionError::NoOperator)?;
        if !is_key(key) {
            return Err(ExpressionError::Key(key.to_owned()));
        }
        let (soft, value) = written.strip_prefix('~').map_or((false, written), |value| (true, value));
        if value.is_empty() || value.starts_with('~') || value.contains(char::is_control) {
            return Err(ExpressionError::Value(written.to_owned()));
        }
        let between = value.strip_prefix('/').and_then(|v| v.strip_suffix('/'));
        let pattern = match between {
            Some(regex) => {
                let built = RegexBuilder::new(regex).size_limit(REGEX_SIZE).dfa_size_limit(REGEX_SIZE).build();
                let bad = |e| ExpressionError::Regex { value: value.to_owned(), reason: reason(&e) };
                Pattern::Regex(Box::new(built.map_err(bad)?))
            }
            None => Pattern::Glob(value.split('*').map(str::to_owned).collect()),
        };
        Ok(Self { key: key.to_owned(), negated: operator == 1, soft, value: value.to_owned(), pattern })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = OPERATORS[usize::from(self.negated)];
        write!(f, "{}{operator}{}{}", self.key, if self.soft { "~" } else { "" }, self.value)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        let written = |e: &Self| (e.negated, e.soft);
        written(self) == written(other) && self.key == other.key && self.value == other.value
    }
}

impl Eq for Expression {}

fn is_key(key: &str) -> bool {
    let mut chars = key.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && key.len() > 1 && chars.all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The last line of the library's message: those before it draw the expression.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// Whether the parts stand in the text in their order, the first at its beginning and the last at its end.
fn glob(parts: &[String], text: &str) -> bool {
    let (first, last, middle) = match parts {
        [] => return text.is_empty(),
        [only] => return text == only,
        [first, middle @ .., last] => (first, last, middle),
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        let Some(at) = rest.find(part.as_str()) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Expression, String> {
        text.parse::<Expression>().map_err(|e| e.to_string())
    }

    #[test]
    fn values_match_as_they_are_written() {
        for (text, yes, no) in [
            ("zone==eu", "eu", "eu1"),
            ("zone==eu*", "eu-1", "us-eu"),
            ("zone==*eu*west", "a-eu-b-west", "a-eu-b-west-c"),
            ("zone==*", "", "\u{0}never\u{0}"),
            ("ip==10.0.0.1", "10.0.0.1", "10a0b0c1"),
            ("node==n1|n2", "n1|n2", "n1"),
            ("node==/n[12]$/", "node-n2", "n3"),
            ("node==/(?i)^EU$/", "eu", "eu1"),
            ("node==/n1|n2/", "xn1x", "n3"),
            ("image==reg:5000/a,b@sha256:0f", "reg:5000/a,b@sha256:0f", "reg:5000/a"),
            ("path==/", "/", "a/b"),
            ("path==/usr", "/usr", "usr"),
            ("soft==~a*", "ab", "ba"),
            ("over==aa*aa", "aaaa", "aaa"),
            ("sign===x", "=x", "x"),
        ] {
            let expression = parse(text).unwrap();
            assert!(expression.matches(yes), "{text} matches {yes}");
            assert!(text == "zone==*" || !expression.matches(no), "{text} does not match {no}");
        }
    }

    #[test]
    fn operators_tell_whether_a_match_is_wanted() {
        let (is, is_not) = (parse("a_==x").unwrap(), parse("a_!=x").unwrap());
        assert!(is.holds(["y", "x"].into_iter()) && !is.holds(["y"].into_iter()) && !is.holds([].into_iter()));
        assert!(!is_not.holds(["y", "x"].into_iter()) && is_not.holds(["y"].into_iter()));
        assert!(is_not.holds([].into_iter()));
        assert!(parse("a_!=~x").unwrap().is_soft());
        assert_eq!(parse("a_!=~x").unwrap().hard_text(), "a_!=x");
        assert!(Expression::literal("a", false, "x*").matches("x*"));
    }

    #[test]
    fn mistakes_are_told_in_classic_swarms_words() {
        for (text, error) in [
            ("r==us", "Key 'r' is invalid"),
            ("==us", "Key '' is invalid"),
            ("1a==us", "Key '1a' is invalid"),
            ("a b==us", "Key 'a b' is invalid"),
            ("a=b==c", "Key 'a=b' is invalid"),
            ("zone==", "Value '' is invalid"),
            ("zone==~", "Value '~' is invalid"),
            ("zone==~~a", "Value '~~a' is invalid"),
            ("zone==a\nb", "Value 'a\nb' is invalid"),
            ("zone=eu", "One of operator ==, != is expected"),
            ("", "One of operator ==, != is expected"),
            ("zone==/(/", "Value '/(/' is invalid: unclosed group"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
        let huge = parse("zone==/(a{1000}){1000}/").unwrap_err();
        assert!(huge.starts_with("Value '/(a{1000}){1000}/' is invalid: ") && huge.contains("size"), "{huge}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", other in ".*") {
            if let Ok(expression) = text.parse::<Expression>() {
                expression.matches(&other);
                prop_assert_eq!(expression.to_string(), text);
            }
        }

        #[test]
        fn what_is_printed_is_read_again(
            key in "[A-Za-z_][A-Za-z0-9._-]{1,9}", op in "==|!=", soft in "~?", value in "[^~\\pC][^\\pC]{0,9}",
            text in "[^\\pC]{0,9}",
        ) {
            let written = format!("{key}{op}{soft}{value}");
            let Ok(expression) = written.parse::<Expression>() else {
                prop_assert!(value.starts_with('/') && value.ends_with('/'), "only a regular expression may be wrong");
                return Ok(());
            };
            let again: Expression = expression.to_string().parse().unwrap();
            prop_assert_eq!(again.matches(&text), expression.matches(&text));
            prop_assert_eq!(again, expression);
        }

        #[test]
        fn a_glob_is_the_regex_it_stands_for(glob in "[ab.*]{1,6}", text in "[ab.]{0,8}") {
            let expression: Expression = format!("key=={glob}").parse().unwrap();
            let regex = format!("^{}$", regex::escape(&glob).replace("\\*", ".*"));
            prop_assert_eq!(expression.matches(&text), Regex::new(&regex).unwrap().is_match(&text));
            let around = format!("b{text}a");
            prop_assert!(!expression.matches(&text) || expression.may_match_within(&around));
        }
    }
}
