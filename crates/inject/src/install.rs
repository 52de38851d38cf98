// SPDX-License-Identifier: Apache-2.0
//! The objects of a mesh on Kubernetes, in an order in which they can be applied. The same options give the same bytes, and no key is
//! among them: control makes those in the cluster.
//!
//! Every pod here passes the *restricted* Pod Security Standard; every right has its reason beside it. Read `rbac.rs` for the rights.

use std::collections::BTreeMap;

use maille_model::{Name, TrustDomain};
use serde_json::{Map, Value, json};

use crate::emit::{self, COMMENT};
pub use crate::settings::Nodes;
use crate::settings::{Capture, SettingsError, image};

mod beside;
/// The Helm chart.
pub mod chart;
mod control;
mod node;
mod policy;
mod rbac;
mod webhook;

/// What control's objects are called, all of them.
pub const CONTROL: &str = "maille-control";
/// The ConfigMap with the options of an installation.
pub const CONFIG: &str = "maille-config";
/// The port at which proxies reach control.
pub const GRPC_PORT: u16 = 15_010;
/// Where the agent of a node answers for itself, at the node's address: to the kubelet, to who counts, and to `maille check`.
pub const NODE_PORT: u16 = 15_020;
/// What tells an agent to let its node be as it was.
pub const LEAVE: &str = "--leave";
/// What tells it to leave the node's configuration alone.
const NO_CHAIN: &str = "--no-chain";
/// Where control answers for itself, to whom dials it rather than the proxy in front of it.
const HEALTH_PORT: u16 = 8_081;
/// The label by which every object of an installation is found, and its value.
pub const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "maille");

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which version of the images.
    pub version: String,
    /// Where the mesh's own objects are.
    pub namespace: Name,
    /// What the images' names begin with.
    pub image_prefix: String,
    /// Who vouches for identities.
    pub trust_domain: TrustDomain,
    /// How control runs.
    pub control: Replicas,
    /// Who captures pods.
    pub nodes: Nodes,
    /// Whether agents chain the plugin into their nodes' own configurations. Else pods name it as a network of theirs.
    pub chain: bool,
}

/// What the mesh's pods run.
struct Images {
    control: String,
    proxy: String,
    node: String,
}

/// How control runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replicas {
    /// Once: while it is gone pods run on, and none begins.
    #[default]
    One,
    /// Three times, on nodes apart.
    Three,
}

/// Why a [`CONFIG`] is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Something is not there.
    #[error("ConfigMap {CONFIG} has no {0}: it is not what `maille install` wrote")]
    Missing(&'static str),
    /// Something is not what it should be.
    #[error("ConfigMap {CONFIG} has {key} {value:?}, which makes no sense")]
    Wrong {
        /// What.
        key: &'static str,
        /// As it is.
        value: String,
    },
}

/// The objects, in the order in which they are applied.
pub fn objects(options: &Options) -> Result<Vec<Value>, SettingsError> {
    let image = |name: &str| image(&options.image_prefix, name, &options.version);
    let images = Images {
        control: image("control")?,
        proxy: image("proxy")?,
        node: image("node")?,
    };
    let mut objects = vec![namespace(options)];
    objects.extend(rbac::objects(options));
    objects.push(config(options));
    objects.extend(control::objects(options, &images));
    if options.nodes != Nodes::Bare {
        objects.extend(policy::objects());
        objects.extend(node::objects(options, &images.node));
    }
    objects.extend(webhook::objects(options));
    Ok(objects)
}

/// The agents of nodes as they let their nodes be as they were before the mesh, where there are agents.
pub fn leaving(options: &Options) -> Result<Option<Value>, SettingsError> {
    let mut agents = objects(options)?
        .into_iter()
        .find(|object| object["kind"] == "DaemonSet");
    let args = agents
        .as_mut()
        .and_then(|set| set.pointer_mut("/spec/template/spec/containers/0/args"));
    if let Some(Value::Array(args)) = args {
        args.push(json!(LEAVE));
    }
    Ok(agents)
}

/// The same as YAML for `kubectl apply -f -`.
pub fn manifest(options: &Options) -> Result<String, SettingsError> {
    Ok(text(&objects(options)?))
}

/// Documents, one after the other.
pub fn text(objects: &[Value]) -> String {
    let documents = objects.iter().map(emit::document);
    documents.map(|text| format!("---\n{text}")).collect()
}

/// What identifies the objects of an installation, in an order in which they can be deleted: first what would refuse pods when control
/// is gone, last the namespace.
pub fn removal(options: &Options) -> Result<Vec<Value>, SettingsError> {
    let mut objects = objects(options)?;
    // The namespace was first, and the webhooks last.
    objects.reverse();
    Ok(objects.iter().map(identity).collect())
}

/// What identifies an object.
pub fn identity(object: &Value) -> Value {
    let mut metadata = Map::new();
    for key in ["name", "namespace"] {
        if let Some(value) = object["metadata"].get(key) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata})
}

