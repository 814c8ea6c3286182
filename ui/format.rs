//! Numbers, sizes, durations and times as an operator reads them: short, with their unit, never
//! wider than their column needs. All times are UTC.

use eventkit::event::Micros;

/// `1,284`
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count in at most five cells: `9,820`, `18.4k`, `1.3M`.
#[must_use]
pub fn short_count(n: u64) -> String {
    match n {
        0..10_000 => count(n),
        10_000..1_000_000 => format!("{:.1}k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}G", n as f64 / 1e9),
    }
}

/// Events per second: `0`, `4.6`, `803`, `18.42k`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        return "?".to_owned();
    }
    match per_second {
        0.0 => "0".to_owned(),
        r if r < 0.05 => "<0.1".to_owned(),
        r if r < 99.95 => format!("{r:.1}"),
        r if r < 9_999.5 => count(r.round() as u64),
        r if r < 999_995.0 => format!("{:.2}k", r / 1e3),
        r => format!("{:.2}M", r / 1e6),
    }
}

/// `412 MiB`, `1.2 GiB`, `38 KiB`, `17 B`
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A size in at most five cells: `1.2k`, `38k`, `4.0M`.
#[must_use]
pub fn short_bytes(n: u64) -> String {
    bytes(n).replace(" B", "").replace(" KiB", "k").replace(" MiB", "M").replace(" GiB", "G")
}

/// An age in at most four cells: `41s`, `2m`, `3h`, `12d`.
#[must_use]
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long something has run: `41s`, `5m 03s`, `3h 20m`, `12d 04h`.
#[must_use]
pub fn uptime(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// A short duration: `850us`, `3.1ms`, `1.2s`, `48s`.
#[must_use]
pub fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us}us"),
        1000..10_000 => format!("{:.1}ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{}ms", us / 1000),
        1_000_000..10_000_000 => format!("{:.1}s", us as f64 / 1e6),
        _ => format!("{}s", us / 1_000_000),
    }
}

/// `31%`, and `<1%` for what is there but rounds to nothing; `-` where there is no whole.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    match (u128::from(part) * 100 / u128::from(whole), part) {
        (0, 1..) => "<1%".to_owned(),
        (percent, _) => format!("{percent}%"),
    }
}

/// `14:32:07Z`
#[must_use]
pub fn clock(at: Micros) -> String {
    format!("{}Z", time_of_day(at))
}

/// `14:32:07` on the day of `now`, else `11-22 14:32`.
#[must_use]
pub fn stamp(at: Micros, now: Micros) -> String {
    const DAY: i64 = 86_400_000_000;
    if at.div_euclid(DAY) == now.div_euclid(DAY) {
        return time_of_day(at);
    }
    match jiff::Timestamp::from_microsecond(at) {
        Ok(time) => time.strftime("%m-%d %H:%M").to_string(),
        Err(_) => "?".to_owned(),
    }
}

/// `2026-11-23T14:32:07.123Z`
#[must_use]
pub fn instant(at: Micros) -> String {
    match jiff::Timestamp::from_microsecond(at) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => format!("{at} us"),
    }
}

fn time_of_day(at: Micros) -> String {
    let s = at.div_euclid(1_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_their_unit_and_keep_their_width() {
        assert_eq!(
            [count(0), count(999), count(1_284), count(1_000_000)],
            ["0", "999", "1,284", "1,000,000"]
        );
        assert_eq!(
            [0.0, 0.01, 4.6, 99.97, 803.2, 9_999.4, 18_420.0, 2e6].map(rate),
            ["0", "<0.1", "4.6", "100", "803", "9,999", "18.42k", "2.00M"]
        );
        assert_eq!(rate(f64::NAN), "?");
        assert_eq!(
            [17, 1024, 39_000, 432_013_312, 1 << 30, u64::MAX].map(bytes),
            ["17 B", "1.0 KiB", "38 KiB", "412 MiB", "1.0 GiB", "16 EiB"]
        );
        assert_eq!([41_000, 119_000, 120_000, 7_200_000].map(age), ["41s", "119s", "2m", "2h"]);
        assert_eq!([850, 3_100, 48_000, 1_200_000].map(micros), ["850us", "3.1ms", "48ms", "1.2s"]);
        assert_eq!(percent(1, 1000), "<1%");
        assert_eq!(percent(0, 0), "-");
        assert_eq!(uptime(1_051_200_000), "12d 04h");
    }

    #[test]
    fn times_before_the_epoch_and_beyond_the_calendar_are_shown() {
        assert_eq!(clock(-1), "23:59:59Z");
        assert_eq!(stamp(1_764_000_000_000_000, 0), "11-24 16:00");
        assert_eq!(stamp(i64::MAX, 0), "?");
    }
}
