//! The block of ssh_config(5) that leads all hosts of a suffix through the VPN's host, and its place in a file.
//!
//! Must not know where the file is. A block stands between `# osier vpn SUFFIX` and `# osier vpn SUFFIX end`. It comes first
//! in a file, since ssh takes the first value that it finds, and ends in `Host *`, so that what follows is for whom it was.

use crate::{Destination, Suffix, User};
use std::fmt;

/// The way to all hosts of a suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What their names end in.
    pub suffix: Suffix,
    /// The VPN's host.
    pub via: Destination,
    /// The user on the hosts, where the configuration's is not wanted.
    pub user: Option<User>,
}

/// A block has a beginning and no end, or two beginnings: somebody edited the markers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} begins the block '{suffix}', which has no end")]
pub struct BrokenBlock {
    line: usize,
    suffix: Suffix,
}

impl Block {
    /// What ssh runs to get to a host: the connection is made on the VPN's host, to the name without its suffix. No program
    /// is needed there.
    pub fn proxy_command(&self) -> String {
        let port = self.via.port.map(|p| format!(" -p {p}")).unwrap_or_default();
        let user = self.via.user.as_ref().map(|u| format!("{u}@")).unwrap_or_default();
        format!(r#"ssh -W "$(basename '%h' .{})":%p{port} -- {user}{}"#, self.suffix, self.via.host())
    }
}

/// The lines of the block, without its markers.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Host *.{}", self.suffix)?;
        if let Some(user) = &self.user {
            writeln!(f, "   User {user}")?;
        }
        writeln!(f, "   ProxyCommand {}", self.proxy_command())
    }
}

/// `text` with this block in the place of the one of its suffix, or first where there was none; but behind those of
/// longer suffixes that end in it, because the first block that fits a name is taken.
pub fn with_block(text: &[u8], block: &Block) -> Result<Vec<u8>, BrokenBlock> {
    let (begin, end) = markers(&block.suffix);
    let lines = format!("{begin}\n{block}Host *\n{end}");
    let (before, after) = around(text, &block.suffix)?.unwrap_or_else(|| {
        let place = behind_longer(text, &block.suffix);
        (place, place)
    });
    let (before, after) = (&text[..before], &text[after..]);
    // Behind a last line that has no line break, the block takes its place as the one that has none.
    let is_unbroken = before.last().is_some_and(|b| *b != b'\n');
    let (first, last): (&[u8], &[u8]) = if is_unbroken { (b"\n", b"") } else { (b"", b"\n") };
    Ok([before, first, lines.as_bytes(), last, after].concat())
}

/// `text` without the block of this suffix; `None` where it has none.
pub fn without_block(text: &[u8], suffix: &Suffix) -> Result<Option<Vec<u8>>, BrokenBlock> {
    Ok(around(text, suffix)?.map(|(before, after)| [&text[..before], &text[after..]].concat()))
}

/// Where the last block of a suffix ends that ends in this one.
fn behind_longer(text: &[u8], suffix: &Suffix) -> usize {
    let end = format!(".{suffix} end");
    let (mut at, mut place) = (0, 0);
    for line in text.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        let line = line.trim_ascii_end();
        if line.starts_with(b"# osier vpn ") && line.ends_with(end.as_bytes()) {
            place = at;
        }
    }
    place
}

fn markers(suffix: &Suffix) -> (String, String) {
    (format!("# osier vpn {suffix}"), format!("# osier vpn {suffix} end"))
}

