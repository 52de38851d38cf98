// SPDX-License-Identifier: Apache-2.0
//! What is made of a cluster's objects: one sentence a check, and a hint where somebody must act. Pure.

use std::collections::BTreeMap;

use maille_inject::install::Nodes;
use maille_manifest::marks::{INJECT, INJECTED};
use serde_json::Value;

use crate::api::Check;
use crate::shapes::{is_injected, text};
use crate::text::clean;

/// The first version whose kubelets have native sidecars by default.
const NATIVE_SIDECARS: (u32, u32) = (1, 29);
/// The first version that has policies of admission without a webhook, on which `maille install --cni` builds.
const POLICIES: &str = "1.30";
/// The first kernel whose nftables redirect in one table for both families.
const NFTABLES: (u32, u32) = (5, 2);
/// Names that are shown before the rest is counted.
const SHOWN: usize = 5;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    category: &'static str,
    name: String,
    pub(super) ok: bool,
    message: String,
    hint: &'static str,
    /// The hint is said also where it is well.
    warns: bool,
}

// === impl Line ===

impl Line {
    pub(super) fn new(
        category: &'static str,
        name: impl Into<String>,
        trouble: &[String],
        hint: &'static str,
    ) -> Self {
        let shown = trouble.iter().take(SHOWN).map(|one| clean(one));
        let mut message = shown.collect::<Vec<_>>().join("; ");
        if trouble.len() > SHOWN {
            message.push_str(&format!("; and {} more", trouble.len() - SHOWN));
        }
        Self {
            category,
            name: name.into(),
            ok: trouble.is_empty(),
            message,
            hint,
            warns: false,
        }
    }

    /// The same where trouble is no failure: it is said, with what can be done.
    pub(super) fn warned(
        category: &'static str,
        name: impl Into<String>,
        trouble: &[String],
        hint: &'static str,
    ) -> Self {
        Self {
            ok: true,
            warns: !trouble.is_empty(),
            ..Self::new(category, name, trouble, hint)
        }
    }

    pub(super) fn check(self) -> Check {
        Check {
            category: self.category.to_owned(),
            name: self.name,
            ok: self.ok,
            message: Some(self.message).filter(|text| !text.is_empty()),
            hint: (!self.ok || self.warns).then(|| self.hint.to_owned()),
        }
    }
}

/// `v1.29.3-gke.1` or `5.15.0-91-generic` as two numbers.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn full_name(object: &Value) -> String {
    let (namespace, name) = (
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name"),
    );
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

pub(super) fn version(server: &str, version: &Value) -> Line {
    let found = text(version, "/gitVersion");
    let old = numbers(found).is_none_or(|numbers| numbers < NATIVE_SIDECARS);
    let trouble = old.then(|| format!("the API server at {server} has version {found:?}"));
    let name = format!(
        "the API server answers and is new enough ({})",
        clean(found)
    );
    let hint =
        "use Kubernetes 1.29 or newer, or classic sidecars (annotation maille.io/sidecar: classic)";
    Line::new("cluster", name, trouble.as_slice(), hint)
}

/// Whether `resources`, those of `admissionregistration.k8s.io/v1`, hold what keeps people from changing what admission wrote.
pub(super) fn kept(version: &Value, resources: Option<&Value>, nodes: Nodes) -> Line {
    let all = resources.and_then(|list| list["resources"].as_array());
    let mut all = all.into_iter().flatten();
    let missing = !all.any(|one| one["name"] == "validatingadmissionpolicies");
    let trouble = missing.then(|| {
        format!(
            "the API server has version {}, and ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1) is not there: \
             nodes' agents need Kubernetes {POLICIES} or newer",
            text(version, "/gitVersion")
        )
    });
    let hint = "use Kubernetes 1.30 or newer for `maille install --cni`; `maille install` alone works without it";
    let line = match nodes {
        Nodes::Agents(_) => Line::new,
        // Who installs without agents does not need it.
        Nodes::Bare => Line::warned,
    };
    line(
        "cluster",
        "the API server can keep what admission wrote",
        trouble.as_slice(),
        hint,
    )
}

