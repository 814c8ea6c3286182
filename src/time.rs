//! Time as events carry it: [`Micros`] since the Unix epoch, and the formats clients send.
//!
//! In: text or JSON values from strangers. Out: an instant between the years 1 and 9999, or
//! nothing. No time zone data base, no locale, no panic: a client's offset is a number.
//!
//! What is read:
//!
//! | form | example |
//! | --- | --- |
//! | RFC 3339 / ISO 8601, `T`, `t` or a space between date and time | `2026-11-23T14:32:05.911Z` |
//! | any offset, with or without colon, or the hours alone; none means UTC | `…+02:00`, `…+0200`, `…+02` |
//! | seconds left out; a fraction of any length (cut after microseconds), `.` or `,` | `2026-11-23 14:32` |
//! | a date alone, midnight UTC | `2026-11-23` |
//! | a decimal Unix time, as a number or as text | `1795444325.911` |
//!
//! A Unix time's unit follows from its magnitude: below 10^11 (the year 5138) it is seconds,
//! below 10^14 milliseconds, below 10^17 microseconds; anything larger is refused. So a count
//! of milliseconds is misread only where it lies before March 1973.
//!
//! A leap second (`:60`) becomes the last microsecond of its minute.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::Micros;

const SECOND: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// 0001-01-01T00:00:00Z, the earliest instant that is read or shown.
pub const EARLIEST: Micros = -62_135_596_800 * SECOND;

/// 9999-12-31T23:59:59.999999Z, the latest instant that is read or shown.
pub const LATEST: Micros = 253_402_300_800 * SECOND - 1;

/// Longer text is no timestamp; the bound keeps a hostile fraction from costing time.
const TEXT_BYTES_MAX: usize = 128;

/// The instant that a client's text names; `None` where it names none (see the module).
#[must_use]
pub fn parse(text: &str) -> Option<Micros> {
    let bytes = text.trim_ascii().as_bytes();
    if bytes.is_empty() || bytes.len() > TEXT_BYTES_MAX {
        return None;
    }
    let is_calendar = bytes.get(4) == Some(&b'-') && bytes[0].is_ascii_digit();
    if is_calendar { calendar(bytes) } else { unix(std::str::from_utf8(bytes).ok()?) }
}

/// The instant that a JSON value's text names: a string as [`parse`] reads it, or a number.
#[must_use]
pub fn parse_json(raw: &str) -> Option<Micros> {
    let raw = raw.trim_ascii();
    let Some(inner) = raw.strip_prefix('"') else {
        // Not a number either: `null`, `true`, `{`, `[` fail at their first character.
        return (raw.len() <= TEXT_BYTES_MAX).then(|| unix(raw)).flatten();
    };
    let inner = inner.strip_suffix('"')?;
    if inner.contains('\\') {
        let plain: String = serde_json::from_str(raw).ok()?;
        return parse(&plain);
    }
    parse(inner)
}

/// RFC 3339 in UTC with microseconds: `2026-11-23T14:32:05.911000Z`. An instant outside the
/// years 1 to 9999 is shown as the nearest one inside.
#[must_use]
pub fn format(at: Micros) -> String {
    let civil = Civil::of(at);
    let of_day = civil.micros_of_day / SECOND;
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        civil.year,
        civil.month,
        civil.day,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        civil.micros_of_day % SECOND,
    )
}

/// The UTC date as `YYYY-MM-DD` and the hour as `HH`, bounded as [`format()`] is.
#[must_use]
pub fn date_hour(at: Micros) -> (String, String) {
    let civil = Civil::of(at);
    (
        format!("{:04}-{:02}-{:02}", civil.year, civil.month, civil.day),
        format!("{:02}", civil.micros_of_day / SECOND / 3600),
    )
}

/// The wall clock. A clock before 1970 reads as 0.
#[must_use]
pub fn now() -> Micros {
    #[cfg(test)]
    if let Some(now) = crate::ambient::simulated::wall() {
        return now;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros().try_into().unwrap_or(LATEST))
}

/// What the wall clock says: a handle, so that a test's clock can jump. Nothing may be decided by
/// it: it dates what is received, for people.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Micros + Send + Sync>);

