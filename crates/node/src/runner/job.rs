// SPDX-License-Identifier: Apache-2.0
//! Jobs: pods that are to end well, so often. What is to be done follows from [`Count`] (pure), as Kubernetes' controller has it; pods
//! that ended stay to be looked at, until their job goes.
//!
//! It must never start a pod of a job that has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use maille_manifest::objects::{
    CompletionMode, EnvVar, Job, JobSpec, ObjectMeta, OwnerReference, Pod, PodStatus,
};
use tokio::sync::watch;

use super::status::Outcome;
use super::{Handle, OwnerKey, Pods, Stop, names, order};

/// With which Kubernetes tells the pods of a job, and their numbers.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_JOB_NAME: &str = "job-name";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// After a pod failed the next one waits: so long at first, then twice, at most so long.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const MOST_WAIT: Duration = Duration::from_secs(360);

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    succeeded: u32,
    failed: u32,
    /// How often containers of its running pods were started again.
    restarts: u32,
    active: u32,
    /// Numbers that ended well, and those that run.
    done: BTreeSet<u32>,
    running: BTreeSet<u32>,
}

/// What a job is up to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// So many more pods, each with its number where it has one.
    Start(Vec<Option<u32>>),
    Ended(Outcome),
}

/// What the task of one job remembers.
#[derive(Debug, Default)]
struct Memory {
    /// How pods ended, also those that are gone.
    ended: BTreeMap<String, (Outcome, Option<u32>)>,
    /// When the last one failed.
    failed_at: Option<Duration>,
    outcome: Option<Outcome>,
}

