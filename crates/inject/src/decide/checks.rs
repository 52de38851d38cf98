// SPDX-License-Identifier: Apache-2.0
//! Everything that can be seen to be wrong with a pod that is to have a sidecar. Each check knows one thing.

use maille_manifest::marks;
use serde_json::{Map, Value};

use super::{NamespaceFacts, PodSecurity};
use crate::choices::{By, Choices, Form, path, type_of};
use crate::names::{INIT, OTHER_MESHES, OTHER_WISHES, PROXY, PROXY_UID, TAKEN_PORTS, TOKEN, TRUST};
use crate::refusal::{Cause, Refusal};
use crate::sandbox::{self, Kind as Kernel, Sandbox};
use crate::settings::{Capture, Nodes};
use crate::sidecar::Service;
use crate::workload::Kind;

/// How much of a sidecar is there.
pub(super) enum Presence {
    None,
    Whole,
    Half(Refusal),
}

/// The annotations, where everything that is looked at has the right shape.
pub(super) fn shape(template: &Value) -> Result<Map<String, Value>, Refusal> {
    let wrong = |path: &str, value: &Value, expected| {
        let found = type_of(value);
        Err(Refusal::new(path, Cause::Type { found, expected }))
    };
    if !template.is_object() {
        return wrong("", template, "a map with metadata and spec of the pods");
    }
    for (path, value) in [
        ("metadata", &template["metadata"]),
        ("metadata.labels", &template["metadata"]["labels"]),
        ("metadata.annotations", &template["metadata"]["annotations"]),
    ] {
        if !value.is_object() && !value.is_null() {
            return wrong(path, value, "a map");
        }
    }
    let spec = &template["spec"];
    if !spec.is_object() {
        return wrong("spec", spec, "a map with the pod's containers");
    }
    for key in ["initContainers", "containers", "volumes"] {
        let Some(items) = spec.get(key).filter(|value| !value.is_null()) else {
            continue;
        };
        let Some(items) = items.as_array() else {
            return wrong(&format!("spec.{key}"), items, "a list");
        };
        for (index, item) in items.iter().enumerate() {
            if !item["name"].is_string() {
                let what = "each has a name";
                let path = format!("spec.{key}[{index}].name");
                return Err(Refusal::new(path, Cause::Missing { what }));
            }
        }
    }
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        let what = "a pod has at least one container";
        return Err(Refusal::new("spec.containers", Cause::Missing { what }));
    }
    let annotations = template["metadata"]["annotations"].as_object();
    Ok(annotations.cloned().unwrap_or_default())
}

/// Every container, with its path.
fn containers(template: &Value) -> impl Iterator<Item = (String, &Value)> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|key| {
            let items = template["spec"][key].as_array().into_iter().flatten();
            let items = items.enumerate();
            items.map(move |(index, item)| (format!("spec.{key}[{index}]"), item))
        })
}

fn position(template: &Value, key: &str, name: &str) -> Option<usize> {
    let items = template["spec"][key].as_array()?;
    items.iter().position(|item| item["name"] == name)
}

pub(super) fn presence(template: &Value) -> Presence {
    let native = position(template, "initContainers", PROXY);
    let classic = position(template, "containers", PROXY);
    let place = |key: &str, index: usize, name: &str| {
        (format!("spec.{key}[{index}].name"), name.to_owned())
    };
    let init = position(template, "initContainers", INIT);
    let init = init.map(|at| place("initContainers", at, INIT));
    // Where the node writes the rules there is no container that does, and one that is there was not put in with the rest.
    let is_by_agent =
        template["metadata"]["annotations"][marks::CAPTURE] == Capture::InboardCni.word();
    if let (true, Some((path, name))) = (is_by_agent, &init) {
        let name = name.clone();
        return Presence::Half(Refusal::new(path, Cause::Half { name }));
    }
    let mut parts = vec![
        native
            .map(|at| place("initContainers", at, PROXY))
            .or_else(|| classic.map(|at| place("containers", at, PROXY))),
        position(template, "volumes", TRUST.0).map(|at| place("volumes", at, TRUST.0)),
        position(template, "volumes", TOKEN.0).map(|at| place("volumes", at, TOKEN.0)),
    ];
    if !is_by_agent {
        parts.insert(0, init);
    }
    let twice = native.is_some() && classic.is_some();
    let all = parts.iter().all(Option::is_some);
    match parts.into_iter().flatten().next() {
        None => Presence::None,
        Some(_) if all && !twice => Presence::Whole,
        Some((path, name)) => Presence::Half(Refusal::new(path, Cause::Half { name })),
    }
}

