// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/check`: what control can say of its own health and of the proxies that it serves. One sentence a check, and
//! a hint where somebody must act. Nothing is measured here that the rest of the process does not already know.

use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Api, is_reporting};
use crate::hub::{Hub, World};
use crate::index::Pod;
use crate::replicas::Gathered;

/// Certificates that proxies hold.
mod held;

/// Names in one message.
const NAMES: usize = 5;
/// Warn so long before the CA ends.
const CA_MARGIN_SECONDS: i64 = 30 * 24 * 3600;

/// `GET /v1/check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
    /// Whether all are well.
    pub ok: bool,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// `machine`, `capture`, `control` or `proxies`.
    pub category: String,
    /// What is looked at.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub message: String,
    /// What to do; empty when all is well. Where it is well and this says something, something is on its way and not done.
    pub hint: String,
}

/// Looks at everything. `node`: what the node said of itself; nothing in a cluster, where there is no such one.
pub(crate) async fn report(api: &Api, node: Vec<Check>) -> Report {
    let now = unix(api.hub.now());
    let mut checks = node;
    let gathered = api.replicas.gather(&api.hub, 1).await;
    let held = held::ask(api).await;
    let world = api.hub.world();
    checks.extend(control(&world));
    checks.extend(authority(api.keyring.validity(), now));
    checks.push(replicas(&gathered));
    checks.extend(proxies((&api.hub, &gathered), &world, now));
    if let Some(authority) = api.keyring.current() {
        checks.extend(held::judge(&held, &authority));
    }
    Report {
        ok: checks.iter().all(|check| check.ok),
        checks,
    }
}

fn control(world: &World) -> Vec<Check> {
    let pods = world.index.pods().count();
    let services = world.index.services().count();
    let read = format!("{pods} pods and {services} services");
    let unread = || "not every source told everything yet".to_owned();
    let problems = world.broken.iter().chain(&world.refused);
    let problems: Vec<String> = problems.map(|(at, why)| format!("{at}: {why}")).collect();
    let disputes = world.index.disputes();
    vec![
        check("control", "sources are read", world.is_complete())
            .says(if world.is_complete() { read } else { unread() })
            .hint("wait a moment; if it lasts, control's log names the source"),
        check("control", "objects make sense", problems.is_empty())
            .says(listed("every object is in force", &problems))
            .hint("what was there before is in force until the file makes sense again"),
        check("control", "addresses have one owner", disputes.is_empty())
            .says(listed("no address is claimed twice", &disputes))
            .hint("of two pods the running one has the address; stop the other one"),
    ]
}

fn authority(validity: Option<(SystemTime, SystemTime)>, now: i64) -> Vec<Check> {
    let Some((from, until)) = validity else {
        let none = check("control", "the CA is valid", false).says("there is none".to_owned());
        return vec![
            none.hint("control makes it, or waits for the Secret that holds it: see its log"),
        ];
    };
    let (from, until) = (unix(from), unix(until));
    let left = until.saturating_sub(now);
    vec![
        check("control", "the CA is valid", left > CA_MARGIN_SECONDS)
            .says(format!("its certificate ends in {}", span(left)))
            .hint("on one machine remove the directory ca/ of the state and start again; in a cluster replace the Secret that holds it"),
        check("control", "the clock is plausible", now >= from)
            .says(if now >= from {
                "now is after the CA was made".to_owned()
            } else {
                format!("now is {} before the CA was made", span(from.saturating_sub(now)))
            })
            .hint("set the clock: certificates are not valid yet"),
    ]
}

fn replicas(gathered: &Gathered) -> Check {
    check("control", "every replica answers the others", gathered.missing.is_empty())
        .says(listed("all of them", &gathered.missing))
        .hint("its proxies are missing from answers: see its log, and whether network policies let replicas reach each other at port 15010")
}

fn proxies((hub, gathered): (&Hub, &Gathered), world: &World, now: i64) -> Vec<Check> {
    let proxy = |pod: &Pod| gathered.proxy(hub, &pod.workload.uid);
    let served = || world.index.pods().filter(|pod| pod.is_served());
    let without = |is_well: &dyn Fn(&Pod) -> bool| -> Vec<String> {
        let bad = served().filter(|pod| !is_well(pod));
        bad.map(|pod| format!("{}/{}", pod.workload.namespace, pod.workload.name))
            .collect()
    };
    let connected = without(&|pod| proxy(pod).discovery > 0);
    // What an earlier process signed is not known: only what is known to have ended is an error.
    let certified = without(&|pod| {
        let until = proxy(pod).certified_until;
        until.is_none_or(|until| unix(until) > now)
    });
    let accepted = served().filter_map(|pod| {
        let why = proxy(pod).rejection?;
        let workload = &pod.workload;
        Some(format!("{}/{}: {why}", workload.namespace, workload.name))
    });
    let accepted: Vec<String> = accepted.collect();
    let reporting = without(&|pod| is_reporting(hub, gathered, pod));
    let dropped = gathered.read(hub, |stats, _| stats.dropped());
    let total = served().count();
    let all = |what: &str| format!("{total} of {total} {what}");
    vec![
        check("proxies", "proxies are connected", connected.is_empty())
            .says(missing(&all("meshed pods"), &connected))
            .hint("see proxy.log of that pod: its proxy does not run, or the agent does not let it through"),
        check("proxies", "no certificate has ended", certified.is_empty())
            .says(missing("as far as this process signed them", &certified))
            .hint("its proxy did not ask for the next one in time; see proxy.log of that pod"),
        check("proxies", "configuration is accepted", accepted.is_empty())
            .says(listed("no proxy refused anything", &accepted))
            .hint("a proxy keeps what it had; most likely it is older than control"),
        check("proxies", "proxies report", reporting.is_empty())
            .says(missing(&all("meshed pods"), &reporting))
            .hint("without reports only statistics are incomplete; see proxy.log of that pod"),
        check("proxies", "statistics are complete", dropped == 0)
            .says(format!("{dropped} edges found no room"))
            .hint("some workload talks to more than 4,096 different peers and ports"),
    ]
}

fn check(category: &str, name: &str, ok: bool) -> Check {
    Check {
        category: category.to_owned(),
        name: name.to_owned(),
        ok,
        message: String::new(),
        hint: String::new(),
    }
}

fn listed(well: &str, problems: &[String]) -> String {
    if problems.is_empty() {
        return well.to_owned();
    }
    let more = problems.len().saturating_sub(NAMES);
    let mut text = problems[..problems.len() - more].join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

fn missing(well: &str, names: &[String]) -> String {
    if names.is_empty() {
        return well.to_owned();
    }
    format!("not {}", listed(well, names))
}

fn unix(time: SystemTime) -> i64 {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn span(seconds: i64) -> String {
    match seconds {
        ..0 => format!("{seconds} s"),
        0..7_200 => format!("{seconds} s"),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

// === impl Check ===

impl Check {
    /// The node does not answer.
    pub(super) fn silent() -> Self {
        check("machine", "the node answers", false)
            .says("it does not".to_owned())
            .hint("see node.log in the state directory")
    }

    fn says(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// Well, and what is not done yet.
    fn unfinished(mut self, is_done: bool, hint: &str) -> Self {
        if !is_done {
            hint.clone_into(&mut self.hint);
        }
        self
    }

    fn hint(mut self, hint: &str) -> Self {
        if !self.ok {
            hint.clone_into(&mut self.hint);
        }
        self
    }
}
