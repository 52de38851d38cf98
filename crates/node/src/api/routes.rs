// SPDX-License-Identifier: Apache-2.0
//! Every path of the runner's API, once: which order it is, and what its document says of it.
//!
//! `docs/reference/openapi-node.json` is made of this table. Read [`super`] for what is done.

use maille_openapi::{Document, Method, Operation, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Pods,
    Objects,
    Apply,
    Diff,
    Scale,
    Restart,
    Log,
    Exec,
    Forward,
    Delete,
    ControlRestart,
    ControlAway,
}

/// One path.
struct Route {
    order: Order,
    method: Method,
    path: &'static str,
    about: &'static str,
    say: for<'a> fn(Operation<'a>) -> Operation<'a>,
}

/// Manifests.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Files {
    /// Name and text of each.
    pub(super) files: Vec<(String, String)>,
}

/// What differs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Changes {
    /// Object by object.
    pub(super) changes: Vec<Change>,
}

/// One object that differs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Change {
    /// `Deployment`, ...
    pub(super) kind: &'static str,
    /// Its namespace; empty for one of the whole cluster.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// As it runs, in Kubernetes' form; `null` where it is new.
    pub(super) before: Option<Value>,
    /// As it is to be; `null` where it goes.
    pub(super) after: Option<Value>,
}

/// Objects.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Objects {
    /// Each in Kubernetes' form; pods and what makes them with their status.
    pub(super) items: Vec<Value>,
}

/// What runs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RunningPods")]
pub(super) struct Pods {
    /// The pods.
    pub(super) pods: Vec<Pod>,
    /// Control's process.
    pub(super) control_pid: Option<i32>,
    /// The observer's.
    pub(super) observer_pid: Option<i32>,
}

/// One pod.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RunningPod")]
pub(super) struct Pod {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// Tells it from every other pod that ever had its name.
    pub(super) uid: String,
    /// What made it: kind and name.
    pub(super) owner: Option<Value>,
    /// It takes connections.
    pub(super) ready: bool,
    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub(super) phase: String,
    /// What is wrong with it; empty where nothing is.
    pub(super) message: String,
    /// `containerStatuses`, as Kubernetes has them.
    pub(super) statuses: Value,
    /// `initContainerStatuses`, as Kubernetes has them.
    pub(super) init_statuses: Value,
    /// How its packets reach its proxy: `outboard`; `none` or `null` outside the mesh.
    pub(super) capture: Option<String>,
    /// Its addresses.
    pub(super) ips: Vec<String>,
    /// Its proxy's process.
    pub(super) proxy_pid: Option<i32>,
    /// Its containers' processes, by name.
    pub(super) containers: Value,
}

/// A new number of pods is taken.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Scaled {
    /// The number before.
    pub(super) before: u32,
}

/// A restart has begun.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Restarted {
    /// What marks the new pods (RFC 3339).
    #[serde(rename = "restartedAt")]
    pub(super) restarted_at: String,
}

/// It is under way.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Taken {}

/// `?replicas=N`
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "it is read by hand: this is how it looks")]
struct ScaleQuery {
    /// How many pods there are to be.
    replicas: u32,
}

/// `?container=NAME&...`
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "it is read by hand: this is how it looks")]
struct LogQuery {
    /// Whose; the first one's unless told. `maille-proxy` is the pod's proxy.
    container: Option<String>,
    /// Only so many lines.
    tail: Option<u64>,
    /// Only what was written in so many seconds before now, as far as that was noted.
    since: Option<u64>,
    /// `1`: go on with what is written from now on.
    follow: Option<String>,
    /// `1`: of the run before this one.
    previous: Option<String>,
}

/// `?port=N`
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "it is read by hand: this is how it looks")]
struct PortQuery {
    /// Which.
    port: u16,
}

/// `?seconds=N`
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "it is read by hand: this is how it looks")]
struct AwayQuery {
    /// How long.
    seconds: u16,
}

const ABOUT: &str = "HTTP/1.1 and JSON on node.sock in the state directory, for its owner only (0600): what runs, and orders. It exists where `maille up` \
runs, and not on Kubernetes, whose own API has these orders. Objects are in Kubernetes' form and not described here.";

const CHANNELS: &str = "From here on channels: a byte for the channel (0 input, 1 output, 2 errors, 3 size, 4 exit code), four for the length, the bytes.";

