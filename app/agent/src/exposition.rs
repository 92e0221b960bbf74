//! Prometheus' text format, version 0.0.4: families of samples with their help and type.
//!
//! Must not know what is measured. Names of metrics and labels are the program's own; values of labels may be anything.

use std::fmt::Write;

/// The media type of a page.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a value moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Up only, from zero at the agent's start.
    Counter,
    /// Up and down.
    Gauge,
}

/// A page being written.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

/// A family of samples being written.
pub(crate) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl Page {
    /// Begins a family: samples of one name, which must stand together.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: &mut self.0, name }
    }

    /// A family of one sample without labels.
    pub(crate) fn value(&mut self, name: &'static str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The whole page.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds one sample.
    pub(crate) fn sample(&mut self, labels: &[(&'static str, &str)], value: u64) {
        self.page.push_str(self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.page, "{before}{label}=\"{text}\"");
        }
        let _ = writeln!(self.page, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// A strict reader of pages, for tests: every family once, with help and type, then its samples, each with other labels.
#[cfg(test)]
pub(crate) mod read {
    use std::collections::{BTreeMap, BTreeSet};

    /// Labels in the order in which they stand, and the value.
    pub(crate) type Sample = (Vec<(String, String)>, u64);

    fn name(text: &str) -> (&str, &str) {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        assert!(end > 0 && !text.starts_with(|c: char| c.is_ascii_digit()), "a name is missing: '{text}'");
        text.split_at(end)
    }

    fn quoted(text: &str) -> (String, &str) {
        let mut rest = text.strip_prefix('"').expect("a quote").chars();
        let mut value = String::new();
        loop {
            match rest.next().expect("the end of a value") {
                '"' => return (value, rest.as_str()),
                '\\' => value.push(match rest.next() {
                    Some('n') => '\n',
                    Some(c @ ('"' | '\\')) => c,
                    other => panic!("'\\{other:?}' means nothing"),
                }),
                '\n' => panic!("a line ends within a value"),
                c => value.push(c),
            }
        }
    }

    /// Reads a page; panics where it is not one.
    pub(crate) fn page(text: &str) -> BTreeMap<String, (String, Vec<Sample>)> {
        assert!(text.is_empty() || text.ends_with('\n'), "the last line ends, too");
        let mut families: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
        let mut lines = text.split_terminator('\n').peekable();
        while let Some(line) = lines.next() {
            let (family, help) =
                line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')).expect("help comes first");
            assert!(!help.is_empty());
            let kind = lines.next().and_then(|l| l.strip_prefix(&format!("# TYPE {family} "))).expect("then the type");
            assert!(matches!(kind, "counter" | "gauge"), "{kind}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
            let mut samples: Vec<Sample> = Vec::new();
            while let Some(line) = lines.next_if(|l| !l.starts_with('#')) {
                let (of, mut rest) = name(line);
                assert_eq!(of, family);
                let mut labels = Vec::new();
                if let Some(inside) = rest.strip_prefix('{') {
                    rest = inside;
                    loop {
                        let (label, value) = name(rest);
                        let (value, after) = quoted(value.strip_prefix('=').expect("an equals sign"));
                        labels.push((label.to_owned(), value));
                        rest = after.strip_prefix([',', '}']).expect("the next label, or the last one's end");
                        if after.starts_with('}') {
                            break;
                        }
                    }
                }
                let value = rest.strip_prefix(' ').and_then(|v| v.parse().ok()).expect("a number");
                samples.push((labels, value));
            }
            let distinct: BTreeSet<_> = samples.iter().map(|(labels, _)| labels).collect();
            assert_eq!(distinct.len(), samples.len(), "{family}: a sample stands twice");
            assert!(families.insert(family.to_owned(), (help.to_owned(), samples)).is_none(), "{family} stands twice");
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_it_was_meant_whatever_the_labels_hold() {
        let mut page = Page::default();
        page.value("osier_a", Kind::Gauge, "One thing.", 7);
        let mut family = page.family("osier_b_total", Kind::Counter, "Two\nlines with a \\ and a \".");
        let odd = ["plain", "a\"b", "a\\b", "a\nb", "\\n", "\\\"\n\\", "", "ü{}, =#"];
        for (n, text) in odd.iter().enumerate() {
            family.sample(&[("of", text), ("kind", "x")], n as u64);
        }
        page.family("osier_c", Kind::Gauge, "Nothing yet.");
        let text = page.finish();
        assert!(text.starts_with("# HELP osier_a One thing.\n# TYPE osier_a gauge\nosier_a 7\n"), "{text}");
        assert!(text.contains("# HELP osier_b_total Two\\nlines with a \\\\ and a \".\n"), "{text}");
        assert!(text.contains("osier_b_total{of=\"a\\\"b\",kind=\"x\"} 1\n"), "{text}");
        let read = read::page(&text);
        assert_eq!((read["osier_a"].1[0].1, read["osier_c"].1.len()), (7, 0));
        for ((labels, value), (n, text)) in read["osier_b_total"].1.iter().zip(odd.iter().enumerate()) {
            assert_eq!((labels[0].1.as_str(), labels[1].1.as_str(), *value), (*text, "x", n as u64));
        }
    }
}
