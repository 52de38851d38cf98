// SPDX-License-Identifier: Apache-2.0
//! Objects to model: the one place that knows what exists. Pure: no I/O, no clock; equal sets of objects give equal
//! answers, whatever the order in which they came (the confluence test of [`crate::translate`]).
//!
//! Every fact is kept once; what follows from several objects (endpoints, owners of addresses) is worked out when it is
//! asked for. [`Index::apply`] says which keys may differ afterwards. Read [`pod`] and [`service`], then [`crate::translate`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use maille_manifest::Object;
use maille_model::{
    AddressOwner, Endpoint, Endpoints, Name, Own, Protocol, ServiceId, Workload, WorkloadUid,
};

use crate::key::Key;

/// Who claims which address.
pub mod address;
/// Pods.
pub mod pod;
/// Services.
pub mod service;
/// Endpoints that are written down.
pub mod slice;

pub use address::Claimant;
pub use pod::{Capture, Phase, Pod, PodError};
pub use service::{Service, ServiceError, Target};
pub use slice::{Slice, SliceError};

/// The keys that may differ after a change; a superset of those that do.
pub type Dirty = BTreeSet<Key>;

/// A change of one object, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The pod is now this; whatever was known under its uid is forgotten.
    Pod(Box<Pod>),
    /// The service is now this.
    Service(Box<Service>),
    /// The slice is now this.
    Slice(Box<Slice>),
    /// The pod is gone.
    PodGone(WorkloadUid),
    /// The service is gone.
    ServiceGone(ServiceId),
    /// The slice of this namespace and name is gone.
    SliceGone(ServiceId),
}

/// Why an object cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// As a pod.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// As a service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// As a slice.
    #[error(transparent)]
    Slice(#[from] SliceError),
}

/// What exists.
#[derive(Debug, Default)]
pub struct Index {
    pods: HashMap<WorkloadUid, Pod>,
    services: BTreeMap<Name, BTreeMap<Name, Service>>,
    /// By their own namespace and name.
    slices: BTreeMap<ServiceId, Slice>,
    members: BTreeMap<Name, BTreeSet<WorkloadUid>>,
    claims: address::Claims,
}

// === impl Change ===

impl Change {
    /// Reads a Kubernetes object; `None` for a kind of which nothing follows here.
    pub fn read(object: &Object) -> Result<Option<Self>, ReadError> {
        Ok(match object {
            Object::Pod(pod) => Some(Self::Pod(Box::new(Pod::read(pod)?))),
            Object::Service(service) => Some(Self::Service(Box::new(Service::read(service)?))),
            Object::EndpointSlice(slice) => Some(Self::Slice(Box::new(Slice::read(slice)?))),
            _ => None,
        })
    }
}

// === impl Index ===

impl Index {
    /// Takes one change.
    pub fn apply(&mut self, change: Change) -> Dirty {
        match change {
            Change::Pod(pod) => {
                let uid = pod.workload.uid.clone();
                self.put_pod(&uid, Some(*pod))
            }
            Change::PodGone(uid) => self.put_pod(&uid, None),
            Change::Service(service) => {
                let id = service.facts.id.clone();
                self.put_service(&id, Some(*service))
            }
            Change::ServiceGone(id) => self.put_service(&id, None),
            Change::Slice(slice) => {
                let id = slice.id.clone();
                self.put_slice(&id, Some(*slice))
            }
            Change::SliceGone(id) => self.put_slice(&id, None),
        }
    }

