// SPDX-License-Identifier: Apache-2.0
//! Model to wire: a resource is a pure function of its key and the [`View`], and its version is the hash of its bytes.
//!
//! Same view, same bytes, whatever the order of events that led to it; equal versions are never sent twice. It must never
//! read a clock, a counter or anything outside the view. Read [`crate::serve`] next.

use std::sync::Arc;

use maille_model::{Endpoints, Mesh, ServiceId};
use maille_wire::Resource;

use crate::index::Index;
use crate::key::Key;

/// Bytes and versions.
mod encoded;

pub use encoded::{Encoded, Version};

/// All that a resource may be made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What exists.
    pub index: &'a Index,
    /// What every proxy shares.
    pub mesh: &'a Mesh,
}

/// The resource called `key`, or `None` where there is nothing of that name.
pub fn translate(key: &Key, view: &View<'_>) -> Option<Arc<Encoded>> {
    let resource = match key {
        Key::Mesh => Resource::Mesh(view.mesh.clone()),
        Key::Own(uid) => Resource::Own(view.index.own(uid)?),
        Key::Endpoints(id) => Resource::Endpoints(endpoints(id, view)?),
        Key::Service(id) => Resource::Service(view.index.service(id)?.facts.clone()),
        Key::Address(address) => Resource::Address(view.index.owner_of(*address)?),
    };
    Some(Arc::new(Encoded::new(resource.encode().into())))
}

/// The endpoints of a service, without those that somebody wrote down at an address of the cluster's that is nobody's: a pod has
/// left it, the next one may be meshed, and nobody may be dialled there in plain text meanwhile.
fn endpoints(id: &ServiceId, view: &View<'_>) -> Option<Endpoints> {
    let mut endpoints = view.index.endpoints(id)?;
    let ranges = &view.mesh.cluster_ranges;
    endpoints.0.retain(|endpoint| {
        let workload = &endpoint.workload;
        let mut addresses = workload.addresses.iter();
        view.index.pod(&workload.uid).is_some()
            || !addresses.any(|address| ranges.contains(*address))
    });
    Some(endpoints)
}

#[cfg(test)]
mod tests;
