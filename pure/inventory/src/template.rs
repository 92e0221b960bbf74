//! Templates in variables, as far as they are understood: `{{ name }}` stands for another variable of the same host.
//!
//! Must not know which variables there are. More of Jinja (filters, expressions, statements, comments) is refused with
//! its text, never passed on half expanded. A value that is one `{{ name }}` and nothing else keeps the type of what it
//! names; inside other text a value is written as Python writes it.

use crate::{
    nearest::hint,
    vault::{Vault, VaultError},
    yaml::{ENCRYPTED, UNSAFE},
};
use serde_json::Value;

/// How deep templates may lead to templates.
const DEPTH: usize = 32;

/// Why a template cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is more than the name of a variable.
    #[error("'{0}' is more than a variable: of Jinja only '{{{{ name }}}}' is understood; write the value itself")]
    Jinja(String),
    /// It names a variable that the host does not have.
    #[error("'{part}' names a variable that is not set for this host{}", hint(nearest.as_deref()))]
    Unknown {
        /// The template.
        part: String,
        /// The name in it.
        name: String,
        /// The name of the host's variables that is spelt most like it.
        nearest: Option<String>,
    },
    /// It leads back to itself, or through too many others.
    #[error("'{0}' leads back to itself, or through more than {DEPTH} others")]
    Loop(String),
    /// It puts a list or a mapping into text.
    #[error("'{0}' is a list or a mapping, which cannot stand inside text")]
    NotText(String),
    /// It is encrypted, and cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// The value with all templates in it expanded, and opened where it is encrypted; `variable` gives the variables that it
/// may name.
pub(crate) fn expand(value: &Value, vault: &Vault, variable: Variable<'_>) -> Result<Value, TemplateError> {
    Expansion { vault, variable }.within(value, 0)
}

/// A variable by its name.
type Variable<'a> = &'a dyn Fn(&str) -> Option<Value>;

/// What values are expanded with.
struct Expansion<'a> {
    vault: &'a Vault,
    variable: Variable<'a>,
}

impl Expansion<'_> {
    fn within(&self, value: &Value, depth: usize) -> Result<Value, TemplateError> {
        match value {
            Value::String(text) => self.text(text, depth),
            Value::Array(items) => items.iter().map(|item| self.within(item, depth)).collect(),
            Value::Object(map) => match (map.get(UNSAFE), map.get(ENCRYPTED)) {
                (Some(text), _) => Ok(text.clone()),
                (None, Some(text)) => Ok(self.vault.open(text.as_str().unwrap_or_default())?.into()),
                (None, None) => {
                    let pairs = map.iter().map(|(k, v)| Ok((k.clone(), self.within(v, depth)?)));
                    pairs.collect::<Result<serde_json::Map<_, _>, _>>().map(Value::Object)
                }
            },
            _ => Ok(value.clone()),
        }
    }

    fn text(&self, text: &str, depth: usize) -> Result<Value, TemplateError> {
        let jinja = |part: &str| TemplateError::Jinja(part.trim().to_owned());
        if let Some(at) = text.find("{%").or_else(|| text.find("{#")) {
            return Err(jinja(&text[at..]));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or_else(|| jinja(rest))?;
            let part = &rest[before.len()..rest.len() - behind.len()];
            let name = inside.trim();
            let word = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !word || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || literal(name) {
                return Err(jinja(part));
            }
            if depth >= DEPTH {
                return Err(TemplateError::Loop(part.to_owned()));
            }
            let value = (self.variable)(name).ok_or_else(|| {
                let (part, name) = (part.to_owned(), name.to_owned());
                TemplateError::Unknown { part, name, nearest: None }
            })?;
            let value = self.within(&value, depth + 1)?;
            if part.len() == text.len() {
                return Ok(value);
            }
            out.push_str(before);
            match value {
                Value::String(text) => out.push_str(&text),
                Value::Bool(true) => out.push_str("True"),
                Value::Bool(false) => out.push_str("False"),
                Value::Number(number) => out.push_str(&number.to_string()),
                Value::Null => {}
                Value::Array(_) | Value::Object(_) => return Err(TemplateError::NotText(part.to_owned())),
            }
            rest = behind;
        }
        out.push_str(rest);
        Ok(Value::String(out))
    }
}

/// What is a value and no name in Jinja.
fn literal(name: &str) -> bool {
    matches!(name, "true" | "True" | "false" | "False" | "none" | "None")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expanded(value: &Value) -> Result<Value, String> {
        let vault = Vault::new(vec![b"correct horse".to_vec()]);
        let secret = json!({ ENCRYPTED: crate::vault::tests::VALUE });
        let vars = json!({"ip": "10.0.0.1", "port": 22, "secret": secret, "bad": {"__ansible_vault": 7}, "on": true, "list": [1], "again": "{{ ip }}", "nil": null,
            "loop": "{{loop}}", "a": "{{ b }}", "b": "x{{ a }}", "raw": {"__ansible_unsafe": "{{ ip }}"}});
        expand(value, &vault, &|name| vars.get(name).cloned()).map_err(|e| e.to_string())
    }

    #[test]
    fn names_of_variables_are_replaced() {
        for (value, expected) in [
            (json!("{{ ip }}"), json!("10.0.0.1")),
            (json!("{{port}}"), json!(22)),
            (json!("{{ ip }}:{{ port }}"), json!("10.0.0.1:22")),
            (json!("[{{ on }}]"), json!("[True]")),
            (json!("<{{ nil }}>"), json!("<>")),
            (json!("x {{ again }} }}"), json!("x 10.0.0.1 }}")),
            (json!("{{ list }}"), json!([1])),
            (json!(["{{ secret }}", "<{{ secret }}>"]), json!(["geheim {{ x }} ü", "<geheim {{ x }} ü>"])),
            (json!(["{{ ip }}", {"k": "{{ port }}"}]), json!(["10.0.0.1", {"k": 22}])),
            (json!("{{ raw }}"), json!("{{ ip }}")),
            (json!(5), json!(5)),
            (json!("{ip}"), json!("{ip}")),
        ] {
            assert_eq!(expanded(&value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn more_than_a_name_is_refused_with_its_text() {
        for (text, message) in [
            ("a {{ ip | default(1) }}", "'{{ ip | default(1) }}' is more than a variable"),
            ("{{ hostvars['m'].ip }}", "'{{ hostvars['m'].ip }}' is more than a variable"),
            ("{{ 1 }}", "'{{ 1 }}' is more than a variable"),
            ("{{ true }}", "is more than a variable"),
            ("{{ }}", "'{{ }}' is more than a variable"),
            ("{{ ip", "'{{ ip' is more than a variable"),
            ("{% if on %}a{% endif %}", "'{% if on %}a{% endif %}' is more than a variable"),
            ("{# note #}", "'{# note #}' is more than a variable"),
            ("{{ ipp }}", "'{{ ipp }}' names a variable that is not set"),
            ("{{ loop }}", "'{{loop}}' leads back to itself"),
            ("{{ a }}", "leads back to itself"),
            ("x{{ list }}", "'{{ list }}' is a list or a mapping"),
            ("{{ bad }}", "not what ansible-vault writes"),
        ] {
            let error = expanded(&json!(text)).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
