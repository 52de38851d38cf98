// SPDX-License-Identifier: Apache-2.0
//! The names of what proxies ask for: one [`Key`] is one resource of `proto/maille/v1/resources.proto`.
//!
//! A key is only a name: it says nothing about whether such a thing exists. Read [`crate::translate`] next.

use std::net::IpAddr;

use maille_model::{ServiceId, WorkloadUid};
pub use maille_wire::Kind;

/// The kinds in the order in which a stream sends them when several wait.
///
/// Endpoints go before services: an endpoint of a port that a proxy does not know yet harms nobody, a port without endpoints does.
pub const SENDING: [Kind; 5] = [
    Kind::Mesh,
    Kind::Own,
    Kind::Endpoints,
    Kind::Service,
    Kind::Address,
];

/// One resource, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The only one of its kind.
    Mesh,
    /// By the workload's uid.
    Own(WorkloadUid),
    /// By the service.
    Endpoints(ServiceId),
    /// By the service.
    Service(ServiceId),
    /// By the address.
    Address(IpAddr),
}

/// A kind's place in [`SENDING`].
pub(crate) fn place(kind: Kind) -> usize {
    match kind {
        Kind::Mesh => 0,
        Kind::Own => 1,
        Kind::Endpoints => 2,
        Kind::Service => 3,
        Kind::Address => 4,
    }
}

// === impl Key ===

impl Key {
    /// Reads a resource name. `None` for a name that no resource of that kind can have; spellings other than
    /// the one that [`Key::name`] gives are such names, so that an answer always carries the name that was asked for.
    pub fn parse(kind: Kind, name: &str) -> Option<Self> {
        let key = match kind {
            Kind::Mesh => (name == "mesh").then_some(Self::Mesh),
            Kind::Own => WorkloadUid::new(name).map(Self::Own),
            Kind::Endpoints => name.parse().ok().map(Self::Endpoints),
            Kind::Service => name.parse().ok().map(Self::Service),
            Kind::Address => name.parse().ok().map(Self::Address),
        }?;
        (key.name() == name).then_some(key)
    }

    /// Which kind of resource it names.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mesh => Kind::Mesh,
            Self::Own(_) => Kind::Own,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Service(_) => Kind::Service,
            Self::Address(_) => Kind::Address,
        }
    }

    /// The resource name on the wire.
    pub fn name(&self) -> String {
        match self {
            Self::Mesh => "mesh".to_owned(),
            Self::Own(uid) => uid.to_string(),
            Self::Endpoints(id) | Self::Service(id) => id.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nothing_else_is_a_name() {
        for (kind, name) in [
            (Kind::Mesh, "mesh"),
            (Kind::Own, "0b1c-uid"),
            (Kind::Endpoints, "shop/web"),
            (Kind::Service, "shop/web"),
            (Kind::Address, "10.1.2.3"),
            (Kind::Address, "fd00:244::1"),
        ] {
            let key = Key::parse(kind, name).unwrap();
            assert_eq!((key.kind(), key.name().as_str()), (kind, name));
        }
        for (kind, name) in [
            (Kind::Mesh, "*"),
            (Kind::Own, ""),
            (Kind::Service, "web"),
            (Kind::Endpoints, "shop/web/8080"),
            (Kind::Address, "10.1.2.3:80"),
            (Kind::Address, "FD00:244::1"),
            (Kind::Address, "fd00:0244::1"),
        ] {
            assert_eq!(Key::parse(kind, name), None, "{name:?}");
        }
        for (place, kind) in SENDING.into_iter().enumerate() {
            assert_eq!(super::place(kind), place);
        }
    }
}