fn linux(nodes: &[Value]) -> impl Iterator<Item = &Value> {
    let is_linux = |node: &&Value| text(node, "/status/nodeInfo/operatingSystem") != "windows";
    nodes.iter().filter(is_linux)
}

pub(super) fn kubelets(nodes: &[Value]) -> Line {
    let old = |node: &&Value| {
        let version = text(node, "/status/nodeInfo/kubeletVersion");
        numbers(version).is_none_or(|numbers| numbers < NATIVE_SIDECARS)
    };
    let say = |node: &Value| {
        format!(
            "{} has {}",
            full_name(node),
            text(node, "/status/nodeInfo/kubeletVersion")
        )
    };
    let trouble: Vec<_> = linux(nodes).filter(old).map(say).collect();
    let hint = "use kubelets of 1.29 or newer, or classic sidecars on those nodes (annotation maille.io/sidecar: classic)";
    Line::new(
        "cluster",
        "every node knows native sidecars",
        &trouble,
        hint,
    )
}

pub(super) fn kernels(nodes: &[Value]) -> Line {
    let old = |node: &&Value| {
        let version = text(node, "/status/nodeInfo/kernelVersion");
        numbers(version).is_none_or(|numbers| numbers < NFTABLES)
    };
    let say = |node: &Value| {
        format!(
            "{} has {}",
            full_name(node),
            text(node, "/status/nodeInfo/kernelVersion")
        )
    };
    let mut trouble: Vec<_> = linux(nodes).filter(old).map(say).collect();
    if linux(nodes).next().is_none() {
        trouble.push("there is no node with Linux".to_owned());
    }
    let hint = "use Linux 5.2 or newer: pods on such a node would not start, because they cannot be captured";
    Line::new("cluster", "every node's kernel can capture", &trouble, hint)
}

/// Cilium may replace a service's address before the pod's own network sees it: the proxy would not know the service.
pub(super) fn cilium(config: Option<&Value>) -> Line {
    let set = |key: &str| config.is_some_and(|config| config["data"][key] == "true");
    // Before Cilium 1.14 the replacement had a word for its strength, and the other setting another name.
    let replaces = config.map(|config| text(config, "/data/kube-proxy-replacement"));
    let early = set("bpf-lb-sock")
        || set("enable-host-reachable-services")
        || matches!(replaces, Some("true" | "strict"));
    let trouble = (early && !set("bpf-lb-sock-hostns-only")).then(|| {
        "Cilium resolves service addresses inside pods (ConfigMap kube-system/cilium-config)"
            .to_owned()
    });
    let hint = "set Cilium's socketLB.hostNamespaceOnly=true (bpf-lb-sock-hostns-only) and restart its agents";
    Line::new(
        "cluster",
        "service addresses reach the proxies",
        trouble.as_slice(),
        hint,
    )
}

/// The same of Calico, whose own replacement of kube-proxy does it unless it is told not to.
pub(super) fn calico(config: Option<&Value>) -> Line {
    let spec = config.map_or(&Value::Null, |config| &config["spec"]);
    let early = match spec["bpfConnectTimeLoadBalancing"].as_str() {
        Some(which) => which != "Disabled",
        None => spec["bpfConnectTimeLoadBalancingEnabled"] != false,
    };
    let trouble = (spec["bpfEnabled"] == true && early).then(|| {
        "Calico resolves service addresses inside pods (FelixConfiguration default)".to_owned()
    });
    let hint = "set bpfConnectTimeLoadBalancing to Disabled in FelixConfiguration default (bpfConnectTimeLoadBalancingEnabled to false before Calico 3.27)";
    Line::new(
        "cluster",
        "Calico leaves service addresses to the proxies",
        trouble.as_slice(),
        hint,
    )
}

