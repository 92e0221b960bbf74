//! What a user's word for a container, network or volume means in the whole cluster (classic Swarm's order of rules,
//! except that an ambiguous word is answered with its candidates).

/// One thing that may be meant.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a, K> {
    /// What the caller knows it by.
    pub key: K,
    /// The node it lives on.
    pub node: &'a str,
    /// Its full id.
    pub id: &'a str,
    /// Its names on that node, without leading slash.
    pub names: &'a [String],
}

impl<K> Candidate<'_, K> {
    /// Whether the word may mean this one at all: a cheap test, to spare [`resolve`] the thousands it cannot mean.
    pub fn may_be(&self, word: &str) -> bool {
        let word = word.strip_prefix('/').unwrap_or(word);
        self.id.starts_with(word) || self.is_named(word)
    }

    fn is_named(&self, word: &str) -> bool {
        let on_node = word.strip_prefix(self.node).and_then(|rest| rest.strip_prefix('/'));
        self.names.iter().any(|n| n == word || on_node == Some(n))
    }
}

/// What a word means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution<K> {
    /// Exactly this.
    Found(K),
    /// Nothing.
    Missing,
    /// Several things, each written so that it is unambiguous.
    Ambiguous(Vec<String>),
}

/// Length of the short ids that Docker prints.
const SHORT_ID: usize = 12;

/// Resolves a word: a full id or the 12 digits that Docker prints; a name, alone or as `node/name`; the beginning of
/// one id.
pub fn resolve<'a, K: Copy>(word: &str, candidates: impl Iterator<Item = Candidate<'a, K>> + Clone) -> Resolution<K> {
    let word = word.strip_prefix('/').unwrap_or(word);
    if word.is_empty() {
        return Resolution::Missing;
    }
    let exact = |c: &Candidate<'a, K>| c.id == word || (word.len() == SHORT_ID && c.id.starts_with(word));
    if let Some(found) = candidates.clone().find(exact) {
        return Resolution::Found(found.key);
    }
    let label = |c: &Candidate<'a, K>| format!("{}/{}", c.node, c.names.first().map_or(c.id, String::as_str));
    match one(candidates.clone().filter(|c| c.is_named(word)), label) {
        Resolution::Missing => {
            let label = |c: &Candidate<'a, K>| c.id.get(..SHORT_ID).unwrap_or(c.id).to_owned();
            one(candidates.filter(|c| c.id.starts_with(word)), label)
        }
        other => other,
    }
}

fn one<'a, K: Copy>(
    hits: impl Iterator<Item = Candidate<'a, K>>,
    label: impl Fn(&Candidate<'a, K>) -> String,
) -> Resolution<K> {
    let hits: Vec<_> = hits.collect();
    match hits.as_slice() {
        [] => Resolution::Missing,
        [hit] => Resolution::Found(hit.key),
        several => {
            let mut labels: Vec<String> = several.iter().map(label).collect();
            labels.sort();
            Resolution::Ambiguous(labels)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Thing(&'static str, String, Vec<String>);

    fn ask(word: &str) -> Resolution<usize> {
        let id = |start: &str| format!("{start:0<64}");
        let things = [
            Thing("node-1", id("aa11"), vec!["web".into()]),
            Thing("node-2", id("aa22"), vec!["web".into(), "other/alias".into()]),
            Thing("node-1", id("bb"), vec!["aa11000".into()]),
            Thing("node-2", id("cc"), vec!["db".into()]),
        ];
        let candidates = things.iter().enumerate();
        let candidates = candidates.map(|(key, t)| Candidate { key, node: t.0, id: &t.1, names: &t.2 });
        let answer = resolve(word, candidates.clone());
        assert_eq!(answer, resolve(word, candidates.filter(|c| c.may_be(word))), "the cheap test drops no hit");
        answer
    }

    #[test]
    fn each_rule_finds_and_the_order_holds() {
        let full = format!("{:0<64}", "cc");
        for (word, expected) in [
            (full.as_str(), 3),
            (&full[..12], 3),
            ("db", 3),
            ("/db", 3),
            ("node-2/db", 3),
            ("node-1/web", 0),
            ("node-2/other/alias", 1),
            ("aa11000", 2),
            ("aa110000", 0),
            ("c", 3),
        ] {
            assert_eq!(ask(word), Resolution::Found(expected), "{word}");
        }
        for word in ["", "/", "node-1/db", "dd", "node-2"] {
            assert_eq!(ask(word), Resolution::Missing, "{word}");
        }
    }

    #[test]
    fn ambiguity_names_the_candidates() {
        assert_eq!(ask("web"), Resolution::Ambiguous(vec!["node-1/web".into(), "node-2/web".into()]));
        assert_eq!(ask("aa"), Resolution::Ambiguous(vec!["aa1100000000".into(), "aa2200000000".into()]));
    }

    proptest! {
        #[test]
        fn every_prefix_of_an_id_leads_to_it_or_is_ambiguous(length in 1_usize..64) {
            let id = format!("{:0<64}", "aa22");
            prop_assert!(!matches!(ask(&id[..length]), Resolution::Missing));
        }
    }
}
