// SPDX-License-Identifier: Apache-2.0
//! Wire <-> model, strictly: what cannot be read whole is refused, with the resource and the field that is wrong.
//!
//! Encoding is a function of the value alone (maps are ordered), so that equal resources have equal bytes. Tests: `convert/tests.rs`.

use std::net::IpAddr;

use maille_model::{
    AddressOwner, ClusterRanges, Endpoint, Endpoints, MESH_PORT, Membership, Mesh, Own, Owner,
    Protocol, Service, ServiceId, ServicePort, Workload, WorkloadUid, Zone,
};
use prost::Message as _;

use crate::url::Kind;
use crate::v1;

/// How a service wants to be called.
pub(crate) mod terms;

/// Any resource, in the model's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// What every proxy shares.
    Mesh(Mesh),
    /// What the asking proxy serves.
    Own(Own),
    /// Whose an address is.
    Address(AddressOwner),
    /// A service's addresses and ports.
    Service(Service),
    /// The workloads behind a service.
    Endpoints(Endpoints),
}

/// Why a message is no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The type URL names none of our kinds.
    #[error("type {0:?} is not known")]
    UnknownType(String),
    /// Not a protobuf message of that kind.
    #[error("{resource} is not a protobuf message of its type")]
    Undecodable {
        /// Which kind.
        resource: &'static str,
        /// What the decoder said.
        #[source]
        source: prost::DecodeError,
    },
    /// A field that must be there is not.
    #[error("{resource}.{field} is missing")]
    Missing {
        /// Which message.
        resource: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A field holds something that it cannot mean.
    #[error("{resource}.{field} cannot be {value}")]
    Impossible {
        /// Which message.
        resource: &'static str,
        /// Which field.
        field: &'static str,
        /// What it holds, cut to 80 characters.
        value: String,
    },
}

// === impl Resource ===

impl Resource {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mesh(_) => Kind::Mesh,
            Self::Own(_) => Kind::Own,
            Self::Address(_) => Kind::Address,
            Self::Service(_) => Kind::Service,
            Self::Endpoints(_) => Kind::Endpoints,
        }
    }

    /// The protobuf message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Mesh(mesh) => to_mesh(mesh).encode_to_vec(),
            Self::Own(own) => to_own(own).encode_to_vec(),
            Self::Address(owner) => to_address(owner).encode_to_vec(),
            Self::Service(service) => to_service(service).encode_to_vec(),
            Self::Endpoints(endpoints) => to_endpoints(endpoints).encode_to_vec(),
        }
    }

    /// The message as discovery carries it.
    pub fn to_any(&self) -> prost_types::Any {
        prost_types::Any {
            type_url: self.kind().type_url().to_owned(),
            value: self.encode(),
        }
    }

    /// Reads a message of the kind `kind`. Refuses what is not wholly a resource.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, ConvertError> {
        Ok(match kind {
            Kind::Mesh => Self::Mesh(mesh(message("Mesh", bytes)?)?),
            Kind::Own => Self::Own(own(message("Own", bytes)?)?),
            Kind::Address => Self::Address(address_owner(message("Address", bytes)?)?),
            Kind::Service => Self::Service(service(message("Service", bytes)?)?),
            Kind::Endpoints => Self::Endpoints(endpoints(message("Endpoints", bytes)?)?),
        })
    }

    /// Reads a message as discovery carries it.
    pub fn from_any(any: &prost_types::Any) -> Result<Self, ConvertError> {
        let kind = Kind::of_type_url(&any.type_url)
            .ok_or_else(|| ConvertError::UnknownType(short(&any.type_url)))?;
        Self::decode(kind, &any.value)
    }
}

// === model -> wire ===

fn to_mesh(mesh: &Mesh) -> v1::Mesh {
    v1::Mesh {
        trust_domain: mesh.trust_domain.to_string(),
        trust_anchors: mesh.trust_anchors.clone(),
        cluster_ranges: mesh
            .cluster_ranges
            .0
            .iter()
            .map(ToString::to_string)
            .collect(),
        mesh_port: u32::from(MESH_PORT),
    }
}

fn to_own(own: &Own) -> v1::Own {
    let port = |(port, protocol): &(u16, Protocol)| v1::OwnPort {
        port: u32::from(*port),
        protocol: to_protocol(*protocol).into(),
    };
    v1::Own {
        workload: Some(to_workload(&own.workload)),
        ports: own.ports.iter().map(port).collect(),
        leaving: own.leaving,
    }
}

fn to_address(owner: &AddressOwner) -> v1::Address {
    let owner = match owner {
        AddressOwner::Workload(workload) => v1::address::Owner::Workload(to_workload(workload)),
        AddressOwner::Service(id) => v1::address::Owner::Service(id.to_string()),
    };
    v1::Address { owner: Some(owner) }
}

