// SPDX-License-Identifier: Apache-2.0
//! Model to wire: a resource is a pure function of its key and the [`View`], and its version is the hash of its bytes.
//!
//! Same view, same bytes, whatever the order of events that led to it; equal versions are never sent twice. It must never
//! read a clock, a counter or anything outside the view. Read [`crate::serve`] next.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use maille_model::Mesh;
use maille_wire::Resource;

use crate::index::Index;
use crate::key::Key;

/// All that a resource may be made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What exists.
    pub index: &'a Index,
    /// What every proxy shares.
    pub mesh: &'a Mesh,
}

/// A resource, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The protobuf message.
    pub bytes: Bytes,
    /// The hash of `bytes`.
    pub version: Version,
}

/// Tells two contents of one resource apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u128);

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

// === impl Encoded ===

impl Encoded {
    /// Takes a message's bytes.
    pub fn new(bytes: Bytes) -> Self {
        let version = Version::of(&bytes);
        Self { bytes, version }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, version {}", self.bytes.len(), self.version)
    }
}

// === impl Version ===

impl Version {
    /// Two SipHashes of different prefixes. The standard library may change the function: then a new control sends once what
    /// proxies already have.
    fn of(bytes: &[u8]) -> Self {
        let half = |prefix: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(prefix);
            hasher.write(bytes);
            u128::from(hasher.finish())
        };
        Self(half(0) << 64 | half(1))
    }

    /// Reads what [`Version`] displays. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let ok = text.len() == 32 && text.bytes().all(hex);
        ok.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests;
