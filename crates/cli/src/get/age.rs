// SPDX-License-Identifier: Apache-2.0
//! How old something is, as kubectl says it.

use std::time::{Duration, SystemTime};

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// `5m12s` for what was made at `made` (RFC 3339, UTC).
pub(super) fn since(made: Option<&str>, now: u64) -> String {
    match made.and_then(seconds) {
        Some(made) => text(now.saturating_sub(made)),
        None => "<unknown>".to_owned(),
    }
}

/// Two units at most, and only as many as matter.
fn text(age: u64) -> String {
    let (minutes, hours, days) = (age / 60, age / 3600, age / 86_400);
    let pair = |first: u64, one: &str, second: u64, other: &str| match second {
        0 => format!("{first}{one}"),
        second => format!("{first}{one}{second}{other}"),
    };
    match age {
        0..120 => format!("{age}s"),
        120..600 => pair(minutes, "m", age % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// `2026-11-21T08:05:00Z` in seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !text.ends_with('Z') || !(1..=12).contains(&month) || year < 1970 {
        return None;
    }
    // Years begin in March here, so that the leap day is the last one of a year.
    let year = if month <= 2 { year - 1 } else { year };
    let shifted = (month + 9) % 12;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        for (age, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (3_000, "50m"),
            (11_000, "3h3m"),
            (100_000, "27h"),
            (180_000, "2d2h"),
            (900_000, "10d"),
        ] {
            assert_eq!(text(age), expected);
        }
    }

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-28T23:59:59Z", Some(951_782_399)),
            ("2026-11-21T08:05:00Z", Some(1_795_248_300)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("2026-13-21T08:05:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        assert_eq!(since(None, 5), "<unknown>");
    }
}
