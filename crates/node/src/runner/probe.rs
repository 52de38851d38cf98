// SPDX-License-Identifier: Apache-2.0
//! Probes: when a result changes the verdict (pure), and when the next try is due. Read `action.rs` for how a try is made.

use std::time::Duration;

use maille_chassis::clock::Clock;
use maille_manifest::objects::Probe;

use super::action::{Action, ActionError, Subject};

/// Tries follow one another at most this slowly until the first one succeeds: `periodSeconds` is for something that runs, and
/// everybody waits for something that starts.
const EAGER: Duration = Duration::from_millis(250);
/// The same of programs, which cost more.
const EAGER_EXEC: Duration = Duration::from_secs(1);

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Not well until it succeeds; given up when `failureThreshold` periods have passed.
    Startup,
    /// Not well until it succeeds.
    Readiness,
    /// Well until it fails.
    Liveness,
}

/// Counts tries until the verdict changes.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    successes: u32,
    failures: u32,
    success_threshold: u32,
    failure_threshold: u32,
    well: bool,
}

// === impl Verdict ===

impl Verdict {
    pub(crate) const fn new(probe: &Probe, well: bool) -> Self {
        Self {
            successes: 0,
            failures: 0,
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            well,
        }
    }

    /// Counts one try. `Some`: the verdict changed to this.
    pub(crate) fn count(&mut self, success: bool) -> Option<bool> {
        if success {
            self.successes = self.successes.saturating_add(1);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
        }
        let now = if self.well {
            self.failures < self.failure_threshold
        } else {
            self.successes >= self.success_threshold
        };
        (now != self.well).then(|| {
            self.well = now;
            now
        })
    }
}

/// Makes one probe's tries in time. Without a probe it never has a result.
#[derive(Debug)]
pub(super) struct Prober {
    probe: Option<(Probe, Action)>,
    verdict: Option<Verdict>,
    due: tokio::time::Instant,
    /// When a startup probe is given up.
    end: Option<tokio::time::Instant>,
    /// It is slow, as the manifest says, from the first success on; before, only where somebody must not be disturbed.
    slow: bool,
}

impl Prober {
    pub(super) fn new(clock: Clock, probe: Option<&Probe>, purpose: Purpose) -> Self {
        let well = purpose == Purpose::Liveness;
        let seconds = |number: u32| Duration::from_secs(u64::from(number));
        let due = clock.now() + seconds(probe.map_or(0, |probe| probe.initial_delay_seconds));
        let end = probe.filter(|_| purpose == Purpose::Startup);
        Self {
            verdict: probe.map(|probe| Verdict::new(probe, well)),
            probe: probe.map(|probe| (probe.clone(), Action::of_probe(probe))),
            due,
            end: end.map(|probe| due + seconds(probe.period_seconds) * probe.failure_threshold),
            slow: well,
        }
    }

    /// Whether there is anything to try.
    pub(super) const fn exists(&self) -> bool {
        self.probe.is_some()
    }

    /// From SIGTERM to SIGKILL where its failure ends the container; `None`: as the pod says.
    pub(super) fn grace(&self) -> Option<Duration> {
        let (probe, _) = self.probe.as_ref()?;
        let seconds = probe.termination_grace_period_seconds?;
        Some(Duration::from_secs(u64::from(seconds)))
    }

    /// Whether it was tried for as long as may be.
    pub(super) fn is_hopeless(&self, clock: Clock) -> bool {
        self.end.is_some_and(|end| clock.now() >= end)
    }

    /// The next try's result, and the verdict where it changed. Cancel-safe: a try that was cut off is made again.
    pub(super) async fn next(
        &mut self,
        clock: Clock,
        subject: &Subject,
    ) -> (Option<bool>, Result<(), ActionError>) {
        let (Some((probe, action)), Some(verdict)) = (&self.probe, &mut self.verdict) else {
            return std::future::pending().await;
        };
        clock.until(self.due).await;
        let within = Duration::from_secs(u64::from(probe.timeout_seconds));
        let result = action.run(subject, within).await;
        self.slow |= result.is_ok();
        let period = Duration::from_secs(u64::from(probe.period_seconds));
        let eager = match action {
            Action::Exec(_) => EAGER_EXEC,
            _ => EAGER,
        };
        let period = if self.slow { period } else { period.min(eager) };
        self.due = clock.now() + period;
        (verdict.count(result.is_ok()), result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(success_threshold: u32, failure_threshold: u32, well: bool) -> Verdict {
        Verdict {
            successes: 0,
            failures: 0,
            success_threshold,
            failure_threshold,
            well,
        }
    }

    #[test]
    fn thresholds_count_tries_in_a_row() {
        let mut v = verdict(2, 3, false);
        assert_eq!(v.count(true), None);
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(true), None);
        assert_eq!(v.count(true), Some(true));
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(true), None);
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(false), None);
        assert_eq!(v.count(false), Some(false));
        assert_eq!(v.count(false), None);
    }
}
