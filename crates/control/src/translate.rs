// SPDX-License-Identifier: Apache-2.0
//! Model to wire: a resource is a pure function of its key and the [`View`], and its version is the hash of its bytes.
//!
//! Same view, same bytes, whatever the order of events that led to it; equal versions are never sent twice. It must never
//! read a clock, a counter or anything outside the view. Read [`crate::serve`] next.

use std::sync::Arc;

use maille_model::Mesh;
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
        Key::Endpoints(id) => Resource::Endpoints(view.index.endpoints(id)?),
        Key::Service(id) => Resource::Service(view.index.service(id)?.facts.clone()),
        Key::Address(address) => Resource::Address(view.index.owner_of(*address)?),
    };
    Some(Arc::new(Encoded::new(resource.encode().into())))
}

#[cfg(test)]
mod tests;
