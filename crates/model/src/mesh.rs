// SPDX-License-Identifier: Apache-2.0
//! The mesh as a whole.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::identity::TrustDomain;

/// The one port on which meshed workloads are reached, for HTTP and TCP alike.
pub const MESH_PORT: u16 = 15008;

/// The port on which a proxy itself answers: metrics and readiness, for whoever can reach its pod.
pub const METRICS_PORT: u16 = 4191;

/// The port of loopback by which an inboard proxy tries whether its pod is captured: what it dials there is redirected to itself,
/// and nobody else's connection is. (9 is "discard": nothing that anybody needs is there.)
pub const PROBE_PORT: u16 = 9;

/// Where an inboard proxy takes what its application dials: connections are redirected there.
pub const OUTBOUND_PORT: u16 = 15001;

/// Where a proxy takes what is sent to its application in plain text.
pub const INBOUND_PORT: u16 = 15006;

/// What every proxy of a mesh shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Whose identities are believed.
    pub trust_domain: TrustDomain,
    /// Certificates (DER) that every chain must end in.
    pub trust_anchors: Vec<Vec<u8>>,
    /// Addresses that only control can explain.
    pub cluster_ranges: ClusterRanges,
}

/// Pod and service ranges. An address inside is never dialled before control has said whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRanges(pub Vec<IpNet>);

impl ClusterRanges {
    /// Whether only control can say who owns `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }
}
