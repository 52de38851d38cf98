// SPDX-License-Identifier: Apache-2.0
//! `maille explain --capture`: how a pod of a cluster is captured, who chose that, and what a new pod in its place would be.
//!
//! The first two admission wrote on the pod; the last is decided by the functions of admission, on what the pod's owner would make now. Must
//! never guess what was chosen from what runs. Read `inject.rs` for what is asked of the cluster.

use std::process::ExitCode;

use maille_inject::{Asked, Decision, Kind, NamespaceFacts, Settings, decide};
use maille_manifest::marks::{CAPTURE, CAPTURE_BY, INJECTED};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::args::Output;
use crate::args::ask::Explain;
use crate::cluster::Cluster;
use crate::failure::Expected;
use crate::inject;
use crate::reach::Reach;
use crate::screen::{print, print_json};
use crate::shapes::text;
use crate::state::Base;
use crate::text::clean;

/// In which a meta-plugin of several networks writes a pod's interfaces (Network Plumbing Working Group's de-facto standard, section 3.3).
const NETWORKS: &str = "k8s.v1.cni.cncf.io/network-status";

/// What `-o json` writes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "PodCapture")]
pub(crate) struct Explained {
    /// Its namespace.
    namespace: String,
    /// Its name.
    pod: String,
    /// `outboard`, `inboard-cni`, `inboard` or `none`.
    capture: String,
    /// `pod`, `namespace`, `install`, `sandbox` (what it runs on); empty where it is not captured.
    chosen_by: String,
    /// The same in words, and what it means.
    why: String,
    /// Interfaces of the pod that are not captured.
    uncaptured: Vec<String>,
    /// How a new pod of the same owner would be captured; empty where nobody would make one.
    next: String,
    /// Who would choose that.
    next_by: String,
}

pub(super) async fn run(args: &Explain, pod: &str, base: &Base) -> anyhow::Result<ExitCode> {
    let Reach::Cluster(cluster) = Reach::find(&args.which, base).await? else {
        let what = "--capture is of clusters: on one machine every pod of the mesh is captured from outside, whatever it says";
        return Err(Expected::Refused {
            what: what.to_owned(),
            hint: None,
            wrong: true,
        }
        .into());
    };
    let namespace = args
        .namespace
        .as_deref()
        .unwrap_or_else(|| cluster.namespace());
    let name = pod.strip_prefix("pod/").unwrap_or(pod);
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let found = cluster.object(&path).await?;
    let found = found.ok_or_else(|| Expected::Unknown {
        what: format!("there is no pod {}/{}", clean(namespace), clean(name)),
        hint: "say which namespace with -n".to_owned(),
    })?;
    let mut said = explained(&found);
    if let Some(template) = template(&cluster, &found).await? {
        let settings = inject::settings(&cluster, &args.mesh_namespace).await?;
        let path = format!("/api/v1/namespaces/{namespace}");
        let labels = cluster.object(&path).await?.unwrap_or_default();
        let facts = NamespaceFacts::of(namespace, &labels["metadata"]["labels"]);
        (said.next, said.next_by) = next(&template, &facts, &settings);
    }
    match args.output {
        Output::Json => print_json(&said)?,
        Output::Table => print(&said.show())?,
    };
    Ok(ExitCode::SUCCESS)
}

/// What was written on the pod.
fn explained(pod: &Value) -> Explained {
    let annotations = &pod["metadata"]["annotations"];
    let said = annotations[CAPTURE].as_str();
    let capture = match (
        pod["spec"]["hostNetwork"] == true,
        said,
        annotations[INJECTED].is_string(),
    ) {
        (true, _, _) => "none",
        (false, Some("outboard"), _) => "outboard",
        (false, Some("inboard-cni"), true) => "inboard-cni",
        (false, _, true) => "inboard",
        (false, _, false) => "none",
    };
    let by = match (capture, annotations[CAPTURE_BY].as_str()) {
        ("none", _) => "",
        (_, Some(by)) => by,
        // Where nodes have no agents there was nothing to choose.
        (_, None) => "install",
    };
    let how = match capture {
        "outboard" => {
            "a proxy of its node stands between wire and pod; nothing of the mesh is in the pod"
        }
        "inboard-cni" => {
            "the proxy is in the pod, and its node wrote the rules; no container has a right for it"
        }
        "inboard" => "the proxy is in the pod, and an init container wrote the rules",
        _ => "the pod is not in the mesh",
    };
    let why = match by {
        "" => how.to_owned(),
        by => format!("{}: {how}", who(by)),
    };
    Explained {
        namespace: text(pod, "/metadata/namespace").to_owned(),
        pod: text(pod, "/metadata/name").to_owned(),
        capture: capture.to_owned(),
        chosen_by: by.to_owned(),
        why,
        uncaptured: uncaptured(capture, annotations),
        ..Explained::default()
    }
}

/// Who chose, in words.
fn who(by: &str) -> String {
    match by {
        "pod" => format!("the pod's annotation {CAPTURE} says so"),
        "namespace" => format!("its namespace's label {CAPTURE} says so"),
        "install" => "the mesh was installed so".to_owned(),
        "sandbox" => "what the pod runs on cannot be captured in the way that was chosen for pods that do not say".to_owned(),
        other => clean(other),
    }
}