impl Clock {
    /// A clock that is read so.
    #[must_use]
    pub fn new(read: impl Fn() -> Micros + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// What it says.
    #[must_use]
    pub fn now(&self) -> Micros {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Self::new(now)
    }
}

fn in_range(at: Micros) -> Option<Micros> {
    (EARLIEST..=LATEST).contains(&at).then_some(at)
}

/// A calendar form; `bytes` is at least five long.
fn calendar(bytes: &[u8]) -> Option<Micros> {
    let (date, rest) = bytes.split_at_checked(10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = i64::from(digits(&date[0..2])?) * 100 + i64::from(digits(&date[2..4])?);
    let (month, day) = (digits(&date[5..7])?, digits(&date[8..10])?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > month_days(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY_SECONDS;
    let Some((separator, rest)) = rest.split_first() else {
        return in_range(midnight * SECOND);
    };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (of_day, rest) = time_of_day(rest)?;
    let offset = offset_seconds(rest)?;
    // Every term is bounded by its two or four digits: no overflow.
    in_range((midnight - offset) * SECOND + of_day)
}

/// `HH:MM[:SS[.fraction]]` in microseconds, and what follows it.
fn time_of_day(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (time, mut rest) = bytes.split_at_checked(5)?;
    let (hour, minute) = (digits(&time[0..2])?, digits(&time[3..5])?);
    if time[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let minutes = i64::from(hour) * 60 + i64::from(minute);
    let mut micros = minutes * 60 * SECOND;
    let Some(after_colon) = rest.strip_prefix(b":") else {
        return Some((micros, rest));
    };
    let (second, after) = after_colon.split_at_checked(2)?;
    let second = digits(second)?;
    rest = after;
    let mut fraction = 0;
    if let [b'.' | b',', after @ ..] = rest {
        let length = after.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        fraction = fraction_micros(&after[..length]);
        rest = &after[length..];
    }
    match second {
        0..=59 => micros += i64::from(second) * SECOND + fraction,
        60 => micros += 60 * SECOND - 1,
        _ => return None,
    }
    Some((micros, rest))
}

/// Nothing, `Z`, `±HH`, `±HHMM` or `±HH:MM`, in seconds east of Greenwich.
fn offset_seconds(bytes: &[u8]) -> Option<i64> {
    // `date` and many log libraries put a space before the offset.
    let (sign, rest) = match bytes.strip_prefix(b" ").unwrap_or(bytes) {
        [] | b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (digits(rest)?, 0),
        4 => (digits(&rest[..2])?, digits(&rest[2..])?),
        5 if rest[2] == b':' => (digits(&rest[..2])?, digits(&rest[3..])?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// A decimal Unix time of any unit up to microseconds.
fn unix(text: &str) -> Option<Micros> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if unsigned.ends_with('.') || !whole.bytes().all(|b| b.is_ascii_digit()) || whole.is_empty() {
        return unix_with_exponent(text);
    }
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return unix_with_exponent(text);
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction = fraction_micros(fraction.as_bytes());
    let magnitude = match whole {
        0..100_000_000_000 => whole * SECOND + fraction,
        100_000_000_000..100_000_000_000_000 => whole * 1000 + fraction / 1000,
        100_000_000_000_000..100_000_000_000_000_000 => whole,
        _ => return None,
    };
    in_range(if negative { -magnitude } else { magnitude })
}

/// `1.7e9`: rare enough that a float's precision (a few hundred nanoseconds today) will do.
fn unix_with_exponent(text: &str) -> Option<Micros> {
    let numeric = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    if !text.contains(['e', 'E']) || !text.bytes().all(numeric) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    let unit = match number.abs() {
        n if n < 1e11 => 1e6,
        n if n < 1e14 => 1e3,
        n if n < 1e17 => 1.0,
        _ => return None,
    };
    in_range((number * unit).round() as i64)
}

/// Two ASCII digits as a number.
fn digits(two: &[u8]) -> Option<u32> {
    match two {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
        }
        _ => None,
    }
}

/// The first six digits of a decimal fraction, in microseconds; the caller checked that they
/// are digits.
fn fraction_micros(fraction: &[u8]) -> i64 {
    (0..6).fold(0, |micros, at| micros * 10 + fraction.get(at).map_or(0, |b| i64::from(b - b'0')))
}

fn month_days(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. The year is taken to begin in
/// March, so that the leap day is its last and every 400 years repeat.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (i64::from(month) + 9).rem_euclid(12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// An instant as the calendar shows it.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    micros_of_day: i64,
}

impl Civil {
    /// The inverse of [`days_from_civil`], for an instant moved into the shown range.
    fn of(at: Micros) -> Self {
        let at = at.clamp(EARLIEST, LATEST);
        let days = at.div_euclid(DAY_SECONDS * SECOND) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            micros_of_day: at.rem_euclid(DAY_SECONDS * SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Micros = 1_795_444_325_911_000;

    #[test]
    fn every_documented_form_is_read() {
        for (text, expected) in [
            ("2026-11-23T14:32:05.911Z", NOON),
            ("2026-11-23T14:32:05.911000Z", NOON),
            ("2026-11-23T14:32:05.9110000009999999999Z", NOON),
            ("2026-11-23t14:32:05.911z", NOON),
            ("2026-11-23 14:32:05.911", NOON),
            ("2026-11-23T14:32:05,911", NOON),
            ("2026-11-23T16:32:05.911+02:00", NOON),
            ("2026-11-23T16:32:05.911+0200", NOON),
            ("2026-11-23T16:32:05.911+02", NOON),
            ("2026-11-23T09:02:05.911-05:30", NOON),
            ("2026-11-23 14:32:05.911 +0000", NOON),
            ("  2026-11-23T14:32:05.911Z ", NOON),
            ("1795444325911", NOON),
            ("1795444325911000", NOON),
            ("1795444325.911", NOON),
            ("2026-11-23T14:32Z", NOON - 5_911_000),
            ("2026-11-23", 1_795_392_000_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("0", 0),
            ("-1.5", -1_500_000),
            ("1.795444325e9", NOON - 911_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999_999),
            ("2024-02-29", 1_709_164_800_000_000),
            ("0001-01-01", EARLIEST),
            ("9999-12-31T23:59:59.999999Z", LATEST),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "yesterday",
            "2026-13-01",
            "2026-02-29",
            "2026-00-10",
            "2026-01-00",
            "0000-01-01",
            "2026-11-23T",
            "2026-11-23T14",
            "2026-11-23T24:00:00Z",
            "2026-11-23T14:60:00Z",
            "2026-11-23T14:32:61Z",
            "2026-11-23T14:32:05.Z",
            "2026-11-23T14:32:05+2",
            "2026-11-23T14:32:05+24:00",
            "2026-11-23T14:32:05ZZ",
            "2026-11-23X14:32:05Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "1000000000000000000",
            "-1000000000000000000",
            "100000000000000000000000",
            "1e400",
            "1.",
            ".5",
            "+5",
            "--5",
            "e",
            "NaN",
            "inf",
            "0x10",
            "2026-1-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("1.{}", "0".repeat(1000))), None);
    }

    #[test]
    fn json_strings_and_numbers_are_read_and_nothing_else() {
        assert_eq!(parse_json(r#""2026-11-23T14:32:05.911Z""#), Some(NOON));
        assert_eq!(parse_json(r#""2026-11-23T14:32:05.911\u005a""#), Some(NOON));
        assert_eq!(parse_json("1795444325911"), Some(NOON));
        assert_eq!(parse_json("1.795444325911e12"), Some(NOON));
        for raw in ["null", "true", "{}", "[]", "\"\"", "\"", "", r#""\ud800""#] {
            assert_eq!(parse_json(raw), None, "{raw}");
        }
    }

    #[test]
    fn instants_beyond_the_calendar_are_shown_at_its_edge() {
        assert_eq!(format(i64::MIN), "0001-01-01T00:00:00.000000Z");
        assert_eq!(format(i64::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(date_hour(i64::MAX), ("9999-12-31".into(), "23".into()));
    }

    #[test]
    fn date_and_hour_are_of_utc() {
        assert_eq!(date_hour(NOON), ("2026-11-23".into(), "14".into()));
        assert_eq!(date_hour(-1), ("1969-12-31".into(), "23".into()));
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_read_back(at in EARLIEST..=LATEST) {
            prop_assert_eq!(parse(&format(at)), Some(at));
        }

        #[test]
        fn the_calendar_agrees_with_jiff(at in -60_000_000_000_000_000_i64..=LATEST) {
            let jiff = jiff::Timestamp::from_microsecond(at).unwrap();
            prop_assert_eq!(format(at), format!("{jiff:.6}"));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", dateish in "[0-9:.TZz+ e-]{0,40}") {
            for text in [&text, &dateish] {
                let at = parse(text);
                prop_assert!(at.is_none_or(|at| (EARLIEST..=LATEST).contains(&at)));
                let _ = parse_json(text);
                let _ = parse_json(&format!("\"{text}\""));
            }
        }
    }
}