fn to_service(service: &Service) -> v1::Service {
    let port = |port: &ServicePort| v1::ServicePort {
        port: u32::from(port.port),
        name: port.name.clone(),
        protocol: to_protocol(port.protocol).into(),
    };
    v1::Service {
        namespace: service.id.namespace.to_string(),
        name: service.id.name.to_string(),
        addresses: service.addresses.iter().map(to_bytes).collect(),
        ports: service.ports.iter().map(port).collect(),
        terms: terms::to_wire(&service.terms),
    }
}

fn to_endpoints(endpoints: &Endpoints) -> v1::Endpoints {
    let endpoint = |endpoint: &Endpoint| v1::Endpoint {
        workload: Some(to_workload(&endpoint.workload)),
        ready: endpoint.ready,
        targets: endpoint
            .targets
            .iter()
            .map(|(from, to)| (u32::from(*from), u32::from(*to)))
            .collect(),
    };
    v1::Endpoints {
        endpoints: endpoints.0.iter().map(endpoint).collect(),
    }
}

fn to_workload(workload: &Workload) -> v1::Workload {
    v1::Workload {
        uid: workload.uid.to_string(),
        namespace: workload.namespace.to_string(),
        name: workload.name.to_string(),
        service_account: workload.service_account.to_string(),
        addresses: workload.addresses.iter().map(to_bytes).collect(),
        owner: workload.owner.as_ref().map(|owner| v1::Owner {
            kind: owner.kind.clone(),
            name: owner.name.to_string(),
        }),
        meshed: workload.membership == Membership::Meshed,
        zone: workload
            .zone
            .as_ref()
            .map_or_else(String::new, |zone| zone.as_str().to_owned()),
    }
}

fn to_protocol(protocol: Protocol) -> v1::Protocol {
    match protocol {
        Protocol::Undeclared => v1::Protocol::Undeclared,
        Protocol::Http1 => v1::Protocol::Http1,
        Protocol::Http2 => v1::Protocol::Http2,
        Protocol::Grpc => v1::Protocol::Grpc,
        Protocol::Tls => v1::Protocol::Tls,
        Protocol::Tcp => v1::Protocol::Tcp,
    }
}

