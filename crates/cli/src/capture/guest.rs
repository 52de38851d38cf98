// SPDX-License-Identifier: Apache-2.0
//! What a pod's own kernel holds, said by a program in an ephemeral container: for sandboxes, whose kernel no node sees. It has no right, writes nothing
//! and ends at once; the pod keeps a record of it, as of every ephemeral container.
//!
//! Must never be started unless somebody asked for it. Read `afar.rs` for who does.

use std::time::Duration;

use anyhow::anyhow;
use http::Request;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::cluster::{self, Cluster};
use crate::failure::Expected;
use crate::query::Query;
use crate::shapes::text;
use crate::text::clean;

/// Until it has ended; its image is on the node.
const LIMIT: Duration = Duration::from_secs(60);
/// Its node tries again what failed: for so long that may help.
const STUBBORN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// What each is called, with a number.
const NAME: &str = "maille-look";

/// Starts it in a pod (namespace, name), from the agent's `image`, and gives what it says.
pub(super) async fn look(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    image: &str,
) -> Result<String, Expected> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let pod = cluster.object(&path).await?.unwrap_or_default();
    let own = next(&pod);
    start(cluster, &path, &container(&own, image)).await?;
    ended(cluster, &path, &own).await?;
    let query = Query::of(&format!("{path}/log")).with("container", &own);
    let (status, said) = cluster.ask(query.path()).await?;
    if !status.is_success() {
        return Err(cluster::refused(status, &said));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// A name that the pod has not had.
fn next(pod: &Value) -> String {
    let all = pod["spec"]["ephemeralContainers"].as_array();
    format!("{NAME}-{}", all.map_or(0, Vec::len) + 1)
}

/// As the strictest namespaces have it.
fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image, "command": ["/maille-node", "--here"],
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}})
}

async fn start(cluster: &Cluster, path: &str, container: &Value) -> Result<(), Expected> {
    let patch = json!({"spec": {"ephemeralContainers": [container]}});
    let request = Request::patch(format!("{path}/ephemeralcontainers"))
        .header("content-type", "application/strategic-merge-patch+json")
        .body(Body::from(patch.to_string().into_bytes()));
    let request = request.map_err(|error| cluster.silent(anyhow!(error)))?;
    let answer = cluster.send(request).await?;
    let status = answer.status();
    let body = cluster.whole(answer.into_body()).await?;
    if status.is_success() {
        Ok(())
    } else {
        Err(cluster::refused(status, &body))
    }
}

/// Waits until it has ended well.
async fn ended(cluster: &Cluster, path: &str, own: &str) -> Result<(), Expected> {
    let begin = Instant::now();
    let mut pace = interval(PAUSE);
    loop {
        pace.tick().await;
        let pod = cluster.object(path).await?;
        let pod = pod.ok_or_else(|| Expected::Unknown {
            what: "the pod is gone".to_owned(),
            hint: "`kubectl get pods` shows its successor".to_owned(),
        })?;
        let (now, why) = state(&pod, own);
        let waited = begin.elapsed();
        match now {
            State::Ended(0) => return Ok(()),
            State::Comes if waited < LIMIT => {}
            State::Fails if waited < STUBBORN => {}
            other => {
                let how = match other {
                    State::Ended(code) => format!("ended with {code}"),
                    State::Comes => format!("has not ended within {} s", LIMIT.as_secs()),
                    State::Fails => "was not let in".to_owned(),
                };
                return Err(Expected::Refused {
                    what: format!("the container {own} {how}{}", clean(&why)),
                    hint: Some("`kubectl describe` of the pod says more; not every runtime lets a container into a pod that runs".to_owned()),
                    wrong: false,
                });
            }
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is being made, or runs.
    Comes,
    /// Its node could not make it.
    Fails,
    /// With this code.
    Ended(i64),
}

/// How far it is, and what its node says of it.
fn state(pod: &Value, own: &str) -> (State, String) {
    let all = pod["status"]["ephemeralContainerStatuses"].as_array();
    let mut all = all.into_iter().flatten();
    let Some(found) = all.find(|one| one["name"] == own) else {
        return (State::Comes, String::new());
    };
    let (ended, waits) = (&found["state"]["terminated"], &found["state"]["waiting"]);
    let told = [ended, waits].map(|from| [text(from, "/reason"), text(from, "/message")]);
    let told: Vec<&str> = told
        .concat()
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    let why = if told.is_empty() {
        String::new()
    } else {
        format!(": {}", told.join(", "))
    };
    // The kubelet's reasons, as in its pkg/kubelet/images and pkg/kubelet/kuberuntime.
    let reason = text(waits, "/reason");
    let fails = reason.ends_with("Error")
        || reason.starts_with("Err")
        || ["ImagePullBackOff", "InvalidImageName", "CrashLoopBackOff"].contains(&reason);
    let now = match ended["exitCode"].as_i64() {
        Some(code) => State::Ended(code),
        None if fails => State::Fails,
        None => State::Comes,
    };
    (now, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_used_twice() {
        assert_eq!(next(&json!({})), "maille-look-1");
        let had = json!({"spec": {"ephemeralContainers": [{"name": "maille-look-1"}, {"name": "debugger-x"}]}});
        assert_eq!(next(&had), "maille-look-3");
    }

    #[test]
    fn how_it_ended_is_told_by_its_node() {
        let of = |said: Value| {
            let all = json!([{"name": "other"}, {"name": "own", "state": said}]);
            state(
                &json!({"status": {"ephemeralContainerStatuses": all}}),
                "own",
            )
        };
        assert_eq!(of(json!({"running": {}})), (State::Comes, String::new()));
        let ended = of(json!({"terminated": {"exitCode": 0}})).0;
        assert_eq!(ended, State::Ended(0));
        let waits = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        let why = ": ImagePullBackOff, no such image".to_owned();
        assert_eq!(of(waits), (State::Fails, why));
        for (reason, state) in [
            ("ContainerCreating", State::Comes),
            ("RunContainerError", State::Fails),
            ("ErrImageNeverPull", State::Fails),
        ] {
            assert_eq!(
                of(json!({"waiting": {"reason": reason}})).0,
                state,
                "{reason}"
            );
        }
    }
}
