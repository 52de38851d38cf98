// SPDX-License-Identifier: Apache-2.0
//! When a CronJob is due: the syntax of `crontab(5)`, by the clock of a time zone. Pure: times are arguments.
//!
//! The only place that knows the library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::objects::CronJobSpec;

/// When a CronJob is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// The schedule of `spec`. `None`: it makes no sense, which [`crate::load`] has refused already.
    pub fn of(spec: &CronJobSpec) -> Option<Self> {
        let zone = match spec.time_zone.as_deref() {
            Some(name) => name.parse().ok()?,
            None => Tz::UTC,
        };
        let cron = parse(&spec.schedule)?;
        Some(Self { cron, zone })
    }

    /// The first time after `now`. `None`: there is none, as of the 30th of February.
    pub fn after(&self, now: SystemTime) -> Option<SystemTime> {
        let now = now.duration_since(UNIX_EPOCH).ok()?;
        let seconds = i64::try_from(now.as_secs()).ok()?;
        let here = DateTime::from_timestamp(seconds, 0)?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&here, false).ok()?;
        let seconds = u64::try_from(next.timestamp()).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

fn parse(text: &str) -> Option<Cron> {
    let parser = CronParser::builder();
    let parser = parser.seconds(Seconds::Disallowed).year(Year::Disallowed);
    parser.build().parse(text).ok()
}

pub(crate) fn is_schedule(text: &str) -> bool {
    text.len() <= 256 && parse(text).is_some()
}

pub(crate) fn is_time_zone(text: &str) -> bool {
    text.parse::<Tz>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(schedule: &str, zone: Option<&str>) -> Schedule {
        let spec = serde_json::json!({
            "schedule": schedule,
            "timeZone": zone,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}},
        });
        Schedule::of(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    /// Seconds since 1970 of the first time after `now`.
    fn after(schedule: &Schedule, now: u64) -> Option<u64> {
        let next = schedule.after(UNIX_EPOCH + Duration::from_secs(now))?;
        Some(next.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_are_those_of_the_zone() {
        // 2026-11-28T12:00:30Z, a Saturday.
        let now = 1_795_867_230;
        let minute = 1_795_867_200;
        for (schedule, zone, expected) in [
            ("* * * * *", None, minute + 60),
            ("*/5 * * * *", None, minute + 300),
            ("0 * * * *", None, minute + 3600),
            ("@hourly", None, minute + 3600),
            ("30 12 * * *", None, minute + 1800),
            ("0 0 * * *", None, minute + 12 * 3600),
            // Half past one in the afternoon there.
            ("30 13 * * *", Some("Europe/Berlin"), minute + 1800),
            ("0 0 * * MON", None, minute + 36 * 3600),
            // The first of the month, or a Sunday: Sunday is nearer.
            ("0 0 1 * 0", None, minute + 12 * 3600),
        ] {
            assert_eq!(
                after(&spec(schedule, zone), now),
                Some(expected),
                "{schedule}"
            );
        }
        assert_eq!(after(&spec("0 0 30 2 *", None), now), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * * * * *",
            "a b c d e",
            "@never",
            "*/0 * * * *",
            "TZ=UTC * * * * *",
        ] {
            assert!(!is_schedule(text), "{text:?}");
        }
        assert!(is_time_zone("Etc/UTC") && is_time_zone("America/New_York"));
        assert!(!is_time_zone("Mars/Olympus") && !is_time_zone("") && !is_time_zone("Local"));
    }
}
