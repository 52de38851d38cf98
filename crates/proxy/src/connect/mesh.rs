// SPDX-License-Identifier: Apache-2.0
//! Stage 6, mesh: which mesh connection takes a new stream. One for each peer, identity and own certificate, while it takes streams.
//!
//! Must never hand out a connection that was made for another workload, identity or certificate. Next: `connect/pool.rs`.

use std::net::SocketAddr;

use foldhash::HashMap;
use maille_model::{Identity, WorkloadUid};

/// Whom a mesh connection was made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MeshKey {
    /// The proxy's address.
    pub(crate) to: SocketAddr,
    /// Whom its certificate is for.
    pub(crate) identity: Identity,
    /// Which workload it serves: a successor at the same address is somebody else.
    pub(crate) uid: WorkloadUid,
    /// Which of the own certificates it rests on.
    pub(crate) generation: u64,
}

/// The connections that take new streams.
#[derive(Debug)]
pub(crate) struct MeshPool<T> {
    by_address: HashMap<SocketAddr, Vec<(MeshKey, T)>>,
}

impl<T> Default for MeshPool<T> {
    fn default() -> Self {
        Self {
            by_address: HashMap::default(),
        }
    }
}

impl<T: Copy + PartialEq> MeshPool<T> {
    /// The connection that was made to just this peer, and that `takes` one more stream.
    pub(crate) fn find(
        &self,
        key: (SocketAddr, &Identity, &WorkloadUid, u64),
        takes: impl Fn(T) -> bool,
    ) -> Option<T> {
        let (to, identity, uid, generation) = key;
        self.by_address
            .get(&to)?
            .iter()
            .find(|(known, mesh)| {
                known.generation == generation
                    && known.identity == *identity
                    && known.uid == *uid
                    && takes(*mesh)
            })
            .map(|(_, mesh)| *mesh)
    }

    pub(crate) fn put(&mut self, key: MeshKey, mesh: T) {
        self.by_address.entry(key.to).or_default().push((key, mesh));
    }

    /// The connection takes no more streams.
    pub(crate) fn forget(&mut self, to: SocketAddr, mesh: T) {
        if let Some(known) = self.by_address.get_mut(&to) {
            known.retain(|(_, other)| *other != mesh);
            if known.is_empty() {
                self.by_address.remove(&to);
            }
        }
    }
}
