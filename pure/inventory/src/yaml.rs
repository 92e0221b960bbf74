//! YAML and JSON documents as values whose places are known.
//!
//! Must not know whose values they are. YAML is read as version 1.1 has it (`yes` is true, `0644` is octal, `<<` merges),
//! because that is what Ansible's reader does; a text that is JSON is read as such.
//! `!unsafe` text, which is never a template, becomes `{"__ansible_unsafe": text}`, and a value that ansible-vault encrypted
//! `{"__ansible_vault": text}`, as Ansible writes them in JSON.

use crate::{
    scalar,
    vault::{VaultError, is_encrypted},
};
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The member of a value that is not to be taken for a template.
pub(crate) const UNSAFE: &str = "__ansible_unsafe";
/// The member of a value that is encrypted.
pub(crate) const ENCRYPTED: &str = "__ansible_vault";
/// How many nodes aliases may make of a document.
const NODES: usize = 200_000;

/// A line number (from 1) and a reason.
pub(crate) type Mistake = (usize, String);

/// One value of a document, and the line that it begins on.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) line: usize,
    pub(crate) text: String,
    /// Whether it is text, and not a number or a truth value.
    pub(crate) is_text: bool,
}

impl Node {
    /// The value without its places.
    pub(crate) fn value(self) -> Value {
        match self.kind {
            Kind::Scalar(value) => value,
            Kind::List(nodes) => nodes.into_iter().map(Self::value).collect(),
            Kind::Mapping(pairs) => pairs.into_iter().map(|(k, n)| (k.text, n.value())).collect::<Map<_, _>>().into(),
        }
    }

    /// Whether Python takes it for nothing: null, false, zero, and all that is empty.
    pub(crate) fn is_nothing(&self) -> bool {
        match &self.kind {
            Kind::Scalar(Value::Null | Value::Bool(false)) => true,
            Kind::Scalar(Value::String(text)) => text.is_empty(),
            Kind::Scalar(Value::Number(number)) => number.as_f64() == Some(0.0),
            Kind::Scalar(_) => false,
            Kind::List(nodes) => nodes.is_empty(),
            Kind::Mapping(pairs) => pairs.is_empty(),
        }
    }

    fn of(value: Value) -> Self {
        let kind = match value {
            Value::Array(items) => Kind::List(items.into_iter().map(Self::of).collect()),
            Value::Object(map) if !is_marked(&map) => {
                let key = |text| Key { line: 1, text, is_text: true };
                Kind::Mapping(map.into_iter().map(|(k, v)| (key(k), Self::of(v))).collect())
            }
            value => Kind::Scalar(value),
        };
        Self { line: 1, kind }
    }
}

/// Reads a file of variables.
pub(crate) fn variables(text: &str) -> Result<Map<String, Value>, Vec<Mistake>> {
    let Some(node) = read(text)?.filter(|n| !n.is_nothing()) else { return Ok(Map::new()) };
    match node.value() {
        Value::Object(map) => Ok(map),
        _ => Err(vec![(1, "the file must hold a mapping of variables (name: value)".to_owned())]),
    }
}

/// Reads a document; `None` where there is none.
pub(crate) fn read(text: &str) -> Result<Option<Node>, Vec<Mistake>> {
    if is_encrypted(text) {
        return Err(vec![(1, VaultError::NoPassword.to_string())]);
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return Ok(Some(Node::of(value)));
    }
    let mut composer = Composer::default();
    let fatal = composer.compose(text).err();
    composer.mistakes.extend(fatal);
    composer.mistakes.sort_by_key(|(line, _)| *line);
    if composer.mistakes.is_empty() { Ok(composer.root) } else { Err(composer.mistakes) }
}

/// Whether a mapping stands for text of a special kind.
fn is_marked(map: &Map<String, Value>) -> bool {
    map.contains_key(UNSAFE) || map.contains_key(ENCRYPTED)
}

