//! What several engines refused, told as one refusal. Must not know why anybody was asked.

use http::StatusCode;

/// One engine's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its status code.
    pub status: StatusCode,
    /// Its words.
    pub message: &'a str,
}

/// The worst status, and the words as [`words`] puts them. Nobody's refusal is none.
pub fn joint(refused: &[Refused<'_>]) -> Option<(StatusCode, String)> {
    partial(refused, &[])
}

/// As [`joint`], where other nodes did what was asked, or were not asked: everybody is named. `others` are what became
/// of it elsewhere, such as `removed`, with the nodes.
pub fn partial(refused: &[Refused<'_>], others: &[(&str, Vec<String>)]) -> Option<(StatusCode, String)> {
    let status = refused.iter().map(|r| r.status).max()?;
    let others: Vec<_> = others.iter().filter(|(_, nodes)| !nodes.is_empty()).collect();
    let mut lines = words(refused, others.is_empty());
    lines.extend(others.into_iter().map(|(what, nodes)| format!("({what} on {})", nodes.join(", "))));
    Some((status, lines.join("\n")))
}

/// The different words, in the order in which they were said first, each behind the nodes that said it; without them
/// where that is everybody who was asked.
pub fn words(refused: &[Refused<'_>], everybody: bool) -> Vec<String> {
    let groups = grouped(refused);
    let one = everybody && groups.len() == 1;
    let line = |(message, nodes): (&str, Vec<&str>)| match nodes.as_slice() {
        _ if one => message.to_owned(),
        // It names its node by itself.
        [node] if message.starts_with(&format!("node {node} ")) => message.to_owned(),
        nodes => format!("{}: {message}", nodes.join(", ")),
    };
    groups.into_iter().map(line).collect()
}

fn grouped<'a>(refused: &[Refused<'a>]) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for Refused { node, message, .. } in refused {
        match groups.iter_mut().find(|(said, _)| said == message) {
            Some((_, nodes)) => nodes.push(node),
            None => groups.push((message, vec![node])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused<'a>(node: &'a str, status: u16, message: &'a str) -> Refused<'a> {
        Refused { node, status: StatusCode::from_u16(status).unwrap(), message }
    }

    #[test]
    fn equal_words_are_told_once() {
        let told = |refused: &[Refused<'_>]| joint(refused).map(|(status, words)| (status.as_u16(), words));
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[refused("n1", 409, "in use"), refused("n2", 409, "in use")]), Some((409, "in use".into())));
        assert_eq!(
            told(&[refused("n1", 404, "no"), refused("n2", 500, "disk full"), refused("n3", 404, "no")]),
            Some((500, "n1, n3: no\nn2: disk full".into()))
        );
        assert_eq!(
            told(&[refused("n1", 404, "no"), refused("n2", 502, "node n2 was lost")]),
            Some((502, "n1: no\nnode n2 was lost".into()))
        );
    }

    #[test]
    fn what_was_done_by_half_says_where() {
        let one = [refused("n2", 409, "in use")];
        let told = |removed: &[&str], left: &[&str]| {
            let names = |nodes: &[&str]| nodes.iter().map(|n| (*n).to_owned()).collect();
            partial(&one, &[("removed", names(removed)), ("left", names(left))]).unwrap().1
        };
        assert_eq!(told(&["n1", "n3"], &[]), "n2: in use\n(removed on n1, n3)");
        assert_eq!(told(&[], &["n1"]), "n2: in use\n(left on n1)");
        assert_eq!(told(&[], &[]), "in use");
    }

    proptest! {
        #[test]
        fn nobody_and_nothing_is_left_out(said in prop::collection::vec(("[a-z]{1,3}", 400..600_u16, "[A-Z]{1,3}"), 1..9)) {
            let all: Vec<Refused<'_>> = said.iter().map(|(node, status, text)| refused(node, *status, text)).collect();
            let (status, words) = joint(&all).unwrap();
            prop_assert_eq!(status.as_u16(), said.iter().map(|(_, status, _)| *status).max().unwrap());
            let same = said.iter().all(|(_, _, text)| *text == said[0].2);
            prop_assert!(said.iter().all(|(node, _, text)| words.contains(text) && (same || words.contains(node))));
            let different: std::collections::BTreeSet<&String> = said.iter().map(|(_, _, text)| text).collect();
            prop_assert_eq!(words.lines().count(), different.len());
        }
    }
}
