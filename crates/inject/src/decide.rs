// SPDX-License-Identifier: Apache-2.0
//! What becomes of one pod: a sidecar, nothing, or a refusal. One function for the command and for the webhook.
//!
//! People decide by the label or annotation `maille.io/inject`, the pod before its namespace. Must never answer "nothing" for a pod
//! that was meant to be in the mesh: what cannot be done is refused. Read `decide/checks.rs` for what is refused, then `addition.rs`.

use maille_manifest::marks;
use serde_json::{Map, Value, json};

use crate::addition::Addition;
use crate::choices::{Choices, Form, path};
use crate::names::{INIT, PROXY};
use crate::refusal::{Cause, Refusal};
use crate::sandbox::{self, Sandbox};
use crate::settings::{Capture, Nodes, Settings};
use crate::sidecar;
use crate::workload::Kind;

mod checks;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Somebody, with the object at hand: it is meant unless it says no.
    Command,
    /// The API server, whose selectors have found that the pod is meant.
    Webhook,
    /// The same, when everybody has changed the pod who wanted to, and nobody can any more.
    Afterwards,
}

/// What is known of a pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: String,
    /// Whether it wants sidecars, where it says so.
    pub wish: Option<Wish>,
    /// How it says that its pods are captured, or what it says that is no way to be.
    pub capture: Option<Result<Capture, String>>,
    /// Whether its pods may have interfaces that nobody captures, or what it says that is no answer.
    pub uncaptured: Result<Uncaptured, String>,
    /// What it allows.
    pub security: PodSecurity,
}

/// Whether pods may have interfaces that nobody captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uncaptured {
    /// They may.
    #[default]
    Allowed,
    /// They do not start.
    Refused,
}

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A sidecar.
    Enabled,
    /// None.
    Disabled,
}

/// The Pod Security Standard that a namespace enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodSecurity {
    /// Anything goes.
    #[default]
    Privileged,
    /// No rights beyond the usual.
    Baseline,
    /// As few as possible.
    Restricted,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It gets a sidecar.
    Inject {
        /// What is added.
        addition: Box<Addition>,
        /// What its owner should know.
        warnings: Vec<String>,
    },
    /// It has one, which others pushed back; it goes to the front again.
    Reorder,
    /// It stays as it is.
    Untouched(Untouched),
    /// It cannot be what was wanted.
    Refused(Vec<Refusal>),
}

/// Why a pod stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untouched {
    /// It does not want a sidecar, or its namespace does not.
    #[error("not wanted ({0} says {mark}: disabled)", mark = marks::INJECT)]
    OptedOut(&'static str),
    /// It has no network of its own.
    #[error("it uses its node's network (hostNetwork)")]
    HostNetwork,
    /// It has a sidecar.
    #[error("it has a sidecar, of version {version}")]
    Injected {
        /// Whose.
        version: String,
    },
    /// Something else makes it anew, and would undo the change.
    #[error("{0} makes it: change that")]
    Owned(String),
    /// It is not Linux.
    #[error("it is a pod for Windows")]
    Windows,
    /// It is a node's own, which nobody can change through the API.
    #[error("it mirrors a static pod of its node")]
    Mirror,
}

