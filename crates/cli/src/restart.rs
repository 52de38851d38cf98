// SPDX-License-Identifier: Apache-2.0
//! `maille restart` and `maille scale`: a Deployment's pods replaced step by step, or another number of them.
//!
//! Must never wait unless asked to. Read `names.rs` for how a Deployment is named.

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
    let objects = node::objects(&state).await?;
    // All of them, before the first order is given.
    let mut found = Vec::new();
    for target in targets {
        let named = Named::parse(target, "deployment")?;
        if named.kind.name != "Deployment" {
            let what = format!("a {} cannot be {done}", named.kind.name.to_lowercase());
            let hint = "name the Deployment that makes the pods".to_owned();
            return Err(Expected::Unknown { what, hint }.into());
        }
        let object = named.find(&objects, args.namespace.as_deref())?.clone();
        found.push((named, object));
    }
    for (named, object) in &found {
        let path = format!(
            "/v1/deployments/{}/{}/{order}",
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
        let text = format!(
            "{}: {updated} of {wanted} pods are new, {available} serve",
            named.name
        );
        screen.progress(&text);
        if Instant::now() >= end {
            screen.progress("");
            return Err(Expected::Found {
                what: format!("{text}; it goes on in the background"),
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
    fn of(deployment: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let status = &deployment["status"];
        Self {
            wanted: number(&deployment["spec"]["replicas"]),
            replicas: number(&status["replicas"]),
            updated: number(&status["updatedReplicas"]),
            available: number(&status["availableReplicas"]),
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
    }
}
