//! The first word of a host line: a name with optional ranges and an optional port, expanded to names.
//!
//! Must not know groups or variables. `web[01:20:2]` keeps the width of its first bound, `db-[a:f]` counts letters,
//! a name may have several ranges. `name:22` and `[v6::address]:22` carry a port; a bare IPv6 address does not.

use std::net::Ipv6Addr;

/// How many hosts one line may name.
const LIMIT: usize = 65_536;

/// Expands the first word of a host line. The error says what is wrong, without the word itself.
pub(crate) fn expand(word: &str) -> Result<(Vec<String>, Option<u16>), String> {
    let (pattern, port) = split_port(word)?;
    if pattern.is_empty() {
        return Err("the host's name is missing".to_owned());
    }
    if pattern == "---" {
        return Err("this is the beginning of a YAML file, not a host".to_owned());
    }
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((head, tail)) = rest.split_once('[') {
        let (range, tail) = tail.split_once(']').ok_or("the range is not closed with ']'")?;
        let steps = steps(range)?;
        if names.len().saturating_mul(steps.len()) > LIMIT {
            return Err(format!("the ranges name more than {LIMIT} hosts"));
        }
        names = names.iter().flat_map(|n| steps.iter().map(move |s| format!("{n}{head}{s}"))).collect();
        rest = tail;
    }
    if rest.contains(']') {
        return Err("a ']' has no '[' before it".to_owned());
    }
    names.iter_mut().for_each(|n| n.push_str(rest));
    Ok((names, port))
}

/// The name and the port of a host in a list on the command line, where brackets are no ranges.
pub(crate) fn address(word: &str) -> (&str, Option<u16>) {
    match split_port(word) {
        Ok((name, port)) if !name.contains('[') && !name.is_empty() => (name, port),
        _ => (word, None),
    }
}

/// Whether a text is the name or address of a host, with or without ranges and a port, and so no list of patterns.
pub(crate) fn is_address(text: &str) -> bool {
    let Ok((host, _)) = split_port(text) else { return false };
    // A range stands for some digit or letter.
    let (mut bare, mut rest) = (String::new(), host);
    while let Some((head, tail)) = rest.split_once('[') {
        let Some((range, tail)) = tail.split_once(']') else { return false };
        if !is_range(range) {
            return false;
        }
        bare.push_str(head);
        bare.push('0');
        rest = tail;
    }
    bare.push_str(rest);
    let is_label = |label: &str| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        label.starts_with(word) && !label.ends_with(['-', '_']) && label.chars().all(|c| word(c) || c == '-')
    };
    bare.split('.').all(is_label) || bare.parse::<Ipv6Addr>().is_ok()
}

/// Whether `begin:end` or `begin:end:step` is between two letters or two numbers, hexadecimal ones included.
fn is_range(range: &str) -> bool {
    let parts: Vec<&str> = range.split(':').collect();
    let number = |t: &str, radix| !t.is_empty() && t.chars().all(|c| c.is_digit(radix));
    match parts[..] {
        [begin, end] | [begin, end, _] if parts.len() == 2 || number(parts[2], 10) => {
            (letter(begin).is_some() && letter(end).is_some()) || (number(begin, 16) && number(end, 16))
        }
        _ => false,
    }
}

/// Takes `:port` off. Colons in brackets are not ports, and a name with several others is an IPv6 address.
fn split_port(word: &str) -> Result<(&str, Option<u16>), String> {
    let mut depth = 0_usize;
    let outside = |&(_, c): &(usize, char)| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ':' && depth == 0
    };
    let colons: Vec<usize> = word.char_indices().filter(outside).map(|(at, _)| at).collect();
    let [colon] = colons[..] else { return Ok((word, None)) };
    let (host, port) = (&word[..colon], &word[colon + 1..]);
    let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = inside.filter(|h| h.parse::<Ipv6Addr>().is_ok() || !h.contains(':')).unwrap_or(host);
    match port.parse() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        _ => Err(format!("'{port}' is not a port (1 to 65535)")),
    }
}

