// SPDX-License-Identifier: Apache-2.0
//! A pod's status from what its parts say. Pure.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use maille_manifest::objects::{
    Condition, ContainerState as State, ContainerStatus, PodIp, PodSpec, PodStatus, Started,
    Terminated, Waiting,
};

/// How one container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerState {
    pub(crate) phase: ContainerPhase,
    /// It may be sent work.
    pub(crate) ready: bool,
    /// Why it is not ready.
    pub(crate) message: String,
    /// How often it was started again.
    pub(crate) restarts: u32,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContainerPhase {
    /// It is yet to be started, for this reason in Kubernetes' words.
    Waiting(&'static str),
    /// It runs, since then; `started`: its startup probe and its first hook have succeeded.
    Running { since: SystemTime, started: bool },
    /// It ended for good; `reason` where the code does not say it all.
    Ended {
        code: i32,
        at: SystemTime,
        reason: Option<&'static str>,
    },
}

/// How everything of one pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) addresses: Vec<IpAddr>,
    /// Why it could not be set up; empty where it could. It is tried again, so the phase is never `Failed`, which is for good.
    pub(crate) failed: String,
    /// Why it was ended before its containers had, and has failed for good.
    pub(crate) cut: Option<Cut>,
    pub(crate) stopping: bool,
    /// `None`: it has no proxy.
    pub(crate) proxy_ready: Option<bool>,
    pub(crate) proxy_message: String,
    /// Init containers first, each list in the order of the spec.
    pub(crate) containers: Vec<Part>,
    /// When it was first seen.
    pub(crate) since: Option<SystemTime>,
}

/// Why a pod was ended before its containers had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// `activeDeadlineSeconds` have passed.
    Deadline(u32),
}

/// One container and what it is to its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) state: ContainerState,
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Ends before the others begin.
    Init,
    /// Begins as the former, and goes on beside the others.
    Sidecar,
    /// What the pod is for.
    Main,
}

/// Whether a pod ended for good, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every container ended well.
    Succeeded,
    /// One did not.
    Failed,
}

// === impl ContainerState ===

impl ContainerState {
    /// Not started.
    pub(crate) fn waiting(reason: &'static str, message: String, restarts: u32) -> Self {
        Self {
            phase: ContainerPhase::Waiting(reason),
            ready: false,
            message,
            restarts,
        }
    }

    fn runs(&self) -> bool {
        matches!(self.phase, ContainerPhase::Running { .. })
    }

    fn started(&self) -> bool {
        matches!(self.phase, ContainerPhase::Running { started: true, .. })
    }

    /// Its exit code, once it ended for good.
    pub(crate) fn code(&self) -> Option<i32> {
        match self.phase {
            ContainerPhase::Ended { code, .. } => Some(code),
            _ => None,
        }
    }
}

// === impl Part ===

impl Part {
    /// Whether the next one may begin.
    pub(crate) fn lets_next(&self) -> bool {
        match self.role {
            Role::Init => self.state.code() == Some(0),
            Role::Sidecar => self.state.started(),
            Role::Main => true,
        }
    }

    /// Whether it keeps the pod from being ready.
    fn is_missing(&self) -> bool {
        match self.role {
            Role::Init => !self.lets_next(),
            Role::Sidecar | Role::Main => !self.state.ready,
        }
    }
}

// === impl Parts ===

impl Parts {
    /// Every container of `spec`, not started.
    pub(crate) fn expect(&mut self, spec: &PodSpec) {
        let inits = spec.init_containers.iter().map(|container| {
            let role = match container.is_sidecar() {
                true => Role::Sidecar,
                false => Role::Init,
            };
            (container, role)
        });
        let mains = spec.containers.iter().map(|c| (c, Role::Main));
        let waits = !spec.init_containers.is_empty();
        self.containers = inits
            .chain(mains)
            .map(|(container, role)| Part {
                name: container.name.clone(),
                role,
                state: match waits && role == Role::Main {
                    true => ContainerState::waiting(
                        "PodInitializing",
                        "waits for init containers".to_owned(),
                        0,
                    ),
                    false => {
                        ContainerState::waiting("ContainerCreating", "not started".to_owned(), 0)
                    }
                },
            })
            .collect();
    }

