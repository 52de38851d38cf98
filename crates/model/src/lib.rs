// SPDX-License-Identifier: Apache-2.0
//! The language of the mesh. Every value here was parsed, so nobody validates it again.
//!
//! Pure: no I/O, no clock, no serialisation. Read [`identity`] first, then [`workload`] and [`service`].

#![forbid(unsafe_code)]

/// Trust domains, namespaces, service accounts and the SPIFFE IDs made of them.
pub mod identity;
/// Histogram buckets for latencies.
pub mod latency;
/// The mesh as a whole: trust domain and cluster ranges.
pub mod mesh;
/// Sets of ports, as people write them.
pub mod ports;
/// What a port speaks, as far as somebody declared it.
pub mod protocol;
/// Names that TLS clients ask for.
pub mod server_name;
/// Services: what clients address, and the endpoints behind.
pub mod service;
/// The terms on which a Service is called.
pub mod terms;
/// Pods and machines with an identity.
pub mod workload;

pub use identity::{Identity, IdentityError, Name, NameError, TrustDomain};
pub use mesh::{
    ClusterRanges, INBOUND_PORT, MESH_PORT, METRICS_PORT, Mesh, OUTBOUND_PORT, PROBE_PORT,
};
pub use ports::{Ports, PortsError};
pub use protocol::Protocol;
pub use server_name::{NotServerName, ServerName};
pub use service::{AddressOwner, Endpoint, Endpoints, Service, ServiceId, ServicePort};
pub use terms::Terms;
pub use workload::{Membership, Own, Owner, Workload, WorkloadUid, Zone};