/// Says what becomes of the pod, or of the pods of `template`, of an object of `kind`.
pub fn decide(
    template: &Value,
    kind: Kind,
    asked: Asked,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> Decision {
    let annotations = match checks::shape(template) {
        Ok(annotations) => annotations,
        Err(refusal) => return Decision::Refused(vec![refusal]),
    };
    let explicit = match wish(template, &annotations) {
        Ok(wish) => wish,
        Err(refusal) => return Decision::Refused(vec![refusal]),
    };
    let sandbox = sandbox::of(template, &annotations, &settings.handlers);
    if let Some(untouched) = left_alone(template, &annotations, explicit, namespace) {
        return match untouched {
            Untouched::HostNetwork if sandbox.is_some() => {
                let refusals = checks::sandboxed(template, &annotations, sandbox.as_ref());
                Decision::Refused(refusals)
            }
            Untouched::HostNetwork if explicit == Some(Wish::Enabled) => {
                Decision::Refused(vec![Refusal::new("spec.hostNetwork", Cause::HostNetwork)])
            }
            untouched => Decision::Untouched(untouched),
        };
    }
    match checks::presence(template) {
        checks::Presence::None => {
            let pod = Pod {
                template,
                annotations: &annotations,
                sandbox: sandbox.as_ref(),
            };
            match fresh(&pod, kind, namespace, settings) {
                Decision::Inject { addition, .. } if asked == Asked::Afterwards => {
                    done(template, &annotations, &addition)
                }
                decision => decision,
            }
        }
        checks::Presence::Whole => match checks::by_agent(template, &annotations, settings.nodes) {
            Some(refusal) => Decision::Refused(vec![refusal]),
            None => there(template, &annotations, asked),
        },
        checks::Presence::Half(refusal) => Decision::Refused(vec![refusal]),
    }
}

/// What the pod itself says.
fn wish(template: &Value, annotations: &Map<String, Value>) -> Result<Option<Wish>, Refusal> {
    let mut said = Vec::new();
    let label = &template["metadata"]["labels"][marks::INJECT];
    let annotation = annotations.get(marks::INJECT).unwrap_or(&Value::Null);
    for (value, place) in [(label, "labels"), (annotation, "annotations")] {
        match value.as_str() {
            _ if value.is_null() => {}
            Some("enabled") => said.push(Wish::Enabled),
            Some("disabled") => said.push(Wish::Disabled),
            text => {
                let value = text.map_or_else(|| value.to_string(), str::to_owned);
                let value = value.chars().take(80).collect();
                let expected = "a choice: use \"enabled\" or \"disabled\"";
                let path = format!("metadata.{place}.{}", marks::INJECT);
                return Err(Refusal::new(path, Cause::Malformed { value, expected }));
            }
        }
    }
    match said.as_slice() {
        [label_says, annotation_says] if label_says != annotation_says => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let cause = Cause::Conflict {
                label: text(label),
                annotation: text(annotation),
            };
            Err(Refusal::new(path(marks::INJECT), cause))
        }
        said => Ok(said.first().copied()),
    }
}

fn left_alone(
    template: &Value,
    annotations: &Map<String, Value>,
    explicit: Option<Wish>,
    namespace: &NamespaceFacts,
) -> Option<Untouched> {
    let spec = &template["spec"];
    match (explicit, namespace.wish) {
        (Some(Wish::Disabled), _) => return Some(Untouched::OptedOut("the pod")),
        (None, Some(Wish::Disabled)) => return Some(Untouched::OptedOut("its namespace")),
        _ => {}
    }
    if annotations.contains_key("kubernetes.io/config.mirror") {
        Some(Untouched::Mirror)
    } else if spec["os"]["name"] == "windows" {
        Some(Untouched::Windows)
    } else if spec["hostNetwork"] == true {
        Some(Untouched::HostNetwork)
    } else {
        None
    }
}

/// A pod with a sidecar.
fn there(template: &Value, annotations: &Map<String, Value>, asked: Asked) -> Decision {
    // Another mesh's webhook may have come after ours.
    let others = checks::other_meshes(template);
    if !others.is_empty() {
        return Decision::Refused(others);
    }
    match (checks::order(template), asked) {
        (Some(_), Asked::Webhook) => Decision::Reorder,
        (Some(refusal), Asked::Command | Asked::Afterwards) => Decision::Refused(vec![refusal]),
        (None, _) => {
            let version = annotations.get(marks::INJECTED).and_then(Value::as_str);
            let version = version.unwrap_or("unknown").chars().take(80).collect();
            Decision::Untouched(Untouched::Injected { version })
        }
    }
}

