// SPDX-License-Identifier: Apache-2.0
//! A pod's status from what its parts say. Pure.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use maille_manifest::objects::{Condition, PodIp, PodStatus};

/// How one container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerState {
    pub(crate) running: bool,
    pub(crate) ready: bool,
    /// Why it is not ready.
    pub(crate) message: String,
}

/// How everything of one pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) addresses: Vec<IpAddr>,
    /// Why it could not be set up; empty where it could. It is tried again, so the phase is never `Failed`, which is for good.
    pub(crate) failed: String,
    pub(crate) stopping: bool,
    /// `None`: it has no proxy.
    pub(crate) proxy_ready: Option<bool>,
    pub(crate) proxy_message: String,
    /// By name.
    pub(crate) containers: Vec<(String, ContainerState)>,
}

/// What is told of a pod with these parts.
pub(crate) fn of(parts: &Parts) -> PodStatus {
    let message = message(parts);
    let ready = message.is_empty();
    let running =
        !parts.containers.is_empty() && parts.containers.iter().any(|(_, state)| state.running);
    let phase = if running { "Running" } else { "Pending" };
    PodStatus {
        phase: phase.to_owned(),
        pod_ip: parts.addresses.first().copied(),
        pod_ips: parts.addresses.iter().map(|ip| PodIp { ip: *ip }).collect(),
        conditions: vec![Condition {
            kind: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            reason: String::new(),
            message: message.clone(),
        }],
        message,
    }
}

/// Why it is not ready; empty when it is.
fn message(parts: &Parts) -> String {
    if parts.stopping {
        return "stopping".to_owned();
    }
    if !parts.failed.is_empty() {
        return parts.failed.clone();
    }
    if parts.proxy_ready == Some(false) {
        return format!("proxy: {}", parts.proxy_message);
    }
    if parts.containers.is_empty() {
        return "containers have not been started".to_owned();
    }
    parts
        .containers
        .iter()
        .find(|(_, state)| !state.ready)
        .map(|(name, state)| format!("container {name}: {}", state.message))
        .unwrap_or_default()
}

/// `2026-11-21T08:05:00Z`, RFC 3339.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last one of a year; 719,468 days from 0000-03-01 to 1970-01-01.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(ready: bool) -> (String, ContainerState) {
        let message = if ready { "" } else { "no answer" };
        (
            "web".to_owned(),
            ContainerState {
                running: true,
                ready,
                message: message.to_owned(),
            },
        )
    }

    fn told(parts: &Parts) -> (String, String, String) {
        let status = of(parts);
        (
            status.phase,
            status.conditions[0].status.clone(),
            status.message,
        )
    }

    #[test]
    fn ready_when_every_part_is() {
        let mut parts = Parts {
            proxy_ready: Some(false),
            proxy_message: "starting".to_owned(),
            ..Parts::default()
        };
        let tell = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(told(&parts), tell("Pending", "False", "proxy: starting"));
        parts.proxy_ready = Some(true);
        assert_eq!(
            told(&parts),
            tell("Pending", "False", "containers have not been started")
        );
        parts.containers = vec![running(true), running(false)];
        assert_eq!(
            told(&parts),
            tell("Running", "False", "container web: no answer")
        );
        parts.containers = vec![running(true), running(true)];
        assert_eq!(told(&parts), tell("Running", "True", ""));
        parts.stopping = true;
        assert_eq!(told(&parts), tell("Running", "False", "stopping"));
        let parts = Parts {
            failed: "no room".to_owned(),
            ..Parts::default()
        };
        assert_eq!(told(&parts), tell("Pending", "False", "no room"));
    }

    #[test]
    fn timestamps() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_248_300, "2026-11-21T08:05:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(
                timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
                text
            );
        }
    }
}
