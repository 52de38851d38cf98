// SPDX-License-Identifier: Apache-2.0
//! Idle plain connections to servers that may take another request.
//!
//! Only connections whose last message ended cleanly in both directions come here. Bounded and aged; the last one in is the
//! first one out. A server may close after each answer without having said so: what must not be sent twice waits for the proof that it does not.
//! Must never hand out a connection bound to another client's address. Next: `forward.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};

use crate::table::ConnId;

/// Idle connections in all.
const TOTAL: usize = 4_096;
/// Idle connections to one server.
const EACH: usize = 512;
/// A connection that waited longer is closed: servers close idle ones, and the race is lost by somebody's request.
const AGE: Duration = Duration::from_secs(30);
/// A request that must not be sent twice takes only a connection that was used within this time.
const WARM: Duration = Duration::from_secs(1);
/// A server that has left a connection open for so long, unused, keeps connections.
const PROOF: Duration = Duration::from_secs(1);
/// Servers of which is known that they keep connections.
const PROVED: usize = 4_096;

/// What makes two connections the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// The server.
    pub(crate) to: SocketAddr,
    /// The client's address that the connection is bound to.
    pub(crate) source: Option<IpAddr>,
}

/// One that waits.
#[derive(Debug)]
struct Idle {
    conn: ConnId,
    since: Instant,
    /// It was asked something before, and its server may have meant that to be all.
    answered: bool,
}

/// Idle connections by server.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: HashMap<PoolKey, Vec<Idle>>,
    count: usize,
    proved: HashSet<SocketAddr>,
}

// === impl Pool ===

impl Pool {
    /// Keeps `conn`, which has `answered` before or was never asked. The connection that has to go for it, if any (it may be `conn`).
    pub(crate) fn put(
        &mut self,
        conn: ConnId,
        answered: bool,
        key: PoolKey,
        since: Instant,
    ) -> Option<ConnId> {
        if self.count >= TOTAL {
            return Some(conn);
        }
        let idle = self.idle.entry(key).or_default();
        idle.push(Idle {
            conn,
            since,
            answered,
        });
        if idle.len() > EACH {
            return Some(idle.remove(0).conn);
        }
        self.count += 1;
        None
    }

    /// The connection to `key` that was used last. `again` says whether the request may be sent twice.
    pub(crate) fn take(&mut self, key: &PoolKey, again: bool, now: Instant) -> Option<ConnId> {
        let idle = self.idle.get(key)?;
        let last = idle.last()?;
        if !again {
            let waited = |idle: &Idle| now.saturating_duration_since(idle.since);
            let new = !last.answered;
            let cold = waited(last) > WARM;
            let oldest = idle.iter().find(|idle| idle.answered);
            if oldest.is_some_and(|idle| waited(idle) >= PROOF) {
                self.prove(key.to);
            }
            if cold || !new && !self.proved.contains(&key.to) {
                return None;
            }
        }
        let conn = self.idle.get_mut(key)?.pop()?.conn;
        self.count -= 1;
        Some(conn)
    }

    /// A server has answered on a connection that was used before.
    pub(crate) fn prove(&mut self, to: SocketAddr) {
        if self.proved.len() >= PROVED {
            self.proved.clear();
        }
        self.proved.insert(to);
    }

    /// A server has closed a connection that was used before, under a request.
    pub(crate) fn doubt(&mut self, to: SocketAddr) {
        self.proved.remove(&to);
    }

    /// Forgets a connection that its server closed.
    pub(crate) fn forget(&mut self, conn: ConnId, key: &PoolKey) {
        if let Some(idle) = self.idle.get_mut(key)
            && let Some(at) = idle.iter().position(|idle| idle.conn == conn)
        {
            idle.remove(at);
            self.count -= 1;
        }
    }

    /// Takes out what has waited too long, and `everything` if so asked.
    pub(crate) fn aged(&mut self, now: Instant, everything: bool) -> Vec<ConnId> {
        let mut old = Vec::new();
        self.idle.retain(|_, idle| {
            idle.retain(|idle| {
                let keep = !everything && now.saturating_duration_since(idle.since) <= AGE;
                if !keep {
                    old.push(idle.conn);
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use maille_chassis::clock::Clock;

    use super::*;

    #[test]
    fn a_server_has_to_show_that_it_keeps_connections() {
        let (to, source) = ((Ipv4Addr::LOCALHOST, 80).into(), None);
        let key = PoolKey { to, source };
        let [a, b] = [1, 2].map(ConnId::from_bits);
        let now = Clock::start().now().into_std();
        let mut pool = Pool::default();
        // One that was never asked anything is as good as a new one, and shows nothing.
        assert_eq!(pool.put(b, false, key, now), None);
        assert_eq!(pool.take(&key, false, now + PROOF), Some(b));
        assert_eq!(pool.put(a, true, key, now), None);
        // Nobody knows yet: for what may be sent twice.
        assert_eq!(pool.take(&key, false, now), None);
        assert_eq!(pool.take(&key, true, now), Some(a));
        pool.prove(to);
        assert_eq!(pool.put(a, true, key, now), None);
        assert_eq!(pool.put(b, true, key, now), None);
        assert_eq!(pool.take(&key, false, now), Some(b));
        pool.doubt(to);
        assert_eq!(pool.take(&key, false, now), None);
        // It has left one open: that one has waited too long for what must not be sent twice, the next one has not.
        let later = now + PROOF;
        assert_eq!(pool.take(&key, false, later + PROOF), None);
        assert_eq!(pool.put(b, true, key, later + PROOF), None);
        assert_eq!(pool.take(&key, false, later + PROOF), Some(b));
    }
}