/// Whether a value, or one in it, is encrypted.
pub(crate) fn is_encrypted_value(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key(ENCRYPTED) || map.values().any(is_encrypted_value),
        Value::Array(items) => items.iter().any(is_encrypted_value),
        _ => false,
    }
}

/// A collection that is still open.
struct Frame {
    line: usize,
    anchor: usize,
    tag: Option<String>,
    /// A mapping's keys and values in turn, or a list's members.
    nodes: Vec<(Node, Form)>,
    is_mapping: bool,
}

/// What a node is as a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// A plain `<<`.
    Merge,
    Other,
}

#[derive(Default)]
struct Composer {
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, (Node, Form)>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    mistakes: Vec<Mistake>,
}

impl Composer {
    fn compose(&mut self, text: &str) -> Result<(), Mistake> {
        let options = granit_parser::options! { block_scalar_eof_without_line_feed: true };
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) =
                next.map_err(|e| (e.marker().line().max(1), format!("cannot read YAML: {}", e.info())))?;
            let line = span.start.line().max(1);
            match event {
                Event::DocumentStart(..) => {
                    self.documents += 1;
                    if self.documents > 1 {
                        return Err((line, "a second YAML document begins here; a file holds one".to_owned()));
                    }
                }
                Event::Alias(id) => {
                    let known = self.anchors.get(&id).cloned();
                    let (node, form) =
                        known.ok_or_else(|| (line, "an alias is inside what it stands for".to_owned()))?;
                    self.count(size(&node), line)?;
                    self.add(node, form)?;
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let (value, form) = self.scalar(&text, style, tag.as_deref(), &span);
                    self.end((Node { line, kind: Kind::Scalar(value) }, form), anchor)?;
                }
                Event::SequenceStart(_, anchor, tag) => self.open(line, anchor, tag.as_deref(), &span, false),
                Event::MappingStart(_, anchor, tag) => self.open(line, anchor, tag.as_deref(), &span, true),
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), Mistake> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES {
            return Err((line, format!("aliases make more than {NODES} values of this file")));
        }
        Ok(())
    }

    fn open(&mut self, line: usize, anchor: usize, tag: Option<&Tag>, span: &Span, is_mapping: bool) {
        let tag = tag.map(name_of);
        if let Some(reason) = tag.as_deref().and_then(|t| refusal(t, if is_mapping { "map" } else { "seq" })) {
            self.mistakes.push((tag_line(span), reason));
        }
        self.frames.push(Frame { line, anchor, tag, nodes: Vec::new(), is_mapping });
    }

    fn close(&mut self) -> Result<(), Mistake> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let kind = if frame.is_mapping {
            Kind::Mapping(self.pairs(frame.nodes)?)
        } else {
            Kind::List(frame.nodes.into_iter().map(|(node, _)| node).collect())
        };
        let mut node = Node { line: frame.line, kind };
        if frame.tag.as_deref() == Some("!unsafe") {
            distrust(&mut node);
        }
        self.end((node, Form::Other), frame.anchor)
    }

    /// A node is complete.
    fn end(&mut self, (node, form): (Node, Form), anchor: usize) -> Result<(), Mistake> {
        self.count(1, node.line)?;
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), form));
        }
        self.add(node, form)
    }

    fn add(&mut self, node: Node, form: Form) -> Result<(), Mistake> {
        match self.frames.last_mut() {
            Some(frame) => frame.nodes.push((node, form)),
            None => self.root = Some(node),
        }
        Ok(())
    }

    /// The pairs of a mapping: what `<<` brings first, then its own; of equal keys the last only, and of its own none may be equal.
    fn pairs(&mut self, nodes: Vec<(Node, Form)>) -> Result<Vec<(Key, Node)>, Mistake> {
        let (mut merged, mut own, mut lines) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut nodes = nodes.into_iter();
        while let (Some((key, form)), Some((value, _))) = (nodes.next(), nodes.next()) {
            let line = key.line;
            if form == Form::Merge {
                let maps = match value.kind {
                    Kind::Mapping(pairs) => vec![pairs],
                    Kind::List(nodes) => nodes
                        .into_iter()
                        .rev()
                        .map(|node| match node.kind {
                            Kind::Mapping(pairs) => Ok(pairs),
                            _ => Err((line, "'<<' merges mappings only".to_owned())),
                        })
                        .collect::<Result<_, _>>()?,
                    Kind::Scalar(_) => return Err((line, "'<<' merges mappings only".to_owned())),
                };
                merged.extend(maps.into_iter().flatten());
                continue;
            }
            let text = match key.kind {
                Kind::Scalar(Value::String(text)) => text,
                Kind::Scalar(value) if !value.is_object() => value.to_string(),
                _ => {
                    let reason = "a key must be plain; quote a value that begins with '{' or '['";
                    return Err((line, reason.to_owned()));
                }
            };
            if let Some(first) = lines.insert(text.clone(), line) {
                let reason =
                    format!("'{text}' stands here again: it is in line {first}, and one of the two would be lost");
                self.mistakes.push((line, reason));
            }
            own.push((Key { line, text, is_text: form == Form::Text }, value));
        }
        merged.extend(own);
        let mut last = BTreeMap::new();
        merged.iter().enumerate().for_each(|(at, (key, _))| {
            last.insert(key.text.clone(), at);
        });
        if last.len() == merged.len() {
            return Ok(merged);
        }
        let kept = merged.into_iter().enumerate().filter(|(at, (key, _))| last.get(&key.text) == Some(at));
        Ok(kept.map(|(_, pair)| pair).collect())
    }

    /// A scalar's value; what is wrong with it is noted.
    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> (Value, Form) {
        let is_plain = style == ScalarStyle::Plain;
        let tag = tag.map(name_of);
        let value = match tag.as_deref() {
            None if is_plain && text == "<<" => return (Value::from("<<"), Form::Merge),
            None if is_plain => scalar::plain(text),
            None | Some("!") => Ok(Value::from(text)),
            // What is not to be taken for a template has the type that it would have without the tag when plain.
            Some("!unsafe") => scalar::plain(text).map(distrusted),
            Some("!vault" | "!vault-encrypted") => Ok(json!({ ENCRYPTED: text })),
            Some(tag) => match (tag.strip_prefix("!!"), refusal(tag, "")) {
                (_, Some(reason)) => Err(reason),
                (Some(name), None) => scalar::tagged(text, name),
                (None, None) => Ok(Value::from(text)),
            },
        };
        match value {
            Ok(value) => {
                let form = if value.is_string() { Form::Text } else { Form::Other };
                (value, form)
            }
            Err(reason) => {
                self.mistakes.push((tag_line(span), reason));
                (Value::Null, Form::Other)
            }
        }
    }
}

