// SPDX-License-Identifier: Apache-2.0
//! What the index keeps of a Service, read once from the Kubernetes object. Pure. Read [`super`] next.

use std::collections::BTreeMap;

use maille_manifest::objects::{self, IntOrText, Transport};
use maille_model::{Name, Protocol, Service as Facts, ServiceId, ServicePort};

use super::pod::Pod;

/// A Service, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What clients see.
    pub facts: Facts,
    /// Labels that its pods have; a service without any selects nothing.
    pub selector: BTreeMap<String, String>,
    /// Its pods are sent work before they are ready, and when they go: they said that they can take it.
    pub unready_too: bool,
    /// Where each port of `facts.ports` leads, in the same order.
    pub targets: Vec<Target>,
}

/// A Service port's `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The same number in every pod.
    Number(u16),
    /// Whatever port the pod gives this name.
    Name(String),
}

/// Why an object is no service that can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Every service is in one.
    #[error("service {0} has no metadata.namespace")]
    Namespace(Name),
}

// === impl Service ===

impl Service {
    /// Reads the Kubernetes object. Ports of other transports than TCP are not the mesh's.
    pub fn read(object: &objects::Service) -> Result<Self, ServiceError> {
        let meta = &object.metadata;
        let namespace = meta.namespace.clone();
        let id = ServiceId {
            namespace: namespace.ok_or_else(|| ServiceError::Namespace(meta.name.clone()))?,
            name: meta.name.clone(),
        };
        let ports = || {
            let ports = object.spec.ports.iter();
            ports.filter(|port| port.protocol == Transport::Tcp && port.port != 0)
        };
        Ok(Self {
            facts: Facts {
                id,
                addresses: object
                    .addresses()
                    .map(|address| address.to_canonical())
                    .collect(),
                ports: ports()
                    .map(|port| ServicePort {
                        port: port.port,
                        name: port.name.clone(),
                        protocol: Protocol::declared(
                            port.app_protocol.as_deref(),
                            Some(&port.name),
                        ),
                    })
                    .collect(),
                // What cannot be read leaves its default: the service is served all the same.
                terms: maille_manifest::terms::read(object).0,
            },
            selector: object.spec.selector.clone(),
            unready_too: object.spec.publish_not_ready_addresses,
            targets: ports()
                .map(|port| match port.target() {
                    IntOrText::Port(number) => Target::Number(number),
                    IntOrText::Name(name) => Target::Name(name),
                })
                .collect(),
        })
    }

    /// Whether `labels` are those of one of its pods.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty()
            && self
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Service port, `pod`'s port and declared protocol, for each port that leads somewhere in `pod`.
    pub fn resolve<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (u16, u16, Protocol)> + 'a {
        let ports = self.facts.ports.iter().zip(&self.targets);
        ports.filter_map(|(port, target)| {
            let number = match target {
                Target::Number(number) => *number,
                Target::Name(name) => *pod.ports.get(name)?,
            };
            (number != 0).then_some((port.port, number, port.protocol))
        })
    }
}
