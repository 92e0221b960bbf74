//! The known name that a mistyped one most likely stands for.
//!
//! Must not know what the names are of.

/// The name at the smallest edit distance, if it is small enough to be a slip of the fingers: one in three letters.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    within((typed.chars().count() / 3).max(1), typed, known)
}

/// As that, for a name that may as well be right: it may differ in one of four letters, and in two at most.
pub fn slip<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    within((typed.chars().count() / 4).min(2), typed, known)
}

/// What is said of such a name.
pub(crate) fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; is '{name}' meant?")).unwrap_or_default()
}

fn within<'a>(limit: usize, typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.map(|name| (distance(typed, name), name)).filter(|(d, _)| *d <= limit).min().map(|(_, name)| name)
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
    }
}
