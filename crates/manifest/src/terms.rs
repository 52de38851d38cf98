// SPDX-License-Identifier: Apache-2.0
//! A Service's annotations and `trafficDistribution`, read into the terms on which it is called (`docs/reference/balancing.md`).
//!
//! One line of [`KEYS`] an annotation. What cannot be read leaves its default in force and is told with its key: at load it is an error;
//! an object of an API server is served all the same. Must never look at anything but the one Service.

use std::num::NonZeroU32;
use std::time::Duration;

use maille_model::Terms;
use maille_model::terms::{Counted, Retry, RetryOn, Zones};

use crate::error::Problem;
use crate::marks::OURS;
use crate::objects::Service;
use crate::walk::suggest;

/// Sets one term from a text. Refuses with what the text must be.
type Set = fn(&mut Terms, &str) -> Result<(), &'static str>;

const TIME: &str = "a time from 1ms to 24h, such as 250ms, 10s or 1m";
const COUNT: &str = "a whole number from 1 to 1000000";
const PERCENT: &str = "a share from 0% to 100%, such as 20%";

/// What follows `maille.io/`, and what it sets.
const KEYS: &[(&str, Set)] = &[
    ("timeout-request", |terms, text| {
        terms.request_timeout = Some(time(text)?);
        Ok(())
    }),
    ("timeout-response", |terms, text| {
        terms.response_timeout = Some(time(text)?);
        Ok(())
    }),
    ("max-requests", |terms, text| {
        terms.max_requests = Some(count(text)?);
        Ok(())
    }),
    ("max-requests-per-endpoint", |terms, text| {
        terms.max_requests_per_endpoint = Some(count(text)?);
        Ok(())
    }),
    ("retry-on", |terms, text| {
        terms.retry.on = retry_on(text)?;
        Ok(())
    }),
    ("retry-limit", |terms, text| {
        let limit = text.parse().ok().filter(|limit| *limit <= Retry::MOST);
        terms.retry.limit = limit.ok_or("0, 1 or 2")?;
        Ok(())
    }),
    ("retry-budget", |terms, text| {
        terms.retry.budget_percent = percent(text)?;
        Ok(())
    }),
    ("retry-budget-min", |terms, text| {
        let floor = text.parse().ok().filter(|floor| *floor <= 10_000);
        terms.retry.budget_floor = floor.ok_or("a whole number of retries a second, 0 to 10000")?;
        Ok(())
    }),
    ("failure-accrual", |terms, text| {
        terms.ejection.counts = match text {
            "off" => Counted::Nothing,
            "unavailable" => Counted::Unavailable,
            "5xx" => Counted::ServerErrors,
            _ => return Err("off, unavailable or 5xx"),
        };
        Ok(())
    }),
    ("failure-accrual-max-failures", |terms, text| {
        terms.ejection.consecutive = count(text)?.get();
        Ok(())
    }),
    ("failure-accrual-success-rate", |terms, text| {
        let share = percent(text)?;
        terms.ejection.success_percent = Some(share).filter(|share| *share > 0);
        Ok(())
    }),
    ("failure-accrual-min-penalty", |terms, text| {
        terms.ejection.min_penalty = time(text)?;
        Ok(())
    }),
    ("failure-accrual-max-penalty", |terms, text| {
        terms.ejection.max_penalty = time(text)?;
        Ok(())
    }),
];

/// The terms of `service`, with what is wrong with the annotations that could not be read, by key.
pub fn read(service: &Service) -> (Terms, Vec<(String, Problem)>) {
    let mut terms = Terms::default();
    let mut wrong = Vec::new();
    for (key, text) in &service.metadata.annotations {
        let Some(name) = key.strip_prefix(OURS) else {
            continue;
        };
        let Some((_, set)) = KEYS.iter().find(|(known, _)| *known == name) else {
            let suggestion = suggest(name, KEYS.iter().map(|(known, _)| *known));
            let suggestion = suggestion.map(|near| format!("{OURS}{near}"));
            wrong.push((key.clone(), Problem::UnknownAnnotation { suggestion }));
            continue;
        };
        if let Err(expected) = set(&mut terms, text) {
            let value = text.chars().take(80).collect();
            wrong.push((key.clone(), Problem::Malformed { value, expected }));
        }
    }
    if terms.ejection.min_penalty > terms.ejection.max_penalty {
        let (key, expected) = (
            format!("{OURS}failure-accrual-min-penalty"),
            "at most failure-accrual-max-penalty, which is 1m unless it is set",
        );
        let value = format!("{:?}", terms.ejection.min_penalty);
        wrong.push((key, Problem::Malformed { value, expected }));
        terms.ejection.min_penalty = terms.ejection.max_penalty;
    }
    if service.prefers_close() {
        terms.zones = Zones::PreferClose;
    }
    (terms, wrong)
}

fn time(text: &str) -> Result<Duration, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(TIME),
    };
    let number: u32 = number.parse().map_err(|_| TIME)?;
    let time = Duration::from_millis(u64::from(number) * unit);
    if time.is_zero() || time > Terms::LONGEST {
        return Err(TIME);
    }
    Ok(time)
}