/// What is not where it was put.
pub(super) fn order(template: &Value) -> Option<Refusal> {
    let wrong = |at: usize, name| {
        let path = format!("spec.initContainers[{at}].name");
        Some(Refusal::new(path, Cause::Order { name }))
    };
    match position(template, "initContainers", INIT) {
        Some(0) | None => {}
        Some(at) => return wrong(at, INIT),
    }
    let init = position(template, "initContainers", INIT);
    let first = init.map_or(0, |_| 1);
    match position(template, "initContainers", PROXY) {
        None => None,
        Some(at) if at == first => None,
        Some(at) => wrong(at, PROXY),
    }
}

/// Why a sidecar without a container that captures would not be captured.
pub(super) fn by_agent(
    template: &Value,
    annotations: &Map<String, Value>,
    nodes: Nodes,
) -> Option<Refusal> {
    if position(template, "initContainers", INIT).is_some() {
        return None;
    }
    if nodes == Nodes::Bare {
        let value = Capture::InboardCni.to_string();
        return Some(Refusal::new(
            path(marks::CAPTURE),
            Cause::Outboard { value },
        ));
    }
    let is_required = annotations.contains_key(marks::REQUIRED_PLUGINS);
    let gone = (!is_required).then(|| Refusal::new(path(marks::REQUIRED_PLUGINS), Cause::Gone));
    gone.or_else(|| plugins(annotations).into_iter().next())
}

pub(super) fn other_meshes(template: &Value) -> Vec<Refusal> {
    let other = |(path, container): (String, &Value)| {
        let name = container["name"].as_str()?;
        let (_, mesh) = OTHER_MESHES.iter().find(|(other, _)| *other == name)?;
        Some(Refusal::new(
            format!("{path}.name"),
            Cause::OtherMesh { mesh },
        ))
    };
    containers(template).filter_map(other).collect()
}

pub(super) fn users(template: &Value) -> Vec<Refusal> {
    let field = "securityContext.runAsUser";
    let is_proxys = |value: &Value| value["securityContext"]["runAsUser"] == PROXY_UID;
    let own = |(path, container): (String, &Value)| {
        is_proxys(container).then(|| Refusal::new(format!("{path}.{field}"), Cause::ProxyUser))
    };
    let mut refusals: Vec<_> = containers(template).filter_map(own).collect();
    let inherits = |container: &Value| container["securityContext"]["runAsUser"].is_null();
    if is_proxys(&template["spec"]) && containers(template).any(|(_, one)| inherits(one)) {
        refusals.push(Refusal::new(format!("spec.{field}"), Cause::ProxyUser));
    }
    refusals
}

pub(super) fn ports(template: &Value) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (path, container) in containers(template) {
        let ports = container["ports"].as_array().into_iter().flatten();
        for (index, port) in ports.enumerate() {
            // UDP is not captured: there the numbers are free.
            let tcp = port["protocol"].as_str().is_none_or(|name| name == "TCP");
            let number = &port["containerPort"];
            let taken = TAKEN_PORTS.into_iter().find(|taken| *number == *taken);
            if let (true, Some(port)) = (tcp, taken) {
                let path = format!("{path}.ports[{index}].containerPort");
                refusals.push(Refusal::new(path, Cause::TakenPort { port }));
            }
        }
    }
    refusals
}

/// What a namespace says of interfaces that nobody captures.
pub(super) fn uncaptured(namespace: &NamespaceFacts) -> Option<Refusal> {
    let value = namespace.uncaptured.as_ref().err()?;
    let path = format!(
        "namespace {}: metadata.labels.{}",
        namespace.name,
        marks::UNCAPTURED
    );
    let cause = Cause::Malformed {
        value: value.chars().take(80).collect(),
        expected: "one of allowed and refused",
    };
    Some(Refusal::new(path, cause))
}

pub(super) fn security(namespace: &NamespaceFacts, sandbox: Option<&Sandbox>) -> Option<Refusal> {
    let level = match namespace.security {
        PodSecurity::Privileged => return None,
        PodSecurity::Baseline => "baseline",
        PodSecurity::Restricted => "restricted",
    };
    let namespace = namespace.name.clone();
    let or = match sandbox {
        Some(sandbox) if sandbox.kind.is_closed() => "",
        _ => {
            ", or have the node capture (maille.io/capture: inboard-cni or outboard, which take the agents of maille install --cni)"
        }
    };
    let cause = Cause::PodSecurity {
        namespace,
        level,
        or,
    };
    Some(Refusal::new("spec.initContainers", cause))
}