    fn put_pod(&mut self, uid: &WorkloadUid, after: Option<Pod>) -> Dirty {
        let mut dirty = Dirty::new();
        let before = self.pods.remove(uid);
        if before == after {
            self.pods.extend(after.map(|pod| (uid.clone(), pod)));
            return dirty;
        }
        let claimed = |pod: &Option<Pod>| {
            pod.as_ref()
                .filter(|pod| pod.owns_addresses())
                .map_or_else(Vec::new, |pod| pod.workload.addresses.clone())
        };
        let (old, new) = (claimed(&before), claimed(&after));
        self.claims.replace(&Claimant::Pod(uid.clone()), &old, &new);
        dirty.insert(Key::Own(uid.clone()));
        // An address that a slice names is somebody else's from now on.
        let named = |slice: &&Slice| {
            let mut addresses = slice.endpoints.iter().map(|(address, _)| address);
            addresses.any(|address| old.contains(address) || new.contains(address))
        };
        let slices = self.slices.values().filter(named);
        dirty.extend(slices.map(|slice| Key::Endpoints(slice.owner())));
        dirty.extend(old.into_iter().chain(new).map(Key::Address));
        for pod in before.iter().chain(&after) {
            let services = self.services_of(&pod.workload.namespace);
            let selecting = services.filter(|service| service.selects(&pod.labels));
            dirty.extend(selecting.map(|service| Key::Endpoints(service.facts.id.clone())));
        }
        if let Some(pod) = &before
            && let Some(members) = self.members.get_mut(&pod.workload.namespace)
        {
            members.remove(uid);
            if members.is_empty() {
                self.members.remove(&pod.workload.namespace);
            }
        }
        if let Some(pod) = after {
            let members = self.members.entry(pod.workload.namespace.clone());
            members.or_default().insert(uid.clone());
            self.pods.insert(uid.clone(), pod);
        }
        dirty
    }

    fn put_service(&mut self, id: &ServiceId, after: Option<Service>) -> Dirty {
        let mut dirty = Dirty::new();
        let services = self.services.entry(id.namespace.clone()).or_default();
        let before = match &after {
            Some(service) => services.insert(id.name.clone(), service.clone()),
            None => services.remove(&id.name),
        };
        if services.is_empty() {
            self.services.remove(&id.namespace);
        }
        if before == after {
            return dirty;
        }
        let addresses = |service: &Option<Service>| {
            service
                .as_ref()
                .map_or_else(Vec::new, |service| service.facts.addresses.clone())
        };
        let (old, new) = (addresses(&before), addresses(&after));
        self.claims
            .replace(&Claimant::Service(id.clone()), &old, &new);
        dirty.insert(Key::Service(id.clone()));
        dirty.insert(Key::Endpoints(id.clone()));
        dirty.extend(old.into_iter().chain(new).map(Key::Address));
        for service in before.iter().chain(&after) {
            let selected = self.selected(service);
            dirty.extend(selected.map(|pod| Key::Own(pod.workload.uid.clone())));
        }
        dirty
    }

    fn put_slice(&mut self, id: &ServiceId, after: Option<Slice>) -> Dirty {
        let before = match &after {
            Some(slice) => self.slices.insert(id.clone(), slice.clone()),
            None => self.slices.remove(id),
        };
        if before == after {
            return Dirty::new();
        }
        let slices = before.iter().chain(&after);
        slices.map(|slice| Key::Endpoints(slice.owner())).collect()
    }

    /// The endpoints of a service that are written down: pods, and whoever else is at these addresses.
    fn written(&self, service: &Service) -> Vec<Endpoint> {
        let id = &service.facts.id;
        let slices = self.slices.values().filter(|slice| slice.owner() == *id);
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for slice in slices {
            let targets = slice.targets(service);
            for (address, ready) in &slice.endpoints {
                let workload = match self.owner_of(*address) {
                    Some(AddressOwner::Workload(workload)) => Some(workload),
                    // A service behind a service would go round in circles.
                    Some(AddressOwner::Service(_)) => None,
                    None => slice.outsider(*address),
                };
                let known = |workload: &Workload| {
                    let mut listed = endpoints.iter();
                    listed.any(|endpoint| endpoint.workload.uid == workload.uid)
                };
                endpoints.extend(workload.filter(|w| !known(w)).map(|workload| Endpoint {
                    workload,
                    ready: *ready,
                    targets: targets.clone(),
                }));
            }
        }
        endpoints
    }

    /// The pod with this uid.
    pub fn pod(&self, uid: &WorkloadUid) -> Option<&Pod> {
        self.pods.get(uid)
    }