    /// Whether it ended for good.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        if self.cut.is_some() {
            return Some(Outcome::Failed);
        }
        let of = |role: Role| self.containers.iter().filter(move |part| part.role == role);
        if of(Role::Init).any(|part| part.state.code().is_some_and(|code| code != 0)) {
            return Some(Outcome::Failed);
        }
        let mut outcome = None;
        for part in of(Role::Main) {
            match (part.state.code()?, outcome) {
                (0, None) => outcome = Some(Outcome::Succeeded),
                (0, _) => {}
                _ => outcome = Some(Outcome::Failed),
            }
        }
        outcome
    }
}

/// What is told of a pod with these parts.
pub(crate) fn of(parts: &Parts) -> PodStatus {
    let outcome = parts.outcome();
    let message = message(parts);
    let ready = message.is_empty() && outcome.is_none();
    let mains = parts
        .containers
        .iter()
        .filter(|part| part.role == Role::Main);
    let phase = match outcome {
        Some(Outcome::Succeeded) => "Succeeded",
        Some(Outcome::Failed) => "Failed",
        // Running as soon as each has run, as Kubernetes has it.
        None if mains
            .clone()
            .any(|part| part.state.runs() || part.state.restarts > 0) =>
        {
            "Running"
        }
        None => "Pending",
    };
    let (inits, mains): (Vec<&Part>, Vec<&Part>) = parts
        .containers
        .iter()
        .partition(|part| part.role != Role::Main);
    let reason = match outcome {
        Some(Outcome::Succeeded) => "PodCompleted",
        Some(Outcome::Failed) => "PodFailed",
        None => "",
    };
    let started = !parts.containers.is_empty();
    PodStatus {
        phase: phase.to_owned(),
        pod_ip: parts.addresses.first().copied(),
        pod_ips: parts.addresses.iter().map(|ip| PodIp { ip: *ip }).collect(),
        conditions: vec![
            condition("Ready", ready, reason, &message),
            condition(
                "Initialized",
                started && inits.iter().all(|part| part.lets_next()),
                "",
                "",
            ),
        ],
        message,
        start_time: parts.since.map(timestamp),
        container_statuses: mains.into_iter().map(told).collect(),
        init_container_statuses: inits.into_iter().map(told).collect(),
    }
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn told(part: &Part) -> ContainerStatus {
    let state = &part.state;
    let told = match &state.phase {
        ContainerPhase::Waiting(reason) => State {
            waiting: Some(Waiting {
                reason: (*reason).to_owned(),
                message: state.message.clone(),
            }),
            ..State::default()
        },
        ContainerPhase::Running { since, .. } => State {
            running: Some(Started {
                started_at: Some(timestamp(*since)),
            }),
            ..State::default()
        },
        ContainerPhase::Ended { code, at, reason } => State {
            terminated: Some(Terminated {
                exit_code: *code,
                reason: match (reason, code) {
                    (Some(reason), _) => (*reason).to_owned(),
                    (None, 0) => "Completed".to_owned(),
                    (None, _) => "Error".to_owned(),
                },
                finished_at: Some(timestamp(*at)),
            }),
            ..State::default()
        },
    };
    ContainerStatus {
        name: part.name.clone(),
        ready: match part.role {
            Role::Init => part.lets_next(),
            Role::Sidecar | Role::Main => state.ready,
        },
        started: state.started(),
        restart_count: state.restarts,
        state: told,
    }
}

/// Why it is not ready; empty when it is, and when it ended well.
fn message(parts: &Parts) -> String {
    if parts.stopping {
        return "stopping".to_owned();
    }
    if let Some(Cut::Deadline(seconds)) = parts.cut {
        return format!("DeadlineExceeded: it ran for longer than {seconds} s");
    }
    if !parts.failed.is_empty() {
        return parts.failed.clone();
    }
    if parts.outcome() == Some(Outcome::Succeeded) {
        return String::new();
    }
    if parts.proxy_ready == Some(false) && parts.outcome().is_none() {
        return format!("proxy: {}", parts.proxy_message);
    }
    if parts.containers.is_empty() {
        return "containers have not been started".to_owned();
    }
    let bad = |part: &&Part| part.state.code().is_some_and(|code| code != 0);
    let worst = parts.containers.iter().find(bad);
    let missing = parts.containers.iter().find(|part| part.is_missing());
    worst
        .or(missing)
        .map(|part| {
            let kind = match part.role {
                Role::Init => "init container",
                Role::Sidecar => "sidecar",
                Role::Main => "container",
            };
            format!("{kind} {}: {}", part.name, part.state.message)
        })
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
mod tests;