/// The values of `begin:end` or `begin:end:step`, both ends included.
fn steps(range: &str) -> Result<Vec<String>, String> {
    let bounds: Vec<&str> = range.split(':').collect();
    let (begin, end, step) = match bounds[..] {
        [begin, end] => (begin, end, "1"),
        [begin, end, step] => (begin, end, step),
        _ => return Err(format!("'[{range}]' is not a range ([begin:end] or [begin:end:step])")),
    };
    let step = step.parse().ok().filter(|&s: &usize| s > 0).ok_or_else(|| format!("'{step}' is not a step"))?;
    if end.is_empty() {
        return Err(format!("'[{range}]' has no end"));
    }
    if let (Some(first), Some(last)) = (letter(begin), letter(end)) {
        return nonempty((first..=last).step_by(step).map(|i| char::from(LETTERS[i]).to_string()).collect(), range);
    }
    let begin = if begin.is_empty() { "0" } else { begin };
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<usize>()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| format!("'{text}' is neither a number nor a letter"))
    };
    let (first, last) = (number(begin)?, number(end)?);
    let width = if begin.len() > 1 && begin.starts_with('0') { begin.len() } else { 0 };
    if width > 0 && width != end.len() {
        return Err(format!("both ends of '[{range}]' must have the same number of digits"));
    }
    if last.saturating_sub(first) / step >= LIMIT {
        return Err(format!("'[{range}]' names more than {LIMIT} hosts"));
    }
    nonempty((first..=last).step_by(step).map(|n| format!("{n:0width$}")).collect(), range)
}

fn nonempty(steps: Vec<String>, range: &str) -> Result<Vec<String>, String> {
    if steps.is_empty() { Err(format!("'[{range}]' ends before it begins")) } else { Ok(steps) }
}

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn letter(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [one] => LETTERS.iter().position(|l| l == one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(word: &str) -> Vec<String> {
        expand(word).unwrap().0
    }

    #[test]
    fn ranges_expand_in_order() {
        assert_eq!(names("web[01:10:4].lan"), ["web01.lan", "web05.lan", "web09.lan"]);
        assert_eq!(names("n[8:11]"), ["n8", "n9", "n10", "n11"]);
        assert_eq!(names("n[:1]"), ["n0", "n1"]);
        assert_eq!(names("db-[a:c]"), ["db-a", "db-b", "db-c"]);
        assert_eq!(names("r[1:2]n[a:b]"), ["r1na", "r1nb", "r2na", "r2nb"]);
        assert_eq!(names("10.1.1.[1:2]"), ["10.1.1.1", "10.1.1.2"]);
    }

    #[test]
    fn ports_are_told_from_ranges_and_addresses() {
        assert_eq!(expand("a:2222").unwrap(), (vec!["a".to_owned()], Some(2222)));
        assert_eq!(expand("n[1:2]:2222").unwrap().1, Some(2222));
        assert_eq!(expand("[2001:db8::1]:22").unwrap(), (vec!["2001:db8::1".to_owned()], Some(22)));
        assert_eq!(expand("2001:db8::1").unwrap(), (vec!["2001:db8::1".to_owned()], None));
        assert_eq!(expand("n[1:2]").unwrap().1, None);
    }

    #[test]
    fn mistakes_are_named() {
        for (word, part) in [
            ("a:", "port"),
            ("a:x", "port"),
            ("a:0", "port"),
            ("a:65536", "port"),
            ("a[1:2", "not closed"),
            ("a]", "no '['"),
            ("a[1]", "not a range"),
            ("a[1:2:3:4]", "not a range"),
            ("a[1:]", "no end"),
            ("a[3:1]", "ends before"),
            ("a[c:a]", "ends before"),
            ("a[1:2:0]", "step"),
            ("a[01:100]", "digits"),
            ("a[x:10]", "neither"),
            ("a[-1:3]", "neither"),
            ("a[0:99999999]", "more than"),
            ("a[0:999][0:999]", "more than"),
            (":22", "name is missing"),
            ("---", "YAML"),
        ] {
            let message = expand(word).unwrap_err();
            assert!(message.contains(part), "{word}: {message}");
        }
    }
}
