// SPDX-License-Identifier: Apache-2.0
//! Which endpoint of a service takes the next request: the less busy of two drawn at random (Mitzenmacher 1996), never one that was tried already.
//!
//! Randomness is an argument. The [`Book`] must stay bounded whatever is going on. Read `detect.rs` next.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::route::{Hop, Plan, Refusal};
use crate::snapshot::Candidate;

/// Endpoints that one book counts for at the same time; work beyond goes on uncounted.
const MOST: usize = 16_384;

/// How much is under way at each endpoint. One for each worker.
#[derive(Debug, Default)]
pub struct Book {
    loads: HashMap<SocketAddr, u32>,
}

/// One request or connection that is under way; to be given back to its book by [`Book::end`].
#[derive(Debug)]
#[must_use = "a lease that is dropped counts for ever: give it to Book::end"]
pub struct Lease(Option<SocketAddr>);

/// Picks where `plan` goes now. `tried` are targets ([`Hop::target`]) that failed already; `random` any 64 random bits.
///
/// Refuses with [`Refusal::NoEndpoint`] when nothing is left to try.
pub fn pick(plan: &Plan, tried: &[SocketAddr], book: &Book, random: u64) -> Result<Hop, Refusal> {
    let backends = match plan {
        Plan::One(hop) if tried.contains(&hop.target()) => return Err(Refusal::NoEndpoint),
        Plan::One(hop) => return Ok(hop.clone()),
        Plan::Service(backends) => backends,
    };
    let fresh = |candidate: &&Candidate| {
        backends
            .target(candidate)
            .is_some_and(|target| !tried.contains(&target))
    };
    let count = backends.candidates().iter().filter(fresh).count();
    let nth = |place: usize| backends.candidates().iter().filter(fresh).nth(place);
    let load = |candidate: &Candidate| {
        backends
            .target(candidate)
            .map_or(u32::MAX, |target| book.load(target))
    };
    let (first, second) = draw(count, random);
    let picked = match (nth(first), second.and_then(nth)) {
        (Some(first), Some(second)) if load(second) < load(first) => Some(second),
        (first, _) => first,
    };
    picked
        .and_then(|candidate| backends.hop(candidate))
        .ok_or(Refusal::NoEndpoint)
}

/// Two different numbers below `count`, where there are two.
fn draw(count: usize, random: u64) -> (usize, Option<usize>) {
    // Maps 32 random bits to 0..below without the bias of a remainder (Lemire 2019), good for up to 2^32 endpoints.
    let scale = |bits: u64, below: usize| {
        usize::try_from(((bits & 0xffff_ffff) * below as u64) >> 32).unwrap_or(0)
    };
    let first = scale(random, count);
    if count < 2 {
        return (first, None);
    }
    let second = scale(random >> 32, count - 1);
    (
        first,
        Some(if second >= first { second + 1 } else { second }),
    )
}

// === impl Book ===

impl Book {
    /// Nothing under way.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much is under way at `target`.
    pub fn load(&self, target: SocketAddr) -> u32 {
        self.loads.get(&target).copied().unwrap_or(0)
    }

    /// Something begins at `target`.
    pub fn begin(&mut self, target: SocketAddr) -> Lease {
        let full = self.loads.len() >= MOST;
        match self.loads.get_mut(&target) {
            Some(load) => *load = load.saturating_add(1),
            None if full => return Lease(None),
            None => drop(self.loads.insert(target, 1)),
        }
        Lease(Some(target))
    }

    /// It ended.
    pub fn end(&mut self, lease: Lease) {
        let Some(target) = lease.0 else { return };
        if let Some(load) = self.loads.get_mut(&target) {
            *load = load.saturating_sub(1);
            if *load == 0 {
                self.loads.remove(&target);
            }
        }
    }
}

#[cfg(test)]
mod tests;
