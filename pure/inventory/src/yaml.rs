//! Files of variables: YAML or JSON with one mapping at the top, as `group_vars` and `host_vars` hold.
//!
//! Must not know whose variables they are. YAML is read as version 1.1 has it (`yes` is true, `0644` is octal, `<<`
//! merges, the last of several equal keys wins), because that is what Ansible's reader does.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned, Tagged, options::NonFiniteFloatPolicy};

/// Reads a file of variables. The errors are pairs of line number (from 1) and reason.
pub(crate) fn variables(text: &str) -> Result<Map<String, Value>, Vec<(usize, String)>> {
    if text.starts_with("$ANSIBLE_VAULT") {
        return Err(vec![(1, format!("the file is {VAULT}"))]);
    }
    if let Ok(map) = serde_json::from_str(text) {
        return Ok(map);
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    let node: Option<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let line = e.location().and_then(|l| usize::try_from(l.line()).ok()).unwrap_or(1);
        vec![(line.max(1), format!("cannot read YAML: {e}"))]
    })?;
    let mut problems = Vec::new();
    let map = match node.map(|n| n.value(text, &mut problems)) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(vec![(1, "the file must hold a mapping of variables (name: value)".to_owned())]),
    };
    if problems.is_empty() { Ok(map) } else { Err(problems) }
}

const VAULT: &str = "encrypted with ansible-vault, which is not supported; decrypt it ('ansible-vault decrypt') or pass \
                     the value in another way";

/// A YAML value with its tag and its place.
struct Node(Tagged<Spanned<Plain>>);

enum Plain {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

impl Node {
    /// The value as JSON; `text` is the file's.
    fn value(self, text: &str, problems: &mut Vec<(usize, String)>) -> Value {
        let Tagged(Spanned { value, referenced, .. }, tag) = self.0;
        if let Some(message) = tag.as_deref().and_then(refusal) {
            problems.push((line_of_tag(text, tag.as_deref().unwrap_or_default(), &referenced), message));
        }
        match value {
            Plain::Scalar(Value::Bool(b)) => letter(text, &referenced).map_or(Value::Bool(b), Value::String),
            Plain::Scalar(value) => value,
            Plain::List(nodes) => nodes.into_iter().map(|n| n.value(text, problems)).collect(),
            Plain::Mapping(pairs) => {
                pairs.into_iter().map(|(key, node)| (key, node.value(text, problems))).collect::<Map<_, _>>().into()
            }
        }
    }
}

/// Why a value with this tag cannot be used, if it cannot.
fn refusal(tag: &str) -> Option<String> {
    match tag {
        "!vault" | "!vault-encrypted" => Some(format!("the value is {VAULT}")),
        "!unsafe" => None,
        _ if tag.starts_with("tag:yaml.org,2002:") => None,
        _ => Some(format!("the tag '{tag}' is not supported")),
    }
}

/// The line of a value's tag: a block's own place is the line behind it.
fn line_of_tag(text: &str, tag: &str, place: &Location) -> usize {
    let line = usize::try_from(place.line()).unwrap_or(1).max(1);
    let above = text.lines().take(line).enumerate().filter(|(_, l)| l.contains(tag)).last();
    above.map_or(line, |(index, _)| index + 1)
}

/// A plain `y` or `n`, which is a truth value by the letter of YAML 1.1, but text for Ansible's reader.
fn letter(text: &str, place: &Location) -> Option<String> {
    let start = usize::try_from(place.span().byte_offset()?).ok()?;
    let raw = text.get(start..)?;
    let end = raw.find(|c: char| !c.is_alphanumeric()).unwrap_or(raw.len());
    (end == 1).then(|| raw[..end].to_owned())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Plain;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Plain, E> {
        Ok(Plain::Scalar(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Plain, E> {
        Ok(Plain::Scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Plain, E> {
        Ok(Plain::Scalar(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Plain, E> {
        Ok(Plain::Scalar(Number::from_f64(v).map_or_else(|| v.to_string().into(), Value::Number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Plain, E> {
        Ok(Plain::Scalar(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Plain, E> {
        Ok(Plain::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Plain, D::Error> {
        Plain::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Plain, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Plain::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Plain, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        Ok(Plain::Mapping(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_read_as_ansible_reads_it() {
        let text = "a: yes\nb: off\nmode: 0644\nn: ~\nlist:\n  - 1\n  - 'x'\nbase: &b {u: 1, v: 2}\nall: {<<: *b, v: 3}\n\
                    a2: 1.5\nw: !unsafe '{{ x }}'\ns: \"10\"\n7: seven\ns: 11\nyes_no: [y, N, yes]\n";
        let expected = json!({"a": true, "b": false, "mode": 420, "n": null, "list": [1, "x"], "base": {"u": 1, "v": 2},
            "all": {"u": 1, "v": 3}, "a2": 1.5, "w": "{{ x }}", "7": "seven", "s": 11, "yes_no": ["y", "N", true]});
        assert_eq!(Value::Object(variables(text).unwrap()), expected);
    }

    #[test]
    fn json_and_emptiness_are_files_too() {
        assert_eq!(Value::Object(variables("{\"a\":\t[1, true]}").unwrap()), json!({"a": [1, true]}));
        for text in ["", "---\n", "# nothing\n", "---\n...\n"] {
            assert_eq!(variables(text).unwrap(), Map::new(), "{text:?}");
        }
    }

    #[test]
    fn mistakes_carry_their_line() {
        for (text, line, part) in [
            ("a: 1\nb: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3334\n", 2, "ansible-vault"),
            ("$ANSIBLE_VAULT;1.1;AES256\n333\n", 1, "ansible-vault"),
            ("a: 1\nb: [1\n", 2, "YAML"),
            ("- a\n- b\n", 1, "mapping"),
            ("a: 1\n\nb:\n  c: !mine 3\n", 4, "!mine"),
        ] {
            let problems = variables(text).unwrap_err();
            assert!(problems[0].0 == line && problems[0].1.contains(part), "{text}: {problems:?}");
        }
    }
}