/// Where the block of this suffix begins, and where what follows it does. Of a block that ends the text without a line break,
/// the break before it is a part.
fn around(text: &[u8], suffix: &Suffix) -> Result<Option<(usize, usize)>, BrokenBlock> {
    let (begin, end) = markers(suffix);
    let (mut at, mut begun) = (0, None);
    for (number, line) in (1..).zip(text.split_inclusive(|b| *b == b'\n')) {
        let start = at;
        at += line.len();
        let line = line.trim_ascii_end();
        match begun {
            None if line == begin.as_bytes() => begun = Some((start, number)),
            Some((_, first)) if line == begin.as_bytes() => {
                return Err(BrokenBlock { line: first, suffix: suffix.clone() });
            }
            Some((before, _)) if line == end.as_bytes() => {
                let is_unbroken = text[..at].last() != Some(&b'\n');
                return Ok(Some((before - usize::from(is_unbroken && before > 0), at)));
            }
            _ => {}
        }
    }
    begun.map_or(Ok(None), |(_, line)| Err(BrokenBlock { line, suffix: suffix.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(suffix: &str, via: &str, user: Option<&str>) -> Block {
        Block { suffix: suffix.parse().unwrap(), via: via.parse().unwrap(), user: user.map(|u| u.parse().unwrap()) }
    }

    #[test]
    fn the_block_is_the_seeds() {
        let with_user = "\
Host *.eolas
   User vpn-user
   ProxyCommand ssh -W \"$(basename '%h' .eolas)\":%p -- vpn-host
";
        assert_eq!(block("eolas", "vpn-host", Some("vpn-user")).to_string(), with_user);
        let other = block(".lab.eolas", "me@192.0.2.1:2222", None).to_string();
        let command = "ssh -W \"$(basename '%h' .lab.eolas)\":%p -p 2222 -- me@192.0.2.1";
        assert_eq!(other, format!("Host *.lab.eolas\n   ProxyCommand {command}\n"));
    }

    #[test]
    fn a_block_comes_first_is_replaced_in_its_place_and_goes_without_a_trace() {
        let (first, other) = (block("eolas", "vpn-host", None), block("lab", "vpn-host", None));
        let mine = b"ServerAliveInterval 30\r\nHost *\n\tUser me \xff\n  # osier vpn eolas, my notes".to_vec();
        let once = with_block(&mine, &first).unwrap();
        assert!(once.starts_with(b"# osier vpn eolas\nHost *.eolas\n") && once.ends_with(&mine));
        assert!(String::from_utf8_lossy(&once).contains("Host *\n# osier vpn eolas end\nServerAliveInterval 30\r\n"));
        assert_eq!(with_block(&once, &first).unwrap(), once);
        let both = with_block(&once, &other).unwrap();
        let changed = with_block(&both, &block("eolas", "gate", None)).unwrap();
        assert!(changed.starts_with(b"# osier vpn lab\n"), "the other block stays where it is");
        assert_eq!(without_block(&changed, &other.suffix).unwrap().map(|t| t.len()), Some(once.len() - 4));
        let none = without_block(&without_block(&both, &first.suffix).unwrap().unwrap(), &other.suffix).unwrap();
        assert_eq!(none, Some(mine.clone()));
        assert_eq!(without_block(&mine, &first.suffix), Ok(None));
    }

    #[test]
    fn a_block_stands_behind_those_of_longer_suffixes_that_end_in_its_own() {
        let longer = with_block(b"Host *\n", &block("lab.eolas", "gate", None)).unwrap();
        let both = String::from_utf8(with_block(&longer, &block("eolas", "vpn-host", None)).unwrap()).unwrap();
        let place = |line| both.find(line).unwrap();
        assert!(both.starts_with("# osier vpn lab.eolas\n") && place("Host *.eolas") < both.rfind("Host *\n").unwrap());
        assert!(place("# osier vpn lab.eolas end") < place("# osier vpn eolas\n"));
        let other = with_block(&longer, &block("las", "vpn-host", None)).unwrap();
        assert!(other.starts_with(b"# osier vpn las\n"), "'las' is no end of names in 'lab.eolas'");
    }

    #[test]
    fn a_block_behind_a_last_line_without_a_break_goes_without_a_trace() {
        let mine = b"# osier vpn lab.eolas\nHost *.lab.eolas\nHost *\n# osier vpn lab.eolas end";
        let wanted = block("eolas", "vpn-host", None);
        let with = with_block(mine, &wanted).unwrap();
        assert!(with.starts_with(mine) && with.ends_with(b"\n# osier vpn eolas end"));
        assert_eq!(with_block(&with, &wanted).unwrap(), with);
        assert_eq!(without_block(&with, &wanted.suffix), Ok(Some(mine.to_vec())));
    }

    #[test]
    fn a_block_whose_markers_were_edited_is_not_touched() {
        let wanted = block("eolas", "vpn-host", None);
        for text in ["a\n# osier vpn eolas\nb\n", "\n# osier vpn eolas\n# osier vpn eolas\n# osier vpn eolas end\n"] {
            let error = with_block(text.as_bytes(), &wanted).unwrap_err();
            assert_eq!(error.to_string(), "line 2 begins the block 'eolas', which has no end");
            assert!(without_block(text.as_bytes(), &wanted.suffix).is_err());
        }
    }

    proptest! {
        #[test]
        fn every_other_byte_of_the_file_stays(
            text in prop::collection::vec(any::<u8>(), 0..200), longer in any::<bool>(), more in "[a\n]{0,3}",
        ) {
            let wanted = block("eolas", "vpn-host", Some("me"));
            let end: &[u8] = if longer { b"\n# osier vpn .eolas end" } else { b"" };
            let text = [&text, end, more.as_bytes()].concat();
            let with = with_block(&text, &wanted).unwrap();
            prop_assert_eq!(&with_block(&with, &wanted).unwrap(), &with);
            prop_assert_eq!(without_block(&with, &wanted.suffix), Ok(Some(text)));
        }
    }
}
