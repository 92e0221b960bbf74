//! Pushing all tags of a repository when no single node has them all.

use std::collections::BTreeSet;

/// One push of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushStep<'a> {
    /// Which of the nodes.
    pub node: usize,
    /// The one tag to push; all that the node has where there is none.
    pub tag: Option<&'a str>,
}

/// Says which node pushes what, given each node's tags: the node that has most of them pushes all of its own, the others
/// add what is left.
pub fn push_plan(nodes: &[BTreeSet<String>]) -> Vec<PushStep<'_>> {
    // The first of those with equally many.
    let first = nodes.iter().enumerate().rev().max_by_key(|(_, tags)| tags.len()).filter(|(_, tags)| !tags.is_empty());
    let Some((first, pushed)) = first else { return Vec::new() };
    let mut pushed: BTreeSet<&str> = pushed.iter().map(String::as_str).collect();
    let mut plan = vec![PushStep { node: first, tag: None }];
    for (node, tags) in nodes.iter().enumerate() {
        for tag in tags {
            if pushed.insert(tag) {
                plan.push(PushStep { node, tag: Some(tag) });
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_node_that_has_all_is_enough() {
        let nodes = [vec!["1"], vec!["1", "2"], vec!["1", "2"]].map(|t| t.into_iter().map(String::from).collect());
        assert_eq!(push_plan(&nodes), [PushStep { node: 1, tag: None }]);
        assert_eq!(push_plan(&[]), []);
        assert_eq!(push_plan(&[BTreeSet::new()]), []);
    }

    proptest! {
        #[test]
        fn every_tag_is_pushed_once(nodes in prop::collection::vec(prop::collection::btree_set("[a-c]{1,2}", 0..5), 0..5)) {
            let all: BTreeSet<&String> = nodes.iter().flatten().collect();
            let mut pushed: Vec<&str> = Vec::new();
            for step in push_plan(&nodes) {
                match step.tag {
                    Some(tag) => {
                        prop_assert!(nodes[step.node].contains(tag));
                        pushed.push(tag);
                    }
                    None => pushed.extend(nodes[step.node].iter().map(String::as_str)),
                }
            }
            pushed.sort_unstable();
            prop_assert_eq!(pushed, all.into_iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
