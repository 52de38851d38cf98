// SPDX-License-Identifier: Apache-2.0
//! CronJobs: a job at each time that the schedule names. Times that passed unseen (the machine slept) are one time, the last of them.
//!
//! Read `job.rs` for what becomes of a job.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maille_manifest::objects::{Concurrency, CronJob, Job, ObjectMeta, OwnerReference};
use maille_manifest::schedule::Schedule;
use tokio::sync::watch;

use super::status::Outcome;
use super::{OwnerKey, Pods};

/// The clock on the wall may be set: it is looked at so often.
const LOOK: Duration = Duration::from_secs(30);
/// Times that passed unseen are looked through up to so many.
const MOST_MISSED: u32 = 100;

/// Keeps what `goal` says until it says nothing and the last job is gone.
pub(super) async fn keep(
    pods: Arc<Pods>,
    key: OwnerKey,
    mut goal: watch::Receiver<Option<Arc<CronJob>>>,
) {
    let clock = pods.around.clock;
    let mut changes = pods.changes();
    let mut jobs: Vec<OwnerKey> = Vec::new();
    let mut seen = clock.wall();
    loop {
        changes.mark_unchanged();
        let wanted = goal.borrow_and_update().clone();
        let now = clock.wall();
        let wait = match &wanted {
            Some(cron) => {
                let schedule = Schedule::of(&cron.spec).filter(|_| !cron.spec.suspend);
                if let Some(time) = schedule.as_ref().and_then(|s| last_due(s, seen, now)) {
                    seen = time;
                    let late = now.duration_since(time).unwrap_or_default();
                    if may_begin(cron, late) {
                        begin(&pods, (&key, cron), time, &mut jobs);
                    }
                }
                tidy(&pods, cron, &mut jobs);
                let next = schedule.and_then(|schedule| schedule.after(now));
                next.map_or(LOOK, |next| {
                    next.duration_since(now).unwrap_or_default().min(LOOK)
                })
            }
            None => {
                seen = now;
                for job in jobs.drain(..) {
                    pods.keep::<Job>(job, None);
                }
                if pods.release::<CronJob>(&key) {
                    return;
                }
                LOOK
            }
        };
        tokio::select! {
            changed = goal.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = clock.wait(wait) => {}
        }
    }
}

/// The last time of the schedule after `seen` and not after `now`.
fn last_due(schedule: &Schedule, seen: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let mut last = None;
    let mut from = seen;
    for _ in 0..MOST_MISSED {
        match schedule.after(from) {
            Some(time) if time <= now => {
                last = Some(time);
                from = time;
            }
            _ => return last,
        }
    }
    // Too many to look at: the next one is soon.
    Some(now)
}

fn may_begin(cron: &CronJob, late: Duration) -> bool {
    let deadline = cron.spec.starting_deadline_seconds;
    deadline.is_none_or(|seconds| late <= Duration::from_secs(u64::from(seconds)))
}

fn begin(
    pods: &Arc<Pods>,
    (key, cron): (&OwnerKey, &CronJob),
    time: SystemTime,
    jobs: &mut Vec<OwnerKey>,
) {
    let active = |job: &OwnerKey| pods.job(job).is_none();
    match cron.spec.concurrency_policy {
        Concurrency::Allow => {}
        Concurrency::Forbid if jobs.iter().any(active) => {
            return tracing::info!(cronjob = key.name, "left out: the job before still runs");
        }
        Concurrency::Forbid => {}
        Concurrency::Replace => {
            for job in jobs.iter().filter(|job| active(job)) {
                pods.keep::<Job>((*job).clone(), None);
            }
            jobs.retain(|job| !active(job));
        }
    }
    match job(cron, time) {
        Ok(job) => {
            let key = OwnerKey {
                kind: "Job",
                namespace: key.namespace.clone(),
                name: job.metadata.name.to_string(),
            };
            tracing::info!(job = key.name, "begins, as scheduled");
            jobs.push(key.clone());
            pods.keep(key, Some(Arc::new(job)));
        }
        Err(error) => {
            tracing::error!(name = key.name, error = %format_args!("{error:#}"), "no job can be made");
        }
    }
}

/// Forgets the oldest jobs that ended, beyond as many as are kept.
fn tidy(pods: &Arc<Pods>, cron: &CronJob, jobs: &mut Vec<OwnerKey>) {
    for (outcome, limit) in [
        (Outcome::Succeeded, cron.spec.successful_jobs_history_limit),
        (Outcome::Failed, cron.spec.failed_jobs_history_limit),
    ] {
        let ended: Vec<OwnerKey> = jobs
            .iter()
            .filter(|job| pods.job(job) == Some(outcome))
            .cloned()
            .collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        for job in ended.iter().take(ended.len().saturating_sub(limit)) {
            jobs.retain(|known| known != job);
            pods.keep::<Job>(job.clone(), None);
        }
    }
}

/// The job of one time, named after its minute.
fn job(cron: &CronJob, time: SystemTime) -> anyhow::Result<Job> {
    let minute = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        / 60;
    let name = format!("{}-{minute}", cron.metadata.name);
    let template = &cron.spec.job_template;
    let mut metadata = ObjectMeta::new(cron.metadata.namespace.clone(), name.parse()?);
    metadata.labels.clone_from(&template.metadata.labels);
    metadata
        .annotations
        .clone_from(&template.metadata.annotations);
    metadata.owner_references = vec![OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "CronJob".to_owned(),
        name: cron.metadata.name.to_string(),
        uid: cron.metadata.uid.clone(),
        controller: true,
    }];
    Ok(Job {
        metadata,
        spec: template.spec.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_times_are_one_time() {
        let cron: CronJob = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "tick"},
            "spec": {"schedule": "*/10 * * * *", "startingDeadlineSeconds": 5,
                "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}},
        }))
        .unwrap();
        let schedule = Schedule::of(&cron.spec).unwrap();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(last_due(&schedule, at(0), at(599)), None);
        assert_eq!(last_due(&schedule, at(0), at(600)), Some(at(600)));
        assert_eq!(last_due(&schedule, at(600), at(601)), None);
        assert_eq!(last_due(&schedule, at(0), at(3700)), Some(at(3600)));
        assert_eq!(
            last_due(&schedule, at(0), at(600_000_007)),
            Some(at(600_000_007))
        );
        assert!(may_begin(&cron, Duration::from_secs(5)));
        assert!(!may_begin(&cron, Duration::from_secs(6)));
        let job = job(&cron, at(3600)).unwrap();
        assert_eq!(job.metadata.name.as_str(), "tick-60");
    }
}
