// SPDX-License-Identifier: Apache-2.0
//! Idle plain connections to servers that may take another request.
//!
//! Only connections whose last message ended cleanly in both directions come here. Bounded and aged; the last one in is the
//! first one out. Must never hand out a connection bound to another client's address. Next: `forward.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::table::ConnId;

/// Idle connections in all.
const TOTAL: usize = 4_096;
/// Idle connections to one server.
const EACH: usize = 512;
/// A connection that waited longer is closed: servers close idle ones, and the race is lost by somebody's request.
const AGE: Duration = Duration::from_secs(30);
/// A request that must not be sent twice takes only a connection that was used within this time.
const WARM: Duration = Duration::from_secs(1);

/// What makes two connections the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// The server.
    pub(crate) to: SocketAddr,
    /// The client's address that the connection is bound to.
    pub(crate) source: Option<IpAddr>,
}

/// Idle connections by server.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: HashMap<PoolKey, Vec<(ConnId, Instant)>>,
    count: usize,
}

// === impl Pool ===

impl Pool {
    /// Keeps `conn`. The connection that has to go for it, if any (it may be `conn`).
    pub(crate) fn put(&mut self, conn: ConnId, key: PoolKey, now: Instant) -> Option<ConnId> {
        if self.count >= TOTAL {
            return Some(conn);
        }
        let idle = self.idle.entry(key).or_default();
        idle.push((conn, now));
        if idle.len() > EACH {
            return Some(idle.remove(0).0);
        }
        self.count += 1;
        None
    }

    /// The connection to `key` that was used last. `again` says whether the request may be sent twice.
    pub(crate) fn take(&mut self, key: &PoolKey, again: bool, now: Instant) -> Option<ConnId> {
        let idle = self.idle.get_mut(key)?;
        let (_, since) = idle.last()?;
        if !again && now.saturating_duration_since(*since) > WARM {
            return None;
        }
        let (conn, _) = idle.pop()?;
        self.count -= 1;
        Some(conn)
    }

    /// Forgets a connection that its server closed.
    pub(crate) fn forget(&mut self, conn: ConnId, key: &PoolKey) {
        if let Some(idle) = self.idle.get_mut(key)
            && let Some(at) = idle.iter().position(|(id, _)| *id == conn)
        {
            idle.remove(at);
            self.count -= 1;
        }
    }

    /// Takes out what has waited too long, and `everything` if so asked.
    pub(crate) fn aged(&mut self, now: Instant, everything: bool) -> Vec<ConnId> {
        let mut old = Vec::new();
        self.idle.retain(|_, idle| {
            idle.retain(|(conn, since)| {
                let keep = !everything && now.saturating_duration_since(*since) <= AGE;
                if !keep {
                    old.push(*conn);
                }
                keep
            });
            !idle.is_empty()
        });
        self.count -= old.len();
        old
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}
