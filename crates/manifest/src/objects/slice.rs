// SPDX-License-Identifier: Apache-2.0
//! EndpointSlices: where a Service without a selector leads. Read [`super::service`] for what they belong to.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ObjectMeta, Transport};

/// The label by which a slice says whose it is.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Some of a service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Name, namespace, and the label of its service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6`.
    pub address_type: String,
    /// The endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<SliceEndpoint>,
    /// The ports that each of them has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<SlicePort>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceEndpoint {
    /// Its addresses; the first is the one.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Whether it may be sent work.
    #[serde(default)]
    pub conditions: SliceConditions,
    /// Its name below the service, where that is headless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// Whether an endpoint may be sent work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceConditions {
    /// Absent: it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
}

/// One port of the endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlicePort {
    /// The same as the service's port's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where they listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Transport,
    /// What it speaks (KEP-1422).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl EndpointSlice {
    /// The name of the service that it belongs to, in its own namespace.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get(SERVICE_NAME).map(String::as_str)
    }

    /// The addresses that may be sent work, each with its name where it has one.
    pub fn ready(&self) -> impl Iterator<Item = (IpAddr, Option<&str>)> {
        let ready = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.ready.unwrap_or(true));
        ready.filter_map(|endpoint| {
            let address = endpoint.addresses.first().copied()?;
            Some((address, endpoint.hostname.as_deref()))
        })
    }

    /// The number of the port that the service's port of this name leads to.
    pub fn port(&self, name: &str, transport: Transport) -> Option<u16> {
        let port = self
            .ports
            .iter()
            .find(|port| port.name == name && port.protocol == transport)?;
        port.port
    }
}
