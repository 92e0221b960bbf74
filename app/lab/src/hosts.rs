//! The host's `/etc/hosts`: a marked block per lab, put in, taken out, and never at the cost of another's entry.
//!
//! Must not know where the file is. A block begins with `# osier lab NAME` and ends with `# osier lab NAME end`.

use crate::plan::{LabName, Node};
use std::fmt::Write;

/// What the first and the last line of every block begin with.
const MARK: &str = "# osier lab ";

/// A node's name already means something else on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name the nodes on this host: line {line} of /etc/hosts already has '{name}' ({text})")]
pub(crate) struct NameTaken {
    name: String,
    line: usize,
    text: String,
}

/// The lines that name a lab's nodes.
pub(crate) fn lines(nodes: &[Node]) -> String {
    nodes.iter().map(|node| format!("{} {}\n", node.address, node.name)).collect()
}

/// `text` with this lab's block replaced, or added at the end.
///
/// Fails if a line outside the block names one of the nodes.
pub(crate) fn with_block(text: &str, lab: &LabName, nodes: &[Node]) -> Result<String, NameTaken> {
    let mut rest = without_block(text, lab);
    for (number, line) in (1..).zip(rest.lines()) {
        if let Some(node) = nodes.iter().find(|node| names(line, node)) {
            return Err(NameTaken { name: node.name.to_string(), line: number, text: line.trim().to_owned() });
        }
    }
    if !rest.is_empty() && !rest.ends_with('\n') {
        rest.push('\n');
    }
    let _ = write!(rest, "{}\n{}{}\n", begin(lab), lines(nodes), end(lab));
    Ok(rest)
}

/// `text` without this lab's block.
pub(crate) fn without_block(text: &str, lab: &LabName) -> String {
    let (begin, end) = (begin(lab), end(lab));
    let mut inside = false;
    let kept = text.split_inclusive('\n').filter(|line| {
        let marker = line.trim_end();
        inside |= marker == begin;
        let keep = !inside;
        inside &= marker != end;
        keep
    });
    kept.collect()
}

/// `text` in which this lab's nodes, and those of no other lab, go by their names: for a private view of the file.
pub(crate) fn private_view(text: &str, lab: &LabName, nodes: &[Node]) -> String {
    let mut other_lab = None;
    let kept = text.lines().filter(|line| {
        other_lab = other_lab.or_else(|| line.strip_prefix(MARK).filter(|rest| rest.parse::<LabName>().is_ok()));
        let keep = other_lab.is_none() && !nodes.iter().any(|node| names(line, node));
        other_lab = other_lab.filter(|name| line.strip_prefix(MARK).is_none_or(|rest| rest != format!("{name} end")));
        keep
    });
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    format!("{kept}{}\n{}{}\n", begin(lab), lines(nodes), end(lab))
}

fn names(line: &str, node: &Node) -> bool {
    let entry = line.split('#').next().unwrap_or_default();
    entry.split_whitespace().skip(1).any(|name| name.eq_ignore_ascii_case(node.name.as_str()))
}

fn begin(lab: &LabName) -> String {
    format!("{MARK}{lab}")
}

fn end(lab: &LabName) -> String {
    format!("{MARK}{lab} end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;
    use proptest::prelude::*;

    fn lab(name: &str, subnet: &str) -> (LabName, Vec<Node>) {
        let name: LabName = name.parse().unwrap();
        let nodes = plan::nodes(&name, &"n".parse().unwrap(), 2, &[], subnet.parse().unwrap()).unwrap();
        (name, nodes)
    }

    #[test]
    fn a_block_is_replaced_and_removed_without_a_trace() {
        let (name, nodes) = lab("lab", "10.213.0.0/24");
        let host = "127.0.0.1 localhost\n192.0.2.7 n-master.example # n-1\n";
        let once = with_block(host, &name, &nodes).unwrap();
        assert!(once.ends_with("# osier lab lab\n10.213.0.10 n-master\n10.213.0.11 n-1\n# osier lab lab end\n"));
        assert_eq!(with_block(&once, &name, &nodes).unwrap(), once);
        assert_eq!(without_block(&once, &name), host);
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        let (name, nodes) = lab("lab", "10.213.0.0/24");
        let error = with_block("127.0.0.1 localhost\n192.0.2.1\tx N-1\n", &name, &nodes).unwrap_err();
        assert_eq!((error.name.as_str(), error.line), ("n-1", 2));
        let (other, others) = lab("lab-2", "10.213.1.0/24");
        let once = with_block("", &name, &nodes).unwrap();
        assert!(with_block(&once, &other, &others).is_err(), "another lab's nodes have these names");
        let view = private_view(&format!("{once}192.0.2.9 last\n192.0.2.8 n-1"), &other, &others);
        let expected =
            "192.0.2.9 last\n# osier lab lab-2\n10.213.1.10 n-master\n10.213.1.11 n-1\n# osier lab lab-2 end\n";
        assert_eq!(view, expected);
    }

    proptest! {
        #[test]
        fn other_text_survives(lines in prop::collection::vec("[a-z0-9.# ]{0,20}", 0..8)) {
            let (name, nodes) = lab("lab", "10.213.0.0/24");
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            if let Ok(with) = with_block(&text, &name, &nodes) {
                prop_assert_eq!(without_block(&with, &name), text);
            }
        }
    }
}
