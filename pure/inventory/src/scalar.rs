//! What a scalar of YAML means to Ansible: the types of YAML 1.1 as PyYAML tells them apart.
//!
//! Must not know documents. A plain scalar is tried as truth value, number, null and date, in this order; `yes` is true,
//! `0644` is octal, `1:30` is ninety, `1e3` is text, since a float must have a dot and its exponent a sign. Numbers that
//! JSON cannot hold exactly stay text. Dates become text in ISO 8601.

use serde_json::{Number, Value};

/// The value of a plain scalar without a tag, or why it has none.
pub(crate) fn plain(text: &str) -> Result<Value, String> {
    if let Some(value) = boolean(text) {
        return Ok(Value::Bool(value));
    }
    if let Some(number) = float(text).or_else(|| integer(text)) {
        return Ok(number);
    }
    if null(text) {
        return Ok(Value::Null);
    }
    match timestamp(text) {
        Some(Ok(text)) => Ok(Value::String(text)),
        Some(Err(reason)) => Err(reason),
        None if text == "=" => Err("a lone '=' has a meaning of its own in YAML; quote it".to_owned()),
        None => Ok(Value::String(text.to_owned())),
    }
}

/// The value of a scalar with one of YAML's own tags (`!!int`: `int`), or why it has none.
pub(crate) fn tagged(text: &str, tag: &str) -> Result<Value, String> {
    let value = match tag {
        "str" => Some(Value::String(text.to_owned())),
        "int" => integer(text),
        "float" => float(text).or_else(|| integer(text).filter(Value::is_number).map(as_float)),
        "bool" => boolean(text).map(Value::Bool),
        "null" => Some(Value::Null),
        "timestamp" => timestamp(text).transpose()?.map(Value::String),
        _ => return Err(format!("the tag '!!{tag}' is not supported")),
    };
    value.ok_or_else(|| format!("'{text}' is no value of the type '{tag}'"))
}

