// SPDX-License-Identifier: Apache-2.0
//! Stage 5, thin: one endpoint of a plan, the count of what is under way there, and the endpoints that failed already.
//!
//! Must never offer an endpoint twice to one exchange. Next: `connect/tcp.rs`.

use std::net::SocketAddr;

use maille_engine::balance::{self, Book, Lease};
use maille_engine::route::{Hop, Plan};

use crate::failure::Failure;
use crate::route::refused;

/// Endpoints tried for one exchange in all.
pub(crate) const ATTEMPTS: usize = 3;

/// The worker's share of balancing.
#[derive(Debug)]
pub(crate) struct Balance {
    book: Book,
    random: fastrand::Rng,
}

/// The endpoints that one exchange has tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    targets: [Option<SocketAddr>; ATTEMPTS],
    count: usize,
}

/// An endpoint, and the proof that it is counted.
#[derive(Debug)]
pub(crate) struct Picked {
    hop: Hop,
    lease: Lease,
}

// === impl Balance ===

impl Balance {
    /// Nothing under way. `seed` makes draws repeatable in tests.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            book: Book::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// An endpoint that was not tried, to be given back with [`Self::done`].
    pub(crate) fn pick(&mut self, plan: &Plan, tried: &mut Tried) -> Result<Picked, Failure> {
        if tried.count == ATTEMPTS {
            return Err(Failure::NoEndpoint);
        }
        let mut targets = [SocketAddr::from(([0, 0, 0, 0], 0)); ATTEMPTS];
        for (place, target) in targets.iter_mut().zip(tried.targets.iter().flatten()) {
            *place = *target;
        }
        let random = self.random.u64(..);
        let hop =
            balance::pick(plan, &targets[..tried.count], &self.book, random).map_err(refused)?;
        let target = hop.target();
        tried.targets[tried.count] = Some(target);
        tried.count += 1;
        let lease = self.book.begin(target);
        Ok(Picked { hop, lease })
    }

    /// What was under way has ended.
    pub(crate) fn done(&mut self, picked: Picked) {
        self.book.end(picked.lease);
    }
}

// === impl Picked ===

impl Picked {
    /// How the endpoint is reached.
    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }
}