/// Cilium takes configurations of others away from its nodes, unless it is told not to.
pub(super) fn exclusive(config: Option<&Value>) -> Line {
    let trouble = config.and_then(|config| {
        (config["data"]["cni-exclusive"] != "false").then(|| {
            "Cilium renames every other CNI configuration on its nodes (cni-exclusive in ConfigMap kube-system/cilium-config)".to_owned()
        })
    });
    let hint = "set Cilium's cni.exclusive=false before `maille install --cni`: until then it takes the agents' configuration away again and again";
    Line::warned(
        "cluster",
        "nodes keep the mesh's CNI configuration",
        trouble.as_slice(),
        hint,
    )
}

pub(super) fn rights(missing: &[&str]) -> Line {
    let trouble: Vec<_> = missing
        .iter()
        .map(|one| format!("you may not create {one}"))
        .collect();
    let hint = "let somebody with the role cluster-admin install, or choose another --context";
    Line::new("rights", "you may install a mesh", &trouble, hint)
}

pub(super) fn not_yet(config: Option<&Value>) -> Line {
    let trouble =
        config.map(|config| format!("version {} is installed", text(config, "/data/version")));
    let hint = "use `maille upgrade`, and `maille check` without --pre";
    Line::new("mesh", "there is no mesh yet", trouble.as_slice(), hint)
}

pub(super) fn client(config: &BTreeMap<String, String>) -> Line {
    let (own, server) = (
        env!("CARGO_PKG_VERSION"),
        config.get("version").map_or("", String::as_str),
    );
    let trouble = (own != server).then(|| format!("this program is {own}, the mesh is {server}"));
    let hint = "use `maille upgrade | kubectl apply -f -`, or the program of that version";
    Line::new(
        "mesh",
        "this program and the mesh have one version",
        trouble.as_slice(),
        hint,
    )
}

pub(super) fn control(deployment: Option<&Value>) -> Line {
    let trouble = match deployment {
        None => Some("Deployment maille-control is gone".to_owned()),
        Some(deployment) => {
            let count = |pointer: &str| {
                deployment
                    .pointer(pointer)
                    .and_then(Value::as_u64)
                    .unwrap_or(0)
            };
            let (ready, wanted) = (count("/status/readyReplicas"), count("/spec/replicas"));
            (ready < wanted || wanted == 0)
                .then(|| format!("{ready} of {wanted} replicas are ready"))
        }
    };
    let hint = "see `kubectl describe pods -n maille-system` and `kubectl logs -n maille-system deploy/maille-control`";
    Line::new("mesh", "control is ready", trouble.as_slice(), hint)
}

/// Both configurations, by their names.
pub(super) fn webhooks(configs: &[(&str, Option<Value>)]) -> Line {
    let troubles = configs
        .iter()
        .flat_map(|(name, config)| webhook(name, config.as_ref()));
    let hint = "control writes the authority when it starts; apply `maille install` again where the object was changed";
    let trouble: Vec<_> = troubles.collect();
    Line::new("mesh", "the webhooks are in force", &trouble, hint)
}

/// What is wrong with one of them.
fn webhook(name: &str, config: Option<&Value>) -> Vec<String> {
    match config {
        None => vec![format!("the webhook configuration {name} is gone")],
        Some(config) => {
            let webhooks = config["webhooks"].as_array().into_iter().flatten();
            let troubles = webhooks.flat_map(|webhook| {
                let name = text(webhook, "/name");
                let bundle = text(webhook, "/clientConfig/caBundle");
                let lax = text(webhook, "/failurePolicy") != "Fail";
                [
                    bundle.is_empty().then(|| format!("{name} has no certificate authority yet")),
                    lax.then(|| format!("{name} lets pods pass outside the mesh when control does not answer (failurePolicy)")),
                ]
            });
            troubles.flatten().collect()
        }
    }
}

