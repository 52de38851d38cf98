// SPDX-License-Identifier: Apache-2.0
//! The streams of a connection by id. A few words each, found without a walk. Read `connection.rs` for who owns them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// One stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// The caller's name for it.
    pub(super) token: u64,
    /// What we may send. Below zero after a peer lowered its initial window.
    pub(super) send: i64,
    /// What the peer may send.
    pub(super) recv: i64,
    /// Received, and not consumed by anybody yet.
    pub(super) owed: u32,
    /// Consumed, and not given back yet.
    pub(super) returned: u32,
    /// We have sent END_STREAM.
    pub(super) local_ended: bool,
    /// We have received it.
    pub(super) remote_ended: bool,
    /// The peer's head was received: the request, or the final response.
    pub(super) head: bool,
    pub(super) blocked: Blocked,
}

/// Why a stream has bytes that were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    No,
    /// Its own window is empty.
    Stream,
    /// The connection's is; it stands in line.
    Connection,
}

#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<u32, Stream, BuildHasherDefault<IdHasher>>);

/// Ids are small and spread by multiplication (Knuth, 6.4). A peer that makes them collide slows its own connection,
/// by no more than a walk over the streams that the limit allows.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

// === impl Stream ===

impl Stream {
    pub(super) fn new(token: u64, send: u32, recv: u32) -> Self {
        Self {
            token,
            send: send.into(),
            recv: recv.into(),
            owed: 0,
            returned: 0,
            local_ended: false,
            remote_ended: false,
            head: false,
            blocked: Blocked::No,
        }
    }

    pub(super) fn done(&self) -> bool {
        self.local_ended && self.remote_ended && self.owed == 0
    }

    pub(super) fn waits_for_connection(&self) -> bool {
        self.blocked == Blocked::Connection
    }
}

// === impl Streams ===

impl Streams {
    pub(super) fn get(&self, id: u32) -> Option<&Stream> {
        self.0.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.0.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: u32, stream: Stream) {
        self.0.insert(id, stream);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        self.0.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Stream)> {
        self.0.iter_mut().map(|(&id, stream)| (id, stream))
    }
}

// === impl IdHasher ===

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}