/// All of them.
const ROUTES: [Route; 12] = [
    Route {
        order: Order::Pods,
        method: Method::Get,
        path: "/v1/pods",
        about: "The pods with the processes of proxy and containers.",
        say: |operation| operation.answers::<Pods>(200, "And control's."),
    },
    Route {
        order: Order::Objects,
        method: Method::Get,
        path: "/v1/objects",
        about: "Every object as it runs.",
        say: |operation| operation.answers::<Objects>(200, "All kinds in one list."),
    },
    Route {
        order: Order::Apply,
        method: Method::Post,
        path: "/v1/apply",
        about: "Takes new manifests in place of all earlier ones.",
        say: |operation| {
            let operation = operation.body::<Files>();
            wrong(operation.answers::<Changes>(200, "What changes."))
        },
    },
    Route {
        order: Order::Diff,
        method: Method::Post,
        path: "/v1/diff",
        about: "Tells what differs from what runs, and changes nothing.",
        say: |operation| {
            let operation = operation.body::<Files>();
            wrong(operation.answers::<Changes>(200, "What would change."))
        },
    },
    Route {
        order: Order::Scale,
        method: Method::Post,
        path: "/v1/{plural}/{namespace}/{name}/scale",
        about: "Gives a Deployment, StatefulSet or ReplicaSet another number of pods; `plural` is its kind's, as in `deployments`.",
        say: |operation| {
            let operation = operation.query::<ScaleQuery>();
            absent(wrong(operation.answers::<Scaled>(202, "It is under way.")))
        },
    },
    Route {
        order: Order::Restart,
        method: Method::Post,
        path: "/v1/{plural}/{namespace}/{name}/restart",
        about: "Replaces every pod of those, or of a DaemonSet, step by step.",
        say: |operation| absent(operation.answers::<Restarted>(202, "It is under way.")),
    },
    Route {
        order: Order::Log,
        method: Method::Get,
        path: "/v1/pods/{namespace}/{name}/log",
        about: "What a container wrote, byte by byte.",
        say: |operation| {
            let operation = operation.query::<LogQuery>();
            absent(wrong(operation.bytes(
                200,
                "As it was written.",
                "text/plain",
            )))
        },
    },
    Route {
        order: Order::Exec,
        method: Method::Post,
        path: "/v1/pods/{namespace}/{name}/exec",
        about: "Runs a command beside a container's.",
        say: |operation| {
            let operation = operation.body::<crate::enter::Order>();
            let operation = operation.bytes(101, CHANNELS, "");
            entered(absent(wrong(operation)))
        },
    },
    Route {
        order: Order::Forward,
        method: Method::Post,
        path: "/v1/pods/{namespace}/{name}/port-forward",
        about: "Connects to a port, from inside the pod.",
        say: |operation| {
            let operation = operation.query::<PortQuery>();
            let operation = operation.bytes(101, "From here on the connection's bytes.", "");
            entered(absent(wrong(operation)))
        },
    },
    Route {
        order: Order::Delete,
        method: Method::Post,
        path: "/v1/pods/{namespace}/{name}/delete",
        about: "Ends a pod gracefully; what made it makes another one first.",
        say: |operation| absent(operation.answers::<Taken>(202, "It is under way.")),
    },
    Route {
        order: Order::ControlRestart,
        method: Method::Post,
        path: "/v1/control/restart",
        about: "Kills control, which is started again.",
        say: |operation| alone(operation.answers::<Taken>(202, "It is under way.")),
    },
    Route {
        order: Order::ControlAway,
        method: Method::Post,
        path: "/v1/control/away",
        about: "The same, but control is started only after so long.",
        say: |operation| {
            let operation = operation.query::<AwayQuery>();
            alone(wrong(operation.answers::<Taken>(202, "It is under way.")))
        },
    },
];

/// The document.
pub fn openapi() -> Value {
    let mut document = Document::new("Maille: the runner's API", ABOUT, "1");
    for route in &ROUTES {
        (route.say)(document.operation(route.method, route.path, route.about)).end();
    }
    document.finish()
}

/// What a path may name, in the order of [`find`]'s answer.
const PLACES: [&str; 3] = ["{plural}", "{namespace}", "{name}"];

/// Which order this is, with what its path names; empty where it names none.
pub(super) fn find<'p>(method: &http::Method, path: &'p str) -> Option<(Order, [&'p str; 3])> {
    let is = |route: &&Route| match route.method {
        Method::Get => *method == http::Method::GET,
        Method::Post => *method == http::Method::POST,
    };
    ROUTES.iter().filter(is).find_map(|route| {
        let mut named = [""; 3];
        let (mut steps, mut wanted) = (path.split('/'), route.path.split('/'));
        loop {
            let place = match (steps.next(), wanted.next()) {
                (None, None) => return Some((route.order, named)),
                (Some(step), Some(same)) if step == same => continue,
                (Some(step), Some(place)) => (step, place),
                _ => return None,
            };
            let at = PLACES.iter().position(|name| *name == place.1)?;
            named[at] = place.0;
        }
    })
}

fn wrong(operation: Operation<'_>) -> Operation<'_> {
    operation.refuses::<Refusal<'_>>(&[(400, "The order makes no sense.")])
}

fn absent(operation: Operation<'_>) -> Operation<'_> {
    operation.refuses::<Refusal<'_>>(&[(404, "There is no such thing.")])
}

fn alone(operation: Operation<'_>) -> Operation<'_> {
    operation.refuses::<Refusal<'_>>(&[(409, "There is no control here.")])
}

fn entered(operation: Operation<'_>) -> Operation<'_> {
    operation.refuses::<Refusal<'_>>(&[
        (409, "No process of it runs."),
        (
            502,
            "It cannot be entered, or nothing answers at that port.",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_and_nothing_else() {
        for route in &ROUTES {
            let method = match route.method {
                Method::Get => http::Method::GET,
                Method::Post => http::Method::POST,
            };
            let named = PLACES.map(|place| {
                if route.path.contains(place) {
                    &place[1..2]
                } else {
                    ""
                }
            });
            let mut path = route.path.to_owned();
            for (place, name) in PLACES.iter().zip(named) {
                path = path.replace(place, name);
            }
            let found = find(&method, &path);
            assert_eq!(found, Some((route.order, named)), "{path}");
            assert_eq!(find(&http::Method::PUT, &path), None, "{path}");
            for other in [
                format!("{path}/"),
                format!("/x{path}"),
                "/v1".to_owned(),
                String::new(),
            ] {
                assert_eq!(find(&method, &other), None, "{other}");
            }
        }
    }
}