pub(super) fn ends(template: &Value, kind: Kind, form: Form) -> Option<Refusal> {
    let owners = template["metadata"]["ownerReferences"].as_array();
    let by_job = owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "Job"));
    let kind = match kind {
        kind if kind.ends() => kind.word(),
        _ if by_job => "job's pod",
        _ => return None,
    };
    let path = path(marks::SIDECAR);
    (form == Form::Classic).then(|| Refusal::new(path, Cause::ClassicEnds { kind }))
}

/// The class that the pod has without a sidecar.
pub(super) fn service(template: &Value) -> Service {
    let guaranteed = |(_, container): (String, &Value)| {
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = &container["resources"]["limits"][name];
            let request = &container["resources"]["requests"][name];
            !limit.is_null() && (request.is_null() || request == limit)
        })
    };
    if containers(template).all(guaranteed) {
        Service::Guaranteed
    } else {
        Service::Other
    }
}

/// What no sandbox has, and what says twice where the pod runs.
pub(super) fn sandboxed(
    template: &Value,
    annotations: &Map<String, Value>,
    sandbox: Option<&Sandbox>,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let untrusted = annotations.get(sandbox::UNTRUSTED);
    if let (Some(class), true) = (
        sandbox::class(template),
        untrusted.is_some_and(|value| value == "true"),
    ) {
        let class = class.chars().take(80).collect();
        let cause = Cause::UntrustedTwice { class };
        refusals.push(Refusal::new(path(sandbox::UNTRUSTED), cause));
    }
    // Whatever its class is called: who runs Kata knows.
    for (key, values) in sandbox::WIRED {
        let said = annotations.get(key).and_then(Value::as_str);
        if let Some(said) = said.filter(|said| !values.contains(said)) {
            let value = said.chars().take(40).collect();
            refusals.push(Refusal::new(path(key), Cause::PastNetwork { value }));
        }
    }
    let Some(sandbox) = sandbox.map(ToString::to_string) else {
        return refusals;
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if template["spec"][field] == true {
            let sandbox = sandbox.clone();
            let cause = Cause::Shared { sandbox };
            refusals.push(Refusal::new(format!("spec.{field}"), cause));
        }
    }
    refusals
}

/// How the pod is captured: what people or the installation chose, where its sandbox can be captured so.
pub(super) fn captured(
    choices: Choices,
    nodes: Nodes,
    sandbox: Option<&Sandbox>,
) -> Result<Choices, Vec<Refusal>> {
    let Some(sandbox) = sandbox else {
        return Ok(choices);
    };
    let can = |capture| match capture {
        Capture::Outboard => !sandbox.kind.is_closed(),
        // Its packets pass the node's packet filter by.
        Capture::InboardCni => false,
        // Only its owner can know that its node's gVisor lets a container change its packet filter.
        Capture::Inboard => sandbox.kind != Kernel::Gvisor || choices.by == By::Pod,
    };
    if can(choices.capture) {
        return Ok(choices);
    }
    let others = [Capture::Outboard, Capture::Inboard];
    let other = others
        .into_iter()
        .find(|other| can(*other) && nodes.can(*other));
    let is_free = choices.by != By::Pod;
    if let (true, Some(capture)) = (is_free, other) {
        let by = By::Sandbox;
        return Ok(Choices {
            capture,
            by,
            ..choices
        });
    }
    let sandbox = sandbox.to_string();
    let cause = match choices.capture {
        Capture::Outboard => Cause::Closed { sandbox },
        Capture::InboardCni => Cause::OwnKernel { sandbox },
        Capture::Inboard => Cause::NoRules { sandbox },
    };
    Err(vec![Refusal::new(path(marks::CAPTURE), cause)])
}

/// Containers that think they have their node's rights.
fn privileged(template: &Value, sandbox: Option<&Sandbox>) -> Vec<String> {
    let Some(sandbox) = sandbox else {
        return Vec::new();
    };
    let what = match sandbox.kind {
        Kernel::Gvisor => "gVisor has few of them",
        _ => "Kata plugs each into its VM, or fails",
    };
    let all = containers(template)
        .filter(|(_, container)| container["securityContext"]["privileged"] == true);
    let warn = |(path, container): (String, &Value)| {
        let name = container["name"].as_str().unwrap_or_default();
        let name: String = name.chars().take(40).collect();
        format!(
            "{path}: {name:?} is privileged under {sandbox}: containerd hands it every device of the node \
             (unless privileged_without_host_devices), {what}: name capabilities instead"
        )
    };
    all.map(warn).collect()
}

