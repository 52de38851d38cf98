// SPDX-License-Identifier: Apache-2.0
//! What makes pods: Deployments, sets, jobs. Read [`super`] for what a line means.

use super::Rule::{Only, Refuse, Take, Warn};
use super::Type::{self, Bool, Int, List, Object, Text};
use super::claim::CLAIM;
use super::meta::{API_VERSION, KIND, LABEL_SELECTOR, METADATA, STATUS, TEMPLATE_META};
use super::pod::POD_TEMPLATE;
use super::rollout::{DAEMON_UPDATE, NUMBERED_UPDATE, STRATEGY};
use super::texts::{
    COMPLETION_MODE, CONCURRENCY, NAME_OR_NONE, POD_MANAGEMENT, SCHEDULE, TIME_ZONE,
};
use super::{Field, Rule, f, must};

/// More pods of one kind than one machine is asked for.
const REPLICAS: Type = Int(0, 200);
const MIN_READY: Rule = Take(Int(0, 3600));
const NO_HISTORY: Rule =
    Warn("a rollout goes on until it is done, and there is no way back but the older file");

const SELECTOR: Field = must(
    "selector",
    Take(Object(LABEL_SELECTOR)),
    "say which labels its pods have",
);
const TEMPLATE: Field = must(
    "template",
    Take(Object(POD_TEMPLATE)),
    "say what its pods look like",
);

pub(crate) const DEPLOYMENT: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must("spec", Take(Object(DEPLOYMENT_SPEC)), "say what to run"),
];

pub(super) const DEPLOYMENT_SPEC: &[Field] = &[
    f("replicas", Take(REPLICAS)),
    SELECTOR,
    TEMPLATE,
    f("strategy", Take(Object(STRATEGY))),
    f("minReadySeconds", MIN_READY),
    f("revisionHistoryLimit", NO_HISTORY),
    f("progressDeadlineSeconds", NO_HISTORY),
    f(
        "paused",
        Only(&["false"], "a Deployment runs as soon as it is read"),
    ),
];

pub(crate) const REPLICA_SET: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must("spec", Take(Object(REPLICA_SET_SPEC)), "say what to run"),
];

const REPLICA_SET_SPEC: &[Field] = &[
    f("replicas", Take(REPLICAS)),
    SELECTOR,
    TEMPLATE,
    f("minReadySeconds", MIN_READY),
];

pub(crate) const STATEFUL_SET: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must("spec", Take(Object(STATEFUL_SET_SPEC)), "say what to run"),
];

const STATEFUL_SET_SPEC: &[Field] = &[
    f("replicas", Take(REPLICAS)),
    SELECTOR,
    TEMPLATE,
    f("serviceName", Take(Text(&NAME_OR_NONE)))
        .note("its pods are NAME-0.SERVICE and so on, where that service is headless"),
    f("podManagementPolicy", Take(Text(&POD_MANAGEMENT))),
    f("ordinals", Take(Object(ORDINALS))),
    f("volumeClaimTemplates", Take(List(&Object(CLAIM)))).note("see Storage"),
    f("updateStrategy", Take(Object(NUMBERED_UPDATE))),
    f("minReadySeconds", MIN_READY),
    f("revisionHistoryLimit", NO_HISTORY),
    f(
        "persistentVolumeClaimRetentionPolicy",
        Warn("what was claimed is kept"),
    ),
];

const ORDINALS: &[Field] = &[f("start", Take(Int(0, 1_000_000)))];

pub(crate) const DAEMON_SET: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must("spec", Take(Object(DAEMON_SET_SPEC)), "say what to run"),
];

const DAEMON_SET_SPEC: &[Field] = &[
    SELECTOR,
    TEMPLATE,
    f("updateStrategy", Take(Object(DAEMON_UPDATE))),
    f("minReadySeconds", MIN_READY),
    f("revisionHistoryLimit", NO_HISTORY),
];

pub(crate) const JOB: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must("spec", Take(Object(JOB_SPEC)), "say what to run"),
];

pub(super) const JOB_SPEC: &[Field] = &[
    f("completions", Take(Int(0, 10_000))),
    f("parallelism", Take(REPLICAS)),
    f("backoffLimit", Take(Int(0, 10_000))),
    f("activeDeadlineSeconds", Take(Int(1, 31_536_000))),
    f("completionMode", Take(Text(&COMPLETION_MODE))),
    TEMPLATE,
    f(
        "ttlSecondsAfterFinished",
        Warn("pods of jobs that ended stay until everything ends"),
    ),
    f(
        "selector",
        Refuse("a Job selects its own pods: leave it out"),
    ),
    f(
        "manualSelector",
        Only(&["false"], "a Job selects its own pods"),
    ),
    f(
        "suspend",
        Only(&["false"], "a Job runs as soon as it is read"),
    ),
    f(
        "backoffLimitPerIndex",
        Refuse("pods that fail are counted together"),
    ),
    f(
        "maxFailedIndexes",
        Refuse("pods that fail are counted together"),
    ),
    f(
        "podFailurePolicy",
        Refuse("every pod that fails counts the same"),
    ),
    f(
        "successPolicy",
        Refuse("a Job has ended well when all its completions have"),
    ),
    f(
        "podReplacementPolicy",
        Only(
            &["TerminatingOrFailed", "Failed"],
            "pods are replaced when they have failed",
        ),
    ),
    f("managedBy", Refuse("nobody else runs jobs here")),
];

pub(crate) const CRON_JOB: &[Field] = &[
    API_VERSION,
    KIND,
    METADATA,
    STATUS,
    must(
        "spec",
        Take(Object(CRON_JOB_SPEC)),
        "say what to run and when",
    ),
];

const CRON_JOB_SPEC: &[Field] = &[
    must(
        "schedule",
        Take(Text(&SCHEDULE)),
        "say when, as in \"*/5 * * * *\"",
    ),
    f("timeZone", Take(Text(&TIME_ZONE))).note("UTC where absent"),
    f("concurrencyPolicy", Take(Text(&CONCURRENCY))),
    f("startingDeadlineSeconds", Take(Int(0, 31_536_000))),
    f("suspend", Take(Bool)),
    f("successfulJobsHistoryLimit", Take(Int(0, 1000))),
    f("failedJobsHistoryLimit", Take(Int(0, 1000))),
    must("jobTemplate", Take(Object(JOB_TEMPLATE)), "say what to run"),
];

const JOB_TEMPLATE: &[Field] = &[
    f("metadata", Take(Object(TEMPLATE_META))),
    must("spec", Take(Object(JOB_SPEC)), "say what to run"),
];
