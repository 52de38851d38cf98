// SPDX-License-Identifier: Apache-2.0
//! Services: what clients address, and the endpoints behind.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::identity::{Name, NameError};
use crate::protocol::Protocol;
use crate::terms::Terms;
use crate::workload::Workload;

/// `namespace/name` of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

/// A Service's own facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which one.
    pub id: ServiceId,
    /// Cluster addresses; none for a headless one.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// How it wants to be called.
    pub terms: Terms,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// What clients dial.
    pub port: u16,
    /// Its name, empty where it has none.
    pub name: String,
    /// What it was declared to speak.
    pub protocol: Protocol,
}

/// The workloads behind a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints(pub Vec<Endpoint>);

/// One workload behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Who answers.
    pub workload: Workload,
    /// Whether it takes new connections.
    pub ready: bool,
    /// Service port -> the workload's port, sorted by service port.
    pub targets: Vec<(u16, u16)>,
}

/// Whose a cluster address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOwner {
    /// A workload's own.
    Workload(Workload),
    /// A Service's cluster address.
    Service(ServiceId),
}

impl Endpoint {
    /// The workload's port behind the Service's `port`.
    pub fn target(&self, port: u16) -> Option<u16> {
        self.targets
            .iter()
            .find(|(service_port, _)| *service_port == port)
            .map(|(_, target)| *target)
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceId {
    type Err = NameError;

    /// Reads `namespace/name`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or_else(|| NameError::Malformed(text.to_owned()))?;
        Ok(Self {
            namespace: namespace.parse()?,
            name: name.parse()?,
        })
    }
}
