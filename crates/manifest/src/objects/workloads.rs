// SPDX-License-Identifier: Apache-2.0
//! What makes pods, but for Deployments: sets, jobs and schedules. Read `crates/node/src/runner` for who acts on them.

use serde::{Deserialize, Serialize};

use super::{
    ClaimVolume, LabelSelector, NumberedUpdate, ObjectMeta, PersistentVolumeClaim, PodTemplate,
    RollingUpdate, TemplateMeta, UpdateStrategy, Volume, is_zero,
};

/// Pods that are all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaSet {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What to keep running.
    pub spec: ReplicaSetSpec,
}

/// What a ReplicaSet keeps running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSetSpec {
    /// How many pods.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Which pods are its own.
    pub selector: LabelSelector,
    /// What they look like.
    pub template: PodTemplate,
    /// How long a pod must have been ready to count as available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_seconds: u32,
}

/// Pods with a number each, which keep their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatefulSet {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What to keep running.
    pub spec: StatefulSetSpec,
}

/// What a StatefulSet keeps running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetSpec {
    /// How many pods.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Which pods are its own.
    pub selector: LabelSelector,
    /// What they look like.
    pub template: PodTemplate,
    /// The headless service below which each pod has a name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_name: String,
    /// Whether one waits for the one before it.
    #[serde(default)]
    pub pod_management_policy: PodManagement,
    /// Where numbers begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinals: Option<Ordinals>,
    /// Storage that each pod has for itself: TEMPLATE-SET-NUMBER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_claim_templates: Vec<PersistentVolumeClaim>,
    /// How they give way to new ones.
    #[serde(default, skip_serializing_if = "UpdateStrategy::is_default")]
    pub update_strategy: UpdateStrategy<NumberedUpdate>,
    /// How long a pod must have been ready to count as available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_seconds: u32,
}

/// Whether one pod of a StatefulSet waits for the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodManagement {
    /// It does, until that one is ready.
    #[default]
    OrderedReady,
    /// All at once.
    Parallel,
}

/// Where the numbers of a StatefulSet begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordinals {
    /// The first.
    #[serde(default)]
    pub start: u32,
}

/// One pod on each node; there is one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonSet {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What to keep running.
    pub spec: DaemonSetSpec,
}

/// What a DaemonSet keeps running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSetSpec {
    /// Which pods are its own.
    pub selector: LabelSelector,
    /// What they look like.
    pub template: PodTemplate,
    /// How its pod gives way to a new one.
    #[serde(default, skip_serializing_if = "UpdateStrategy::is_default")]
    pub update_strategy: UpdateStrategy<RollingUpdate>,
    /// How long a pod must have been ready to count as available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_seconds: u32,
}

/// Pods that are to end well, so often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What to run.
    pub spec: JobSpec,
}

/// What a Job runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// How many pods must end well. Absent: one that does is enough, where `parallelism` is absent too; otherwise all that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<u32>,
    /// How many run at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// How many may end badly before it has failed.
    #[serde(default = "six")]
    pub backoff_limit: u32,
    /// Seconds after which it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u32>,
    /// Whether its pods are numbered.
    #[serde(default)]
    pub completion_mode: CompletionMode,
    /// What its pods look like.
    pub template: PodTemplate,
}

/// Whether the pods of a Job are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompletionMode {
    /// They are all the same.
    #[default]
    NonIndexed,
    /// Each knows its number, and each number must end well once.
    Indexed,
}

/// Jobs at given times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CronJob {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What to run, and when.
    pub spec: CronJobSpec,
}

/// What a CronJob runs, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CronJobSpec {
    /// Minute, hour, day of the month, month, day of the week; or `@hourly` and the like.
    pub schedule: String,
    /// By which clock, as `Europe/Berlin`. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens while the one before still runs.
    #[serde(default)]
    pub concurrency_policy: Concurrency,
    /// Seconds after which a missed time is let go. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline_seconds: Option<u32>,
    /// Whether it does nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// How many jobs that ended well are kept.
    #[serde(default = "three")]
    pub successful_jobs_history_limit: u32,
    /// How many jobs that failed are kept.
    #[serde(default = "one")]
    pub failed_jobs_history_limit: u32,
    /// What its jobs look like.
    pub job_template: JobTemplate,
}

/// What the jobs of a CronJob look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobTemplate {
    /// Labels and annotations.
    #[serde(default)]
    pub metadata: TemplateMeta,
    /// What to run.
    pub spec: JobSpec,
}

/// What a CronJob does while the job before still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Concurrency {
    /// Runs both.
    #[default]
    Allow,
    /// Leaves this one out.
    Forbid,
    /// Ends that one.
    Replace,
}

// === impl StatefulSet ===

impl StatefulSet {
    /// The name of the pod of one number.
    pub fn pod_name(&self, number: u32) -> String {
        format!("{}-{number}", self.metadata.name)
    }

    /// The numbers that there are to be.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        let start = self.spec.ordinals.unwrap_or_default().start;
        start..start.saturating_add(self.spec.replicas)
    }

    /// The volumes that the pod of one number has beside those of the template, which they replace by name.
    pub fn claims(&self, number: u32) -> impl Iterator<Item = Volume> {
        let pod = self.pod_name(number);
        self.spec.volume_claim_templates.iter().map(move |claim| {
            let name = claim.metadata.name.to_string();
            Volume {
                persistent_volume_claim: Some(ClaimVolume {
                    claim_name: format!("{name}-{pod}"),
                    read_only: false,
                }),
                name,
                ..Volume::default()
            }
        })
    }
}

// === impl JobSpec ===

impl JobSpec {
    /// How many run at a time.
    pub fn parallel(&self) -> u32 {
        self.parallelism.unwrap_or(1)
    }

    /// How many must end well. `None`: those that run, once one of them did (a work queue).
    pub fn wanted(&self) -> Option<u32> {
        match (self.completions, self.parallelism) {
            (Some(completions), _) => Some(completions),
            (None, None) => Some(1),
            (None, Some(_)) => None,
        }
    }
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn six() -> u32 {
    6
}
