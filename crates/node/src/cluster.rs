// SPDX-License-Identifier: Apache-2.0
//! What this machine knows: services, ConfigMaps, namespaces, and the pods with their status. Everybody else reads it from here.
//!
//! A pod's status is published by [`Cluster::publish`] alone: in memory, in `pods/UID/pod.json` (whole, by rename, for control) and
//! as a line of JSON on standard output (for `maille up`). Read `runner.rs` for who publishes.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maille_manifest::marks::INJECT;
use maille_manifest::objects::{
    EndpointSlice, Namespace, Object, Pod, Service, Transport, selects,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::data::Data;
use crate::dns::{Names, ServiceNames};
use crate::machine::Machine;

/// Shared by all tasks.
#[derive(Debug)]
pub(crate) struct Cluster {
    state_dir: PathBuf,
    state: Mutex<State>,
    data: watch::Sender<Arc<Data>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    namespaces: BTreeMap<String, Namespace>,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    pods: BTreeMap<String, Pod>,
}

/// How a pod's packets reach its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    /// Through a namespace between wire and pod.
    Outboard,
    /// Not at all: the pod is outside the mesh.
    None,
}

// === impl Cluster ===

impl Cluster {
    /// Nothing yet.
    pub(crate) fn new(state_dir: &Path, machine: Machine) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            state: Mutex::new(State {
                namespaces: BTreeMap::new(),
                services: Vec::new(),
                slices: Vec::new(),
                pods: BTreeMap::new(),
            }),
            data: watch::Sender::new(Arc::new(Data::of([], machine))),
            changed: watch::Sender::new(0),
        }
    }

    /// From now on there are these objects, and no others. Pods that run are another matter.
    pub(crate) fn declare<'a>(&self, objects: impl IntoIterator<Item = &'a Object> + Clone) {
        let (mut namespaces, mut services) = (BTreeMap::new(), Vec::new());
        let mut slices = Vec::new();
        let machine = self.data().machine;
        let data = Data::of(objects.clone(), machine);
        for object in objects {
            let metadata = object.metadata();
            let name = metadata.name.to_string();
            match object {
                Object::Namespace(namespace) => {
                    namespaces.insert(name, namespace.clone());
                }
                Object::Service(service) => services.push(service.clone()),
                Object::EndpointSlice(slice) => slices.push(slice.clone()),
                _ => {}
            }
        }
        {
            let mut state = self.state.lock();
            state.namespaces = namespaces;
            state.services = services;
            state.slices = slices;
        }
        self.data.send_if_modified(|known| {
            let differs = **known != data;
            if differs {
                *known = Arc::new(data);
            }
            differs
        });
        self.changed.send_modify(|version| *version += 1);
    }

    /// Tells of every change: of objects, and of a pod's status.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Every ConfigMap and Secret.
    pub(crate) fn data(&self) -> Arc<Data> {
        self.data.borrow().clone()
    }

    /// The same, and every change of it.
    pub(crate) fn data_changes(&self) -> watch::Receiver<Arc<Data>> {
        self.data.subscribe()
    }

    /// Where services without a selector lead.
    pub(crate) fn slices(&self) -> Vec<EndpointSlice> {
        self.state.lock().slices.clone()
    }

    /// Every service.
    pub(crate) fn services(&self) -> Vec<Service> {
        self.state.lock().services.clone()
    }

    /// Every pod as last published.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.state.lock().pods.values().cloned().collect()
    }

    /// Where everything of one pod is kept.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.state_dir.join("pods").join(uid)
    }

    /// Decides whether `pod` is in the mesh: the pod wins over its namespace, a label over an annotation; by default it is.
    /// One on the node's network never is: what it sends cannot be told from what others send there.
    pub(crate) fn capture(&self, pod: &Pod) -> Capture {
        if pod.spec.host_network {
            return Capture::None;
        }
        let state = self.state.lock();
        let namespace = state
            .namespaces
            .get(pod.metadata.namespace())
            .map(|namespace| &namespace.metadata);
        let said = [Some(&pod.metadata), namespace]
            .into_iter()
            .flatten()
            .find_map(|metadata| {
                metadata
                    .labels
                    .get(INJECT)
                    .or_else(|| metadata.annotations.get(INJECT))
            });
        match said.map(String::as_str) {
            Some("disabled" | "false") => Capture::None,
            _ => Capture::Outboard,
        }
    }

    /// Replaces what is known of `pod`, for everybody.
    pub(crate) fn publish(&self, pod: &Pod) -> io::Result<()> {
        replace(
            &self.pod_dir(&pod.metadata.uid).join("pod.json"),
            &maille_manifest::to_json(pod),
        )?;
        self.state
            .lock()
            .pods
            .insert(pod.metadata.uid.clone(), pod.clone());
        self.changed.send_modify(|version| *version += 1);
        tell(&serde_json::json!({
            "event": "pod",
            "namespace": pod.metadata.namespace(),
            "name": pod.metadata.name.as_str(),
            "uid": pod.metadata.uid,
            "ready": pod.is_ready(),
            "message": pod.status.message,
        }));
        Ok(())
    }

    /// Forgets a pod and removes its directory.
    pub(crate) fn remove(&self, uid: &str) -> io::Result<()> {
        let known = self.state.lock().pods.remove(uid);
        self.changed.send_modify(|version| *version += 1);
        if let Some(pod) = known {
            tell(&serde_json::json!({
                "event": "gone",
                "namespace": pod.metadata.namespace(),
                "name": pod.metadata.name.as_str(),
                "uid": uid,
            }));
        }
        let dir = self.pod_dir(uid);
        // First the file that control reads, so that it never sees half of a directory.
        std::fs::remove_file(dir.join("pod.json"))?;
        std::fs::remove_dir_all(dir)
    }

    /// What DNS says now.
    pub(crate) fn names(&self) -> Names {
        let state = self.state.lock();
        let mut names = Names::default();
        for namespace in state.namespaces.keys() {
            names.services.entry(namespace.clone()).or_default();
        }
        for pod in state.pods.values().filter(|pod| !pod.is_finished()) {
            let namespace = pod.metadata.namespace().to_owned();
            names
                .pods
                .entry(namespace)
                .or_default()
                .extend(pod.addresses());
        }
        for service in &state.services {
            let metadata = &service.metadata;
            let (addresses, hosts) = match service.is_headless() {
                true => state.headless(service),
                false => (service.addresses().collect(), BTreeMap::new()),
            };
            let ports = service
                .spec
                .ports
                .iter()
                .filter(|port| !port.name.is_empty())
                .map(|port| {
                    let transport = match port.protocol {
                        Transport::Tcp => "tcp",
                        Transport::Udp => "udp",
                    };
                    (port.name.clone(), transport, port.port)
                })
                .collect();
            names
                .services
                .entry(metadata.namespace().to_owned())
                .or_default()
                .insert(
                    metadata.name.to_string(),
                    ServiceNames {
                        addresses,
                        hosts,
                        headless: service.is_headless(),
                        alias: service
                            .spec
                            .external_name
                            .clone()
                            .filter(|_| service.is_alias()),
                        ports,
                    },
                );
        }
        names
    }
}

