// SPDX-License-Identifier: Apache-2.0
//! What the index keeps of an EndpointSlice, read once from the Kubernetes object. Pure. Read [`super::service`] for what it adds to.

use std::net::IpAddr;

use maille_manifest::objects::{self, Transport};
use maille_model::{Membership, Name, ServiceId, Workload, WorkloadUid};

use super::Service;

/// An EndpointSlice, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its own namespace and name.
    pub id: ServiceId,
    /// The service that it belongs to, in the same namespace.
    pub service: Name,
    /// Each endpoint's address, and whether it may be sent work.
    pub endpoints: Vec<(IpAddr, bool)>,
    /// Name of the service's port, and where the endpoints listen; TCP only.
    pub ports: Vec<(String, u16)>,
}

/// Why an object is no slice that can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// Every slice is in one.
    #[error("endpoint slice {0} has no metadata.namespace")]
    Namespace(Name),
    /// It says whose it is by a label.
    #[error("endpoint slice {0} belongs to no service")]
    Service(Name),
}

impl Slice {
    /// Reads the Kubernetes object.
    pub fn read(object: &objects::EndpointSlice) -> Result<Self, SliceError> {
        let meta = &object.metadata;
        let name = || meta.name.clone();
        let namespace = meta.namespace.clone();
        let service = object.service().and_then(|service| service.parse().ok());
        let endpoints = object.endpoints.iter().filter_map(|endpoint| {
            let address = endpoint.addresses.first()?;
            let ready = endpoint.conditions.ready.unwrap_or(true);
            Some((address.to_canonical(), ready))
        });
        let ports = object.ports.iter();
        let ports = ports.filter(|port| port.protocol == Transport::Tcp);
        Ok(Self {
            id: ServiceId {
                namespace: namespace.ok_or_else(|| SliceError::Namespace(name()))?,
                name: name(),
            },
            service: service.ok_or_else(|| SliceError::Service(name()))?,
            endpoints: endpoints.collect(),
            ports: ports
                .filter_map(|port| Some((port.name.clone(), port.port?)))
                .collect(),
        })
    }

    /// The service that it belongs to.
    pub fn owner(&self) -> ServiceId {
        ServiceId {
            namespace: self.id.namespace.clone(),
            name: self.service.clone(),
        }
    }

    /// Service port to endpoints' port, for each port of `service` that this slice knows.
    pub(super) fn targets(&self, service: &Service) -> Vec<(u16, u16)> {
        let known = |name: &str| self.ports.iter().find(|(own, _)| own == name);
        let ports = service.facts.ports.iter();
        let mut targets: Vec<(u16, u16)> = ports
            .filter_map(|port| Some((port.port, known(&port.name)?.1)))
            .collect();
        targets.sort_unstable();
        targets
    }

    /// Somebody at an address that is no pod's: outside the mesh.
    pub(super) fn outsider(&self, address: IpAddr) -> Option<Workload> {
        let dashed = address.to_string().replace([':', '.'], "-");
        let name = format!("ip-{}", dashed.trim_matches('-'));
        Some(Workload {
            uid: WorkloadUid::new(&format!("endpoint-{address}"))?,
            namespace: self.id.namespace.clone(),
            name: name.parse().ok()?,
            service_account: "default".parse().ok()?,
            addresses: vec![address],
            owner: None,
            membership: Membership::Unmeshed,
            zone: None,
        })
    }
}