/// Whether what would be added is there already, as where the node captures: nothing else may be left to do in the end.
fn done(template: &Value, annotations: &Map<String, Value>, addition: &Addition) -> Decision {
    let version = annotations.get(marks::INJECTED);
    let mut again = template.clone();
    addition.apply(&mut again);
    // Replicas of control may be of two versions for a while.
    again["metadata"]["annotations"][marks::INJECTED] = version.cloned().unwrap_or_default();
    match version.and_then(Value::as_str) {
        Some(version) if again == *template => Decision::Untouched(Untouched::Injected {
            version: version.chars().take(80).collect(),
        }),
        _ => {
            let gone = Refusal::new(path(marks::INJECTED), Cause::Gone);
            Decision::Refused(vec![gone])
        }
    }
}

/// A pod that is decided on.
struct Pod<'p> {
    template: &'p Value,
    annotations: &'p Map<String, Value>,
    sandbox: Option<&'p Sandbox>,
}

/// A pod without one.
fn fresh(pod: &Pod<'_>, kind: Kind, namespace: &NamespaceFacts, settings: &Settings) -> Decision {
    let Pod {
        template,
        annotations,
        sandbox,
    } = *pod;
    let mut refusals = checks::other_meshes(template);
    refusals.extend(checks::sandboxed(template, annotations, sandbox));
    let says = (namespace.name.as_str(), namespace.capture.as_ref());
    let choices = Choices::read(annotations, says, settings.nodes);
    let choices = choices.and_then(|choices| checks::captured(choices, settings.nodes, sandbox));
    let choices = choices.unwrap_or_else(|wrong| {
        refusals.extend(wrong);
        Choices::default()
    });
    refusals.extend(checks::ports(template));
    if choices.capture == Capture::Outboard {
        refusals.extend(checks::uncaptured(namespace));
        refusals.extend(checks::skipped(&choices));
        refusals.extend(checks::plugins(annotations));
        if !refusals.is_empty() {
            return Decision::Refused(refusals);
        }
        return Decision::Inject {
            addition: Box::new(Addition {
                annotations: said(pod, &choices, namespace, settings),
                ..Addition::default()
            }),
            warnings: checks::outboard_warnings(template, &choices, sandbox),
        };
    }
    refusals.extend(checks::users(template));
    if choices.capture == Capture::InboardCni {
        refusals.extend(checks::plugins(annotations));
    } else {
        refusals.extend(checks::security(namespace, sandbox));
    }
    refusals.extend(checks::ends(template, kind, choices.form));
    if !refusals.is_empty() {
        return Decision::Refused(refusals);
    }
    Decision::Inject {
        addition: Box::new(addition(pod, &choices, namespace, settings)),
        warnings: checks::warnings(template, choices.form, sandbox),
    }
}

