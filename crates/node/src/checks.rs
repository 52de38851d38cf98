// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/checks`: what the node can say of its machine and of its captures. One sentence a check, and a hint where somebody must act.
//!
//! Must never mend anything. Read `drift.rs` next, and `maille_sys::machine`.

use std::sync::Arc;

use maille_sys::{NetNs, machine};
use serde_json::{Value, json};

use crate::drift::drift;
use crate::processes::{Processes, Role};

/// Everything that the node can say of itself and of its captures. Blocks.
pub(crate) fn checks(processes: &Arc<Processes>) -> Vec<Value> {
    let mut checks: Vec<Value> = machine::look()
        .into_iter()
        .map(|fact| check("machine", fact.name, fact.ok, (&fact.found, &fact.hint)))
        .collect();
    let rules = processes.rules();
    let (mut seen, mut changed) = (0, Vec::new());
    for uid in rules.uids() {
        let Some(pid) = processes.pid(&Role::Proxy(uid.clone())) else {
            // Its proxy is being started again: it is looked at the next time.
            continue;
        };
        seen += 1;
        let before = rules.of(&uid).unwrap_or_default();
        if let Some(what) = NetNs::of_pid(pid).map_or_else(
            |error| Some(error.to_string()),
            |mesh| drift(&mesh, &before),
        ) {
            changed.push(format!("pod {uid}: {what}"));
        }
    }
    let found = if changed.is_empty() {
        format!("{seen} of {seen} captured pods are as they were captured")
    } else {
        changed.join("; ")
    };
    checks.push(check(
        "capture",
        "rules are those of the plan",
        changed.is_empty(),
        (
            &found,
            "somebody changed them: maille restart the workload to capture its pods anew",
        ),
    ));
    checks
}

fn check(category: &str, name: &str, ok: bool, (message, hint): (&str, &str)) -> Value {
    let hint = if ok { "" } else { hint };
    json!({"category": category, "name": name, "ok": ok, "message": message, "hint": hint})
}
