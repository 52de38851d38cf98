// SPDX-License-Identifier: Apache-2.0
//! The immutable view one decision is taken from: what control said, by name, and what it has not said yet.
//!
//! The order in which control's words arrive must never matter: a snapshot is a function of the last word on each name.
//! Read `route.rs` next.

use std::collections::hash_map;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::HashMap;
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

/// Everything that control said so far. Cheap to clone: entries are shared, and so are their marks of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    mesh: Option<Arc<Mesh>>,
    own: Option<Arc<Own>>,
    addresses: HashMap<IpAddr, Entry<AddressOwner>>,
    services: HashMap<ServiceId, Entry<Service>>,
    endpoints: HashMap<ServiceId, Entry<Group>>,
}

/// An answer. The mark says that a decision read it, so that discovery knows what nobody needs any more; decisions never read the mark.
#[derive(Debug)]
struct Entry<V> {
    value: Option<Arc<V>>,
    used: Arc<AtomicBool>,
}

/// The ready workloads behind a service, by service port; those of a port in the order of their uids.
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
}

// === impl Entry ===

impl<V> Entry<V> {
    fn known(&self) -> Known<&Arc<V>> {
        self.value.as_ref().map_or(Known::Absent, Known::Present)
    }

    fn read(&self) -> Known<&Arc<V>> {
        // Looking first keeps the cache line shared.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.known()
    }
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            used: Arc::clone(&self.used),
        }
    }
}

impl<V: PartialEq> PartialEq for Entry<V> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<V: Eq> Eq for Entry<V> {}

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
        self.addresses
            .get(&address)
            .map_or(Known::Unknown, Entry::read)
    }

    /// The service `id`.
    pub fn service(&self, id: &ServiceId) -> Known<&Arc<Service>> {
        self.services.get(id).map_or(Known::Unknown, Entry::read)
    }

    /// The ready workloads behind the service `id`.
    pub fn endpoints(&self, id: &ServiceId) -> Known<&Arc<Group>> {
        self.endpoints.get(id).map_or(Known::Unknown, Entry::read)
    }

    /// Addresses with an answer, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Known<&Arc<AddressOwner>>)> {
        self.addresses
            .iter()
            .map(|(address, entry)| (*address, entry.known()))
    }

    /// Services with an answer, in no order.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceId, Known<&Arc<Service>>)> {
        self.services.iter().map(|(id, entry)| (id, entry.known()))
    }

    /// Groups with an answer, in no order.
    pub fn groups(&self) -> impl Iterator<Item = (&ServiceId, Known<&Arc<Group>>)> {
        self.endpoints.iter().map(|(id, entry)| (id, entry.known()))
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

    /// Whether a decision read the answer about `key` since this was last asked, in this snapshot or one that it was made from.
    pub fn take_used(&self, key: &Key) -> bool {
        let used = match key {
            Key::Mesh | Key::Own => return true,
            Key::Address(address) => self.addresses.get(address).map(|entry| &entry.used),
            Key::Service(id) => self.services.get(id).map(|entry| &entry.used),
            Key::Endpoints(id) => self.endpoints.get(id).map(|entry| &entry.used),
        };
        used.is_some_and(|used| used.swap(false, Ordering::Relaxed))
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

fn set<K: Hash + Eq, V>(map: &mut HashMap<K, Entry<V>>, key: K, value: Known<V>) {
    let value = match value {
        Known::Unknown => return drop(map.remove(&key)),
        Known::Absent => None,
        Known::Present(value) => Some(Arc::new(value)),
    };
    match map.entry(key) {
        hash_map::Entry::Occupied(mut known) => known.get_mut().value = value,
        hash_map::Entry::Vacant(place) => {
            place.insert(Entry {
                value,
                used: Arc::default(),
            });
        }
    }
}

// === impl Group ===

impl Group {
    /// Keeps what takes new connections, and sorts it by service port and uid.
    fn of(endpoints: Endpoints) -> Self {
        let mut ports: Vec<(u16, Vec<Candidate>)> = Vec::new();
        let mut ready = endpoints.0;
        ready.retain(|endpoint| endpoint.ready);
        // Control sends them so; then this costs one look.
        ready.sort_by(|a, b| a.workload.uid.cmp(&b.workload.uid));
        for endpoint in ready {
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