    /// Every pod, by namespace; the order within one is that of uids.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        let uids = self.members.values().flatten();
        uids.filter_map(|uid| self.pods.get(uid))
    }

    /// The service of this name.
    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.services.get(&id.namespace)?.get(&id.name)
    }

    /// Every service, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().flat_map(BTreeMap::values)
    }

    fn services_of(&self, namespace: &Name) -> impl Iterator<Item = &Service> {
        self.services
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    fn selected<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Pod> {
        let members = self.members.get(&service.facts.id.namespace);
        let pods = members.into_iter().flatten();
        pods.filter_map(|uid| self.pods.get(uid))
            .filter(|pod| service.selects(&pod.labels))
    }

    /// The workloads behind a service, by uid; `None` where there is no such service.
    ///
    /// A pod that is finished or has no address yet is not listed; one that is going or not ready is, as not ready. Where
    /// none is ready, those that are going but still answer are: better served by them than by nobody (KEP-1669).
    pub fn endpoints(&self, id: &ServiceId) -> Option<Endpoints> {
        let service = self.service(id)?;
        let listed = self
            .selected(service)
            .filter(|pod| pod.has_addresses() && !pod.workload.addresses.is_empty());
        let listed: Vec<&Pod> = listed.collect();
        let all_go = !listed.iter().any(|pod| pod.takes_connections());
        let endpoints = listed.into_iter().map(|pod| {
            let targets: BTreeMap<u16, u16> = service
                .resolve(pod)
                .map(|(port, target, _)| (port, target))
                .collect();
            Endpoint {
                workload: pod.workload.clone(),
                ready: service.unready_too || pod.takes_connections() || (all_go && pod.answers()),
                targets: targets.into_iter().collect(),
            }
        });
        let mut endpoints: Vec<Endpoint> = endpoints.collect();
        endpoints.extend(self.written(service));
        // One that is both selected and written down is one.
        endpoints.sort_by(|a, b| a.workload.uid.cmp(&b.workload.uid));
        endpoints.dedup_by(|later, first| later.workload.uid == first.workload.uid);
        Some(Endpoints(endpoints))
    }

    /// What the proxy of a workload must know about it; `None` unless it is meshed and not finished.
    ///
    /// A port that two services declare differently counts as undeclared: its first bytes decide.
    pub fn own(&self, uid: &WorkloadUid) -> Option<Own> {
        let pod = self.pod(uid).filter(|pod| pod.is_served())?;
        let mut declared: BTreeMap<u16, Vec<Protocol>> = BTreeMap::new();
        let services = self.services_of(&pod.workload.namespace);
        for service in services.filter(|service| service.selects(&pod.labels)) {
            for (_, target, protocol) in service.resolve(pod) {
                let said = declared.entry(target).or_default();
                if protocol != Protocol::Undeclared && !said.contains(&protocol) {
                    said.push(protocol);
                }
            }
        }
        let ports = declared.into_iter().map(|(port, said)| match *said {
            [protocol] => (port, protocol),
            _ => (port, Protocol::Undeclared),
        });
        Some(Own {
            workload: pod.workload.clone(),
            ports: ports.collect(),
            leaving: pod.terminating,
        })
    }

    /// Whose an address is.
    ///
    /// A service's goes before a pod's. Of several pods the running one has it that is not going (then the greater uid).
    pub fn owner_of(&self, address: IpAddr) -> Option<AddressOwner> {
        let claimants = || self.claims.of(address);
        let service = claimants().find_map(|claimant| match claimant {
            Claimant::Service(id) => Some(id.clone()),
            Claimant::Pod(_) => None,
        });
        if let Some(id) = service {
            return Some(AddressOwner::Service(id));
        }
        let pods = claimants().filter_map(|claimant| match claimant {
            Claimant::Pod(uid) => self.pod(uid),
            Claimant::Service(_) => None,
        });
        pods.max_by_key(|pod| (pod.phase, !pod.terminating, &pod.workload.uid))
            .map(|pod| AddressOwner::Workload(pod.workload.clone()))
    }

    /// Addresses that more than one claims, with a sentence each, for reports; sorted.
    pub fn disputes(&self) -> Vec<String> {
        let name = |claimant: &Claimant| match claimant {
            Claimant::Service(id) => format!("service {id}"),
            Claimant::Pod(uid) => self.pod(uid).map_or_else(
                || format!("pod {uid}"),
                |pod| format!("pod {}/{}", pod.workload.namespace, pod.workload.name),
            ),
        };
        let sentences = self.claims.disputed().map(|(address, claimants)| {
            let names: Vec<String> = claimants.iter().map(name).collect();
            format!("{address} is claimed by {}", names.join(" and "))
        });
        let mut sentences: Vec<String> = sentences.collect();
        sentences.sort();
        sentences
    }
}

#[cfg(test)]
mod tests;
