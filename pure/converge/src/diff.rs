//! The lines that differ between two texts, for people.
//!
//! Must not know whose text it is: secrets are kept away by the caller. The cost is lines × lines, meant for
//! configuration files.

/// Lines of `old` that go (`-`) and of `new` that come (`+`), in order; lines that stay are left out.
pub(crate) fn changed_lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // longest[i][j]: the longest common subsequence of old[i..] and new[j..].
    let mut longest = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] =
                if old[i] == new[j] { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || longest[i + 1][j] >= longest[i][j + 1]) {
            lines.push(format!("-{}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+{}", new[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_changed_is_shown() {
        assert_eq!(changed_lines("a\nb\nc\n", "a\nx\nc\nd\n"), "-b\n+x\n+d");
        assert_eq!(changed_lines("", "a\n"), "+a");
    }

    proptest! {
        #[test]
        fn the_lines_shown_lead_from_old_to_new(old in "([ab]\n){0,8}", new in "([ab]\n){0,8}") {
            let shown = changed_lines(&old, &new);
            let count = |sign: char| shown.lines().filter(|l| l.starts_with(sign)).count();
            prop_assert_eq!(old.lines().count() - count('-'), new.lines().count() - count('+'));
            prop_assert_eq!(shown.is_empty(), old == new);
        }
    }
}
