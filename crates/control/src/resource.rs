// SPDX-License-Identifier: Apache-2.0
//! Resources as people name them, in kubectl's manner (`deploy/web`, `pods`, `svc/api`), and the pods that they stand for. Pure.
//!
//! Must never guess: a word that is no kind is refused with the kinds there are. Read [`crate::index`] next.

use std::collections::BTreeSet;
use std::fmt;

use maille_model::{Name, ServiceId};

use crate::index::{Index, Pod};

/// Kinds of pods' owners: Kubernetes' word, and those that people type.
const OWNERS: [(&str, &[&str]); 7] = [
    (
        "Deployment",
        &[
            "deploy",
            "deployment",
            "deployments",
            "deployments.apps",
            "workloads",
        ],
    ),
    (
        "StatefulSet",
        &["sts", "statefulset", "statefulsets", "statefulsets.apps"],
    ),
    (
        "DaemonSet",
        &["ds", "daemonset", "daemonsets", "daemonsets.apps"],
    ),
    (
        "ReplicaSet",
        &["rs", "replicaset", "replicasets", "replicasets.apps"],
    ),
    ("Job", &["job", "jobs", "jobs.batch"]),
    ("CronJob", &["cj", "cronjob", "cronjobs", "cronjobs.batch"]),
    (
        "ReplicationController",
        &["rc", "replicationcontroller", "replicationcontrollers"],
    ),
];

/// The words for everything else.
const OTHERS: [&str; 10] = [
    "all",
    "ns",
    "namespace",
    "namespaces",
    "po",
    "pod",
    "pods",
    "svc",
    "service",
    "services",
];

/// What a resource is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Everything.
    All,
    /// A namespace.
    Namespace,
    /// A pod.
    Pod,
    /// A service.
    Service,
    /// What makes pods, by Kubernetes' word.
    Owner(&'static str),
}

/// One or several resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What.
    pub kind: Kind,
    /// Which; all of them without.
    pub name: Option<String>,
    /// In which namespace; in any without.
    pub namespace: Option<String>,
}

/// Why a text names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// The word before the slash.
    #[error("{0:?} is no kind of resource")]
    Kind(String),
    /// It has more than one slash, or nothing behind it.
    #[error("{0:?} is not KIND or KIND/NAME")]
    Shape(String),
}

// === impl Kind ===

impl Kind {
    /// Reads a word.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Some(match word.as_str() {
            "all" => Self::All,
            "ns" | "namespace" | "namespaces" => Self::Namespace,
            "po" | "pod" | "pods" => Self::Pod,
            "svc" | "service" | "services" => Self::Service,
            _ => {
                let mut owners = OWNERS.iter();
                let (kind, _) = owners.find(|(_, words)| words.contains(&word.as_str()))?;
                Self::Owner(kind)
            }
        })
    }

    /// The short word of an owner's kind, as it stands before a name: `deploy`.
    pub fn short(kind: &str) -> String {
        let mut owners = OWNERS.iter();
        match owners.find(|(known, _)| *known == kind) {
            Some((_, words)) => words[0].to_owned(),
            None if kind == "Pod" => "po".to_owned(),
            None => kind.to_ascii_lowercase(),
        }
    }

    /// Every word that [`Kind::parse`] takes.
    pub fn every_word() -> Vec<&'static str> {
        let owners = OWNERS.iter().flat_map(|(_, words)| words.iter().copied());
        owners.chain(OTHERS).collect()
    }

    /// One word for each resource.
    pub fn words() -> String {
        let owners = OWNERS.iter().map(|(_, words)| words[0]);
        let words: Vec<_> = owners.chain(["po", "svc", "ns", "all"]).collect();
        words.join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Namespace => f.write_str("ns"),
            Self::Pod => f.write_str("po"),
            Self::Service => f.write_str("svc"),
            Self::Owner(kind) => f.write_str(&Self::short(kind)),
        }
    }
}

// === impl Resource ===

impl Resource {
    /// Reads `KIND` or `KIND/NAME`.
    pub fn parse(text: &str, namespace: Option<&str>) -> Result<Self, ResourceError> {
        let mut parts = text.split('/');
        let word = parts.next().unwrap_or_default();
        let kind = Kind::parse(word).ok_or_else(|| ResourceError::Kind(word.to_owned()))?;
        let name = parts.next();
        if parts.next().is_some() || name == Some("") {
            return Err(ResourceError::Shape(text.to_owned()));
        }
        Ok(Self {
            kind,
            name: name.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
        })
    }

