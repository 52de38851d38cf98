// SPDX-License-Identifier: Apache-2.0
//! The objects: narrow on purpose, named and nested as in Kubernetes, so that a real API server's objects fit too.
//!
//! Unknown fields are skipped here, because a newer API server has some; [`crate::load`] is where a person's unknown field is an
//! error. Never add a field that nobody reads. Read [`pod`] for what a pod is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use maille_model::Name;
use serde::{Deserialize, Serialize};

/// Claims of storage.
pub mod claim;
/// Containers, their environment, their rights.
pub mod container;
/// ConfigMaps and Secrets.
pub mod data;
/// Pods, templates and the status that a runner writes.
pub mod pod;
/// Probes and hooks.
pub mod probe;
/// Amounts of CPU and memory.
pub mod quantity;
/// How a Deployment replaces its pods.
pub mod rollout;
/// Which labels are meant.
pub mod selector;
/// Services and their ports.
pub mod service;
/// Where services without a selector lead.
pub mod slice;
/// Volumes and their mounts.
pub mod volume;
/// What makes pods.
pub mod workloads;

pub use claim::{ClaimResources, ClaimSpec, PersistentVolumeClaim};
pub use container::{
    Capabilities, Container, ContainerPort, EnvFrom, EnvVar, EnvVarSource, FieldRef, KeyRef,
    ResourceFieldRef, Resources, Security, SourceRef,
};
pub use data::{ConfigMap, Secret, from_base64};
pub use pod::{
    Condition, ContainerState, ContainerStatus, DnsConfig, DnsOption, HostAlias, Pod, PodIp,
    PodSecurity, PodSpec, PodStatus, PodTemplate, RestartPolicy, Started, Sysctl, TemplateMeta,
    Terminated, Waiting,
};
pub use probe::{
    ExecAction, GrpcAction, Hook, HttpGet, HttpHeader, Lifecycle, Probe, Scheme, SleepAction,
    TcpSocket,
};
pub use quantity::Quantity;
pub use rollout::{
    Amount, Bounds, NumberedUpdate, RollingUpdate, Strategy, StrategyType, UpdateStrategy,
    UpdateType,
};
pub use selector::{LabelSelector, Operator, Requirement, selects};
pub use service::{IpFamily, IpFamilyPolicy, Service, ServicePort, ServiceSpec, ServiceType};
pub use slice::{EndpointSlice, SliceConditions, SliceEndpoint, SlicePort};
pub use volume::{
    ClaimVolume, ConfigMapVolume, DownwardItem, DownwardVolume, EmptyDir, HostPath, KeyToPath,
    ProjectedKeys, ProjectedVolume, Projection, SecretVolume, Volume, VolumeMount,
};
pub use workloads::{
    CompletionMode, Concurrency, CronJob, CronJobSpec, DaemonSet, DaemonSetSpec, Job, JobSpec,
    JobTemplate, Ordinals, PodManagement, ReplicaSet, ReplicaSetSpec, StatefulSet, StatefulSetSpec,
};

/// Labels and annotations, and the data of a ConfigMap.
pub type TextMap = BTreeMap<String, String>;

/// Any object that [`crate::load`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// What a pod's identity is made of.
    ServiceAccount(ServiceAccount),
    /// Pods that are made again when they are gone.
    Deployment(Box<Deployment>),
    /// One pod.
    Pod(Box<Pod>),
    /// What clients address.
    Service(Service),
    /// Settings.
    ConfigMap(ConfigMap),
    /// Settings that are nobody else's business.
    Secret(Secret),
    /// Pods that are all the same.
    ReplicaSet(Box<ReplicaSet>),
    /// Pods with a number each, which keep their names.
    StatefulSet(Box<StatefulSet>),
    /// One pod.
    DaemonSet(Box<DaemonSet>),
    /// Pods that are to end well, so often.
    Job(Box<Job>),
    /// Jobs at given times.
    CronJob(Box<CronJob>),
    /// Where a service without a selector leads.
    EndpointSlice(EndpointSlice),
    /// Storage that outlives pods.
    PersistentVolumeClaim(PersistentVolumeClaim),
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
}

/// What a pod's identity is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Name and namespace.
    pub metadata: ObjectMeta,
}

/// Pods that are made again when they are gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What to keep running.
    pub spec: DeploymentSpec,
}

/// What a Deployment keeps running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// How many pods.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Which pods are its own.
    pub selector: LabelSelector,
    /// What they look like.
    pub template: PodTemplate,
    /// How it replaces them.
    #[serde(default, skip_serializing_if = "Strategy::is_default")]
    pub strategy: Strategy,
    /// How long a pod must have been ready to count as available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_seconds: u32,
}

/// Who an object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Unique in its namespace and kind.
    #[serde(with = "name")]
    pub name: Name,
    /// Absent on objects of the whole cluster. [`crate::load`] fills in `default` on the others.
    #[serde(
        default,
        with = "optional_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub namespace: Option<Name>,
    /// Unique for ever; empty in manifests.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What selectors see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: TextMap,
    /// Everything else that is said about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: TextMap,
    /// What made it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// RFC 3339, since when there is such an object; absent in manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// RFC 3339, when it is being deleted: no new connection should go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
}

/// What made an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// `apps/v1`, say.
    #[serde(default)]
    pub api_version: String,
    /// `Deployment`, say.
    pub kind: String,
    /// Its name in the same namespace.
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
    /// Whether it is the one that acts for the object.
    #[serde(default)]
    pub controller: bool,
}