/// The line of a node's tag, or its own where it has none.
fn tag_line(span: &Span) -> usize {
    span.tag_start.unwrap_or(span.start).line().max(1)
}

/// A tag as one writes it: `!mine`, `!!int`.
fn name_of(tag: &Tag) -> String {
    match tag.suffix_in_namespace("tag:yaml.org,2002:") {
        Some(name) => format!("!!{name}"),
        None => format!("{}{}", tag.handle(), tag.suffix()),
    }
}

/// Why a value with this tag cannot be used, if it cannot; a collection is a `map` or a `seq`.
fn refusal(tag: &str, collection: &str) -> Option<String> {
    match tag {
        "!unsafe" | "!" => None,
        _ => match tag.strip_prefix("!!") {
            Some(name) if collection.is_empty() || name == collection => None,
            _ => Some(format!("the tag '{tag}' is not supported")),
        },
    }
}

/// A value all of whose text is marked as not to be taken for a template.
pub(crate) fn distrusted(value: Value) -> Value {
    match value {
        Value::String(_) => Value::Object(Map::from_iter([(UNSAFE.to_owned(), value)])),
        Value::Array(items) => items.into_iter().map(distrusted).collect(),
        Value::Object(map) if !is_marked(&map) => {
            map.into_iter().map(|(name, value)| (name, distrusted(value))).collect::<Map<_, _>>().into()
        }
        value => value,
    }
}