/// A sidecar where only some nodes let one be.
fn raw(sandbox: Option<&Sandbox>) -> Option<String> {
    let sandbox = sandbox.filter(|sandbox| sandbox.kind == Kernel::Gvisor)?;
    let path = path(marks::CAPTURE);
    Some(format!(
        "{path}: a sidecar in {sandbox} needs a node that runs it with net-raw; on others maille-init fails and says so, and the pod never \
         begins"
    ))
}

/// What asks another mesh for a sidecar, which may not be there to hear it.
fn other_wishes(template: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, values, mesh) in OTHER_WISHES {
        for place in ["labels", "annotations"] {
            let value = template["metadata"][place][key].as_str();
            if value.is_some_and(|value| values.contains(&value)) {
                warnings.push(format!(
                    "metadata.{place}.{key}: asks for a sidecar of {mesh} too: where that mesh is installed, this pod is refused; take this out"
                ));
            }
        }
    }
    warnings
}

/// Whether room for more than its containers is declared: by its RuntimeClass, whose overhead the API server writes before it asks anybody, or for
/// the pod as a whole (KEP-688, KEP-2837).
pub(super) fn has_room(template: &Value) -> bool {
    let spec = &template["spec"];
    let some = |value: &Value| value.as_object().is_some_and(|map| !map.is_empty());
    some(&spec["overhead"])
        || ["requests", "limits"]
            .iter()
            .any(|key| some(&spec["resources"][key]))
}

/// Ports that would not be captured, where all are.
pub(super) fn skipped(choices: &Choices) -> impl Iterator<Item = Refusal> {
    let both = [
        (marks::SKIP_INBOUND, &choices.skip_inbound),
        (marks::SKIP_OUTBOUND, &choices.skip_outbound),
    ];
    let some = both.into_iter().filter(|(_, ports)| !ports.is_empty());
    some.map(|(key, _)| Refusal::new(path(key), Cause::PortsOutboard))
}

/// Annotations that would have the runtime let containers begin without the node's agent: those of a container win over the pod's.
pub(super) fn plugins(annotations: &Map<String, Value>) -> Vec<Refusal> {
    let agrees = |value: &Value| {
        let list = value.as_str().map(serde_json::from_str::<Vec<String>>);
        matches!(list, Some(Ok(names)) if names.iter().any(|name| name == "maille"))
    };
    let ours = annotations.iter().filter(|(key, _)| {
        let rest = key.strip_prefix(marks::REQUIRED_PLUGINS);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let wrong = ours.filter(|(_, value)| !agrees(value));
    let refusal = |(key, value): (&String, &Value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let value = text.chars().take(80).collect();
        Refusal::new(path(key), Cause::Plugins { value })
    };
    wrong.map(refusal).collect()
}

/// The same as [`warnings`] for a pod in which there is nothing of the mesh.
pub(super) fn outboard_warnings(
    template: &Value,
    choices: &Choices,
    sandbox: Option<&Sandbox>,
) -> Vec<String> {
    let mut warnings = privileged(template, sandbox);
    warnings.extend(other_wishes(template));
    for (key, share) in [
        (marks::CPU_REQUEST, &choices.cpu.request),
        (marks::CPU_LIMIT, &choices.cpu.limit),
        (marks::MEMORY_REQUEST, &choices.memory.request),
        (marks::MEMORY_LIMIT, &choices.memory.limit),
    ] {
        if share.is_some() {
            warnings.push(format!(
                "{}: the proxy is the node's here, not the pod's: this has no effect",
                path(key)
            ));
        }
    }
    warnings
}

/// What works, but not as its owner may think.
pub(super) fn warnings(template: &Value, form: Form, sandbox: Option<&Sandbox>) -> Vec<String> {
    let mut warnings = privileged(template, sandbox);
    warnings.extend(raw(sandbox));
    warnings.extend(other_wishes(template));
    let restarts = template["spec"]["restartPolicy"]
        .as_str()
        .is_none_or(|policy| policy == "Always");
    if form == Form::Classic && !restarts {
        warnings.push(
            "metadata.annotations.maille.io/sidecar: a classic sidecar does not end when the others do: this pod will not complete"
                .to_owned(),
        );
    }
    warnings
}