// === impl State ===

impl State {
    /// The addresses that a headless service's name means, and those that have a name of their own below it.
    fn headless(&self, service: &Service) -> (Vec<IpAddr>, BTreeMap<String, Vec<IpAddr>>) {
        let name = service.metadata.name.as_str();
        let mut all: Vec<(IpAddr, Option<&str>)> = Vec::new();
        let unready = service.spec.publish_not_ready_addresses;
        let pods = self.pods.values().filter(|pod| !pod.is_finished());
        for pod in pods.filter(|pod| (unready || pod.is_ready()) && behind(service, pod)) {
            let below = pod.spec.subdomain.as_deref() == Some(name);
            let host = pod.spec.hostname.as_deref().filter(|_| below);
            all.extend(pod.addresses().map(|ip| (ip, host)));
        }
        let slices = self.slices.iter().filter(|slice| {
            slice.metadata.namespace == service.metadata.namespace && slice.service() == Some(name)
        });
        for slice in slices {
            all.extend(slice.ready());
        }
        all.retain(|(ip, _)| service.has_family_of(*ip));
        let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (ip, host) in &all {
            if let Some(host) = host {
                hosts.entry((*host).to_owned()).or_default().push(*ip);
            }
        }
        (all.into_iter().map(|(ip, _)| ip).collect(), hosts)
    }
}

/// Whether `service` selects `pod`.
fn behind(service: &Service, pod: &Pod) -> bool {
    service.metadata.namespace == pod.metadata.namespace
        && selects(&service.spec.selector, &pod.metadata.labels)
}

/// Writes a file whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(beside, path)
}

/// One line of progress for whoever started this process; nobody may be listening.
pub(crate) fn tell(line: &serde_json::Value) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests;
