// SPDX-License-Identifier: Apache-2.0
//! Pods that cannot start, told once each, with the end of what they wrote: while `maille up` waits for them, and later.
//!
//! Must never tell the same of a pod twice, however often it is started again. Read `mesh.rs` and `up.rs` for the users.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use crate::names::{name, namespace};
use crate::node;
use crate::pods_of::is_ready;
use crate::screen::Screen;
use crate::state::State;
use crate::text::{clean, clean_to};

/// Lines of a log that are shown.
const LINES: usize = 5;
/// Letters of a line that are shown.
const LETTERS: usize = 200;

/// Reasons of a waiting container that are no trouble: it is on its way.
const ON_ITS_WAY: &[&str] = &["ContainerCreating", "PodInitializing"];

/// What was told already: uids of pods.
#[derive(Debug, Default)]
pub(crate) struct Trouble(BTreeSet<String>);

impl Trouble {
    /// Whether the pod with this uid was told of.
    pub(crate) fn was_told(&self, uid: &str) -> bool {
        self.0.contains(uid)
    }

    /// Tells of the pods that are in trouble and were not told of.
    pub(crate) async fn look(&mut self, state: &State, screen: Screen) {
        // Who does not answer now is asked again soon.
        let Ok(objects) = node::objects(state).await else {
            return;
        };
        for pod in objects.iter().filter(|object| object["kind"] == "Pod") {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            if self.0.contains(uid) {
                continue;
            }
            if let Some(container) = in_trouble(pod) {
                self.0.insert(uid.to_owned());
                tell(state, pod, container, screen).await;
            }
        }
    }
}

async fn tell(state: &State, pod: &Value, container: Option<&str>, screen: Screen) {
    let why = pod["status"]["message"]
        .as_str()
        .unwrap_or("no reason given");
    let (namespace, name) = (namespace(pod), name(pod));
    screen.say(&format!(
        "{} {namespace}/{name}: {}",
        screen.yellow("cannot start:"),
        clean(why)
    ));
    let which = container
        .map(|name| format!("&container={name}"))
        .unwrap_or_default();
    for previous in ["", "&previous=1"] {
        let path = format!("/v1/pods/{namespace}/{name}/log?tail={LINES}{which}{previous}");
        let Ok(response) = node::open(state, Method::GET, &path, None).await else {
            return;
        };
        let Ok((status, body)) = node::whole(response).await else {
            return;
        };
        if status.is_success() && !body.is_empty() {
            for line in String::from_utf8_lossy(&body).lines() {
                screen.say(&format!("    {}", clean_to(line, LETTERS)));
            }
            return;
        }
    }
}

/// The container that is in trouble, where it is known; `None`: the pod is not.
fn in_trouble(pod: &Value) -> Option<Option<&str>> {
    let status = &pod["status"];
    if is_ready(pod)
        || pod["metadata"]["deletionTimestamp"].is_string()
        || status["phase"] == "Succeeded"
    {
        return None;
    }
    let lists = ["initContainerStatuses", "containerStatuses"].map(|key| status[key].as_array());
    let known = lists.into_iter().flatten().flatten();
    let bad = |container: &&Value| {
        let waits = container["state"]["waiting"]["reason"].as_str();
        let code = container["state"]["terminated"]["exitCode"].as_i64();
        waits.is_some_and(|reason| !reason.is_empty() && !ON_ITS_WAY.contains(&reason))
            || code.is_some_and(|code| code != 0)
            || (container["restartCount"].as_u64() > Some(0) && container["ready"] != true)
    };
    if let Some(container) = known.clone().find(bad) {
        return Some(container["name"].as_str());
    }
    // What has no container yet, or says no more than this.
    let message = status["message"].as_str().unwrap_or_default();
    // What a program wrote says nothing; and one that a probe runs may fail until the container is up.
    let said = message.split("; its last line: ").next();
    let said = said.unwrap_or_default();
    let ended = said
        .split(": ")
        .any(|part| part.starts_with("exited with") || part.starts_with("killed by"));
    let words = ["cannot be", "its liveness probe failed"];
    if !ended && !words.iter().any(|word| said.contains(word)) {
        return None;
    }
    let named = message
        .strip_prefix("container ")
        .and_then(|rest| rest.split(':').next());
    let containers = pod["spec"]["containers"].as_array();
    let is = |name: &&str| {
        containers
            .into_iter()
            .flatten()
            .any(|one| one["name"] == **name)
    };
    Some(named.filter(is))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"name": "web"}]}, "status": status})
    }

    #[test]
    fn trouble_is_told_from_beginning() {
        let waiting = |reason: &str| json!({"containerStatuses": [{"name": "web", "state": {"waiting": {"reason": reason}}}]});
        for (status, expected) in [
            (json!({}), None),
            (waiting("ContainerCreating"), None),
            (waiting("CrashLoopBackOff"), Some(Some("web"))),
            (
                json!({"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1}}}]}),
                Some(Some("i")),
            ),
            (
                json!({"containerStatuses": [{"name": "web", "ready": false, "restartCount": 1}]}),
                Some(Some("web")),
            ),
            (
                json!({"containerStatuses": [{"name": "web", "ready": false, "restartCount": 0}]}),
                None,
            ),
            (
                json!({"message": "container web: exited with status 1; started again in 1 s"}),
                Some(Some("web")),
            ),
            (
                json!({"message": "its network cannot be made: no room"}),
                Some(None),
            ),
            (
                json!({"message": "container web: 10.0.0.1:80: Connection refused"}),
                None,
            ),
            (
                json!({"message": "container web: test exited with status 1; its last line: cannot be: exited with 1"}),
                None,
            ),
            (
                json!({"message": "container web: OOMKilled: killed by signal 9 (SIGKILL), it needed more memory than 1Mi"}),
                Some(Some("web")),
            ),
            (
                json!({"message": "exited with", "conditions": [{"type": "Ready", "status": "True"}]}),
                None,
            ),
            (
                json!({"phase": "Succeeded", "message": "exited with status 0"}),
                None,
            ),
        ] {
            assert_eq!(in_trouble(&pod(status.clone())), expected, "{status}");
        }
    }
}