/// Interfaces beside the one that is captured. Rules inside a pod hold for all of them.
fn uncaptured(capture: &str, annotations: &Value) -> Vec<String> {
    let networks = annotations[NETWORKS].as_str().unwrap_or_default();
    let networks: Vec<Value> = serde_json::from_str(networks).unwrap_or_default();
    if capture != "outboard" {
        return Vec::new();
    }
    let others = networks.iter().filter(|network| network["default"] != true);
    let names = others.filter_map(|network| network["interface"].as_str());
    names.map(str::to_owned).collect()
}

/// What the pod's owner makes pods of, where it has one that is still there.
async fn template(cluster: &Cluster, pod: &Value) -> Result<Option<Value>, Expected> {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let owner = owners
        .into_iter()
        .flatten()
        .find(|one| one["controller"] == true);
    let Some(owner) = owner else {
        return Ok(None);
    };
    let version = text(owner, "/apiVersion");
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = format!("{}s", text(owner, "/kind").to_ascii_lowercase());
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(owner, "/name"));
    let path = format!("/{root}/{version}/namespaces/{namespace}/{kind}/{name}");
    let owner = cluster.object(&path).await?.unwrap_or_default();
    let template = &owner["spec"]["template"];
    Ok(template.is_object().then(|| template.clone()))
}

/// How a pod of `template` would be captured, and who would choose that.
fn next(template: &Value, facts: &NamespaceFacts, settings: &Settings) -> (String, String) {
    let labels = &template["metadata"]["labels"];
    let mark = maille_manifest::marks::INJECT;
    let wanted = facts.wish.is_some() || labels[mark].is_string();
    if !wanted {
        return ("none".to_owned(), String::new());
    }
    match decide(template, Kind::Pod, Asked::Command, facts, settings) {
        Decision::Inject { addition, .. } => {
            let mut made = template.clone();
            addition.apply(&mut made);
            let made = explained(&made);
            (made.capture, made.chosen_by)
        }
        Decision::Untouched(_) | Decision::Reorder => {
            let there = explained(template);
            (there.capture, there.chosen_by)
        }
        Decision::Refused(refusals) => {
            let lines: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            (format!("refused: {}", lines.join("; ")), String::new())
        }
    }
}

// === impl Explained ===

impl Explained {
    fn show(&self) -> String {
        let mut text = format!(
            "{}/{} is captured: {}\n{}\n",
            clean(&self.namespace),
            clean(&self.pod),
            clean(&self.capture),
            self.why
        );
        if !self.uncaptured.is_empty() {
            let names: Vec<_> = self.uncaptured.iter().map(|name| clean(name)).collect();
            text.push_str(&format!("not captured: {}\n", names.join(", ")));
        }
        if !self.next.is_empty() && self.next != self.capture {
            let by = match self.next_by.as_str() {
                "" => String::new(),
                by => format!(" ({})", who(by)),
            };
            text.push_str(&format!(
                "a new pod in its place would be: {}{by}; this one stays as it is: another capture takes another pod (kubectl rollout restart)\n",
                clean(&self.next)
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use maille_inject::{Capture, Nodes};
    use serde_json::json;

    use super::*;

    fn pod(annotations: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": "web-1", "annotations": annotations},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
    }

    #[test]
    fn what_admission_wrote_is_said() {
        let networks = r#"[{"interface":"eth0","default":true},{"interface":"net1"}]"#;
        for (capture, by, said) in [
            ("outboard", "install", "the mesh was installed so"),
            ("inboard-cni", "namespace", "its namespace's label"),
            ("inboard", "pod", "the pod's annotation"),
            ("outboard", "sandbox", "what the pod runs on"),
        ] {
            let found = explained(&pod(
                json!({INJECTED: "1", CAPTURE: capture, CAPTURE_BY: by, NETWORKS: networks}),
            ));
            assert_eq!(
                (found.capture.as_str(), found.chosen_by.as_str()),
                (capture, by)
            );
            let text = found.show();
            assert!(text.contains(said), "{text}");
            assert_eq!(text.contains("not captured: net1"), capture == "outboard");
        }
        let none = explained(&pod(json!({CAPTURE: "inboard-cni"})));
        assert_eq!(
            (none.capture.as_str(), none.chosen_by.as_str()),
            ("none", "")
        );
        assert_eq!(explained(&pod(json!({INJECTED: "1"}))).chosen_by, "install");
    }

    #[test]
    fn a_change_takes_a_new_pod_and_that_is_said() {
        let control = "10.96.3.7:15010".parse().unwrap();
        let identity = "spiffe://cluster.local/ns/maille-system/sa/maille-control";
        let settings = Settings {
            nodes: Nodes::Agents(Capture::Outboard),
            ..Settings::new("1", "maille.io", control, identity.parse().unwrap()).unwrap()
        };
        let labels = json!({"maille.io/inject": "enabled", CAPTURE: "inboard-cni"});
        let facts = NamespaceFacts::of("shop", &labels);
        let mut found = explained(&pod(
            json!({INJECTED: "1", CAPTURE: "outboard", CAPTURE_BY: "install"}),
        ));
        (found.next, found.next_by) = next(&pod(json!({})), &facts, &settings);
        assert_eq!(found.next, "inboard-cni");
        let text = found.show();
        assert!(
            text.contains("a new pod in its place would be: inboard-cni"),
            "{text}"
        );
        found.next = "outboard".to_owned();
        assert!(!found.show().contains("a new pod"));
        let (refused, _) = next(&pod(json!({CAPTURE: "magic"})), &facts, &settings);
        assert!(refused.starts_with("refused: "), "{refused}");
        let outside = NamespaceFacts::unknown("shop");
        assert_eq!(next(&pod(json!({})), &outside, &settings).0, "none");
    }
}