/// A port by number or by the name that a container gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntOrText {
    /// By number, 1 to 65535.
    Port(u16),
    /// By name.
    Name(String),
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// The default.
    #[default]
    Tcp,
    /// Passed by the mesh untouched.
    Udp,
}

/// A Service's cluster address as its field says it: one, or `None` for a headless service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterIp {
    /// No virtual address: DNS gives the pods.
    Headless,
    /// A virtual address.
    Address(IpAddr),
}

// === impl Object ===

/// One arm a kind, each doing the same with the object.
macro_rules! each {
    ($of:expr, $object:ident => $do:expr) => {
        match $of {
            Object::Namespace($object) => $do,
            Object::ServiceAccount($object) => $do,
            Object::Deployment($object) => $do,
            Object::Pod($object) => $do,
            Object::Service($object) => $do,
            Object::ConfigMap($object) => $do,
            Object::Secret($object) => $do,
            Object::ReplicaSet($object) => $do,
            Object::StatefulSet($object) => $do,
            Object::DaemonSet($object) => $do,
            Object::Job($object) => $do,
            Object::CronJob($object) => $do,
            Object::EndpointSlice($object) => $do,
            Object::PersistentVolumeClaim($object) => $do,
        }
    };
}

pub(crate) use each;

impl Object {
    /// Who it is.
    pub fn metadata(&self) -> &ObjectMeta {
        each!(self, object => &object.metadata)
    }

    /// The same, to be changed.
    pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
        each!(self, object => &mut object.metadata)
    }

    /// What its pods look like; `None` for what makes none.
    pub fn template(&self) -> Option<&PodTemplate> {
        match self {
            Self::Deployment(object) => Some(&object.spec.template),
            Self::ReplicaSet(object) => Some(&object.spec.template),
            Self::StatefulSet(object) => Some(&object.spec.template),
            Self::DaemonSet(object) => Some(&object.spec.template),
            Self::Job(object) => Some(&object.spec.template),
            Self::CronJob(object) => Some(&object.spec.job_template.spec.template),
            _ => None,
        }
    }

    /// The spec of its pods, or of itself.
    pub fn pod_spec(&self) -> Option<&PodSpec> {
        match self {
            Self::Pod(pod) => Some(&pod.spec),
            other => other.template().map(|template| &template.spec),
        }
    }

    /// The same as [`Self::template`], to be changed.
    pub fn template_mut(&mut self) -> Option<&mut PodTemplate> {
        match self {
            Self::Deployment(object) => Some(&mut object.spec.template),
            Self::ReplicaSet(object) => Some(&mut object.spec.template),
            Self::StatefulSet(object) => Some(&mut object.spec.template),
            Self::DaemonSet(object) => Some(&mut object.spec.template),
            Self::Job(object) => Some(&mut object.spec.template),
            Self::CronJob(object) => Some(&mut object.spec.job_template.spec.template),
            _ => None,
        }
    }

    /// How many pods there are to be, to be changed; `None` for what has no such number.
    pub fn replicas_mut(&mut self) -> Option<&mut u32> {
        match self {
            Self::Deployment(object) => Some(&mut object.spec.replicas),
            Self::ReplicaSet(object) => Some(&mut object.spec.replicas),
            Self::StatefulSet(object) => Some(&mut object.spec.replicas),
            _ => None,
        }
    }

    pub(crate) fn pod_spec_mut(&mut self) -> Option<&mut PodSpec> {
        match self {
            Self::Pod(object) => Some(&mut object.spec),
            other => other.template_mut().map(|template| &mut template.spec),
        }
    }
}

// === impl ObjectMeta ===

impl ObjectMeta {
    /// Metadata with nothing but a name.
    pub fn new(namespace: Option<Name>, name: Name) -> Self {
        Self {
            name,
            namespace,
            uid: String::new(),
            labels: TextMap::new(),
            annotations: TextMap::new(),
            owner_references: Vec::new(),
            creation_timestamp: None,
            deletion_timestamp: None,
        }
    }

    /// The namespace, `""` for an object of the whole cluster.
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", Name::as_str)
    }
}

// === impl IntOrText ===

impl fmt::Display for IntOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for IntOrText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Port(port) => serializer.serialize_u16(*port),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = IntOrText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, 1 to 65535, or the name of one")
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<IntOrText, E> {
                match u16::try_from(value) {
                    Ok(port) if port > 0 => Ok(IntOrText::Port(port)),
                    _ => Err(E::invalid_value(
                        serde::de::Unexpected::Unsigned(value),
                        &self,
                    )),
                }
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<IntOrText, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(
                        serde::de::Unexpected::Signed(value),
                        &self,
                    )),
                }
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<IntOrText, E> {
                Ok(IntOrText::Name(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

// === impl ClusterIp ===

impl fmt::Display for ClusterIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headless => f.write_str("None"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Serialize for ClusterIp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "None" {
            return Ok(Self::Headless);
        }
        text.parse().map(Self::Address).map_err(|_| {
            serde::de::Error::custom(format_args!("{text:?} is neither an IP address nor None"))
        })
    }
}

/// Serialisation of a [`Name`], which is `model`'s and therefore has none of its own.
mod name {
    use maille_model::Name;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Name, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The same for a name that may be absent.
mod optional_name {
    use maille_model::Name;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        name: &Option<Name>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match name {
            Some(name) => serializer.serialize_some(name.as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Name>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

fn one() -> u32 {
    1
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