pub(super) fn api(service: Option<&Value>) -> Line {
    let trouble = match service {
        None => Some("APIService v1.api.maille.io is gone".to_owned()),
        Some(service) => {
            let conditions = service["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten();
            let available = conditions
                .into_iter()
                .find(|one| one["type"] == "Available");
            match available {
                Some(condition) if condition["status"] == "True" => None,
                Some(condition) => Some(text(condition, "/message").to_owned()),
                None => Some("the API server has not asked it yet".to_owned()),
            }
        }
    };
    let hint = "see `kubectl get apiservice v1.api.maille.io -o yaml`: the API server must reach control's port 8443";
    Line::new("mesh", "the mesh's API answers", trouble.as_slice(), hint)
}

/// What a pod or its namespace says.
fn wish<'v>(pod: &'v Value, namespaces: &'v [Value]) -> &'v str {
    let own = pod["metadata"]["labels"][INJECT].as_str();
    let namespace = text(pod, "/metadata/namespace");
    let found = namespaces
        .iter()
        .find(|one| text(one, "/metadata/name") == namespace);
    let theirs = found.and_then(|one| one["metadata"]["labels"][INJECT].as_str());
    own.or(theirs).unwrap_or_default()
}

/// Labels where the webhook does not look.
pub(super) fn excluded(namespaces: &[Value], pods: &[Value], mesh: &str) -> Line {
    let out = |name: &str| is_excluded(name, mesh);
    let mut trouble = Vec::new();
    for namespace in namespaces
        .iter()
        .filter(|one| out(text(one, "/metadata/name")))
    {
        if namespace["metadata"]["labels"][INJECT] == "enabled" {
            trouble.push(format!("namespace {}", full_name(namespace)));
        }
    }
    for pod in pods
        .iter()
        .filter(|one| out(text(one, "/metadata/namespace")))
    {
        if pod["metadata"]["labels"][INJECT] == "enabled" && !is_injected(pod) {
            trouble.push(format!("pod {}", full_name(pod)));
        }
    }
    let hint = "the webhook leaves these namespaces alone, so that the cluster can start without the mesh: use `maille inject` there";
    Line::new(
        "pods",
        "no label asks for a sidecar where none is given",
        &trouble,
        hint,
    )
}

/// Labels of namespaces that mean nothing; of pods the webhook refuses them.
pub(super) fn labels(namespaces: &[Value]) -> Line {
    let senseless = |namespace: &&Value| {
        let label = &namespace["metadata"]["labels"][INJECT];
        !label.is_null() && label != "enabled" && label != "disabled"
    };
    let say = |namespace: &Value| {
        let label = &namespace["metadata"]["labels"][INJECT];
        format!("namespace {} has {label}", full_name(namespace))
    };
    let trouble: Vec<_> = namespaces.iter().filter(senseless).map(say).collect();
    let hint = "set the label maille.io/inject to enabled or disabled: with anything else nothing is injected";
    Line::new(
        "pods",
        "every label of the mesh makes sense",
        &trouble,
        hint,
    )
}

fn is_excluded(namespace: &str, mesh: &str) -> bool {
    namespace == mesh || ["kube-system", "kube-node-lease"].contains(&namespace)
}

/// Pods that should have a sidecar, and have none.
pub(super) fn outside(namespaces: &[Value], pods: &[Value], mesh: &str) -> Line {
    let lost = |pod: &&Value| {
        let ended = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
        let out = is_excluded(text(pod, "/metadata/namespace"), mesh);
        let host = pod["spec"]["hostNetwork"] == true;
        wish(pod, namespaces) == "enabled" && !is_injected(pod) && !ended && !out && !host
    };
    let trouble: Vec<_> = pods.iter().filter(lost).map(full_name).collect();
    let hint = "they were made before the label was there: restart what made them (kubectl rollout restart)";
    Line::new(
        "pods",
        "every pod that is meant for the mesh is in it",
        &trouble,
        hint,
    )
}

/// Sidecars of another version.
pub(super) fn versions(pods: &[Value], config: &BTreeMap<String, String>) -> Line {
    let wanted = config.get("version").map_or("", String::as_str);
    let old = |pod: &&Value| {
        let version = pod["metadata"]["annotations"][INJECTED].as_str();
        version.is_some_and(|version| version != wanted)
    };
    let trouble: Vec<_> = pods.iter().filter(old).map(full_name).collect();
    let hint = "restart what made them (kubectl rollout restart)";
    Line::new(
        "pods",
        "every sidecar has the mesh's version",
        &trouble,
        hint,
    )
}

#[cfg(test)]
mod tests;
