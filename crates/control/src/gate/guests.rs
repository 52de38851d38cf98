// SPDX-License-Identifier: Apache-2.0
//! Who may be connected to the port of the API server: API servers always, others as far as there is room for them.
//!
//! A webhook's question comes without a certificate, so what a connection shows does not tell an API server from a stranger; its
//! address does. Known are the addresses that the cluster lists as its API servers', and those from which the front proxy's
//! certificate was shown lately. Of strangers each address has few places, and where there are none left, whoever has most gives
//! one to who has fewer. Read `door.rs` next.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections of strangers, all together.
const STRANGERS: usize = 256;
/// Of one address. An API server whose address is not known yet makes pods with as many at a time.
const EACH: usize = 64;
/// Connections of one API server.
const KNOWN: usize = 512;
/// How long an address is known after its certificate was seen: an API server asks for the aggregated API every minute or oftener.
const MEMORY: Duration = Duration::from_secs(3_600);
/// Addresses that are known so.
const PROVEN: usize = 64;

/// Everybody who is connected. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By address, the oldest first.
    strangers: BTreeMap<IpAddr, VecDeque<(u64, Arc<Notify>)>>,
    /// How many they are.
    count: usize,
    known: BTreeMap<IpAddr, usize>,
    proven: BTreeMap<IpAddr, Instant>,
    last: u64,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    all: Guests,
    source: IpAddr,
    standing: Standing,
    displaced: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Known,
    Stranger(u64),
}

// === impl Guests ===

impl Guests {
    /// A place for one more from `source`, which the cluster lists as an API server's or does not; `None` where there is none.
    pub(super) fn admit(&self, source: IpAddr, listed: bool) -> Option<Guest> {
        let mut state = self.0.lock();
        let now = Instant::now();
        let proven = state.proven.get(&source);
        let is_known = listed || proven.is_some_and(|seen| now - *seen < MEMORY);
        let displaced = Arc::new(Notify::new());
        let standing = if is_known {
            let count = state.known.entry(source).or_default();
            if *count >= KNOWN {
                return None;
            }
            *count += 1;
            Standing::Known
        } else {
            state.make_room(source)?;
            state.last += 1;
            state.count += 1;
            let id = state.last;
            let queue = state.strangers.entry(source).or_default();
            queue.push_back((id, Arc::clone(&displaced)));
            Standing::Stranger(id)
        };
        drop(state);
        Some(Guest {
            all: self.clone(),
            source,
            standing,
            displaced,
        })
    }
}

// === impl State ===

impl State {
    /// Sees to it that one more stranger from `source` has a place.
    fn make_room(&mut self, source: IpAddr) -> Option<()> {
        let own = self.strangers.get(&source).map_or(0, VecDeque::len);
        if own >= EACH {
            return None;
        }
        if self.count < STRANGERS {
            return Some(());
        }
        let most = self.strangers.iter().max_by_key(|(_, queue)| queue.len());
        let (most, _) = most.filter(|(_, queue)| queue.len() > own + 1)?;
        let most = *most;
        let (_, told) = self.strangers.get_mut(&most)?.pop_front()?;
        self.count -= 1;
        told.notify_one();
        Some(())
    }

    fn leave(&mut self, source: IpAddr, standing: Standing) {
        match standing {
            Standing::Known => {
                if let Some(count) = self.known.get_mut(&source) {
                    *count -= 1;
                    if *count == 0 {
                        self.known.remove(&source);
                    }
                }
            }
            Standing::Stranger(id) => {
                let Some(queue) = self.strangers.get_mut(&source) else {
                    return;
                };
                // Whoever was displaced is not there any more.
                if let Some(at) = queue.iter().position(|(other, _)| *other == id) {
                    queue.remove(at);
                    self.count -= 1;
                }
                if queue.is_empty() {
                    self.strangers.remove(&source);
                }
            }
        }
    }
}

// === impl Guest ===

impl Guest {
    /// It showed the front proxy's certificate: it is no stranger, and neither is who comes from there next.
    pub(super) fn prove(&mut self) {
        let mut state = self.all.0.lock();
        let now = Instant::now();
        state.proven.retain(|_, seen| now - *seen < MEMORY);
        if state.proven.len() >= PROVEN && !state.proven.contains_key(&self.source) {
            let oldest = state.proven.iter().min_by_key(|(_, seen)| **seen);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                state.proven.remove(&oldest);
            }
        }
        state.proven.insert(self.source, now);
        if self.standing != Standing::Known {
            state.leave(self.source, self.standing);
            *state.known.entry(self.source).or_default() += 1;
            self.standing = Standing::Known;
        }
    }

    /// Waits until its place is somebody else's.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.all.0.lock().leave(self.source, self.standing);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn strangers_never_take_an_api_server_s_place() {
        let all = Guests::default();
        let many = (1..=8).flat_map(|last| (0..EACH).map(move |_| address(last)));
        let held: Vec<_> = many.filter_map(|source| all.admit(source, false)).collect();
        assert!(all.0.lock().count <= STRANGERS);
        let listed: Vec<_> = (0..KNOWN)
            .filter_map(|_| all.admit(address(99), true))
            .collect();
        assert_eq!(listed.len(), KNOWN);
        assert!(all.admit(address(99), true).is_none(), "bounded too");
        drop((held, listed));
        let state = all.0.lock();
        assert!(state.strangers.is_empty() && state.known.is_empty() && state.count == 0);
    }

    #[test]
    fn whoever_has_most_gives_way() {
        let all = Guests::default();
        let few = (1..=4).flat_map(|last| (0..EACH).map(move |_| address(last)));
        let held: Vec<_> = few
            .map(|source| all.admit(source, false).unwrap())
            .collect();
        assert!(
            all.admit(address(1), false).is_none(),
            "an address has so many"
        );
        let new = all.admit(address(9), false).unwrap();
        let displaced = held
            .iter()
            .filter(|one| one.displaced().now_or_never().is_some());
        assert_eq!(displaced.count(), 1);
        assert!(new.displaced().now_or_never().is_none());
        assert_eq!(all.0.lock().count, STRANGERS);
        drop(held);
        assert_eq!(all.0.lock().count, 1, "who was displaced leaves no gap");
    }

    #[tokio::test(start_paused = true)]
    async fn who_showed_the_certificate_is_known_for_a_while() {
        let all = Guests::default();
        let mut first = all.admit(address(1), false).unwrap();
        first.prove();
        assert_eq!(all.0.lock().count, 0);
        let next = all.admit(address(1), false).unwrap();
        assert_eq!(next.standing, Standing::Known);
        tokio::time::advance(MEMORY).await;
        let later = all.admit(address(1), false).unwrap();
        assert_ne!(later.standing, Standing::Known);
        for last in 0..=u8::MAX {
            all.admit(address(last), true).unwrap().prove();
        }
        assert_eq!(all.0.lock().proven.len(), PROVEN);
    }
}