fn to_bytes(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

// === wire -> model ===

fn message<M: prost::Message + Default>(
    resource: &'static str,
    bytes: &[u8],
) -> Result<M, ConvertError> {
    M::decode(bytes).map_err(|source| ConvertError::Undecodable { resource, source })
}

fn mesh(mesh: v1::Mesh) -> Result<Mesh, ConvertError> {
    const AT: &str = "Mesh";
    if mesh.mesh_port != u32::from(MESH_PORT) {
        return Err(impossible(AT, "mesh_port", mesh.mesh_port));
    }
    if mesh.trust_anchors.is_empty() {
        return Err(ConvertError::Missing {
            resource: AT,
            field: "trust_anchors",
        });
    }
    if mesh.trust_anchors.iter().any(Vec::is_empty) {
        return Err(impossible(AT, "trust_anchors", "an empty certificate"));
    }
    let ranges = mesh
        .cluster_ranges
        .iter()
        .map(|range| parse(AT, "cluster_ranges", range));
    Ok(Mesh {
        trust_domain: parse(AT, "trust_domain", &mesh.trust_domain)?,
        cluster_ranges: ClusterRanges(ranges.collect::<Result<_, _>>()?),
        trust_anchors: mesh.trust_anchors,
    })
}

fn own(own: v1::Own) -> Result<Own, ConvertError> {
    const AT: &str = "Own";
    let port = |port: &v1::OwnPort| {
        Ok((
            number(AT, "ports.port", port.port)?,
            protocol(AT, "ports.protocol", port.protocol)?,
        ))
    };
    Ok(Own {
        workload: needed(AT, "workload", own.workload).and_then(workload)?,
        ports: own.ports.iter().map(port).collect::<Result<_, _>>()?,
        leaving: own.leaving,
    })
}

fn address_owner(address: v1::Address) -> Result<AddressOwner, ConvertError> {
    const AT: &str = "Address";
    Ok(match needed(AT, "owner", address.owner)? {
        v1::address::Owner::Workload(found) => AddressOwner::Workload(workload(found)?),
        v1::address::Owner::Service(id) => AddressOwner::Service(parse(AT, "service", &id)?),
    })
}

fn service(service: v1::Service) -> Result<Service, ConvertError> {
    const AT: &str = "Service";
    let port = |port: v1::ServicePort| {
        Ok(ServicePort {
            port: number(AT, "ports.port", port.port)?,
            protocol: protocol(AT, "ports.protocol", port.protocol)?,
            name: port.name,
        })
    };
    Ok(Service {
        id: ServiceId {
            namespace: parse(AT, "namespace", &service.namespace)?,
            name: parse(AT, "name", &service.name)?,
        },
        addresses: addresses(AT, &service.addresses)?,
        terms: terms::from_wire(service.terms)?,
        ports: service
            .ports
            .into_iter()
            .map(port)
            .collect::<Result<_, _>>()?,
    })
}

fn endpoints(endpoints: v1::Endpoints) -> Result<Endpoints, ConvertError> {
    const AT: &str = "Endpoints";
    let target = |(from, to): (u32, u32)| {
        Ok((
            number(AT, "targets.key", from)?,
            number(AT, "targets.value", to)?,
        ))
    };
    let endpoint = |endpoint: v1::Endpoint| {
        Ok(Endpoint {
            workload: needed(AT, "workload", endpoint.workload).and_then(workload)?,
            ready: endpoint.ready,
            targets: endpoint
                .targets
                .into_iter()
                .map(target)
                .collect::<Result<_, _>>()?,
        })
    };
    endpoints
        .endpoints
        .into_iter()
        .map(endpoint)
        .collect::<Result<_, _>>()
        .map(Endpoints)
}

fn workload(workload: v1::Workload) -> Result<Workload, ConvertError> {
    const AT: &str = "Workload";
    let owner = |owner: v1::Owner| match owner.kind.as_str() {
        "" => Err(ConvertError::Missing {
            resource: AT,
            field: "owner.kind",
        }),
        _ => Ok(Owner {
            name: parse(AT, "owner.name", &owner.name)?,
            kind: owner.kind,
        }),
    };
    Ok(Workload {
        uid: WorkloadUid::new(&workload.uid).ok_or_else(|| impossible(AT, "uid", &workload.uid))?,
        namespace: parse(AT, "namespace", &workload.namespace)?,
        name: parse(AT, "name", &workload.name)?,
        service_account: parse(AT, "service_account", &workload.service_account)?,
        addresses: addresses(AT, &workload.addresses)?,
        owner: workload.owner.map(owner).transpose()?,
        membership: if workload.meshed {
            Membership::Meshed
        } else {
            Membership::Unmeshed
        },
        zone: match workload.zone.as_str() {
            "" => None,
            text => Some(Zone::new(text).ok_or_else(|| impossible(AT, "zone", text))?),
        },
    })
}

fn addresses(resource: &'static str, all: &[Vec<u8>]) -> Result<Vec<IpAddr>, ConvertError> {
    let address = |bytes: &Vec<u8>| match bytes.len() {
        4 => <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from).ok(),
        // An IPv4 address has one form only, or equal addresses would have different names.
        16 => <[u8; 16]>::try_from(&bytes[..])
            .map(IpAddr::from)
            .ok()
            .filter(|address| address.to_canonical() == *address),
        _ => None,
    };
    all.iter()
        .map(|bytes| {
            address(bytes).ok_or_else(|| impossible(resource, "addresses", format!("{bytes:02x?}")))
        })
        .collect()
}

fn protocol(
    resource: &'static str,
    field: &'static str,
    value: i32,
) -> Result<Protocol, ConvertError> {
    match v1::Protocol::try_from(value) {
        Ok(v1::Protocol::Undeclared) => Ok(Protocol::Undeclared),
        Ok(v1::Protocol::Http1) => Ok(Protocol::Http1),
        Ok(v1::Protocol::Http2) => Ok(Protocol::Http2),
        Ok(v1::Protocol::Grpc) => Ok(Protocol::Grpc),
        Ok(v1::Protocol::Tls) => Ok(Protocol::Tls),
        Ok(v1::Protocol::Tcp) => Ok(Protocol::Tcp),
        Err(_) => Err(impossible(resource, field, value)),
    }
}

/// A port: 1 to 65535.
fn number(resource: &'static str, field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| impossible(resource, field, value))
}

fn needed<T>(
    resource: &'static str,
    field: &'static str,
    value: Option<T>,
) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { resource, field })
}

fn parse<T: std::str::FromStr>(
    resource: &'static str,
    field: &'static str,
    text: &str,
) -> Result<T, ConvertError> {
    text.parse()
        .map_err(|_| impossible(resource, field, format!("{text:?}")))
}

fn impossible(
    resource: &'static str,
    field: &'static str,
    value: impl std::fmt::Display,
) -> ConvertError {
    ConvertError::Impossible {
        resource,
        field,
        value: short(&value.to_string()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
