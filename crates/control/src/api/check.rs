// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/check`: what control can say of its own health and of the proxies that it serves. One sentence a check, and
//! a hint where somebody must act. Nothing is measured here that the rest of the process does not already know.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Api, is_reporting};
use crate::hub::{Hub, World};
use crate::index::Pod;

/// Names in one message.
const NAMES: usize = 5;
/// Warn so long before the CA ends.
const CA_MARGIN_SECONDS: i64 = 30 * 24 * 3600;

/// `GET /v1/check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
    /// Whether all are well.
    pub ok: bool,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `machine`, `capture`, `control` or `proxies`.
    pub category: String,
    /// What is looked at.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub message: String,
    /// What to do; empty when all is well.
    pub hint: String,
}

/// Looks at everything. `node`: what the node said of itself, where it answered.
pub(crate) fn report(api: &Api, node: Option<Vec<Check>>) -> Report {
    let now = unix(api.hub.now());
    let world = api.hub.world();
    let mut checks = node.unwrap_or_else(|| {
        let silent = check("machine", "the node answers", false).says("it does not".to_owned());
        vec![silent.hint("see node.log in the state directory")]
    });
    checks.extend(control(&world, api.ca_validity, now));
    checks.extend(proxies(&api.hub, &world, now));
    Report {
        ok: checks.iter().all(|check| check.ok),
        checks,
    }
}

fn control(world: &World, (from, until): (SystemTime, SystemTime), now: i64) -> Vec<Check> {
    let (from, until) = (unix(from), unix(until));
    let pods = world.index.pods().count();
    let services = world.index.services().count();
    let read = format!("{pods} pods and {services} services");
    let unread = || "not every source told everything yet".to_owned();
    let problems = world.broken.iter().chain(&world.refused);
    let problems: Vec<String> = problems.map(|(at, why)| format!("{at}: {why}")).collect();
    let disputes = world.index.disputes();
    let left = until.saturating_sub(now);
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
        check("control", "the CA is valid", left > CA_MARGIN_SECONDS)
            .says(format!("its certificate ends in {}", span(left)))
            .hint("remove the directory ca/ of the state and start again: every proxy gets a new certificate"),
        check("control", "the clock is plausible", now >= from)
            .says(if now >= from {
                "now is after the CA was made".to_owned()
            } else {
                format!("now is {} before the CA was made", span(from.saturating_sub(now)))
            })
            .hint("set the clock: certificates are not valid yet"),
    ]
}

fn proxies(hub: &Hub, world: &World, now: i64) -> Vec<Check> {
    let served = || world.index.pods().filter(|pod| pod.is_served());
    let uid = |pod: &Pod| pod.workload.uid.clone();
    let without = |is_well: &dyn Fn(&Pod) -> bool| -> Vec<String> {
        let bad = served().filter(|pod| !is_well(pod));
        bad.map(|pod| format!("{}/{}", pod.workload.namespace, pod.workload.name))
            .collect()
    };
    let connected = without(&|pod| hub.proxy(&uid(pod)).discovery > 0);
    // What an earlier process signed is not known: only what is known to have ended is an error.
    let certified = without(&|pod| {
        let until = hub.proxy(&uid(pod)).certified_until;
        until.is_none_or(|until| unix(until) > now)
    });
    let accepted = served().filter_map(|pod| {
        let why = hub.proxy(&uid(pod)).rejection?;
        let workload = &pod.workload;
        Some(format!("{}/{}: {why}", workload.namespace, workload.name))
    });
    let accepted: Vec<String> = accepted.collect();
    let stats = hub.stats();
    let second = hub.second();
    let reporting = without(&|pod| is_reporting(hub, &stats, pod, second));
    let dropped = stats.dropped();
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
    fn says(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    fn hint(mut self, hint: &str) -> Self {
        if !self.ok {
            hint.clone_into(&mut self.hint);
        }
        self
    }
}
