//! Spans of time and moments as operators write them.
//!
//! Must not know what time it is: `now` is an argument.

use std::time::Duration;
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, format_description::well_known::Rfc3339,
    macros::format_description,
};

/// A text is no span of time, or no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// It is no span.
    #[error("'{0}' is no span of time such as 90s, 5m, 1h30m or 2d")]
    Span(String),
    /// It is no moment.
    #[error(
        "'{0}' is neither a span such as 10m, nor a moment such as 2026-01-31, '2026-01-31 14:05:00' or seconds since 1970 behind an '@'"
    )]
    Moment(String),
}

/// The moment from which something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Seconds since 1970.
    At(i64),
}

impl Since {
    /// Seconds since 1970, where it is `now` by the same count.
    pub fn at(self, now: i64) -> i64 {
        match self {
            Self::Ago(span) => now.saturating_sub(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)),
            Self::At(at) => at,
        }
    }
}

/// Reads numbers with `s`, `m`, `h` or `d` behind them, such as `1h30m`; a bare number means seconds. None is nothing.
pub fn span(text: &str) -> Result<Duration, SpanError> {
    read(text).filter(|s| *s > 0).map(Duration::from_secs).ok_or_else(|| SpanError::Span(text.to_owned()))
}

fn read(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest[digits..].chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(sum)
}

/// Reads a span before now, or a moment: a day or a day and a time of it (UTC unless RFC 3339 says otherwise), or `@` and
/// seconds since 1970.
pub fn since(text: &str) -> Result<Since, SpanError> {
    const FORMATS: [&[BorrowedFormatItem<'_>]; 2] = [
        format_description!("[year]-[month]-[day] [hour]:[minute]:[second]"),
        format_description!("[year]-[month]-[day] [hour]:[minute]"),
    ];
    let wrong = || SpanError::Moment(text.to_owned());
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().map(Since::At).map_err(|_| wrong());
    }
    if let Ok(span) = span(text) {
        return Ok(Since::Ago(span));
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(Since::At(moment.unix_timestamp()));
    }
    let whole = if text.len() == 10 { format!("{text} 00:00") } else { text.replacen('T', " ", 1) };
    let moment = FORMATS.iter().find_map(|format| PrimitiveDateTime::parse(&whole, format).ok());
    moment.map(|m| Since::At(m.assume_utc().unix_timestamp())).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read() {
        let seconds = |text: &str| span(text).map(|s| s.as_secs()).ok();
        assert_eq!(
            [seconds("90"), seconds("5m"), seconds("1h30m"), seconds("2d")],
            [Some(90), Some(300), Some(5400), Some(172_800)]
        );
        for wrong in ["", "m", "5", "5x", "0", "0s", "-5s", "5m3", "1.5h", "99999999999999999999s", "ü"] {
            assert_eq!(seconds(wrong), (wrong == "5").then_some(5), "{wrong}");
        }
    }

    #[test]
    fn moments_are_read() {
        assert_eq!(since("10m").unwrap().at(1000), 400);
        for (text, at) in [
            ("@12", 12),
            ("1970-01-02", 86_400),
            ("1970-01-01 00:01", 60),
            ("1970-01-01T00:01:02", 62),
            ("1970-01-01T01:00:00+01:00", 0),
        ] {
            assert_eq!(since(text), Ok(Since::At(at)), "{text}");
        }
        for wrong in ["yesterday", "@x", "1970-13-01", "", "1970-01-01x"] {
            assert_eq!(since(wrong), Err(SpanError::Moment(wrong.into())));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*|[0-9@smhd:TZ -]{0,24}") {
            let _ = (span(&text), since(&text).map(|s| s.at(i64::MAX)));
        }
    }
}
