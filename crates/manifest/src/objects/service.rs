// SPDX-License-Identifier: Apache-2.0
//! Services and their ports. Read [`super::pod`] next.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ClusterIp, IntOrText, ObjectMeta, TextMap, Transport};

/// What clients address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Ports, selector, addresses.
    #[serde(default)]
    pub spec: ServiceSpec,
}

/// Ports, selector, addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// What its name means.
    #[serde(rename = "type", default)]
    pub kind: ServiceType,
    /// The name that its own stands for, of an `ExternalName` service and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_name: Option<String>,
    /// The first of `cluster_ips`, or headless. After [`crate::load`] it is always present.
    #[serde(rename = "clusterIP", default, skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<ClusterIp>,
    /// Every cluster address, one a family; `None` alone for a headless service.
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<ClusterIp>,
    /// How many families it has. After [`crate::load`] it is always present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Its families, the first is the one of `cluster_ip`. After [`crate::load`] there is at least one, if it has pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<IpFamily>,
    /// The labels of its pods, in its own namespace. Empty: it has no pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: TextMap,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Whether the name of a headless service means its pods before they are ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_not_ready_addresses: bool,
    /// Where its endpoints should be (KEP-4444, KEP-3015).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// What a service's name means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// Its pods, through addresses of its own, or directly where it is headless.
    #[default]
    ClusterIP,
    /// The same; from outside too, elsewhere.
    NodePort,
    /// The same.
    LoadBalancer,
    /// Another name.
    ExternalName,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamily {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// How many families a Service has (KEP-563). Every cluster of `maille up` has both, so to prefer is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Two where the cluster has two.
    PreferDualStack,
    /// Two.
    RequireDualStack,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Empty where there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What clients dial.
    pub port: u16,
    /// The pods' port; the same as `port` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrText>,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Transport,
    /// What it speaks (KEP-1422).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

// === impl Service ===

impl Service {
    /// Whether its name is only another name for something else: it has neither addresses nor pods.
    pub fn is_alias(&self) -> bool {
        self.spec.kind == ServiceType::ExternalName
    }

    /// Whether it has no virtual address, and its name means its pods.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == Some(ClusterIp::Headless)
    }

    /// Whether clients reach it by addresses of the family of `address`.
    pub fn has_family_of(&self, address: IpAddr) -> bool {
        self.spec.ip_families.contains(&IpFamily::of(address))
    }

    /// Whether it asks for endpoints close to the client. Nodes are not told apart, and each is in one zone.
    pub fn prefers_close(&self) -> bool {
        matches!(
            self.spec.traffic_distribution.as_deref(),
            Some("PreferClose" | "PreferSameZone" | "PreferSameNode")
        )
    }

    /// Its virtual addresses; none for a headless one.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let single = self
            .spec
            .cluster_ips
            .is_empty()
            .then_some(self.spec.cluster_ip)
            .flatten();
        self.spec
            .cluster_ips
            .iter()
            .copied()
            .chain(single)
            .filter_map(|ip| match ip {
                ClusterIp::Address(address) => Some(address),
                ClusterIp::Headless => None,
            })
    }
}

// === impl IpFamily ===

impl IpFamily {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

// === impl ServicePort ===

impl ServicePort {
    /// The pods' port, by number or name.
    pub fn target(&self) -> IntOrText {
        self.target_port
            .clone()
            .unwrap_or(IntOrText::Port(self.port))
    }
}
