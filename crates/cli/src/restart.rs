// SPDX-License-Identifier: Apache-2.0
//! `maille restart` and `maille scale`: the pods of an object replaced step by step, or another number of them.
//!
//! Must never wait unless asked to. Read `names.rs` for how an object is named.

use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::orders::{Order, Restart, Scale};
use crate::failure::Expected;
use crate::names::{Named, name, namespace};
use crate::node;
use crate::screen::{Screen, print};
use crate::state::{Base, State};

pub(crate) async fn restart(
    args: &Restart,
    base: &Base,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    each(
        &args.targets,
        &args.order,
        "restart",
        "restarted",
        base,
        screen,
    )
    .await
}

pub(crate) async fn scale(args: &Scale, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let order = format!("scale?replicas={}", args.replicas);
    each(&args.targets, &args.order, &order, "scaled", base, screen).await
}

async fn each(
    targets: &[String],
    args: &Order,
    order: &str,
    done: &str,
    base: &Base,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let mut wanted = Vec::new();
    for target in targets {
        let named = Named::parse(target, "deployment")?;
        if let Some(hint) = refused(named.kind.name, done) {
            let what = format!("a {} cannot be {done}", named.kind.name);
            let hint = hint.to_owned();
            return Err(Expected::Wrong { what, hint }.into());
        }
        wanted.push(named);
    }
    let objects = node::objects(&state).await?;
    // All of them, before the first order is given.
    let mut found = Vec::new();
    for named in wanted {
        let object = named.find(&objects, args.namespace.as_deref())?.clone();
        found.push((named, object));
    }
    for (named, object) in &found {
        let path = format!(
            "/v1/{}/{}/{}/{order}",
            named.kind.plural,
            namespace(object),
            name(object)
        );
        node::order(&state, Method::POST, &path, None).await?;
        print(&format!("{} {done}", named.kind.report(&named.name)))?;
    }
    if args.wait {
        let end = Instant::now() + args.timeout;
        for (named, object) in &found {
            rolled(&state, named, namespace(object), end, screen).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why an object of this kind cannot be that, and what can; `None`: it can.
fn refused(kind: &str, done: &str) -> Option<&'static str> {
    match (kind, done) {
        ("Deployment" | "StatefulSet" | "ReplicaSet", _) | ("DaemonSet", "restarted") => None,
        ("DaemonSet", _) => Some("it has one pod on each node, and there is one node"),
        ("Job" | "CronJob", _) => {
            Some("its pods end by themselves; change its manifest, and it runs anew")
        }
        _ => Some("name the Deployment, StatefulSet, ReplicaSet or DaemonSet that makes the pods"),
    }
}

/// Waits until every pod is a new one, as many as there are to be, and serves.
async fn rolled(
    state: &State,
    named: &Named,
    namespace: &str,
    end: Instant,
    screen: Screen,
) -> anyhow::Result<()> {
    let mut tick = interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let objects = node::objects(state).await?;
        let object = named.find(&objects, Some(namespace))?;
        let how = Rollout::of(object);
        if how.is_done() {
            screen.progress("");
            return Ok(());
        }
        let Rollout {
            wanted,
            updated,
            available,
            ..
        } = how;
        let old = match how.replicas.saturating_sub(updated) {
            0 => String::new(),
            old => format!(", {old} of the old ones stay"),
        };
        let text = format!(
            "{}: {updated} of {wanted} pods are new{old}, {available} serve",
            named.name
        );
        screen.progress(&text);
        if Instant::now() >= end {
            screen.progress("");
            return Err(Expected::Found {
                what: format!(
                    "{text}; it goes on in the background, and `maille get pods -o wide` says why"
                ),
            }
            .into());
        }
    }
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rollout {
    wanted: u64,
    replicas: u64,
    updated: u64,
    available: u64,
}

impl Rollout {
    /// A DaemonSet says the same in words of its own.
    fn of(object: &Value) -> Self {
        let status = &object["status"];
        let number = |values: [&Value; 2]| values.into_iter().find_map(Value::as_u64).unwrap_or(0);
        Self {
            wanted: number([
                &object["spec"]["replicas"],
                &status["desiredNumberScheduled"],
            ]),
            replicas: number([&status["replicas"], &status["currentNumberScheduled"]]),
            updated: number([
                &status["updatedReplicas"],
                &status["updatedNumberScheduled"],
            ]),
            available: number([&status["availableReplicas"], &status["numberAvailable"]]),
        }
    }

    fn is_done(self) -> bool {
        [self.replicas, self.updated, self.available] == [self.wanted; 3]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rollout_is_done_when_only_new_pods_serve() {
        let of = |replicas: u64, updated: u64, available: u64| {
            let status = json!({"replicas": replicas, "updatedReplicas": updated, "availableReplicas": available});
            Rollout::of(&json!({"spec": {"replicas": 2}, "status": status})).is_done()
        };
        assert!(of(2, 2, 2));
        assert!(!of(3, 2, 3), "an old one is still there");
        assert!(!of(2, 2, 1) && !of(2, 1, 2) && !of(1, 1, 1));
        assert!(Rollout::of(&json!({"spec": {"replicas": 0}})).is_done());
        let daemon = |updated: u64| {
            let status = json!({"desiredNumberScheduled": 1, "currentNumberScheduled": 1,
                "updatedNumberScheduled": updated, "numberAvailable": 1});
            Rollout::of(&json!({"spec": {}, "status": status})).is_done()
        };
        assert!(daemon(1) && !daemon(0));
    }

    #[test]
    fn what_cannot_be_done_says_what_can() {
        for kind in ["Deployment", "StatefulSet", "ReplicaSet"] {
            assert_eq!(refused(kind, "scaled"), None);
            assert_eq!(refused(kind, "restarted"), None);
        }
        assert_eq!(refused("DaemonSet", "restarted"), None);
        for (kind, done, words) in [
            ("DaemonSet", "scaled", "one node"),
            ("Job", "restarted", "manifest"),
            ("CronJob", "scaled", "manifest"),
            ("Pod", "restarted", "StatefulSet"),
            ("Service", "scaled", "StatefulSet"),
        ] {
            assert!(
                refused(kind, done).is_some_and(|hint| hint.contains(words)),
                "{kind}"
            );
        }
    }
}