fn as_float(value: Value) -> Value {
    value.as_f64().and_then(Number::from_f64).map_or(value, Value::Number)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A sign, and what is behind it.
fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn all(text: &str, of: impl Fn(char) -> bool) -> bool {
    text.chars().all(|c| c == '_' || of(c))
}

/// Digits with underscores among them, the first of them a digit.
fn digits(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && all(text, |c| c.is_ascii_digit())
}

fn integer(text: &str) -> Option<Value> {
    let (negative, unsigned) = sign(text);
    let (radix, body) = match unsigned.as_bytes() {
        [b'0'] => (10, "0"),
        [b'0', b'b', _, ..] => (2, &unsigned[2..]),
        [b'0', b'x', _, ..] => (16, &unsigned[2..]),
        [b'0', ..] => (8, &unsigned[1..]),
        [b'1'..=b'9', ..] => (10, unsigned),
        _ => return None,
    };
    let mut parts = body.split(':');
    let first = parts.next().unwrap_or_default();
    let sixtieths: Option<Vec<u64>> = parts.map(|p| sixtieth(p).filter(|_| radix == 10)).collect();
    let sixtieths = sixtieths?;
    if !all(first, |c| c.is_digit(radix)) {
        return None;
    }
    let bare: String = first.chars().filter(|&c| c != '_').collect();
    // `0_` and the like are zero.
    let bare = if bare.is_empty() && radix == 8 { "0" } else { &bare };
    let magnitude = u64::from_str_radix(bare, radix)
        .ok()
        .and_then(|first| sixtieths.iter().try_fold(first, |sum, &part| sum.checked_mul(60)?.checked_add(part)));
    let number = magnitude.and_then(|m| match negative {
        false => Some(Number::from(m)),
        true => i64::try_from(-i128::from(m)).ok().map(Number::from),
    });
    Some(number.map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// One part of a number of base sixty.
fn sixtieth(text: &str) -> Option<u64> {
    let good = matches!(text.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    text.parse().ok().filter(|_| good)
}

fn float(text: &str) -> Option<Value> {
    let stay = || Some(Value::String(text.to_owned()));
    let (negative, unsigned) = sign(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return stay(),
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return stay(),
        _ => {}
    }
    let (whole, rest) = unsigned.split_once('.')?;
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, ""),
    };
    let exponent_is_good = match exponent.as_bytes() {
        [] => fraction.len() == rest.len(),
        [b'+' | b'-', first, ..] => first.is_ascii_digit() && exponent[1..].bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    if !exponent_is_good || !all(fraction, |c| c.is_ascii_digit()) {
        return None;
    }
    let bare = |text: &str| text.chars().filter(|&c| c != '_').collect::<String>();
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let number = if whole.contains(':') {
        let sixtieths: Option<Vec<u64>> = parts.map(sixtieth).collect();
        if !digits(first) || !exponent.is_empty() {
            return None;
        }
        let seconds: f64 = format!("0.{}0", bare(fraction)).parse().ok()?;
        let first: f64 = bare(first).parse().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "a part of base sixty is below sixty")]
        let sum = sixtieths?.iter().fold(first, |sum, &part| sum * 60.0 + part as f64);
        sum + seconds
    } else if first.is_empty() {
        // Without digits before the dot there must be one behind it, and no sign.
        if !digits(fraction) || unsigned.len() != text.len() {
            return None;
        }
        format!("0.{}e{}0", bare(fraction), exponent_of(exponent)).parse().ok()?
    } else {
        if !digits(first) {
            return None;
        }
        format!("{}.{}0e{}", bare(first), bare(fraction), exponent_of(exponent)).parse().ok()?
    };
    Number::from_f64(if negative { -number } else { number }).map(Value::Number).or_else(stay)
}

fn exponent_of(text: &str) -> &str {
    if text.is_empty() { "+0" } else { text }
}

/// A date, or a date and a time: its text in ISO 8601, or why there is no such day or time.
fn timestamp(text: &str) -> Option<Result<String, String>> {
    let mut parts = text.splitn(3, '-');
    let (year, month, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str, lengths: &[usize]| {
        let good = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| good)
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (day, behind) = rest.split_at(end);
    let exact: &[usize] = if behind.is_empty() { &[2] } else { &[1, 2] };
    let (year, month, day) = (number(year, &[4])?, number(month, exact)?, number(day, exact)?);
    let wrong = || format!("'{text}' looks like a date, but is none; quote it");
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days(year, month) {
        // Only what is a date by its shape is a wrong date.
        return (behind.is_empty() || clock(behind).is_some()).then(|| Err(wrong()));
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if behind.is_empty() {
        return Some(Ok(date));
    }
    Some(clock(behind)?.map(|clock| format!("{date}T{clock}")).ok_or_else(wrong))
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The time behind a date, its separator first. The outer `None` says that it is no time at all, the inner one that
/// there is no such time.
fn clock(text: &str) -> Option<Option<String>> {
    let rest = match text.strip_prefix(['T', 't']) {
        Some(rest) => rest,
        None => {
            let rest = text.trim_start_matches([' ', '\t']);
            (rest.len() < text.len()).then_some(rest)?
        }
    };
    let mut parts = rest.splitn(3, ':');
    let (hour, minute, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let seconds = rest.get(..2)?;
    let rest = &rest[2..];
    if !(1..=2).contains(&hour.len()) || minute.len() != 2 {
        return None;
    }
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(seconds)?);
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    let zone = match zone.trim_start_matches([' ', '\t']) {
        "" if zone.is_empty() => String::new(),
        "Z" => "+00:00".to_owned(),
        zone => offset(zone)?,
    };
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let micros = if micros == "000000" { String::new() } else { format!(".{micros}") };
    let real = hour < 24 && minute < 60 && second < 60;
    Some(real.then(|| format!("{hour:02}:{minute:02}:{second:02}{micros}{zone}")))
}

/// `+1`, `-05:30` as an offset with two digits each.
fn offset(text: &str) -> Option<String> {
    let body = text.strip_prefix(['+', '-'])?;
    let (hours, minutes) = body.split_once(':').unwrap_or((body, "00"));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let good = (1..=2).contains(&hours.len()) && minutes.len() == 2 && digits(hours) && digits(minutes);
    // A zone of no offset is written with a plus, whatever its sign.
    let zero = hours.bytes().chain(minutes.bytes()).all(|b| b == b'0');
    good.then(|| format!("{}{hours:0>2}:{minutes}", if zero { "+" } else { &text[..1] }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_have_the_types_of_pyyaml() {
        for (text, expected) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("yEs", json!("yEs")),
            ("", json!(null)),
            ("~", json!(null)),
            ("NULL", json!(null)),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("+12", json!(12)),
            ("0644", json!(420)),
            ("0o17", json!("0o17")),
            ("09", json!("09")),
            ("0b101", json!(5)),
            ("0b", json!("0b")),
            ("0x1F", json!(31)),
            ("0xg", json!("0xg")),
            ("1_000", json!(1000)),
            ("1__0_", json!(10)),
            ("_1", json!("_1")),
            ("1:30", json!(90)),
            ("22:22", json!(1342)),
            ("-1:30", json!(-90)),
            ("1:60", json!("1:60")),
            ("190:20:30", json!(685_230)),
            ("0:30", json!("0:30")),
            ("10:20:30.5", json!(37_230.5)),
            ("1.5", json!(1.5)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("-.5", json!("-.5")),
            ("1e3", json!("1e3")),
            ("1.0e3", json!("1.0e3")),
            ("1.0e+3", json!(1000.0)),
            ("1.5E-1", json!(0.15)),
            ("-1.5", json!(-1.5)),
            ("1.2.3", json!("1.2.3")),
            ("10.1.1.0/24", json!("10.1.1.0/24")),
            (".", json!(".")),
            ("-", json!("-")),
            (".inf", json!(".inf")),
            ("123456789012345678901234567890", json!("123456789012345678901234567890")),
            ("2015-06-03", json!("2015-06-03")),
            ("2015-6-3", json!("2015-6-3")),
            ("2001-12-14t21:59:43.10-05:00", json!("2001-12-14T21:59:43.100000-05:00")),
            ("2001-12-14 21:59:43.10 -5", json!("2001-12-14T21:59:43.100000-05:00")),
            ("2001-12-15 2:59:43.10", json!("2001-12-15T02:59:43.100000")),
            ("2001-12-14T21:59:43Z", json!("2001-12-14T21:59:43+00:00")),
            ("2001-12-14T21:59", json!("2001-12-14T21:59")),
            ("2001-12-14x", json!("2001-12-14x")),
            ("a", json!("a")),
        ] {
            assert_eq!(plain(text), Ok(expected), "{text:?}");
        }
        for text in ["=", "2015-02-29", "2015-13-01", "2015-01-01 25:00:00"] {
            assert!(plain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tags_say_the_type() {
        assert_eq!(tagged("1", "str"), Ok(json!("1")));
        assert_eq!(tagged("0x10", "int"), Ok(json!(16)));
        assert_eq!(tagged("1", "float"), Ok(json!(1.0)));
        assert_eq!(tagged("off", "bool"), Ok(json!(false)));
        assert!(tagged("x", "int").is_err() && tagged("x", "set").is_err());
    }
}
