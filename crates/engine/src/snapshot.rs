// SPDX-License-Identifier: Apache-2.0
//! The immutable view one decision is taken from: what control said, by name, and what it has not said yet.
//!
//! The order in which control's words arrive must never matter: a snapshot is a function of the last word on each name.
//! Read `route.rs` next.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use maille_model::{
    AddressOwner, Endpoints, Membership, Mesh, Own, Service, ServiceId, Workload, WorkloadUid,
};

/// What control said about one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known<T> {
    /// Nothing yet.
    #[default]
    Unknown,
    /// There is no such thing.
    Absent,
    /// This.
    Present(T),
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The mesh as a whole: asked for always.
    Mesh,
    /// The own workload: asked for always.
    Own,
    /// Whose an address is.
    Address(IpAddr),
    /// A service's addresses and ports.
    Service(ServiceId),
    /// The workloads behind a service.
    Endpoints(ServiceId),
}

/// Everything that control said so far. Cheap to clone: entries are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    mesh: Option<Arc<Mesh>>,
    own: Option<Arc<Own>>,
    addresses: HashMap<IpAddr, Option<Arc<AddressOwner>>>,
    services: HashMap<ServiceId, Option<Arc<Service>>>,
    endpoints: HashMap<ServiceId, Option<Arc<Group>>>,
}

/// The ready workloads behind a service, by service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    ports: Vec<(u16, Vec<Candidate>)>,
}

/// A ready workload and the port on which it answers for one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    workload: Arc<Workload>,
    port: u16,
}

// === impl Known ===

impl<T> Known<T> {
    /// What there is, if there is something.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// The same, seen through `change`.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Unknown => Known::Unknown,
            Self::Absent => Known::Absent,
            Self::Present(value) => Known::Present(change(value)),
        }
    }

    fn of(entry: Option<&Option<T>>) -> Known<&T> {
        match entry {
            None => Known::Unknown,
            Some(None) => Known::Absent,
            Some(Some(value)) => Known::Present(value),
        }
    }
}

// === impl Snapshot: what decisions read ===

impl Snapshot {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether enough is known to admit anything at all.
    pub fn is_complete(&self) -> bool {
        self.mesh.is_some() && self.own.is_some()
    }

    /// The mesh as a whole.
    pub fn mesh(&self) -> Option<&Arc<Mesh>> {
        self.mesh.as_ref()
    }

    /// The own workload.
    pub fn own(&self) -> Option<&Arc<Own>> {
        self.own.as_ref()
    }

    /// Whose `address` is.
    pub fn address(&self, address: IpAddr) -> Known<&Arc<AddressOwner>> {
        Known::of(self.addresses.get(&address))
    }

    /// The service `id`.
    pub fn service(&self, id: &ServiceId) -> Known<&Arc<Service>> {
        Known::of(self.services.get(id))
    }

    /// The ready workloads behind the service `id`.
    pub fn endpoints(&self, id: &ServiceId) -> Known<&Arc<Group>> {
        Known::of(self.endpoints.get(id))
    }

    /// Addresses with an answer, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Known<&Arc<AddressOwner>>)> {
        self.addresses
            .iter()
            .map(|(address, entry)| (*address, Known::of(Some(entry))))
    }

    /// Services with an answer, in no order.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceId, Known<&Arc<Service>>)> {
        self.services
            .iter()
            .map(|(id, entry)| (id, Known::of(Some(entry))))
    }

    /// Groups with an answer, in no order.
    pub fn groups(&self) -> impl Iterator<Item = (&ServiceId, Known<&Arc<Group>>)> {
        self.endpoints
            .iter()
            .map(|(id, entry)| (id, Known::of(Some(entry))))
    }
}

// === impl Snapshot: what discovery writes ===

impl Snapshot {
    /// Control said what the mesh is. There is no taking it back.
    pub fn set_mesh(&mut self, mesh: Mesh) {
        self.mesh = Some(Arc::new(mesh));
    }

    /// Control said what the own workload is. There is no taking it back: the last good word stays in force.
    pub fn set_own(&mut self, own: Own) {
        self.own = Some(Arc::new(own));
    }

    /// Control said, or took back, whose `address` is.
    pub fn set_address(&mut self, address: IpAddr, owner: Known<AddressOwner>) {
        set(&mut self.addresses, address, owner);
    }

    /// Control said, or took back, what the service `id` is.
    pub fn set_service(&mut self, id: ServiceId, service: Known<Service>) {
        set(&mut self.services, id, service);
    }

    /// Control said, or took back, who is behind the service `id`.
    pub fn set_endpoints(&mut self, id: ServiceId, endpoints: Known<Endpoints>) {
        set(&mut self.endpoints, id, endpoints.map(Group::of));
    }

    /// Forgets what was said about `key`. The mesh and the own workload are never forgotten.
    pub fn forget(&mut self, key: &Key) {
        match key {
            Key::Mesh | Key::Own => {}
            Key::Address(address) => drop(self.addresses.remove(address)),
            Key::Service(id) => drop(self.services.remove(id)),
            Key::Endpoints(id) => drop(self.endpoints.remove(id)),
        }
    }
}

fn set<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, Option<Arc<V>>>, key: K, value: Known<V>) {
    match value {
        Known::Unknown => drop(map.remove(&key)),
        Known::Absent => drop(map.insert(key, None)),
        Known::Present(value) => drop(map.insert(key, Some(Arc::new(value)))),
    }
}

// === impl Group ===

impl Group {
    /// Keeps what takes new connections, and sorts it by service port.
    fn of(endpoints: Endpoints) -> Self {
        let mut ports: Vec<(u16, Vec<Candidate>)> = Vec::new();
        for endpoint in endpoints.0.into_iter().filter(|endpoint| endpoint.ready) {
            let workload = Arc::new(endpoint.workload);
            for (service_port, port) in endpoint.targets {
                let candidate = Candidate {
                    workload: Arc::clone(&workload),
                    port,
                };
                match ports.binary_search_by_key(&service_port, |(port, _)| *port) {
                    Ok(place) => ports[place].1.push(candidate),
                    Err(place) => ports.insert(place, (service_port, vec![candidate])),
                }
            }
        }
        Self { ports }
    }

    /// Who answers for the service's `port`.
    pub fn candidates(&self, port: u16) -> &[Candidate] {
        self.ports
            .binary_search_by_key(&port, |(port, _)| *port)
            .map_or(&[], |place| &self.ports[place].1)
    }

    /// Service ports that somebody answers for, rising.
    pub fn ports(&self) -> impl Iterator<Item = (u16, &[Candidate])> {
        self.ports
            .iter()
            .map(|(port, candidates)| (*port, &candidates[..]))
    }
}

// === impl Candidate ===

impl Candidate {
    /// Who answers.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Its uid.
    pub fn uid(&self) -> &WorkloadUid {
        &self.workload.uid
    }

    /// On which of its ports.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is reached through its proxy only.
    pub fn meshed(&self) -> bool {
        self.workload.membership == Membership::Meshed
    }

    /// Its address of the same family as `like`, else its first. `None` for a workload without addresses.
    pub fn address(&self, like: IpAddr) -> Option<IpAddr> {
        let addresses = &self.workload.addresses;
        let same = addresses
            .iter()
            .find(|address| address.is_ipv4() == like.is_ipv4());
        same.or_else(|| addresses.first()).copied()
    }
}

#[cfg(test)]
mod tests;