fn count(text: &str) -> Result<NonZeroU32, &'static str> {
    let number = text.parse().ok().and_then(NonZeroU32::new);
    number
        .filter(|number| number.get() <= 1_000_000)
        .ok_or(COUNT)
}

fn percent(text: &str) -> Result<u8, &'static str> {
    let number = text.strip_suffix('%').and_then(|text| text.parse().ok());
    number.filter(|number| *number <= 100).ok_or(PERCENT)
}

fn retry_on(text: &str) -> Result<RetryOn, &'static str> {
    let mut on = RetryOn::default();
    for word in text.split(',') {
        match word.trim() {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "429" => on.too_many = true,
            "reset" => on.reset = true,
            "cancelled" => on.grpc.cancelled = true,
            "deadline-exceeded" => on.grpc.deadline_exceeded = true,
            "resource-exhausted" => on.grpc.resource_exhausted = true,
            "internal" => on.grpc.internal = true,
            "unavailable" => on.grpc.unavailable = true,
            _ => {
                return Err(
                    "a list, with commas, of 5xx, gateway-error, 429, reset, and for gRPC \
                     cancelled, deadline-exceeded, resource-exhausted, internal, unavailable",
                );
            }
        }
    }
    Ok(on)
}

#[cfg(test)]
mod tests {
    use maille_model::terms::{Ejection, RetryOnGrpc};

    use super::*;
    use crate::from_json;

    fn service(annotations: &str, spec: &str) -> Service {
        let json = format!(
            r#"{{"metadata":{{"name":"web","namespace":"shop","annotations":{{{annotations}}}}},"spec":{{{spec}}}}}"#
        );
        from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn nothing_said_is_the_default() {
        let other = r#""linkerd.io/inject":"enabled""#;
        assert_eq!(read(&service(other, "")), (Terms::default(), Vec::new()));
    }

    #[test]
    fn everything_that_can_be_said() {
        let all = r#"
            "maille.io/timeout-request":"10s","maille.io/timeout-response":"250ms",
            "maille.io/max-requests":"100","maille.io/max-requests-per-endpoint":"7",
            "maille.io/retry-on":"gateway-error, reset,unavailable","maille.io/retry-limit":"2",
            "maille.io/retry-budget":"5%","maille.io/retry-budget-min":"0",
            "maille.io/failure-accrual":"5xx","maille.io/failure-accrual-max-failures":"3",
            "maille.io/failure-accrual-success-rate":"80%",
            "maille.io/failure-accrual-min-penalty":"2s","maille.io/failure-accrual-max-penalty":"5m""#;
        let (terms, wrong) = read(&service(all, r#""trafficDistribution":"PreferClose""#));
        assert!(wrong.is_empty(), "{wrong:?}");
        let expected = Terms {
            request_timeout: Some(Duration::from_secs(10)),
            response_timeout: Some(Duration::from_millis(250)),
            max_requests: NonZeroU32::new(100),
            max_requests_per_endpoint: NonZeroU32::new(7),
            retry: Retry {
                on: RetryOn {
                    gateway_error: true,
                    reset: true,
                    grpc: RetryOnGrpc {
                        unavailable: true,
                        ..RetryOnGrpc::default()
                    },
                    ..RetryOn::default()
                },
                limit: 2,
                budget_percent: 5,
                budget_floor: 0,
            },
            ejection: Ejection {
                counts: Counted::ServerErrors,
                consecutive: 3,
                success_percent: Some(80),
                min_penalty: Duration::from_secs(2),
                max_penalty: Duration::from_secs(300),
            },
            zones: Zones::PreferClose,
        };
        assert_eq!(terms, expected);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_holds() {
        for (key, text) in [
            ("timeout-request", "10"),
            ("timeout-request", "0s"),
            ("timeout-request", "25h"),
            ("timeout-response", "-1s"),
            ("max-requests", "0"),
            ("max-requests", "many"),
            ("retry-on", "everything"),
            ("retry-on", ""),
            ("retry-limit", "3"),
            ("retry-budget", "20"),
            ("retry-budget", "101%"),
            ("retry-budget-min", "-1"),
            ("failure-accrual", "on"),
            ("failure-accrual-max-failures", "0"),
            ("failure-accrual-min-penalty", "2m"),
        ] {
            let said =
                format!(r#""maille.io/max-requests-per-endpoint":"7","maille.io/{key}":"{text}""#);
            let (terms, wrong) = read(&service(&said, ""));
            assert_eq!(wrong.len(), 1, "{key}={text}: {wrong:?}");
            assert_eq!(wrong[0].0, format!("maille.io/{key}"));
            assert_eq!(terms.max_requests_per_endpoint, NonZeroU32::new(7));
        }
        let (_, wrong) = read(&service(r#""maille.io/time-out-request":"1s""#, ""));
        let said = wrong[0].1.to_string();
        assert_eq!(
            said,
            "unknown annotation, did you mean \"maille.io/timeout-request\"?"
        );
    }
}