fn namespace(options: &Options) -> Value {
    let mut labels = labels("namespace");
    labels["maille.io/inject"] = json!("disabled");
    let (level, why) = match options.nodes {
        Nodes::Bare => ("restricted", ""),
        // A namespace has one standard for all: control would pass the restricted one still.
        Nodes::Agents(_) => (
            "privileged",
            "\nThe agents of nodes are privileged: they enter pods' networks.",
        ),
    };
    for mode in ["enforce", "audit", "warn"] {
        labels[format!("pod-security.kubernetes.io/{mode}")] = json!(level);
    }
    json!({
        COMMENT: format!("The mesh's own namespace. Its webhook leaves it alone, so that the mesh can always start.{why}"),
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": options.namespace.as_str(), "labels": labels},
    })
}

fn config(options: &Options) -> Value {
    let data: Map<String, Value> = options
        .to_config()
        .into_iter()
        .map(|(key, value)| (key, json!(value)))
        .collect();
    json!({
        COMMENT: "What was chosen: `maille upgrade` reads it.",
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(options, CONFIG, "control"),
        "data": data,
    })
}

fn labels(component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": CONTROL,
        "app.kubernetes.io/component": component,
        PART_OF.0: PART_OF.1,
    })
}

/// Of an object in the mesh's namespace.
fn metadata(options: &Options, name: &str, component: &str) -> Value {
    json!({"name": name, "namespace": options.namespace.as_str(), "labels": labels(component)})
}

/// Of an object in none.
fn global(name: &str, component: &str) -> Value {
    json!({"name": name, "labels": labels(component)})
}

// === impl Options ===

impl Nodes {
    /// Agents that capture pods as they do unless told otherwise: from outside; or, where they leave the nodes' configurations alone, as a network
    /// of the pod's own can.
    pub fn agents(capture: Option<Capture>, chain: bool) -> Self {
        Self::Agents(capture.unwrap_or(match chain {
            true => Capture::Outboard,
            false => Capture::InboardCni,
        }))
    }
}

impl Options {
    /// From now on agents chain the plugin, or do not. Where pods were captured as such agents do unless told otherwise, that changes with it.
    pub fn set_chain(&mut self, chain: bool) {
        if self.nodes == Nodes::agents(None, self.chain) {
            self.nodes = Nodes::agents(None, chain);
        }
        self.chain = chain;
    }

    /// As they are kept in the cluster.
    pub fn to_config(&self) -> BTreeMap<String, String> {
        let control = match self.control {
            Replicas::One => "1",
            Replicas::Three => "3",
        };
        let nodes = match self.nodes {
            Nodes::Bare => "bare",
            Nodes::Agents(_) => "agents",
        };
        let mut data = BTreeMap::from([
            ("controlReplicas", control),
            ("nodes", nodes),
            ("imagePrefix", &self.image_prefix),
            ("trustDomain", self.trust_domain.as_str()),
            ("version", &self.version),
        ]);
        if let Nodes::Agents(usual) = self.nodes {
            data.insert("capture", usual.word());
        }
        if !self.chain {
            data.insert("chain", "no");
        }
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        data.into_iter().map(owned).collect()
    }

    /// The options of the installation in `namespace`, from what is kept there.
    pub fn from_config(
        namespace: Name,
        data: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let text = |key: &'static str| data.get(key).ok_or(ConfigError::Missing(key));
        let wrong = |key, value: &String| ConfigError::Wrong {
            key,
            value: value.clone(),
        };
        let (trust_domain, control) = (text("trustDomain")?, text("controlReplicas")?);
        let (prefix, version) = (text("imagePrefix")?, text("version")?);
        image(prefix, "control", version).map_err(|_| wrong("imagePrefix", prefix))?;
        Ok(Self {
            version: version.clone(),
            namespace,
            image_prefix: prefix.clone(),
            trust_domain: trust_domain
                .parse()
                .map_err(|_| wrong("trustDomain", trust_domain))?,
            control: match control.as_str() {
                "1" => Replicas::One,
                "3" => Replicas::Three,
                _ => return Err(wrong("controlReplicas", control)),
            },
            nodes: match data.get("nodes").map(String::as_str) {
                // Versions before there were agents did not say.
                None | Some("bare") => Nodes::Bare,
                Some("agents") => Nodes::Agents(match data.get("capture") {
                    // Versions before there was a choice did not say.
                    None => Capture::Outboard,
                    Some(word) => word.parse().map_err(|_| wrong("capture", word))?,
                }),
                Some(other) => return Err(wrong("nodes", &other.to_owned())),
            },
            // It is said only where they do not.
            chain: match data.get("chain").map(String::as_str) {
                None => true,
                Some("no") => false,
                Some(other) => return Err(wrong("chain", &other.to_owned())),
            },
        })
    }
}

#[cfg(test)]
mod tests;
