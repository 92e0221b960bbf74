//! Points in time as Docker's clients write them: seconds since 1970 with a fraction, RFC 3339 and shortened forms of
//! it, or how long ago in Go's form, such as `1h30m`.

use time::{
    Date, OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339, macros::format_description,
};

/// Reads a moment in nanoseconds since 1970; `now` is the same. `None` where the text is none.
pub fn parse(text: &str, now: i128) -> Option<i128> {
    if let Some(ago) = duration(text) {
        return Some(now - ago);
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time.unix_timestamp_nanos());
    }
    // Without a zone; engines take their own, this program the one that all clocks share.
    let second = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let minute = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let day = format_description!("[year]-[month]-[day]");
    let local = PrimitiveDateTime::parse(text, &second)
        .or_else(|_| PrimitiveDateTime::parse(text, &minute))
        .or_else(|_| Date::parse(text, &day).map(Date::midnight));
    if let Ok(local) = local {
        return Some(local.assume_utc().unix_timestamp_nanos());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    Some(i128::from(whole) * 1_000_000_000 + i128::from(nanos(fraction)?))
}

/// The digits behind a point, in billionths; more than nine are cut.
fn nanos(fraction: &str) -> Option<i64> {
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// A duration in Go's form, in nanoseconds.
fn duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (whole, fraction) = rest[..number].split_once('.').unwrap_or((&rest[..number], ""));
        let units = [("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
        let long = [("m", 60_000_000_000_i128), ("h", 3_600_000_000_000)];
        let unit = rest[number..].split(|c: char| c.is_ascii_digit() || c == '.').next()?;
        let (_, size) = units.into_iter().chain(long).find(|(name, _)| *name == unit)?;
        let whole: i128 = if whole.is_empty() && !fraction.is_empty() { 0 } else { whole.parse::<u32>().ok()?.into() };
        total += whole * size + i128::from(nanos(fraction)?) * size / 1_000_000_000;
        rest = &rest[number + unit.len()..];
    }
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i128 = 1_000_000_000;

    #[test]
    fn moments_are_read_in_every_form() {
        let now = 100_000 * SECOND;
        for (text, expected) in [
            ("7", Some(7 * SECOND)),
            ("7.5", Some(7 * SECOND + SECOND / 2)),
            ("7.000000001", Some(7 * SECOND + 1)),
            ("1970-01-01T00:00:07Z", Some(7 * SECOND)),
            ("1970-01-01T01:00:07+01:00", Some(7 * SECOND)),
            ("1970-01-01T00:01", Some(60 * SECOND)),
            ("1970-01-02", Some(86_400 * SECOND)),
            ("10m", Some(now - 600 * SECOND)),
            ("1h30m", Some(now - 5_400 * SECOND)),
            ("1.5h", Some(now - 5_400 * SECOND)),
            ("-1s", Some(now + SECOND)),
            ("0s", Some(now)),
            ("", None),
            ("x", None),
            ("7.x", None),
            ("-", None),
            ("1y", None),
            ("h", None),
        ] {
            assert_eq!(parse(text, now), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*|[0-9.hms-]*", now in any::<i64>()) {
            let _ = parse(&text, now.into());
        }
    }
}