/// Marks all text in a node as not to be taken for a template.
fn distrust(node: &mut Node) {
    match &mut node.kind {
        Kind::Scalar(value) => *value = distrusted(value.take()),
        Kind::List(nodes) => nodes.iter_mut().for_each(distrust),
        Kind::Mapping(pairs) => pairs.iter_mut().for_each(|(_, node)| distrust(node)),
    }
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 1,
        Kind::List(nodes) => 1 + nodes.iter().map(size).sum::<usize>(),
        Kind::Mapping(pairs) => 1 + pairs.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read_as_ansible_reads_it() {
        let text = "a: yes\nb: off\nmode: 0644\nn: ~\nlist:\n  - 1\n  - 'x'\nbase: &b {u: 1, v: 2}\nall: {<<: *b, v: 3}\n\
                    a2: 1.5\nw: !unsafe '{{ x }}'\ns: 11\n7: seven\nyes_no: [y, N, yes]\nt: !!str 5\n\
                    two: {v: 3, <<: [{v: 1, x: 1}, {x: 2, y: 2}]}\n'<<': text\nbar: !unsafe [a, 1, !vault x]\nblock: |\n  end";
        let expected = json!({"a": true, "b": false, "mode": 420, "n": null, "list": [1, "x"], "base": {"u": 1, "v": 2},
            "all": {"u": 1, "v": 3}, "a2": 1.5, "w": {"__ansible_unsafe": "{{ x }}"}, "7": "seven", "s": 11,
            "yes_no": ["y", "N", true], "t": "5", "two": {"v": 3, "x": 1, "y": 2}, "<<": "text",
            "bar": [{"__ansible_unsafe": "a"}, 1, {"__ansible_vault": "x"}], "block": "end"});
        assert_eq!(Value::Object(variables(text).unwrap()), expected);
    }

    #[test]
    fn json_and_emptiness_are_files_too() {
        assert_eq!(Value::Object(variables("{\"a\":\t[1, true]}").unwrap()), json!({"a": [1, true]}));
        for text in ["", "---\n", "# nothing\n", "---\n...\n", "[]", "0\n", "''\n", "{}\n"] {
            assert_eq!(variables(text).unwrap(), Map::new(), "{text:?}");
        }
    }

    #[test]
    fn mistakes_carry_their_line() {
        for (text, line, part) in [
            ("a: 1\nb: !vault [x]\n", 2, "!vault"),
            ("$ANSIBLE_VAULT;1.1;AES256\n333\n", 1, "ansible-vault"),
            ("a: 1\nb: [1\n", 2, "YAML"),
            ("- a\n- b\n", 1, "mapping"),
            ("a: 1\n\nb:\n  c: !mine 3\n", 4, "!mine"),
            ("a: {{ x }}\n", 1, "quote a value"),
            ("a: 1\n---\nb: 2\n", 2, "second"),
            ("a: &x [*x]\n", 1, "alias"),
            ("a: {<<: 1}\n", 1, "merges mappings"),
            ("a: 1\nb:\n  c: 1\n  'c': 2\n", 4, "line 3"),
            ("a: 2015-02-30\n", 1, "looks like a date"),
        ] {
            let problems = variables(text).unwrap_err();
            assert!(problems[0].1.contains(part), "{text}: {problems:?}");
            assert!(problems[0].0 == line || part == "YAML", "{text}: {problems:?}");
        }
        let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{p}, *a{p}]\n", p = n - 1)).collect();
        let problems = variables(&format!("a0: &a0 x\n{bomb}")).unwrap_err();
        assert!(problems[0].1.contains("aliases make more"), "{problems:?}");
    }
}