/// The decision, which the node's CNI plugin and its runtime read: for what is captured outboard nothing else is added, no container, no
/// volume, no right.
fn said(
    pod: &Pod<'_>,
    choices: &Choices,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> Vec<(String, String)> {
    let annotations = pod.annotations;
    let mut said = vec![(marks::INJECTED, settings.version.as_str())];
    // Where nodes have no agents there is one way only.
    if settings.nodes != Nodes::Bare {
        said.push((marks::CAPTURE, choices.capture.word()));
        said.push((marks::CAPTURE_BY, choices.by.word()));
    }
    // One that names the agent among others stays.
    let by_agent = choices.capture != Capture::Inboard;
    if by_agent && !annotations.contains_key(marks::REQUIRED_PLUGINS) {
        said.push((marks::REQUIRED_PLUGINS, marks::REQUIRES_AGENT));
    }
    // What a sandbox's containers are limited to, the pod is, not they: its kernel could use up its proxy's part too.
    let has_room = pod.sandbox.is_none() && checks::has_room(pod.template);
    if choices.capture == Capture::Outboard && has_room {
        said.push((marks::ROOM, marks::ROOM_POD));
    }
    // Rules inside hold for every interface.
    let refuses = namespace.uncaptured == Ok(Uncaptured::Refused);
    if choices.capture == Capture::Outboard && refuses && choices.uncaptured.is_none() {
        said.push((marks::UNCAPTURED, marks::BY_NAMESPACE));
    }
    let said = said.into_iter();
    said.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn addition(
    pod: &Pod<'_>,
    choices: &Choices,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> Addition {
    let Pod {
        template,
        annotations,
        sandbox,
    } = *pod;
    let service = checks::service(template);
    let proxy = sidecar::proxy(choices, settings, service);
    let mut addition = Addition {
        annotations: said(pod, choices, namespace, settings),
        init_containers: Vec::new(),
        containers: Vec::new(),
        volumes: sidecar::volumes(),
    };
    if choices.capture == Capture::Inboard {
        let in_gvisor = sandbox.is_some_and(|sandbox| sandbox.kind == sandbox::Kind::Gvisor);
        let rights = if in_gvisor {
            sidecar::RIGHTS_IN_GVISOR
        } else {
            sidecar::RIGHTS
        };
        let init = sidecar::init(choices, settings, service, rights);
        addition.init_containers.push(init);
    }
    match choices.form {
        Form::Native => addition.init_containers.push(proxy),
        Form::Classic => addition.containers.push(proxy),
    }
    let first = template["spec"]["containers"][0]["name"].as_str();
    if let Some(first) = first.filter(|_| !annotations.contains_key(marks::DEFAULT_CONTAINER)) {
        let more = [
            (marks::ADDED, "default-container"),
            (marks::DEFAULT_CONTAINER, first),
        ];
        let more = more.map(|(key, value)| (key.to_owned(), value.to_owned()));
        addition.annotations.extend(more);
    }
    addition
}

/// The operations that bring a pod's sidecar to the front again.
pub(crate) fn reorder(pod: &Value) -> Vec<Value> {
    let empty = Vec::new();
    let items = pod["spec"]["initContainers"].as_array().unwrap_or(&empty);
    let mut names: Vec<&str> = items
        .iter()
        .map(|item| item["name"].as_str().unwrap_or_default())
        .collect();
    let mut operations = Vec::new();
    let there = [INIT, PROXY].into_iter();
    let there: Vec<_> = there.filter(|name| names.contains(name)).collect();
    for (to, name) in there.into_iter().enumerate() {
        let Some(from) = names.iter().position(|other| *other == name) else {
            continue;
        };
        if from != to {
            let moved = names.remove(from);
            names.insert(to, moved);
            operations.push(json!({
                "op": "move",
                "from": format!("/spec/initContainers/{from}"),
                "path": format!("/spec/initContainers/{to}"),
            }));
        }
    }
    operations
}

// === impl NamespaceFacts ===

impl NamespaceFacts {
    /// Nothing but the name.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            wish: None,
            capture: None,
            uncaptured: Ok(Uncaptured::Allowed),
            security: PodSecurity::Privileged,
        }
    }

    /// What a Namespace's labels say.
    pub fn of(name: &str, labels: &Value) -> Self {
        let wish = match labels[marks::INJECT].as_str() {
            Some("enabled") => Some(Wish::Enabled),
            Some("disabled") => Some(Wish::Disabled),
            _ => None,
        };
        let security = match labels[marks::POD_SECURITY].as_str() {
            Some("baseline") => PodSecurity::Baseline,
            Some("restricted") => PodSecurity::Restricted,
            _ => PodSecurity::Privileged,
        };
        let uncaptured = match labels[marks::UNCAPTURED].as_str() {
            None | Some(marks::ALLOWED) => Ok(Uncaptured::Allowed),
            Some(marks::REFUSED) => Ok(Uncaptured::Refused),
            Some(other) => Err(other.to_owned()),
        };
        let capture = labels[marks::CAPTURE].as_str();
        let capture = capture.map(|word| word.parse().map_err(|_| word.to_owned()));
        Self {
            name: name.to_owned(),
            wish,
            capture,
            uncaptured,
            security,
        }
    }
}

#[cfg(test)]
mod tests;
