//! The known name that a mistyped one most likely stands for.
//!
//! Must not know what the names are of.

/// The name at the smallest edit distance, if it is small enough to be a slip of the fingers: one in three letters.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (typed.chars().count() / 3).max(1);
    known.map(|name| (distance(typed, name), name)).filter(|(d, _)| *d <= limit).min().map(|(_, name)| name)
}

/// As that, for a name that may as well be right: one letter more, less or another, or two neighbours swapped.
pub fn slip<'a>(typed: &str, mut known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let is_swap = |name: &str| {
        let (typed, name): (Vec<char>, Vec<char>) = (typed.chars().collect(), name.chars().collect());
        let at = typed.iter().zip(&name).position(|(a, b)| a != b).unwrap_or_default();
        let mut swapped = typed;
        if at + 1 < swapped.len() {
            swapped.swap(at, at + 1);
        }
        swapped == name
    };
    known.find(|name| distance(typed, name) == 1 || is_swap(name))
}

/// What is said of such a name.
pub(crate) fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; is '{name}' meant?")).unwrap_or_default()
}

/// Insertions, deletions and replacements that make one text of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &d) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(c != d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_name_and_strangers_do_not() {
        let known = ["datalyse-master", "datalyse-1", "datalyse-2", "all"];
        assert_eq!(nearest("datalyse-mastr", known.into_iter()), Some("datalyse-master"));
        assert_eq!(nearest("al", known.into_iter()), Some("all"));
        assert_eq!(nearest("kubernetes", known.into_iter()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        let slipped = |typed: &str| slip(typed, ["swarm_port", "internal_ip"].into_iter());
        assert!(["swarm_prot", "swrm_port", "swarm_porty"].iter().all(|typed| slipped(typed) == Some("swarm_port")));
        assert!(
            ["start_port", "external_ip", "swarm_trop", "swarm_por_t_", ""]
                .iter()
                .all(|typed| slipped(typed).is_none())
        );
    }
}