    /// Whether it is in the namespace that was asked for.
    pub fn within(&self, namespace: &str) -> bool {
        let named = (self.kind == Kind::Namespace).then_some(self.name.as_deref());
        let only = named.flatten().or(self.namespace.as_deref());
        only.is_none_or(|only| only == namespace)
    }

    fn is_named(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|only| only == name)
    }

    /// Whether a pod is one of those it stands for, by what made it.
    pub fn has(&self, index: &Index, pod: &Pod) -> bool {
        let workload = &pod.workload;
        if !self.within(workload.namespace.as_str()) {
            return false;
        }
        match &self.kind {
            Kind::All | Kind::Namespace => true,
            Kind::Pod => self.is_named(workload.name.as_str()),
            Kind::Owner(kind) => {
                let owner = workload.owner.as_ref();
                owner.is_some_and(|owner| owner.kind == *kind && self.is_named(owner.name.as_str()))
            }
            Kind::Service => {
                let behind = |service: &&ServiceId| {
                    index.service(service).is_some_and(|service| {
                        service.facts.id.namespace == workload.namespace
                            && service.selects(&pod.labels)
                    })
                };
                self.services(index).iter().any(|id| behind(&id))
            }
        }
    }

    /// The pods that it stands for.
    pub fn pods<'a>(&self, index: &'a Index) -> Vec<&'a Pod> {
        index.pods().filter(|pod| self.has(index, pod)).collect()
    }

    /// The services that it names: only where it names services.
    pub fn services(&self, index: &Index) -> BTreeSet<ServiceId> {
        if self.kind != Kind::Service {
            return BTreeSet::new();
        }
        let ids = index.services().map(|service| &service.facts.id);
        ids.filter(|id| self.within(id.namespace.as_str()) && self.is_named(id.name.as_str()))
            .cloned()
            .collect()
    }

    /// The names that resources of its kind have where it is looked for.
    pub fn names(&self, index: &Index) -> BTreeSet<String> {
        let any = Self {
            name: None,
            ..self.clone()
        };
        let pods = || any.pods(index).into_iter();
        match self.kind {
            // Who may see one namespace may know of no other.
            Kind::All | Kind::Namespace => BTreeSet::new(),
            Kind::Service => any
                .services(index)
                .into_iter()
                .map(|id| id.name.to_string())
                .collect(),
            Kind::Pod => pods().map(|pod| pod.workload.name.to_string()).collect(),
            Kind::Owner(_) => {
                let owners = pods().filter_map(|pod| pod.workload.owner.as_ref());
                owners.map(|owner| owner.name.to_string()).collect()
            }
        }
    }

    /// Whether there is such a thing.
    pub fn exists(&self, index: &Index) -> bool {
        let within = |namespace: &Name| self.within(namespace.as_str());
        match self.kind {
            Kind::All => true,
            Kind::Namespace if self.name.is_none() => true,
            Kind::Service => !self.services(index).is_empty(),
            Kind::Namespace => {
                let services = index.services().map(|service| &service.facts.id.namespace);
                let mut all = services.chain(index.pods().map(|pod| &pod.workload.namespace));
                all.any(within)
            }
            Kind::Pod | Kind::Owner(_) => index.pods().any(|pod| self.has(index, pod)),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(name) = &self.name {
            write!(f, "/{name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_kubectl() {
        let parse = |text| Resource::parse(text, None).map(|r| (r.kind, r.name));
        assert_eq!(
            parse("deploy/web"),
            Ok((Kind::Owner("Deployment"), Some("web".to_owned())))
        );
        assert_eq!(
            parse("StatefulSets"),
            Ok((Kind::Owner("StatefulSet"), None))
        );
        assert_eq!(parse("svc/a"), Ok((Kind::Service, Some("a".to_owned()))));
        assert_eq!(parse("all"), Ok((Kind::All, None)));
        assert_eq!(
            parse("thing/web"),
            Err(ResourceError::Kind("thing".to_owned()))
        );
        for bad in ["deploy/", "deploy/a/b"] {
            assert_eq!(parse(bad), Err(ResourceError::Shape(bad.to_owned())));
        }
    }

    #[test]
    fn a_namespace_is_one_by_name_or_by_flag() {
        let named = Resource::parse("ns/shop", None).unwrap();
        let flagged = Resource::parse("po", Some("shop")).unwrap();
        for resource in [named, flagged] {
            assert!(resource.within("shop") && !resource.within("other"));
        }
        let all = Resource::parse("po", None).unwrap();
        assert!(all.within("shop") && all.within("other"));
    }
}
