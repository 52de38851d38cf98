// SPDX-License-Identifier: Apache-2.0
//! Pods: what to run, and the status that a runner (or a kubelet) writes. Read `check.rs` for what [`crate::load`] holds true of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Container, IntOrText, ObjectMeta, TextMap, Transport, Volume};

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Name, namespace, uid, labels, annotations, owner.
    pub metadata: ObjectMeta,
    /// What to run.
    pub spec: PodSpec,
    /// How it is.
    #[serde(default)]
    pub status: PodStatus,
}

/// What a Deployment's pods look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodTemplate {
    /// Labels and annotations.
    #[serde(default)]
    pub metadata: TemplateMeta,
    /// What to run.
    pub spec: PodSpec,
}

/// Labels and annotations of the pods to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateMeta {
    /// What selectors see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: TextMap,
    /// Everything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: TextMap,
}

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// At least one.
    pub containers: Vec<Container>,
    /// Run before them, one after the other; those that are always started again go on beside them (KEP-753).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
    /// Whether containers that ended are started again. Absent: `Always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Seconds after which it is ended and has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u32>,
    /// Its host name. Absent: its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The headless service below which it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    /// Whether its host name is its name in DNS.
    #[serde(
        rename = "setHostnameAsFQDN",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub set_hostname_as_fqdn: bool,
    /// Lines of its `/etc/hosts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// How names are looked up. Absent: `ClusterFirst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_policy: Option<String>,
    /// What is added to its `/etc/resolv.conf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfig>,
    /// As whom its containers run, where they do not say it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurity>,
    /// The node that it is bound to, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// It has the node's network in place of its own, and therefore no proxy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    /// Absent: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// The old name of the same. After [`crate::load`] it is never present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// From SIGTERM to SIGKILL. Absent: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
    /// What containers mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// When containers that ended are started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whatever they ended with.
    #[default]
    Always,
    /// Unless they ended well.
    OnFailure,
    /// Never.
    Never,
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    #[serde(default)]
    pub hostnames: Vec<String>,
}

/// What is added to `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Servers that are asked after the cluster's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
    /// Domains in which short names are looked up last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Options; one of the same name as the cluster's wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<DnsOption>,
}

/// One option of `resolv.conf(5)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsOption {
    /// `ndots`, say.
    pub name: String,
    /// After a colon, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// As whom the containers of a pod run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSecurity {
    /// Their user. Absent: whoever runs the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Their group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Whether they must not be root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// The group that owns volumes and that every container is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
    /// More groups that every container is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<u32>,
    /// Settings of the kernel in the pod's network namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<Sysctl>,
}

/// A setting of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// `net.ipv4.tcp_syncookies`, say.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How a pod is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Failed`, `Succeeded`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Why it is not well, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The primary address.
    #[serde(rename = "podIP", default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<IpAddr>,
    /// Every address, the primary one first.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
    /// `Ready` and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// RFC 3339, when it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// How each container is, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
    /// The same of init containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// One address of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIp {
    /// The address.
    pub ip: IpAddr,
}

/// Something that is, or is not, true of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `Ready`, say.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How one container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Which one.
    pub name: String,
    /// Whether it may be sent work; of an init container, whether it has done its part.
    #[serde(default)]
    pub ready: bool,
    /// Whether it runs and its startup probe, if it has one, has succeeded.
    #[serde(default)]
    pub started: bool,
    /// How often it was started again.
    #[serde(default)]
    pub restart_count: u32,
    /// What it does.
    #[serde(default)]
    pub state: ContainerState,
}

/// What a container does: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// It is yet to be started, or to be started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// It runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Started>,
    /// It ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated: Option<Terminated>,
}

/// Why a container does not run yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// One word: `PodInitializing`, `ContainerCreating`, `CrashLoopBackOff`, `CreateContainerError`.
    #[serde(default)]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Since when a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// As a shell says it: 128 and the signal's number, where a signal ended it.
    #[serde(default)]
    pub exit_code: i32,
    /// One word: `Completed`, `Error`.
    #[serde(default)]
    pub reason: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
}

// === impl Pod ===

impl Pod {
    /// Whether it says that it may be sent work, and is not being deleted.
    pub fn is_ready(&self) -> bool {
        self.metadata.deletion_timestamp.is_none() && self.answers()
    }

    /// Whether its Ready condition holds, asked to go or not: what EndpointSlices call `serving`.
    pub fn answers(&self) -> bool {
        let conditions = &self.status.conditions;
        conditions
            .iter()
            .any(|c| c.kind == "Ready" && c.status == "True")
    }

    /// Whether it ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Its host name, without a domain.
    pub fn host_name(&self) -> &str {
        let name = self.metadata.name.as_str();
        let whole = self.spec.hostname.as_deref().unwrap_or(name);
        // sethostname(2) takes no more than 64 bytes, DNS 63.
        whole
            .get(..63)
            .map_or(whole, |start| start.trim_end_matches(['-', '.']))
    }

    /// Every address, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let single = self
            .status
            .pod_ips
            .is_empty()
            .then_some(self.status.pod_ip)
            .flatten();
        self.status.pod_ips.iter().map(|ip| ip.ip).chain(single)
    }

    /// The service account it runs as.
    pub fn service_account(&self) -> &str {
        self.spec.service_account()
    }
}

// === impl PodSpec ===

impl PodSpec {
    /// The service account it runs as.
    pub fn service_account(&self) -> &str {
        self.service_account_name.as_deref().unwrap_or("default")
    }

    /// When containers that ended are started again.
    pub fn restarts(&self) -> RestartPolicy {
        self.restart_policy.unwrap_or_default()
    }

    /// Every container, those first that are started first.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// Seconds from SIGTERM to SIGKILL.
    pub fn grace_seconds(&self) -> u32 {
        self.termination_grace_period_seconds.unwrap_or(30)
    }

    /// The number of the port that `target` means here, for `transport`. `None`: no container has a port of that name.
    pub fn resolve_port(&self, target: &IntOrText, transport: Transport) -> Option<u16> {
        match target {
            IntOrText::Port(port) => Some(*port),
            IntOrText::Name(name) => self
                .containers
                .iter()
                .chain(self.init_containers.iter().filter(|init| init.is_sidecar()))
                .flat_map(|container| &container.ports)
                .find(|port| port.name == *name && port.protocol == transport)
                .map(|port| port.container_port),
        }
    }
}