/// Keeps what `goal` says until it says nothing and the last pod is gone.
pub(super) async fn keep(
    pods: Arc<Pods>,
    key: OwnerKey,
    mut goal: watch::Receiver<Option<Arc<Job>>>,
) {
    let clock = pods.around.clock;
    let mut changes = pods.changes();
    let mut current: Option<(Arc<Job>, Duration, Memory)> = None;
    loop {
        changes.mark_unchanged();
        let wanted = goal.borrow_and_update().clone();
        let handles = pods.owned(&key);
        let same = match (&wanted, &current) {
            (Some(wanted), Some((job, ..))) => wanted == job,
            _ => false,
        };
        let mut due = None;
        if same {
            if let Some((job, began, memory)) = &mut current {
                due = act(&pods, (&key, job), (*began, memory), &handles);
            }
        } else if handles.is_empty() {
            // A job that changed is another job, and begins when the pods of the last one are gone.
            match wanted {
                Some(job) => {
                    pods.note_job(&key, None);
                    current = Some((job, clock.elapsed(), Memory::default()));
                    continue;
                }
                None if pods.release::<Job>(&key) => return,
                None => {}
            }
        } else {
            for handle in &handles {
                order(handle, Stop::Deleted);
            }
        }
        let later = async {
            match due {
                Some(due) => clock.wait(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = goal.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = later => {}
        }
    }
}

/// One look; when the next one is due although nothing changes.
fn act(
    pods: &Arc<Pods>,
    (key, job): (&OwnerKey, &Job),
    (began, memory): (Duration, &mut Memory),
    handles: &[Handle],
) -> Option<Duration> {
    let now = pods.around.clock.elapsed();
    let count = memory.count(pods, handles, now);
    if memory.outcome.is_some() {
        return None;
    }
    for handle in handles.iter().filter(|handle| handle.condemned.is_some()) {
        order(handle, Stop::Deleted);
    }
    let deadline = job.spec.active_deadline_seconds;
    let deadline = deadline.map(|seconds| began + Duration::from_secs(u64::from(seconds)));
    let late = deadline.is_some_and(|deadline| now >= deadline);
    let until = deadline.map(|deadline| deadline.saturating_sub(now));
    let verdict = match late {
        true => Verdict::Ended(Outcome::Failed),
        false => verdict(&job.spec, &count),
    };
    match verdict {
        Verdict::Start(numbers) => {
            let wait = wait(&count, memory.failed_at).saturating_sub(now);
            if numbers.is_empty() {
                return until;
            }
            if !wait.is_zero() {
                return Some(until.map_or(wait, |until| until.min(wait)));
            }
            for number in numbers {
                start(pods, key, job, number);
            }
            until
        }
        Verdict::Ended(outcome) => {
            memory.outcome = Some(outcome);
            tracing::info!(
                job = key.name,
                ?outcome,
                late,
                failed = count.failed,
                "job has ended"
            );
            for handle in handles.iter().filter(|h| h.outcome.borrow().is_none()) {
                order(handle, Stop::Deleted);
            }
            pods.note_job(key, Some(outcome));
            None
        }
    }
}

/// What a job with this count does next.
fn verdict(spec: &JobSpec, count: &Count) -> Verdict {
    if count.failed.saturating_add(count.restarts) > spec.backoff_limit {
        return Verdict::Ended(Outcome::Failed);
    }
    let done = match spec.wanted() {
        Some(wanted) => count.succeeded >= wanted,
        // One that ended well says that the queue is empty: the others end by themselves.
        None => count.succeeded > 0 && count.active == 0,
    };
    if done {
        return Verdict::Ended(Outcome::Succeeded);
    }
    let left = match spec.wanted() {
        Some(wanted) => wanted - count.succeeded,
        None if count.succeeded > 0 => 0,
        None => spec.parallel(),
    };
    let more = spec.parallel().min(left).saturating_sub(count.active);
    let numbers = match spec.completion_mode {
        CompletionMode::NonIndexed => (0..more).map(|_| None).collect(),
        CompletionMode::Indexed => (0..spec.wanted().unwrap_or(0))
            .filter(|number| !count.done.contains(number) && !count.running.contains(number))
            .take(usize::try_from(more).unwrap_or(0))
            .map(Some)
            .collect(),
    };
    Verdict::Start(numbers)
}

/// Until when nothing is started.
fn wait(count: &Count, failed_at: Option<Duration>) -> Duration {
    let Some(at) = failed_at else {
        return Duration::ZERO;
    };
    let doublings = count.failed.saturating_sub(1).min(16);
    at + (FIRST_WAIT * (1 << doublings)).min(MOST_WAIT)
}

impl Memory {
    /// Counts, and remembers those that ended since the last time.
    fn count(&mut self, pods: &Pods, handles: &[Handle], now: Duration) -> Count {
        let mut count = Count::default();
        let published = pods.around.cluster.pods();
        for handle in handles {
            let number = handle.hash.parse().ok();
            let outcome = *handle.outcome.borrow();
            let leaving = *handle.stop.borrow() != Stop::No;
            match outcome {
                Some(outcome) => {
                    let ended = (outcome, number);
                    let known = self.ended.insert(handle.uid.clone(), ended);
                    if outcome == Outcome::Failed && known.is_none() {
                        self.failed_at = Some(now);
                    }
                }
                None if leaving => {}
                None => {
                    count.active += 1;
                    count.running.extend(number);
                    let own = published.iter().find(|pod| pod.metadata.uid == handle.uid);
                    let statuses = own.iter().flat_map(|pod| &pod.status.container_statuses);
                    count.restarts += statuses.map(|status| status.restart_count).sum::<u32>();
                }
            }
        }
        for (outcome, number) in self.ended.values() {
            match outcome {
                Outcome::Succeeded => {
                    count.succeeded += 1;
                    count.done.extend(*number);
                }
                Outcome::Failed => count.failed += 1,
            }
        }
        count
    }
}

fn start(pods: &Arc<Pods>, key: &OwnerKey, job: &Job, number: Option<u32>) {
    let hash = number.map(|number| number.to_string()).unwrap_or_default();
    match pod(job, number) {
        Ok(pod) => pods.start(pod, (key.clone(), hash)),
        Err(error) => {
            tracing::error!(name = key.name, error = %format_args!("{error:#}"), "no pod can be made");
        }
    }
}

/// One more pod, without uid.
fn pod(job: &Job, number: Option<u32>) -> anyhow::Result<Pod> {
    let template = &job.spec.template;
    let random = u64::from_ne_bytes(names::random()?);
    let own = job.metadata.name.to_string();
    let base = match number {
        Some(number) => format!("{own}-{number}"),
        None => own.clone(),
    };
    let name = names::short(&base, random);
    let mut metadata = ObjectMeta::new(job.metadata.namespace.clone(), name.parse()?);
    metadata.labels.clone_from(&template.metadata.labels);
    metadata
        .labels
        .extend([JOB_NAME, OLD_JOB_NAME].map(|key| (key.to_owned(), own.clone())));
    metadata
        .annotations
        .clone_from(&template.metadata.annotations);
    metadata.owner_references = vec![OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: own,
        uid: job.metadata.uid.clone(),
        controller: true,
    }];
    let mut spec = template.spec.clone();
    if let Some(number) = number {
        let number = number.to_string();
        metadata.labels.insert(INDEX.to_owned(), number.clone());
        metadata
            .annotations
            .insert(INDEX.to_owned(), number.clone());
        spec.hostname = Some(base);
        let containers = spec.init_containers.iter_mut().chain(&mut spec.containers);
        for container in containers {
            container.env.push(EnvVar {
                name: "JOB_COMPLETION_INDEX".to_owned(),
                value: Some(number.clone()),
                value_from: None,
            });
        }
    }
    Ok(Pod {
        metadata,
        spec,
        status: PodStatus::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> JobSpec {
        let comma = if text.is_empty() { "" } else { "," };
        let text = format!(r#"{{{text}{comma}"template":{{"spec":{{"containers":[]}}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn count(succeeded: u32, failed: u32, active: u32) -> Count {
        Count {
            succeeded,
            failed,
            active,
            ..Count::default()
        }
    }

    fn starts(spec: &JobSpec, count: &Count) -> usize {
        match verdict(spec, count) {
            Verdict::Start(numbers) => numbers.len(),
            Verdict::Ended(outcome) => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn as_many_run_as_may_until_enough_have_ended_well() {
        let one = spec("");
        assert_eq!(starts(&one, &count(0, 0, 0)), 1);
        assert_eq!(starts(&one, &count(0, 0, 1)), 0);
        assert_eq!(starts(&one, &count(0, 6, 0)), 1);
        assert_eq!(
            verdict(&one, &count(0, 7, 0)),
            Verdict::Ended(Outcome::Failed)
        );
        assert_eq!(
            verdict(&one, &count(1, 3, 0)),
            Verdict::Ended(Outcome::Succeeded)
        );
        let five = spec(r#""completions":5,"parallelism":2,"backoffLimit":0"#);
        assert_eq!(starts(&five, &count(0, 0, 0)), 2);
        assert_eq!(starts(&five, &count(3, 0, 1)), 1);
        assert_eq!(starts(&five, &count(4, 0, 1)), 0);
        assert_eq!(
            verdict(&five, &count(4, 1, 0)),
            Verdict::Ended(Outcome::Failed)
        );
        let restarted = Count {
            restarts: 1,
            ..count(0, 0, 1)
        };
        assert_eq!(verdict(&five, &restarted), Verdict::Ended(Outcome::Failed));
        let queue = spec(r#""parallelism":3"#);
        assert_eq!(starts(&queue, &count(0, 0, 1)), 2);
        assert_eq!(starts(&queue, &count(1, 0, 2)), 0);
        assert_eq!(
            verdict(&queue, &count(3, 0, 0)),
            Verdict::Ended(Outcome::Succeeded)
        );
        let none = spec(r#""completions":0"#);
        assert_eq!(
            verdict(&none, &count(0, 0, 0)),
            Verdict::Ended(Outcome::Succeeded)
        );
        assert_eq!(
            starts(&spec(r#""parallelism":0,"completions":1"#), &count(0, 0, 0)),
            0
        );
    }

    #[test]
    fn each_number_ends_well_once() {
        let indexed = spec(r#""completions":4,"parallelism":2,"completionMode":"Indexed""#);
        let at = Count {
            succeeded: 1,
            active: 1,
            done: [0].into(),
            running: [2].into(),
            ..Count::default()
        };
        assert_eq!(verdict(&indexed, &at), Verdict::Start(vec![Some(1)]));
    }

    #[test]
    fn failures_slow_it_down() {
        let second = Duration::from_secs(1);
        assert_eq!(wait(&count(0, 0, 0), None), Duration::ZERO);
        assert_eq!(wait(&count(0, 1, 0), Some(second)), 11 * second);
        assert_eq!(wait(&count(0, 3, 0), Some(second)), 41 * second);
        assert_eq!(wait(&count(0, 30, 0), Some(second)), 361 * second);
    }
}
